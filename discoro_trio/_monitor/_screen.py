"""The screen and the keys of `discoro top`, without I/O. `_top` owns the connection and the terminal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import attrs
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from .._shown import one_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import RenderableType

    from ._received_view import ReceivedView

AROUND = 8
"""Lines of the screen besides rows: title, sums, the verdict, the table's head with its edges, the keys."""
_MANY = 100_000
"""From this count on, thousands or millions are shown."""
_MILLION = 1_000_000
_NONE = "\u2013"
"""A dash, for unknown values."""
VIEWS = ("cluster", "coroutines", "failures", "computations", "output")
_LEVELS = {"good": "green", "warn": "yellow", "bad": "red"}
_STYLES = {
    "ready": "green",
    "running": "green",
    "failed": "red",
    "lost": "red",
    "disconnected": "red",
    "unresponsive": "red",
    "blocked": "red",
    "held up": "yellow",
    "suspended": "yellow",
}


@attrs.frozen
class Column:
    """A column of a table on the terminal."""

    name: str
    """The name of the monitor's column, for sorting."""
    title: str
    show: Callable[[Any, ReceivedView], str] = lambda value, _: "" if value is None else str(value)
    right: bool = False
    wide: bool = False
    """Whether the column gets the remaining width."""


def _count(value: Any, _: ReceivedView) -> str:
    return _NONE if value is None else f"{value:,}"


def _short(value: Any, seen: ReceivedView) -> str:
    """Return a count in at most six characters."""
    if value is None or value < _MANY:
        return _count(value, seen)
    return f"{value / 1e3:.4g}k" if value < _MILLION else f"{value / _MILLION:.4g}M"


def _percent(value: Any, _: ReceivedView) -> str:
    return _NONE if value is None else f"{value:.0f} %"


def _age(value: Any, seen: ReceivedView) -> str:
    return _NONE if value is None else duration(max(0.0, seen.now - value))


def _clock(value: Any, _: ReceivedView) -> str:
    return time.strftime("%H:%M:%S", time.localtime(value))


def _progress(value: Any, _: ReceivedView) -> str:
    if not value:
        return ""
    done, of, _text = value
    return f"{100 * done / of:.0f} %" if of else f"{done:g}"


COLUMNS: dict[str, tuple[Column, ...]] = {
    "cluster": (
        Column("addr", "address", wide=True),
        Column("state", "state"),
        Column("servers", "srv", _count, right=True),
        Column("submitted", "submit", _short, right=True),
        Column("done", "done", _short, right=True),
        Column("failed", "fail", _short, right=True),
        Column("running", "run", _short, right=True),
        Column("cpu", "cpu", _percent, right=True),
        Column("memory", "mem", _percent, right=True),
        Column("disk", "disk", _percent, right=True),
    ),
    "coroutines": (
        Column("name", "name", wide=True),
        Column("server", "server"),
        Column("start", "age", _age, right=True),
        Column("progress", "done", _progress, right=True),
        Column("state", "state"),
    ),
    "failures": (
        Column("count", "count", _short, right=True),
        Column("name", "function"),
        Column("at", "last", _clock),
        Column("error", "error", wide=True),
    ),
    "computations": (
        Column("name", "name", wide=True),
        Column("owner", "owner"),
        Column("state", "state"),
        Column("lease", "srv", _count, right=True),
        Column("done", "done", _short, right=True),
        Column("failed", "fail", _short, right=True),
        Column("running", "run", _short, right=True),
        Column("place", "queue", right=True),
        Column("begin", "age", _age, right=True),
    ),
    "output": (
        Column("time", "time", _clock),
        Column("server", "server"),
        Column("level", "level"),
        Column("text", "text", wide=True),
    ),
}


