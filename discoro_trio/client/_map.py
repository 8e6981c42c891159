"""`map`: a bounded number of jobs under way, their results as they come or in order.

This module owns the reading of the input, the jobs of one map and their results. Starting and cancelling is with the
session.
"""

from __future__ import annotations

import inspect
import math
from collections import deque
from contextlib import aclosing, asynccontextmanager, nullcontext
from functools import partial
from itertools import islice
from operator import length_hint
from typing import TYPE_CHECKING, Any

import trio

from .._config import PULSES
from .._errors import ServerLost
from .._scopes import flatten, open_background
from ..process import Call, Ending, describe
from ._alone import start_alone
from ._checks import at_least_one, not_negative
from ._progress import Bar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
    from contextlib import AbstractAsyncContextManager

    from ..process import Outcome, Started
    from ..wire import Shipped
    from ._session import Session

_TURN = 64
"""Results after which the iterator lets others run, as `receive` does."""

_PER_SERVER = 4
"""Chunks under way for each server by default: one runs, one waits, and two are on the way there and back."""

_ALONE_AFTER = 2
"""Losses after which a job runs alone on its server: it may be what ends them."""


class Mapping:
    """One `map` or `starmap`."""

    def __init__(
        self, session: Session, shipped: Shipped, function: Callable[..., Any], source: Any, *, star: bool
    ) -> None:
        self._session = session
        self._shipped = shipped
        self._function = function
        self._source = source
        self._star = star
        self._described = describe(function)
        self._ordered = True
        self._chunksize = 1
        self._limit: int | None = None
        self._retries = 0
        self._lost = 0
        self._nursery: trio.Nursery | None = None
        self._bar = Bar("", None, wanted=False)
        self._out = 0
        self._read_all = False
        self._running: dict[Started, _Slot] = {}
        self._slots: deque[_Slot] = deque()
        self._results: deque[list[Any]] = deque()
        # The reader waits until so many items are out; -1 if it does not wait.
        self._wake_at: float = -1
        self._failure: BaseException | None = None
        self._leaving = False
        self._scope = trio.CancelScope()
        self._moved = trio.lowlevel.ParkingLot()

    @asynccontextmanager
    async def opened(
        self, *, ordered: bool, limit: int | None, retries: int, chunksize: int, progress: bool
    ) -> AsyncIterator[AsyncIterator[Any]]:
        """Run it while the block lasts."""
        self._ordered = ordered
        self._chunksize = at_least_one("chunksize", chunksize)
        self._limit = limit if limit is None else at_least_one("limit", limit)
        self._retries = not_negative("retries", retries)
        self._bar = Bar(self._described.name, length_hint(self._source, 0) or None, wanted=progress)
        failure: BaseException | None = None
        try:
            name = f"map in {self._session.set_up.name}"
            with self._bar, self._session.pictures.block(name, lambda: self._running):
                async with open_background() as nursery:
                    self._nursery = nursery
                    nursery.start_soon(self._feed_safely)
                    async with aclosing(self._iterate()) as results:
                        with self._scope:
                            yield results
        except BaseException as error:  # noqa: BLE001 - raised below, when all jobs have ended
            failure = error
        self._leaving = True
        await self._session.cancel_and_wait(list(self._running))
        if isinstance(failure, trio.Cancelled) and self._failure is None:
            raise failure
        errors = [error for error in (failure, self._failure) if error is not None]
        if errors:
            message = "a map failed"
            raise BaseExceptionGroup(message, [leaf for error in errors for leaf in flatten(error)])

    # --- results

    async def _iterate(self) -> AsyncGenerator[Any]:
        await trio.lowlevel.checkpoint()
        yielded = 0
        while True:
            while not self._results:
                if self._read_all and not self._running and not self._slots and not self._lost:
                    return
                await self._moved.park()
            for value in self._results.popleft():
                self._out -= 1
                if self._out <= self._wake_at:
                    self._moved.unpark_all()
                yielded += 1
                if yielded % _TURN == 0:
                    await trio.lowlevel.checkpoint()
                yield value

    def _ended(self, started: Started) -> None:
        slot = self._running.pop(started)
        assert started.outcome is not None  # noqa: S101 - called at its end
        if self._leaving and started.outcome.ending in (Ending.CANCELLED, Ending.LOST):
            return  # that is what leaving the block has asked for
        if self._retries and started.outcome.ending is Ending.LOST and self._again(slot, started.outcome):
            return
        try:
            slot.values = values = slot.unpack(started.outcome.value())
        except BaseException as error:  # noqa: BLE001 - the map raises it
            self._fail(error)
            return
        self._bar.advance(len(values))
        if not self._ordered:
            self._results.append(values)
        else:
            while self._slots and self._slots[0].values is not None:
                self._results.append(self._slots.popleft().values or [])
        self._moved.unpark_all()

    def _fail(self, error: BaseException) -> None:
        if self._failure is None:
            self._failure = error
            self._scope.cancel()

    # --- jobs

    async def _feed_safely(self) -> None:
        try:
            await self._feed()
        except Exception as error:  # noqa: BLE001 - the map raises it
            self._fail(error)

    async def _feed(self) -> None:
        async with aclosing(_chunks(self._source, self._chunksize)) as chunks:
            async for chunk in chunks:
                self._out += len(chunk)
                await self._submit(chunk)
                await self._room()
        self._read_all = True
        self._moved.unpark_all()

    async def _room(self) -> None:
        """Wait until another chunk may be read."""
        while True:
            most = max(self._most() - self._chunksize, 0)
            if self._out <= most:
                break
            self._wake_at = most
            await self._moved.park()
        self._wake_at = -1

    def _most(self) -> float:
        if self._limit is not None:
            return self._limit
        servers = len(self._session.servers)
        return _PER_SERVER * servers * self._chunksize if servers else math.inf

    async def _submit(self, chunk: list[Any]) -> None:
        function, args, unpack = self._job(chunk)
        slot = _Slot(unpack)
        call = Call(function, args, {}, self._shipped, self._described.name)
        if self._retries:
            slot.job = (function, call)
        started = await self._session.start(function, call)
        if self._ordered:
            self._slots.append(slot)
        self._running[started] = slot
        started.then(self._ended)

    # --- jobs that are lost with their servers

    def _again(self, slot: _Slot, outcome: Outcome) -> bool:
        """Run a lost job again, if that may be; tell whether it is."""
        error = outcome.error()
        if not isinstance(error, ServerLost) or slot.losses >= self._retries or self._nursery is None:
            return False
        slot.losses += 1
        self._lost += 1
        self._nursery.start_soon(self._try_again, slot, error, name=f"try {self._described.name} again")
        return True

    async def _try_again(self, slot: _Slot, error: ServerLost) -> None:
        assert slot.job is not None  # noqa: S101 - kept, as there are retries
        try:
            if error.exitcode is None and error.signal is None:
                # Nobody saw it end: it may be cut off and still run.
                await trio.sleep(PULSES * self._session.set_up.pulse_interval)
            start = self._session.start if slot.losses < _ALONE_AFTER else partial(start_alone, self._session)
            started = await start(*slot.job)
        except Exception as failure:  # noqa: BLE001 - the map raises it
            self._fail(failure)
            return
        finally:
            self._lost -= 1
        self._running[started] = slot
        started.then(self._ended)

    def _job(self, chunk: list[Any]) -> tuple[Callable[..., Any], tuple[Any, ...], Callable[[Any], Any]]:
        if self._chunksize > 1:
            run = run_chunk if self._described.is_async else run_plain_chunk
            return run, (self._function, chunk, self._star), _as_they_are
        (item,) = chunk
        return self._function, tuple(item) if self._star else (item,), _one


