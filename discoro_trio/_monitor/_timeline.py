"""The timeline: which coroutine ran when and where, for a page or as a trace file.

Pure functions of the model and a query. Lanes are grouped by node. A page gets only the coroutines of the nodes in
view, up to a limit; failures are kept first. A trace has all coroutines of its window, in Chrome's trace event format.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from ._columns import address_order, span_row
from ._topology_rows import GONE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._model import Model
    from ._query import Query
    from ._rows import CoroutineRow

MOST_SPANS = 4_000
"""How many coroutines one page draws."""
MOST_TRACED = 100_000
"""How many coroutines one trace file contains."""
_MARGIN = 0.5
"""How much more than the requested window is sent, so that a page can be moved without a new request."""
_FAILED = frozenset({"failed", "lost"})


@attrs.frozen
class NodeLanes:
    """A node and its servers."""

    node: str
    """The node's Location as text."""
    name: str
    """The node's name, for display."""
    servers: tuple[str, ...]
    """The Locations of its servers, in order."""


@attrs.frozen
class Timeline:
    """The timeline of one window."""

    groups: list[NodeLanes]
    """All nodes, in view or not."""
    failed: dict[str, int]
    """How many coroutines failed or were lost in the window, by node; nodes without any are left out."""
    spans: list[CoroutineRow]
    """The coroutines of the nodes in view, the newest first."""
    cut: bool
    """Whether there are more of them."""


def timeline(model: Model, query: Query, now: float) -> Timeline:
    """Return the timeline for a page."""
    spans = list(_spans(model, query, now, _MARGIN))
    groups = _groups(model, query, spans)
    node_of = {server: group.node for group in groups for server in group.servers}
    failed: dict[str, int] = {}
    for span in spans:
        if span.state in _FAILED:
            node = node_of[span.server]
            failed[node] = failed.get(node, 0) + 1
    last = query.first + query.most if query.most else None
    seen = {server for group in groups[query.first : last] for server in group.servers}
    here = [span for span in spans if span.server in seen]
    return Timeline(groups, failed, _most_important(here), len(here) > MOST_SPANS)


def _most_important(spans: list[CoroutineRow]) -> list[CoroutineRow]:
    """Return at most `MOST_SPANS`: failures and then the newest, in their order."""
    if len(spans) <= MOST_SPANS:
        return spans
    failures = [span for span in spans if span.state in _FAILED][:MOST_SPANS]
    others = [span for span in spans if span.state not in _FAILED][: MOST_SPANS - len(failures)]
    kept = {span.key for span in (*failures, *others)}
    return [span for span in spans if span.key in kept]


def rows(found: Timeline, model: Model) -> list[dict[str, object]]:
    """Return the rows of a page."""
    return [span_row(span, model) for span in found.spans]


def _groups(model: Model, query: Query, spans: list[CoroutineRow]) -> list[NodeLanes]:
    """Return the present servers, and former ones of which there is something to draw, by node."""
    lanes = {server.key for server in model.servers.values() if server.state not in GONE}
    lanes |= {span.server for span in spans}
    by_node: dict[str, list[str]] = {}
    for lane in lanes:
        if query.server in {"", lane}:
            server = model.servers.get(lane)
            by_node.setdefault(lane.rpartition(":")[0] if server is None else server.node, []).append(lane)
    return [
        NodeLanes(node, _name(model, node), tuple(sorted(by_node[node], key=address_order)))
        for node in sorted(by_node, key=address_order)
    ]


def _name(model: Model, node: str) -> str:
    known = model.nodes.get(node)
    return node if known is None else known.name or node


def _spans(model: Model, query: Query, now: float, margin: float) -> Iterator[CoroutineRow]:
    """Return the coroutines that were alive in the window, running ones first, then those that ended last."""
    end = query.end or now
    begin = end - (1 + margin) * query.span
    until = query.end or None
    for one in reversed(model.running.values()):
        if (until is None or one.start <= until) and _passes(one, query):
            yield one
    for one in reversed(model.ended):
        if one.end is not None and one.end < begin:
            return
        if (until is None or one.start <= until) and _passes(one, query):
            yield one


def _passes(one: CoroutineRow, query: Query) -> bool:
    return query.server in {"", one.server} and query.text in one.name.casefold()


# --- as a trace file


def trace(model: Model, query: Query, now: float) -> dict[str, Any]:
    """Return a window in Chrome's trace event format: a process is a node, a thread is a server.

    Coroutines that overlap at one server get further threads, as the slices of one thread must not overlap.
    """
    spans = sorted(list(_spans(model, query, now, 0.0))[:MOST_TRACED], key=lambda span: span.start)
    events: list[dict[str, Any]] = []
    lanes: dict[str, _TraceThreads] = {}
    for process, group in enumerate(_groups(model, query, spans), 1):
        events.append(_named("process_name", process, 0, group.name))
        for number, server in enumerate(group.servers, 1):
            lanes[server] = _TraceThreads(process, number, _server_name(model, server))
    for span in spans:
        lane = lanes[span.server]
        end = now if span.end is None else span.end
        events.append(_slice(span, end, lane.process, lane.thread_for(span.start, end)))
    for lane in lanes.values():
        for row in range(max(1, len(lane.ends))):
            title = lane.name if row == 0 else f"{lane.name} ({row + 1})"
            events.append(_named("thread_name", lane.process, lane.thread(row), title))
    return {"displayTimeUnit": "ms", "traceEvents": events}


def _server_name(model: Model, key: str) -> str:
    server = model.servers.get(key)
    number = "" if server is None else server.name.rpartition("server ")[2]
    return f"server {number} at {key}" if number.isdigit() else f"server at {key}"


_ROWS = 10_000
"""The largest number of coroutines of one server that overlap in a trace file; threads are numbered by it."""


@attrs.define
class _TraceThreads:
    """The threads of one server in a trace file."""

    process: int
    number: int
    """The server's number at its node, from 1."""
    name: str
    ends: list[float] = attrs.Factory(list)
    """For each thread, when its last coroutine ends."""

    def thread(self, row: int) -> int:
        return self.number * _ROWS + row

    def thread_for(self, start: float, end: float) -> int:
        for row, until in enumerate(self.ends):
            if until <= start:
                self.ends[row] = end
                return self.thread(row)
        if len(self.ends) < _ROWS:
            self.ends.append(end)
        return self.thread(len(self.ends) - 1)


def _named(what: str, process: int, thread: int, name: str) -> dict[str, Any]:
    return {"name": what, "ph": "M", "pid": process, "tid": thread, "args": {"name": name}}


def _slice(span: CoroutineRow, end: float, process: int, thread: int) -> dict[str, Any]:
    args = {"id": span.key, "state": span.state, **({"error": span.error} if span.error else {})}
    event = {
        "name": span.name,
        "cat": "coroutine",
        "ph": "X",
        "ts": round(span.start * 1e6),
        "dur": max(0, round((end - span.start) * 1e6)),
        "pid": process,
        "tid": thread,
        "args": args,
    }
    if span.state in _FAILED:
        event["cname"] = "terrible"
    return event
