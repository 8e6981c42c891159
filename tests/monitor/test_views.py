"""What views show: sorting, filters, pages; quick with 1,000 nodes and 100,000 coroutines."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from discoro_trio._monitor._columns import sortable
from discoro_trio._monitor._model import Model
from discoro_trio._monitor._query import QueryError, read_query_untrusted
from discoro_trio._monitor._rows import CoroutineRow
from discoro_trio._monitor._views import Page, render

from .made_up import add_nodes, coroutines, make_model

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = 1_000_000.0


def show(model: Model, **query: object) -> Page:
    return render(model, read_query_untrusted(query), NOW)


def column(page: Page, name: str) -> list[Any]:
    return [row[name] for row in page.rows]


@pytest.mark.spec("S93")
def test_nodes_are_sorted_by_address_as_people_count() -> None:
    model = Model()
    for addr in ("10.0.0.10", "10.0.0.9", "node-b", "10.0.0.2"):
        model.node(addr, state="ready")
    assert column(show(model), "addr") == ["10.0.0.2", "10.0.0.9", "10.0.0.10", "node-b"]
    assert column(show(model, sort="-addr"), "addr") == ["node-b", "10.0.0.10", "10.0.0.9", "10.0.0.2"]


@pytest.mark.spec("S91", "S92", "S94", "S95", "B18")
def test_rows_of_nodes_servers_and_coroutines_show_what_they_must() -> None:
    model = Model()
    first, second = add_nodes(model, 1, 2)
    for number, server in enumerate((first, first, second)):
        model.created(CoroutineRow(f"c{number}", "job", server, NOW - number, args=(number,), kwargs={"k": "v"}))
    model.finished("c1", "done", NOW)
    (node,) = show(model).rows
    assert {name: node[name] for name in ("addr", "name", "servers", "submitted", "done", "running")} == {
        "addr": "10.0.0.11",
        "name": "node01",
        "servers": 2,
        "submitted": 3,
        "done": 1,
        "running": 2,
    }
    loads: list[Any] = [node[load] for load in ("cpu", "memory", "disk")]
    assert all(0 < load < 100 for load in loads)
    servers = show(model, view="node", key="10.0.0.11").rows
    assert [(row["location"], row["submitted"], row["done"], row["running"]) for row in servers] == [
        (first, 2, 1, 1),
        (second, 1, 0, 1),
    ]
    (running,) = show(model, view="server", key=first).rows
    assert (running["name"], running["args"], running["start"]) == ("job", "0, k='v'", NOW)


@pytest.mark.spec("S93")
@pytest.mark.parametrize("view", ["cluster", "node", "server", "coroutines", "computations", "output"])
def test_every_view_sorts_by_every_column_either_way(view: str) -> None:
    model = make_model(NOW, nodes=3, running=40)
    key = {"node": "10.0.0.11", "server": "10.0.0.11:51350"}.get(view, "")
    for name in sortable(view):
        up = show(model, view=view, key=key, sort=name, size=500)
        down = show(model, view=view, key=key, sort=f"-{name}", size=500)
        assert {row["id"] for row in up.rows} == {row["id"] for row in down.rows}
        if name not in {"addr", "server", "location"}:
            known: list[Any] = [value for value in (row[name] for row in up.rows) if value is not None]
            assert known == sorted(known)


def test_what_is_unknown_stands_last_either_way() -> None:
    model = Model()
    model.node("10.0.0.1", cpu=None)
    model.node("10.0.0.2", cpu=5.0)
    model.node("10.0.0.3", cpu=50.0)
    assert column(show(model, sort="cpu"), "cpu") == [5.0, 50.0, None]
    assert column(show(model, sort="-cpu"), "cpu") == [50.0, 5.0, None]


def test_pages_cover_all_rows_once() -> None:
    model = Model()
    add_nodes(model, 120, 1)
    pages = [show(model, page=number, size=50) for number in (1, 2, 3)]
    assert [len(page.rows) for page in pages] == [50, 50, 20]
    assert len({row["id"] for page in pages for row in page.rows}) == 120
    assert show(model, page=9).rows == []


def test_filters_look_for_text_in_any_case_and_for_a_state() -> None:
    model = make_model(NOW, nodes=12, running=40)
    assert column(show(model, text="NODE07"), "name") == ["node07"]
    failed = show(model, view="coroutines", state="failed")
    assert failed.total
    assert set(column(failed, "state")) == {"failed"}
    ended = show(model, view="coroutines", state="ended", size=500)
    assert ended.total > failed.total
    assert set(column(show(model, view="output", state="error"), "level")) == {"error"}


@pytest.mark.spec("S94", "S95")
def test_a_node_is_found_by_its_address_where_no_other_has_it() -> None:
    model = Model()
    model.node("10.0.0.1:4000", state="ready")
    assert show(model, view="node", key="10.0.0.1").head["node"]["addr"] == "10.0.0.1:4000"  # type: ignore[index]
    model.node("10.0.0.1:5000", state="ready")
    assert show(model, view="node", key="10.0.0.1").head["missing"] == "10.0.0.1"
    assert show(model, view="node", key="10.0.0.1:5000").head["node"]["addr"] == "10.0.0.1:5000"  # type: ignore[index]


def test_a_node_shows_its_servers_and_a_server_its_running_coroutines() -> None:
    model = Model()
    add_nodes(model, 2, 2)
    model.created(CoroutineRow("c1", "work", "10.0.0.11:51350", NOW, args=(1, "two"), kwargs={"three": 3}))
    node = show(model, view="node", key="10.0.0.11")
    assert column(node, "location") == ["10.0.0.11:51350", "10.0.0.11:51351"]
    assert column(node, "running") == [1, 0]
    server = show(model, view="server", key="10.0.0.11:51350")
    assert column(server, "args") == ["1, 'two', three=3"]
    assert column(server, "start") == [NOW]
    assert show(model, view="server", key="nowhere:1").head["missing"] == "nowhere:1"


@pytest.mark.spec("B25")
def test_the_timeline_has_what_was_alive_in_its_window() -> None:
    model = Model()
    (server,) = add_nodes(model, 1, 1)
    for key, begin, end in (("old", 10.0, 20.0), ("across", 90.0, 110.0), ("late", 130.0, 140.0)):
        model.created(CoroutineRow(key, key, server, begin))
        model.finished(key, "done", end)
    model.created(CoroutineRow("running", "running", server, 95.0))
    page = show(model, view="timeline", span=10, end=115)
    assert set(column(page, "id")) == {"across", "running"}
    assert page.head["groups"] == [{"node": "10.0.0.11", "name": "node01", "servers": [server]}]


@pytest.mark.spec("S93")
def test_a_thousand_nodes_and_100000_coroutines_take_little_time() -> None:
    model = Model()
    servers = add_nodes(model, 1_000, 2)
    for coroutine in coroutines(servers, 100_000, NOW):
        model.created(coroutine)
    bounds: list[tuple[dict[str, object], float]] = [
        ({"view": "cluster", "sort": "-cpu"}, 0.25),
        ({"view": "cluster", "text": "node9"}, 0.25),
        ({"view": "coroutines"}, 0.05),
        ({"view": "coroutines", "sort": "name", "page": 900}, 2.0),
        ({"view": "coroutines", "text": "render"}, 2.0),
    ]
    for query, bound in bounds:
        costs = []
        for _ in range(3):  # one of them may have to collect garbage
            began = time.thread_time()
            page = show(model, **query)
            costs.append(time.thread_time() - began)
            assert page.rows
        assert min(costs) < bound, query


def misuse(query: dict[str, object]) -> Callable[[], object]:
    return lambda: read_query_untrusted(query)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"view": "secrets"}, "view must be one of"),
        ({"sort": "__class__"}, "no column"),
        ({"view": "coroutines", "sort": "args"}, "no column"),
        ({"page": "0"}, "page must be a number from 1"),
        ({"page": "nan"}, "page must be"),
        ({"size": "501"}, "size must be"),
        ({"text": "x" * 201}, "text is longer than 200"),
        ({"text": ["x"]}, "text must be a text"),
        ({"every": "0.01"}, "every must be"),
        ({"evil": "1"}, "unknown parameter 'evil'"),
    ],
)
def test_a_query_that_is_not_understood_says_what_was_expected(query: dict[str, object], message: str) -> None:
    with pytest.raises(QueryError, match=message):
        read_query_untrusted(query)


def test_lines_of_several_servers_stand_in_the_order_of_their_time_and_tracebacks_keep_their_lines() -> None:
    model = Model()
    for at, text in ((5.0, "last"), (1.0, "first"), (3.0, "broken\nTraceback:\n  a.py\x1b")):
        model.output(at, "10.0.0.1:5", "print", text)
    assert column(show(model, view="output"), "text") == ["last", "broken\nTraceback:\n  a.py\\x1b", "first"]