class _Slot:
    """The place of one chunk's values among the results."""

    __slots__ = ("job", "losses", "unpack", "values")

    def __init__(self, unpack: Callable[[Any], Any]) -> None:
        self.unpack = unpack
        self.job: tuple[Callable[..., Any], Call] | None = None
        self.losses = 0
        self.values: list[Any] | None = None


def _one(value: Any) -> list[Any]:
    return [value]


def _as_they_are(values: list[Any]) -> list[Any]:
    return values


async def run_chunk(function: Callable[..., Any], chunk: list[Any], star: bool) -> list[Any]:  # noqa: FBT001
    """Call an async function for each item of a chunk, one after the other, at a server."""
    return [await (function(*item) if star else function(item)) for item in chunk]


def run_plain_chunk(function: Callable[..., Any], chunk: list[Any], star: bool) -> list[Any]:  # noqa: FBT001
    """Call a plain function for each item of a chunk, in a worker thread of a server."""
    return [function(*item) for item in chunk] if star else [function(item) for item in chunk]


async def _chunks(source: Any, size: int) -> AsyncGenerator[list[Any]]:
    """Read items, so many at a time; no more of them than that is asked for."""
    if not hasattr(source, "__aiter__"):
        iterator: Iterator[Any] = iter(source)
        while chunk := list(islice(iterator, size)):
            await trio.lowlevel.checkpoint_if_cancelled()
            yield chunk
        return
    # Nobody else can tell when a generator is read no more; left to the garbage collector, it could not clean up.
    closing: AbstractAsyncContextManager[Any] = aclosing(source) if inspect.isasyncgen(source) else nullcontext()
    async with closing:
        chunk = []
        async for item in source:
            chunk.append(item)
            if len(chunk) == size:
                yield chunk
                chunk = []
        if chunk:
            yield chunk
