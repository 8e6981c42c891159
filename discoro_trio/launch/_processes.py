"""Launchers whose nodes are child processes of the program, such as `ssh`.

This module owns such a process: its start, what it writes, its end.
"""

from __future__ import annotations

import logging
import subprocess
from abc import abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING

import attrs
import trio

from .._errors import DiscoroError
from ._nodes import NodeLauncher
from ._order import LONGEST_END, Order
from ._output import log_line, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from .._cluster import SchedulerAccess
    from ._nodes import NodeRun

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
    tcp_ports: str | None = None
    """The ports of the node and its servers, as for `open_node`."""
    delay: float = 0.0
    """Seconds to wait before the start."""
    killed_after: float | None = None
    """Seconds after the start at which the process is killed, in tests; None for never."""


class ProcessLauncher(NodeLauncher):
    """Runs each node as one child process."""

    @abstractmethod
    def _processes(self) -> Iterable[NodeProcess]:
        """Return the processes that can be run, in this order; their names are unique."""

    def _reaching(self, process: NodeProcess, access: SchedulerAccess) -> NodeProcess:  # noqa: ARG002 - for tunnels
        """Return how to run a process so that its node and the program can connect to each other.

        Raises:
            DiscoroError: They cannot.
        """
        return process

    def _names(self) -> Iterator[str]:
        return (process.name for process in self._processes())

    async def _run_node(self, node: NodeRun, access: SchedulerAccess) -> str:
        process = next(one for one in self._processes() if one.name == node.name)
        with trio.move_on_after(process.delay):
            await node.stop.wait()
        if node.stop.is_set():
            return ""
        try:
            process = self._reaching(process, access)
        except DiscoroError as error:
            return str(error)
        return await self._run_process(node, process, access)

    async def _run_process(self, node: NodeRun, how: NodeProcess, access: SchedulerAccess) -> str:
        """Run the process until it has ended; return how it did."""
        command, location = how.command, access.location
        order = Order(access.secret, location.addr, location.port, node.name, self._cpus, how.tcp_ports)
        node.begun.set()
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
                nursery.start_soon(_keep_time, node, how, process, process.stdin)
                async with trio.open_nursery() as readers:
                    readers.start_soon(_read_lines, process.stdout, lambda line: self._wrote(node, line))
                    readers.start_soon(_read_lines, process.stderr, lambda line: log_line(node.name, line, node.tail))
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
        return f"{command[0]} ended with status {process.returncode}"


async def _keep_time(node: NodeRun, how: NodeProcess, process: trio.Process, stdin: trio.abc.SendStream) -> None:
    """End the process when it is to end: in order at first, by force after a time."""
    async with trio.open_nursery() as nursery:
        if how.killed_after is not None:
            nursery.start_soon(_kill_after, process, how.killed_after)
        await node.stop.wait()
        await stdin.aclose()
        await trio.sleep(_KILL_AFTER)
        logger.warning("the node %s did not end within %g s; it is killed", node.name, _KILL_AFTER)
        process.kill()
        nursery.cancel_scope.cancel()


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
