"""The load balancer of a computation: it picks servers for starts, and limits how many starts may wait at a server.

This module decides, without any I/O: callers pass events and the time to its methods, which return what to do. Load is
the number of coroutines that were started at a server and have not ended. A start waits from the moment it is sent
until the server reports that it has begun.

Each server has a window of starts that may wait there, one for async functions and one for plain ones. A window holds
about five milliseconds of work: servers report how long each start has kept the next one from beginning, and the window
falls to one if that is long. If it is short, the window grows while further starts wait at the client. So single starts
never wait behind one that takes long while another server has room. All other starts wait at the client and are sent
when a server has room. Coroutines that have begun never count. The reports of a server do not depend on the speed of
the network or the load of the client's machine.

A server that has much more load than the others gets none until they have reported what they begin, or are late: a few
milliseconds decide which server reports first, and coroutines that wait first and compute later cannot be moved.

Of nodes with the same load the faster one is next. How fast they are is known from functions that have computed at
several of them.

All operations take the same time for any number of servers.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from math import log2
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

WINDOWS = (128, 64, 32, 16, 8, 4, 2, 1)
"""The size limit of a window, by how long a start kept the next one from beginning (`hold_level`)."""

LONG = len(WINDOWS) - 1
"""The `hold_level` of starts that take long."""

WIDEST = WINDOWS[0]
"""The most starts that may wait at a server."""

LATE = 0.02
"""If starts wait at a server and none begins for this many seconds, the server gets no further ones."""

_FORGOTTEN = 0.01
"""After this many seconds without a start, a window shrinks to one again: the next jobs may be quite different."""

_EXAMINED = 64
"""How many servers one search for late starts checks."""

_AHEAD_BY, _AHEAD_TIMES = 2, 1.1
"""A server has much more load than the others if the coroutines that have begun there are more than so many times the
average load, and so many more. Quick jobs have hardly begun before they end."""

_SAMPLES = 8
"""About how many of the last durations count for the usual one of a function, and for the slowness of a node."""

_FUNCTIONS = 1_000
"""Of how many functions the usual duration is kept."""

T = TypeVar("T")


class _Ranked(Generic[T]):
    """Items ordered by load, the least loaded first; among equals, the one that has had its load for the longest.

    Items of one load are kept together, in the order in which they reached it; a heap holds the distinct loads.
    They are few: so a change or a look-up takes the same time for ten items and for ten thousand.
    """

    __slots__ = ("_heap", "_levels", "loads")

    def __init__(self) -> None:
        self.loads: dict[T, float] = {}
        # A plain dict would search from its start for the first one that was not deleted.
        self._levels: dict[float, OrderedDict[T, None]] = {}
        self._heap: list[float] = []

    def set(self, thing: T, load: float) -> None:
        """Set the load of an item, which may be new."""
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
        """Remove an item."""
        del self._levels[self.loads.pop(thing)][thing]

    def least(self) -> T | None:
        """Return the item with the least load; None if there is none."""
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
        """Starts that were sent and are not reported as begun."""
        self.window = 1
        """How many may wait."""
        self.since = 0.0
        """When the first of them was sent, or when one last began."""

    def late(self, now: float) -> bool:
        """Whether starts wait and none has begun for a while."""
        return self.waiting > 0 and now - self.since > LATE

    def begun(self, ahead: int, level: int, now: float, *, more: bool) -> None:
        """Note that a start has begun.

        Args:
            ahead: How many waited when it was sent, including it.
            level: How long it kept the next one from beginning.
            now: The time.
            more: Whether more starts wait at the client than can take its room.
        """
        self.waiting -= 1
        self.since = now
        window, most = self.window, WINDOWS[level]
        if window > most:
            # Not at once: the system may have interrupted a long one. No more are sent than have begun meanwhile.
            self.window = max(most, window // 2)
        elif more and 2 * ahead >= window and window < most:
            self.window = window + 1


class ServerLoad:
    """The load balancer's record of one server."""

    __slots__ = ("counted", "gone", "held", "lanes", "load", "moved", "node", "ranked", "reserved", "server")

    def __init__(self, server: bytes, node: _ServersOfNode) -> None:
        self.server: bytes = server
        self.node: _ServersOfNode = node
        self.load: int = 0
        self.lanes: tuple[Lane, Lane] = (Lane(), Lane())
        """The windows: for async functions, for plain functions."""
        self.ranked: list[bool] = [False, False]
        """Whether it takes starts of that kind."""
        self.reserved: bool = False
        """Whether it is reserved for one job."""
        self.gone: bool = False
        """Whether it was removed."""
        self.moved: bool = False
        """Whether its load has changed since it was ranked."""
        self.counted: bool = False
        """Whether it counts for the average load: it takes starts, and was not late at the last look."""
        self.held: bool = False
        """Whether it gets nothing because it has much more load than the others."""

    @property
    def running(self) -> int:
        """How many coroutines have begun there and have not ended."""
        return self.load - self.lanes[0].waiting - self.lanes[1].waiting


