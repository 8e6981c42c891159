"""The monitor's picture of a cluster: what each fact changes, and that it stays bounded."""

from __future__ import annotations

import pytest

from discoro_trio._monitor import _model, _topology_rows
from discoro_trio._monitor._model import Model
from discoro_trio._monitor._rows import SAMPLES, CoroutineRow

SERVER = "10.0.0.1:51350"


def make() -> Model:
    model = Model()
    model.node("10.0.0.1", state="ready", cpus=2)
    model.server(SERVER, "10.0.0.1", state="ready")
    return model


def start(model: Model, key: str = "c1") -> CoroutineRow:
    coroutine = CoroutineRow(key, "work", SERVER, 100.0, args=(1,), handle=object())
    model.created(coroutine)
    return coroutine


@pytest.mark.spec("S91", "S92")
def test_a_coroutine_counts_at_its_server_its_node_and_the_cluster() -> None:
    model = make()
    start(model)
    start(model, "c2")
    model.finished("c1", "done", 101.0)
    for counts in (model.totals.counts, model.servers[SERVER].counts, model.nodes["10.0.0.1"].counts):
        assert (counts.submitted, counts.done, counts.running) == (2, 1, 1)


def test_the_same_coroutine_twice_and_an_unknown_end_change_nothing() -> None:
    model = make()
    start(model)
    before = model.version
    start(model)
    model.finished("other", "done", 101.0)
    assert model.version == before
    assert model.totals.counts.submitted == 1


@pytest.mark.parametrize(("state", "failed"), [("done", 0), ("failed", 1), ("cancelled", 0), ("lost", 1)])
def test_an_end_is_remembered_and_lets_go_of_what_the_coroutine_had(state: str, failed: int) -> None:
    model = make()
    coroutine = start(model)
    model.finished("c1", state, 103.0, "ValueError: no")
    assert list(model.ended) == [coroutine]
    assert (coroutine.state, coroutine.end, coroutine.args, coroutine.handle) == (state, 103.0, (), None)
    assert model.totals.counts.failed == failed
    assert not model.servers[SERVER].running


def test_a_node_that_leaves_takes_its_servers_along() -> None:
    model = make()
    model.node_left("10.0.0.1", "disconnected")
    assert model.servers[SERVER].state == "disconnected"
    assert model.alive() == []


def test_a_server_s_successor_takes_its_row_and_its_node_keeps_the_counts() -> None:
    model = make()
    model.server(SERVER, "10.0.0.1", name="server 1")
    model.counted(SERVER, 5, 5)
    model.server("10.0.0.1:51351", "10.0.0.1", name="server 2", state="ready")
    model.server_left(SERVER, "closed")
    model.server("10.0.0.1:51999", "10.0.0.1", name="server 1", state="ready")
    assert list(model.servers) == ["10.0.0.1:51351", "10.0.0.1:51999"]
    assert list(model.nodes["10.0.0.1"].servers) == list(model.servers)
    assert model.nodes["10.0.0.1"].counts.submitted == 5


def test_a_node_that_was_known_by_its_address_is_the_same_once_its_location_is_known() -> None:
    model = make()
    start(model)
    model.locate_node("10.0.0.1", "10.0.0.1:4000")
    model.locate_node("10.0.0.1", "10.0.0.1:5000")
    model.node("10.0.0.1:5000", state="ready")
    assert list(model.nodes) == ["10.0.0.1:4000", "10.0.0.1:5000"]
    assert [node.addr for node in model.nodes.values()] == ["10.0.0.1", "10.0.0.1"]
    assert model.servers[SERVER].node == "10.0.0.1:4000"
    model.finished("c1", "done", 101.0)
    assert model.nodes["10.0.0.1:4000"].counts.done == 1


@pytest.mark.parametrize(
    ("key", "addr"),
    [("10.0.0.1", "10.0.0.1"), ("10.0.0.1:4000", "10.0.0.1"), ("[fe80::1]:4000", "fe80::1"), ("fe80::1", "fe80::1")],
)
def test_the_address_of_a_node_is_read_from_where_it_is(key: str, addr: str) -> None:
    assert Model().node(key).addr == addr


def test_servers_that_only_count_are_added_up() -> None:
    model = make()
    model.counted(SERVER, 500, 480, 3)
    assert (model.totals.counts.submitted, model.nodes["10.0.0.1"].counts.done) == (500, 480)


def test_everything_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_model, "MOST_AT_ONCE", 3)
    model = make()
    for number in range(5):
        start(model, f"c{number}")
    assert len(model.running) == 3
    assert model.totals.counts.submitted == 5
    for number in range(_model.KEPT_COMPUTATIONS + 5):
        model.computation(f"p{number}", state="closed")
    assert len(model.computations) <= _model.KEPT_COMPUTATIONS + 1
    for number in range(_model.KEPT_LINES + 5):
        model.output(1.0, SERVER, "print", str(number))
    assert len(model.lines) == _model.KEPT_LINES
    for number in range(_topology_rows.KEPT_GONE + 5):
        model.server(f"10.0.0.2:{number}", "10.0.0.2", state="ready")
        model.server_left(f"10.0.0.2:{number}", "closed")
        model.node(f"10.1.0.1:{number}", state="ready")
        model.node_left(f"10.1.0.1:{number}", "closed")
    assert len(model.servers) <= _topology_rows.KEPT_GONE + 1
    assert len(model.nodes) <= _topology_rows.KEPT_GONE + 2
    assert len(model.nodes["10.0.0.2"].servers) == _topology_rows.KEPT_GONE
    for number in range(SAMPLES + 5):
        model.sample(float(number))
    assert len(model.totals.times) == SAMPLES


@pytest.mark.spec("B18", "B25")
def test_samples_give_rates_and_loads_over_time() -> None:
    model = make()
    model.node("10.0.0.1", cpu=40.0, memory=25, memory_total=100)
    model.sample(0.0)
    start(model)
    model.finished("c1", "done", 1.0)
    model.sample(5.0)
    assert list(model.totals.rate_history) == [0.0, 0.2]
    assert list(model.nodes["10.0.0.1"].load.cpu_history) == [40.0, 40.0]
    assert (model.cpu(), model.memory()) == (40.0, 25.0)


def test_progress_is_kept_with_its_coroutine() -> None:
    model = make()
    coroutine = start(model)
    model.progress("c1", 3, 10, "reading")
    model.progress("unknown", 1, None, "")
    assert coroutine.progress == (3, 10, "reading")
