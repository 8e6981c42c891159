"""The program of a node's fork server. `_startup` starts it; its arguments are those of `main`.

It imports the server's modules and forks servers from itself, which is quick and shares memory. It imports the rest of
the package, which jobs may use, once it is idle.
This module owns its start, its loop and its end. `_protocol` has the messages, `_child` the steps of a server after the
fork, `_node_watch` decides which servers end when the node is silent, and `_client` is the node's side.

It has one thread and never runs trio: a fork copies only the forking thread, and the kernel sends a child's
parent-death signal when the *thread* that forked it ends. Before it ends, because the node's socket is closed, by
SIGTERM or by an error, it kills the process group of each server. If the fork server is killed, the kernel kills its
servers. If the node is killed, the fork server removes the node's folder.
"""

from __future__ import annotations

import gc
import importlib
import math
import os
import select
import signal
import socket
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..node._startup import OWN_PYTHONPATH, SIGNALS_REACH_ALL, remove_folder
from . import _protocol as wire
from ._child import FOR_NODE, run_server
from ._node_watch import REASON, NodeWatch
from ._orphans import Orphans
from ._os import die_with_parent, kill_group, reap_one, set_process_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ._child import ServerMain

END_SECONDS = 2.0
"""Seconds to wait for killed servers in order to reap them."""
DYING_SECONDS = 1.0
"""Seconds that the end of a killed node may take."""
ORPHANS_SECONDS = 1.0
"""The most seconds for which a server's end is not reported because a process that it started still runs."""
MAX_FDS = 16 * wire.FORK_FDS
REST = "discoro_trio._client", "discoro_trio._process"
"""The packages that jobs may use and that servers do not need for their start."""
REST_SECONDS = 1.0


class Leisure:
    """When to import the rest of the package: once, a second after the first servers were forked."""

    def __init__(self) -> None:
        self._due = math.inf
        self._known = False

    def forked(self, now: float) -> None:
        """Note that a server was forked."""
        if not self._known:
            self._known = True
            self._due = now + REST_SECONDS

    def due(self) -> float:
        """Return the time for the import; infinity for never."""
        return self._due

    def take(self, now: float) -> bool:
        """Return whether it is time for the import; true only once."""
        if now < self._due:
            return False
        self._due = math.inf
        return True


class ForkServerProgram:
    """The loop: it takes fork requests, and reports forks and ends."""

    def __init__(
        self, channel: socket.socket, server_main: ServerMain, node: int, *, signals_reach_all: bool = False
    ) -> None:
        self._channel = channel
        self._server_main = server_main
        self._node = node
        self._signals_reach_all = signals_reach_all
        self._requests = wire.request_reader()
        self._fds: list[int] = []
        self._pids: dict[int, int] = {}
        self._numbers: dict[int, int] = {}
        self._watch = NodeWatch()
        self._reasons: dict[int, str] = {}
        self._pid = os.getpid()
        self._wake_fd = _signal_fd()
        self._heard = True
        self._signalled = False
        self._leisure = Leisure()
        self._orphans = Orphans()
        self._ended: dict[int, tuple[wire.ServerReaped, float]] = {}
        """The servers whose end is not reported yet, with the latest time for the report."""

    def run(self) -> None:
        """Serve until the node closes its socket or SIGTERM comes; then kill every server."""
        try:
            poll = select.poll()
            poll.register(self._channel, select.POLLIN)
            poll.register(self._wake_fd, select.POLLIN)
            while self._take_ready([fd for fd, _event in poll.poll(self._milliseconds())]):
                self._look(time.monotonic())
                self._report_ended()
                if self._leisure.take(time.monotonic()):
                    with _frozen():
                        _import_all(REST)
        except ConnectionError:
            pass  # The node is gone.
        finally:
            self._end()

    def node_is_gone(self) -> bool:
        """Return whether the node has died; `run` then returns.

        A node dies thread by thread: the signal comes when the thread that started this program ends, and the node's
        end of the socket is closed with the last thread. A node that closes in order has only half-closed the socket.
        """
        poll = select.poll()
        poll.register(self._channel, 0)
        hung_up = bool(poll.poll(DYING_SECONDS * 1000 if self._signalled else 0))
        return hung_up or os.getppid() != self._node  # the socket stays open while a child of the node has a copy

    def _milliseconds(self) -> float | None:
        """Return the time until the next request to the node, import or report; None if none is due."""
        ended = (latest for _report, latest in self._ended.values())
        due = min(self._watch.due(), self._leisure.due(), *ended)
        return None if due == math.inf else max(0.0, due - time.monotonic()) * 1000

    def _look(self, now: float) -> None:
        """Kill the servers for which the node was silent too long; send the node the next request."""
        if now < self._watch.due():
            return
        for number in self._watch.look(now):
            self._reasons[number] = REASON
            kill_group(self._pids[number])
        self._report(wire.AskNode())

    def _take_ready(self, ready: list[int]) -> bool:
        if self._wake_fd in ready:
            signals = _read_signals(self._wake_fd)
            self._reap()
            if signal.SIGTERM in signals:
                self._signalled = True
                if not self._signals_reach_all or self.node_is_gone():
                    return False
                self._signalled = False
        return self._channel.fileno() not in ready or self._take_requests()

    def _take_requests(self) -> bool:
        data, fds, flags, _address = socket.recv_fds(self._channel, wire.READ_SIZE, MAX_FDS)
        self._fds += fds
        if flags & socket.MSG_CTRUNC:
            message = "descriptors of a fork request were lost; raise the limit of open files (ulimit -n)"
            raise RuntimeError(message)
        self._watch.heard()
        for request in self._requests.feed(data):
            self._take(request)
        return bool(data)

    def _take(self, request: wire.Request) -> None:
        if isinstance(request, wire.Fork):
            self._fork(request)
        elif isinstance(request, wire.WatchNode):
            if request.number in self._pids:
                self._watch.add(request.number, request.pulse_interval)
        elif isinstance(request, wire.Ping):
            self._report(wire.Pong())
        elif isinstance(request, wire.Signal | wire.Kill) and request.number in self._pids:
            self._signal(request)

    def _fork(self, request: wire.Fork) -> None:
        self._leisure.forked(time.monotonic())
        fds, self._fds = self._fds[: wire.FORK_FDS], self._fds[wire.FORK_FDS :]
        try:
            pid = self._fork_process(request, fds)
        except OSError as error:
            self._report(wire.ForkFailed(request.number, error.errno or 0, error.strerror or str(error)))
            return
        finally:
            for fd in fds:
                os.close(fd)
        self._pids[request.number] = pid
        self._numbers[pid] = request.number
        self._watch.add(request.number, request.pulse_interval)
        self._report(wire.Forked(request.number, pid))

    def _fork_process(self, request: wire.Fork, fds: list[int]) -> int:
        # Blocked until the child has its own handlers: those of the fork server would write to its wake-up pipe.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                self._channel.detach()
                self._orphans.mark(request.number)
                run_server(self._server_main, request, fds, self._pid, signals_reach_all=self._signals_reach_all)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
        return pid

    def _signal(self, request: wire.Signal | wire.Kill) -> None:
        pid = self._pids[request.number]  # Not reaped yet, so the number is still its own.
        if isinstance(request, wire.Kill):
            kill_group(pid)
        else:
            os.kill(pid, request.signum)

    def _reap(self) -> None:
        now = time.monotonic()
        while (ended := reap_one(self._numbers)) is not None:
            pid, code = ended
            if pid in self._numbers:
                number = self._numbers.pop(pid)
                del self._pids[number]
                self._watch.forget(number)
                report = wire.ServerReaped(number, code, self._reasons.pop(number, ""))
                self._ended[number] = report, now + ORPHANS_SECONDS
        self._report_ended()

    def _report_ended(self) -> None:
        """Report the servers that have ended together with all processes that they started."""
        if not self._ended:
            return
        now, left = time.monotonic(), self._orphans.kill(self._numbers, self._pids)
        for number, (report, latest) in list(self._ended.items()):
            if number not in left or now >= latest:
                del self._ended[number]
                self._report(report)

    def _report(self, report: wire.Report) -> None:
        if self._heard:
            self._channel.sendall(wire.encode(report))

    def _end(self) -> None:
        # A node that reads still gets reports; a node that is gone or stuck must not delay the end.
        self._channel.setblocking(False)  # noqa: FBT003 (the standard library's signature)
        for pid in self._numbers:
            kill_group(pid)
        deadline = time.monotonic() + END_SECONDS
        while self._orphans.kill(self._numbers, ()) or self._numbers or self._ended:
            try:
                self._reap()
            except OSError:
                # Other servers may have ended, too: several ends can share one signal.
                self._heard = False
                continue
            if time.monotonic() >= deadline:
                break
            if self._numbers or self._ended:
                select.select([self._wake_fd], [], [], END_SECONDS / 10)
                _read_signals(self._wake_fd)


