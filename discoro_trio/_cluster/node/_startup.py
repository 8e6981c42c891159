"""What a node needs before anything else: the folder that it works in, and its fork server, which then starts.

A fork server takes as long to start as all the rest of a node, so `open_cluster` starts one first and loads the rest
meanwhile. So this module imports next to nothing. The traffic with a fork server is with `_client`.
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
"""Before the process id in the name of the folder that a node works in."""
LOCK_FILE = ".lock"
"""In that folder: locked as long as its node lives. Whose nodes may remove the folder is written when it is locked."""
_KERNEL_ID = Path("/proc/sys/kernel/random/boot_id")
SERVER_MODULE = "discoro_trio._cluster.server._server"
OWN_PYTHONPATH = "DISCORO_TRIO_OWN_PYTHONPATH"
"""The environment variable that keeps the user's PYTHONPATH, while that holds the path of the node."""
_DEST_PATH = "dest_path"  # the option
_SECRET = "DISCORO_SECRET"  # noqa: S105 (the name of a variable)
# Not `-m`: the servers' `__main__` stays empty, so that a pickle which names it finds nothing of ours by mistake.
# Garbage is not looked for while modules are loaded; `_fork_server` turns that on again.
PROGRAM = "import gc; gc.disable(); from discoro_trio._cluster.fork_server._fork_server import main; main()"


class StartedForkServer(NamedTuple):
    """A fork server that has been started, and may not be ready yet."""

    process: subprocess.Popen[bytes]
    channel: socket.socket


class StartedNode(NamedTuple):
    """The first parts of a node."""

    folder: Path
    fork_server: StartedForkServer


@contextmanager
def start_node(dest_path: Path | None) -> Iterator[StartedNode]:
    """Make the folder and start the fork server of a node; both are gone when the block is left.

    Args:
        dest_path: Where the folder is made; by default with the system's temporary files, and what is there goes even
            if this process is killed.

    Raises:
        OSError: The program could not be started.
    """
    raise_limit()
    with working_folder(dest_path) as folder:
        fork_server = start_fork_server(SERVER_MODULE, folder if dest_path is None else None)
        try:
            yield StartedNode(folder, fork_server)
        finally:
            # Whoever has taken it has ended it.
            fork_server.channel.close()
            if fork_server.process.returncode is None:
                fork_server.process.kill()
                fork_server.process.wait()


@contextmanager
def working_folder(dest_path: Path | None) -> Iterator[Path]:
    """Make the folder that a node works in, and remove it in the end.

    It is held meanwhile. If this process and its fork server are killed, other nodes of this machine remove the folder
    (`_stale_folders`), unless it is below `dest_path`.
    """
    prefix = f"{FOLDER_PREFIX}{os.getpid()}-"
    made = tempfile.TemporaryDirectory(prefix=prefix, dir=dest_path, ignore_cleanup_errors=True)
    with ExitStack() as held, made as name:
        folder = Path(name)
        try:
            held.callback(os.close, _hold(folder, dest_path))  # until it is removed
            yield folder
        finally:
            remove_folder(folder)  # in an order that a kill may interrupt; what it cannot, may be forced after it


def _hold(folder: Path, dest_path: Path | None) -> int:
    """Lock the lock file of a folder, then write in it whose nodes may remove it, if any; return the descriptor."""
    lock = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with suppress(OSError):  # Where files cannot be locked, nothing is written.
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.write(lock, b"" if dest_path else this_kernel())
    return lock


def this_kernel() -> bytes:
    """Name the running kernel: the locks of two that share a file system may be unknown to each other."""
    try:
        return _KERNEL_ID.read_bytes()
    except OSError:  # not on Linux, or no /proc
        return os.uname().nodename.encode()


@contextmanager
def open_folder(folder: Path) -> Iterator[int]:
    """Open a folder, and no link to one; return the descriptor.

    Raises:
        OSError: It cannot be opened.
    """
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield place
    finally:
        os.close(place)


def remove_folder(folder: Path) -> None:
    """Remove the working folder of a node, as far as that goes."""
    with suppress(OSError), open_folder(folder) as place:
        remove_held(folder, place)


def remove_held(folder: Path, place: int) -> None:
    """Remove a folder that is open; the lock file last, so that what a kill interrupts is finished by others.

    Raises:
        OSError: Something could not be removed; all else was, but for the lock file.
    """
    with os.scandir(place) as entries:
        names = {entry.name: entry.is_dir(follow_symlinks=False) for entry in entries if entry.name != LOCK_FILE}
    for name, is_folder in names.items():
        if is_folder:
            shutil.rmtree(name, ignore_errors=True, dir_fd=place)
        else:
            with suppress(OSError):  # it has gone, or the end says that something is left
                os.unlink(name, dir_fd=place)
    if os.listdir(place) == [LOCK_FILE]:
        os.unlink(LOCK_FILE, dir_fd=place)
    folder.rmdir()


def check_dest_path(path: str | os.PathLike[str] | None) -> Path | None:
    """Return a folder in which working folders can be made, and make it if it is missing.

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
    """Make a folder and one in it; say what cannot be done, if something cannot."""
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
    """Start a fork server: what its servers run, and the folder that it removes should this process be killed."""
    near, far = socket.socketpair()
    arguments = [str(far.fileno()), server_module, str(os.getpid()), str(folder or "")]
    command = [sys.executable, *_interpreter_options(), "-c", PROGRAM, *arguments]
    # Blocked, not ignored: a Ctrl-C before the fork server can ignore it must end neither it nor be lost here.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        # From this thread, which runs trio as long as the block lasts, because the fork server asks for a signal
        # at its end. (`trio.lowlevel.open_process` starts programs from a worker thread.)
        process = subprocess.Popen(  # noqa: S603 (every argument is our own)
            command,
            env=_environment(),
            pass_fds=(far.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            # What a terminal does to the node's group, as to stop it, is not done to who watches the node.
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
    """Return the options this interpreter runs with; never the working folder in front of the path."""
    options = ["-P", *["-O"] * sys.flags.optimize]
    if sys.flags.dont_write_bytecode:
        options.append("-B")
    for warning in sys.warnoptions:
        options += ["-W", warning]
    for name, value in sys._xoptions.items():  # noqa: SLF001 (it is documented)
        options += ["-X", name if value is True else f"{name}={value}"]
    return options


def _environment() -> dict[str, str]:
    """Return the environment, in which the fork server finds this package wherever it lies here.

    Nothing else of this process's module path goes along: a server has what is installed and what is shipped, and not
    what lies beside the client's program. The fork server puts PYTHONPATH back as it was. The cluster's secret is not
    for the code that runs on servers.
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
