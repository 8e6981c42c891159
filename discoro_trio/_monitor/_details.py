"""Fetches data that only servers have, while it is viewed: arguments of coroutines, and output.

Only data in view is fetched. If a server does not answer, the next request to it is delayed. A monitor of a computation
fetches nothing: the client has the arguments and receives the output.
"""

from __future__ import annotations

import math
from glob import escape
from typing import TYPE_CHECKING

import trio

from .._client import Computation
from .._cluster import WantedOf
from .._errors import DiscoroError
from .._process import THREAD, Coro, Wanted
from ._tree import tree
from ._views import render

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._broadcast import Broadcast
    from ._query import Query
    from ._source import Follower, HasTables

_WITH_ARGUMENTS = frozenset({"coroutines", "server", "coroutine"})
_TREE, _NOW = "tree", "cluster"
_WITH_OUTPUT = frozenset({"output", "coroutine"})
_OFTEN = 0.5
"""Seconds between two checks of the rows in view."""
_SHARE = 0.1
"""The share of time that may be spent on fetching."""
_SLOWEST = 10.0
"""Maximum seconds between two checks, even if they are slow."""
_CIRCLES, _MOST_SELDOM = 5.0, 60.0
"""Seconds between two searches for circular waits while the first page is viewed: at least, and at most."""
_SHARE_OF_CIRCLES = 0.02
"""The share of time that these searches may take."""
_PATIENCE = 2.5
"""Seconds that an answer to a program may wait for details."""
MOST_TASKS = 100
"""Maximum number of tasks of one process in the tree."""
MOST_SERVERS = 256
"""Maximum number of servers whose output is fetched in one check."""


