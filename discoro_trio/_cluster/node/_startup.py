"""The first steps of a node: it makes its working folder and starts its fork server.

A fork server takes as long to start as the rest of a node, so `open_cluster` starts it first and imports the rest
meanwhile. Therefore this module imports almost nothing. The traffic with a fork server is in `_client`.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import site
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ... import _arguments as arguments
from ..._file_limit import raise_limit

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER_PREFIX = "discoro-"
"""The prefix of the name of a working folder; the process id of the node follows."""
LOCK_FILE = ".lock"
"""A file in that folder, locked while its node runs; it states which nodes may remove the folder."""
_KERNEL_ID = Path("/proc/sys/kernel/random/boot_id")
SERVER_MODULE = "discoro_trio._cluster.server._server"
OWN_PYTHONPATH = "DISCORO_TRIO_OWN_PYTHONPATH"
SIGNALS_REACH_ALL = "DISCORO_TRIO_SIGNALS_REACH_ALL"
"""A variable that a node sets before its start, if signals for it are sent to its fork server and servers, too."""
"""The environment variable that keeps the user's PYTHONPATH while PYTHONPATH holds the path of the node."""
_DEST_PATH = "dest_path"  # the option
_SECRET = "DISCORO_SECRET"  # noqa: S105 (the name of a variable)
# Not `-m`: the servers' `__main__` stays empty, so that a pickle that refers to it cannot find our names by mistake.
# Garbage collection is off while modules are loaded; `_fork_server` turns it on again.
PROGRAM = "import gc; gc.disable(); from discoro_trio._cluster.fork_server._fork_server import main; main()"


class StartedForkServer(NamedTuple):
    """A fork server that has been started but may not be ready yet."""

    process: subprocess.Popen[bytes]
    channel: socket.socket


class StartedNode(NamedTuple):
    """The first parts of a node."""

    folder: Path
    fork_server: StartedForkServer


@contextmanager
def start_node(dest_path: Path | None) -> Iterator[StartedNode]:
    """Make the folder and start the fork server of a node; both are gone after the block.

    Args:
        dest_path: The parent of the folder. By default that is the system's folder for temporary files; then the
            working folder is removed even if this process is killed.

    Raises:
        OSError: The program could not be started.
    """
    raise_limit()
    with working_folder(dest_path) as folder:
        fork_server = start_fork_server(SERVER_MODULE, folder if dest_path is None else None)
        try:
            yield StartedNode(folder, fork_server)
        finally:
            # The code that took over the fork server has ended it.
            fork_server.channel.close()
            if fork_server.process.returncode is None:
                fork_server.process.kill()
                fork_server.process.wait()


@contextmanager
def working_folder(dest_path: Path | None) -> Iterator[Path]:
    """Make a node's working folder, and remove it after the block.

    The folder is locked meanwhile. If this process and its fork server are killed, other nodes of this machine remove
    the folder (`_stale_folders`), unless it is below `dest_path`.
    """
    prefix = f"{FOLDER_PREFIX}{os.getpid()}-"
    made = tempfile.TemporaryDirectory(prefix=prefix, dir=dest_path, ignore_cleanup_errors=True)
    with ExitStack() as held, made as name:
        folder = Path(name)
        try:
            held.callback(os.close, _hold(folder, dest_path))  # until it is removed
            yield folder
        finally:
            remove_folder(folder)  # in an order that a kill may interrupt; the rest may be removed by force after it


def _hold(folder: Path, dest_path: Path | None) -> int:
    """Lock the lock file of a folder, then write to it which nodes may remove the folder; return the descriptor."""
    lock = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with suppress(OSError):  # If files cannot be locked, nothing is written.
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.write(lock, b"" if dest_path else this_kernel())
    return lock


def this_kernel() -> bytes:
    """Return an id of the running kernel: two kernels that share a file system may not see each other's locks."""
    try:
        return _KERNEL_ID.read_bytes()
    except OSError:  # not on Linux, or no /proc
        return os.uname().nodename.encode()


