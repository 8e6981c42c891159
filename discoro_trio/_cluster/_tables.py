"""The status of a cluster as JSON, and as a text table.

`_status` owns the fields. JSON is also the form on the network.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import attrs

from .._printable import printable
from .._process import Coro
from .._status import NodeInfo
from .._values import Location
from ._launcher import LaunchedNode
from ._status import ClusterStatus, ComputationStatus, CoroStatus, NodeStatus, Progress, ServerStatus, ServerVitals

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_MIB = 1024 * 1024
_COUNTS = ("submitted", "done", "failed", "running")
_COMPUTATIONS = ("place", "name", "owner", "state", "nodes", "servers", *_COUNTS)


def status_as_json(status: ClusterStatus, *, indent: int | None = None) -> str:
    """Return a status as JSON: Locations as text, handles as lists of the parts that identify them."""
    return json.dumps(_plain(status), indent=indent)


def _plain(value: object) -> Any:
    if isinstance(value, Location):
        return str(value)
    if isinstance(value, Coro):
        return [value.home.hex(), value.serial, value.starter.hex(), value.realm.hex(), str(value.location)]
    kind: Any = type(value)
    if attrs.has(kind):
        return {field.name: _plain(getattr(value, field.name)) for field in attrs.fields(kind)}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def status_from_json(text: str | bytes) -> ClusterStatus:
    """Read what `status_as_json` wrote.

    Raises:
        KeyError, TypeError, ValueError: It is something else.
    """
    found = json.loads(text)
    return ClusterStatus(
        time=found["time"],
        scheduler=Location.parse(found["scheduler"]) if found["scheduler"] is not None else None,
        nodes=tuple(_node(row) for row in found["nodes"]),
        servers=tuple(_server(row) for row in found["servers"]),
        computations=tuple(
            ComputationStatus(**{**row, "client": Location.parse(row["client"]), "skew": tuple(row["skew"])})
            for row in found["computations"]
        ),
        launched=tuple(_launched(row) for row in found["launched"]),
        scaling=found["scaling"],
    )


def _launched(row: dict[str, Any]) -> LaunchedNode:
    location = Location.parse(row["location"]) if row["location"] is not None else None
    return LaunchedNode(**{**row, "location": location})


def _node(row: dict[str, Any]) -> NodeStatus:
    info = NodeInfo(**row["info"]) if row["info"] is not None else None
    return NodeStatus(**{**row, "location": Location.parse(row["location"]), "info": info})


def _server(row: dict[str, Any]) -> ServerStatus:
    coroutines = tuple(_coro(one) for one in row["coroutines"])
    vitals = ServerVitals(**row["vitals"]) if row["vitals"] is not None else None
    location = Location.parse(row["location"])
    stack = tuple(row["stack"])
    return ServerStatus(**{**row, "location": location, "coroutines": coroutines, "vitals": vitals, "stack": stack})


def _coro(row: dict[str, Any]) -> CoroStatus:
    home, serial, starter, realm, location = row["coro"]
    ids = [bytes.fromhex(text) for text in (home, starter, realm)]
    coro: Coro[Any] = Coro(ids[0], serial, ids[1], ids[2], row["name"], Location.parse(location))
    progress = Progress(**row["progress"]) if row["progress"] is not None else None
    return CoroStatus(**{**row, "coro": coro, "progress": progress})


def status_as_table(status: ClusterStatus) -> str:
    """Return a status as text: nodes, servers, computations with the queue, and the launcher's nodes."""
    parts = [
        _table("NODES", ("address", "name", "servers", "free", *_COUNTS, "cpu", "memory"), _nodes(status)),
        _table("SERVERS", ("location", "node", *_COUNTS, "state"), _servers(status)),
        _table("COMPUTATIONS", _COMPUTATIONS, _computations(status)),
    ]
    skew = [f"{one.name}: {line}" for one in status.computations for line in one.skew]
    if skew:
        parts.append("\n".join(["OTHER VERSIONS THAN THE CLIENT'S", *map(printable, skew)]))
    if status.launched or status.scaling:
        rows = ((one.name, one.state, one.location or "", one.reason) for one in status.launched)
        parts.append(_table("LAUNCHED", ("name", "state", "location", "reason"), rows))
    if status.scaling:
        parts.append(printable(status.scaling))
    return "\n\n".join(parts)


def _nodes(status: ClusterStatus) -> Iterable[Sequence[object]]:
    for node in status.nodes:
        info = node.info
        cpu = f"{info.cpu_percent:.0f} %" if info is not None else ""
        memory = f"{info.memory_available // _MIB} of {info.memory_total // _MIB} MiB free" if info is not None else ""
        counts = (node.submitted, node.done, node.failed, node.running)
        yield node.addr, node.name, node.servers, node.free, *counts, cpu, memory


def _servers(status: ClusterStatus) -> Iterable[Sequence[object]]:
    names = {node.id: node.name for node in status.nodes}
    for one in status.servers:
        yield (
            one.location,
            names.get(one.node_id) or one.node,
            one.submitted,
            one.done,
            one.failed,
            one.running,
            _state(one),
        )


def _state(server: ServerStatus) -> str:
    if not server.unresponsive:
        return ""
    where = f" in {server.stack[0].rpartition(' in ')[2]}" if server.stack else ""
    return f"unresponsive for {server.unresponsive:.0f} s{where}"


def _computations(status: ClusterStatus) -> Iterable[Sequence[object]]:
    return (
        (
            *(one.place or "runs", one.name, one.owner or one.client, one.state, one.nodes, one.servers),
            *(one.submitted, one.done, one.failed, one.running),
        )
        for one in status.computations
    )


def _table(title: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [tuple(head), *(tuple(printable(str(cell)) for cell in row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    texts = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([title, *texts] if len(lines) > 1 else [title, "none"])
