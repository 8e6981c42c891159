"""What a node decides of its leases: when nobody comes for one."""

from __future__ import annotations

from discoro_trio._cluster._lease_terms import LeaseTerms, QueueEntry
from discoro_trio._cluster.node._holding import Holding

TERMS = LeaseTerms(
    computation=b"computation",
    client_id=b"client",
    name="lease",
    queue_entry=QueueEntry(1, 1),
    key=b"key",
    zombie_period=0.0,
    pulse_interval=2.0,
)


def test_a_lease_whose_client_does_not_come_ends_after_five_pulses() -> None:
    holding = Holding([1])
    holding.grant(10.0, TERMS, 1, scheduler_id=b"scheduler", shared=True)
    for pulse in range(1, 5):
        assert holding.next_look() == 10.0 + 2.0 * pulse
        assert holding.unattended(holding.next_look()) == []
    assert holding.unattended(holding.next_look()) == [b"computation"]


def test_while_the_node_does_not_run_no_client_is_late() -> None:
    # It was stopped, or the machine slept: what the client has said meanwhile is not read yet.
    holding = Holding([1])
    holding.grant(0.0, TERMS, 1, scheduler_id=b"scheduler", shared=True)
    assert holding.unattended(100.0) == []
    holding.leases[b"computation"].attended = True
    assert holding.next_look() == float("inf")
    assert holding.unattended(200.0) == []