class Details:
    """Fetches details.

    Args:
        hub: The views in use, and the model.
        follower: Takes lines of output, and has the source to request them from.
        source: The watched Scheduler; nothing is fetched for any other source.
    """

    def __init__(self, hub: Broadcast, follower: Follower, source: Computation | HasTables | None) -> None:
        self._hub = hub
        self._model = hub.model
        self._follower = follower
        self._tables = follower.tables
        self._source = None if isinstance(source, Computation) else source
        self._asked: dict[str, float] = {}
        self._due: dict[Query, float] = {}  # when views in use are looked at again, by Trio's clock
        self._circles_due = -math.inf

    async def run(self) -> None:
        """Fetch data in view, until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                seen = self._hub.seen()
                self._due = {query: self._due.get(query, -math.inf) for query, _ in seen}
                for query, keys in seen:
                    if trio.current_time() >= self._due[query]:
                        self._due[query] = math.inf
                        nursery.start_soon(self._look_and_wait, query, keys)
                await trio.sleep(_OFTEN)

    async def _look_and_wait(self, query: Query, keys: list[str]) -> None:
        """Fetch the data of one view; a slow answer delays only this view."""
        began = trio.current_time()
        await self._look(query, keys)
        now = trio.current_time()
        if query in self._due:
            self._due[query] = now + max(_OFTEN, min((now - began) / _SHARE, _SLOWEST))

    async def fill(self, query: Query) -> None:
        """Fetch the data of a page, from servers that answer soon."""
        if query.view not in _WITH_ARGUMENTS | _WITH_OUTPUT | {_TREE, _NOW}:
            return
        page = render(self._model, query, self._hub.clock())
        with trio.move_on_after(_PATIENCE):
            await self._look(query, [str(row["id"]) for row in page.rows])

    async def _look(self, query: Query, keys: Iterable[str]) -> None:
        if self._source is not None:
            await self._fetch(self._source, query, keys)
        if query.view == "coroutine":
            await self._fetch_stack(query.key)
        if query.view == _TREE:
            await self._fetch_tree()
        if query.view == _NOW and trio.current_time() >= self._circles_due:
            await self._find_circles()

    async def _find_circles(self) -> None:
        """Look for coroutines that wait for each other for ever; seldom, as all processes look through their tasks."""
        self._circles_due = math.inf
        began = trio.current_time()
        try:
            found = await self._follower.stacks(Wanted(stuck=True))
            self._model.note_circle(tree(found)["circle"])
        except DiscoroError:
            pass  # the pages say that the scheduler does not answer
        finally:
            now = trio.current_time()
            self._circles_due = now + max(_CIRCLES, min((now - began) / _SHARE_OF_CIRCLES, _MOST_SELDOM))

    async def _fetch_tree(self) -> None:
        try:
            found = await self._follower.stacks(Wanted(limit=MOST_TASKS))
        except DiscoroError:
            return  # the pages say that the scheduler does not answer
        running = [one for one in self._model.computations.values() if one.state != "closed"]
        clients = {one.client: f"{one.owner} with {one.name or one.key[:8]}" for one in running if one.client}
        now = tree(found, clients)
        if now != self._model.tree:
            self._model.tree = now
            self._model.changed()
        self._model.note_circle(now["circle"])

    async def _fetch_stack(self, key: str) -> None:
        coroutine = self._model.running.get(key)
        if coroutine is None:
            return
        try:
            found = await self._follower.stacks(Wanted(escape(coroutine.name), escape(coroutine.server)))
        except DiscoroError:
            return  # the pages say that the scheduler does not answer
        for dump in [process.picture for process in found if process.picture is not None]:
            for task in dump.tasks:
                if task.coro == key and task.begins:
                    threads = [one.stack for one in dump.threads if one.name == coroutine.name]
                    stack = threads[0] if task.waits == THREAD and len(threads) == 1 else task.stack
                    waits = " ".join(filter(None, (task.waits, task.target_name)))
                    coroutine.stack, coroutine.waits = tuple(stack), waits
                    self._model.changed()

    async def _fetch(self, source: HasTables, query: Query, keys: Iterable[str]) -> None:
        wanted: dict[bytes, WantedOf] = {}
        if query.view in _WITH_ARGUMENTS:
            for coro in self._unknown([query.key] if query.view == "coroutine" else keys):
                wanted.setdefault(coro.home, WantedOf(coro.home, [])).serials.append(coro.serial)
        if query.view in _WITH_OUTPUT:
            for server_id in self._servers(query):
                serials = wanted[server_id].serials if server_id in wanted else []
                wanted[server_id] = WantedOf(server_id, serials, self._tables.last_lines.get(server_id, 0))
        if not wanted:
            return
        try:
            found = await source.details(list(wanted.values()))
        except DiscoroError:
            return  # the pages say that the scheduler does not answer
        for told in found.told:
            for serial, text in told.arguments.items():
                coroutine = self._model.coroutine(f"{told.server_id.hex()}-{serial:x}")
                if coroutine is not None:
                    coroutine.described = text
                    self._model.changed()
            server = self._tables.location_of(told.server_id)
            self._tables.lines(told.server_id, server, told.lines)

    def _unknown(self, keys: Iterable[str]) -> Iterable[Coro[object]]:
        """Return the coroutines whose arguments are unknown and were not requested lately."""
        now = trio.current_time()
        if len(self._asked) > MOST_SERVERS * 100:
            self._asked = {key: at for key, at in self._asked.items() if now - at < _SLOWEST}
        for key in keys:
            coroutine = self._model.running.get(key)
            if coroutine is None or coroutine.described is not None or not isinstance(coroutine.handle, Coro):
                continue
            if self._model.servers[coroutine.server].state == "unresponsive":
                continue
            if now - self._asked.get(key, -_SLOWEST) >= _SLOWEST:
                self._asked[key] = now
                yield coroutine.handle

    def _servers(self, query: Query) -> list[bytes]:
        if query.view == "coroutine":
            home = query.key.partition("-")[0]
            return [bytes.fromhex(home)] if home in self._tables.servers.values() else []
        servers = [
            one
            for where, one in self._tables.servers.items()
            if query.server in {"", where} and self._model.servers[where].state != "unresponsive"
        ]
        return [bytes.fromhex(one) for one in servers[:MOST_SERVERS]]
