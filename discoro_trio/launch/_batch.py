"""Launchers whose nodes are jobs of a batch system.

This module owns the tasks: it submits, looks at the queue, reads what nodes write, and ends the jobs. `_batch_state`
decides, and `_queue` knows the commands. The program and its jobs share a folder.
"""

from __future__ import annotations

import logging
import math
import os
import shlex
import shutil
import subprocess
import sys
import time
from abc import abstractmethod
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, ClassVar

import attrs
import platformdirs
import trio

from .._arguments import above_zero, integer, not_negative, optional_integer, optional_path, several, text
from .._cluster import LaunchedNode, Launcher, SchedulerAccess
from .._errors import DiscoroError
from .._scopes import finish, open_background
from ._batch_state import RESTART, BatchState, Cancel, Effect, EndAll, EndNode, LogLine, SubmitJobs
from ._guard import GUARD_MODULE
from ._order import END_ALL, ENDED, ORDER_FILE, Order, end_marker
from ._output import log_line, logger, printable
from ._processes import NODE_MODULE
from ._queue import (
    OWNER_FILE,
    OWNER_PULSE,
    QueueUnavailableError,
    abandoned,
    end_run,
    environment,
    failure,
    make_run_folder,
    run,
    write_private,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from ._queue import BatchQueue, QueueState

_READ = 0.5
"""Seconds between two looks at what nodes have written."""
_READ_SIZE = 65536
_LONGEST_LEAVE = 60.0
"""Seconds for which the end of the jobs is waited for when the block is left."""
_LONGEST_ENDING = 15.0
"""As `_LONGEST_LEAVE`, if the batch system is already ending all of them: a daemon of a machine may be away, and the
nodes end by themselves when their folder is removed."""
_COMMAND_SECONDS = 60.0
_GUARD_SECONDS = 10.0
_LEFTOVERS_SECONDS = 15.0


@attrs.frozen(kw_only=True)
class JobScript:
    """How to submit jobs."""

    command: Sequence[str]
    script: str
    """Standard input of the command."""


class _NodeOutput:
    """What one node has written so far."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._rest = b""

    def read(self) -> list[str]:
        """Return the new lines. The file is opened anew: on a network file system only that shows what is new."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read(_READ_SIZE)
        except OSError:  # it is not there yet, or its file system does not answer
            return []
        self._offset += len(data)
        *whole, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _READ_SIZE:
            whole, self._rest = [*whole, self._rest], b""
        return [printable(line) for line in whole]


@attrs.frozen(kw_only=True)
class BatchOptions:
    """The options that launchers for batch systems share."""

    nodes: int
    """Number of nodes."""
    cpus: int | None
    """Processors, and servers, of each node; None for what the batch system gives a job."""
    options: Sequence[str]
    """Further arguments of the command that submits."""
    setup: Sequence[str]
    """Shell commands to run before the interpreter."""
    python: str | os.PathLike[str] | None
    """The interpreter on the machines; None for this program's own."""
    notice: float
    """Seconds before the end of a job's time at which its node is drained and another one is submitted."""
    kill_wait: float
    """Seconds that the batch system leaves between SIGTERM and SIGKILL."""
    folder: str | os.PathLike[str] | None
    """A folder that this program and the machines share; None for one in the home folder."""
    poll: float
    """Seconds between two looks at the queue."""
    timeout: float
    """Seconds that a node may take to join the scheduler, from the start of its job."""


class BatchLauncher(Launcher):
    """Runs nodes in jobs of a batch system.

    Args:
        given: The options, which are checked here.
        limit: Seconds that a job may take; None if that is not known.
    """

    _queue: ClassVar[BatchQueue]

    def __init__(self, given: BatchOptions, *, limit: float | None) -> None:
        self._count = integer("nodes", given.nodes, least=1)
        self._cpus = optional_integer("cpus", given.cpus, least=1)
        self._options = [text("options", one) for one in several("options", given.options, "arguments")]
        self._setup = [text("setup", one) for one in several("setup", given.setup, "shell commands")]
        self._python = text("python", os.fspath(given.python)) if given.python is not None else sys.executable
        notice = not_negative("notice", given.notice)
        self._notice = notice if limit is None else min(notice, limit / 2)
        self._limit = limit
        self._kill_wait = not_negative("kill_wait", given.kill_wait)
        default = platformdirs.user_state_path("discoro_trio") / "launch"
        self._parent = (optional_path("folder", given.folder) or default).absolute()
        self._poll = above_zero("poll", given.poll)
        self._timeout = above_zero("timeout", given.timeout)
        self._state: BatchState | None = None
        self._opened = False
        self._changed = trio.Event()
        self._wake = trio.Event()

    @abstractmethod
    def _submission(self, folder: Path, names: Sequence[str]) -> JobScript:
        """Return how to submit nodes with these names; their numbers follow each other."""

    def _groups(self, names: tuple[str, ...]) -> list[tuple[str, ...]]:
        """Return which nodes are submitted together."""
        return [names]

    @abstractmethod
    def _jobs(self, answer: str, names: Sequence[str]) -> dict[str, str]:
        """Return the id of each node's job, from what the command has written."""

    def _node_script(self, folder: Path, *, name: str, cpus: str, job: str) -> str:
        """Return the shell commands that run a node: `name`, `cpus` and `job` are words of the shell.

        The shell outlives signals, which batch systems send to all processes of a job: the node decides about its end.
        """
        here = shlex.quote(str(folder))
        return "\n".join(
            [
                "trap : INT TERM USR1 USR2",
                f"name={name}",
                f'exec >>{here}/"$name.log" 2>&1',
                *self._setup,
                f'{shlex.join((self._python, *NODE_MODULE))} {here} "$name" {cpus} {job}',
                "status=$?",
                f'echo "{ENDED}$status"',
                'exit "$status"',
            ]
        )

    @property
    def size(self) -> int:
        """The number of nodes that are started by default."""
        return self._count

    @property
    def nodes(self) -> tuple[LaunchedNode, ...]:
        """The nodes of the current block, or of the last one. While a node starts, its reason is its job's state."""
        return self._state.nodes if self._state is not None else ()

    async def until_changed(self) -> None:
        """Wait until the state of a node changes; cancelling the wait changes nothing."""
        await self._changed.wait()

    async def take_back(self, name: str) -> None:
        """End one node, and wait until it has ended.

        Coroutines that run there are cancelled, have their grace period, and end in ServerLost. If the wait is
        cancelled, the node ends all the same.

        Args:
            name: The node's name.

        Raises:
            ValueError: There is no node of this name.
        """
        state = self._state
        if state is None or name not in state:
            message = f"name must be one of {[node.name for node in self.nodes]}, not {name!r}"
            raise ValueError(message)
        self._asked += state.end(name, "it was taken back")
        self._wake.set()
        while any(node.name == name and node.state != "ended" for node in self.nodes):
            await self._changed.wait()

    def start(self, count: int) -> tuple[str, ...]:
        """Submit jobs for further nodes in the current block, without waiting for them.

        Args:
            count: How many nodes.

        Returns:
            Their names.

        Raises:
            RuntimeError: The launcher is not open.
        """
        if self._state is None or not self._opened:
            message = "this launcher is not open"
            raise RuntimeError(message)
        submit = self._state.new(integer("count", count, least=1))
        self._asked.append(submit)
        self._wake.set()
        return submit.names

    @asynccontextmanager
    async def open(self, access: SchedulerAccess, *, count: int | None = None) -> AsyncIterator[None]:
        """Run the nodes while the block lasts; used by `open_scheduler`.

        The block begins when the first node has joined, which includes its time in the queue, or at once if no node is
        to be started.

        Args:
            access: What the nodes need to join the scheduler.
            count: The number of nodes to begin with; None for `size`.

        Raises:
            DiscoroError: No node could join, or a command of the batch system is missing.
            RuntimeError: The launcher is in use.
        """
        if self._opened:
            message = "this launcher is in use already; make one for each scheduler"
            raise RuntimeError(message)
        self._check_programs()
        self._opened = True
        self._state = state = BatchState(
            self._queue.name,
            timeout=self._timeout,
            where=str(access.location),
            keeps_ended=self._queue.keeps_ended,
        )
        first = self._count if count is None else count
        self._asked: list[Effect] = [state.new(first)] if first else []
        self._outputs: dict[str, _NodeOutput] = {}
        self._leave_by = math.inf
        self._over = self._unanswered = False
        self._submit_by = trio.current_time() + self._timeout
        self._unsubmitted: list[SubmitJobs] = []
        try:
            await trio.to_thread.run_sync(self._end_leftovers)
            # Shielded: jobs are followed until they have ended, also when the block is cancelled.
            async with self._run_folder(access) as folder, open_background(shielded=True) as nursery:
                done = trio.Event()
                nursery.start_soon(self._follow, folder, state, done, name="follow the jobs")
                nursery.start_soon(_show_alive, folder / OWNER_FILE, name="show that the program runs")
                try:
                    if first:
                        await self._until_first_joined(access)
                    yield
                finally:
                    self._asked += state.end_all("the scheduler's block was left")
                    self._leave_by = trio.current_time() + _LONGEST_LEAVE
                    self._wake.set()
                    await finish(done.wait)
        finally:
            self._opened = False

    def _check_programs(self) -> None:
        missing = [program for program in self._queue.programs if shutil.which(program) is None]
        if missing:
            title = type(self).__name__
            message = (
                f"{missing[0]} is not installed here: launch.{title} needs the commands "
                f"{', '.join(self._queue.programs)}, so run this program on a machine of the cluster that has them"
            )
            raise DiscoroError(message)

    def _end_leftovers(self) -> None:
        """End what killed programs have left in the queue and in the folder."""
        for folder in abandoned(self._parent, self._queue.name):
            done = end_run(self._queue, folder, seconds=_LEFTOVERS_SECONDS)
            what = "ended" if done else "tried to end"
            logger.warning("%s the jobs %s, which a killed program has left", what, folder.name)

    @asynccontextmanager
    async def _run_folder(self, access: SchedulerAccess) -> AsyncIterator[Path]:
        """Make the folder of this run, and a process that ends the jobs if this program is killed."""
        location = access.location
        order = Order(
            access.secret,
            location.addr,
            location.port,
            "",
            self._cpus or 0,
            lasts=None if self._limit is None else self._limit - self._notice,
            notice=self._notice,
            kill_wait=self._kill_wait,
        )
        try:
            folder = make_run_folder(self._parent, self._queue.name)
        except OSError as error:
            message = f"{self._parent} cannot be written: {error.strerror}; the option folder sets another one"
            raise DiscoroError(message) from error
        command = [sys.executable, *GUARD_MODULE, self._queue.name, str(folder)]
        try:
            write_private(folder / ORDER_FILE, order.encode())
            # In a session of its own: what ends this program's process group must not end the guard.
            guard = await trio.lowlevel.open_process(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        assert isinstance(guard.stdin, trio.lowlevel.FdStream)  # noqa: S101 - for the type checker
        self._guard_pipe = guard.stdin.fileno()
        try:
            yield folder
        finally:
            with trio.CancelScope(shield=True):
                if self._over:
                    await trio.to_thread.run_sync(lambda: shutil.rmtree(folder, ignore_errors=True))
                await guard.stdin.aclose()
                with trio.move_on_after(_GUARD_SECONDS if self._over else 0):
                    await guard.wait()

    async def _until_first_joined(self, access: SchedulerAccess) -> None:
        while not any(node.state == "running" for node in self.nodes):
            if self.nodes and all(node.state == "ended" for node in self.nodes):
                by_reason: dict[str, list[str]] = {}
                for node in self.nodes:
                    by_reason.setdefault(node.reason, []).append(node.name)
                reasons = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in by_reason.items())
                message = f"no node could join the scheduler at {access.location}: {reasons}"
                raise DiscoroError(message)
            await self._changed.wait()

    # --- the jobs

    async def _follow(self, folder: Path, state: BatchState, done: trio.Event) -> None:
        """Follow the jobs until they have ended after the block; `_over` is then set."""
        try:
            self._over = await self._follow_jobs(folder, state)
        finally:
            self._changed.set()
            done.set()

    async def _follow_jobs(self, folder: Path, state: BatchState) -> bool:
        """Return whether all jobs have ended; the guard ends what is left."""
        shown, next_look, silent = state.version, -math.inf, False
        while True:
            await self._perform(folder, state)
            now = trio.current_time()
            leaving = self._leave_by < math.inf
            found: dict[str, QueueState] | None = None
            if now >= next_look or leaving:
                next_look = now + self._poll
                try:
                    found = await self._look(folder)
                    silent = False
                    if state.cancelled_elsewhere(found):
                        age = await trio.to_thread.run_sync(self._age_of_controller)
                        if age is not None and age < RESTART + self._poll:
                            state.unavailable(now, now - age)
                except QueueUnavailableError as error:
                    logger.log(logging.DEBUG if silent else logging.WARNING, "the queue cannot be read: %s", error)
                    silent = True
                    state.unavailable(now)
            # After the look: what a node has written explains why its job has ended.
            for name, lines in (await trio.to_thread.run_sync(self._read, folder, state.writing)).items():
                for line in lines:
                    self._wrote(state, name, line)
            if found is not None:
                self._asked += state.queue(trio.current_time(), found)
                self._asked += [] if leaving else self._unsubmitted
                self._unsubmitted = []
            self._asked += state.clock(now)
            ending = leaving and state.is_ending and not silent
            if now >= self._leave_by - (_LONGEST_LEAVE - _LONGEST_ENDING if ending else 0):
                for effect in state.forget("the batch system was asked to cancel them"):
                    logger.log(effect.level, "%s", effect.text)
                return ending
            if state.version != shown:
                shown = state.version
                self._changed.set()
                self._changed = trio.Event()
            if leaving and state.over and not self._asked:
                return not (silent and self._unanswered)  # such a submission may have succeeded
            if not self._asked:
                with trio.move_on_after(_READ):
                    await self._wake.wait()
                self._wake = trio.Event()

    async def _look(self, folder: Path) -> dict[str, QueueState]:
        name = folder.name
        try:
            answer = await trio.to_thread.run_sync(run, self._queue.query(name))
        except QueueUnavailableError as error:
            if self._queue.is_empty(str(error)):
                return {}
            raise
        return self._queue.states(answer, name)

    def _age_of_controller(self) -> float | None:
        """Return how many seconds ago the controller started; None if that is not known.

        It may have been away for less than the time between two looks at the queue, and then cancels what it has lost.
        """
        command = self._queue.started()
        if command is None:
            return None
        try:
            since = self._queue.start_time(run(command))
        except QueueUnavailableError as error:
            return 0.0 if self._queue.is_unreachable(str(error)) else None
        return None if since is None else time.time() - since

    def _read(self, folder: Path, names: Sequence[str]) -> dict[str, list[str]]:
        for name in names:
            self._outputs.setdefault(name, _NodeOutput(folder / f"{name}.log"))
        return {name: self._outputs[name].read() for name in names}

    def _wrote(self, state: BatchState, name: str, line: str) -> None:
        if name not in state:
            return
        effects = state.wrote(name, line)
        if effects is None:
            log_line(name, line, state.tail(name))
        else:
            self._asked += effects

    async def _perform(self, folder: Path, state: BatchState) -> None:
        while self._asked:
            effect = self._asked.pop(0)
            match effect:
                case SubmitJobs(names):
                    for group in self._groups(names):
                        self._asked += await self._submit(folder, state, group)
                case Cancel(ids):
                    try:
                        await trio.to_thread.run_sync(run, self._queue.cancel(ids))
                    except QueueUnavailableError as error:
                        logger.info("%s cannot be cancelled now: %s", ", ".join(ids), error)
                case EndNode(name):
                    _touch(folder / end_marker(name))
                case EndAll():
                    _touch(folder / END_ALL)
                case LogLine(level, line):
                    logger.log(level, "%s", line)

    async def _submit(self, folder: Path, state: BatchState, names: tuple[str, ...]) -> list[Effect]:
        if not state.wants(names):
            return []
        submission = self._submission(folder, names)
        program = submission.command[0]
        logger.debug("%s", shlex.join(submission.command))
        why = f"{program} did not answer within {_COMMAND_SECONDS:g} s"
        with trio.move_on_after(_COMMAND_SECONDS):
            done = await trio.run_process(
                list(submission.command),
                stdin=submission.script.encode(),
                capture_stdout=True,
                capture_stderr=True,
                check=False,
                env=environment(),
                start_new_session=True,
                pass_fds=(self._guard_pipe,),  # the guard waits for it, too, if this program is killed meanwhile
            )
            if done.returncode == 0:
                return state.submitted(trio.current_time(), self._jobs(done.stdout.decode(), names))
            why = failure(program, done.returncode, (done.stderr or done.stdout).decode(errors="replace"))
            if not self._queue.is_unreachable(why):
                return state.refused(names, why)
        self._unanswered = True
        if not state.has_begun and trio.current_time() > self._submit_by:
            return state.refused(names, why)
        self._unsubmitted.append(SubmitJobs(names))
        return [LogLine(logging.WARNING, f"{why}; trying again")]


def _touch(path: Path) -> None:
    with suppress(OSError):  # someone has removed the folder, which asks nodes to end as well
        path.touch()


async def _show_alive(owner: Path) -> None:
    while True:
        await trio.sleep(OWNER_PULSE)
        with suppress(OSError):
            await trio.to_thread.run_sync(os.utime, owner)
