"""The description of the JSON interface, in OpenAPI 3.1. It is generated from the tables, so it always matches them."""

from __future__ import annotations

from typing import Any

from ._columns import TABLES, sortable
from ._query import MOST_ROWS

VERSION = "1"
_STEPS = {
    "terminate": (
        "End coroutines: cancel them, wait for their clean-up, use force after the grace period",
        "coroutines' ids",
    ),
    "restart": ("Replace servers by fresh processes; coroutines there are lost", "servers' locations"),
    "suspend": ("Let no new coroutine start at nodes", "nodes' addresses"),
    "resume": ("Let coroutines start at suspended nodes again", "nodes' addresses"),
    "close": ("Close computations early", "computations' ids"),
}
_TEXTS = {
    "cluster": "The nodes, and the sums over the cluster",
    "node": "A node and its servers",
    "servers": "The servers of all nodes",
    "server": "A server and its coroutines",
    "coroutines": "The coroutines of all servers",
    "computations": "The computations: running, queued and past",
    "timeline": "Which coroutine ran when and where",
    "output": "The output and log records of coroutines",
    "coroutine": "A coroutine: arguments, state, traceback or stack, and its lines of output",
    "failures": "Failures, grouped if they are alike, each group with one traceback",
    "tree": "The live tree of processes, nurseries and coroutines, and what each waits for",
    "function": "A function: the outcomes and durations of its coroutines, and its failures",
}


_OF_ONE = frozenset({"node", "server", "coroutine", "function"})
"""Views of one thing, which the path names."""


def description() -> dict[str, Any]:
    """Describe all routes."""
    tables = {f"/api/v1/{view}": _table(view) for view in TABLES if view not in _OF_ONE}
    tables["/api/v1/nodes/{key}"] = _table("node", key="a node's address")
    tables["/api/v1/servers/{key}"] = _table("server", key="a server's location, addr:port")
    tables["/api/v1/coroutines/{key}"] = _table("coroutine", key="a coroutine's id")
    tables["/api/v1/functions/{key}"] = _table("function", key="a function's name")
    return {
        "openapi": "3.1.0",
        "info": {"title": "discoro_trio monitor", "version": VERSION, "description": _INTRODUCTION},
        "security": [{"token": []}, {"cookie": []}],
        "paths": {
            **tables,
            **{f"/api/v1/actions/{step}": _action(*texts) for step, texts in _STEPS.items()},
            "/api/v1/summary": {"get": _get("The sums over the cluster", {"type": "object"})},
            "/api/v1/session": {"get": _get("What the sender of the request may do", {"type": "object"})},
            "/api/v1/trace": {"get": _trace()},
            "/metrics": {"get": _get("The numbers that Prometheus collects", {"type": "string"}, "text/plain")},
            "/healthz": {"get": _get("Whether the monitor answers", {"type": "object"})},
            "/readyz": {"get": _get("Whether the monitor has the cluster's state; 503 if not", {"type": "object"})},
        },
        "components": {
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "The monitor's token."},
                "cookie": {"type": "apiKey", "in": "cookie", "name": "discoro_PORT"},
            }
        },
    }


_INTRODUCTION = (
    "Viewing requires the token unless the monitor listens on loopback only. Actions always require it. "
    "Times are seconds since the epoch, sizes bytes, loads percent."
)


def _get(text: str, schema: dict[str, Any], media: str = "application/json") -> dict[str, Any]:
    return {"summary": text, "responses": {"200": {"description": text, "content": {media: {"schema": schema}}}}}


def _table(view: str, key: str = "") -> dict[str, Any]:
    columns: dict[str, Any] = {name: {} for name in TABLES[view]}
    row = {"type": "object", "properties": {"id": {"type": "string"}, **columns}}
    page = {
        "type": "object",
        "properties": {
            "head": {"type": "object"},
            "rows": {"type": "array", "items": row},
            "total": {"type": "integer", "description": "Rows that pass the filters, on all pages."},
            "page": {"type": "integer"},
            "size": {"type": "integer"},
            "as_of": {"type": ["number", "null"], "description": "The time of the state; null if it is not known."},
        },
    }
    operation = _get(_TEXTS[view], page)
    operation["parameters"] = [*_parameters(view)]
    if key:
        operation["parameters"].insert(0, _parameter("key", key, "string", where="path", required=True))
    operation["responses"]["400"] = {"description": "A parameter is unknown or invalid."}
    return {"get": operation}


def _trace() -> dict[str, Any]:
    text = "A window of the timeline in Chrome's trace event format, for Perfetto and chrome://tracing"
    operation = _get(text, {"type": "object"})
    operation["parameters"] = [
        _parameter("span", "The length of the window, in seconds; 60 by default.", "number"),
        _parameter("end", "Its end, in seconds since the epoch; 0 for now.", "number"),
        _parameter("text", "A text that the names of functions must contain.", "string"),
        _parameter("server", "The location of the only server to include.", "string"),
    ]
    return operation


def _parameters(view: str) -> list[dict[str, Any]]:
    orders = [*sortable(view), *(f"-{name}" for name in sortable(view))]
    sort = _parameter("sort", "A column; with a leading minus sign, the largest value first.", "string")
    sort["schema"]["enum"] = orders
    size = _parameter("size", "Rows per page.", "integer")
    size["schema"].update({"minimum": 1, "maximum": MOST_ROWS, "default": 50})
    return [
        sort,
        _parameter("text", "A text that rows must contain, in upper or lower case.", "string"),
        _parameter("state", "The state, or the level of output, that rows must have.", "string"),
        _parameter("page", "Counted from 1.", "integer"),
        size,
    ]


def _parameter(name: str, text: str, kind: str, *, where: str = "query", required: bool = False) -> dict[str, Any]:
    return {"name": name, "in": where, "required": required, "description": text, "schema": {"type": kind}}


def _action(text: str, ids: str) -> dict[str, Any]:
    schema = {
        "type": "object",
        "required": ["ids"],
        "properties": {"ids": {"type": "array", "items": {"type": "string"}, "description": ids}},
    }
    return {
        "post": {
            "summary": text,
            "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
            "responses": {
                "200": {"description": "The result for each id."},
                "401": {"description": "The token is missing."},
                "403": {"description": "The monitor is read-only, or the request comes from another site."},
            },
        }
    }
