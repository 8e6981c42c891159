"""The columns of every table: their values, by which it can be sorted.

One list serves pages, sorting and the JSON interface. An unknown value is None.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._shown import arguments
from ._rows import percent, rounded
from ._verdict import blocked_in

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ._model import Model
    from ._rows import ComputationRow, CoroutineRow, Failures, Load, NodeRow, OutputRow, ServerRow

Columns = dict[str, "Callable[[Any, Model], object]"]


def address_order(text: str) -> tuple[tuple[int, int, str], ...]:
    """Return a key that sorts addresses by their numbers: 10.0.0.9 before 10.0.0.10."""
    parts = text.replace(":", ".").split(".")
    return tuple((0, int(part), "") if part.isascii() and part.isdigit() else (1, 0, part) for part in parts)


def _load(load: Load) -> dict[str, object]:
    return {
        "cpu": rounded(load.cpu),
        "memory": load.memory,
        "memory_total": load.memory_total,
        "disk": load.disk,
        "disk_total": load.disk_total,
        "cpu_history": list(load.cpu_history),
        "memory_history": list(load.memory_history),
        "disk_history": list(load.disk_history),
    }


def _state(coroutine: CoroutineRow, model: Model) -> str:
    """Return a coroutine's state; on a blocked server it either blocks the server or is held up."""
    server = model.servers.get(coroutine.server)
    if server is None or server.blocked_since is None or coroutine.key not in server.running:
        return coroutine.state
    return "blocked" if blocked_in(server) == coroutine.name else "held up"


def _arguments(coroutine: CoroutineRow) -> str:
    if coroutine.described is not None:
        return coroutine.described
    return arguments(coroutine.args, coroutine.kwargs)


NODE: Columns = {
    "addr": lambda node, _: node.key,
    "name": lambda node, _: node.name,
    "platform": lambda node, _: node.platform,
    "state": lambda node, _: node.state,
    "servers": lambda node, model: model.serving(node),
    "submitted": lambda node, _: node.counts.submitted,
    "done": lambda node, _: node.counts.done,
    "failed": lambda node, _: node.counts.failed,
    "running": lambda node, _: node.counts.running,
    "cpu": lambda node, _: rounded(node.load.cpu),
    "memory": lambda node, _: rounded(percent(node.load.memory, node.load.memory_total)),
    "disk": lambda node, _: rounded(percent(node.load.disk, node.load.disk_total)),
}
SERVER: Columns = {
    "location": lambda server, _: server.key,
    "name": lambda server, _: server.name,
    "state": lambda server, _: server.state,
    "pid": lambda server, _: server.pid,
    "submitted": lambda server, _: server.counts.submitted,
    "done": lambda server, _: server.counts.done,
    "failed": lambda server, _: server.counts.failed,
    "running": lambda server, _: server.counts.running,
    "cpu": lambda server, _: rounded(server.load.cpu),
    "memory": lambda server, _: server.load.memory,
}
COROUTINE: Columns = {
    "name": lambda coroutine, _: coroutine.name,
    "server": lambda coroutine, _: coroutine.server,
    "args": lambda coroutine, _: _arguments(coroutine),
    "start": lambda coroutine, _: coroutine.start,
    "end": lambda coroutine, _: coroutine.end,
    "state": _state,
    "progress": lambda coroutine, _: coroutine.progress,
    "error": lambda coroutine, _: coroutine.error,
}
COMPUTATION: Columns = {
    "name": lambda computation, _: computation.name,
    "owner": lambda computation, _: computation.owner,
    "state": lambda computation, _: computation.state,
    "lease": lambda computation, _: computation.lease,
    "submitted": lambda computation, _: computation.counts.submitted,
    "done": lambda computation, _: computation.counts.done,
    "failed": lambda computation, _: computation.counts.failed,
    "running": lambda computation, _: computation.counts.running,
    "queued": lambda computation, _: computation.submitted,
    "place": lambda computation, _: computation.place or None,
    "why": lambda computation, _: computation.why,
    "begin": lambda computation, _: computation.begin,
    "end": lambda computation, _: computation.end,
}
FAILURES: Columns = {
    "name": lambda failures, _: failures.name,
    "kind": lambda failures, _: failures.kind,
    "error": lambda failures, _: failures.error,
    "count": lambda failures, _: failures.count,
    "at": lambda failures, _: failures.at,
    "place": lambda failures, _: failures.place,
}
LINE: Columns = {
    "time": lambda line, _: line.time,
    "server": lambda line, _: line.server,
    "level": lambda line, _: line.level,
    "text": lambda line, _: line.text,
}
SPAN: Columns = {name: COROUTINE[name] for name in ("name", "server", "start", "end", "state", "error")}
TABLES: Mapping[str, Columns] = {
    "cluster": NODE,
    "node": SERVER,
    "server": COROUTINE,
    "coroutines": COROUTINE,
    "computations": COMPUTATION,
    "timeline": SPAN,
    "output": LINE,
    "coroutine": LINE,
    "failures": FAILURES,
    "tree": {},
    "function": FAILURES,
    "servers": SERVER,
}
# `str()` of arguments runs the user's code, and progress has no order: tables cannot be sorted by either.
_UNSORTED = frozenset({"args", "progress"})


def sortable(view: str) -> list[str]:
    """Return the columns that the table of a view can be sorted by."""
    return [name for name in TABLES[view] if name not in _UNSORTED]


def node_row(node: NodeRow, model: Model) -> dict[str, object]:
    """Return a node with the points of its graphs."""
    row = {name: value(node, model) for name, value in NODE.items()}
    histories = {name: list(getattr(node.load, name)) for name in ("cpu_history", "memory_history", "disk_history")}
    return {"id": node.key, **row, **histories}


def node_facts(node: NodeRow, model: Model) -> dict[str, object]:
    """Return all known facts about a node, for its page."""
    return {**node_row(node, model), "cpus": node.cpus, **_load(node.load)}


def server_row(server: ServerRow, model: Model) -> dict[str, object]:
    """Return a server with the points of its graphs."""
    row = {name: value(server, model) for name, value in SERVER.items()}
    load = server.load
    histories = {"cpu_history": list(load.cpu_history), "memory_history": list(load.memory_history)}
    return {"id": server.key, **row, **histories, "node": server.node}


def coroutine_row(coroutine: CoroutineRow, model: Model) -> dict[str, object]:
    """Return a coroutine."""
    row = {name: value(coroutine, model) for name, value in COROUTINE.items()}
    server = model.servers.get(coroutine.server)
    neighbours = len(server.running) - 1 if server is not None and coroutine.key in server.running else 0
    return {"id": coroutine.key, **row, "can_end": coroutine.handle is not None, "neighbours": neighbours}


def span_row(coroutine: CoroutineRow, model: Model) -> dict[str, object]:
    """Return the facts about a coroutine that the timeline draws."""
    return {"id": coroutine.key, **{name: value(coroutine, model) for name, value in SPAN.items()}}


def computation_row(computation: ComputationRow, model: Model) -> dict[str, object]:
    """Return a computation."""
    return {"id": computation.key, **{name: value(computation, model) for name, value in COMPUTATION.items()}}


def failures_row(failures: Failures, model: Model) -> dict[str, object]:
    """Return a group of equal failures, with one traceback."""
    row = {name: value(failures, model) for name, value in FAILURES.items()}
    return {"id": failures.key, **row, "trace": failures.trace}


def line_row(line: OutputRow, model: Model) -> dict[str, object]:
    """Return a line of output."""
    return {"id": str(line.number), **{name: value(line, model) for name, value in LINE.items()}}
