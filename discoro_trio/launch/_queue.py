"""The queue of a batch system, and the end of what a program has submitted to it.

A program's jobs share one name, which is also the name of the folder with their files: by it the jobs are found again,
by the launcher, by the guard that outlives a killed program, and by the next launcher with the same folder.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar, Literal

import attrs
import psutil

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

NAME_PREFIX = "discoro-"
OWNER_FILE = "owner.json"
OWNER_PULSE = 60.0
"""Seconds between two updates of the owner file, by which programs of other machines see that its program runs."""
_OWNER_SILENT = 10 * OWNER_PULSE
_COMMAND_SECONDS = 60.0
_LOOK = 1.0
"""Seconds between two looks at the queue while jobs are ending."""
_LONGEST_PAUSE = 30.0
"""The most seconds between two looks, if the queue does not answer."""


@attrs.frozen(kw_only=True)
class QueueState:
    """The state of one job."""

    phase: Literal["queued", "running", "ending", "ended"]
    text: str
    """The batch system's own word for it, with the reason if it gives one."""
    where: str = ""
    """The machines that the job has."""
    verdict: Literal["", "taken", "cancelled"] = ""
    """Why it has ended: the batch system took the machine back, someone cancelled it, or anything else."""


class QueueUnavailableError(Exception):
    """A command of the batch system failed."""


class BatchQueue(ABC):
    """How to see and cancel jobs. The methods return command lines and read answers, without I/O.

    Attributes:
        name: The batch system, as its launcher's class is named.
        programs: The commands that it needs.
        keeps_ended: Whether jobs that have ended are shown for some minutes.
    """

    name: ClassVar[str]
    programs: ClassVar[tuple[str, ...]]
    keeps_ended: ClassVar[bool] = False

    @abstractmethod
    def query(self, name: str) -> list[str]:
        """Return the command that lists the jobs of a name."""

    @abstractmethod
    def states(self, answer: str, name: str) -> dict[str, QueueState]:
        """Read what `query` has written: the states by job id. Jobs that have ended may be missing."""

    @abstractmethod
    def cancel(self, ids: Sequence[str]) -> list[str]:
        """Return the command that cancels jobs; it may fail for some that have ended."""

    def started(self) -> list[str] | None:
        """Return the command that prints when the batch system's controller has started; None if there is none."""
        return None

    def start_time(self, answer: str) -> float | None:  # noqa: ARG002 - for those that have `started`
        """Read what `started` has written: seconds since the epoch; None if it is not understood."""
        return None

    def is_unreachable(self, error: str) -> bool:  # noqa: ARG002 - for those that need it
        """Whether a command failed only because the batch system did not answer."""
        return False

    def is_empty(self, error: str) -> bool:  # noqa: ARG002 - for those that need it
        """Whether a failed query means only that there are no such jobs."""
        return False


def environment() -> dict[str, str]:
    """Return the environment for commands that submit jobs: the secret must not get into the batch system's files."""
    return {name: value for name, value in os.environ.items() if not name.startswith("DISCORO_")}


# --- the files of one program


def make_run_folder(parent: Path, system: str) -> Path:
    """Make the folder of a program's jobs, which only its user can read."""
    parent.mkdir(parents=True, exist_ok=True)
    while True:
        folder = parent / f"{NAME_PREFIX}{os.urandom(3).hex()}"  # some systems limit a name to 15 characters
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
            break
    process = psutil.Process()
    owner = {"system": system, "host": socket.gethostname(), "pid": process.pid, "started": process.create_time()}
    write_private(folder / OWNER_FILE, json.dumps(owner).encode())
    return folder


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only the user can read, from its first moment on."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)


def abandoned(parent: Path, system: str) -> list[Path]:
    """Return the folders whose programs do not run any more."""
    found = []
    for folder in sorted(parent.glob(f"{NAME_PREFIX}*")):
        try:
            if not (folder / OWNER_FILE).exists():  # its program was killed while it made the folder
                if time.time() - folder.stat().st_mtime > _OWNER_SILENT:
                    shutil.rmtree(folder, ignore_errors=True)
                continue
            owner = json.loads((folder / OWNER_FILE).read_bytes())
            silent = time.time() - (folder / OWNER_FILE).stat().st_mtime
            if owner["system"] == system and not _lives(owner, silent):
                found.append(folder)
        except (OSError, ValueError, KeyError):
            continue  # it is being made or removed
    return found


def _lives(owner: Mapping[str, object], silent: float) -> bool:
    """Whether the program that owns a folder runs; on another host only its updates of the file show that."""
    if owner["host"] != socket.gethostname():
        return silent < _OWNER_SILENT
    try:
        process = psutil.Process(int(str(owner["pid"])))
        return process.create_time() == owner["started"] and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


# --- the end, in a process or thread that may wait


def run(command: Sequence[str]) -> str:
    """Run a command of the batch system; return what it wrote.

    Raises:
        QueueUnavailableError: It failed, and the text says how.
    """
    try:
        done = subprocess.run(  # noqa: S603 - our own arguments
            list(command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_COMMAND_SECONDS,
            check=False,
            env=environment(),
        )
    except FileNotFoundError:
        message = f"{command[0]} is not installed here"
        raise QueueUnavailableError(message) from None
    except (OSError, subprocess.TimeoutExpired) as error:
        message = f"{command[0]}: {error}"
        raise QueueUnavailableError(message) from error
    if done.returncode:
        raise QueueUnavailableError(failure(command[0], done.returncode, done.stderr or done.stdout))
    return done.stdout


def failure(program: str, status: int, text: str) -> str:
    """Describe a failed command in one line."""
    lines = " / ".join(line.strip() for line in text.splitlines() if line.strip())
    return (
        lines if lines.startswith(f"{program}: ") else f"{program} ended with status {status}: {lines or 'no output'}"
    )


def open_jobs(queue: BatchQueue, name: str) -> dict[str, QueueState]:
    """Return the jobs of a name that have not ended.

    Raises:
        QueueUnavailableError: The queue does not answer.
    """
    try:
        answer = run(queue.query(name))
    except QueueUnavailableError as error:
        if queue.is_empty(str(error)):
            return {}
        raise
    return {job: state for job, state in queue.states(answer, name).items() if state.phase != "ended"}


def end_run(queue: BatchQueue, folder: Path, *, seconds: float) -> bool:
    """Cancel all jobs of a program, wait until they have ended, and remove its folder.

    Returns:
        Whether that was done in the given number of seconds.
    """
    deadline, pause = time.monotonic() + seconds, _LOOK
    while True:
        try:
            left = open_jobs(queue, folder.name)
            if not left:
                shutil.rmtree(folder, ignore_errors=True)
                return True
            cancelled: Iterable[str] = [job for job, state in left.items() if state.phase != "ending"]
            if cancelled:
                run(queue.cancel(list(cancelled)))
        except QueueUnavailableError:  # it may answer later
            pause = min(2 * pause, _LONGEST_PAUSE)
        if time.monotonic() + pause > deadline:
            return False
        time.sleep(pause)
