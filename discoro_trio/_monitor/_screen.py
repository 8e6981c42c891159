"""The screen and the keys of `discoro top`, without I/O. `_top` owns the connection and the terminal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import attrs
from rich import box
from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from .._shown import one_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import RenderableType

    from ._received_view import ReceivedView

_MANY = 100_000
"""From this count on, thousands or millions are shown."""
_MILLION = 1_000_000
_NONE = "\u2013"
"""A dash, for unknown values."""
VIEWS = ("cluster", "coroutines", "failures", "computations", "output", "servers")
"""The views that keys choose, in their order."""
_BELOW = {"cluster": "node", "node": "server", "servers": "server", "server": "coroutine", "coroutines": "coroutine"}
"""The view of one row of a view."""
_ENDS = frozenset({"coroutines", "server", "coroutine"})
"""The views whose coroutines can be terminated."""
_SMALL_AROUND = 8
"""Lines besides rows on a small screen: title, sums, the verdict, the table's head with its edges, the keys."""
_TALL = 40
"""From this height on, a page has fewer rows, so that there is room for panels below the table."""
_PANEL = 14
"""Lines that a tall screen keeps for panels, with their edges."""
_SMALLEST_PANEL = 4
"""Lines of the smallest panel, with its edges."""
_WIDE = 120
"""From this width on, panels stand side by side."""
_MOST_PROBLEMS = 6
"""Lines that a tall screen keeps for problems."""
_LONGEST_NAME = 24
"""Characters of a coroutine's name in a question, which has to fit on one line."""
_SPARKS = "▁▂▃▄▅▆▇█"
_SPARK_POINTS = 12
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
    least: int = 0
    """The width of the screen from which on it is shown."""
    sorts: bool = True
    """Whether the monitor can sort by it."""
    instead: str = ""
    """The column whose value is shown if this one is empty."""


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


def _mib(value: Any, _: ReceivedView) -> str:
    return _NONE if value is None else f"{value / 2**20:,.0f} MiB"


def _spark(value: Any, _: ReceivedView) -> str:
    """Return the last points of a graph of percents."""
    points = [0.0 if one is None else min(one, 99.9) for one in (value or ())[-_SPARK_POINTS:]]
    return "".join(_SPARKS[int(one * len(_SPARKS) / 100)] for one in points)


_WORK = (
    Column("submitted", "submit", _short, right=True),
    Column("done", "done", _short, right=True),
    Column("failed", "fail", _short, right=True),
    Column("running", "run", _short, right=True),
    Column("cpu_history", "cpu, 1 min", _spark, least=140, sorts=False),
    Column("cpu", "cpu", _percent, right=True),
)
"""The columns that nodes and servers have in common."""
_SERVERS = (
    Column("location", "location", wide=True),
    Column("name", "name", least=100),
    Column("state", "state"),
    Column("pid", "pid", right=True, least=120),
    *_WORK,
    Column("memory", "mem", _mib, right=True),
)
_COROUTINES = (
    Column("name", "name", wide=True),
    Column("server", "server"),
    Column("args", "arguments", least=110, wide=True, sorts=False),
    Column("start", "age", _age, right=True),
    Column("progress", "done", _progress, right=True, sorts=False),
    Column("state", "state"),
    Column("error", "error", least=170, wide=True),
)
COLUMNS: dict[str, tuple[Column, ...]] = {
    "cluster": (
        Column("name", "node", wide=True, instead="addr"),
        Column("addr", "address", least=100),
        Column("platform", "platform", least=190),
        Column("state", "state"),
        Column("servers", "srv", _count, right=True),
        *_WORK,
        Column("memory_history", "mem, 1 min", _spark, least=160, sorts=False),
        Column("memory", "mem", _percent, right=True),
        Column("disk", "disk", _percent, right=True),
    ),
    "node": _SERVERS,
    "servers": _SERVERS,
    "coroutines": _COROUTINES,
    "server": _COROUTINES,
    "failures": (
        Column("count", "count", _short, right=True),
        Column("name", "function"),
        Column("at", "last", _clock),
        Column("kind", "type", least=120),
        Column("place", "raised at", least=150),
        Column("error", "error", wide=True),
    ),
    "computations": (
        Column("name", "name", wide=True),
        Column("owner", "owner"),
        Column("state", "state"),
        Column("lease", "srv", _count, right=True),
        Column("submitted", "submit", _short, right=True, least=110),
        Column("done", "done", _short, right=True),
        Column("failed", "fail", _short, right=True),
        Column("running", "run", _short, right=True),
        Column("place", "queue", right=True),
        Column("queued", "queued", _age, right=True, least=120),
        Column("begin", "age", _age, right=True),
        Column("why", "waits for", least=150, wide=True),
    ),
    "output": (
        Column("time", "time", _clock),
        Column("server", "server"),
        Column("level", "level"),
        Column("text", "text", wide=True),
    ),
    "coroutine": (Column("time", "time", _clock), Column("level", "level"), Column("text", "output", wide=True)),
}
_HELP = (
    ("1-6, Tab", "view: now, coroutines, failures, computations, output, servers"),
    ("↑ ↓, j k", "select a row"),
    ("space, PgDn, PgUp", "next page, previous page"),
    ("Enter", "open the row: a node, a server, a coroutine with its stack and output"),
    ("Esc, Backspace", "back"),
    ("← →, r", "sort by another column; reverse the order"),
    ("/", "filter by a text; Enter keeps it, Esc clears it"),
    ("e", "running or ended coroutines"),
    ("t", "terminate the selected coroutine, after a question"),
    ("?", "this help; any key closes it"),
    ("q", "quit"),
)


