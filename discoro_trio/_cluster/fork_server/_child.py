"""The first and last steps of a forked server: it becomes a process of its own, and it exits.

This module owns the steps between the fork and the server's main function, and the exit status. The main function is
in `_server`.

The module `random` reseeds itself after a fork. Handlers of `atexit` do not run in a server.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
import socket
import sys
import traceback
from typing import TYPE_CHECKING, NoReturn

from ._os import close_other_fds, die_with_parent, set_process_name

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Sequence

    from ._protocol import Fork

    ServerMain = Callable[[bytes, socket.socket, int], None]

STDOUT, STDERR = 1, 2
FOR_NODE = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
"""Signals by which a batch system announces the end of a node; it sends them to all processes of the node."""


def run_server(
    main: ServerMain, fork: Fork, fds: Sequence[int], fork_server_pid: int, *, signals_reach_all: bool = False
) -> NoReturn:
    """Run the server, from the fork to the end of the process.

    Args:
        main: Called with the spec, the link and the tail's descriptor.
        fork: The request.
        fds: Its descriptors: link, standard output, standard error, tail.
        fork_server_pid: The process that forked this one.
        signals_reach_all: Whether signals for the node are sent to this process, too.
    """
    status = 1
    try:
        link_fd, out_fd, err_fd, tail_fd = fds
        os.setsid()
        _die_with_fork_server(fork_server_pid)
        os.dup2(out_fd, STDOUT)
        os.dup2(err_fd, STDERR)
        close_other_fds((link_fd, tail_fd))
        os.set_inheritable(link_fd, False)  # noqa: FBT003 (the standard library's signature)
        os.set_inheritable(tail_fd, False)  # noqa: FBT003
        _restore_signals()
        if signals_reach_all:
            _leave_signals_to_node()
        _prepare_interpreter()
        os.chdir(fork.folder)
        status = _call(main, fork.spec, socket.socket(fileno=link_fd), tail_fd)
    except BaseException:  # noqa: BLE001 (nothing may get back into the fork server's loop)
        traceback.print_exc()
    finally:
        _exit(status)


def _die_with_fork_server(fork_server_pid: int) -> None:
    die_with_parent(signal.SIGKILL)
    if os.getppid() != fork_server_pid:  # The fork server died before the signal was set up.
        os._exit(1)


def _restore_signals() -> None:
    for signum in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(signum, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _leave_signals_to_node() -> None:
    """Do nothing on a signal for the node, which drains; processes that this one starts have the default again."""
    for signum in FOR_NODE:
        signal.signal(signum, lambda _signum, _frame: None)  # not SIG_IGN, which a started program would inherit

    def restore() -> None:
        for signum in FOR_NODE:
            signal.signal(signum, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    os.register_at_fork(after_in_child=restore)


def _prepare_interpreter() -> None:
    set_process_name("discoro-server")
    # The fork server's objects stay frozen: a garbage collection that visits them would copy their pages.
    gc.enable()
    for fd, name in ((STDOUT, "stdout"), (STDERR, "stderr")):
        stream = _open_text(fd)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    faulthandler.enable(STDERR)


def _open_text(fd: int) -> io.TextIOWrapper:
    # Line-buffered, so that output before a crash is visible.
    return open(fd, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)


def _call(main: ServerMain, spec: bytes, link: socket.socket, tail_fd: int) -> int:
    try:
        main(spec, link, tail_fd)
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return error.code or 0
        print(error.code, file=sys.stderr)  # noqa: T201 (as the interpreter does)
        return 1
    return 0


def _exit(status: int) -> NoReturn:
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status & 0xFF)
