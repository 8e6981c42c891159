"""`connect`: a cluster for notebooks, IPython and scripts, whose calls block.

This module owns the calls, the iterator over the results of a map, and the effect of Ctrl-C. The queue of jobs
is in `_executor`, the loop in `_background`.
"""

from __future__ import annotations

import asyncio
import sys
import weakref
from collections import deque
from concurrent.futures import FIRST_COMPLETED, wait
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self, Unpack

import trio

from .._arguments import integer
from .._scopes import first_error
from ._background import Background, BackgroundOptions
from ._blocking import Blocking, blocking, plain
from ._display import Displayed, View
from ._executor import Future, Jobs
from ._progress import Bar
from ._statistics import statistics_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator
    from types import TracebackType

    from .._cluster import Launcher
    from .._values import Location

_BUFFERED = 256
"""Results of a map that wait to be taken; beyond that, `limit` bounds the items that are read."""

_READ_AHEAD = 32
"""Items that are read from an iterator in one step."""


def connect(
    scheduler: Location | str | None = None,
    *,
    servers: int | None = None,
    launch: Launcher | None = None,
    components: Iterable[object] = (),
    jobs_per_server: int = 1,
    **options: Unpack[BackgroundOptions],
) -> Cluster:
    """Open a cluster whose calls block, for notebooks, IPython and scripts.

    Args:
        scheduler: The address of a shared scheduler, as Location or text; by default a cluster on this machine.
        servers: Servers of that cluster, by default one per processor; at a shared scheduler, servers to wait for.
        launch: Starts the nodes, as for `open_scheduler`.
        components: Functions, classes, modules and files that the jobs need, as for `Computation`.
        jobs_per_server: How many submitted jobs run at the same time on one server.
        options: Options of `open_cluster`, `open_endpoint` and `Computation`.

    Returns:
        The cluster; `with`, `close()`, its last reference or the end of the program closes it.

    Raises:
        SchedulerNotFound: No scheduler answered.
        TypeError, ValueError: An option is invalid.
    """
    integer("jobs_per_server", jobs_per_server, least=1)
    background = Background(scheduler, servers, launch, components, options)
    jobs = Jobs(background, jobs_per_server)
    background.start(jobs.watch)
    cluster = Cluster(background, jobs)
    if scheduler is None and launch is None:
        cluster.computation.servers()  # waits for the first server; a shared scheduler may have none for a long time
    return cluster


