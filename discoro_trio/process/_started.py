"""What a process knows of the coroutines that it started, here or elsewhere: whether they exist, how they ended.

A record is held by whoever owns the coroutine (a nursery, a map, the computation) until it ends, and by the handles
to it for as long as there are any: outcomes are kept no longer than somebody can ask for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from ._outcome import Ending

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..link import Link
    from ._outcome import Outcome


class Started:
    """One coroutine that this process started."""

    __slots__ = (
        "__weakref__", "_parked", "_then", "acknowledged", "force", "heard", "home", "link", "name", "outcome", "serial",
    )

    def __init__(self, home: bytes, serial: int, name: str, link: Link | None) -> None:
        self.home = home
        self.serial = serial
        self.name = name
        self.link = link
        self.outcome: Outcome | None = None
        self.acknowledged = False
        self.heard = False
        self.force: Callable[[Started, float | None], Awaitable[None]] | None = None
        self._parked = trio.lowlevel.ParkingLot()
        self._then: list[Callable[[Started], None]] = []

    def then(self, call: Callable[[Started], None]) -> None:
        """Call when it ends; at once if it has."""
        if self.outcome is not None:
            call(self)
        else:
            self._then.append(call)

    def forget(self, call: Callable[[Started], None]) -> None:
        """Take back a `then`; nothing if it was called already."""
        if call in self._then:
            self._then.remove(call)

    def exists(self) -> None:
        """Note that its server has it."""
        self.acknowledged = True
        self._parked.unpark_all()

    def end(self, outcome: Outcome) -> None:
        """Note how it ended. The first word stands: every coroutine has exactly one outcome."""
        if self.outcome is not None:
            return
        self.outcome = outcome
        self.acknowledged = True
        self._parked.unpark_all()
        calls, self._then = self._then, []
        for call in calls:
            call(self)

    async def until_exists(self) -> None:
        """Wait until its server has it, or it has ended."""
        while not self.acknowledged:
            await self._parked.park()

    async def until_ended(self) -> None:
        """Wait until it has ended."""
        while self.outcome is None:
            await self._parked.park()

    @property
    def failed(self) -> bool:
        """Whether it ended with an error or was lost."""
        return self.outcome is not None and self.outcome.ending in (Ending.ERROR, Ending.LOST)