@attrs.frozen
class Place:
    """A view, and the thing that it shows."""

    view: str = "cluster"
    key: str = ""


@attrs.define
class Screen:
    """The view that the user has chosen."""

    place: Place = Place()
    sort: str = ""
    """A column; empty for the table's own order."""
    descending: bool = False
    page: int = 1
    row: int = 0
    """The selected row of the page."""
    width: int = 80
    height: int = 24
    text: str = ""
    """A text that rows must contain."""
    typing: str | None = None
    """What the user types as the next `text`; None if the user types no text."""
    ended: bool = False
    """Whether ended coroutines are listed."""
    help: bool = False
    question: dict[str, Any] | None = None
    """The coroutine that the user is asked about; None if there is no question."""
    message: str = ""
    """The result of the last action."""
    trail: list[Place] = attrs.Factory(list)
    """The places to go back to."""

    @property
    def view(self) -> str:
        """The name of the view."""
        return self.place.view

    @property
    def tall(self) -> bool:
        """Whether a page has fewer rows, so that there is room for panels."""
        return self.height >= _TALL

    @property
    def rows(self) -> int:
        """The rows of a page."""
        return max(1, min(500, self.height - _SMALL_AROUND - (_PANEL + _MOST_PROBLEMS if self.tall else 0)))

    def query(self) -> dict[str, object]:
        """Return the query for the monitor."""
        query: dict[str, object] = {"view": self.view, "page": self.page, "size": self.rows, "every": 0.5}
        if self.place.key:
            query["key"] = self.place.key
        if self.sort:
            query["sort"] = ("-" if self.descending else "") + self.sort
        if self.text:
            query["text"] = self.text
        if self.ended and self.view in {"coroutines", "server"}:
            query["state"] = "ended"
        return query

    def shown_columns(self) -> list[Column]:
        """Return the columns for which the screen is wide enough."""
        return [column for column in COLUMNS[self.view] if column.least <= self.width]

    def selected(self, seen: ReceivedView) -> dict[str, Any] | None:
        """Return the selected row; None if the page has none."""
        return seen.rows[min(self.row, len(seen.rows) - 1)] if seen.rows else None

    # --- keys

    def press(self, key: str, seen: ReceivedView) -> str:
        """Carry out a key's command.

        Args:
            key: A character, or `up`, `down`, `left`, `right`, `pageup`, `pagedown`, `enter`, `backspace`, `escape`.
            seen: What is shown.

        Returns:
            `quit`; the id of a coroutine to terminate, after `terminate `; or an empty text.
        """
        if key == "\x03":
            return "quit"
        if self.question is not None:
            return self._answer(key)
        if self.typing is not None:
            self._type(key)
        elif self.help:
            self.help = False
        elif key == "q":
            return "quit"
        else:
            self._command(key, seen)
        return ""

    def _answer(self, key: str) -> str:
        question, self.question = self.question, None
        return f"terminate {question['id']}" if question is not None and key in {"y", "Y"} else ""

    def _type(self, key: str) -> None:
        assert self.typing is not None  # noqa: S101 - the caller looked
        if key == "enter":
            self.text, self.typing, self.page, self.row = self.typing, None, 1, 0
        elif key == "escape":
            self.text, self.typing, self.page, self.row = "", None, 1, 0
        elif key == "backspace":
            self.typing = self.typing[:-1]
        elif len(key) == 1 and key.isprintable():
            self.typing += key

    def _command(self, key: str, seen: ReceivedView) -> None:
        self.message = ""
        pages = max(1, -(-seen.total // self.rows))
        if key == "\t" or key in "123456":
            at = VIEWS.index(self.view) + 1 if self.view in VIEWS else 0
            self._go(Place(VIEWS[at % len(VIEWS)] if key == "\t" else VIEWS[int(key) - 1]))
            self.trail.clear()
        elif key in {"left", "right"}:
            self._sort_by(1 if key == "right" else -1)
        elif key == "r":
            self.descending = not self.descending
        elif key in {"down", "j"}:
            self._select(self.row + 1, seen, pages)
        elif key in {"up", "k"}:
            self._select(self.row - 1, seen, pages)
        elif key in {"pagedown", " "}:
            self.page, self.row = min(pages, self.page + 1), 0
        elif key == "pageup":
            self.page, self.row = max(1, self.page - 1), 0
        elif key == "enter":
            self._open(seen)
        elif key in {"escape", "backspace"} and self.trail:
            self._go(self.trail.pop())
        elif key == "/":
            self.typing = self.text
        elif key == "e" and self.view in {"coroutines", "server"}:
            self.ended, self.page, self.row = not self.ended, 1, 0
        elif key == "t":
            self._ask(seen)
        elif key == "?":
            self.help = True

    def _go(self, place: Place) -> None:
        self.place = place
        self.sort, self.descending, self.page, self.row, self.text, self.ended = "", False, 1, 0, "", False

    def _open(self, seen: ReceivedView) -> None:
        row, below = self.selected(seen), _BELOW.get(self.view)
        if row is not None and below is not None:
            self.trail.append(self.place)
            self._go(Place(below, str(row["id"])))

    def _select(self, row: int, seen: ReceivedView, pages: int) -> None:
        """Select a row; beyond an edge, the next or the previous page."""
        if row < 0 and self.page > 1:
            self.page, self.row = self.page - 1, self.rows - 1
        elif row >= self.rows and self.page < pages:
            self.page, self.row = self.page + 1, 0
        else:
            self.row = max(0, min(row, len(seen.rows) - 1))

    def _ask(self, seen: ReceivedView) -> None:
        row = seen.head.get("coroutine") if self.view == "coroutine" else self.selected(seen)
        if self.view not in _ENDS or row is None:
            self.message = "Select a coroutine first: key 2"
        elif row.get("can_end"):
            self.question = row
        else:
            self.message = "It has ended, or cannot be reached from here"

    def _sort_by(self, step: int) -> None:
        names = [column.name for column in self.shown_columns() if column.sorts]
        at = names.index(self.sort) + step if self.sort in names else (0 if step > 0 else -1)
        self.sort, self.page, self.row = names[at % len(names)], 1, 0
        # Numbers are sorted with the largest first.
        self.descending = next(column.right for column in COLUMNS[self.view] if column.name == self.sort)


def duration(seconds: float) -> str:
    """Return a span of time in at most six characters."""
    if seconds < 60:  # noqa: PLR2004 - seconds of a minute
        return f"{seconds:.1f}s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s"


def draw(screen: Screen, seen: ReceivedView, *, url: str, state: str, row: bool = True) -> RenderableType:
    """Return the whole screen.

    Args:
        screen: What the user has chosen.
        seen: The contents.
        url: The source, for display.
        state: The state of the connection to it.
        row: Whether to mark the selected row, and to show panels.
    """
    summary = seen.head.get("summary") or {}
    if state == "live" and summary.get("stale"):
        state = f"{summary['stale']} s old: the scheduler does not answer"
    as_of = "" if seen.as_of is None else f"  as of {_clock(seen.as_of, seen)}"
    title = Text.assemble(
        ("discoro top ", "bold"), (f"{url}  ", "dim"), (state, "green" if state == "live" else "yellow"), (as_of, "dim")
    )
    title.no_wrap, title.overflow = True, "ellipsis"
    # A page without a marked row is as long as it has to be.
    room = screen.height - _SMALL_AROUND - len(seen.rows) if row else _MOST_PROBLEMS
    verdict = _verdict(seen.head.get("verdict") or {}, room)
    parts: list[RenderableType] = [title, _sums(summary, seen), *verdict]
    parts.append(_help() if screen.help else _body(screen, seen, row=row))
    room -= len(verdict) - 1
    if row and not screen.help and (screen.tall or screen.view == "cluster") and room >= _SMALLEST_PANEL:
        parts.append(_panels(screen, seen, _PANEL if screen.view == "coroutine" else room))
    return Group(*parts, _foot(screen, seen))


def _foot(screen: Screen, seen: ReceivedView) -> Text:
    """Return the last line: a question, what is typed, the result of an action, or the keys."""
    if screen.question is not None:
        return _line(_question(screen.question), "bold red")
    if screen.typing is not None:
        return _line(f"filter: {screen.typing}▏  Enter keeps it, Esc clears it", "bold")
    if seen.error:
        return _line(seen.error, "red")
    if screen.message:
        return _line(screen.message, "bold")
    pages = max(1, -(-seen.total // screen.rows))
    keys = "q quit  ? help  1-6 view  ←→ sort  / filter"
    if screen.width >= _WIDE:
        keys += "  r reverse  ↑↓ select  Enter open  Esc back  t terminate  e ended"
    where = f"{screen.view} {seen.total:,}" + (f"  filter: {screen.text}" if screen.text else "")
    return _line(f"{keys}  page {screen.page}/{pages}  {where}", "dim")


def _line(text: str, style: str) -> Text:
    return Text(one_line(text), style=style, no_wrap=True, overflow="ellipsis")


def _question(row: dict[str, Any]) -> str:
    neighbours = row.get("neighbours") or 0
    where = f"at {row['server']}"
    are = "is" if neighbours == 1 else "are"
    lost = f"(if forced, {neighbours} more {where} {are} lost)" if neighbours else where
    return f"y/n: terminate {one_line(str(row['name']), _LONGEST_NAME)} {lost}?"


def _help() -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for keys, text in _HELP:
        table.add_row(keys, text)
    return table


def _body(screen: Screen, seen: ReceivedView, *, row: bool) -> RenderableType:
    if screen.view == "coroutine":
        return Group(_coroutine(screen, seen), _table(screen, seen, row=False))
    return _table(screen, seen, row=row and screen.view != "output")


def _coroutine(screen: Screen, seen: ReceivedView) -> RenderableType:
    """Return the facts about one coroutine, and its traceback or stack."""
    one = seen.head.get("coroutine")
    if one is None:
        return Text("It is not known any more.")
    facts = {
        "state": str(one["state"]),
        "server": str(one["server"]),
        "computation": str(seen.head.get("computation") or _NONE),
        "age": _age(one["start"], seen) if one["end"] is None else duration(one["end"] - one["start"]),
        "progress": _progress(one["progress"], seen) or _NONE,
        "arguments": str(one["args"] or _NONE),
        **({"error": str(one["error"])} if one["error"] else {}),
    }
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis")
    for name, value in facts.items():
        table.add_row(name, Text(one_line(value), style=_STYLES.get(value, "")))
    trace = str(seen.head.get("trace") or "") or "\n".join(map(str, seen.head.get("stack") or ()))
    waits = str(seen.head.get("waits") or "")
    return Group(
        Text(one_line(str(one["name"])), style="bold"), table, _last_lines(trace, screen), _line(waits, "yellow")
    )


def _last_lines(trace: str, screen: Screen) -> Text:
    """Return the end of a traceback, as much as there is room for."""
    most = max(3, screen.height - 2 * _SMALL_AROUND - 8)
    lines = [one_line(line) for line in trace.rstrip().splitlines()[-most:]]
    return Text("\n".join(lines), style="dim", no_wrap=True, overflow="ellipsis")


def _verdict(verdict: dict[str, Any], room: int) -> list[Text]:
    """Return the verdict of the first page: one line with the first problem, or several lines if there is room."""
    style = _LEVELS.get(str(verdict.get("level", "")), "")
    problems = [str(one["text"]) for one in verdict.get("problems") or ()]
    text = str(verdict.get("text", ""))
    room = min(room, _MOST_PROBLEMS - 1)
    if room < 2 or len(problems) < 2:  # noqa: PLR2004 - one problem fits on the line
        return [_line(": ".join([text, *problems[:1]]), style)]
    return [_line(text, style), *(_line(f"  {problem}", "red") for problem in problems[:room])]


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


def _table(screen: Screen, seen: ReceivedView, *, row: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD, expand=True, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    columns = screen.shown_columns()
    for column in columns:
        mark = ("▼" if screen.descending else "▲") if column.name == screen.sort else ""
        justify: Any = "right" if column.right else "left"
        ratio = 1 if column.wide else None
        table.add_column(column.title + mark, justify=justify, no_wrap=True, overflow="ellipsis", ratio=ratio)
    chosen = screen.selected(seen) if row else None
    for shown in seen.rows:
        cells = []
        for column in columns:
            value = shown.get(column.name)
            if column.instead and not value:
                value = shown.get(column.instead)
            text = one_line(column.show(value, seen))
            # A Text has no markup: foreign names are shown as they are.
            cells.append(Text(text, style=_STYLES.get(text, "") if column.name == "state" else ""))
        table.add_row(*cells, style="reverse" if shown is chosen else "")
    return table


# --- the panels below a table


def _panels(screen: Screen, seen: ReceivedView, height: int) -> RenderableType:
    if screen.view == "cluster":
        return _beside(screen, seen, height)
    row = screen.selected(seen)
    if row is None:
        return Text("")
    if screen.view == "failures":
        trace = str(row["trace"]).rstrip().splitlines()
        return _panel(f"{row['name']}: one traceback", trace[2 - height :], height)  # the end says most
    fields = {column.title: column.show(row.get(column.name), seen) for column in COLUMNS[screen.view]}
    return _panel("Selected", [f"{name:<12}{text}" for name, text in fields.items() if text], height)


def _events(seen: ReceivedView) -> list[str]:
    lines = [f"{_clock(one['at'], seen)}  {one['text']}" for one in seen.head.get("events") or ()]
    return lines or ["Nothing since this program has begun."]


def _queue(seen: ReceivedView) -> list[str]:
    rows = seen.head.get("queue") or ()
    lines = [f"{one['place'] or _NONE}  {one['name']} of {one['owner']}  {_age(one['queued'], seen)}" for one in rows]
    return lines or ["No computation waits."]


def _beside(screen: Screen, seen: ReceivedView, height: int) -> RenderableType:
    """Return the panels of the first page: side by side, or one below the other if there is room for both."""
    latest, events, queue = "What changed lately", _events(seen), _queue(seen)
    if screen.width < _WIDE:
        waiting = min(len(queue) + 2, height // 2)
        if waiting < _SMALLEST_PANEL - 1 or height - waiting < _SMALLEST_PANEL - 1:
            return _panel("Queue", queue, height) if seen.head.get("queue") else _panel(latest, events, height)
        return Group(_panel(latest, events, height - waiting), _panel("Queue", queue, waiting))
    longest = max(len(events), len(queue))
    events, queue = ([*lines, *[""] * (longest - len(lines))] for lines in (events, queue))
    grid = Table.grid(expand=True)
    grid.add_column(ratio=1)
    grid.add_column(ratio=1)
    grid.add_row(_panel(latest, events, height), _panel("Queue", queue, height))
    return grid


def _panel(title: str, lines: list[str], height: int) -> Panel:
    """Return a panel with the first lines, of at most a height."""
    lines = lines[: height - 2]
    text = Text("\n".join(one_line(line) for line in lines), no_wrap=True, overflow="ellipsis")
    return Panel(text, title=Text(one_line(title), style="bold"), title_align="left", border_style="dim")
