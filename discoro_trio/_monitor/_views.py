"""The contents of each view: sorted, filtered, and one page of it.

Pure functions of the model and a query. `_watched_view` finds the changes for browsers.
"""

from __future__ import annotations

import heapq
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Any

import attrs

from . import _columns as columns
from . import _timeline as timeline
from ._rows import rounded
from ._topology_rows import GONE
from ._verdict import WINDOW, blocked_in, verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ._columns import Columns
    from ._model import Model
    from ._query import Query
    from ._rows import CoroutineRow


_OWN_ORDER = {"cluster": "addr", "node": "location", "servers": "location"}
"""Default sorting of tables; the others show the newest rows first."""
MOST_EVENTS = 30
"""How many events the first page shows."""
MOST_QUEUED = 10
"""How many waiting computations the first page shows."""


@attrs.frozen
class Page:
    """One page of a view."""

    head: dict[str, object]
    """The fields above the table."""
    rows: list[dict[str, object]]
    """The rows, each with an `id`."""
    total: int
    """Rows that pass the filters, on all pages."""


@attrs.frozen
class _TableForm:
    """How a table shows a row, and the fields in which it searches for a text."""

    columns: Columns
    show: Callable[[Any, Model], dict[str, object]]
    searched: tuple[str, ...]


_NODES = _TableForm(columns.NODE, columns.node_row, ("addr", "name", "platform"))
_SERVERS = _TableForm(columns.SERVER, columns.server_row, ("location", "name"))
# The arguments are not searched: their `str()` may be slow, and is called only for rows that are shown.
_COROUTINES = _TableForm(columns.COROUTINE, columns.coroutine_row, ("name", "server", "error"))
_COMPUTATIONS = _TableForm(columns.COMPUTATION, columns.computation_row, ("name", "owner"))
_FAILURES = _TableForm(columns.FAILURES, columns.failures_row, ("name", "kind", "error"))
_LINES = _TableForm(columns.LINE, columns.line_row, ("text",))


def render(model: Model, query: Query, now: float) -> Page:
    """Return a page of a view at this moment."""
    return _VIEWS[query.view](model, query, now)


def summary(model: Model) -> dict[str, object]:
    """Return the sums over the cluster."""
    alive = model.alive()
    counts = model.totals.counts
    return {
        "nodes": len(alive),
        "servers": sum(model.serving(node) for node in alive),
        "submitted": counts.submitted,
        "done": counts.done,
        "failed": counts.failed,
        "running": counts.running,
        "rate": rounded(model.totals.rate),
        "cpu": rounded(model.cpu()),
        "memory": rounded(model.memory()),
        "stale": model.stale,
    }


# --- the views


def _cluster(model: Model, query: Query, now: float) -> Page:
    totals = model.totals
    graphs = {
        "times": list(totals.times),
        "rate": list(totals.rate_history),
        "running": list(totals.running_history),
        "cpu": list(totals.cpu_history),
        "memory": list(totals.memory_history),
    }
    queue = sorted((one for one in model.computations.values() if one.state == "queued"), key=lambda one: one.place)
    head = {
        "graphs": graphs,
        "verdict": verdict(model, now),
        "events": [attrs.asdict(event) for event in list(model.log.events)[:-MOST_EVENTS:-1]],
        "queue": [columns.computation_row(one, model) for one in queue[:MOST_QUEUED]],
        "queued": len(queue),
    }
    return _table(model, query, head, model.nodes.values(), _NODES)


def _node(model: Model, query: Query, _now: float) -> Page:
    here = model.nodes_at(query.key)  # the address is enough for display if only one node has it
    node = model.nodes.get(query.key) or (here[0] if len(here) == 1 else None)
    if node is None:
        return Page({"missing": query.key, "summary": summary(model)}, [], 0)
    head = {"node": columns.node_facts(node, model), "times": list(model.totals.times)}
    servers = [model.servers[key] for key in node.servers]
    return _table(model, query, head, servers, _SERVERS)


def _servers(model: Model, query: Query, _now: float) -> Page:
    present = [server for server in model.servers.values() if server.state not in GONE]
    return _table(model, query, {}, present, _SERVERS)


