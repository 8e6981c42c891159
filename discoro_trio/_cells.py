"""Cells of IPython and Jupyter that await: one Trio task runs them all, so a block may stay open from cell to cell.

IPython gives each such cell a Trio loop of its own, which ends with the cell, or runs it in asyncio. This module
replaces the loop of `%autoawait trio`, and moves a cell from asyncio to Trio when it opens a block of this package. The
task runs in a thread of its own, so connections stay alive while no cell runs.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import sys
import threading
import types
import weakref
from collections import deque
from concurrent.futures import Future, wait
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Generator

_STAYS_OPEN = "discoro: a block stays open, so cells that await run in Trio from now on, as after %autoawait trio"

_INTERRUPT_DELAY = 0.2
"""Seconds after which Ctrl-C is noticed, at most."""


class _RunningCell:
    """The coroutine of one cell, which runs in the Trio task from its start or from a step on.

    Args:
        cells: The owner of the Trio task.
        coroutine: Runs the cell; it belongs to IPython's shell.
    """

    def __init__(self, cells: Cells, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._cells = cells
        self._coroutine = coroutine
        self._context = contextvars.copy_context()
        self._task: trio.lowlevel.Task | None = None
        self._interrupted = False
        self.ended: Future[Any] = Future()

    async def run(self) -> None:
        """Run the cell, or the rest of it, in the calling Trio task."""
        self._task = trio.lowlevel.current_task()
        # By these IPython finds the cell that output belongs to.
        for variable, value in self._context.items():
            if not variable.name.startswith("sniffio"):
                variable.set(value)
        before = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(firstiter=self._cells.noting(before.firstiter))
        try:
            self.ended.set_result(await self._steps())
        except BaseException as error:  # noqa: BLE001 - IPython's thread raises it
            self.ended.set_exception(error)
        finally:
            sys.set_asyncgen_hooks(firstiter=before.firstiter)

    @types.coroutine
    def _steps(self) -> Generator[Any, Any, Any]:
        step: Callable[[], Any] = functools.partial(self._coroutine.send, None)
        while True:
            try:
                trap = step()
            except StopIteration as stop:
                return stop.value
            try:
                step = functools.partial(self._coroutine.send, (yield trap))
            except BaseException as error:  # noqa: BLE001 - the cell gets it
                step = functools.partial(self._coroutine.throw, error)
            else:
                if self._interrupted:
                    self._interrupted = False
                    step = functools.partial(self._coroutine.throw, KeyboardInterrupt())

    def interrupt(self) -> None:
        """Raise KeyboardInterrupt in the cell where it waits, as Trio does in its main task; call in Trio's loop."""
        if self._task is None or self.ended.done():
            return
        self._interrupted = True
        if getattr(self._task, "_abort_func", None) is not None:
            self._task._attempt_abort(self._raise_interrupt)  # noqa: SLF001 - Trio has no public call for it

    def _raise_interrupt(self) -> NoReturn:
        self._interrupted = False
        raise KeyboardInterrupt


class _Elsewhere:
    """What the asyncio task of a cell waits for while its coroutine runs in Trio: it never resumes the task.

    IPython cancels the task on Ctrl-C, and asyncio then this.
    """

    _asyncio_future_blocking = True

    def __init__(self, cells: Cells) -> None:
        self._loop = asyncio.get_running_loop()
        self._cells = cells
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - see Cells.runs_here
        self._task: asyncio.Task[Any] = task
        coroutine: Any = task.get_coro()
        self._cell = _RunningCell(cells, coroutine)
        self._cell.ended.add_done_callback(lambda _: self._loop.call_soon_threadsafe(self._finish))

    def start(self) -> None:
        """Run the rest of the cell in Trio."""
        self._cells.start(self._cell)
        self._watch()

    def _watch(self) -> None:
        # ipykernel reports Ctrl-C from another thread and does not wake this loop, which would otherwise sleep.
        if not self._cell.ended.done():
            self._loop.call_later(_INTERRUPT_DELAY, self._watch)

    def _finish(self) -> None:
        self._cells.keep_if_open()
        error = self._cell.ended.exception()
        # A task's own `set_result` refuses, because only the end of its coroutine may set it; that is the case here.
        if error is None:
            asyncio.Future.set_result(self._task, self._cell.ended.result())
        else:
            asyncio.Future.set_exception(self._task, error)

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the task's loop."""
        return self._loop

    def add_done_callback(self, _call: object, *, context: object = None) -> None:
        """Do nothing."""

    def cancel(self, msg: object = None) -> bool:  # noqa: ARG002 - asyncio's name
        """Interrupt the cell."""
        self._cells.interrupt(self._cell)
        return True


