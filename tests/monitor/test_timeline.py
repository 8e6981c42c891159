"""What the timeline sends for the nodes in view, and what its trace file contains."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from discoro_trio._monitor import _timeline
from discoro_trio._monitor._model import Model
from discoro_trio._monitor._query import read_query_untrusted
from discoro_trio._monitor._rows import CoroutineRow
from discoro_trio._monitor._timeline import timeline, trace

from .made_up import add_nodes

if TYPE_CHECKING:
    from discoro_trio._monitor._timeline import Timeline

pytestmark = pytest.mark.spec("B39")

NOW = 1_000.0


def add(model: Model, key: str, server: str, begin: float, end: float | None = None, *, state: str = "done") -> None:
    model.created(CoroutineRow(key, "work", server, begin))
    if end is not None:
        model.finished(key, state, end, "ValueError: no" if state == "failed" else "")


def show(model: Model, **query: object) -> Timeline:
    return timeline(model, read_query_untrusted({"view": "timeline", **query}), NOW)


def test_only_coroutines_of_the_nodes_in_view_are_sent_and_failures_are_counted_everywhere() -> None:
    model = Model()
    servers = add_nodes(model, 100, 2)
    for number, server in enumerate(servers):
        add(model, f"c{number}", server, NOW - 10, NOW - 5, state="failed" if number % 50 == 0 else "done")
    found = show(model, first=10, most=5)
    assert len(found.groups) == 100
    assert {span.server for span in found.spans} == set(servers[20:30])
    assert sorted(found.failed.values()) == [1, 1, 1, 1]
    assert len(show(model).spans) == 200


def test_what_failed_is_kept_when_not_everything_can_be_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_timeline, "MOST_SPANS", 10)
    model = Model()
    (server,) = add_nodes(model, 1, 1)
    for number in range(30):
        add(
            model,
            f"c{number}",
            server,
            NOW - 40 + number,
            NOW - 39.5 + number,
            state="failed" if number < 3 else "done",
        )
    found = show(model)
    assert found.cut
    assert [span.key for span in found.spans] == [*(f"c{number}" for number in range(29, 22, -1)), "c2", "c1", "c0"]


def test_a_trace_has_a_process_for_each_node_and_slices_that_do_not_overlap() -> None:
    model = Model()
    servers = add_nodes(model, 2, 2)
    add(model, "first", servers[0], NOW - 9, NOW - 4)
    add(model, "second", servers[0], NOW - 6, NOW - 2, state="failed")  # overlaps the first one
    add(model, "third", servers[0], NOW - 4, NOW - 1)
    add(model, "runs", servers[3], NOW - 1)
    found = trace(model, read_query_untrusted({"view": "timeline"}), NOW)
    events = found["traceEvents"]
    names = [event["args"]["name"] for event in events if event["name"] == "process_name"]
    assert names == ["node01", "node02"]
    slices = {event["args"]["id"]: event for event in events if event["ph"] == "X"}
    assert {key: (one["ts"], one["dur"]) for key, one in slices.items()} == {
        "first": (991_000_000, 5_000_000),
        "second": (994_000_000, 4_000_000),
        "third": (996_000_000, 3_000_000),
        "runs": (999_000_000, 1_000_000),
    }
    assert slices["second"]["args"] == {"id": "second", "state": "failed", "error": "ValueError: no"}
    assert slices["runs"]["pid"] != slices["first"]["pid"]
    threads: dict[int, list[tuple[int, int]]] = {}
    for one in slices.values():
        threads.setdefault(one["tid"], []).append((one["ts"], one["ts"] + one["dur"]))
    assert all(before[1] <= after[0] for spans in threads.values() for before, after in pairwise(sorted(spans)))
    titles = [event["args"]["name"] for event in events if event["name"] == "thread_name"]
    assert f"server 1 at {servers[0]}" in titles
