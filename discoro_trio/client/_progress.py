"""A progress bar on a terminal, and nothing elsewhere.

rich is imported when there is a bar to show. It draws when it is told to: there is no thread that would outlive
anything.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

    from rich.progress import Progress, TaskID

_INTERVAL = 0.1
"""Seconds between two drawings."""


class Bar:
    """Shows how many items are done.

    Args:
        name: What is done, for people.
        total: How many items there are; None if that is not known.
        wanted: Whether a bar is wanted at all.
    """

    def __init__(self, name: str, total: int | None, *, wanted: bool) -> None:
        self._name = name
        self._total = total
        self._shown = wanted and sys.stderr.isatty()
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._drawn = 0.0

    def __enter__(self) -> Self:
        """Show it."""
        if self._shown:
            from rich.console import Console  # noqa: PLC0415 - see above
            from rich.progress import Progress  # noqa: PLC0415

            self._progress = Progress(
                console=Console(stderr=True), auto_refresh=False, redirect_stdout=False, redirect_stderr=False
            )
            self._task = self._progress.add_task(self._name, total=self._total)
            self._progress.start()
        return self

    def advance(self, count: int) -> None:
        """Note that so many more items are done."""
        if self._progress is None or self._task is None:
            return
        self._progress.advance(self._task, count)
        now = time.monotonic()
        if now - self._drawn >= _INTERVAL:
            self._drawn = now
            self._progress.refresh()

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        """Draw it a last time."""
        if self._progress is not None:
            self._progress.stop()
