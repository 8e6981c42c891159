"""What a computation waits for, in words."""

from __future__ import annotations

import pytest

from discoro_trio import NodeAllocation
from discoro_trio._cluster._allocations import Allocations
from discoro_trio._cluster._facts import ComputationRequest, NodeFacts
from discoro_trio._cluster._lease_terms import QueueEntry
from discoro_trio._cluster.scheduler._scheduling import Rules, Scheduling
from discoro_trio._cluster.scheduler._waiting import places, waits_for

pytestmark = pytest.mark.spec("B40")


def submit(state: Scheduling, name: str, *allocations: NodeAllocation, again: bool = False) -> None:
    state.submitted(
        1.0,
        ComputationRequest(
            name.encode(),
            f"client of {name}".encode(),
            name,
            Allocations(allocations),
            queue_entry=QueueEntry(1, 1) if again else None,
            owner=f"ada@host {name}.py",
        ),
    )


def reasons(state: Scheduling, now: float = 2.0) -> list[tuple[int, str]]:
    return [(at.place, waits_for(at, state, now)) for at in places(state)]


def join(state: Scheduling, name: str = "alpha") -> None:
    state.node_joined(1.0, NodeFacts(name.encode(), name, "10.0.0.1", 1, 2, "Linux"), 2, [])


def test_without_nodes_and_without_one_that_matches() -> None:
    state = Scheduling()
    submit(state, "a")
    assert reasons(state) == [(0, "no node is connected to the scheduler")]
    state = Scheduling()
    join(state)
    submit(state, "a", NodeAllocation("gpu*"))
    assert reasons(state) == [(0, "no node matches its node allocations (1 connected)")]


def test_the_queue_says_the_place_and_who_is_before() -> None:
    state = Scheduling()
    join(state)
    for name in ("a", "b", "c"):
        submit(state, name)
    assert reasons(state) == [
        (0, ""),
        (1, "place 1 in the queue, behind a of ada@host a.py"),
        (2, "place 2 in the queue, behind b of ada@host b.py"),
    ]


def test_a_scheduler_that_was_started_again_says_for_how_long_it_settles() -> None:
    state = Scheduling(Rules(epoch=5, settled_at=51.0))
    submit(state, "a", again=True)
    ((_, reason),) = reasons(state, 6.0)
    assert reason.startswith("the scheduler was restarted and grants no servers for 45 s")
