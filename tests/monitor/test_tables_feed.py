"""Tables of a scheduler beside what a computation knows of itself."""

from __future__ import annotations

import attrs

from discoro_trio import Location
from discoro_trio._cluster import ClusterStatus, ComputationStatus, NodeStatus, ServerStatus
from discoro_trio._monitor._feed import Feed
from discoro_trio._monitor._model import Model
from discoro_trio._monitor._tables_feed import TablesFeed

WHERE = Location("10.0.0.1", 4001)
SERVER = ServerStatus(
    location=WHERE,
    name="server 1",
    node="10.0.0.1",
    node_id="n",
    computation="c",
    submitted=0,
    done=0,
    running=0,
    coroutines=(),
    reported=0.0,
)
NODE = NodeStatus(
    id="n",
    addr="10.0.0.1",
    name="node",
    location=Location("10.0.0.1", 4000),
    platform="",
    suspended=False,
    servers=1,
    free=0,
    submitted=0,
    done=0,
    running=0,
    silence=0.0,
    info=None,
)
COMPUTATION = ComputationStatus(
    id="c",
    name="work",
    client=Location("10.0.0.9", 1),
    state="running",
    place=0,
    nodes=1,
    servers=1,
    zombie_period=0.0,
)


def tables(server: ServerStatus) -> ClusterStatus:
    return ClusterStatus(time=1.0, scheduler=None, nodes=(NODE,), servers=(server,), computations=(COMPUTATION,))


def test_what_a_computation_has_run_is_its_own_before_the_scheduler_says_that_it_has_the_server() -> None:
    model = Model()
    feed = TablesFeed(model, Feed(model))
    feed.computations((COMPUTATION,), 1.0)
    feed.own_server(SERVER, alone=True)
    feed.beside(tables(attrs.evolve(SERVER, computation="")))
    feed.own_server(attrs.evolve(SERVER, submitted=40, done=2), alone=False)
    counts = model.computations["c"].counts
    assert (counts.submitted, counts.done, counts.running) == (40, 2, 38)
    assert model.servers[str(WHERE)].counts == counts
