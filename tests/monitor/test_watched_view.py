"""Changes: a browser that applies them has what a full state would give."""

from __future__ import annotations

import random
from typing import Any

import pytest

from discoro_trio._monitor._model import Model
from discoro_trio._monitor._query import read_query_untrusted
from discoro_trio._monitor._rows import CoroutineRow
from discoro_trio._monitor._views import render
from discoro_trio._monitor._watched_view import WatchedView

from .made_up import add_nodes


def applied(state: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """Do as the page does (stream.js)."""
    rows = {row["id"]: row for row in state["rows"]}
    for key, fields in change.get("rows", {}).items():
        rows[key] = {**rows.get(key, {}), **fields}
    order = change.get("order", [row["id"] for row in state["rows"]])
    head = {**state["head"], **change.get("head", {})}
    return {
        **state,
        "seq": change["seq"],
        "head": head,
        "rows": [rows[key] for key in order],
        "total": change.get("total", state["total"]),
    }


def shake(model: Model, servers: list[str], chance: random.Random, step: int) -> None:
    kind = chance.randrange(5)
    if kind == 0 and model.running:
        model.finished(chance.choice(list(model.running)), "done", float(step))
    elif kind == 1:
        model.node(f"10.0.0.{chance.randint(11, 14)}", cpu=chance.uniform(0, 100))
    elif kind == 2:
        model.output(float(step), chance.choice(servers), "print", "line")
    else:
        model.created(CoroutineRow(f"c{step}", "work", chance.choice(servers), float(step)))


@pytest.mark.spec("S88")
@pytest.mark.parametrize("view", ["cluster", "coroutines", "timeline", "output", "node"])
def test_changes_applied_to_a_full_state_give_the_next_full_state(view: str) -> None:
    model = Model()
    servers = add_nodes(model, 4, 2)
    watch = WatchedView(read_query_untrusted({"view": view, "size": 7, "key": "10.0.0.11"}))
    watch.change(render(model, watch.query, 0.0), 0.0)
    state = watch.full(0.0)
    chance = random.Random(4)
    for step in range(300):
        shake(model, servers, chance, step)
        change = watch.change(render(model, watch.query, float(step)), float(step))
        if change is not None:
            assert change["seq"] == state["seq"] + 1
            state = applied(state, change)
        assert {**state, "now": 0.0} == watch.full(0.0)


@pytest.mark.spec("S88")
def test_only_what_differs_is_sent() -> None:
    model = Model()
    add_nodes(model, 3, 1)
    watch = WatchedView(read_query_untrusted({}))
    watch.change(render(model, watch.query, 0.0), 0.0)
    assert watch.change(render(model, watch.query, 1.0), 1.0) is None
    model.node("10.0.0.12", name="renamed")
    change = watch.change(render(model, watch.query, 2.0), 2.0)
    assert change == {"type": "change", "seq": 2, "now": 2.0, "rows": {"10.0.0.12": {"name": "renamed"}}}
