"""How clusters, computations and futures are shown in a notebook: a table and a bar that follow their state.

A thread sends the changes to the notebook through its kernel, so no server is needed. The thread ends when all
displays are final.
"""

from __future__ import annotations

import threading
import weakref
from html import escape
from typing import TYPE_CHECKING, Any

from attrs import evolve, frozen

from ._progress import in_notebook

if TYPE_CHECKING:
    from collections.abc import Mapping

_INTERVAL = 0.5
"""Seconds between two updates."""

_MOST = 20
"""Displays that are updated at the same time; the oldest ones stay as they are."""

# Notebooks centre tables and align cells to the right; long values without spaces would be cut.
_TABLE = ' style="margin-left: 0"'
_NAME = ' style="text-align: left; vertical-align: top; white-space: nowrap"'
_VALUE = ' style="text-align: left; vertical-align: top; overflow-wrap: anywhere"'
_UNBROKEN = ' style="white-space: nowrap"'


@frozen
class View:
    """What a display shows at one moment."""

    title: str
    rows: Mapping[str, object]
    """The table: names and values."""
    final: bool
    """Whether nothing will change any more."""
    done: int = 0
    """Jobs that have ended; with `total`, the bar."""
    total: int = 0
    failed: int = 0
    """How many of those that have ended raised an error or were lost."""

    def html(self) -> str:
        """Return it as HTML."""
        bar = ""
        if self.total:
            failed = f", <b{_UNBROKEN}>{self.failed:,} failed</b>" if self.failed else ""
            counts = f"<span{_UNBROKEN}>{self.done:,}/{self.total:,} jobs</span>"
            bar = f'<progress max="{self.total}" value="{self.done}"></progress> {counts}{failed}'
        rows = "".join(
            f"<tr><th{_NAME}>{escape(name)}</th><td{_VALUE}>{escape(str(one))}</td></tr>"
            for name, one in self.rows.items()
        )
        table = f"<table{_TABLE}>{rows}</table>" if rows else ""
        return f"<div><b>{escape(self.title)}</b> {bar}{table}</div>"


class Displayed:
    """An object that a notebook shows by its `_view`, and updates until that is final."""

    def _view(self) -> View:
        raise NotImplementedError

    def _repr_html_(self) -> str:
        return self._view().html()

    def _ipython_display_(self) -> None:
        if not in_notebook():
            raise NotImplementedError  # IPython shows the text then
        _updates.show(self)


class _NotebookView:
    """One display in a notebook."""

    def __init__(self, subject: Displayed) -> None:
        from IPython import display as module  # noqa: PLC0415 - only in notebooks

        ipython: Any = module  # without types
        view = subject._view()  # noqa: SLF001 - of the class above
        self._subject = weakref.ref(subject)
        self._view = view
        self.final = view.final
        self._handle = ipython.display(self._bundle(subject), raw=True, display_id=True)

    def _bundle(self, subject: Displayed) -> dict[str, str]:
        return {"text/html": self._view.html(), "text/plain": repr(subject)}

    def update(self) -> None:
        """Show the present state."""
        subject = self._subject()
        if subject is None:
            self.final = True
            return
        try:
            view = subject._view()  # noqa: SLF001 - of the class above
        except RuntimeError:  # a table changed in the loop's thread meanwhile; the next update shows it
            return
        self.final = view.final
        if view.final and not view.total:  # the bar stays when the cluster is closed
            view = evolve(view, done=self._view.done, total=self._view.total, failed=self._view.failed)
        if view != self._view:
            self._view = view
            self._handle.update(self._bundle(subject), raw=True)


class _Updates:
    """Updates the displays of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._displays: list[_NotebookView] = []
        self._thread: threading.Thread | None = None

    def show(self, subject: Displayed) -> None:
        """Show an object in the running cell, and follow it."""
        display = _NotebookView(subject)
        with self._lock:
            self._displays = [*self._displays, display][-_MOST:]
            if self._thread is None and not display.final:
                self._thread = threading.Thread(target=self._run, name="discoro displays", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        pause = threading.Event()
        while True:
            pause.wait(_INTERVAL)
            for display in self._displays:
                display.update()
            with self._lock:
                self._displays = [display for display in self._displays if not display.final]
                if not self._displays:
                    self._thread = None
                    return


_updates = _Updates()
