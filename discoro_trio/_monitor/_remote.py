"""A remote scheduler as a source for the monitor, which requests its tables over the network."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from .._cluster import (
    AdminAction,
    AdminReply,
    AdminRequest,
    AskDetails,
    AskStacks,
    DetailsAre,
    Recent,
    StacksAre,
    find_scheduler,
    messages,
    status_from_json,
)
from .._config import config
from .._errors import PeerDisconnected, SchedulerNotFound
from .._link import Done, answered
from .._values import Location

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._cluster import ClusterStatus, ProcessStacks, WantedOf
    from .._link import Endpoint, Link
    from .._process import Wanted


class RemoteScheduler(AdminReply):
    """A scheduler that another program runs.

    Args:
        endpoint: This process's place on the network.
        where: `addr:port`, a host, or None for the scheduler of this network.
    """

    def __init__(self, endpoint: Endpoint, where: str | None) -> None:
        self._endpoint = endpoint
        self._where = where
        self._found: Link | None = None

    async def status(self) -> ClusterStatus:
        """Return the tables of nodes, servers and computations. Raises as `look`."""
        status, _recent = await self.look(0)
        return status

    async def look(self, seen: int) -> tuple[ClusterStatus, Recent]:
        """Return the tables of nodes, servers and computations, and what has ended since `Recent.last` was `seen`.

        Raises:
            SchedulerNotFound: The scheduler does not answer; the next call tries again.
        """
        try:
            return await look_over(await self._link(), seen)
        except PeerDisconnected as error:
            raise SchedulerNotFound(str(error)) from error

    async def stacks(self, wanted: Wanted) -> list[ProcessStacks]:
        """Return the tasks and stacks of the cluster's processes.

        Raises:
            DiscoroError: The scheduler does not answer.
        """
        return await stacks_over(await self._link(), wanted)

    async def details(self, wanted: Sequence[WantedOf]) -> DetailsAre:
        """Request arguments and output from servers; servers that do not answer in time are left out.

        Raises:
            DiscoroError: The scheduler does not answer.
        """
        link = await self._link()
        return answered(await link.request(AskDetails(list(wanted))), DetailsAre)

    async def terminate(self, key: str) -> None:
        """End a coroutine, by its id; the scheduler has the keys for it, which this process lacks.

        Raises:
            DiscoroError: It has ended, or the scheduler does not answer.
        """
        await self._steer(AdminAction.TERMINATE, key)

    async def _steer(self, wish: AdminAction, what: str, within: float | None = None) -> None:
        link = await self._link()
        # These wait for the end of coroutines.
        longest = None if wish in {AdminAction.DRAIN, AdminAction.TERMINATE} else -1.0
        answered(await link.request(AdminRequest(wish, what, within), timeout=longest), Done)

    async def _link(self) -> Link:
        with suppress(ValueError):  # a host without a port: discovery finds the port
            if self._where:
                return await self._endpoint.link_at(Location.parse(self._where))
        # Two schedulers of one network would answer in turn; another one counts only once this one is gone.
        if self._found is None or self._found.ended.is_set():
            self._found = await find_scheduler(self._endpoint, config.MsgTimeout, host=self._where)
        return self._found


async def look_over(link: Link, seen: int) -> tuple[ClusterStatus, Recent]:
    """Request a scheduler's tables, and what has ended, over a link.

    Raises:
        DiscoroError: It does not answer.
    """
    reply = answered(await link.request(messages.AskStatus(seen)), messages.StatusIs)
    return status_from_json(reply.tables), reply.recent or Recent(seen, 0, [], [])


async def stacks_over(link: Link, wanted: Wanted) -> list[ProcessStacks]:
    """Request tasks and stacks from a scheduler over a link.

    Raises:
        DiscoroError: It does not answer.
    """
    return answered(await link.request(AskStacks(wanted)), StacksAre).processes
