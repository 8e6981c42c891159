"""Runs at most one coroutine per server at a time, for CPU-bound jobs.

This module owns which servers run such a coroutine. The task that has waited longest gets the next free server. Other
coroutines of the computation are not counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import trio

from .._arguments import flag
from .._process import Call, Ending, Typed, signatures
from ._runs import scheduled
from ._session import raise_clean_up_error
from ._starting import check_where, start_at, until_begun

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from .._process import Coro, Submission
    from .._values import Location
    from ._computation import Computation
    from ._server import LeasedServer
    from ._session import Session

_CANCELLED = "its ProcScheduler was cancelled"


class ProcScheduler:
    """Runs at most one of its coroutines on each server of a computation at a time.

    An async context manager: leaving its block waits for its coroutines as `finish` does. An exception or a
    cancellation of the block cancels them and waits for their clean-up.

    Args:
        computation: A scheduled computation. Its `run` and similar methods can be used at the same time; their
            coroutines are not counted.
    """

    def __init__(self, computation: Computation) -> None:
        self._computation = scheduled("computation", computation)
        self._session: Session | None = None
        self._queue = trio.StrictFIFOLock()
        self._free: dict[bytes, None] = {}
        self._busy: dict[bytes, Submission] = {}
        self._running: set[Submission] = set()
        self._starting = 0
        self._moved = trio.lowlevel.ParkingLot()

    async def __aenter__(self) -> Self:
        """Open the block; the computation must be scheduled."""
        await trio.lowlevel.checkpoint()
        self._session = self._computation._running()  # noqa: SLF001 - this is a part of the client as much as its methods
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        """Wait for all coroutines, or cancel them."""
        session = self._open()
        try:
            if kind is None:
                await self.finish()
        finally:
            self._session = None
            await session.cancel_and_wait(list(self._running), _CANCELLED)

    @Typed[signatures.RunsOne]
    async def schedule(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Wait for a free server and start a coroutine there.

        Args:
            fn: An async function, or a plain one, which runs in a thread there.
            args: Its arguments.
            kwargs: Its keyword arguments.

        Returns:
            The coroutine's handle, once it has begun. The block waits for it.

        Raises:
            RuntimeError: The block has been left.
            Exception: As for `Computation.run`.

        If it is cancelled, nothing that it started survives.
        """
        call = self._call(fn, args, kwargs)
        with _Counted(self):
            while True:
                started, server = await self._start(call, acknowledge=True)
                try:
                    await until_begun(self._open(), started)
                except Exception:
                    if _refused(started, server):
                        continue
                    raise
                return self._owned(started)

    @Typed[signatures.GivesResult]
    async def execute(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Wait for a free server, run a coroutine there and return its value.

        Args:
            fn: An async function, or a plain one, which runs in a thread there.
            args: Its arguments.
            kwargs: Its keyword arguments.

        Returns:
            The value that it returned.

        Raises:
            RuntimeError: The block has been left.
            Exception: As for `Computation.run_result`, such as `ServerLost` if its server is lost.

        Cancelling it cancels the coroutine and waits for its clean-up.
        """
        call = self._call(fn, args, kwargs)
        with _Counted(self):
            while True:
                started, server = await self._start(call)
                await self._until_ended(started)
                if not _refused(started, server):
                    return _value(started)

    @Typed[signatures.GivesResultAt]
    async def execute_at(self, where: Location | str, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Run a coroutine at a node or server at once, even if the server is busy, and return its value.

        Args:
            where: The address or name of a node, which stands for its least loaded server, or a server's Location.
            fn: An async function, or a plain one, which runs in a thread there.
            args: Its arguments.
            kwargs: Its keyword arguments.

        Raises:
            UnknownLocation: There is no such node or server; the message lists the known ones.
            Exception: As for `execute`.

        Cancelling it cancels the coroutine and waits for its clean-up.
        """
        where = check_where(where)
        call = self._call(fn, args, kwargs)
        await trio.lowlevel.checkpoint_if_cancelled()
        with _Counted(self):
            started = await start_at(self._open(), where, call)
            self._note(started)
            await self._until_ended(started)
            return _value(started)

    async def finish(self, *, close: bool = False) -> None:
        """Wait until all coroutines of the block have ended.

        Args:
            close: Whether to close the computation then.

        Cancelling it leaves them running.
        """
        flag("close", close)
        await trio.lowlevel.checkpoint()
        while self._running or self._starting:
            await self._moved.park()
        if close:
            await self._computation.close()

    # --- servers

    def _open(self) -> Session:
        if self._session is None:
            message = "the ProcScheduler's block is not entered, or has been left: 'async with ProcScheduler(…) as …:'"
            raise RuntimeError(message)
        return self._session

    def _call(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        return Call(fn, args, kwargs, self._open().set_up.shipped)

    async def _start(self, call: Call, *, acknowledge: bool = False) -> tuple[Submission, LeasedServer]:
        async with self._queue:
            server = await self._next_free()
            session = self._open()
            started = session.start_on(server, call, acknowledge=acknowledge)
            self._busy[server.server_id] = started
        self._note(started)
        return started, server

    async def _next_free(self) -> LeasedServer:
        while True:
            session = self._open()
            session.check_open()
            while self._free:
                server_id = next(iter(self._free))
                del self._free[server_id]
                if session.load_balancer.takes(server_id):
                    server = session.servers[server_id]
                    if server_id not in self._busy and not server.host.link.lost:
                        return server
            self._free = {one: None for one in session.load_balancer.servers() if self._usable(session, one)}
            if not self._free:
                await session.until_changed()

    def _usable(self, session: Session, server_id: bytes) -> bool:
        if server_id in self._busy or not session.load_balancer.takes(server_id):
            return False
        return not session.servers[server_id].host.link.lost

    # --- coroutines

    def _note(self, started: Submission) -> None:
        self._running.add(started)
        started.then(self._ended)

    def _ended(self, started: Submission) -> None:
        self._running.discard(started)
        if self._busy.get(started.home) is started:
            del self._busy[started.home]
            self._free[started.home] = None
            if self._session is not None:
                self._session.changed()
        self._moved.unpark_all()

    async def _until_ended(self, started: Submission) -> None:
        try:
            await started.until_ended()
        except BaseException as error:
            await self._open().cancel_and_wait([started])
            raise_clean_up_error(started, error)
            raise

    def _owned(self, started: Submission) -> Coro[Any]:
        owned = self._computation._owned  # noqa: SLF001 - as above
        assert owned is not None  # noqa: S101 - it is scheduled
        return owned.add(started)

    def starting(self, by: int) -> None:
        """Count calls that wait for a server or a result, so that `finish` waits for them."""
        self._starting += by
        self._moved.unpark_all()


class _Counted:
    """Counts a call while it lasts."""

    def __init__(self, scheduler: ProcScheduler) -> None:
        self._scheduler = scheduler

    def __enter__(self) -> None:
        self._scheduler.starting(1)

    def __exit__(self, *_: object) -> None:
        self._scheduler.starting(-1)


def _refused(started: Submission, server: LeasedServer) -> bool:
    """Whether it did not begin because its server was closed for being idle."""
    outcome = started.outcome
    return outcome is not None and outcome.ending is Ending.LOST and server.closed_idle


def _value(started: Submission) -> object:
    assert started.outcome is not None  # noqa: S101 - it has ended
    return started.outcome.value()
