"""`map`: a limited number of jobs in flight, results as they come or in order, and the handling of failed items.

This module owns the reading of the input, the jobs of one map and their results. The session starts and cancels jobs.
"""

from __future__ import annotations

import inspect
import reprlib
from collections import deque
from contextlib import aclosing, asynccontextmanager, nullcontext
from functools import partial
from itertools import islice
from operator import length_hint
from time import perf_counter
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

import trio

from .. import _arguments as arguments
from .._config import MIB, PULSES
from .._errors import ComputationClosed, NotPicklable, ServerLost
from .._process import Call, Ending, ForwardedMessage, Pickled, describe, snapshot
from .._process.execution._chunks import FailedItem, run_chunk, run_plain_chunk
from .._records import Record
from .._scopes import flatten, open_background
from ._progress import Bar
from ._quarantine import start_alone
from ._session import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from .._process import Outcome, Submission
    from .._shipping import Shipped
    from ._session import Session

A = TypeVar("A")
R = TypeVar("R")

RAISE, COLLECT, SKIP = "raise", "collect", "skip"

_TURN = 64
"""After this many results the iterator checks for a cancellation, and whether other tasks should run."""

_LONGEST_TURN = 0.001
"""Seconds for which results may be taken before other tasks run, as with `receive`."""

AUTO = "auto"
"""The value of `chunksize` that adapts to the jobs."""

_MOST_PER_SERVER = 128
"""Default maximum number of jobs in flight per server: it keeps a server busy even with very short jobs."""

_CHUNKS_PER_SERVER = 8
"""The same for chunks, which take longer."""

_READY_PER_SERVER = 4
"""Default maximum, per server, of jobs whose results are ready and not taken; or as many as are in flight."""

_MOST_BLOCKED = 1024
"""Default maximum number of items that have their results and wait for an earlier item."""

_MOST_BYTES = 64 * MIB
"""Default maximum number of bytes of results that are not taken, before more items are read."""

_CHUNK_SECONDS = 0.005
"""Seconds that a chunk should take with `chunksize="auto"`: a hundred times its overhead."""

_LARGEST_CHUNK = 4096
"""Maximum number of items in such a chunk."""

_ALONE_AFTER = 2
"""Losses after which a job runs alone on its server: it may be the cause."""

_RETRIES = 3
"""How often a job is tried again if `retry_on` is given and `retries` is not."""

_BACK_OFF = 0.1
"""Seconds before a job that raised is tried again; doubled each time."""

_LONGEST_BACK_OFF = 10.0
"""Maximum seconds between two tries."""


class MapOptions(Record, frozen=True, kw_only=True):
    """The options of one map, checked."""

    ordered: bool = True
    limit: int | None = None
    retries: int = 0
    retry_on: tuple[type[BaseException], ...] = ()
    chunksize: int = 1
    """0 for a size that adapts to the jobs."""
    errors: str = RAISE
    progress: bool = False

    @classmethod
    def checked(
        cls,
        *,
        ordered: bool,
        limit: int | None,
        retries: int,
        retry_on: Any,
        chunksize: int | str,
        errors: str,
        progress: bool,
    ) -> MapOptions:
        """Check the user's arguments and make the options.

        Raises:
            ValueError: A number is out of range, or `errors` is none of the known words.
            TypeError: `retry_on` contains an object that is no exception type.
        """
        types = tuple(retry_on) if isinstance(retry_on, (tuple, list, set, frozenset)) else (retry_on,)
        for one in types:
            if not (isinstance(one, type) and issubclass(one, BaseException)):
                message = f"retry_on must be an exception type, or several in a tuple, not {retry_on!r}"
                raise TypeError(message)
        if arguments.text("errors", errors) not in {RAISE, COLLECT, SKIP}:
            message = f'errors must be "raise", "collect" or "skip", not {errors!r}'
            raise ValueError(message)
        return cls(
            ordered=arguments.flag("ordered", ordered),
            limit=arguments.optional_integer("limit", limit, least=1),
            retries=arguments.integer("retries", retries, least=0) or (_RETRIES if types else 0),
            retry_on=types,
            chunksize=_checked_size(chunksize),
            errors=errors,
            progress=arguments.flag("progress", progress),
        )


