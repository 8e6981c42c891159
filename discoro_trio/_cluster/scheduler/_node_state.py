"""A scheduler's state of one node: its servers, their leases, and the time of its last heartbeat.

Pure bookkeeping: numbers that a node reports are bounded by the servers that it offered. Decisions are in
`_scheduling`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ..._records import MutableRecord

if TYPE_CHECKING:
    from .._facts import NodeFacts, Resources


class ServerShare(MutableRecord):
    """The servers of one node that one computation has."""

    servers: int = 0
    """The number of servers that the node has given."""
    asked: int = 0
    """The number of requested servers for which the node has not answered yet."""
    ending: bool = False
    """Whether the node was asked to take them back."""


class NodeState(MutableRecord, eq=False):
    """One node of a scheduler."""

    facts: NodeFacts
    heard: float
    """When its last heartbeat arrived."""
    resources: Resources | None = None
    leases: dict[bytes, ServerShare] = msgspec.field(default_factory=dict)
    """By computation."""
    foreign: int = 0
    """Servers that other schedulers have."""
    suspended: bool = False
    """Whether it is suspended: no more of its servers are given."""

    @property
    def own(self) -> int:
        """The servers that computations of this scheduler have or have asked for."""
        return sum(lease.servers + lease.asked for lease in self.leases.values())

    @property
    def left(self) -> int:
        """The servers that can still be asked for."""
        return 0 if self.suspended else self.facts.servers - self.own - self.foreign

    def told_free(self, free: int) -> None:
        """Note how many servers the node reports as free."""
        given = sum(lease.servers for lease in self.leases.values())
        self.foreign = max(self.facts.servers - given - max(free, 0), 0)

    def ask_lease(self, computation: bytes, wanted: int) -> int:
        """Note that servers are asked for; return their number, 0 if there is nothing to ask for now."""
        lease = self.leases.get(computation)
        if lease is not None and (lease.asked or lease.ending):
            return 0
        asked = min(wanted - (lease.servers if lease is not None else 0), self.left)
        if asked <= 0:
            return 0
        if lease is None:
            lease = self.leases[computation] = ServerShare()
        lease.asked = asked
        return asked

    def grant_lease(self, computation: bytes, servers: int) -> bool:
        """Note that the node gave servers; return whether it was asked for any."""
        lease = self.leases.get(computation)
        if lease is None or not lease.asked:
            return False
        lease.servers += min(max(servers, 1), lease.asked)
        lease.asked = 0
        return True

    def refuse_lease(self, computation: bytes) -> bool:
        """Note that the node gave nothing: others hold its servers. Return whether it was asked for any."""
        lease = self.leases.get(computation)
        if lease is None or not lease.asked:
            return False
        lease.asked = 0
        if not lease.servers:
            del self.leases[computation]
        self.foreign = self.facts.servers - self.own
        return True

    def adopt_lease(self, computation: bytes, servers: int) -> None:
        """Note a lease that the node reported when it joined."""
        self.leases[computation] = ServerShare(min(max(servers, 0), max(self.left, 0)))

    def end_lease(self, computation: bytes) -> bool:
        """Note that servers are asked back; return whether there is anything to ask the node for."""
        lease = self.leases.get(computation)
        if lease is None or lease.ending:
            return False
        lease.ending = True
        return lease.servers > 0  # servers that are being given now are asked back once they are given

    def free_lease(self, computation: bytes, servers: int) -> bool:
        """Note that servers are free again; return whether the computation had any."""
        lease = self.leases.get(computation)
        if lease is None or not lease.servers:
            return False
        lease.servers -= min(max(servers, 0), lease.servers)
        if not lease.servers and not lease.asked:
            del self.leases[computation]
        return True
