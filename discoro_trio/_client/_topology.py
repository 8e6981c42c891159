"""The nodes and servers of a computation, and which of them a `where` means.

This module decides, without any I/O. `LoadBalancer` owns the loads; `Membership` adds and removes nodes and servers.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

import msgspec

from .._errors import DiscoroError, UnknownLocation
from .._records import MutableRecord, Record
from .._values import Location
from ._load_balancer import LoadBalancer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._link import Link
    from ._server import LeasedServer

COMPONENTS, NODE_SETUP = "components", "node_setup"
"""The stages of a set-up in which a node as a whole can fail."""

EACH_NODE, EACH_SERVER = "node", "server"
"""The words of `run_each` for all nodes and all servers."""


class SetUpFailure(Record, frozen=True):
    """A server that is not used because its set-up failed."""

    stage: str
    """The stage that failed: `components`, `node_setup` or `server_setup`."""
    place: str
    """The server's name and Location."""
    error: BaseException
    """The error."""

    def __str__(self) -> str:
        """Describe the stage, the place and the error."""
        return f"{self.stage} failed at {self.place}: {type(self.error).__name__}: {self.error}"

    def refusal(self) -> DiscoroError:
        """Make the error for tasks that wait for a server that will not come."""
        refusal = DiscoroError(f"no server can be used: {self}")
        refusal.__cause__ = self.error
        return refusal


class LeasedNode(MutableRecord, eq=False):
    """A node whose servers the computation holds."""

    node_id: bytes
    name: str
    location: Location
    link: Link
    slots: int | None = None
    """How many servers it sets up; None until it has reported the number."""
    first: set[bytes] = msgspec.field(default_factory=set)
    """The servers whose set-up succeeded or failed; kept until all server slots had their first server."""
    failures: dict[int, SetUpFailure] = msgspec.field(default_factory=dict)
    """The server slots whose server cannot be used."""
    spoilt: bool = False
    """Whether `node_setup` failed, so that none of its servers is used."""
    leaving: bool = False
    """Whether its servers are about to end, so that nothing is started there."""
    closed: bool = False
    """Whether it has given its servers back in order; this is reported after the last of them."""
    settled: bool = False
    """Whether the first servers of all server slots have joined or failed."""

    def had_first(self, server_id: bytes | None = None) -> None:
        """Note that the set-up of a server has succeeded or failed."""
        if server_id is not None and not self.settled:
            self.first.add(server_id)
        if self.slots is not None and (self.spoilt or len(self.first) >= self.slots):
            self.settled = True

    def fail(self, slot: int, server_id: bytes, failure: SetUpFailure) -> str:
        """Leave a server unused, or the whole node if its set-up failed; return a description of the effect."""
        whole = failure.stage == NODE_SETUP
        self.failures[0 if whole else slot] = failure
        self.spoilt = self.spoilt or whole
        self.had_first(server_id)
        return "none of the servers of this node is used" if whole else "this server is not used"

    def refuse(self, failure: SetUpFailure) -> None:
        """Note that the node does not set up any server."""
        self.slots = 0
        self.failures[0] = failure
        self.spoilt = self.settled = True

    @property
    def coming(self) -> int:
        """How many of its servers are being set up for the first time; one if the number is unknown."""
        if self.settled:
            return 0
        return 1 if self.slots is None else self.slots - len(self.first)

    @property
    def failure(self) -> SetUpFailure | None:
        """Why none of its servers can be used; None if one can be used, or may join."""
        if self.slots is None or not (self.spoilt or len(self.failures) >= self.slots):
            return None
        return next(iter(self.failures.values()), None)

    def named(self, where: str) -> bool:
        """Whether `where` means this node."""
        addr = self.location.addr
        local = where == "localhost" and (addr == "::1" or addr.startswith("127."))
        return local or where in {addr, self.name, str(self.location)}


