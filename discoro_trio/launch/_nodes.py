"""Launchers that run each node in a task of its own.

This module owns the names, states and reasons of the nodes, the time they may take to join, and the end of the block.
Subclasses run one node until it has ended.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections import deque
from contextlib import asynccontextmanager
from itertools import islice
from typing import TYPE_CHECKING, Literal

import trio

from .._arguments import integer, number
from .._cluster import LaunchedNode, Launcher, SchedulerAccess
from .._errors import DiscoroError
from .._scopes import finish, open_background
from .._values import Location
from ._order import JOINED
from ._output import TAIL, log_line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

logger = logging.getLogger(__name__)

_KEPT = 100
"""The most ended nodes that are listed."""


class NodeRun:
    """One node, and what is known of it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.state: Literal["starting", "running", "ended"] = "starting"
        self.reason = ""
        self.location: Location | None = None
        self.tail: deque[str] = deque(maxlen=TAIL)
        self.begun = trio.Event()
        """Set when its process starts; the time that it may take to join begins."""
        self.joined = trio.Event()
        self.stop = trio.Event()
        """Set when it is to end."""
        self.ended = trio.Event()

    def end(self, reason: str) -> None:
        """Ask for its end, unless it has ended; the first reason is kept."""
        if not (self.stop.is_set() or self.ended.is_set()):
            self.reason = reason
            self.stop.set()


