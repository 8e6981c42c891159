"""Supervision: coroutines on servers are started again when they fail or are lost.

This module owns the children, the effect of a failure on the others, and the limit of failures. The session starts and
cancels coroutines and waits for their clean-up. The strategies and the limit of restarts within a time are those of
Erlang's `supervisor` behaviour.
"""

from __future__ import annotations

from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal

import trio

from .._arguments import above_zero, integer, text
from .._errors import TooManyRestarts
from .._process import Call, describe
from .._scopes import open_background
from .._status import Failure
from ._runs import scheduled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from .._process import Submission
    from ._computation import Computation
    from ._session import Session

Strategy = Literal["one_for_one", "one_for_all", "rest_for_one"]

_STRATEGIES = ("one_for_one", "one_for_all", "rest_for_one")


class _Child:
    """One coroutine that is kept running."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.started: Submission | None = None
        self.wanted = True


class Supervisor:
    """Keeps coroutines running on the servers of a computation; `open_supervisor` creates it."""

    def __init__(self, session: Session, strategy: Strategy, *, max_restarts: int, within: float) -> None:
        self._session = session
        self._strategy = strategy
        self._max_restarts = max_restarts
        self._within = within
        self._children: list[_Child] = []
        self._failures: deque[Failure] = deque()
        self._to_start: deque[_Child] = deque()
        self._failed: deque[_Child] = deque()
        self._moved = trio.lowlevel.ParkingLot()

    def start_soon(self, fn: Callable[..., Any], *args: Any, name: str | None = None) -> None:
        """Start a child at the least loaded server, and again whenever it fails or its server is lost.

        A child that returns, or that other code cancels, has ended for good.

        Args:
            fn: An async function, or a plain one, which runs in a thread there.
            args: Its arguments; they are pickled once and are the same for every start.
            name: A name to display; by default the name of the function.

        Raises:
            TypeError: The function cannot be run.
            NotPicklable: An argument cannot be sent.
        """
        describe(fn)
        child = _Child(Call(fn, args, {}, self._session.set_up.shipped, name))
        self._children.append(child)
        self._to_start.append(child)
        self._moved.unpark_all()

    # --- its task

    async def run(self) -> None:
        """Start children and act on their ends, until cancelled.

        Raises:
            TooManyRestarts: Children failed more often than allowed.
        """
        while True:
            if self._failed:
                await self._restart(self._failed.popleft())
            elif self._to_start:
                await self._start(self._to_start.popleft())
            else:
                await self._moved.park()

    async def _start(self, child: _Child) -> None:
        if not child.wanted:
            return
        child.started = self._session.submit(child.call)
        child.started.then(lambda started: self._ended(child, started))

    def _ended(self, child: _Child, started: Submission) -> None:
        if child.started is not started or child not in self._children:
            return  # it was cancelled, to be started again or not
        if started.failed:
            self._failed.append(child)
        else:
            child.wanted = False
            self._children.remove(child)
        self._moved.unpark_all()

    async def _restart(self, failed: _Child) -> None:
        started = failed.started
        if started is None or started.outcome is None or failed not in self._children:
            return  # it was restarted together with another one
        self._note(failed, started)
        affected = self._affected(failed)
        running = [child.started for child in affected if child.started is not None]
        for child in affected:
            child.started = None
        await self._session.cancel_and_wait(running, "a coroutine under the same supervisor failed")
        self._to_start.extend(affected)

    def _affected(self, failed: _Child) -> list[_Child]:
        if self._strategy == "one_for_one":
            return [failed]
        if self._strategy == "one_for_all":
            return list(self._children)
        return self._children[self._children.index(failed) :]

    def _note(self, child: _Child, started: Submission) -> None:
        """Count a failure; raise if there are too many."""
        now = trio.current_time()
        assert started.outcome is not None  # noqa: S101 - it has failed
        error = started.outcome.error()
        assert error is not None  # noqa: S101 - as above
        self._failures.append(Failure(child.call.name, now, error))
        while self._failures[0].time < now - self._within:
            self._failures.popleft()
        if len(self._failures) > self._max_restarts:
            message = (
                f"{child.call.name} failed; that is failure {len(self._failures)} within {self._within:g} s, "
                f"and max_restarts={self._max_restarts}"
            )
            raise TooManyRestarts(message, tuple(self._failures)) from error

    # --- its block

    async def until_all_ended(self) -> None:
        """Wait until all children have ended for good."""
        while self._children:
            await self._moved.park()

    def running(self) -> list[Submission]:
        """Return the present coroutines of the children."""
        return [child.started for child in self._children if child.started is not None]

    async def cancel(self) -> None:
        """Cancel all children and wait, shielded, for their clean-up."""
        running = self.running()
        self._children.clear()
        await self._session.cancel_and_wait(running, "its supervisor's block was left")


@asynccontextmanager
async def open_supervisor(
    computation: Computation, *, strategy: Strategy = "one_for_one", max_restarts: int = 3, within: float = 60.0
) -> AsyncIterator[Supervisor]:
    """Keep coroutines running on servers: a child that fails, or whose server is lost, is started again.

    Leaving the block waits until all children have ended for good; leaving it by an exception cancels them and waits
    for their clean-up.

    Args:
        computation: Where they run; it is scheduled.
        strategy: Which children are started again: `"one_for_one"`: the failed one; `"one_for_all"`: all of them;
            `"rest_for_one"`: the failed one and those started after it. Running ones are cancelled first.
        max_restarts: How many failures within the time lead to restarts.
        within: The time in seconds.

    Yields:
        The supervisor, whose `start_soon` starts children. Other code finds a restarted child by the name that it
        registers.

    Raises:
        TooManyRestarts: Children failed more often; its `history` has the failures. The others were cancelled.
        ValueError: There is no such strategy, or a number is out of range.

    Cancelling it cancels the children and waits for their clean-up.
    """
    text("strategy", strategy)
    if strategy not in _STRATEGIES:
        message = f"strategy must be one of {', '.join(_STRATEGIES)}, not {strategy!r}"
        raise ValueError(message)
    max_restarts, within = integer("max_restarts", max_restarts, least=0), above_zero("within", within)
    session = scheduled("computation", computation)._running()  # noqa: SLF001 - supervisors are part of the client
    supervisor = Supervisor(session, strategy, max_restarts=max_restarts, within=within)
    try:
        async with open_background() as nursery:
            nursery.start_soon(supervisor.run)
            with session.task_dumps.block(f"supervisor in {session.set_up.name}", supervisor.running):
                yield supervisor
                await supervisor.until_all_ended()
    finally:
        await supervisor.cancel()