class Topology:
    """The present nodes and servers of a computation.

    Attributes:
        nodes: By id.
        servers: By id; including lost ones that are not yet removed.
        load_balancer: The loads of the servers that take coroutines.
        servers_lost: How many servers have ended.
                submitted_before: How many coroutines were started at those.
    """

    def __init__(self) -> None:
        self.nodes: dict[bytes, LeasedNode] = {}
        self.servers: dict[bytes, LeasedServer] = {}
        self.load_balancer: LoadBalancer = LoadBalancer()
        self._told = False
        self._unseen: set[bytes] = set()
        self._left: set[bytes] = set()
        self.servers_lost: int = 0
        self.submitted_before: int = 0
        self._at: dict[Location, LeasedServer] = {}

    def told(self, node_ids: Iterable[bytes]) -> None:
        """Note the nodes that the scheduler granted at the computation's turn: all of them are awaited."""
        self._told = True
        self._unseen = set(node_ids) - self.nodes.keys() - self._left

    def came(self, node: LeasedNode) -> None:
        """Add a node that sets its servers up."""
        self.nodes[node.node_id] = node
        self._unseen.discard(node.node_id)

    def left(self, node_id: bytes) -> None:
        """Remove a node that is gone or did not join."""
        self.nodes.pop(node_id, None)
        self._unseen.discard(node_id)
        self._left.add(node_id)

    def add(self, server: LeasedServer) -> None:
        """Add a server that takes coroutines."""
        self.servers[server.server_id] = server
        self._at[server.location] = server
        server.place = self.load_balancer.add(server.node_id, server.server_id)
        node = self.nodes.get(server.node_id)
        if node is not None:
            node.failures.pop(server.slot, None)
            node.had_first(server.server_id)

    def withdraw(self, server: LeasedServer) -> None:
        """Start no more coroutines at a server."""
        server.withdrawn = True
        self.load_balancer.remove(server.server_id)
        if self._at.get(server.location) is server:
            del self._at[server.location]

    def remove(self, server: LeasedServer) -> None:
        """Remove a server that has ended."""
        if self.servers.pop(server.server_id, None) is not None:
            self.servers_lost += 1
            self.submitted_before += server.host.submitted

    # --- the meaning of `where`

    def pick(self, where: Location | str) -> LeasedServer | None:
        """Return the server for a coroutine at a place; None if there is none at the moment.

        Args:
            where: A server's Location or its text, or the address or name of a node, whose least loaded server is
                meant.

        Raises:
            UnknownLocation: There are servers, and none of them or their nodes is at that place.
            DiscoroError: The set-up failed at all servers there.
        """
        where = self.meant(where)
        if isinstance(where, Location):
            if not self._at or (where not in self._at and not self.complete):
                return None
            server = self.server_at(where)
            return server if server.node_id not in self.load_balancer.suspended else None
        least = [self.load_balancer.least(node.node_id) for node in self._named(where)]
        servers = [server_id for server_id in least if server_id is not None]
        return self.servers[min(servers, key=self.load_balancer.load)] if servers else None

    def node_for(self, where: str, *, plain: bool) -> bytes | None:
        """Return the node for a coroutine at a node's address or name; None if it has no server at the moment.

        If several nodes have that address, it is the one whose server takes the next start. Raises as `pick`.
        """
        now = perf_counter()
        named = [node.node_id for node in self._named(where)]
        taking = [
            place for node_id in named if (place := self.load_balancer.pick(now, node_id, plain=plain)) is not None
        ]
        if taking:
            return min(taking, key=lambda place: place.load).node.node_id
        return next((node_id for node_id in named if self.load_balancer.least(node_id) is not None), None)

    def server_at(self, location: Location) -> LeasedServer:
        """Return the server at a Location; UnknownLocation if there is none that takes coroutines."""
        meant = self.meant(location)
        server = self._at.get(meant) if isinstance(meant, Location) else None
        if server is None:
            raise self.unknown(location)
        return server

    def meant(self, where: Location | str) -> Location | str:
        """Return the Location of the server that a text `addr:port` or `name:port` means; otherwise the argument."""
        if isinstance(where, str):
            if self.named(where):
                return where
            try:
                location = Location.parse(where)
            except ValueError:
                return where
        else:
            location = where
        if location in self._at:
            return location
        at_nodes = {node.node_id for node in self.named(location.addr)}
        found = [one.location for one in self._at.values() if one.node_id in at_nodes]
        return next((one for one in found if one.port == location.port), location)

    def each(self, where: Location | str) -> list[LeasedServer]:
        """Return one server of each node, all servers, or all of one node; none while some have not yet joined.

        Args:
            where: `"node"`, `"server"`, the address or name of a node, or a server's Location.

        Raises:
            UnknownLocation, DiscoroError: As for `pick`.
        """
        where = where if where in {EACH_NODE, EACH_SERVER} else self.meant(where)
        if isinstance(where, Location):
            server = self.pick(where)
            return [server] if server is not None else []
        every = where in {EACH_NODE, EACH_SERVER}
        nodes = list(self.nodes.values()) if every else self._named(where)
        if (every and self._more_to_come) or not all(node.settled for node in nodes):
            return []
        ids = self.load_balancer.nodes() if every else [node.node_id for node in nodes]
        if where == EACH_NODE:
            return self._of(self.load_balancer.least(node_id) for node_id in ids)
        ids = [node_id for node_id in ids if node_id not in self.load_balancer.suspended]
        return self._of(server_id for node_id in ids for server_id in self.load_balancer.servers(node_id))

    def taking(self, where: Location | str | None = None) -> int:
        """Return how many servers take coroutines, in total or at a place."""
        if where is None:
            return sum(map(self.load_balancer.takes, self.servers))
        meant = self.meant(where)
        nodes = {node.node_id for node in self.named(str(meant))}
        found = (one for one in self._at.values() if one.location == meant or one.node_id in nodes)
        return sum(self.load_balancer.takes(one.server_id) for one in found)

    @property
    def coming(self) -> int:
        """How many granted servers are being set up for the first time; one for a node of unknown number."""
        unseen = len(self._unseen) if self._told else 1
        return unseen + sum(node.coming for node in self.nodes.values())

    @property
    def complete(self) -> bool:
        """Whether all servers that were granted at the computation's turn have joined or failed."""
        return not self._more_to_come and all(node.settled for node in self.nodes.values())

    @property
    def _more_to_come(self) -> bool:
        return not self._told or bool(self._unseen)

    def _of(self, server_ids: Iterable[bytes | None]) -> list[LeasedServer]:
        return [self.servers[server_id] for server_id in server_ids if server_id is not None]

    def _named(self, where: str) -> list[LeasedNode]:
        named = self.named(where)
        if not named and self._at and not self._more_to_come:
            raise self.unknown(where)
        failures = [node.failure for node in named]
        if failures and failures[0] is not None and all(failures):
            raise failures[0].refusal()
        return named

    def named(self, where: str) -> list[LeasedNode]:
        """Return the nodes of an address or name."""
        return [node for node in self.nodes.values() if node.named(where)]

    def known(self, where: str) -> list[LeasedNode]:
        """Return the nodes of an address or name; UnknownLocation if there are none."""
        named = self.named(where)
        if not named:
            raise self.unknown(where)
        return named

    def unknown(self, where: Location | str) -> UnknownLocation:
        """Make the error that lists the known places."""
        known = [
            f"{node.location.addr} ({node.name}): {', '.join(sorted(map(str, self._locations(node)))) or 'no server'}"
            for node in self.nodes.values()
        ]
        listed = "; ".join(sorted(known)) or "none"
        return UnknownLocation(f"the computation has nothing at {where}; its nodes and their servers are: {listed}")

    def _locations(self, node: LeasedNode) -> list[Location]:
        return [server.location for server in self._at.values() if server.node_id == node.node_id]

    # --- failures

    def failure(self) -> SetUpFailure | None:
        """Return why no server will come, if that is known."""
        failures = [node.failure for node in self.nodes.values()]
        return failures[0] if failures and not self._at and all(failures) else None
