"""The node's view of a server process: pid, link, signals, output, and exit.

This module owns `ServerProcess` and `Exit`. `_client` talks to the fork server that forks, signals and reaps it.
"""

from __future__ import annotations

import socket
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

import trio

from ..._records import Record
from . import _protocol as wire
from ._server_output import OutputPipe, Tail

if TYPE_CHECKING:
    from collections.abc import Callable

    OnOutput = Callable[["ServerProcess", int, bytes], None]

STDOUT, STDERR = 1, 2


class Exit(Record, frozen=True):
    """How a server process ended."""

    exitcode: int | None
    """Its exit status, if it exited on its own and the status is known."""
    signal: int | None
    """The number of the signal that ended it, if a signal did."""
    stderr_tail: str
    """The last lines that it wrote to standard error and to its tail."""


class ServerProcess:
    """A server process, made by `ForkServer.fork`.

    Attributes:
        number: Identifies it between the node and the fork server; never used again.
        link: The node's end of the link that the server inherits. The caller of `fork` closes it.
        exit: How it ended, or None while it runs.
    """

    def __init__(self, number: int, post: Callable[[wire.Request], None], on_output: OnOutput | None) -> None:
        self.number = number
        self.exit: Exit | None = None
        self._post = post
        self._on_output = on_output
        self._tail = Tail()
        with ExitStack() as undo:
            near, self._far = socket.socketpair()
            undo.callback(near.close)
            undo.callback(self._far.close)
            self._pipes = [
                _open_pipe(take, undo)
                for take in (partial(self._take, STDOUT), partial(self._take, STDERR), self._tail.add)
            ]
            self.link = trio.SocketStream(trio.socket.from_stdlib_socket(near))
            undo.pop_all()
        self._pid: int | None = None
        self._failure: Exception | None = None
        self._code: int | None = None
        self._settled = trio.Event()
        self._over = trio.Event()
        self._ended = trio.Event()

    @property
    def pid(self) -> int:
        """Its process id, which is also the id of its process group; after its end another process may get it."""
        if self._pid is None:
            message = "the server process is not forked yet"
            raise RuntimeError(message)
        return self._pid

    @property
    def stderr_tail(self) -> str:
        """The last 40 lines or 8 KiB written to standard error and the tail so far."""
        return self._tail.text()

    def kill(self) -> None:
        """Kill its process group, if it has not ended. Returns at once; `wait` returns when it is gone.

        The fork server sends the signal, and only while it has not reaped the server, so the id cannot belong to
        another process.
        """
        if not self._over.is_set():
            self._post(wire.Kill(self.number))

    def signal(self, signum: int) -> None:
        """Send a signal to the process only, not to its group, if it has not ended. Otherwise like `kill`."""
        if not self._over.is_set():
            self._post(wire.Signal(self.number, signum))

    def live_by(self, pulse_interval: float) -> None:
        """Let the fork server kill it after five intervals of this many seconds without an answer from this node."""
        if not self._over.is_set():
            self._post(wire.WatchNode(self.number, pulse_interval))

    def hold_output(self) -> None:
        """Stop reading its output until `release_output`; its writers then block. Its end is not delayed."""
        for pipe in self._pipes:
            pipe.hold()

    def release_output(self) -> None:
        """Read its output again."""
        for pipe in self._pipes:
            pipe.release()

    async def wait(self) -> Exit:
        """Wait until it has ended and all its output was read.

        Returns:
            The exit. If the fork server was lost, its servers are killed and the signal is SIGKILL.
        """
        await self._ended.wait()
        if self.exit is None:
            message = "it is not known how the server process ended, because its `on_output` failed"
            raise RuntimeError(message)
        return self.exit

    # The rest is for `_client` only.

    @property
    def forked_pid(self) -> int | None:
        """The pid, or None if it is not forked yet."""
        return self._pid

    def far_fds(self) -> tuple[int, ...]:
        """The descriptors that the server gets, in the order of `_protocol`; `close_far_fds` closes them."""
        return (self._far.fileno(), *(pipe.write_fd for pipe in self._pipes))

    def close_far_fds(self) -> None:
        """Close this process's copies of the server's ends, once they are sent or will never be sent."""
        self._far.close()
        for pipe in self._pipes:
            pipe.close_write()

    def settle(self, pid: int | None, failure: Exception | None = None) -> None:
        """Set the pid, or the reason why there is none."""
        self._pid = pid
        self._failure = failure
        self._settled.set()
        if pid is None:
            self._over.set()

    def end(self, code: int, reason: str = "") -> None:
        """Set the exit status, or minus the signal's number, and the reason if the fork server killed it."""
        self._code = code
        if reason:
            self._tail.add(f"{reason}\n".encode())
        self._over.set()

    async def wait_settled(self) -> None:
        """Wait for the pid.

        Raises:
            OSError: The operating system refused the fork.
            trio.BrokenResourceError: The fork server is gone.
        """
        await self._settled.wait()
        if self._failure is not None:
            raise self._failure

    async def follow_output(self) -> None:
        """Read its output until it has ended, and then the rest of the output; then let `wait` return."""
        try:
            async with trio.open_nursery() as nursery:
                for pipe in self._pipes:
                    nursery.start_soon(pipe.read)
                await self._over.wait()
                nursery.cancel_scope.cancel()
            for pipe in self._pipes:
                pipe.drain()
        finally:
            for pipe in self._pipes:
                pipe.close_read()
            if self._code is not None:
                self.exit = _describe(self._code, self._tail.text())
            self._ended.set()

    def _take(self, fd_number: int, data: bytes) -> None:
        if fd_number == STDERR:
            self._tail.add(data)
        if self._on_output is not None:
            self._on_output(self, fd_number, data)


def _open_pipe(take: Callable[[bytes], None], undo: ExitStack) -> OutputPipe:
    pipe = OutputPipe(take)
    undo.callback(pipe.close_read)
    undo.callback(pipe.close_write)
    return pipe


def _describe(code: int, tail: str) -> Exit:
    if code < 0:
        return Exit(exitcode=None, signal=-code, stderr_tail=tail)
    return Exit(exitcode=code, signal=None, stderr_tail=tail)
