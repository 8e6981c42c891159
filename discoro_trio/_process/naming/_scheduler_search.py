"""Searches for a shared scheduler, which keeps public names, in a program that has no scheduler.

A search lasts for `config.MsgTimeout` seconds; a task that waits for a name starts the next one. It goes on while this
program has public names that no scheduler knows.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from ..._config import config
from ..._errors import DiscoroError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..._link import Endpoint, Link
    from ..._wire import Found

logger = logging.getLogger(__name__)

_LONGEST_PAUSE = 2.0
"""Seconds between two queries at most: a scheduler that is started again is found soon, and tasks wait for names."""


class SchedulerSearch:
    """Finds a shared scheduler by discovery, and keeps the connection.

    Args:
        endpoint: The endpoint of this process.
        found: Called with each connection to a scheduler that is found.
        wanted: Returns whether a search goes on.

    Attributes:
        link: The connection to it, if there is one.
    """

    def __init__(self, endpoint: Endpoint, found: Callable[[Link], None], wanted: Callable[[], bool]) -> None:
        self.link: Link | None = None
        self._endpoint = endpoint
        self._found = found
        self._wanted = wanted
        self._searching = False

    def start(self) -> None:
        """Start a search, unless one is running or there is a connection."""
        if not self._searching and not self._is_connected() and self._endpoint.discovery is not None:
            self._searching = True
            self._endpoint.nursery.start_soon(self._search, name="look for a scheduler that keeps public names")

    def _is_connected(self) -> bool:
        return self.link is not None and not self.link.lost

    async def _search(self) -> None:
        try:
            await self._search_once()
            while self._wanted() and not self._is_connected():
                await self._search_once()
        finally:
            self._searching = False
        if self.link is not None and not self.link.lost:
            self._found(self.link)

    async def _search_once(self) -> None:
        from ..._wire import Role  # noqa: PLC0415 - servers, which have no discovery, do not load it

        discovery = self._endpoint.discovery
        seen: set[bytes] = set()
        with trio.move_on_after(config.MsgTimeout):
            async with trio.open_nursery() as nursery:

                async def connect(one: Found) -> None:
                    try:
                        link = await self._endpoint.link_to(one.process_id, one.location, b"")
                    except DiscoroError as error:
                        logger.debug("a scheduler cannot be reached: %s", error)
                    else:
                        self.link = link
                        nursery.cancel_scope.cancel()

                def report(one: Found) -> None:
                    if one.process_id not in seen:
                        seen.add(one.process_id)
                        nursery.start_soon(connect, one)

                if discovery is not None:
                    await discovery.seek(Role.SCHEDULER, report, longest=_LONGEST_PAUSE)