class MapResults(Generic[A, R]):
    """The results of one map: an async iterator of values, or of items with their values."""

    def __init__(self, mapping: Mapping[A, R]) -> None:
        self._mapping = mapping
        self._opened: list[AsyncGenerator[Any]] = []
        self._values: AsyncGenerator[R] | None = None

    def __aiter__(self) -> AsyncIterator[R]:
        """Iterate over the values."""
        if self._values is None:
            self._values = self._open(items=False)
        return self._values

    async def __anext__(self) -> R:
        """Return the next value."""
        return await anext(self.__aiter__())

    def with_items(self) -> AsyncIterator[tuple[A, R]]:
        """Iterate over pairs: an item of the input and its value, or its error with `errors="collect"`."""
        return self._open(items=True)

    def _open(self, *, items: bool) -> AsyncGenerator[Any]:
        opened = self._mapping.iterate(items=items)
        self._opened.append(opened)
        return opened

    async def aclose(self) -> None:
        """End all iterations."""
        for opened in self._opened:
            await opened.aclose()


class Mapping(Generic[A, R]):
    """One `map` or `starmap`: an async context manager that yields its results."""

    def __init__(
        self,
        session: Session,
        shipped: Shipped,
        function: Callable[..., Any],
        source: Any,
        options: MapOptions,
        *,
        star: bool,
    ) -> None:
        self._session = session
        self._shipped = shipped
        self._function = function
        self._source = source
        self._options = options
        self._star = star
        self._described = describe(function)
        arguments.items("iterable", source)
        self._sent: Callable[..., Any] | Pickled = function  # pickled when the first job is created
        self._nursery: trio.Nursery | None = None
        total = length_hint(source, 0) or None
        self._total = total
        self._bar = Bar(self._described.name, total, wanted=options.progress)
        self._size = options.chunksize or 1
        """The items of the next chunk."""
        self._out = 0
        """Items that were read and whose results are not taken."""
        self._blocked = 0
        """How many of them have their results and wait for an earlier item."""
        self._ready = 0
        """How many of them can be taken."""
        self._resting = 0
        """How many of them wait to be run again."""
        self._bytes = 0
        """The bytes of all results that are not taken."""
        self._read = 0
        """Items that were read."""
        self._read_all = False
        self._running: dict[Submission, tuple[_Slot, Sequence[int]]] = {}
        self._to_retry = 0
        self._moving: set[Submission] = set()
        """Jobs that were cancelled to be run elsewhere."""
        """Retries that have not started yet."""
        self._slots: deque[_Slot] = deque()
        self._results: deque[_Slot] = deque()
        self._reader_waits = False
        self._reader_called = False
        self._failure: BaseException | None = None
        self._leaving = False
        self._scope = trio.CancelScope()
        self._moved = trio.lowlevel.ParkingLot()
        self._block: AbstractAsyncContextManager[MapResults[A, R]] = self._opened()

    def __await__(self) -> NoReturn:
        """Raise an error that says how to get the results."""
        name = "starmap" if self._star else "map"
        message = (
            f"{name}() is a block; write: async with computation.{name}(...) as results: async for value in results: "
            f"...; or, for a list: await computation.run_results(fn, items)"
        )
        raise TypeError(message)

    __aiter__ = __await__

    async def __aenter__(self) -> MapResults[A, R]:
        """Start to read the input."""
        return await self._block.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        """Cancel jobs that still run and wait for their clean-up."""
        try:
            return await self._block.__aexit__(kind, error, trace)
        except BaseExceptionGroup as group:
            if group is error:
                raise
            # The frames of this package and the cancellation of the body would hide the job's own error.
            raise group.with_traceback(None) from None

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[MapResults[A, R]]:
        failure: BaseException | None = None
        self._session.movers.append(self._move)
        self._session.unread.append(self._unread)
        self._session.to_send.append(self._to_send)
        self._session.plenty = 0
        try:
            name = f"map in {self._session.set_up.name}"
            with self._bar, self._session.task_dumps.block(name, lambda: self._running):
                async with open_background() as nursery:
                    self._nursery = nursery
                    nursery.start_soon(self._feed_safely)
                    async with aclosing(MapResults[A, R](self)) as results:
                        with self._scope:
                            yield results
        except BaseException as error:  # noqa: BLE001 - raised below, when all jobs have ended
            failure = error
        self._leaving = True
        self._session.movers.remove(self._move)
        self._session.unread.remove(self._unread)
        self._session.to_send.remove(self._to_send)
        self._session.plenty = 0
        try:
            await self._session.cancel_and_wait(list(self._running))
        except BaseException as error:  # noqa: BLE001 - Ctrl-C came meanwhile; raised below
            failure = error
        if failure is not None and self._failure is None and isinstance(failure, (trio.Cancelled, KeyboardInterrupt)):
            raise failure
        errors = [error for error in (failure, self._failure) if error is not None]
        if errors:
            message = "a map failed"
            raise BaseExceptionGroup(message, [leaf for error in errors for leaf in flatten(error)])

    # --- results

    async def iterate(self, *, items: bool) -> AsyncGenerator[Any]:
        """Return the results as they come; with `items` as pairs of an item and its value."""
        await trio.lowlevel.checkpoint()
        turn, yielded = perf_counter(), 0
        while True:
            while not self._results:
                if self._read_all and not self._running and not self._slots and not self._to_retry:
                    return
                await self._moved.park()
                turn, yielded = perf_counter(), 0
            slot = self._results.popleft()
            self._bytes -= slot.size
            results = slot.values if not items else list(zip(slot.items, slot.values, strict=True))
            if slot.leaves_out:
                results = [result for result, value in zip(results, slot.values, strict=True) if value is not _LEFT_OUT]
                self._taken(len(slot.items) - len(results))
            # The counts are kept for a few results at a time, as this loop runs for each of very many.
            for start in range(0, len(results), _TURN):
                *earlier, last = results[start : start + _TURN]
                for result in earlier:
                    yield result
                self._taken(len(earlier) + 1)
                yielded += len(earlier) + 1
                if yielded >= _TURN:
                    yielded = 0
                    if perf_counter() - turn < _LONGEST_TURN:
                        await trio.lowlevel.checkpoint_if_cancelled()
                    else:
                        await trio.lowlevel.checkpoint()
                        turn = perf_counter()
                yield last

    def _taken(self, count: int) -> None:
        """Note that results were taken."""
        self._out -= count
        self._ready -= count
        if self._reader_waits and not self._reader_called:
            self._call_reader()

    def _call_reader(self) -> None:
        """Let the reader check whether there is room; many jobs may end before it runs."""
        self._reader_called = True
        self._session.room.unpark_all()

    def _ended(self, started: Submission) -> None:
        slot, positions = self._running.pop(started)
        outcome = started.outcome
        assert outcome is not None  # noqa: S101 - called at its end
        if outcome.ending is Ending.VALUE:
            self._moving.discard(started)
        elif self._runs_again(started, slot, positions, outcome):
            return
        size = outcome.size
        slot.size += size
        self._bytes += size
        failed, values = self._unpacked(outcome, len(positions))
        if failed:
            self._take_failed(slot, positions, values, started)
            return
        slot.put(positions, values)
        if self._options.progress:
            self._bar.advance(len(positions), 0)
        self._done(slot, len(positions))

    def _unpacked(self, outcome: Outcome, count: int) -> tuple[bool, list[Any]]:
        """Return whether an item of a job that has ended failed, and the values; a failed item has a `_ErrorOfItem`."""
        try:
            value: Any = outcome.value()
            if self._options.chunksize == 1:
                return False, [value]
            failed, seconds, values = value
            if not self._options.chunksize:
                self._measured(seconds / count)
            if type(values) is ForwardedMessage:
                values = values.open()
            if failed:
                values = [_ErrorOfItem(one.opened()) if type(one) is FailedItem else one for one in values]
        except BaseException as error:  # noqa: BLE001 - the error of a job belongs to its items
            return True, [_ErrorOfItem(error.with_traceback(None))] * count
        return failed, values

    def _take_failed(
        self, slot: _Slot, positions: Sequence[int], values: list[Any], started: Submission | None
    ) -> None:
        """Store the values of some items of a slot, of which some failed; run those again if they may be."""
        again: list[int] = []
        failures = 0
        for position, value in zip(positions, values, strict=False):
            if type(value) is not _ErrorOfItem:
                slot.values[position] = value
                continue
            if self._may_retry(slot, value.error):
                again.append(position)
                continue
            if self._options.errors == RAISE or isinstance(value.error, ComputationClosed):
                self._fail(self._noted(value.error, slot, position, started))
                return
            failures += 1
            error = self._noted(value.error, slot, position, started)
            slot.values[position] = error if self._options.errors == COLLECT else _LEFT_OUT
            slot.leaves_out |= self._options.errors == SKIP
        self._bar.advance(len(positions) - len(again), failures)
        if again:
            slot.tries += 1
            self._retry(slot, again, min(_BACK_OFF * 2 ** (slot.tries - 1), _LONGEST_BACK_OFF))
        self._done(slot, len(positions) - len(again))

    def _done(self, slot: _Slot, count: int) -> None:
        """Note that items of a slot have their results, and pass on the slots that can be taken."""
        slot.missing -= count
        if slot.missing:
            return
        if not self._options.ordered:
            self._results.append(slot)
            self._ready += len(slot.items)
        elif self._slots[0] is not slot:
            self._blocked += len(slot.items)
            return
        else:
            self._results.append(self._slots.popleft())
            self._ready += len(slot.items)
            while self._slots and not self._slots[0].missing:
                self._results.append(freed := self._slots.popleft())
                self._blocked -= len(freed.items)
                self._ready += len(freed.items)
        if self._moved:
            self._moved.unpark_all()
        if self._reader_waits and not self._reader_called:
            self._call_reader()

    def _fail(self, error: BaseException) -> None:
        if self._failure is None:
            self._failure = error
            self._scope.cancel()

    def _noted(self, error: BaseException, slot: _Slot, position: int, started: Submission | None) -> BaseException:
        """Add a note that names the failed item and its server."""
        if self._options.errors != RAISE and isinstance(error, ServerLost):
            return error  # the same object for all jobs of that server
        server = self._session.servers.get(started.home) if started is not None else None
        where = f", {self._described.name} at {server.location}" if server is not None else ""
        note = f"Item {slot.index + position} of the map: {shortened(slot.items[position])}{where}"
        error.__notes__ = [note, *getattr(error, "__notes__", ())]
        return error

    # --- jobs

    async def _feed_safely(self) -> None:
        try:
            await self._feed()
        except Exception as error:  # noqa: BLE001 - the map raises it
            self._fail(error)

    async def _feed(self) -> None:
        self._sent = snapshot(self._job_function(), self._shipped)
        index = 0
        async with aclosing(_chunks(self._source, lambda: self._size)) as chunks:
            async for chunk in chunks:
                slot = _Slot(index, chunk)
                index = self._read = index + len(chunk)
                self._out += len(chunk)
                if self._options.ordered:
                    self._slots.append(slot)
                await self._submit(slot, range(len(chunk)))
                while not self._has_room():
                    self._reader_waits, self._reader_called = True, False
                    await self._session.room.park()
                self._reader_waits = False
        self._read_all = True
        self._session.plenty = 0
        self._moved.unpark_all()

    def _has_room(self) -> bool:
        if self._options.limit is not None:
            return self._out - self._resting <= max(self._options.limit - self._size, 0)
        # Items are read only if a server would take them soon; the number of jobs that have begun is limited, too.
        servers, size = len(self._session.servers), self._size
        most = servers * (_MOST_PER_SERVER if size == 1 else _CHUNKS_PER_SERVER * size)
        return (
            self._session.backlog.size <= servers
            and self._out - self._resting - self._blocked <= most
            and self._ready <= max(_READY_PER_SERVER * servers, len(self._running)) * size
            and self._blocked <= _MOST_BLOCKED * size
            and self._bytes <= _MOST_BYTES
        )

    def _unread(self) -> int:
        """Return the number of jobs that are not submitted yet.

        An input of unknown length counts as half read while its reader waits for room. If more results wait to be taken
        than jobs run, more servers would not help.
        """
        slow = self._reader_waits and self._ready > len(self._running) * self._size
        if self._read_all or slow:
            return self._to_retry
        left = self._read if self._reader_waits else 0
        if self._total is not None:
            left = max(self._total - self._read, 0)
        return self._to_retry + -(-left // self._size)

    def _to_send(self) -> int:
        """Return how many jobs are not submitted yet."""
        if self._read_all:
            return 0
        return UNKNOWN if self._total is None else max(self._total - self._read, 0) // self._size

    def _measured(self, seconds: float) -> None:
        """Adapt the chunk size to the time an item takes; it grows step by step, as later items may take longer."""
        fitting = int(_CHUNK_SECONDS / max(seconds, 1e-9))
        self._size = max(1, min(fitting, 2 * self._size, _LARGEST_CHUNK))

    async def _submit(self, slot: _Slot, positions: Sequence[int], *, alone: bool = False) -> None:
        whole = len(positions) == len(slot.items)
        args = self._job_arguments(slot.items if whole else [slot.items[position] for position in positions])
        try:
            call = Call(self._sent, args, {}, self._shipped, self._described.name)
        except NotPicklable as error:
            if len(positions) > 1 and self._options.errors != RAISE:  # only some of the items cannot be sent
                for position in positions:
                    await self._submit(slot, [position], alone=alone)
            else:
                self._take_failed(slot, positions, [_ErrorOfItem(error)] * len(positions), None)
            return
        started = await start_alone(self._session, call) if alone else self._session.submit(call)
        self._running[started] = slot, positions
        started.then(self._ended)

    def _job_function(self) -> Callable[..., Any]:
        """Return the call that all jobs make: the function is pickled once, even with a large state."""
        if self._options.chunksize == 1:
            return self._function
        run: Callable[..., Any] = run_chunk if self._described.is_async else run_plain_chunk
        stop = self._options.errors == RAISE and not self._options.retry_on
        return partial(run, self._function, self._star, stop)

    def _job_arguments(self, items: list[Any]) -> tuple[Any, ...]:
        if self._options.chunksize != 1:
            return (items,)
        (item,) = items
        return tuple(item) if self._star else (item,)

    # --- jobs that are run again

    def _may_retry(self, slot: _Slot, error: BaseException) -> bool:
        return isinstance(error, self._options.retry_on) and slot.tries < self._options.retries and not self._leaving

    def _move(self, servers: set[bytes]) -> None:
        """Move jobs away from drained servers, if they may run again."""
        for started, (slot, _positions) in list(self._running.items()):
            if started.home in servers and slot.tries < self._options.retries:
                self._moving.add(started)
                self._session.cancel(started, "its node is drained")

    def _runs_again(self, started: Submission, slot: _Slot, positions: Sequence[int], outcome: Outcome) -> bool:
        """Run a job again that was cancelled or lost, if it may be; return whether its outcome does not count."""
        if self._leaving and outcome.ending in (Ending.CANCELLED, Ending.LOST):
            return True  # leaving the block requested the cancellation
        if started in self._moving:
            self._moving.discard(started)
            if outcome.ending is Ending.CANCELLED and slot.tries < self._options.retries:
                slot.tries += 1
                self._retry(slot, positions, 0)
                return True
        return outcome.ending is Ending.LOST and self._retry_lost(slot, positions, outcome)

    def _retry_lost(self, slot: _Slot, positions: Sequence[int], outcome: Outcome) -> bool:
        """Run a lost job again if it may be; return whether it is run again."""
        error = outcome.error()
        if not isinstance(error, ServerLost) or slot.tries >= self._options.retries:
            return False
        slot.tries += 1
        if error.exitcode is not None or error.signal is not None or not error.ended:
            slot.losses += 1  # an orderly end of a server was not caused by the job
        if error.ended:
            self._retry(slot, positions, 0)
        else:  # the server may be unreachable and still run the job
            self._retry(slot, positions, PULSES * self._session.set_up.pulse_interval)
        return True

    def _retry(self, slot: _Slot, positions: Sequence[int], delay: float) -> None:
        assert self._nursery is not None  # noqa: S101 - jobs start in the block
        self._to_retry += 1
        self._resting += len(positions)
        if self._reader_waits and not self._reader_called:
            self._call_reader()
        self._nursery.start_soon(self._try_again, slot, positions, delay, name=f"try {self._described.name} again")

    async def _try_again(self, slot: _Slot, positions: Sequence[int], delay: float) -> None:
        try:
            if delay:
                await trio.sleep(delay)
            await self._submit(slot, positions, alone=slot.losses >= _ALONE_AFTER)
        except Exception as failure:  # noqa: BLE001 - the map raises it
            self._fail(failure)
        finally:
            self._to_retry -= 1
            self._resting -= len(positions)


class _Slot:
    """One chunk of the input, and the position of its values among the results."""

    __slots__ = ("index", "items", "leaves_out", "losses", "missing", "size", "tries", "values")

    def __init__(self, index: int, items: list[Any]) -> None:
        self.index = index
        self.items = items
        self.values: list[Any] = [None] * len(items)
        self.missing = len(items)
        self.size = 0
        """The bytes of its results."""
        self.tries = 0
        self.losses = 0
        self.leaves_out = False
        """Whether failed items are left out of the results."""

    def put(self, positions: Sequence[int], values: list[Any]) -> None:
        """Store the values of some items, or of all."""
        if len(positions) == len(self.items):
            self.values = values
        else:
            for position, value in zip(positions, values, strict=True):
                self.values[position] = value


class _ErrorOfItem:
    """Replaces the value of a failed item."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


_LEFT_OUT = object()
"""Replaces a value that the results leave out."""

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80


def shortened(value: object) -> str:
    """Return a value's text on one line, for an error."""
    return " ".join(_short.repr(value).split())


def _checked_size(chunksize: int | str) -> int:
    if chunksize == AUTO:
        return 0
    if isinstance(chunksize, str):
        message = f'chunksize must be a number or "auto", not {chunksize!r}'
        raise ValueError(message)  # noqa: TRY004 - the type is right
    return arguments.integer("chunksize", chunksize, least=1)


async def _chunks(source: Any, size: Callable[[], int]) -> AsyncGenerator[list[Any]]:
    """Read a number of items at a time, and no more items than that."""
    if not hasattr(source, "__aiter__"):
        iterator: Iterator[Any] = iter(source)
        while chunk := list(islice(iterator, size())):
            await trio.lowlevel.checkpoint_if_cancelled()
            yield chunk
        return
    # Only this code knows when a generator is no longer read; the garbage collector could not run its clean-up.
    closing: AbstractAsyncContextManager[Any] = aclosing(source) if inspect.isasyncgen(source) else nullcontext()
    async with closing:
        chunk = []
        async for item in source:
            chunk.append(item)
            if len(chunk) >= size():
                yield chunk
                chunk = []
        if chunk:
            yield chunk
