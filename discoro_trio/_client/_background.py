"""A Trio loop in a thread of its own, with a computation that is scheduled there, for callers that are not async.

This module owns the thread: its start, calls into the loop from other threads, and its end, also when the program ends
without closing it. `_executor` and `_connect` run the callers' jobs.
"""

from __future__ import annotations

import contextvars
import difflib
import os
import threading
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, cast

import trio

from .._cluster import check_launcher, open_cluster, open_scheduler
from .._errors import ComputationClosed
from .._process import open_endpoint
from ._computation import Computation

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
    from contextlib import AbstractAsyncContextManager

    from .._cluster import Launcher
    from .._link import Ports
    from .._status import NodeAllocation
    from .._values import Location
    from ._session import Session

R = TypeVar("R")

_CLOSED = "the cluster of this object is closed; it runs nothing more"

_COMPUTATION_OPTIONS = frozenset(
    {
        "timeout",
        "pulse_interval",
        "zombie_period",
        "grace_period",
        "node_setup",
        "server_setup",
        "node_allocations",
        "cleanup",
        "forward_output",
        "threads",
        "automatic",
        "name",
    }
)
"""Options of the computation; all others, and `pulse_interval`, are options of the cluster."""


_SERVERS = "servers= sets the number of servers"
_FRESH = "leave it out: the server processes are new for each executor"
_OPTIONS_ELSEWHERE = {
    **dict.fromkeys(("max_workers", "n_workers", "n_jobs", "num_cpus"), _SERVERS),
    **dict.fromkeys(("mp_context", "max_tasks_per_child"), _FRESH),
}
"""Options of other executors, and what to write here."""


class BackgroundOptions(TypedDict, total=False):
    """Options of `open_cluster` or `open_endpoint`, and of `Computation`."""

    nodes: Iterable[str | Location]
    discover: bool
    dest_path: str | os.PathLike[str] | None
    max_file_size: int | None
    ip_addr: str
    ext_ip_addr: str | None
    tcp_ports: Ports
    udp_port: int
    secret: str | bytes | None
    secret_file: str | os.PathLike[str] | None
    certfile: str | os.PathLike[str] | None
    keyfile: str | os.PathLike[str] | None
    cafile: str | os.PathLike[str] | None
    timeout: float | None
    pulse_interval: float | None
    zombie_period: float | None
    grace_period: float
    node_setup: Callable[[], object] | None
    server_setup: Callable[[], object] | None
    node_allocations: Iterable[NodeAllocation]
    cleanup: bool
    forward_output: bool
    threads: int
    automatic: bool
    name: str | None