@contextmanager
def open_folder(folder: Path) -> Iterator[int]:
    """Open a folder, but not a link to a folder; return the descriptor.

    Raises:
        OSError: It cannot be opened.
    """
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield place
    finally:
        os.close(place)


def remove_folder(folder: Path) -> None:
    """Remove the working folder of a node; what cannot be removed is left."""
    with suppress(OSError), open_folder(folder) as place:
        remove_held(folder, place)


def remove_held(folder: Path, place: int) -> None:
    """Remove an open folder; the lock file is last, so that other nodes can finish a removal that a kill interrupts.

    Raises:
        OSError: An entry could not be removed; all others were removed, except the lock file.
    """
    with os.scandir(place) as entries:
        names = {entry.name: entry.is_dir(follow_symlinks=False) for entry in entries if entry.name != LOCK_FILE}
    for name, is_folder in names.items():
        if is_folder:
            shutil.rmtree(name, ignore_errors=True, dir_fd=place)
        else:
            with suppress(OSError):  # it is gone, or the final removal reports that an entry is left
                os.unlink(name, dir_fd=place)
    if os.listdir(place) == [LOCK_FILE]:
        os.unlink(LOCK_FILE, dir_fd=place)
    folder.rmdir()


def check_dest_path(path: str | os.PathLike[str] | None) -> Path | None:
    """Return a folder in which working folders can be made; make it if it is missing.

    Raises:
        OptionError: It cannot be made or written.
    """
    if path is None:
        return None
    folder = Path(arguments.path(_DEST_PATH, path)).absolute()
    problem = _try_out(folder)
    if problem is not None:
        from ..._link import OptionError  # noqa: PLC0415 - the template is not to wait for it

        verb, error = problem
        raise OptionError(_DEST_PATH, f"{folder} cannot be {verb}: {error.strerror}") from error
    return folder


def _try_out(folder: Path) -> tuple[str, OSError] | None:
    """Make a folder and a folder in it; return what failed and the error, if a step fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return "made", error
    probe = folder / f".discoro-probe-{os.getpid()}"
    try:
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        return "written", error
    return None


def start_fork_server(server_module: str, folder: Path | None) -> StartedForkServer:
    """Start a fork server for a server module; it removes the folder if this process is killed."""
    near, far = socket.socketpair()
    arguments = [str(far.fileno()), server_module, str(os.getpid()), str(folder or "")]
    command = [sys.executable, *_interpreter_options(), "-c", PROGRAM, *arguments]
    # Blocked, not ignored: a Ctrl-C must not end the fork server before it can ignore it, nor be lost here.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        # Started from this thread, which runs trio while the block lasts, because the fork server requests a signal
        # for the end of the thread. (`trio.lowlevel.open_process` starts programs from a worker thread.)
        process = subprocess.Popen(  # noqa: S603 (every argument is our own)
            command,
            env=_environment(),
            pass_fds=(far.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            # Signals that a terminal sends to the node's group, such as a stop, do not reach the fork server.
            process_group=0,
        )
    except BaseException:
        near.close()
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        far.close()
    return StartedForkServer(process, near)


def _interpreter_options() -> list[str]:
    """Return the options of this interpreter, with the working folder kept off the module path."""
    options = ["-P", *["-O"] * sys.flags.optimize]
    if sys.flags.dont_write_bytecode:
        options.append("-B")
    for warning in sys.warnoptions:
        options += ["-W", warning]
    for name, value in sys._xoptions.items():  # noqa: SLF001 (it is documented)
        options += ["-X", name if value is True else f"{name}={value}"]
    return options


def _environment() -> dict[str, str]:
    """Return the environment of the fork server, with a module path on which it finds this package.

    No other entry of this process's module path is passed on: a server can import installed and shipped modules, but
    not modules beside the client's program. The fork server restores PYTHONPATH. The cluster's secret is removed,
    because code on servers must not have it.
    """
    environment = dict(os.environ)
    environment.pop(_SECRET, None)
    own = environment.get("PYTHONPATH")
    if own is not None:
        environment[OWN_PYTHONPATH] = own
    root = str(Path(__file__).parents[3])
    if root not in site.getsitepackages():
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [own, root]))
    return environment