def _server(model: Model, query: Query, now: float) -> Page:
    server = model.servers.get(query.key)
    if server is None:
        return Page({"missing": query.key, "summary": summary(model)}, [], 0)
    head = {
        "server": columns.server_row(server, model),
        "times": list(model.totals.times),
        "stack": list(server.stack),
        "blocked": None if server.blocked_since is None else rounded(now - server.blocked_since),
        "blocked_in": blocked_in(server),
    }
    if query.state in {"", "running"}:
        here: Iterable[CoroutineRow] = (model.running[key] for key in reversed(server.running))
        return _coroutine_table(model, query, head, here, len(server.running))
    ended = [one for one in reversed(model.ended) if one.server == query.key and _in_state(one, query.state)]
    return _coroutine_table(model, query, head, ended, len(ended))


def _coroutines(model: Model, query: Query, _now: float) -> Page:
    if query.state in {"", "running"}:
        return _coroutine_table(model, query, {}, reversed(model.running.values()), len(model.running))
    ended = [one for one in reversed(model.ended) if _in_state(one, query.state)]
    return _coroutine_table(model, query, {}, ended, len(ended))


def _in_state(coroutine: CoroutineRow, state: str) -> bool:
    return state in {"ended", coroutine.state}


def _computations(model: Model, query: Query, _now: float) -> Page:
    newest = [one for one in reversed(model.computations.values()) if query.state in {"", one.state}]
    newest.sort(key=lambda one: (("running", "detached", "queued", "closed").index(one.state), one.place))
    return _table(model, query, {}, newest, _COMPUTATIONS)


def _coroutine(model: Model, query: Query, _now: float) -> Page:
    coroutine = model.coroutine(query.key)
    if coroutine is None:
        return Page({"missing": query.key, "summary": summary(model)}, [], 0)
    failures = model.failures.get(coroutine.group)
    computation = model.computations.get(coroutine.computation)
    server = model.servers.get(coroutine.server)
    blocked_by = "" if server is None or coroutine.key not in server.running else blocked_in(server)
    blocks = bool(blocked_by) and blocked_by == coroutine.name
    head = {
        "coroutine": columns.coroutine_row(coroutine, model),
        "computation": "" if computation is None else computation.name or computation.key[:8],
        "owner": "" if computation is None else computation.owner,
        "stack": list(server.stack if blocks and server is not None else coroutine.stack),
        "blocks": blocks,
        "blocked_by": blocked_by,
        "waits": coroutine.waits,
        "trace": "" if failures is None else failures.trace,
        "alike": 0 if failures is None else failures.count,
    }
    lines = [line for line in reversed(model.lines) if line.coroutine == coroutine.key]
    return _table(model, query, head, lines, _LINES)


def _tree(model: Model, _query: Query, _now: float) -> Page:
    return Page({**(model.tree or {"processes": [], "circle": []}), "summary": summary(model)}, [], 0)


def _failures(model: Model, query: Query, _now: float) -> Page:
    newest = [one for one in reversed(model.failures.values()) if query.key in {"", one.name}]
    return _table(model, query, {}, newest, _FAILURES)


def _function(model: Model, query: Query, now: float) -> Page:
    running = [one for one in model.running.values() if one.name == query.key]
    ended = [one for one in model.ended if one.name == query.key]
    states = Counter(one.state for one in ended)
    failures = [one for one in model.failures.values() if one.name == query.key]
    times = sorted(one.end - one.start for one in ended if one.end is not None and one.state == "done")
    head = {
        "name": query.key,
        "running": len(running),
        "states": dict(states),
        "failed": sum(one.count for one in failures),
        "failed_lately": sum(one.since(now - WINDOW) for one in failures),
        "times": {str(part): _percentile(times, part) for part in (5, 25, 50, 75, 95, 100)} if times else None,
        "bars": _histogram(times),
        "sampled": model.one_in > 1,
    }
    page = _failures(model, query, now)
    return Page({**page.head, **head}, page.rows, page.total)


