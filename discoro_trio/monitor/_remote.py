"""A scheduler elsewhere, as a source for the monitor: it is asked for its tables over the network."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from .._config import config
from .._errors import PeerDisconnected, SchedulerNotFound
from .._values import Location
from ..cluster import find_scheduler, messages, status_from_json

if TYPE_CHECKING:
    from ..cluster import ClusterStatus
    from ..link import Endpoint, Link


class RemoteScheduler:
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
            link = await self._link()
            reply = await link.request(messages.AskStatus())
        except PeerDisconnected as error:
            raise SchedulerNotFound(str(error)) from error
        assert isinstance(reply, messages.StatusIs)  # noqa: S101 - the only reply there is
        return status_from_json(reply.tables)

    async def _link(self) -> Link:
        with suppress(ValueError):  # it is a host, which is asked
            if self._where:
                return await self._endpoint.link_at(Location.parse(self._where))
        return await find_scheduler(self._endpoint, config.MsgTimeout, host=self._where)