class NodeLauncher(Launcher):
    """Runs each node in a task of its own.

    Args:
        size: The number of nodes to start by default.
        cpus: Servers of each node, as for `open_node`.
        timeout: Seconds that a node may take to join the scheduler, from the start of its process.
    """

    def __init__(self, size: int, *, cpus: int, timeout: float) -> None:
        self._size = size
        self._cpus = integer("cpus", cpus)
        self._timeout = number("timeout", timeout)
        self._nodes: dict[str, NodeRun] = {}
        self._begin: Callable[[NodeRun], None] | None = None
        self._changed = trio.Event()

    @abstractmethod
    def _names(self) -> Iterable[str]:
        """Return the names that nodes can have, in the order of their use."""

    @abstractmethod
    async def _run_node(self, node: NodeRun, access: SchedulerAccess) -> str:
        """Run a node until it has ended, or until `node.stop` is set; then end it. Return how it has ended."""

    @property
    def size(self) -> int:
        """The number of nodes that are started by default."""
        return self._size

    @property
    def nodes(self) -> tuple[LaunchedNode, ...]:
        """The nodes of the current block, or of the last one."""
        return tuple(
            LaunchedNode(
                name=name, state=one.state, reason=one.reason, location=one.location, taken_back=one.stop.is_set()
            )
            for name, one in self._nodes.items()
        )

    async def until_changed(self) -> None:
        """Wait until the state of a node changes; cancelling the wait changes nothing."""
        await self._changed.wait()

    async def take_back(self, name: str) -> None:
        """End one node, and wait until it has ended.

        Coroutines that run there are cancelled, have their grace period, and end in ServerLost. If the wait is
        cancelled, the node ends all the same.

        Args:
            name: The node's name.

        Raises:
            ValueError: There is no node of this name.
        """
        node = self._nodes.get(name)
        if node is None:
            message = f"name must be one of {sorted(self._nodes)}, not {name!r}"
            raise ValueError(message)
        node.end("it was taken back")
        await node.ended.wait()

    def start(self, count: int) -> tuple[str, ...]:
        """Start further nodes in the current block, without waiting for them.

        Args:
            count: How many.

        Returns:
            Their names; fewer if there is no place for as many.

        Raises:
            RuntimeError: The launcher is not open.
        """
        if self._begin is None:
            message = "this launcher is not open"
            raise RuntimeError(message)
        free = (name for name in self._names() if name not in self._nodes or self._nodes[name].ended.is_set())
        started = tuple(islice(free, count))
        ended = [name for name, node in self._nodes.items() if node.ended.is_set()]
        for name in ended[:-_KEPT]:
            del self._nodes[name]
        for name in started:
            node = self._nodes[name] = NodeRun(name)
            self._begin(node)
        return started

    @asynccontextmanager
    async def open(self, access: SchedulerAccess, *, count: int | None = None) -> AsyncIterator[None]:
        """Run the nodes while the block lasts; used by `open_scheduler`.

        Args:
            access: What the nodes need to join the scheduler.
            count: The number of nodes to begin with; None for `size`.

        Raises:
            DiscoroError: No node could join.
            RuntimeError: The launcher is in use.
        """
        if self._begin is not None:
            message = "this launcher is in use already; make one for each scheduler"
            raise RuntimeError(message)
        self._nodes = {}
        try:
            # Shielded: a node is followed until it has ended, also when the block is cancelled.
            async with open_background(shielded=True) as nursery:
                self._begin = lambda node: nursery.start_soon(self._run, node, access, name=f"node {node.name}")
                self.start(self.size if count is None else count)
                try:
                    if self._nodes:
                        await self._until_first_joined(access)
                    yield
                finally:
                    for node in self._nodes.values():
                        node.end("the scheduler's block was left")
                    await finish(self._until_ended)
        finally:
            self._begin = None

    async def _until_first_joined(self, access: SchedulerAccess) -> None:
        while not any(node.state == "running" for node in self._nodes.values()):
            if all(node.state == "ended" for node in self._nodes.values()):
                reasons = "; ".join(f"{name}: {node.reason}" for name, node in self._nodes.items())
                message = f"no node could join the scheduler at {access.location}: {reasons}"
                raise DiscoroError(message)
            await self._changed.wait()

    async def _until_ended(self) -> None:
        for node in self._nodes.values():
            await node.ended.wait()

    # --- the life of one node

    async def _run(self, node: NodeRun, access: SchedulerAccess) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._limit_start, node, access)
                how = await self._run_node(node, access)
                nursery.cancel_scope.cancel()
            if node.stop.is_set():
                logger.info("the node %s has ended: %s", node.name, node.reason)
            else:
                node.reason = f"{how}: {' / '.join(node.tail)}" if node.tail else how
                logger.warning("the node %s has ended: %s", node.name, node.reason)
        finally:
            self._set(node, "ended")
            node.ended.set()

    async def _limit_start(self, node: NodeRun, access: SchedulerAccess) -> None:
        await node.begun.wait()
        with trio.move_on_after(self._timeout):
            await node.joined.wait()
        if not node.joined.is_set() and not node.stop.is_set():
            reason = (
                f"it did not join within timeout={self._timeout:g} s; can it connect to {access.location}? "
                "open_scheduler(ext_ip_addr=…) sets another address"
            )
            logger.warning("the node %s: %s", node.name, reason)
            node.end(reason)

    def _set(self, node: NodeRun, state: Literal["running", "ended"]) -> None:
        node.state = state
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def _waits(self, node: NodeRun, reason: str) -> None:
        """Note what a node that is starting waits for."""
        if node.state == "starting" and reason != node.reason and not node.stop.is_set():
            node.reason = reason
            logger.info("the node %s: %s", node.name, reason)
            self._notify()

    def _fetched(self, node: NodeRun, lines: Iterable[tuple[int, str]]) -> None:
        """Note what a `NodeKeeper` elsewhere has reported for the first time or since: the stream and text of lines."""
        if not node.begun.is_set():
            self._waits(node, "its process is starting")
            node.begun.set()
        for stream, line in lines:
            self._wrote(node, line) if stream == 1 else log_line(node.name, line, node.tail)

    def _wrote(self, node: NodeRun, line: str) -> None:
        """Note a line that a node has written to its standard output."""
        if not line.startswith(JOINED):
            logger.info("%s: %s", node.name, line)
        else:
            self._joined(node, Location.parse(line.removeprefix(JOINED)))

    def _joined(self, node: NodeRun, location: Location) -> None:
        """Note that a node has joined the scheduler."""
        if node.state == "starting" and not node.stop.is_set():
            node.location = location
            node.reason = ""
            node.joined.set()
            self._set(node, "running")
            logger.info("the node %s has joined", node.name)
