"""The node's side of the fork server: start it, request forks, receive the ends of servers, end it.

This module owns the fork server's life and the traffic with it. `_startup` starts it, `_server_process` is the node's
view of one server, and `_fork_server` is the program on the other side.

    async with open_fork_server() as fork_server:
        server = await fork_server.fork(spec, folder=folder)
        ...
        exit = await server.wait()

Every task is in the nursery of `open_fork_server` and shielded, because leaving the block needs them. The tasks end
when the fork server has ended. They are protected from Ctrl-C, which is for the program's main task.
"""

from __future__ import annotations

import itertools
import logging
import math
import os
import signal
import socket
import sys
from array import array
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import trio

from ..._config import PULSES, config
from ..node._startup import SERVER_MODULE, start_fork_server
from . import _protocol as wire
from ._os import kill_left_group
from ._server_process import Exit, ServerProcess

if TYPE_CHECKING:
    import subprocess
    from collections.abc import AsyncIterator
    from pathlib import Path

    from ..node._startup import StartedForkServer
    from ._server_process import OnOutput

logger = logging.getLogger(__name__)

__all__ = ["Exit", "ForkServer", "ServerProcess", "open_fork_server"]

CLOSE_SECONDS = 3.0
"""Seconds that the fork server has to end its servers and itself before it is killed."""
GONE_SECONDS = 1.0
"""Seconds to wait for killed servers whose fork server is lost."""
POLL_SECONDS = 0.002
START_SECONDS = 60.0
"""Seconds that the fork server has to load."""
LEAST_SILENCE = 5.0
"""Seconds without an answer after which a loaded fork server is killed, if five heartbeats take less time."""

_Posted = tuple[wire.Request, ServerProcess | None]
"""A request to send and, for a fork, the server whose descriptors are sent with it."""