def _signal_fd() -> int:
    """Have SIGCHLD and SIGTERM written to a pipe; return its read end."""
    read_fd, write_fd = os.pipe()
    os.set_blocking(read_fd, False)
    os.set_blocking(write_fd, False)
    signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
    for signum in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(signum, lambda _signum, _frame: None)
    return read_fd


def _read_signals(fd: int) -> bytes:
    try:
        return os.read(fd, wire.READ_SIZE)
    except BlockingIOError:
        return b""


@contextmanager
def _frozen() -> Iterator[None]:
    """Exclude all objects that exist at the end of the block from later garbage collections; none runs in the block."""
    gc.disable()
    yield
    gc.freeze()
    gc.enable()


def _import_all(packages: Iterable[str]) -> None:
    """Import packages, and their modules that are otherwise imported on first use."""
    for package in map(importlib.import_module, packages):
        for name in package.__all__:
            getattr(package, name)


def _restore_python_path() -> None:
    os.environ.pop("PYTHONPATH", None)
    own = os.environ.pop(OWN_PYTHONPATH, None)
    if own is not None:
        os.environ["PYTHONPATH"] = own


def main() -> None:
    """Run the program: DESCRIPTOR MODULE NODE FOLDER.

    The descriptor of its socket, the module of the servers' main function, the node's process id, and the folder to
    remove if the node is killed (empty for none).
    """
    # SIGINT and SIGHUP may be sent to all processes of a service; the node decides what they mean.
    # The node started this program with SIGINT blocked, so no SIGINT can have ended it before this line.
    for signum in (signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    # A SIGTERM waits until all is loaded, so that the folder of a node that is killed early is removed, too.
    signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGTERM})
    # The end of the socket shows that the node is gone, but not while a child of the node has a copy of it.
    die_with_parent(signal.SIGTERM)
    set_process_name("discoro-forks")
    _restore_python_path()
    channel = socket.socket(fileno=int(sys.argv[1]))
    module, node, folder = sys.argv[2], int(sys.argv[3]), sys.argv[4]
    del sys.argv[1:]
    with _frozen():
        server_main: ServerMain = importlib.import_module(module).main
    signals_reach_all = os.environ.pop(SIGNALS_REACH_ALL, None) is not None
    if signals_reach_all:
        for signum in FOR_NODE:
            signal.signal(signum, lambda _signum, _frame: None)
    program = ForkServerProgram(channel, server_main, node, signals_reach_all=signals_reach_all)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    program.run()
    if folder and program.node_is_gone():
        remove_folder(Path(folder))
    os._exit(0)
