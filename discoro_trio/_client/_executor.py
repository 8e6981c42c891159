"""`Executor`: the interface of `concurrent.futures` over the servers of a cluster.

This module owns the queue of jobs and their futures. The loop in which they are started is in `_background`.
"""

from __future__ import annotations

import operator
import sys
import threading
import time
import weakref
from collections import deque
from concurrent.futures import BrokenExecutor, InvalidStateError
from concurrent.futures import Executor as ExecutorBase
from concurrent.futures import Future as FutureBase
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, Unpack

import trio

from .._arguments import integer
from .._errors import ComputationClosed, DiscoroError, ServerLost
from .._process import Call, Ending, describe
from .._process.execution._chunks import run_async_items, run_items
from .._shown import shown
from ._background import Background, BackgroundOptions
from ._display import Displayed, View

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

    from .._cluster import Launcher
    from .._process import Shared, Submission
    from .._values import Location

T = TypeVar("T")

_SHORT = 0.01
"""If jobs take less than this many seconds on average, a server is sent several at once, to hide the round trip."""

_AHEAD = 4
"""Short jobs in flight for each server."""

_WEIGHT = 0.2
"""Weight of the last job in the average duration."""

_SHUT_DOWN = "cannot schedule new futures after shutdown"

_RUNNING, _CANCELLED = "RUNNING", "CANCELLED"


class Future(Displayed, FutureBase[T]):
    """A future whose `cancel` also cancels a job that runs already."""

    def __init__(self, jobs: Jobs) -> None:
        super().__init__()
        self._jobs = jobs

    def cancel(self) -> bool:
        """Cancel the job; if it runs, cancel its coroutine at the server.

        A plain function that runs cannot be interrupted: its server is replaced after the grace period.

        Returns:
            False if the job has already ended.
        """
        with self._condition:
            running = self._state == _RUNNING
            if running:
                self._state = _CANCELLED
                self._condition.notify_all()
        if not running:
            cancelled = super().cancel()
            if cancelled:
                self._jobs.withdrawn()
            return cancelled
        self.set_running_or_notify_cancel()  # informs wait() and as_completed()
        self._invoke_callbacks()  # type: ignore[attr-defined]
        self._jobs.cancel_remote(self)
        return True

    def _view(self) -> View:
        if not self.done() or self.cancelled():
            state = "cancelled" if self.cancelled() else "running" if self.running() else "waiting"
            return View("Future", {"state": state}, final=self.cancelled())
        error = self.exception()
        if error is not None:
            return View("Future", {"state": "failed", type(error).__name__: shown(error)}, final=True)
        return View("Future", {"state": "finished", "value": shown(self.result())}, final=True)


