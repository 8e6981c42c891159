"""A scheduler elsewhere, as a source for the monitor: it is asked for its tables over the network."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from .._cluster import AdminAction, AdminReply, AdminRequest, find_scheduler, messages, status_from_json
from .._config import config
from .._errors import PeerDisconnected, SchedulerNotFound
from .._link import Done, answered
from .._values import Location

if TYPE_CHECKING:
    from .._cluster import ClusterStatus
    from .._link import Endpoint, Link


class RemoteScheduler(AdminReply):
    """A scheduler that another program runs.

    Args:
        endpoint: This process's place on the network.
        where: `addr:port`, a host, or None for the scheduler of this network.
    """

    def __init__(self, endpoint: Endpoint, where: str | None) -> None:
        self._endpoint = endpoint
        self._where = where

    async def status(self) -> ClusterStatus:
        """Give the tables of nodes, servers and computations.

        Raises:
            SchedulerNotFound: It does not answer; the next call tries again.
        """
        try:
            return await tables_over(await self._link())
        except PeerDisconnected as error:
            raise SchedulerNotFound(str(error)) from error

    async def _steer(self, wish: AdminAction, what: str) -> None:
        link = await self._link()
        answered(await link.request(AdminRequest(wish, what)), Done)

    async def _link(self) -> Link:
        with suppress(ValueError):  # it is a host, which is asked
            if self._where:
                return await self._endpoint.link_at(Location.parse(self._where))
        return await find_scheduler(self._endpoint, config.MsgTimeout, host=self._where)


async def tables_over(link: Link) -> ClusterStatus:
    """Ask the scheduler at the other end of a link for its tables.

    Raises:
        DiscoroError: It does not answer.
    """
    reply = answered(await link.request(messages.AskStatus()), messages.StatusIs)
    return status_from_json(reply.tables)