class _ServersOfNode:
    """The servers of one node."""

    __slots__ = ("node_id", "order", "places", "slowness", "suspended", "total")

    def __init__(self, node_id: bytes) -> None:
        self.node_id: bytes = node_id
        self.places: dict[bytes, ServerLoad] = {}
        self.total: int = 0
        self.suspended: bool = False
        self.slowness: float = 0.0
        """How many times as long as usual functions take there, as a power of two."""
        self.order: float = 0.0
        """The same in steps, and so small that it only decides between equal loads."""

    @property
    def load(self) -> float:
        return self.total / len(self.places) + self.order

    def took(self, octaves: float) -> bool:
        """Note how long a function took, compared with the usual time; return whether the order has changed."""
        self.slowness += (octaves - self.slowness) / _SAMPLES
        before, self.order = self.order, round(2 * self.slowness) * 1e-6
        return self.order != before


class _OpenServers:
    """The servers that take starts of one kind: the least loaded one of the least loaded node is next."""

    __slots__ = ("_by_load", "_nodes")

    def __init__(self) -> None:
        self._nodes: dict[_ServersOfNode, _Ranked[ServerLoad]] = {}
        self._by_load: _Ranked[_ServersOfNode] = _Ranked()

    def set(self, place: ServerLoad) -> None:
        """Add a server, or note that its load has changed."""
        node = place.node
        ranked = self._nodes.get(node)
        if ranked is None:
            ranked = self._nodes[node] = _Ranked()
            self._by_load.set(node, node.load)
        ranked.set(place, place.load)

    def remove(self, place: ServerLoad) -> None:
        """Forget a server."""
        ranked = self._nodes[place.node]
        ranked.remove(place)
        if not ranked.loads:
            del self._nodes[place.node]
            self._by_load.remove(place.node)

    def changed(self, node: _ServersOfNode) -> None:
        """Note that the load of a node has changed."""
        if node in self._nodes:
            self._by_load.set(node, node.load)

    def least(self, node: _ServersOfNode | None) -> ServerLoad | None:
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
        suspended: The nodes that get no more load.
        places: The servers, by id.
        held: The servers that get nothing because they have much more load than the others, each with how many have
            begun there and a number that decides between equal ones; some are no longer held, or there twice.
    """

    def __init__(self) -> None:
        self.suspended: set[bytes] = set()
        self.places: dict[bytes, ServerLoad] = {}
        self._nodes: dict[bytes, _ServersOfNode] = {}
        self._open: tuple[_OpenServers, _OpenServers] = (_OpenServers(), _OpenServers())
        # Most computations run functions of one kind only, and each ranking costs time for each job.
        self._used = [False, False]
        self._waiting: dict[ServerLoad, None] = {}
        # Servers are ranked when the next one is picked: many coroutines may end at once before that.
        self._moved: list[ServerLoad] = []
        self._counted = self._counted_load = 0
        self.held: list[tuple[int, int, ServerLoad]] = []
        self._number = 0
        self._usual: dict[str, float] = {}
        """The usual duration of each function that computes, as a power of two."""

    # --- servers

    def add(self, node_id: bytes, server: bytes) -> ServerLoad:
        """Add a server without load."""
        self.remove(server)
        node = self._nodes.get(node_id)
        if node is None:
            node = self._nodes[node_id] = _ServersOfNode(node_id)
            node.suspended = node_id in self.suspended
        place = node.places[server] = self.places[server] = ServerLoad(server, node)
        self._count(place, counts=not node.suspended)
        self._rank(place)
        self._rank_node(node)
        return place

    def remove(self, server: bytes) -> None:
        """Remove a server with its load."""
        place = self.places.pop(server, None)
        if place is None:
            return
        place.gone = True
        self._count(place, counts=False)
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
        """Give no more load to a node, including servers that it gets later."""
        self.suspended.add(node_id)
        node = self._nodes.get(node_id)
        if node is not None:
            node.suspended = True
            for place in node.places.values():
                self._count(place, counts=False)
                self._unrank(place)

    def resume(self, node_id: bytes) -> None:
        """Give a node load again."""
        self.suspended.discard(node_id)
        node = self._nodes.get(node_id)
        if node is not None:
            node.suspended = False
            for place in node.places.values():
                self._count(place, counts=not place.reserved)
                self._rank(place)

    def reserve(self, server: bytes) -> None:
        """Reserve a server: it gets no load except starts for that very server."""
        place = self.places[server]
        place.reserved = True
        self._count(place, counts=False)
        self._unrank(place)

    def release(self, server: bytes) -> None:
        """Give a reserved server load again; does nothing if the server is gone."""
        place = self.places.get(server)
        if place is not None:
            place.reserved = False
            self._count(place, counts=not place.node.suspended)
            self._rank(place)

    # --- starts

    def pick(self, now: float, node_id: bytes | None = None, *, plain: bool = False) -> ServerLoad | None:
        """Return the server that takes the next start; None while all have full windows or much more load than others.

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
        if self.held:
            self._let_go(node)
        if self._moved:
            self._rank_moved()
        of_kind = self._open[plain]
        while True:
            place = of_kind.least(node)
            if place is None:
                return None
            if (place.lanes[0].waiting or place.lanes[1].waiting) and self._late(place, now, plain=plain):
                place.ranked[plain] = False
                of_kind.remove(place)
                self.leave_out(place)
                if self.held:
                    self._let_go(node)
            elif node is not None or place.running <= _AHEAD_BY or not self._hold(place):
                return place

    @staticmethod
    def _late(place: ServerLoad, now: float, *, plain: bool) -> bool:
        # A blocked server does not begin plain functions either, but a long plain function does not block async ones.
        return place.lanes[0].late(now) or (plain and place.lanes[1].late(now))

    def takes_more(self, place: ServerLoad, now: float, *, plain: bool) -> bool:
        """Whether a server would take another start of this kind."""
        return (
            place.ranked[plain]
            and not self._late(place, now, plain=plain)
            and (place.running <= _AHEAD_BY or not self._hold(place))
        )

    def leave_out(self, place: ServerLoad) -> None:
        """Note that a server is late: the others no longer wait for its report."""
        self._count(place, counts=False)

    def _most(self) -> float:
        """Return how many coroutines may have begun at a server that gets more."""
        return _AHEAD_TIMES * self._counted_load / self._counted + _AHEAD_BY if self._counted else float("inf")

    def _hold(self, place: ServerLoad) -> bool:
        """Give a server nothing for now if it has much more load than the others; return whether it has."""
        if place.running <= self._most():
            return False
        place.held = True
        self._unrank(place)
        self._note_held(place)
        return True

    def _note_held(self, place: ServerLoad) -> None:
        self._number += 1
        heapq.heappush(self.held, (place.running, self._number, place))

    def _let_go(self, node: _ServersOfNode | None) -> None:
        """Give load again to servers that no longer have much more than the others, and to those of a node."""
        held, most = self.held, self._most()
        while held and held[0][0] <= most:
            self._no_longer_held(heapq.heappop(held)[2])
        if node is not None:
            for place in node.places.values():
                self._no_longer_held(place)

    def _no_longer_held(self, place: ServerLoad) -> None:
        if place.held:
            place.held = False
            self._rank(place)

    def _count(self, place: ServerLoad, *, counts: bool) -> None:
        if place.counted is not counts:
            place.counted = counts
            self._counted += 1 if counts else -1
            self._counted_load += place.load if counts else -place.load

    def sent(self, place: ServerLoad, now: float, *, plain: bool = False) -> int:
        """Note that a start was sent to a server; return the `ahead` to pass to `begun`."""
        lane = place.lanes[plain]
        if not lane.waiting:
            self._waiting[place] = None
            if now - lane.since > _FORGOTTEN:
                lane.window = 1
            lane.since = now
        lane.waiting = ahead = lane.waiting + 1
        if ahead >= lane.window:  # first, so that its place in the order need not be found before it is removed
            self._shut(place, plain=plain)
        self._load(place, 1)
        return ahead

    def begun(
        self, place: ServerLoad, ahead: int, level: int, now: float, *, plain: bool = False, more: bool = True
    ) -> None:
        """Note that a start has begun and lets others begin. Does nothing if its server is gone.

        Args:
            place: Its server.
            ahead: How many waited when it was sent, including it.
            level: How long it kept the next one from beginning.
            now: The time.
            plain: Whether it is a plain function.
            more: Whether more starts wait at the client than can take its room.
        """
        if place.gone:
            return
        lane = place.lanes[plain]
        lane.begun(ahead, level, now, more=more)
        if not lane.waiting:
            self._waiting.pop(place, None)
            if place.lanes[not plain].waiting:
                self._waiting[place] = None
        if not (place.counted or place.reserved or place.node.suspended):
            self._count(place, counts=True)
        ranked = place.ranked
        if lane.waiting >= lane.window or not ranked[0] or (self._used[1] and not ranked[1]):
            self._rank(place)

    def returned(self, place: ServerLoad, *, plain: bool = False) -> None:
        """Note that a start was taken back before it had begun. Does nothing if its server is gone."""
        if place.gone:
            return
        lane = place.lanes[plain]
        lane.waiting -= 1
        lane.window = 1
        if not (place.lanes[0].waiting or place.lanes[1].waiting):
            self._waiting.pop(place, None)
        self._load(place, -1)
        self._rank(place)

    def ended(
        self,
        place: ServerLoad,
        ahead: int = 0,
        level: int = 0,
        now: float = 0.0,
        *,
        plain: bool = False,
        more: bool = True,
    ) -> None:
        """Note that a coroutine has ended. Does nothing if its server is gone.

        Args:
            place: Its server.
            ahead: If it was not noted as begun, how many waited when it was sent, including it; else 0.
            level: As for `begun`; needed if `ahead` is not 0, as the next two are.
            now: The time.
            plain: Whether it is a plain function.
            more: As for `begun`.
        """
        if place.gone:
            return
        if ahead:
            self.begun(place, ahead, level, now, plain=plain, more=more)
        self._load(place, -1)

    def computed(self, place: ServerLoad, name: str, now: float, *, plain: bool) -> None:
        """Note that a function ends which has computed since it was sent. Does nothing if its server is gone.

        Args:
            place: Its server, where nothing else waited.
            name: Its name.
            now: The time.
            plain: Whether it is a plain function.
        """
        if place.gone or len(self._nodes) == 1:
            return
        duration = log2(max(now - place.lanes[plain].since, 1e-6))
        usual = self._usual.get(name)
        if usual is None:
            if len(self._usual) == _FUNCTIONS:
                self._usual.clear()
            usual = duration
        difference = min(max(duration - usual, -2.0), 2.0)  # few that take very long must not count for all others
        self._usual[name] = usual + difference / _SAMPLES
        if place.node.took(difference):
            self._rank_node(place.node)

    def late(self, now: float) -> Iterator[ServerLoad]:
        """Return some servers where starts wait for too long; others at the next call."""
        for place in list(self._waiting)[:_EXAMINED] if len(self._waiting) <= _EXAMINED else self._next_waiting():
            if place.lanes[0].late(now) or place.lanes[1].late(now):
                yield place

    def _next_waiting(self) -> list[ServerLoad]:
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

    def _load(self, place: ServerLoad, by: int) -> None:
        place.load += by
        place.node.total += by
        if place.counted:
            self._counted_load += by
        if place.held and by < 0:
            self._note_held(place)
        if not place.moved:
            place.moved = True
            self._moved.append(place)

    def _rank_moved(self) -> None:
        """Rank the servers and nodes whose load has changed."""
        moved, self._moved = self._moved, []
        for place in moved:
            place.moved = False
            if place.gone:
                continue
            if place.ranked[0]:
                self._open[0].set(place)
            if place.ranked[1]:
                self._open[1].set(place)
            if len(self._nodes) > 1:
                self._rank_node(place.node)

    def _rank_node(self, node: _ServersOfNode) -> None:
        if self._used[0]:
            self._open[0].changed(node)
        if self._used[1]:
            self._open[1].changed(node)

    def _rank(self, place: ServerLoad) -> None:
        """Add a server to those that take starts, or remove it."""
        taking = not (place.gone or place.held or place.reserved or place.node.suspended)
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

    def _shut(self, place: ServerLoad, *, plain: bool) -> None:
        """Note that a window is full: a full one for async functions also stops plain ones."""
        ranked = place.ranked
        if ranked[1]:
            ranked[1] = False
            self._open[1].remove(place)
        if ranked[0] and not plain:
            ranked[0] = False
            self._open[0].remove(place)

    def _unrank(self, place: ServerLoad) -> None:
        for kind in (0, 1):
            if place.ranked[kind]:
                place.ranked[kind] = False
                self._open[kind].remove(place)

    # --- questions

    def least(self, node_id: bytes | None = None) -> bytes | None:
        """Return the least loaded server of a node, or of all, even if starts wait there; None if none takes load."""
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
        """Return the servers of a node, or all, without those reserved for one job."""
        if node_id is None:
            places = self.places
        else:
            node = self._nodes.get(node_id)
            places = node.places if node is not None else {}
        return [server for server, place in places.items() if not place.reserved]

    def total(self) -> float:
        """Return the total load of all servers."""
        return sum(node.total for node in self._nodes.values())
