"""The starter's records of coroutines, in this or other processes: whether they have begun, and how they ended.

The owner of a coroutine (a nursery, a map, the computation) holds its record until it ends; its handles hold the record
as long as they exist. So an outcome is kept only while it can be requested.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from ._outcome import Ending

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ._outcome import Outcome
    from ._submissions import Call, Host


class Submission:
    """One coroutine that this process started."""

    __slots__ = (
        "__weakref__",
        "_then",
        "_waiting",
        "acknowledged",
        "ahead",
        "call",
        "cancelled_for",
        "heard",
        "home",
        "host",
        "level",
        "name",
        "noted",
        "outcome",
        "place",
        "plain",
        "ready",
        "revoked",
        "serial",
    )

    def __init__(self, home: bytes, serial: int, name: str, host: Host | None) -> None:
        self.home: bytes = home
        self.host: Host | None = host
        self.serial: int = serial
        self.name: str = name
        self.outcome: Outcome | None = None
        self.acknowledged: bool = False
        self.ready: Outcome | None = None
        self.heard: bool = False
        # How to start it, and at which node. Until it has begun, it can be started at another server instead.
        self.call: tuple[Call, bool, bytes | None] | None = None
        # The load balancer's data: where it counts; for a start that waits there (`ahead` is not 0), how many waited
        # when it was sent, how long it delayed the next one, and whether it was requested back.
        self.place: Any = None
        self.plain: bool = False
        self.revoked: bool = False
        # The reason of its cancellation, if it is being cancelled: then it is not started again elsewhere.
        self.cancelled_for: tuple[str | None] | None = None
        self.level: int = 0
        self.ahead: int = 0
        # Its data for status subscribers, if there are any, until it has ended.
        self.noted: Any = None
        # Made at the first use: most records have one waiting task, and there are very many records.
        self._waiting: list[trio.lowlevel.Task] | None = None
        self._then: list[Callable[[Submission], None]] | None = None

    def then(self, call: Callable[[Submission], None]) -> None:
        """Call `call` when it ends, or at once if it has ended."""
        if self.outcome is not None:
            call(self)
        elif self._then is None:
            self._then = [call]
        else:
            self._then.append(call)

    def forget(self, call: Callable[[Submission], None]) -> None:
        """Undo a `then`; does nothing if it was called already."""
        if self._then is not None and call in self._then:
            self._then.remove(call)

    def begun(self) -> None:
        """Note that it has begun at its server."""
        self.acknowledged = True
        self.call = None
        self._wake()

    def end(self, outcome: Outcome) -> None:
        """Store the outcome. The first one is kept: every coroutine has exactly one outcome."""
        if self.outcome is not None:
            return
        self.outcome = outcome
        self.acknowledged = True
        self.call = None
        if self.host is not None and self.host.owner is not None:
            self.host.owner.ended(self)
        if self._waiting is not None:
            self._wake()
        calls, self._then = self._then, None
        if calls is not None:
            for call in calls:
                call(self)

    async def until_begun(self) -> None:
        """Wait until it has begun at its server, or has ended."""
        while not self.acknowledged:
            await self.moved()

    async def until_ended(self) -> None:
        """Wait until it has ended."""
        while self.outcome is None:
            await self.moved()

    def moved(self) -> Awaitable[None]:
        """Wait for its next change of state: that it has begun, or that it has ended."""
        task = trio.lowlevel.current_task()
        if self._waiting is None:
            self._waiting = [task]
        else:
            self._waiting.append(task)

        def abort(_raise_cancel: object) -> trio.lowlevel.Abort:
            if self._waiting is not None:
                self._waiting.remove(task)
            return trio.lowlevel.Abort.SUCCEEDED

        return trio.lowlevel.wait_task_rescheduled(abort)  # noqa: ASYNC105 - the caller awaits it, which saves a frame

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        for task in waiting or ():
            trio.lowlevel.reschedule(task)

    @classmethod
    def over(cls, home: bytes, serial: int, name: str, host: Host, outcome: Outcome | None) -> Submission:
        """Recreate a record of which only the outcome was kept."""
        started = cls(home, serial, name, host)
        started.outcome = outcome
        started.acknowledged = True
        return started

    @property
    def failed(self) -> bool:
        """Whether it ended with an error or was lost."""
        return self.outcome is not None and self.outcome.ending in (Ending.ERROR, Ending.LOST)
