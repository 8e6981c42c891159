"""Launchers whose nodes are child processes of the program, such as `ssh`.

This module owns the life of such a process: its start, what it writes, the time it may take, its end.
"""

from __future__ import annotations

import logging
import subprocess
from abc import abstractmethod
from collections import deque
from contextlib import asynccontextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING, Literal

import attrs
import trio

from .._arguments import integer, number
from .._cluster import LaunchedNode, Launcher, SchedulerAccess
from .._errors import DiscoroError
from .._scopes import finish, open_background
from .._values import Location
from ._order import JOINED, LONGEST_END, Order
from ._output import TAIL, log_line, printable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence

logger = logging.getLogger(__name__)

NODE_MODULE = ("-P", "-m", "discoro_trio.launch._node")
"""Arguments of Python that run a node. With -P, files in the current folder do not replace modules."""

_KILL_AFTER = LONGEST_END + 3
"""Seconds after which a process that was to end is killed; a node needs LONGEST_END itself."""
_LAST_LINES = 1.0
"""Seconds for which output is read after the process has ended: another process may hold the pipe open."""
_LONGEST_LINE = 8192


@attrs.frozen(kw_only=True)
class NodeProcess:
    """How to run the process of one node."""

    name: str
    """The node's name."""
    command: Sequence[str]
    """The command line. The process reads its order from standard input, and ends when that is closed."""
    delay: float = 0.0
    """Seconds to wait before the start."""
    killed_after: float | None = None
    """Seconds after the start at which the process is killed, in tests; None for never."""


class _Node:
    """One node, and what is known of it."""

    def __init__(self, process: NodeProcess) -> None:
        self.process = process
        self.state: Literal["starting", "running", "ended"] = "starting"
        self.reason = ""
        self.location: Location | None = None
        self.tail: deque[str] = deque(maxlen=TAIL)
        self.joined = trio.Event()
        self.stop = trio.Event()
        self.ended = trio.Event()

    def end(self, reason: str) -> None:
        """Ask for its end, unless it has ended; the first reason is kept."""
        if not (self.stop.is_set() or self.ended.is_set()):
            self.reason = reason
            self.stop.set()


