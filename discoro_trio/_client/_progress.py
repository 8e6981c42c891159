"""The progress of a map: a bar on a terminal, a line in a notebook's cell, otherwise a line at intervals.

rich and IPython are imported on first use. Progress is drawn when an item ends, so no thread is needed.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

_INTERVAL = 0.1
"""Seconds between two drawings."""

_LOG_INTERVAL = 10.0
"""Seconds between two lines without a terminal or a notebook."""


class ProgressCounts:
    """How many items are done, how many failed, and the rate per second.

    Args:
        name: What is done, for people.
        total: How many items there are; None if that is not known.
        started: The time of the start.
    """

    def __init__(self, name: str, total: int | None, started: float) -> None:
        self.name = name
        self.total = total
        self.done = 0
        self.failed = 0
        self._started = started

    def text(self, now: float) -> str:
        """Return the numbers on one line."""
        of = f"/{self.total} ({100 * self.done // self.total}%)" if self.total else ""
        passed = now - self._started
        rate = self.done / passed if passed > 0 else 0.0
        left = ""
        if self.total and rate and self.done < self.total:
            left = f", {(self.total - self.done) / rate:.0f} s left"
        return f"{self.name}: {self.done}{of} done, {self.failed} failed, {rate:.1f}/s{left}"


class Bar:
    """Shows how many items are done.

    Args:
        name: What is done, for people.
        total: How many items there are; None if that is not known.
        wanted: Whether to show anything.
    """

    def __init__(self, name: str, total: int | None, *, wanted: bool) -> None:
        self._wanted = wanted
        self._counts = ProgressCounts(name, total, time.monotonic())
        self._draw: Callable[[ProgressCounts, float, bool], None] | None = None
        self._interval = _INTERVAL
        self._drawn = 0.0

    def __enter__(self) -> Self:
        """Show it."""
        if self._wanted:
            self._drawn = time.monotonic()
            if in_notebook():
                self._draw = _cell_line()
            elif sys.stderr.isatty():
                self._draw = _terminal.add(self._counts)
            else:
                self._draw = _log_line
                self._interval = _LOG_INTERVAL
        return self

    def advance(self, count: int, failed: int = 0) -> None:
        """Add items that are done, and how many of them failed."""
        if self._draw is None:
            return
        self._counts.done += count
        self._counts.failed += failed
        now = time.monotonic()
        if now - self._drawn >= self._interval:
            self._drawn = now
            self._draw(self._counts, now, False)  # noqa: FBT003 - see its type

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        """Draw it a last time."""
        if self._draw is not None:
            self._draw(self._counts, time.monotonic(), True)  # noqa: FBT003 - see its type


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook."""
    shell = sys.modules.get("IPython.core.getipython")
    found: Any = shell.get_ipython() if shell is not None else None
    return found is not None and hasattr(found, "kernel")


class _Terminal:
    """The terminal while bars are drawn: all bars and all output share one console, so nothing is torn.

    Output that goes to the terminal is written above the bars: `sys.stdout` if it is the terminal, `sys.stderr`, and
    the log handlers that write there.
    """

    def __init__(self) -> None:
        self._bars: set[object] = set()
        self._progress: Any = None
        self._handlers: list[tuple[logging.StreamHandler[Any], Any]] = []

    def add(self, counts: ProgressCounts) -> Callable[[ProgressCounts, float, bool], None]:
        """Draw a bar, and return the function that draws it anew."""
        if not self._bars:
            self._begin()
        task = self._progress.add_task(counts.text(0), total=counts.total)
        self._bars.add(task)

        def draw(counts: ProgressCounts, now: float, last: bool) -> None:  # noqa: FBT001 - see Bar
            self._progress.update(task, completed=counts.done, description=counts.text(now))
            self._progress.refresh()
            if last:
                self._remove(task)

        return draw

    def _remove(self, task: object) -> None:
        self._bars.discard(task)
        if not self._bars:
            self._end()

    def _begin(self) -> None:
        from rich.console import Console  # noqa: PLC0415 - see above
        from rich.progress import BarColumn, Progress, TextColumn  # noqa: PLC0415 - see above

        written = sys.stdout, sys.stderr
        self._progress = Progress(
            BarColumn(),
            TextColumn("{task.description}", markup=False),
            console=Console(stderr=True, soft_wrap=True),
            auto_refresh=False,
            redirect_stdout=sys.stdout.isatty(),
        )
        self._progress.start()
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream in written:
                self._handlers.append((handler, handler.stream))
                handler.setStream(sys.stdout if handler.stream is written[0] else sys.stderr)

    def _end(self) -> None:
        for handler, stream in self._handlers:
            handler.setStream(stream)
        self._handlers.clear()
        self._progress.stop()


_terminal = _Terminal()


def _cell_line() -> Callable[[ProgressCounts, float, bool], None]:
    from IPython import display as shown  # noqa: PLC0415 - see above

    ipython: Any = shown  # without types
    handle: Any = None

    def draw(counts: ProgressCounts, now: float, _last: bool) -> None:  # noqa: FBT001 - see Bar
        nonlocal handle
        line = ipython.Pretty(counts.text(now))
        if handle is None:
            handle = ipython.display(line, display_id=True)
        else:
            handle.update(line)

    return draw


def _log_line(counts: ProgressCounts, now: float, _last: bool) -> None:  # noqa: FBT001 - see Bar
    print(counts.text(now), file=sys.stderr, flush=True)  # noqa: T201 - printing is the purpose