class ForkServer:
    """A running fork server; `open_fork_server` yields it.

    Attributes:
        ended: Set when the fork server has ended, and its servers with it.
    """

    def __init__(self, process: subprocess.Popen[bytes], channel: socket.socket, nursery: trio.Nursery) -> None:
        self.ended = trio.Event()
        self._process = process
        self._channel = trio.socket.from_stdlib_socket(channel)
        self._nursery = nursery
        self._numbers = itertools.count(1)
        self._servers: dict[int, ServerProcess] = {}
        self._over = False
        self._loaded = False
        self._answers = True
        """Whether it has answered the last heartbeat."""
        self._failure = ""
        """Why this process killed it; empty if it did not."""
        self._outbox, self._inbox = trio.open_memory_channel[_Posted](math.inf)
        nursery.start_soon(self._write)
        nursery.start_soon(self._read)
        nursery.start_soon(self._beat)

    @property
    def pid(self) -> int:
        """The fork server's process id."""
        return self._process.pid

    async def wait_ended(self) -> None:
        """Wait until the fork server has ended, and its servers with it."""
        await self.ended.wait()

    async def fork(
        self, spec: bytes, *, folder: Path, on_output: OnOutput | None = None, pulse_interval: float = 0.0
    ) -> ServerProcess:
        """Fork a server. This may be called at once, while the fork server still starts.

        Args:
            spec: The bytes for the server's main function.
            folder: Its working folder.
            on_output: Called with the server, 1 or 2 (standard output or error), and up to 64 KiB when they arrive. It
                must not block; an exception from it ends the block of `open_fork_server`.
            pulse_interval: Seconds between the fork server's requests to this process. After five without an answer the
                server is killed, so that it does not outlive a stopped node. 0 for no such requests.

        Returns:
            The process, once its pid is known. The caller closes its link.

        Raises:
            OSError: The operating system refused the fork.
            trio.BrokenResourceError: The fork server has ended.

        Cancelling kills the server.
        """
        if self._over:
            raise self._broken()
        server = ServerProcess(next(self._numbers), self._post, on_output)
        self._servers[server.number] = server
        request = wire.Fork(server.number, spec, os.fsencode(folder), pulse_interval)
        self._outbox.send_nowait((request, server))
        self._nursery.start_soon(self._follow, server)
        try:
            await server.wait_settled()
        except BaseException:
            server.kill()
            server.link.socket.close()
            raise
        return server

    def _post(self, request: wire.Request) -> None:
        if not self._over:
            self._outbox.send_nowait((request, None))

    def _broken(self) -> trio.BrokenResourceError:
        message = f"the fork server {self.pid} has ended; its servers have ended with it"
        return trio.BrokenResourceError(message)

    @trio.lowlevel.enable_ki_protection
    async def _follow(self, server: ServerProcess) -> None:
        with trio.CancelScope(shield=True):
            await server.follow_output()

    @trio.lowlevel.enable_ki_protection
    async def _write(self) -> None:
        """Send the requests to the fork server; half-close after the last one."""
        with trio.CancelScope(shield=True):
            async for request, server in self._inbox:
                try:
                    await self._send(wire.encode(request), server.far_fds() if server is not None else ())
                except OSError:
                    pass  # `_read` notices that the fork server is gone, and reports it to all.
                finally:
                    if server is not None:
                        server.close_far_fds()
            with suppress(OSError):
                self._channel.shutdown(socket.SHUT_WR)

    async def _send(self, data: bytes, fds: tuple[int, ...]) -> None:
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", fds))] if fds else []
        sent = await self._channel.sendmsg([data], ancillary)
        while sent < len(data):
            sent += await self._channel.send(memoryview(data)[sent:])

    @trio.lowlevel.enable_ki_protection
    async def _read(self) -> None:
        """Receive the fork server's reports until its end, then reap it and end the servers that it leaves behind."""
        with trio.CancelScope(shield=True):
            frames = wire.report_reader()
            while data := await self._receive():
                for report in frames.feed(data):
                    self._take(report)
            self._over = True
            await self._reap()
            await self._lose_servers()
            self.ended.set()

    @trio.lowlevel.enable_ki_protection
    async def _beat(self) -> None:
        """Send heartbeats to the fork server; continue it if it was stopped, and kill it if it does not answer."""
        missed = 0
        with trio.CancelScope(shield=True):
            while not await self._ends_within(config.MinPulseInterval):
                if self._answers:
                    if missed:
                        logger.info(
                            "the fork server answers again; it did not for %.0f s", missed * config.MinPulseInterval
                        )
                    missed = 0
                    self._answers = False
                    self._post(wire.Ping())
                    continue
                # Counted, not timed: time in which this node could not read an answer does not count.
                missed += 1
                silence = missed * config.MinPulseInterval
                self._process.send_signal(signal.SIGCONT)
                longest = max(PULSES * config.MinPulseInterval, LEAST_SILENCE) if self._loaded else START_SECONDS
                if silence >= longest:
                    self._failure = f"the fork server {self.pid} did not answer for {silence:.0f} s and was ended"
                    logger.warning(self._failure)
                    self._process.kill()
                    return

    async def _ends_within(self, seconds: float) -> bool:
        with trio.move_on_after(seconds):
            await self.ended.wait()
        return self.ended.is_set()

    async def _receive(self) -> bytes:
        try:
            return await self._channel.recv(wire.READ_SIZE)
        except OSError:
            return b""

    def _take(self, report: wire.Report) -> None:
        if isinstance(report, wire.AskNode):
            self._post(wire.NodeIsThere())
            return
        if isinstance(report, wire.Pong):
            self._loaded = self._answers = True
            return
        if isinstance(report, wire.Forked):
            self._servers[report.number].settle(report.pid)
            return
        server = self._servers.pop(report.number)
        if isinstance(report, wire.ServerReaped):
            server.end(report.code, report.reason)
        else:
            server.settle(None, OSError(report.errno, report.text))

    async def _reap(self) -> None:
        # After the socket is closed, only a few system calls are left before the process ends.
        with trio.move_on_after(CLOSE_SECONDS):
            while self._process.poll() is None:  # noqa: ASYNC110 (there is no event)
                await trio.sleep(POLL_SECONDS)
        if self._process.returncode is None:
            self._process.kill()
            self._process.wait()

    async def _lose_servers(self) -> None:
        """Kill the servers that the fork server did not reap.

        They are children of init now, so their process ids are valid only while a process of their group lives.
        The kernel killed them a moment ago, so it is unlikely that an id is already used by a new group.
        """
        servers = list(self._servers.values())
        self._servers.clear()
        pids = [server.forked_pid for server in servers if server.forked_pid is not None]
        for pid in pids:
            kill_left_group(pid)
        with trio.move_on_after(GONE_SECONDS):
            for pid in pids:
                await _wait_gone(pid)
        for server in servers:
            if server.forked_pid is None:
                server.settle(None, self._broken())
            else:
                server.end(-signal.SIGKILL, self._failure)

    def end_now(self) -> None:
        """Kill the fork server, also while it starts, and the process groups of its servers, without waiting."""
        self._process.kill()
        for server in self._servers.values():
            if server.forked_pid is not None:
                kill_left_group(server.forked_pid)

    async def close(self) -> None:
        """Let the fork server end its servers and itself; kill it if it does not. For `open_fork_server` only."""
        self._over = True
        self._outbox.close()
        if not self._servers:
            self._process.kill()  # It has no children, so it need not finish loading.
        try:
            with trio.move_on_after(CLOSE_SECONDS):
                await self.ended.wait()
        finally:  # This runs for a second Ctrl-C, too.
            if not self.ended.is_set():
                self._process.kill()


@asynccontextmanager
@trio.lowlevel.enable_ki_protection
async def open_fork_server(
    *, server_module: str = SERVER_MODULE, folder: Path | None = None, started: StartedForkServer | None = None
) -> AsyncIterator[ForkServer]:
    """Run a fork server while the block lasts.

    Leaving the block kills the servers with their process groups, and the fork server, and waits for their end.

    Args:
        server_module: The module whose function `main(spec, link, tail_fd)` a server runs.
        folder: The folder that the fork server removes if this process is killed.
        started: A fork server that is already started; then the other arguments are not used.

    Raises:
        OSError: The program could not be started.

    Cancelling leaves the block in the same way; that takes milliseconds, at most a few seconds.
    """
    process, channel = started or start_fork_server(server_module, folder)
    failure: BaseException | None = None
    with channel:
        async with trio.open_nursery() as nursery:
            fork_server = ForkServer(process, channel, nursery)
            try:
                yield fork_server
            except BaseException as error:  # noqa: BLE001 (raised again below, outside of the nursery's group)
                failure = error
            with trio.CancelScope(shield=True):
                await fork_server.close()
    if failure is not None:
        raise failure


async def _wait_gone(pid: int) -> None:
    """Wait for the end of a process that is not a child of this one."""
    if sys.platform == "linux":
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            await trio.lowlevel.wait_readable(fd)
        finally:
            os.close(fd)
    else:
        while _exists(pid):  # noqa: ASYNC110 (there is no event)
            await trio.sleep(POLL_SECONDS)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
