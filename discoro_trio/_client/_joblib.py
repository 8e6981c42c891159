"""The joblib backend "discoro": batches of a `joblib.Parallel` run on the servers of an `Executor`.

This module owns the translation. The executor belongs to the backend object, which lives as long as its
`parallel_config`: several calls of `Parallel` there use the same servers.
"""

from __future__ import annotations

import contextlib
import copy
import weakref
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from joblib._parallel_backends import AutoBatchingMixin, ParallelBackendBase
from joblib.parallel import register_parallel_backend

from .._cluster._processors import processors
from .._errors import DiscoroError
from .._process.execution._chunks import SharedArgument, run_batch
from ._executor import Executor

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._process import Shared
    from ._executor import Future

_LARGE = 1 << 20
"""Size in bytes from which an array is shared; joblib's own backends map such arrays from a file."""

_NO_JOBS = "n_jobs == 0 in Parallel has no meaning"


def register() -> None:
    """Register the backend with joblib."""
    register_parallel_backend("discoro", DiscoroBackend)


class DiscoroBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc] # joblib has no types
    """Runs the batches of `joblib.Parallel` at servers.

    Args:
        nesting_level: How many backends enclose it; joblib sets it.
        options: The options of `Executor`.
    """

    default_n_jobs = -1
    supports_retrieve_callback = True
    uses_threads = False
    supports_sharedmem = False

    def __init__(self, nesting_level: int | None = None, **options: Any) -> None:
        super().__init__(nesting_level=nesting_level)
        options.pop("inner_max_num_threads", None)
        self._options = options
        self._executor: Executor | None = None
        self._callbacks: ThreadPoolExecutor | None = None
        self._shared: dict[int, tuple[Any, Shared[Any]]] = {}
        self._futures: weakref.WeakSet[Future[Any]] = weakref.WeakSet()

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return the number of batches that run at once.

        At least 2 if all servers are requested: with 1, joblib runs everything in this process.
        """
        if n_jobs == 0:
            raise ValueError(_NO_JOBS)
        if n_jobs is not None and n_jobs > 0:
            return n_jobs
        servers = self._opened().count_servers() or self._options.get("servers") or processors()
        return max(servers + 1 + (-1 if n_jobs is None else n_jobs), 2)

    def configure(self, n_jobs: int = 1, parallel: Any = None, **_options: Any) -> int:
        """Open the executor, unless it is open, and return the number of batches that run at once."""
        self.parallel = parallel
        self._opened()
        if self._callbacks is None:
            # joblib reads the user's input in callbacks, which must not block the executor's loop.
            self._callbacks = ThreadPoolExecutor(1, "discoro joblib")
        return self.effective_n_jobs(n_jobs)

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], None] | None = None) -> Future[Any]:
        """Start a batch."""
        batch = self._with_shared(func)
        future = self._opened().submit(partial(run_batch, batch.items[0][0]), batch)
        self._futures.add(future)
        if callback is not None:
            future.add_done_callback(_once_in(self._callbacks, callback))
        return future

    def stop_call(self) -> None:
        """Free the large arguments of a call of `Parallel`."""
        shared, self._shared = self._shared, {}
        executor = self._executor
        if executor is not None:
            for _, handle in shared.values():
                with contextlib.suppress(DiscoroError):
                    executor.release(handle)

    def _with_shared(self, batch: Any) -> Any:
        """Return a batch in which large arrays are shared with the servers, each once in a call of `Parallel`."""
        items = []
        for function, args, kwargs in batch.items:
            named = {key: self._argument(value) for key, value in kwargs.items()}
            items.append((function, tuple(map(self._argument, args)), named))
        batch = copy.copy(batch)
        batch.items = items
        return batch

    def _argument(self, value: Any) -> Any:
        # numpy is not imported for programs without arrays.
        if type(value).__module__ != "numpy" or getattr(value, "nbytes", 0) < _LARGE or value.dtype.hasobject:
            return value
        if id(value) not in self._shared:
            self._shared[id(value)] = value, self._opened().share(value)
        return SharedArgument(self._shared[id(value)][1])

    def retrieve_result_callback(self, out: Any) -> Any:
        """Return the results of a batch, or raise its error."""
        return out.result()

    def terminate(self) -> None:
        """End a call of `Parallel`; the servers stay for the next one."""
        callbacks, self._callbacks = self._callbacks, None
        if callbacks is not None:
            callbacks.shutdown(wait=False)
        self.reset_batch_stats()
        self.parallel = None  # a reference cycle would keep the servers until the garbage collector runs

    def abort_everything(self, ensure_ready: bool = True) -> None:  # noqa: FBT001, FBT002 - the interface
        """Cancel all batches."""
        for future in list(self._futures):
            future.cancel()
        if not ensure_ready:
            self.terminate()

    def _opened(self) -> Executor:
        if self._executor is None:
            self._executor = Executor(**self._options)
        return self._executor


def _once_in(pool: ThreadPoolExecutor | None, callback: Callable[[Any], None]) -> Callable[[Any], None]:
    """Make a function that calls another one in a thread, once, and keeps no reference to it."""
    callbacks = [callback]

    def done(future: Any) -> None:
        call = callbacks.pop()
        # After `terminate` the pool is closed, and joblib ignores later results.
        with contextlib.suppress(RuntimeError):
            if pool is not None:
                pool.submit(call, future)

    return done