@attrs.define
class Screen:
    """The view that the user has chosen."""

    view: str = "cluster"
    sort: str = ""
    """A column; empty for the table's own order."""
    descending: bool = False
    page: int = 1
    rows: int = 16

    def query(self) -> dict[str, object]:
        """Return the query for the monitor."""
        query: dict[str, object] = {
            "view": self.view,
            "page": self.page,
            "size": max(1, min(500, self.rows)),
            "every": 0.5,
        }
        if self.sort:
            query["sort"] = ("-" if self.descending else "") + self.sort
        return query

    def press(self, key: str, total: int) -> bool:
        """Carry out a key's command; False to quit.

        Args:
            key: A character, or `up`, `down`, `left`, `right`.
            total: The rows on all pages.
        """
        pages = max(1, -(-total // self.rows))
        if key in {"q", "\x03"}:
            return False
        if key == "\t" or key in "12345":
            self.view = VIEWS[(VIEWS.index(self.view) + 1) % len(VIEWS)] if key == "\t" else VIEWS[int(key) - 1]
            self.sort, self.descending, self.page = "", False, 1
        elif key in {"left", "right"}:
            self._sort_by(1 if key == "right" else -1)
        elif key == "r":
            self.descending = not self.descending
        elif key in {"down", " "}:
            self.page = min(pages, self.page + 1)
        elif key == "up":
            self.page = max(1, self.page - 1)
        return True

    def _sort_by(self, step: int) -> None:
        names = [column.name for column in COLUMNS[self.view] if column.name != "progress"]
        at = names.index(self.sort) + step if self.sort else (0 if step > 0 else -1)
        self.sort, self.page = names[at % len(names)], 1
        # Numbers are sorted with the largest first.
        self.descending = next(column.right for column in COLUMNS[self.view] if column.name == self.sort)


def duration(seconds: float) -> str:
    """Return a span of time in at most six characters."""
    if seconds < 60:  # noqa: PLR2004 - seconds of a minute
        return f"{seconds:.1f}s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s"


def draw(screen: Screen, seen: ReceivedView, *, url: str, state: str) -> RenderableType:
    """Return the whole screen."""
    pages = max(1, -(-seen.total // screen.rows))
    summary = seen.head.get("summary") or {}
    if state == "live" and summary.get("stale"):
        state = f"{summary['stale']} s old: the scheduler does not answer"
    title = Text.assemble(
        ("discoro top ", "bold"), (f"{url}  ", "dim"), (state, "green" if state == "live" else "yellow")
    )
    keys = f"q quit  1-5 view  ←→ sort  r reverse  ↑↓ page {screen.page}/{pages}"
    foot = Text(f"{keys}  {screen.view} {seen.total:,}", style="dim", no_wrap=True)
    return Group(title, _sums(summary, seen), _verdict(seen.head.get("verdict") or {}), _table(screen, seen), foot)


def _verdict(verdict: dict[str, Any]) -> Text:
    """Return the verdict of the first page in one line, with the first problem."""
    texts = [str(verdict.get("text", "")), *(str(one["text"]) for one in verdict.get("problems") or ())]
    style = _LEVELS.get(str(verdict.get("level", "")), "")
    return Text(one_line(": ".join(texts[:2])), style=style, no_wrap=True, overflow="ellipsis")


def _sums(sums: dict[str, Any], seen: ReceivedView) -> Text:
    shown = {
        "nodes": _short(sums.get("nodes"), seen),
        "srv": _short(sums.get("servers"), seen),
        "run": _short(sums.get("running"), seen),
        "done": _short(sums.get("done"), seen),
        "fail": _short(sums.get("failed"), seen),
        "cpu": _percent(sums.get("cpu"), seen),
        "mem": _percent(sums.get("memory"), seen),
    }
    text = Text(no_wrap=True, overflow="ellipsis")
    for name, value in shown.items():
        text.append(f"{name} ", "dim").append(value, "bold").append("  ")
    text.rstrip()
    return text


def _table(screen: Screen, seen: ReceivedView) -> Table:
    table = Table(box=box.SIMPLE_HEAD, expand=True, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    for column in COLUMNS[screen.view]:
        mark = ("▼" if screen.descending else "▲") if column.name == screen.sort else ""
        justify: Any = "right" if column.right else "left"
        ratio = 1 if column.wide else None
        table.add_column(column.title + mark, justify=justify, no_wrap=True, overflow="ellipsis", ratio=ratio)
    for row in seen.rows:
        cells = []
        for column in COLUMNS[screen.view]:
            text = one_line(column.show(row.get(column.name), seen))
            # A Text has no markup: foreign names are shown as they are.
            cells.append(Text(text, style=_STYLES.get(text, "") if column.name == "state" else ""))
        table.add_row(*cells)
    return table