class _Job:
    """A call that waits for its turn."""

    def __init__(
        self, future: Future[Any], fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self.future = future
        self.fn = fn
        self.args = args
        self.kwargs = kwargs
        self._claimed = False

    def claim(self) -> bool:
        """Mark the future as running; return whether the call is still wanted."""
        if self._claimed:  # before, when there was no server
            return not self.future.done()
        self._claimed = True
        return self.future.set_running_or_notify_cancel()


class Jobs:
    """The queue of an executor, and its jobs in flight. Only methods marked so may be called from other threads.

    Args:
        background: The loop.
        per_server: How many jobs run at the same time on a server.
    """

    def __init__(self, background: Background, per_server: int) -> None:
        self._background = background
        self._per_server = per_server
        self._lock = threading.Lock()
        self._pending: deque[_Job] = deque()
        self._running: dict[Submission, tuple[Future[Any], float]] = {}
        self._to_cancel: deque[Future[Any]] = deque()
        self._average = _SHORT
        self._most_pending = 0  # since the last time when none was
        self._shut_down = False
        self._broken: BaseException | None = None
        self.ended: int = 0
        """Jobs that have ended."""
        self.failed: int = 0
        """How many of them raised an error or were lost."""

    # --- from any thread

    def closed_view(self, title: str) -> View:
        """Return what is shown after the end."""
        return View(title, {"state": "closed"}, final=True, done=self.ended, total=self.ended, failed=self.failed)

    def submit(self, fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Future[T]:
        """Queue a call."""
        describe(fn)
        future: Future[T] = Future(self)
        with self._lock:
            if self._broken is not None:
                raise BrokenExecutor(_broken_text(self._broken)) from self._broken
            if self._shut_down:
                raise RuntimeError(_SHUT_DOWN)
            self._pending.append(_Job(future, fn, args, kwargs))
        if not self._background.soon(self._pump):
            self.broke(self._background.lost)
        return future

    def cancel_remote(self, future: Future[Any]) -> None:
        """Cancel the coroutine of a cancelled future."""
        self._to_cancel.append(future)
        self._background.soon(self._cancel_some)

    def withdrawn(self) -> None:
        """Note that a future in the queue was cancelled."""
        self._background.soon(self._pump)

    def shut_down(self, *, cancel_pending: bool, cancel_running: bool) -> None:
        """Accept no more jobs; end the loop when none is left."""
        with self._lock:
            self._shut_down = True
            pending = [job.future for job in self._pending] if cancel_pending else []
        for future in pending:
            future.cancel()
        if cancel_running:
            for future, _ in list(self._running.values()):
                future.cancel()
        self._background.soon(self._pump)

    def broke(self, why: BaseException | None) -> None:
        """Fail all jobs, as the loop has ended."""
        error = why or DiscoroError("the executor's loop has ended")
        with self._lock:
            if not self._shut_down:
                self._broken = error
            pending, self._pending = list(self._pending), deque()
        for future in [*(job.future for job in pending), *(future for future, _ in self._running.values())]:
            _fail(future, _broken(error))

    @property
    def counts(self) -> tuple[int, int]:
        """How many jobs wait, and how many run."""
        return len(self._pending), len(self._running)

    # --- in the loop

    async def watch(self) -> None:
        """Start jobs as servers join, until the loop is closed or no server will come."""
        session = self._background.session
        session.unread.append(lambda: len(self._pending))
        try:
            while True:
                self._pump()
                session.check_open()
                await session.until_changed(for_server=False)
        except DiscoroError as error:
            self.broke(error)
        except trio.Cancelled:
            self.broke(None)
            raise

    def _pump(self) -> None:
        """Start the jobs that have room; end the loop when there is nothing left to do."""
        session = self._background.session
        while self._pending:
            servers = max(len(session.servers), 1) * self._per_server
            if len(self._running) >= servers * (_AHEAD if self._sends_ahead(servers) else 1):
                return
            with self._lock:
                job = self._pending.popleft()
            if not job.claim():
                continue
            try:
                call = Call(job.fn, job.args, job.kwargs, self._background.computation._shipped)  # noqa: SLF001 - see Runs
                started = session.submit(call)
            except Exception as error:  # noqa: BLE001 - it belongs to this job
                _fail(job.future, _broken(error) if isinstance(error, ComputationClosed) else error)
                continue
            self._running[started] = job.future, time.monotonic()
            started.then(self._ended)
        self._most_pending = 0
        if self._shut_down and not self._running:
            self._background.cancel()

    def _sends_ahead(self, servers: int) -> bool:
        """Whether jobs are sent ahead, as they are short. The last ones of many are not: they may take much longer."""
        pending = len(self._pending)
        self._most_pending = max(self._most_pending, pending)
        return self._average < _SHORT and not pending <= servers * _AHEAD < self._most_pending

    def _ended(self, started: Submission) -> None:
        future, begun = self._running.pop(started)
        self._average += _WEIGHT * (time.monotonic() - begun - self._average)
        self.ended += 1
        outcome = started.outcome
        if outcome is not None and not future.done():
            try:
                value = outcome.value()
            except BaseException as error:  # noqa: BLE001 - it is the future's
                self.failed += 1
                # A job that was lost with its server fails alone; any other loss breaks the executor.
                broken = self._background.session.closed or not isinstance(error, ServerLost)
                broken = broken and outcome.ending is Ending.LOST
                if broken:
                    self.broke(error)
                _fail(future, _broken(error) if broken else error.with_traceback(None))
            else:
                _succeed(future, value)
        self._pump()

    def _cancel_some(self) -> None:
        """Cancel the coroutines of cancelled futures, and replace servers where they do not end."""
        cancelled = set()
        while self._to_cancel:
            cancelled.add(self._to_cancel.popleft())
        started = [one for one, (future, _) in self._running.items() if future in cancelled]
        if started:
            self._background.nursery.start_soon(self._background.session.cancel_and_wait, started)


def _succeed(future: Future[Any], value: object) -> None:
    with suppress(InvalidStateError):  # another thread may cancel it at this moment
        future.set_result(value)


def _fail(future: Future[Any], error: BaseException) -> None:
    with suppress(InvalidStateError):
        future.set_exception(error)


def _broken(why: BaseException) -> BrokenExecutor:
    error = BrokenExecutor(_broken_text(why))
    error.__cause__ = why
    return error


def _broken_text(why: BaseException) -> str:
    return f"the executor runs nothing more: {type(why).__name__}: {why}"


class Executor(Displayed, ExecutorBase):
    """Runs functions on the servers of a cluster, with the interface of `concurrent.futures`.

    It opens an embedded cluster or uses a shared scheduler, in a thread of its own. A job whose server is lost fails
    with `ServerLost`, and the others go on. If the program ends without `shutdown`, it waits for its jobs; after
    Ctrl-C they are cancelled.

    Args:
        scheduler: The address of a shared scheduler, as Location or text; by default a cluster on this machine.
        servers: Servers of that cluster, by default one per processor; at a shared scheduler, servers to wait for.
        launch: Starts the nodes, as for `open_scheduler`.
        components: Functions, classes, modules and files that the jobs need, as for `Computation`.
        initializer: Called once on each server before its first job. If it fails everywhere, the executor is broken.
        initargs: Its arguments.
        jobs_per_server: How many jobs run at the same time on one server. If they take less than 10 ms, four times as
            many are sent.
        options: Options of `open_cluster`, `open_endpoint` and `Computation`.

    Raises:
        SchedulerNotFound: No scheduler answered.
        TypeError, ValueError: An option cannot work.
    """

    def __init__(
        self,
        scheduler: Location | str | None = None,
        *,
        servers: int | None = None,
        launch: Launcher | None = None,
        components: Iterable[object] = (),
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        jobs_per_server: int = 1,
        **options: Unpack[BackgroundOptions],
    ) -> None:
        integer("jobs_per_server", jobs_per_server, least=1)
        if initializer is not None:
            options["server_setup"] = partial(initializer, *initargs)
        options.setdefault("name", "executor")
        self._background = background = Background(scheduler, servers, launch, components, options)
        self._jobs = jobs = Jobs(background, jobs_per_server)
        self._background.start(jobs.watch)
        background.at_exit = partial(_finish, background, jobs)
        # Without `shutdown` and without references, the executor ends when its jobs have ended.
        self._finalizer = weakref.finalize(self, jobs.shut_down, cancel_pending=False, cancel_running=False)
        self._finalizer.atexit = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Queue a call of an async or plain function; cancelling its future cancels it, also while it runs.

        Args:
            fn: The function.
            args: Its arguments.
            kwargs: Its keyword arguments.

        Returns:
            The future. Its outcome is the function's value or error, or ServerLost, or NotPicklable.

        Raises:
            TypeError: `fn` cannot be run; the message says what to write instead.
            RuntimeError: The executor is shut down.
            BrokenExecutor: Its scheduler is gone, or the initializer failed on all servers.
        """
        return self._jobs.submit(fn, args, kwargs)

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """Call a function for each item, as the built-in `map` does; return the values in order.

        Args:
            fn: The function.
            iterables: One for each parameter of `fn`.
            timeout: Seconds from now after which waiting for a value raises TimeoutError; None for no limit.
            chunksize: Items that go to a server as one job.
            buffersize: How many jobs are queued whose values are not taken yet; the iterables are read as room appears.
            None: they are read at once.

        Raises:
            ValueError, TypeError: An option is invalid.
            RuntimeError, BrokenExecutor: As for `submit`.

        When the iterator is closed, or a job fails, the others are cancelled.
        """
        if chunksize < 1:
            message = "chunksize must be >= 1."
            raise ValueError(message)
        if buffersize is not None and operator.index(buffersize) < 1:
            message = "buffersize must be None or > 0"
            raise ValueError(message)
        end = None if timeout is None else time.monotonic() + timeout
        items = zip(*iterables, strict=False)
        calls: Iterator[tuple[Any, ...]] = iter(lambda: tuple(islice(items, chunksize)), ())
        call = partial(run_async_items if describe(fn).is_async else run_items, fn)
        weak = weakref.ref(self)

        def submit(chunk: tuple[Any, ...]) -> Future[Any] | None:
            executor = weak()
            return executor.submit(call, chunk) if executor is not None else None

        futures = deque(filter(None, map(submit, islice(calls, buffersize))))
        return _values(futures, calls if buffersize is not None else iter(()), submit, end)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - the interface
        """Accept no more jobs, and close the cluster when the existing jobs have ended.

        Args:
            wait: Whether this call waits until the cluster is closed.
            cancel_futures: Whether jobs that have not begun are cancelled.
        """
        self._finalizer.detach()
        self._jobs.shut_down(cancel_pending=cancel_futures, cancel_running=False)
        if wait:
            self._background.join()

    def share(self, value: T) -> Shared[T]:
        """Return a handle to send in place of a large value, as `Computation.share` does.

        Args:
            value: The value, which a job gets as `shared.value`.

        Raises:
            NotPicklable: The value cannot be sent.
            DiscoroError: A node has no room for it.
        """
        shared: Shared[T] = self._background.call(self._background.computation.share, value)
        return shared

    def release(self, shared: Shared[Any]) -> None:
        """Free a shared value before the executor ends.

        Args:
            shared: Its handle.
        """
        self._background.call(shared.release)

    def count_servers(self) -> int:
        """Return the present number of servers."""
        return len(self._background.session.servers)

    def __reduce__(self) -> NoReturn:
        message = "an Executor stays in its program; a job can open one of its own"
        raise TypeError(message)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Shut down; after Ctrl-C, without waiting for the jobs."""
        if kind is not None and issubclass(kind, (KeyboardInterrupt, SystemExit)):
            self._jobs.shut_down(cancel_pending=True, cancel_running=True)
        self.shutdown()

    def __repr__(self) -> str:
        """Show the numbers of jobs, or the state."""
        waiting, running = self._jobs.counts
        state = "closed" if self._background.ended else f"{waiting} jobs wait, {running} run"
        return f"<discoro Executor: {state}>"

    def _view(self) -> View:
        if self._background.ended:
            return self._jobs.closed_view("discoro Executor")
        waiting, running = self._jobs.counts
        ended = self._jobs.ended
        rows = {
            "servers": self.count_servers(),
            "waiting jobs": waiting,
            "running jobs": running,
        }
        total = ended + running + waiting
        return View("discoro Executor", rows, final=False, done=ended, total=total, failed=self._jobs.failed)


def _finish(background: Background, jobs: Jobs) -> None:
    """End an executor when the program ends."""
    interrupted = getattr(sys, "last_type", None) is KeyboardInterrupt
    jobs.shut_down(cancel_pending=interrupted, cancel_running=interrupted)
    background.join()


def _values(
    futures: deque[Future[Any]],
    more: Iterator[tuple[Any, ...]],
    submit: Callable[[tuple[Any, ...]], Future[Any] | None],
    end: float | None,
) -> Iterator[Any]:
    try:
        while futures:
            future = futures[0]
            values = future.result(None if end is None else max(0.0, end - time.monotonic()))[::-1]
            futures.popleft()
            del future
            for chunk in islice(more, 1):
                following = submit(chunk)
                if following is not None:
                    futures.append(following)
            while values:
                yield values.pop()  # no reference is kept
    finally:
        for future in futures:
            future.cancel()
