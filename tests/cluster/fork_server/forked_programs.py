"""What servers do in the tests of the fork server, and a node program that a test can kill."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    import socket

    from discoro_trio._cluster.fork_server._client import ServerProcess

MODULE = "tests.cluster.fork_server.forked_programs"


def main(spec: bytes, link: socket.socket, tail_fd: int) -> None:
    name, _, argument = spec.decode().partition(" ")
    match name:
        case "return":
            sys.stdout.write("äöü \udc80\n")
        case "exit":
            os._exit(int(argument))
        case "sys.exit":
            sys.exit(argument)
        case "raise":
            raise LookupError(argument)
        case "segfault":
            ctypes.string_at(0)
        case "abort":
            sys.stderr.write("the last words\n")
            os.abort()
        case "tail":
            os.write(tail_fd, b"told to the tail \xff\n")
        case "flood":
            flood(int(argument))
        case "describe":
            link.sendall(json.dumps(describe()).encode())
        case _:
            live_on(name, link)


def live_on(name: str, link: socket.socket) -> None:
    match name:
        case "hang":
            signal.pause()
        case "stubborn":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        case "grandchild" | "leave-daemon":
            sleeper = subprocess.Popen(["sleep", "600"], start_new_session=name == "leave-daemon")
            link.sendall(str(sleeper.pid).encode())
            if name == "leave-daemon":
                os._exit(0)
        case "orphans" | "leave-orphans":
            link.sendall(b" ".join(str(leave_orphan(program=program)).encode() for program in (True, False)))
            if name == "leave-orphans":
                os._exit(0)
        case _:
            pass
    link.sendall(b"ready")
    while data := link.recv(65536):
        link.sendall(data)


def leave_orphan(*, program: bool) -> int:
    """Start a process as daemons are: in a session of its own, its parent ended, with nothing of its start left."""
    read_fd, write_fd = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        if os.fork() == 0:
            os.chdir("/")
            os.write(write_fd, str(os.getpid()).encode())
            os.closerange(0, 64)
            if program:
                os.execve("/bin/sleep", ["sleep", "600"], {})  # noqa: S606
            signal.pause()
        os._exit(0)
    os.waitpid(child, 0)
    return int(os.read(read_fd, 64))


def flood(lines: int) -> None:
    for number in range(lines):
        sys.stderr.write(f"line {number} of many that go to standard error\n")


def describe() -> dict[str, object]:
    fds = {}
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            fds[int(entry.name)] = str(entry.readlink())
    return {
        "pid": os.getpid(),
        "group": os.getpgrp(),
        "session": os.getsid(0),
        "folder": str(Path.cwd()),
        "fds": fds,
        "inheritable": [fd for fd in fds if fd > 2 and fd_is_inheritable(fd)],
        "handlers": [handler_name(signum) for signum in ("SIGINT", "SIGTERM", "SIGHUP", "SIGCHLD")],
        "blocked": [int(signum) for signum in signal.pthread_sigmask(signal.SIG_BLOCK, ())],
        "name": Path("/proc/self/comm").read_text().strip(),
        "gc": gc.isenabled(),
        "faulthandler": faulthandler.is_enabled(),
        "random": random.random(),
        "PYTHONPATH": os.environ.get("PYTHONPATH"),
    }


def fd_is_inheritable(fd: int) -> bool:
    with contextlib.suppress(OSError):
        return os.get_inheritable(fd)
    return False


def handler_name(signame: str) -> str:
    return getattr(signal.getsignal(signal.Signals[signame]), "__name__", "SIG_DFL")


async def run_node(folder: Path) -> None:
    """Fork two servers, one with a grandchild; print all pids; live until killed."""
    from discoro_trio._cluster.fork_server._client import open_fork_server  # noqa: PLC0415 (the servers do not need it)

    async with open_fork_server(server_module=MODULE) as fork_server:
        echo = await fork_server.fork(b"echo", folder=folder)
        parent = await fork_server.fork(b"grandchild", folder=folder)
        grandchild = await read_pid(parent)
        copy = os.fork()
        if copy == 0:
            signal.pause()
        os.write(1, json.dumps([fork_server.pid, echo.pid, parent.pid, grandchild, copy]).encode())
        await trio.sleep_forever()


async def read_pids(server: ServerProcess) -> list[int]:
    """Read what a server tells of the processes that it started, until it is ready or its connection ends."""
    text = b""
    async for data in server.link:
        text += data
        if text.endswith(b"ready"):
            break
    return [int(pid) for pid in text.removesuffix(b"ready").split()]


async def read_pid(server: ServerProcess) -> int:
    """Read what `grandchild` and `leave-daemon` say of the process they started."""
    (pid,) = await read_pids(server)
    return pid


def main_of_node() -> None:
    """Be a node, with an idle copy of itself that holds its sockets open."""
    trio.run(run_node, Path.cwd())
