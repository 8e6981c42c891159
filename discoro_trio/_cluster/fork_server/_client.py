"""The node's side of the fork server: start it, have servers forked, hear of their ends, end it.

This module owns the fork server's life and the traffic with it. How it is started is with `_startup`; one server as
the node sees it is `_server_process`'s; the program on the other side is `_fork_server`.

    async with open_fork_server() as fork server:
        server = await fork server.fork(spec, folder=folder)
        ...
        exit = await server.wait()

Every task is in the nursery of `open_fork_server`, shielded, because leaving the block needs them: they end when
the fork server has ended. They are protected from Ctrl-C, which is for the program's main task.
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
"""How long the fork server may take to end its servers and itself before it is killed."""
GONE_SECONDS = 1.0
"""How long servers whose fork server is lost are waited for after they were killed."""
POLL_SECONDS = 0.002
START_SECONDS = 60.0
"""How long the fork server may take to load."""
LEAST_SILENCE = 5.0
"""How long the fork server may not answer once it has loaded, if five heartbeats take less time."""

_Posted = tuple[wire.Request, ServerProcess | None]
"""A request to be sent; with the server whose descriptors go with it, if it is a fork."""


class ForkServer:
    """A running fork server; `open_fork_server` gives it.

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
        """Why it was ended, if this process ended it."""
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
        """Fork a server. It may be called at once, while the fork server still starts.

        Args:
            spec: What the server's main function gets.
            folder: Its working folder.
            on_output: Called with the server, 1 or 2, and the bytes (up to 64 KiB) when they came on standard
                output or standard error. It must not block; what it raises ends the block of `open_fork_server`.
            pulse_interval: Seconds between the fork server's questions to this process, five of which without an answer
                end the server, so that it does not outlive a node that is stopped; 0 for none.

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
        """Carry the requests to the fork server; half-close when there will be no more."""
        with trio.CancelScope(shield=True):
            async for request, server in self._inbox:
                try:
                    await self._send(wire.encode(request), server.far_fds() if server is not None else ())
                except OSError:
                    pass  # `_read` sees that the fork server is gone, and tells everyone.
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
        """Take the fork server's reports until its end, then bury it and what it leaves behind."""
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
        """Send heartbeats to the fork server; continue it if it was stopped, and end it if it never answers."""
        missed = 0
        with trio.CancelScope(shield=True):
            while not await self._ends_within(config.MinPulseInterval):
                if self._answers:
                    missed = 0
                    self._answers = False
                    self._post(wire.Ping())
                    continue
                # Counted, not timed: a node that could not read an answer does not hold that against the fork server.
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
        if isinstance(report, wire.ServerEnded):
            server.end(report.code, report.reason)
        else:
            server.settle(None, OSError(report.errno, report.text))

    async def _reap(self) -> None:
        # The socket's end precedes that of the process by no more than its last system calls.
        with trio.move_on_after(CLOSE_SECONDS):
            while self._process.poll() is None:  # noqa: ASYNC110 (there is no event)
                await trio.sleep(POLL_SECONDS)
        if self._process.returncode is None:
            self._process.kill()
            self._process.wait()

    async def _lose_servers(self) -> None:
        """End the servers that the fork server did not reap.

        They belong to init now, so their numbers are theirs only as long as something of their group lives.
        The kernel killed them a moment ago; that a number went to a new group since then is not a worry.
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
        """Have the fork server end its servers and itself; kill it if it does not. For `open_fork_server` only."""
        self._over = True
        self._outbox.close()
        if not self._servers:
            self._process.kill()  # It has no children, so it need not even get ready.
        try:
            with trio.move_on_after(CLOSE_SECONDS):
                await self.ended.wait()
        finally:  # A second Ctrl-C comes here too.
            if not self.ended.is_set():
                self._process.kill()


@asynccontextmanager
@trio.lowlevel.enable_ki_protection
async def open_fork_server(
    *, server_module: str = SERVER_MODULE, folder: Path | None = None, started: StartedForkServer | None = None
) -> AsyncIterator[ForkServer]:
    """Run a fork server.

    Leaving the block kills the servers with their process groups, and the fork server, and waits until all are
    gone.

    Args:
        server_module: The module whose function `main(spec, link, tail_fd)` a server runs.
        folder: What the fork server removes should this process be killed.
        started: One that was started already, to be used instead of another with these arguments.

    Raises:
        OSError: The program could not be started.

    Cancelling leaves the block in the same way; that takes milliseconds, and a few seconds at the very most.
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
    """Wait for the end of a process that is not our child."""
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
