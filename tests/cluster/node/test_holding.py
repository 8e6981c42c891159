"""What a node decides about its leases: which slots each has, when one ends, and which servers are idle."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from discoro_trio._cluster._facts import Over
from discoro_trio._cluster._lease_terms import LeaseTerms, QueueEntry
from discoro_trio._cluster.node._holding import Holding
from discoro_trio._records import MutableRecord


def terms(name: str = "a", *, key: bytes = b"key", client: bytes = b"client", zombie_period: float = 0.0) -> LeaseTerms:
    return LeaseTerms(name.encode(), client, name, QueueEntry(1, 1), key, zombie_period, pulse_interval=2.0)


def granted(servers: int = 2, **given: Any) -> Holding:
    """A node with three servers, of which the computation `a` has some since 10.0."""
    holding = Holding([1, 2, 3])
    assert holding.grant(10.0, terms(**given), servers, scheduler_id=b"scheduler", shared=True) == servers
    return holding


# --- requests of schedulers


@pytest.mark.parametrize(
    ("asked", "scheduler", "given"),
    [
        (terms(), b"scheduler", 1),
        (terms(key=b"other"), b"scheduler", 0),
        (terms(client=b"other"), b"scheduler", 0),
        (terms(), b"other", 0),
        (terms("b"), b"other", 1),
    ],
    ids=["the same", "another key", "another client", "another scheduler", "another computation"],
)
def test_a_lease_grows_under_its_own_terms_only(asked: LeaseTerms, scheduler: bytes, given: int) -> None:
    assert granted().grant(11.0, asked, 5, scheduler_id=scheduler, shared=True) == given


def test_no_more_than_the_free_slots_are_granted_and_none_for_less_than_one() -> None:
    holding = granted()
    assert holding.grant(11.0, terms("b"), 0, scheduler_id=b"scheduler", shared=True) == 0
    assert holding.grant(11.0, terms("b"), -1, scheduler_id=b"scheduler", shared=True) == 0
    assert holding.grant(11.0, terms("b"), 5, scheduler_id=b"scheduler", shared=True) == 1
    assert holding.grant(11.0, terms("c"), 1, scheduler_id=b"scheduler", shared=True) == 0
    assert set(holding.leases) == {b"a", b"b"}


def test_a_lease_that_ends_does_not_grow_is_not_reported_and_frees_all_its_slots() -> None:
    holding = granted()
    assert holding.end(b"a", Over.RELEASED)
    assert not holding.end(b"a", Over.REVOKED)
    assert holding.leases[b"a"].over is Over.RELEASED
    assert not holding.end(b"unknown", Over.REVOKED)
    assert holding.reported() == []
    assert holding.grant(11.0, terms(), 1, scheduler_id=b"scheduler", shared=True) == 0
    assert holding.free == 1
    assert holding.ended(b"a") == 2
    assert holding.free == 3
    assert holding.holder(1) is None


def test_a_lease_outlives_its_scheduler_as_an_orphan_until_another_adopts_it() -> None:
    holding = granted()
    holding.grant(10.0, terms("b"), 1, scheduler_id=b"other", shared=False)
    assert holding.scheduler_lost(b"scheduler") == 1
    assert [(one.terms.name, one.servers, one.orphan, one.shared) for one in holding.reported()] == [
        ("a", 2, True, True),
        ("b", 1, False, False),
    ]
    assert holding.adopted([b"a", b"unknown"], b"successor", holding.reported()) == []
    assert [(one.scheduler_id, one.orphan) for one in holding.reported()] == [(b"successor", False), (b"other", False)]


def test_servers_that_were_freed_while_their_lease_was_adopted_are_known() -> None:
    holding = granted()
    reported = holding.reported()
    holding.vacated(1)
    assert holding.adopted([b"a"], b"successor", reported) == [(b"a", 1)]
    holding.end(b"a", Over.CLIENT)
    holding.ended(b"a")
    assert holding.adopted([b"a"], b"successor", reported) == [(b"a", 2)]


def test_a_limit_of_leases_holds_also_for_free_slots() -> None:
    holding = Holding([1, 2], most_leases=1)
    assert holding.free == 2
    assert holding.grant(0.0, terms(), 1, scheduler_id=b"scheduler", shared=True) == 1
    assert holding.free == 0
    assert holding.grant(0.0, terms("b"), 1, scheduler_id=b"scheduler", shared=True) == 0
    assert holding.grant(0.0, terms(), 1, scheduler_id=b"scheduler", shared=True) == 1


# --- clients that do not come


def test_a_lease_whose_client_does_not_come_ends_after_five_pulses() -> None:
    holding = granted()
    for pulse in range(1, 5):
        assert holding.next_look() == 10.0 + 2.0 * pulse
        assert holding.unattended(holding.next_look()) == []
    assert holding.unattended(holding.next_look()) == [b"a"]
    holding.end(b"a", Over.CLIENT)
    assert holding.unattended(100.0) == []


def test_while_the_node_does_not_run_no_client_is_late() -> None:
    # It was stopped, or the machine slept: what the client has said meanwhile is not read yet.
    holding = granted()
    assert holding.unattended(100.0) == []
    holding.leases[b"a"].attended = True
    assert holding.next_look() == math.inf
    assert holding.unattended(200.0) == []


# --- idle servers


@pytest.mark.spec("S39")
def test_a_server_is_idle_after_the_zombie_period_without_a_coroutine() -> None:
    holding = granted(zombie_period=30.0)
    holding.leases[b"a"].attended = True
    assert holding.idle(100.0) == []  # both are being set up
    holding.activity(100.0, 1, busy=False)
    assert holding.next_look() == 130.0
    assert holding.idle(129.9) == []
    assert holding.idle(130.0) == [1]
    holding.activity(130.0, 1, busy=True)
    assert holding.idle(1000.0) == []
    holding.activity(1000.0, 1, busy=False)
    assert holding.idle(1029.9) == []
    holding.asked_to_close(1)
    assert holding.idle(1030.0) == []  # it is asked once
    holding.activity(1030.0, 1, busy=False)
    assert holding.idle(1060.0) == [1]
    holding.end(b"a", Over.RELEASED)
    assert holding.idle(1060.0) == []


@pytest.mark.spec("S39", "S56")
def test_without_a_zombie_period_no_server_is_ever_idle() -> None:
    holding = granted(zombie_period=0.0)
    holding.leases[b"a"].attended = True
    for slot in (1, 2):
        holding.activity(10.0, slot, busy=False)
    assert holding.idle(1e9) == []
    assert holding.next_look() == math.inf


@pytest.mark.spec("S39", "S40")
def test_with_its_last_idle_server_a_lease_is_gone() -> None:
    holding = granted(zombie_period=30.0)
    holding.vacated(2)
    assert holding.leases[b"a"].slots == {1}
    assert holding.free == 2
    holding.vacated(1)
    assert not holding.leases
    assert holding.reported() == []
    assert holding.free == 3
    assert holding.grant(11.0, terms("b"), 3, scheduler_id=b"scheduler", shared=True) == 3


def test_activity_of_a_free_slot_is_ignored() -> None:
    holding = Holding([1])
    holding.activity(1.0, 1, busy=True)
    assert holding.free == 1


# --- any order of events

SCHEDULERS = [b"scheduler 1", b"scheduler 2"]
COMPUTATIONS = ["a", "b", "c"]


class Expected(MutableRecord):
    """What the test itself knows of a lease."""

    terms: LeaseTerms
    scheduler: bytes
    slots: int
    orphan: bool = False
    ending: bool = False


class Leases(RuleBasedStateMachine):
    """The node's leases under any order of requests, reports, losses and ends, beside a plain count of slots."""

    @initialize(slots=st.integers(1, 4), most=st.none() | st.integers(1, 2))
    def begin(self, slots: int, most: int | None) -> None:
        self.now = 0.0
        self.slots, self.most = slots, slots if most is None else most
        self.holding = Holding(range(1, slots + 1), most_leases=most)
        self.expected: dict[bytes, Expected] = {}

    def free(self) -> int:
        return self.slots - sum(lease.slots for lease in self.expected.values())

    @rule(
        name=st.sampled_from(COMPUTATIONS),
        key=st.sampled_from([b"k", b"l"]),
        servers=st.integers(-1, 5),
        scheduler=st.sampled_from(SCHEDULERS),
        zombie_period=st.sampled_from([0.0, 5.0]),
    )
    def grant(self, name: str, key: bytes, servers: int, scheduler: bytes, zombie_period: float) -> None:
        asked = terms(name, key=key, zombie_period=zombie_period)
        lease = self.expected.get(asked.computation)
        if lease is None:
            possible = len(self.expected) < self.most
        else:
            possible = not lease.ending and lease.terms.key == key and lease.scheduler == scheduler
        given = self.holding.grant(self.now, asked, servers, scheduler_id=scheduler, shared=True)
        assert given == (max(0, min(servers, self.free())) if possible else 0)
        if given and lease is None:
            self.expected[asked.computation] = Expected(asked, scheduler, given)
        elif given and lease is not None:
            lease.slots += given

    @rule(scheduler=st.sampled_from(SCHEDULERS))
    def lose_scheduler(self, scheduler: bytes) -> None:
        lost = [lease for lease in self.expected.values() if lease.scheduler == scheduler]
        assert self.holding.scheduler_lost(scheduler) == len(lost)
        for lease in lost:
            lease.orphan = True

    @rule(name=st.sampled_from(COMPUTATIONS), scheduler=st.sampled_from(SCHEDULERS))
    def adopt(self, name: str, scheduler: bytes) -> None:
        self.holding.adopted([name.encode()], scheduler)
        if lease := self.expected.get(name.encode()):
            lease.scheduler, lease.orphan = scheduler, False

    @rule(name=st.sampled_from(COMPUTATIONS), over=st.sampled_from(Over))
    def end(self, name: str, over: Over) -> None:
        lease = self.expected.get(name.encode())
        assert self.holding.end(name.encode(), over) == (lease is not None and not lease.ending)
        if lease is not None:
            lease.ending = True

    @rule(name=st.sampled_from(COMPUTATIONS))
    def ended(self, name: str) -> None:
        lease = self.expected.get(name.encode())
        if lease is not None and lease.ending:
            assert self.holding.ended(name.encode()) == lease.slots
            del self.expected[name.encode()]

    @rule(slot=st.integers(1, 4), busy=st.booleans())
    def report(self, slot: int, busy: bool) -> None:  # noqa: FBT001 - drawn by hypothesis
        self.holding.activity(self.now, slot, busy=busy)

    @rule(seconds=st.sampled_from([0.5, 2.0, 6.0]), closes=st.booleans())
    def let_time_pass(self, seconds: float, closes: bool) -> None:  # noqa: FBT001 - drawn by hypothesis
        self.now += seconds
        for slot in self.holding.idle(self.now):
            held = self.holding.holder(slot)
            assert held is not None
            lease = self.expected[held.terms.computation]
            assert lease.terms.zombie_period
            assert not lease.ending
            self.holding.asked_to_close(slot)
            assert slot not in self.holding.idle(self.now)
            if closes:
                self.holding.vacated(slot)
                lease.slots -= 1
                if not lease.slots:
                    del self.expected[held.terms.computation]
        for computation in self.holding.unattended(self.now):
            assert not self.expected[computation].ending

    @invariant()
    def each_slot_has_one_lease_and_no_lease_is_without(self) -> None:
        leases = self.holding.leases
        assert leases.keys() == self.expected.keys()
        held = [slot for lease in leases.values() for slot in lease.slots]
        assert len(held) == len(set(held))
        for computation, lease in leases.items():
            assert lease.slots, "a lease without servers"
            assert len(lease.slots) == self.expected[computation].slots
            assert lease.busy <= lease.slots
            assert lease.idle_since.keys() == lease.slots
            assert all(self.holding.holder(slot) is lease for slot in lease.slots)
        assert self.holding.free == (self.free() if len(leases) < self.most else 0)

    @invariant()
    def living_leases_are_reported_as_they_are(self) -> None:
        living = [lease for lease in self.expected.values() if not lease.ending]
        assert sorted(
            (one.terms.name, one.servers, one.scheduler_id, one.orphan) for one in self.holding.reported()
        ) == (sorted((lease.terms.name, lease.slots, lease.scheduler, lease.orphan) for lease in living))


TestLeases = Leases.TestCase
TestLeases.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