class Background:
    """A thread that runs a Trio loop with a computation, until it is closed.

    Args:
        scheduler: A shared scheduler's address; None for a cluster of its own.
        servers: How many servers the cluster gets, or how many to wait for at the scheduler.
        launch: Starts the nodes, as for `open_scheduler`.
        components: The components of the computation.
        options: Options of the cluster and of the computation.

    Attributes:
        computation: The computation. Call its methods in the loop's thread.
        session: The computation's state. Use it in the loop's thread.
        nursery: Runs tasks in the loop; they are cancelled when the loop ends.
        lost: Why the loop ended, if it was not closed.
        at_exit: Called when the program ends before the loop; must end the loop.
    """

    def __init__(
        self,
        scheduler: Location | str | None,
        servers: int | None,
        launch: Launcher | None,
        components: Iterable[object],
        options: BackgroundOptions,
    ) -> None:
        check_launcher(launch)
        if scheduler is not None and launch is not None:
            message = "scheduler= and launch= exclude each other: a shared scheduler has nodes already"
            raise TypeError(message)
        place: object = scheduler  # untyped code has the number of workers there
        if isinstance(place, int):
            message = f"scheduler must be an address, not {place}; {_SERVERS}"
            raise TypeError(message)
        given = cast("dict[str, Any]", dict(options))
        for name in given.keys() - BackgroundOptions.__optional_keys__:
            raise TypeError(_unknown_option(name))
        own = {key: value for key, value in given.items() if key in _COMPUTATION_OPTIONS}
        others = {key: value for key, value in given.items() if key not in _COMPUTATION_OPTIONS}
        # Checked here, so that the traceback of a wrong option points to the caller's line.
        self.computation: Computation = Computation(components, **own)
        self.session: Session
        self.nursery: trio.Nursery
        self.lost: BaseException | None = None
        self.at_exit: Callable[[], None] = self.close
        self._cancelled = False
        self._scheduler = scheduler
        self._servers = servers
        self._launch = launch
        self._options = others
        self._token: trio.lowlevel.TrioToken
        self._ready: Future[None] = Future()
        self._stop: trio.Event
        self._task: Callable[[], Awaitable[object]] = trio.sleep_forever
        self._thread = threading.Thread(
            target=contextvars.Context().run, args=(self._run,), name="discoro loop", daemon=True
        )

    # --- called from other threads

    def start(self, task: Callable[[], Awaitable[object]]) -> None:
        """Start the thread and wait until the computation is scheduled.

        Args:
            task: Runs in the loop until the loop ends.

        Raises:
            Exception: Opening the cluster or scheduling failed; the thread has ended.
        """
        self._task = task
        _running.add(self)
        self._thread.start()
        try:
            self._ready.result()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Cancel everything that runs, close the computation and the cluster, and wait for the end of the thread."""
        self.cancel()
        self.join()

    def cancel(self) -> None:
        """Request the end of the loop, which cancels everything in it. Does nothing if the loop has ended."""
        self._cancelled = True
        self.soon(self._cancel)

    def join(self) -> None:
        """Wait for the end of the thread; does nothing in that thread itself."""
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join()

    @property
    def ended(self) -> bool:
        """Whether the loop has ended or was never started."""
        return not self._thread.is_alive()

    def soon(self, call: Callable[[], None]) -> bool:
        """Call a function in the loop; return whether the loop still runs."""
        try:
            self._token.run_sync_soon(call, idempotent=True)
        except (trio.RunFinishedError, AttributeError):
            return False
        return True

    def call(self, fn: Callable[..., Awaitable[R]], *args: Any, **kwargs: Any) -> R:
        """Run an async function in the loop and return its value.

        Raises:
            Exception: What it raises.
            ComputationClosed: The loop has ended.
            RuntimeError: The caller is the loop itself.

        KeyboardInterrupt in the calling thread cancels it and waits for its clean-up.
        """
        if threading.current_thread() is self._thread:
            message = "this call blocks; in the client's own loop use the computation's async methods"
            raise RuntimeError(message)
        done: Future[R] = Future()
        scope = trio.CancelScope()

        async def run() -> None:
            try:
                with scope:
                    done.set_result(await fn(*args, **kwargs))
                if not done.done():
                    done.set_exception(ComputationClosed(_CLOSED))
            except Exception as error:  # noqa: BLE001 - the caller gets it
                trace = error.__traceback__  # this frame tells users nothing
                done.set_exception(error.with_traceback(trace and trace.tb_next))
            except BaseException:
                done.set_exception(ComputationClosed(_CLOSED))
                raise

        def begin() -> None:
            if self._stop.is_set():
                done.set_exception(ComputationClosed(_CLOSED))
            else:
                # With the context variables of the cluster's blocks, by which handles and names find it.
                self._context.run(self.nursery.start_soon, run)

        if not self.soon(begin):
            raise ComputationClosed(_CLOSED) from self.lost
        try:
            error = done.exception()
        except BaseException:
            if not done.done() and self.soon(scope.cancel):
                done.exception()
            raise
        try:
            if error is not None:
                raise error  # not by `result`, whose frames would be shown
        finally:
            del error  # its traceback holds this frame
        return done.result()

    # --- in the loop's thread

    def _run(self) -> None:
        try:
            trio.run(self._main)
        except BaseException as error:  # noqa: BLE001 - the callers get it
            self.lost = error
            if not self._ready.done():
                self._ready.set_exception(error)
        finally:
            _running.discard(self)
            if not self._ready.done():
                self._ready.set_exception(ComputationClosed(_CLOSED))

    async def _main(self) -> None:
        self._scope = trio.CancelScope()
        self._stop = trio.Event()
        self._token = trio.lowlevel.current_trio_token()
        if self._cancelled:
            self._scope.cancel()
        with self._scope:
            async with self._opened():
                # From here on only this inner scope is cancelled, so that the blocks around it close in order.
                self._scope = trio.CancelScope()
                with self._scope:
                    await self._serve()

    async def _serve(self) -> None:
        self._context = contextvars.copy_context()
        try:
            async with trio.open_nursery() as nursery:
                self.nursery = nursery
                nursery.start_soon(self._task)
                self._ready.set_result(None)
                if self._cancelled:
                    self._scope.cancel()
                await trio.sleep_forever()
        finally:
            self._stop.set()

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[None]:
        where: Location | str | None = self._scheduler
        block: AbstractAsyncContextManager[object]
        if where is not None:
            block = open_endpoint(**{"ip_addr": ""} | self._options)
        elif self._launch is not None:
            block = open_scheduler(**self._options | {"launch": self._launch})
        else:
            block = open_cluster(self._servers, **self._options)
        async with block, self.computation.schedule(where):
            self.session = self.computation._running()  # noqa: SLF001 - the session is shared inside of the package
            wanted = self._servers or 0 if where is not None or self._launch is not None else 0
            while len(self.session.servers) < wanted:
                await self.session.until_changed()
            yield

    def _cancel(self) -> None:
        self._scope.cancel()


_running: set[Background] = set()
"""All instances whose threads run."""


def _unknown_option(name: str) -> str:
    """Return the error text for an option that does not exist."""
    advice = _OPTIONS_ELSEWHERE.get(name)
    if advice is None:
        similar = difflib.get_close_matches(
            name, {"servers", "launch", "components", *BackgroundOptions.__optional_keys__}, 1
        )
        advice = f"did you mean {similar[0]}?" if similar else "options are those of open_cluster and Computation"
    return f"there is no option {name}; {advice}"


def _close_all() -> None:
    for background in list(_running):
        background.at_exit()


# As concurrent.futures does: before `atexit`, whose functions remove the folders that the cluster still uses.
threading._register_atexit(_close_all)  # type: ignore[attr-defined] # noqa: SLF001
# A forked child has none of the threads.
os.register_at_fork(after_in_child=_running.clear)
