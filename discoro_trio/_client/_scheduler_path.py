"""Finds a computation's scheduler, and finds it again after the connection was lost.

A restarted scheduler has another id and, by default, another port. This module looks at its last address, and then as
at first: on the network, at a named host, or at the host of a given address.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from .._cluster import Scheduler, find_scheduler
from .._errors import DiscoroError, PeerDisconnected, SchedulerNotFound
from .._values import Location

if TYPE_CHECKING:
    from .._link import Endpoint, Link
    from .._wire import Found

logger = logging.getLogger(__name__)

_FIRST_PAUSE = 0.1


class SchedulerPath:
    """How one computation reaches its scheduler.

    Args:
        endpoint: This process's place on the network.
        wanted: The argument of `schedule()`, or the enclosing scheduler; None for one that discovery finds.
        timeout: Seconds for connecting and the handshake.
    """

    def __init__(self, endpoint: Endpoint, wanted: Scheduler | Location | str | None, timeout: float) -> None:
        self._endpoint = endpoint
        self._timeout = timeout
        self._place = _place(wanted)
        self._host = self._place.addr if self._place is not None else None if wanted is None else str(wanted)

    async def find(self) -> Link:
        """Connect to the scheduler for the first time.

        Raises:
            SchedulerNotFound: None answered within the timeout.
        """
        if self._place is None:
            return await find_scheduler(self._endpoint, self._timeout, host=self._host)
        try:
            return await self._endpoint.link_at(self._place, timeout=self._timeout)
        except PeerDisconnected as error:
            message = f"no scheduler answered: {error}"
            options = self._endpoint.options
            if options is not None and self._place.port == options.udp_port:
                message += f"; {options.udp_port} is the UDP port of discovery: leave it out, or give the TCP port"
            raise SchedulerNotFound(message) from error

    async def find_again(self, last: Location, seconds: float, *, elsewhere: bool) -> Link:
        """Connect to a scheduler again: at the address of the last one, or to one that discovery finds.

        Args:
            last: Where the last one listened.
            seconds: How long to look.
            elsewhere: Whether a scheduler of another host is accepted, if none was named.

        Raises:
            SchedulerNotFound: None answered in time.
        """
        links: list[Link] = []
        async with trio.open_nursery() as nursery:

            async def dial() -> None:
                pause = _FIRST_PAUSE
                while True:
                    try:
                        links.append(await self._endpoint.link_at(last, timeout=seconds))
                    except DiscoroError as error:
                        logger.debug("the scheduler cannot be reached yet: %s", error)
                        await trio.sleep(pause)
                        pause *= 2
                    else:
                        nursery.cancel_scope.cancel()
                        return

            async def look() -> None:
                def accept(one: Found) -> bool:
                    return self._host is not None or elsewhere or one.location.addr == last.addr

                try:
                    links.append(await find_scheduler(self._endpoint, seconds, host=self._host, accept=accept))
                except SchedulerNotFound as error:
                    logger.debug("the scheduler is not found yet: %s", error)
                else:
                    nursery.cancel_scope.cancel()

            nursery.cancel_scope.deadline = trio.current_time() + seconds
            nursery.start_soon(dial)
            nursery.start_soon(look)
        if links:
            return links[0]
        message = f"no scheduler answered at {last}, and none was found, within {seconds:g} s"
        raise SchedulerNotFound(message)


def _place(wanted: Scheduler | Location | str | None) -> Location | None:
    """Return a named scheduler's address and port; None if only a host, or nothing, was named."""
    if isinstance(wanted, Scheduler):
        return wanted.location
    if isinstance(wanted, str):
        try:
            return Location.parse(wanted)
        except ValueError:
            return None
    return wanted