def _percentile(times: list[float], part: int) -> float:
    return round(times[min(len(times) - 1, len(times) * part // 100)], 4)


def _histogram(times: list[float]) -> list[dict[str, float]]:
    """Count durations in twelve equal parts of their range."""
    if not times:
        return []
    low, high = times[0], times[-1]
    step = (high - low) / 12 or 1.0
    counts = Counter(min(11, int((one - low) / step)) for one in times)
    return [{"from": round(low + part * step, 4), "count": counts[part]} for part in range(12)]


def _output(model: Model, query: Query, _now: float) -> Page:
    # Lines of different servers are fetched at different times.
    lines = [
        line
        for line in sorted(model.lines, key=lambda line: (line.time, line.number), reverse=True)
        if query.state in {"", line.level} and query.server in {"", line.server}
    ]
    head: dict[str, object] = {
        "levels": sorted({line.level for line in model.lines}),
        "servers": sorted({line.server for line in model.lines}, key=columns.address_order),
    }
    return _table(model, query, head, lines, _LINES)


def _timeline(model: Model, query: Query, now: float) -> Page:
    found = timeline.timeline(model, query, now)
    head = {
        "groups": [{"node": one.node, "name": one.name, "servers": list(one.servers)} for one in found.groups],
        "failed": found.failed,
        "cut": found.cut,
        "summary": summary(model),
    }
    return Page(head, timeline.rows(found, model), len(found.spans))


_VIEWS: dict[str, Callable[[Model, Query, float], Page]] = {
    "cluster": _cluster,
    "node": _node,
    "server": _server,
    "coroutines": _coroutines,
    "computations": _computations,
    "timeline": _timeline,
    "output": _output,
    "coroutine": _coroutine,
    "failures": _failures,
    "tree": _tree,
    "function": _function,
    "servers": _servers,
}

# --- tables


def _table(
    model: Model,
    query: Query,
    head: Mapping[str, object],
    rows: Iterable[Any],
    table: _TableForm,
) -> Page:
    if query.text:
        getters = [table.columns[name] for name in table.searched]
        rows = [row for row in rows if any(query.text in str(get(row, model)).casefold() for get in getters)]
    else:
        rows = list(rows)
    total = len(rows)
    sort = query.sort or _OWN_ORDER.get(query.view, "")
    page = _page(query, _sorted_part(model, query, rows, table.columns[sort]) if sort else rows)
    return Page({**head, "summary": summary(model)}, [table.show(row, model) for row in page], total)


def _coroutine_table(
    model: Model, query: Query, head: Mapping[str, object], newest_first: Iterable[CoroutineRow], total: int
) -> Page:
    """Return a page; if the order is the order of arrival, without going through all coroutines."""
    if query.sort in {"", "start"} and not query.text and (query.descending or not query.sort):
        first = (query.page - 1) * query.size
        page = islice(newest_first, first, first + query.size)
        return Page({**head, "summary": summary(model)}, [columns.coroutine_row(one, model) for one in page], total)
    return _table(model, query, head, newest_first, _COROUTINES)


def _sorted_part(model: Model, query: Query, rows: list[Any], get: Callable[[Any, Model], object]) -> list[Any]:
    """Sort the rows up to the page; unknown values are last in both directions."""
    addresses = (query.sort or _OWN_ORDER.get(query.view)) in {"addr", "location", "server"}

    def key(row: Any) -> Any:
        value = get(row, model)
        return columns.address_order(value) if addresses and isinstance(value, str) else value

    known = [(key(row), number, row) for number, row in enumerate(rows)]
    unknown = [row for value, _, row in known if value is None]
    known = [one for one in known if one[0] is not None]
    if query.descending:
        known = [(value, -number, row) for value, number, row in known]
    wanted = query.page * query.size
    pick = heapq.nlargest if query.descending else heapq.nsmallest
    # For a few rows a heap is faster than sorting all; for many it is not.
    few = wanted * 8 < len(known)
    ordered = pick(wanted, known) if few else sorted(known, reverse=query.descending)
    return [row for _, _, row in ordered] + unknown


def _page(query: Query, rows: list[Any]) -> list[Any]:
    first = (query.page - 1) * query.size
    return rows[first : first + query.size]