class ProcessLauncher(Launcher):
    """Runs each node as one child process.

    Args:
        size: The number of nodes to start by default.
        cpus: Servers of each node, as for `open_node`.
        timeout: Seconds that a node may take to join the scheduler.
    """

    def __init__(self, size: int, *, cpus: int, timeout: float) -> None:
        self._size = size
        self._cpus = integer("cpus", cpus)
        self._timeout = number("timeout", timeout)
        self._nodes: dict[str, _Node] = {}
        self._begin: Callable[[_Node], None] | None = None
        self._changed = trio.Event()

    @abstractmethod
    def _processes(self) -> Iterable[NodeProcess]:
        """Return the processes that can be run, in this order; their names are unique."""

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
            Their names; fewer if there are no more hosts.

        Raises:
            RuntimeError: The launcher is not open.
        """
        if self._begin is None:
            message = "this launcher is not open"
            raise RuntimeError(message)
        free = (one for one in self._processes() if one.name not in self._nodes or self._nodes[one.name].ended.is_set())
        started = [_Node(process) for process in islice(free, count)]
        for node in started:
            self._nodes[node.process.name] = node
            self._begin(node)
        return tuple(node.process.name for node in started)

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
            # Shielded: a node's process is read and waited for until it has ended, also when the block is cancelled.
            async with open_background(shielded=True) as nursery:
                self._begin = lambda node: nursery.start_soon(self._run, node, access, name=f"node {node.process.name}")
                self.start(self._size if count is None else count)
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

    def _set(self, node: _Node, state: Literal["running", "ended"]) -> None:
        node.state = state
        self._changed.set()
        self._changed = trio.Event()

    # --- the life of one node

    async def _run(self, node: _Node, access: SchedulerAccess) -> None:
        name = node.process.name
        try:
            with trio.move_on_after(node.process.delay):
                await node.stop.wait()
            if not node.stop.is_set():
                how = await self._run_process(node, access)
                if node.stop.is_set():
                    logger.info("the node %s has ended: %s", name, node.reason)
                else:
                    node.reason = how
                    logger.warning("the node %s has ended: %s", name, how)
        finally:
            self._set(node, "ended")
            node.ended.set()

    async def _run_process(self, node: _Node, access: SchedulerAccess) -> str:
        """Run the process until it has ended; return how it did."""
        name, command = node.process.name, node.process.command
        location = access.location
        order = Order(access.secret, location.addr, location.port, name, self._cpus)
        try:
            # In a session of its own: Ctrl-C in the terminal is for the program, which ends the nodes in order.
            process = await trio.lowlevel.open_process(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            return f"{command[0]} cannot be started: {error.strerror}"
        assert process.stdin is not None  # noqa: S101 - for the type checker
        assert process.stdout is not None  # noqa: S101 - for the type checker
        assert process.stderr is not None  # noqa: S101 - for the type checker
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_time, node, process, process.stdin, access)
                async with trio.open_nursery() as readers:
                    readers.start_soon(_read_lines, process.stdout, lambda line: self._wrote(node, line))
                    readers.start_soon(_read_lines, process.stderr, lambda line: log_line(name, line, node.tail))
                    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):  # it has ended, or is to end
                        await process.stdin.send_all(order.encode())
                    await process.wait()
                    readers.cancel_scope.deadline = trio.current_time() + _LAST_LINES
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                process.kill()
                await process.wait()
                for stream in (process.stdin, process.stdout, process.stderr):
                    await stream.aclose()
        status = process.returncode
        how = f"{command[0]} ended with status {status}"
        return f"{how}: {' / '.join(node.tail)}" if node.tail else how

    async def _keep_time(
        self, node: _Node, process: trio.Process, stdin: trio.abc.SendStream, access: SchedulerAccess
    ) -> None:
        """End the process when it is to end: in order at first, by force after a time."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._limit_start, node, access)
            if node.process.killed_after is not None:
                nursery.start_soon(_kill_after, process, node.process.killed_after)
            await node.stop.wait()
            await stdin.aclose()
            await trio.sleep(_KILL_AFTER)
            logger.warning("the node %s did not end within %g s; it is killed", node.process.name, _KILL_AFTER)
            process.kill()
            nursery.cancel_scope.cancel()

    async def _limit_start(self, node: _Node, access: SchedulerAccess) -> None:
        with trio.move_on_after(self._timeout):
            await node.joined.wait()
        if not node.joined.is_set() and not node.stop.is_set():
            reason = (
                f"it did not join within timeout={self._timeout:g} s; can it connect to {access.location}? "
                "open_scheduler(ext_ip_addr=…) sets another address"
            )
            logger.warning("the node %s: %s", node.process.name, reason)
            node.end(reason)

    def _wrote(self, node: _Node, line: str) -> None:
        if not line.startswith(JOINED):
            logger.info("%s: %s", node.process.name, line)
        elif node.state == "starting" and not node.stop.is_set():
            node.location = Location.parse(line.removeprefix(JOINED))
            node.joined.set()
            self._set(node, "running")
            logger.info("the node %s has joined", node.process.name)


async def _read_lines(stream: trio.abc.ReceiveStream, wrote: Callable[[str], None]) -> None:
    rest = b""
    async for data in stream:
        *whole, rest = (rest + data).split(b"\n")
        if len(rest) > _LONGEST_LINE:
            whole, rest = [*whole, rest], b""
        for line in whole:
            wrote(printable(line))
    if rest:
        wrote(printable(rest))


async def _kill_after(process: trio.Process, seconds: float) -> None:
    await trio.sleep(seconds)
    process.kill()
