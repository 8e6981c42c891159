"""The part of the cluster that a computation asks for: patterns of nodes, and numbers of servers.

Pure functions; `_scheduling` decides which computation gets which servers.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from .._records import Record

if TYPE_CHECKING:
    from .._status import NodeAllocation
    from ._facts import NodeFacts, Resources


class Allocations(Record, frozen=True):
    """The node allocations of one computation; an empty list means all servers of all nodes."""

    allocations: tuple[NodeAllocation, ...] = ()

    @property
    def everything(self) -> bool:
        """Whether all servers of all nodes are wanted."""
        return not self.allocations

    @property
    def frugal(self) -> bool:
        """Whether memory or disk is required, so that the answer changes with the node's load."""
        return any(one.memory or one.disk for one in self.allocations)

    def most(self, facts: NodeFacts) -> int:
        """Count the servers of a node that are wanted when the node has enough memory and disk."""
        if self.everything:
            return facts.servers
        return max((_servers(one, facts) for one in self.allocations if _fits(one, facts)), default=0)

    def now(self, facts: NodeFacts, resources: Resources | None) -> int:
        """Count the servers of a node that are wanted at present; the first allocation that fits decides."""
        if self.everything:
            return facts.servers
        for one in self.allocations:
            if _fits(one, facts) and _affords(one, resources):
                return _servers(one, facts)
        return 0


def _fits(allocation: NodeAllocation, facts: NodeFacts) -> bool:
    named = any(fnmatchcase(text, allocation.node) for text in (facts.addr, facts.name))
    return named and allocation.platform.lower() in facts.platform.lower()


def _affords(allocation: NodeAllocation, resources: Resources | None) -> bool:
    if not allocation.memory and not allocation.disk:
        return True
    return resources is not None and allocation.memory <= resources.memory and allocation.disk <= resources.disk


def _servers(allocation: NodeAllocation, facts: NodeFacts) -> int:
    return facts.servers if allocation.cpus is None else min(allocation.cpus, facts.servers)
