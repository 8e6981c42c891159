"""The log of a scheduler's events: kept in a real run, replayed to the same decisions, and checked on the way."""

from __future__ import annotations

import sys

import msgspec
import pytest

import discoro_trio as discoro
from discoro_trio._cluster._facts import ComputationRequest, NodeFacts
from discoro_trio._cluster.scheduler import _events as events
from discoro_trio._cluster.scheduler._scheduling import Rules, Scheduling, replay

FACTS = NodeFacts(b"node", "alpha", "127.0.0.1", 1, 2, "linux")


async def job(number: int) -> int:
    return number


@pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")
async def test_the_log_of_a_real_run_is_replayed_to_the_same_decisions() -> None:
    async with discoro.open_cluster(servers=2) as scheduler:
        for _ in range(2):
            async with discoro.Computation([job]).schedule() as computation:
                assert await computation.run_results(job, range(4)) == [0, 1, 2, 3]
                (server, *_) = await computation.servers()
                await scheduler.restart_server(server)
        (node,) = (await scheduler.status()).nodes
        await scheduler.suspend_node(node.addr)
        await scheduler.resume_node(node.addr)
        state = scheduler._state
        log = list(state.log)
    kinds = {type(entry.event) for entry in log}
    assert {events.NodeJoined, events.Submitted, events.GrantGiven, events.FreedReported, events.RestAsked} <= kinds
    keys = iter(
        [
            effect.terms.key
            for entry in log
            if entry.decision is not None
            for effect in entry.decision.effects
            if hasattr(effect, "terms") and effect.terms.name
        ]
    )
    made: dict[bytes, None] = dict.fromkeys(keys)
    rules = msgspec.structs.replace(state.rules, make_key=iter(made).__next__, validate=True)
    assert replay(rules, log) == [entry.decision for entry in log]


def test_each_event_names_the_process_that_caused_it() -> None:
    state = Scheduling(Rules(validate=True))
    state.handle(0.0, events.NodeJoined(b"node", FACTS, 2, ()))
    state.handle(1.0, events.Submitted(b"client", ComputationRequest(b"c", b"client", "sums")))
    state.handle(2.0, events.Ticked())
    assert [getattr(entry.event, "cause", None) for entry in state.log] == [b"node", b"client", None]
    assert [entry.now for entry in state.log] == [0.0, 1.0, 2.0]


def test_a_refused_event_is_kept_without_a_decision() -> None:
    state = Scheduling(Rules(validate=True))
    state.handle(0.0, events.Submitted(b"client", ComputationRequest(b"c", b"client", "sums")))
    with pytest.raises(ValueError, match="belongs to another client"):
        state.handle(1.0, events.Submitted(b"other", ComputationRequest(b"c", b"other", "sums")))
    assert [entry.decision is None for entry in state.log] == [False, True]


def test_the_log_is_bounded() -> None:
    state = Scheduling()
    for second in range(3000):
        state.handle(float(second), events.Ticked())
    assert len(state.log) == 1000
    assert state.log[-1].now == 2999


def spoil_share(state: Scheduling) -> None:
    state.nodes[b"node"].leases[b"c"].servers = 5


def spoil_nodes(state: Scheduling) -> None:
    (claim,) = state.claims
    claim.nodes.add(b"unknown")


def spoil_turn(state: Scheduling) -> None:
    (claim,) = state.claims
    claim.running = False


def spoil_claim(state: Scheduling) -> None:
    (claim,) = state.claims
    claim.nodes.clear()


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (spoil_share, "more servers of alpha are given than it has"),
        (spoil_nodes, "has servers of a node that is gone"),
        (spoil_turn, "waits and has servers"),
        (spoil_claim, "has no record of its lease"),
    ],
)
def test_a_state_that_contradicts_itself_is_found_by_the_next_event(spoil: object, what: str) -> None:
    state = Scheduling(Rules(validate=True))
    state.handle(0.0, events.NodeJoined(b"node", FACTS, 2, ()))
    state.handle(0.0, events.Submitted(b"client", ComputationRequest(b"c", b"client", "sums")))
    spoil(state)  # type: ignore[operator]
    with pytest.raises(AssertionError, match=what):
        state.handle(1.0, events.Withdrawn(b"nobody", b"nothing"))