class Cells:
    """Runs cells, one after the other, in one task of a Trio loop in a thread.

    Args:
        shell: IPython's shell.
    """

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._token: trio.lowlevel.TrioToken
        self._ready = threading.Event()
        self._waiting: deque[_RunningCell | None] = deque()
        self._came: trio.Event
        self._open: list[weakref.ref[AsyncGenerator[Any, Any]]] = []

    def __call__(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a cell as IPython's `loop_runner`; Ctrl-C raises KeyboardInterrupt in the cell."""
        cell = _RunningCell(self, coroutine)
        self.start(cell)
        while not cell.ended.done():
            try:
                wait([cell.ended])
            except KeyboardInterrupt:
                self.interrupt(cell)
        return cell.ended.result()

    def __str__(self) -> str:
        """Return the name that `%autoawait` shows."""
        return "trio"

    @property
    def runs_here(self) -> bool:
        """Whether the caller is a cell that IPython runs in asyncio."""
        try:
            task = asyncio.current_task()
        except RuntimeError:
            return False
        code = type(self._shell).run_cell_async.__code__
        return task is not None and getattr(task.get_coro(), "cr_code", None) is code

    def noting(self, then: Callable[[AsyncGenerator[Any, Any]], None] | None) -> Callable[..., None]:
        """Return a hook that notes an async generator of a cell at its first step: open blocks are such."""

        def first(generator: AsyncGenerator[Any, Any]) -> None:
            if trio.lowlevel.in_trio_run() or self.runs_here:
                self._open.append(weakref.ref(generator))
            if then is not None:
                then(generator)

        return first

    def start(self, cell: _RunningCell) -> None:
        """Run a cell in the Trio task; return at once."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="discoro cells", daemon=True)
                self._thread.start()
                self._ready.wait()
        self._waiting.append(cell)
        self._token.run_sync_soon(self._wake)

    def interrupt(self, cell: _RunningCell) -> None:
        """Raise KeyboardInterrupt in a cell."""
        self._token.run_sync_soon(cell.interrupt)

    def keep_if_open(self) -> None:
        """If a cell left a block open, run the following cells in Trio, too."""
        if self._open_blocks() and self._shell.loop_runner is not self:
            print(_STAYS_OPEN, file=sys.stderr)  # noqa: T201 - for the reader of the cell
            self._shell.loop_runner = self

    def close(self) -> None:
        """Close the blocks that are open, the last one first, and end the thread."""
        if self._thread is not None:
            self._waiting.append(None)
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._wake)
            self._thread.join()

    # --- in the thread

    def _run(self) -> None:
        trio.run(self._serve)

    async def _serve(self) -> None:
        self._came = trio.Event()
        self._token = trio.lowlevel.current_trio_token()
        self._ready.set()
        while True:
            while not self._waiting:
                self._came = trio.Event()
                with trio.CancelScope(shield=True):  # the failure of a block that stays open may cancel this task
                    await self._came.wait()
            cell = self._waiting.popleft()
            if cell is None:
                break
            await cell.run()
        for block in reversed(self._open_blocks()):
            with suppress(Exception, trio.Cancelled):
                await block.aclose()

    def _wake(self) -> None:
        self._came.set()

    def _open_blocks(self) -> list[AsyncGenerator[Any, Any]]:
        found = [generator for one in self._open if (generator := one()) is not None]
        still = [generator for generator in found if getattr(generator, "ag_frame", None) is not None]
        self._open = [weakref.ref(generator) for generator in still]
        return still


_installed: Cells | None = None


def install() -> None:
    """Run cells of this IPython session in Trio if they open a block, or after `%autoawait trio`."""
    global _installed  # noqa: PLW0603 - a process has one shell
    module = sys.modules.get("IPython.core.getipython")
    shell: Any = module.get_ipython() if module is not None else None
    if shell is None or _installed is not None or not hasattr(shell, "loop_runner_map"):
        return
    cells = _installed = Cells(shell)
    before, _ = shell.loop_runner_map["trio"]
    shell.loop_runner_map["trio"] = cells, True
    if shell.loop_runner is before:
        shell.loop_runner = cells
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(firstiter=cells.noting(hooks.firstiter))
    # As concurrent.futures does: before `atexit`, whose functions remove the folders that a cluster still uses.
    threading._register_atexit(cells.close)  # type: ignore[attr-defined] # noqa: SLF001


async def move_to_trio() -> bool:
    """Continue the cell in Trio if the caller is a cell in asyncio; return whether the caller is in Trio then."""
    if _installed is None or not _installed.runs_here:
        return False
    await _moved(_Elsewhere(_installed))
    return True


@types.coroutine
def _moved(elsewhere: _Elsewhere) -> Generator[object, None, None]:
    # The coroutine is suspended here when the Trio task takes it: started only after the yield is processed.
    asyncio.get_running_loop().call_soon(elsewhere.start)
    yield elsewhere
