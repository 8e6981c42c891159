"""The load balancer of a computation: which server takes the next start, and how many starts a server may have waiting.

This module decides, without any I/O: events come in by method calls, with the time; what is to be done is what they
return. Load is the number of coroutines that were started at a server and have not ended. A start waits from the
moment it is sent until the server reports that it has begun.

Each server has a window of starts that may wait there, one for async functions and one for plain ones. A window holds
about five milliseconds of work: servers report how long each start has kept the next one from beginning, and the window
grows while that is short, and falls to one where it is long. All else waits at the client and is sent when a server has
room. Coroutines that have begun are never counted. What a server reports does not depend on how fast the network is or
how busy the machine of the client.

All operations take the same time for any number of servers.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

WINDOWS = (128, 64, 32, 16, 8, 4, 2, 1)
"""How wide a window may be, by how long a start kept the next one from beginning (`hold_level`)."""

WIDEST = WINDOWS[0]
"""The most starts that may wait at a server."""

LATE = 0.02
"""Seconds after which a server where starts wait and none begins gets no further ones."""

_FORGOTTEN = 0.01
"""Seconds without a start after which a window begins with one again: the next jobs may be quite different."""

_EXAMINED = 64
"""Servers that one search for late starts looks at."""

T = TypeVar("T")


class _Ranked(Generic[T]):
    """Things with loads, the least loaded one first; of equals, the one that has its load for the longest.

    Things of one load are together, in the order in which they came to it; a heap holds the loads that there are.
    They are few: so a change and a look take the same time for ten things and for ten thousand.
    """

    __slots__ = ("_heap", "_levels", "loads")

    def __init__(self) -> None:
        self.loads: dict[T, float] = {}
        # A plain dict would search from its start for the first one that was not deleted.
        self._levels: dict[float, OrderedDict[T, None]] = {}
        self._heap: list[float] = []

    def set(self, thing: T, load: float) -> None:
        """Set the load of a thing, which may be new."""
        old = self.loads.get(thing)
        if old is not None:
            del self._levels[old][thing]
        self.loads[thing] = load
        level = self._levels.get(load)
        if level is None:
            level = self._levels[load] = OrderedDict()
            heapq.heappush(self._heap, load)
        level[thing] = None

    def remove(self, thing: T) -> None:
        """Forget a thing."""
        del self._levels[self.loads.pop(thing)][thing]

    def least(self) -> T | None:
        """Return the thing with the least load; None if there is none."""
        while self._heap:
            level = self._levels[self._heap[0]]
            if level:
                return next(iter(level))
            del self._levels[heapq.heappop(self._heap)]
        return None


class Lane:
    """The starts of one kind of function at one server."""

    __slots__ = ("since", "waiting", "window")

    def __init__(self) -> None:
        self.waiting = 0
        """Starts that were sent and have not begun, as far as it was reported."""
        self.window = 1
        """How many may wait."""
        self.since = 0.0
        """When the first of them was sent, or when one last began."""

    def late(self, now: float) -> bool:
        """Whether starts wait and none has begun for a while."""
        return self.waiting > 0 and now - self.since > LATE

    def sent(self, now: float) -> int:
        """Note a start; give how many wait, with it."""
        if not self.waiting:
            if now - self.since > _FORGOTTEN:
                self.window = 1
            self.since = now
        self.waiting += 1
        return self.waiting

    def begun(self, ahead: int, level: int, now: float) -> None:
        """Note that a start has begun.

        Args:
            ahead: How many waited when it was sent, with it.
            level: How long it kept the next one from beginning.
            now: The time.
        """
        self.waiting -= 1
        self.since = now
        window, most = self.window, WINDOWS[level]
        if window > most:
            # Not at once: one that took long may have been interrupted. No more are sent than have begun meanwhile.
            self.window = max(most, window // 2)
        elif 2 * ahead >= window and window < most:
            self.window = window + 1


class Place:
    """One server, as the load balancer sees it."""

    __slots__ = ("gone", "lanes", "load", "node", "ranked", "reserved", "server")

    def __init__(self, server: bytes, node: _Node) -> None:
        self.server: bytes = server
        self.node: _Node = node
        self.load: int = 0
        self.lanes: tuple[Lane, Lane] = (Lane(), Lane())
        """For async functions, for plain ones."""
        self.ranked: list[bool] = [False, False]
        """Whether it is among those that take starts of that kind."""
        self.reserved: bool = False
        """Whether one job has it alone."""
        self.gone: bool = False
        """Whether it was removed."""


class _Node:
    """The servers of one node."""

    __slots__ = ("node_id", "places", "suspended", "total")

    def __init__(self, node_id: bytes) -> None:
        self.node_id: bytes = node_id
        self.places: dict[bytes, Place] = {}
        self.total: int = 0
        self.suspended: bool = False

    @property
    def load(self) -> float:
        return self.total / len(self.places)


class _Open:
    """The servers that take starts of one kind: the least loaded one of the least loaded node is next."""

    __slots__ = ("_by_load", "_nodes")

    def __init__(self) -> None:
        self._nodes: dict[_Node, _Ranked[Place]] = {}
        self._by_load: _Ranked[_Node] = _Ranked()

    def set(self, place: Place) -> None:
        """Add a server, or note that its load has changed."""
        node = place.node
        ranked = self._nodes.get(node)
        if ranked is None:
            ranked = self._nodes[node] = _Ranked()
            self._by_load.set(node, node.load)
        ranked.set(place, place.load)

    def remove(self, place: Place) -> None:
        """Forget a server."""
        ranked = self._nodes[place.node]
        ranked.remove(place)
        if not ranked.loads:
            del self._nodes[place.node]
            self._by_load.remove(place.node)

    def changed(self, node: _Node) -> None:
        """Note that the load of a node has changed."""
        if node in self._nodes:
            self._by_load.set(node, node.load)

    def least(self, node: _Node | None) -> Place | None:
        """Return the least loaded server of a node, or of the least loaded node; None if there is none."""
        if node is None:
            node = self._by_load.least()
            if node is None:
                return None
        ranked = self._nodes.get(node)
        return ranked.least() if ranked is not None else None


class LoadBalancer:
    """The loads and windows of all servers, by the ids of node and server.

    Attributes:
        suspended: The nodes that are given no more load.
        places: The servers, by id.
    """

    def __init__(self) -> None:
        self.suspended: set[bytes] = set()
        self.places: dict[bytes, Place] = {}
        self._nodes: dict[bytes, _Node] = {}
        self._open: tuple[_Open, _Open] = (_Open(), _Open())
        # Most computations run functions of one kind only, and each ranking takes its time for each job.
        self._used = [False, False]
        self._waiting: dict[Place, None] = {}

    # --- servers

    def add(self, node_id: bytes, server: bytes) -> Place:
        """Add a server without load."""
        self.remove(server)
        node = self._nodes.get(node_id)
        if node is None:
            node = self._nodes[node_id] = _Node(node_id)
            node.suspended = node_id in self.suspended
        place = node.places[server] = self.places[server] = Place(server, node)
        self._rank(place)
        self._rank_node(node)
        return place

    def remove(self, server: bytes) -> None:
        """Remove a server with its load."""
        place = self.places.pop(server, None)
        if place is None:
            return
        place.gone = True
        self._unrank(place)
        self._waiting.pop(place, None)
        node = place.node
        del node.places[server]
        node.total -= place.load
        if node.places:
            self._rank_node(node)
        else:
            del self._nodes[node.node_id]

    def suspend(self, node_id: bytes) -> None:
        """Give a node no more load, whatever servers it has or gets."""
        self.suspended.add(node_id)
        node = self._nodes.get(node_id)
        if node is not None:
            node.suspended = True
            for place in node.places.values():
                self._unrank(place)

    def resume(self, node_id: bytes) -> None:
        """Give a node load again."""
        self.suspended.discard(node_id)
        node = self._nodes.get(node_id)
        if node is not None:
            node.suspended = False
            for place in node.places.values():
                self._rank(place)

    def reserve(self, server: bytes) -> None:
        """Give a server no more load but what is sent to it by name."""
        place = self.places[server]
        place.reserved = True
        self._unrank(place)

    def release(self, server: bytes) -> None:
        """Give a reserved server load again; nothing if it is gone."""
        place = self.places.get(server)
        if place is not None:
            place.reserved = False
            self._rank(place)

    # --- starts

    def pick(self, now: float, node_id: bytes | None = None, *, plain: bool = False) -> Place | None:
        """Return the server that takes the next start; None while all have as many waiting as they may.

        Args:
            now: The time.
            node_id: The node that it is for; None for any.
            plain: Whether it is a plain function.
        """
        if not self._used[plain]:
            self._used[plain] = True
            for one in self.places.values():
                self._rank(one)
        node = None
        if node_id is not None:
            node = self._nodes.get(node_id)
            if node is None:
                return None
        of_kind = self._open[plain]
        while True:
            place = of_kind.least(node)
            if place is None or not self._late(place, now, plain=plain):
                return place
            place.ranked[plain] = False
            of_kind.remove(place)

    @staticmethod
    def _late(place: Place, now: float, *, plain: bool) -> bool:
        # What blocks a server keeps plain functions from beginning, too; it is not so the other way round.
        return place.lanes[0].late(now) or (plain and place.lanes[1].late(now))

    def takes_more(self, place: Place, now: float, *, plain: bool) -> bool:
        """Whether a server would take another start of this kind."""
        return place.ranked[plain] and not self._late(place, now, plain=plain)

    def sent(self, place: Place, now: float, *, plain: bool = False) -> int:
        """Note that a start was sent to a server; give what `begun` is to get as `ahead`."""
        lane = place.lanes[plain]
        if not lane.waiting:
            self._waiting[place] = None
        ahead = lane.sent(now)
        if ahead >= lane.window:  # first, so that its place in the order need not be found before it is left
            self._shut(place, plain=plain)
        self._load(place, 1)
        return ahead

    def begun(self, place: Place, ahead: int, level: int, now: float, *, plain: bool = False) -> None:
        """Note that a start has begun, and lets others begin; nothing if its server is gone."""
        if place.gone:
            return
        lane = place.lanes[plain]
        lane.begun(ahead, level, now)
        if not lane.waiting:
            self._waiting.pop(place, None)
            if place.lanes[not plain].waiting:
                self._waiting[place] = None
        ranked = place.ranked
        if lane.waiting >= lane.window or not ranked[0] or (self._used[1] and not ranked[1]):
            self._rank(place)

    def returned(self, place: Place, *, plain: bool = False) -> None:
        """Note that a start was taken back before it had begun; nothing if its server is gone."""
        if place.gone:
            return
        lane = place.lanes[plain]
        lane.waiting -= 1
        lane.window = 1
        if not (place.lanes[0].waiting or place.lanes[1].waiting):
            self._waiting.pop(place, None)
        self._load(place, -1)
        self._rank(place)

    def ended(self, place: Place) -> None:
        """Note that a coroutine has ended that had begun; nothing if its server is gone."""
        if not place.gone:
            self._load(place, -1)

    def late(self, now: float) -> Iterator[Place]:
        """Return some servers where starts wait for too long; others at the next call."""
        for place in list(self._waiting)[:_EXAMINED] if len(self._waiting) <= _EXAMINED else self._next_waiting():
            if place.lanes[0].late(now) or place.lanes[1].late(now):
                yield place

    def _next_waiting(self) -> list[Place]:
        chosen = []
        for _, place in zip(range(_EXAMINED), self._waiting, strict=False):
            chosen.append(place)
        for place in chosen:
            del self._waiting[place]
            self._waiting[place] = None
        return chosen

    @property
    def waits(self) -> bool:
        """Whether starts wait anywhere."""
        return bool(self._waiting)

    # --- keeping the order

    def _load(self, place: Place, by: int) -> None:
        place.load += by
        node = place.node
        node.total += by
        ranked = place.ranked
        if ranked[0]:
            self._open[0].set(place)
        if ranked[1]:
            self._open[1].set(place)
        if len(self._nodes) > 1:
            self._rank_node(node)

    def _rank_node(self, node: _Node) -> None:
        if self._used[0]:
            self._open[0].changed(node)
        if self._used[1]:
            self._open[1].changed(node)

    def _rank(self, place: Place) -> None:
        """Put a server among those that take starts, or out of them."""
        taking = not (place.gone or place.reserved or place.node.suspended)
        of_async, of_plain = place.lanes
        has_room = of_async.waiting < of_async.window
        for kind, room in ((0, has_room), (1, has_room and of_plain.waiting < of_plain.window)):
            wanted = room and taking and self._used[kind]
            if wanted and not place.ranked[kind]:
                place.ranked[kind] = True
                self._open[kind].set(place)
            elif place.ranked[kind] and not wanted:
                place.ranked[kind] = False
                self._open[kind].remove(place)

    def _shut(self, place: Place, *, plain: bool) -> None:
        """Note that the window for starts of a kind is full: that for async functions counts for plain ones, too."""
        ranked = place.ranked
        if ranked[1]:
            ranked[1] = False
            self._open[1].remove(place)
        if ranked[0] and not plain:
            ranked[0] = False
            self._open[0].remove(place)

    def _unrank(self, place: Place) -> None:
        for kind in (0, 1):
            if place.ranked[kind]:
                place.ranked[kind] = False
                self._open[kind].remove(place)

    # --- questions

    def least(self, node_id: bytes | None = None) -> bytes | None:
        """Return the least loaded server of a node, or of all, whatever waits there; None if none takes load."""
        if node_id is None:
            nodes = [node for node in self._nodes.values() if not node.suspended]
            if not nodes:
                return None
            node = min(nodes, key=lambda node: node.load)
        else:
            found = self._nodes.get(node_id)
            if found is None or found.suspended:
                return None
            node = found
        free = [place for place in node.places.values() if not place.reserved]
        return min(free, key=lambda place: place.load).server if free else None

    def takes(self, server: bytes) -> bool:
        """Return whether a server is there and takes load."""
        place = self.places.get(server)
        return place is not None and not place.node.suspended and not place.reserved

    def load(self, server: bytes) -> float:
        """Return the load of a server."""
        return self.places[server].load

    def nodes(self) -> list[bytes]:
        """Return the nodes that have servers."""
        return list(self._nodes)

    def servers(self, node_id: bytes | None = None) -> list[bytes]:
        """Return the servers of a node, or all, without those that one job has alone."""
        if node_id is None:
            places = self.places
        else:
            node = self._nodes.get(node_id)
            places = node.places if node is not None else {}
        return [server for server, place in places.items() if not place.reserved]

    def total(self) -> float:
        """Return the load of all servers together."""
        return sum(node.total for node in self._nodes.values())