class Cluster(Displayed):
    """A cluster whose calls block; `connect` returns it.

    Ctrl-C in a call cancels the jobs that the call waits for; in IPython and notebooks, all jobs of the cell.

    Attributes:
        computation: The computation, whose async methods block and whose async context managers are plain ones.
    """

    def __init__(self, background: Background, jobs: Jobs) -> None:
        self._background = background
        self._jobs = jobs
        self._cell = _Cell.watched()
        self._closer = weakref.finalize(self, _abandon, background, self._cell)
        self._closer.atexit = False
        self.computation: Any = Blocking(background, background.computation)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Queue a call of an async or plain function.

        Args:
            fn: The function.
            args: Its arguments.
            kwargs: Its keyword arguments.

        Returns:
            A `concurrent.futures.Future`; its `cancel` also cancels a job that runs.

        Raises:
            TypeError: `fn` cannot be run; the message says what to write instead.
            RuntimeError: The cluster is closed.
        """
        future = self._jobs.submit(fn, args, kwargs)
        self._cell.add(future)
        return future

    def map(
        self,
        fn: Callable[..., Any],
        iterable: Iterable[Any],
        /,
        *more: Iterable[Any],
        ordered: bool = True,
        errors: Literal["raise", "collect", "skip"] = "raise",
        limit: int | None = None,
        retries: int = 0,
        retry_on: type[BaseException] | Collection[type[BaseException]] = (),
        chunksize: int | Literal["auto"] = "auto",
        progress: bool = False,
    ) -> MapIterator:
        """Run a function for each item, a limited number at a time.

        Args:
            fn: A function with as many parameters as there are iterables.
            iterable: The items; an iterator is read in a thread, up to 32 items ahead.
            more: Iterables for further parameters, as for the built-in `map`.
            ordered: Whether results come in the order of the items.
            errors: `"raise"`, `"collect"` or `"skip"`. This and the following are as for `Computation.map`.
            limit: How many items are read whose results are not ready.
            retries: How often a job is run again.
            retry_on: Types of errors after which a job is run again.
            chunksize: Items that go to a server as one job; "auto" makes jobs of short items last a few milliseconds.
            progress: Whether progress is shown.

        Returns:
            An iterator over the values; `list(…)` or `gather` waits for all. The jobs run meanwhile.

        Raises:
            Exception: The error of the first job that fails, raised at once; the others are cancelled.

        Ctrl-C while it waits, `close()` or the end of its last reference cancels the jobs.
        """
        source = zip(iterable, *more, strict=False) if more else iterable
        options: dict[str, Any] = {
            "ordered": ordered,
            "errors": errors,
            "limit": limit,
            "retries": retries,
            "retry_on": retry_on,
            "chunksize": chunksize,
            "progress": progress,
        }
        task = _MapTask(self._background, fn, source, options, star=bool(more))
        self._background.call(task.begin)
        self._cell.add(task)
        return MapIterator(task)

    def gather(
        self, *futures: Any, errors: Literal["raise", "collect", "skip"] = "raise", progress: bool = False
    ) -> Any:
        """Wait for futures and return their values.

        Args:
            futures: A future, an iterable of futures such as a list or the result of `map`, or several of these.
            errors: Whether the first error is raised, or errors replace values in the list, or are left out.
            progress: Whether progress is shown.

        Returns:
            The value of the one future, or a list.

        Raises:
            Exception: The error of the first future in order that failed; the others go on.

        Ctrl-C cancels all these futures.
        """
        if len(futures) == 1:
            given = futures[0]
            if isinstance(given, Future):
                return self._gather([given], "raise", progress=progress)[0]
            return self._gather(list(given), errors, progress=progress)
        return [self.gather(given, errors=errors, progress=progress) for given in futures]

    def _gather(self, items: list[Any], errors: str, *, progress: bool) -> list[Any]:
        futures = [item for item in items if isinstance(item, Future)]
        try:
            with Bar("gather", len(futures), wanted=progress) as bar:
                pending: set[Any] = set(futures)
                while pending and (progress or errors == "raise"):
                    done, pending = wait(pending, return_when=FIRST_COMPLETED)
                    failed = [one for one in done if one.cancelled() or one.exception() is not None]
                    bar.advance(len(done), len(failed))
                    if failed and errors == "raise":
                        break
                values = []
                for item in items:
                    error = item.exception() if isinstance(item, Future) and errors != "raise" else None
                    if error is None:
                        values.append(item.result() if isinstance(item, Future) else item)
                    elif errors == "collect":
                        values.append(error)
                return values
        except KeyboardInterrupt:
            for future in futures:
                future.cancel()
            raise

    def run(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Run a function at a server and wait for its value; Ctrl-C cancels it.

        Args:
            fn: An async or plain function.
            args: Its arguments.
            kwargs: Its keyword arguments.

        Raises:
            Exception: The function's error, or ServerLost, or NotPicklable.
        """
        computation = self._background.computation
        return self._background.call(computation.run_result, fn, *args, **kwargs)

    def share(self, value: Any) -> Any:
        """Return a handle to send in place of a large value, as `Computation.share` does.

        Args:
            value: The value, which a server gets as `shared.value`.

        Returns:
            The handle; its `get` and `release` block.
        """
        return self.computation.share(value)

    def call(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Run an async function of this program in the cluster's own loop, and wait for its value.

        Args:
            fn: The function; it may use the whole package, such as `open_coro` and `locate`.
            args: Its arguments.
            kwargs: Its keyword arguments.

        Raises:
            Exception: The error of the function.

        Ctrl-C cancels it.
        """
        return blocking(self._background, self._background.call(fn, *map(plain, args), **kwargs))

    def close(self) -> None:
        """Cancel all jobs, wait for their clean-up, and close the cluster."""
        self._closer.detach()
        self._cell.stop()
        self._jobs.shut_down(cancel_pending=True, cancel_running=True)
        self._background.close()

    def __reduce__(self) -> NoReturn:
        message = "a cluster of connect() stays in its program; a job that starts others takes `cluster.computation`"
        raise TypeError(message)

    def __enter__(self) -> Self:
        """Return the cluster."""
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def _view(self) -> View:
        title = "discoro cluster"
        if self._background.ended:
            return self._jobs.closed_view(title)
        counts = statistics_of(self._background.session)
        queued, _ = self._jobs.counts
        rows: dict[str, object] = {
            "servers": counts.servers,
            "nodes": counts.nodes,
            "waiting jobs": queued + counts.waiting,
            "running jobs": counts.running,
        }
        if counts.servers_lost:
            rows["servers lost"] = counts.servers_lost
        total = counts.submitted + counts.waiting + queued
        done = counts.submitted - counts.running
        return View(title, rows, final=False, done=done, total=total, failed=self._jobs.failed)

    def __repr__(self) -> str:
        """Show the numbers of servers and jobs."""
        return f"<discoro cluster: {', '.join(f'{name} {value}' for name, value in self._view().rows.items())}>"


def _abandon(background: Background, cell: _Cell) -> None:
    """Close a cluster that has no references left."""
    cell.stop()
    background.cancel()


class MapIterator:
    """The values of `Cluster.map`, as they come; `with_items()` yields pairs of an item and its value."""

    def __init__(self, task: _MapTask) -> None:
        self._task = task
        self._taken: deque[tuple[Any, Any]] = deque()
        self._finalizer = weakref.finalize(self, task.cancel)
        self._finalizer.atexit = False

    def __iter__(self) -> Self:
        """Iterate over the values."""
        return self

    def __next__(self) -> Any:
        """Wait for the next value."""
        return self._next_pair()[1]

    def with_items(self) -> Iterator[tuple[Any, Any]]:
        """Iterate over pairs of an item and its value, or its error with `errors="collect"`."""
        try:
            while True:
                yield self._next_pair()
        except StopIteration:
            return

    def close(self) -> None:
        """Cancel the remaining jobs and wait for their clean-up."""
        self._taken.clear()
        self._task.close()

    def _next_pair(self) -> tuple[Any, Any]:
        if not self._taken:
            try:
                self._taken.extend(self._task.background.call(self._task.take))
            except BaseException:
                self.close()
                raise
            if not self._taken:
                self._task.raise_error()
                raise StopIteration
        return self._taken.popleft()


class _MapTask:
    """The part of a map that runs in the loop."""

    def __init__(
        self,
        background: Background,
        fn: Callable[..., Any],
        source: Iterable[Any],
        options: dict[str, Any],
        *,
        star: bool,
    ) -> None:
        self.background = background
        computation = background.computation
        self._map: Any = computation.starmap if star else computation.map
        self._fn = fn
        self._source: Any = source if hasattr(source, "__len__") else _read(iter(source))
        self._options = options
        self._ready: deque[tuple[Any, Any]] = deque()
        self._error: BaseException | None = None
        self._over = False
        self._scope = trio.CancelScope()
        self._moved = trio.lowlevel.ParkingLot()

    async def begin(self) -> None:
        """Start the map. Raises TypeError or ValueError for a wrong option."""
        block = self._map(self._fn, self._source, **self._options)
        self.background.nursery.start_soon(self._run, block)

    async def _run(self, block: Any) -> None:
        try:
            with self._scope:
                async with block as results:
                    async for pair in results.with_items():
                        self._ready.append(pair)
                        self._moved.unpark_all()
                        while len(self._ready) >= _BUFFERED:
                            await self._moved.park()
        except BaseExceptionGroup as group:
            self._error = group.exceptions[0] if len(group.exceptions) == 1 else group
        except Exception as error:  # noqa: BLE001 - the iterator raises it
            self._error = error
        finally:
            self._over = True
            self._moved.unpark_all()

    async def take(self) -> list[tuple[Any, Any]]:
        """Wait for results and return all that are ready; an empty list at the end."""
        while not self._ready and not self._over:
            await self._moved.park()
        taken = list(self._ready)
        self._ready.clear()
        self._moved.unpark_all()
        return taken

    def raise_error(self) -> None:
        """Raise the error with which the map has ended, once; from another thread, after the last results.

        It is raised here and not by `take`: the traceback shows the caller's line, and not how threads meet.
        """
        error, self._error = self._error, None
        try:
            if error is not None:
                raise error
        finally:
            del error  # its traceback holds this frame

    def cancel(self) -> None:
        """Request the end of the map, from any thread."""
        self.background.soon(self._scope.cancel)

    def close(self) -> None:
        """End the map and wait for its jobs' clean-up, from another thread. Does nothing if the loop has ended."""
        if not self._over and not self.background.ended:
            self.background.call(self._end)

    async def _end(self) -> None:
        self._scope.cancel()
        while not self._over:
            await self._moved.park()


async def _read(iterator: Iterator[Any]) -> AsyncIterator[Any]:
    """Read an iterator of the user in a thread, as it may block."""
    while items := await trio.to_thread.run_sync(lambda: list(islice(iterator, _READ_AHEAD))):
        for item in items:
            yield item


class _Cell:
    """The jobs that the running IPython cell has started; Ctrl-C cancels them, and no jobs of other cells."""

    def __init__(self) -> None:
        self._started: weakref.WeakSet[Any] = weakref.WeakSet()
        self._events: Any = None

    @classmethod
    def watched(cls) -> _Cell:
        """Make the record of the cell, and register it with IPython if this is an IPython session."""
        cell = cls()
        module = sys.modules.get("IPython.core.getipython")
        shell: Any = module.get_ipython() if module is not None else None
        if shell is not None:
            cell._events = shell.events
            shell.events.register("pre_run_cell", cell._begin)
            shell.events.register("post_run_cell", cell._end)
        return cell

    def add(self, started: Any) -> None:
        """Add an object with a `cancel` method."""
        if self._events is not None:
            self._started.add(started)

    def stop(self) -> None:
        """Unregister it."""
        events, self._events = self._events, None
        if events is not None:
            events.unregister("pre_run_cell", self._begin)
            events.unregister("post_run_cell", self._end)

    def _begin(self, _info: object) -> None:
        self._started.clear()

    def _end(self, result: Any) -> None:
        error = result.error_in_exec
        if isinstance(error and first_error(error), (KeyboardInterrupt, asyncio.CancelledError)):
            for started in list(self._started):
                started.cancel()
        self._started.clear()
