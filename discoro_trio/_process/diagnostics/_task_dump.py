"""Task dumps of this process, for finding the cause of a hang: its tasks, their stacks, and what they wait for.

A task dump is made at one moment and changes nothing. What tasks wait for is read from their stacks, so it costs
nothing between dumps. `_cluster` gathers the task dumps of a cluster.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import trio

from ..._records import Record
from ..._wire import Control
from .._coro import Coro
from ..execution._local_coro import LocalCoro, current
from ..execution._outcome_store import OutcomeStore
from ..execution._runner import Runner
from ..execution._submission import Submission
from ..messaging._mail import Mail
from ..messaging._mailbox import Mailbox
from ..messaging._message_sender import MessageSender

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import CodeType, FrameType

    from ..._link import Link
    from .._process import Process

ROOM, MESSAGE, END, THREAD = "room", "message", "end", "thread"
"""What a task waits for: room in a mailbox, a message in its own, the end of a coroutine, or a thread."""

_WAITS: dict[CodeType, str] = {
    MessageSender.wait.__code__: ROOM,
    Mailbox.put.__code__: ROOM,
    Mailbox.wait.__code__: MESSAGE,
    OutcomeStore.outcome.__code__: END,
    Submission.until_ended.__code__: END,
    trio.to_thread.run_sync.__code__: THREAD,
}
_TARGETS: dict[CodeType, str] = {
    Coro.send.__code__: "self",
    Coro.deliver.__code__: "self",
    Mail.send_packed.__code__: "coro",
    Mail.deliver_packed.__code__: "coro",
    OutcomeStore.outcome.__code__: "coro",
    Submission.until_ended.__code__: "self",
}
"""The functions in which a task waits for another coroutine, and the variable that holds that coroutine."""

_RUNNING = (Runner.outcome.__code__, Runner._run_guest.__code__)  # noqa: SLF001 - it starts them, and is not called here
"""The functions that run coroutines, whether this or another process starts them."""

_OWN = tuple(str(Path(str(sys.modules[name].__file__)).parent) + os.sep for name in ("discoro_trio", "trio", "outcome"))
_LINKING = (contextmanager.__code__.co_filename, threading.Thread.start.__code__.co_filename)
_FACES = tuple(f"{_OWN[0]}{part}.py" for part in (Path("_process", "_coro"), Path("_client", "_runs")))
"""The files with methods that users start as tasks directly, as in `nursery.start_soon(coro.result)`."""
_MOST_FRAMES = 50
_IDLE_THREAD = "Trio thread "
_LONGEST_PROGRAM = 200


class Wanted(msgspec.Struct, frozen=True, array_like=True):
    """The part of the cluster to show."""

    coroutine: str = ""
    """Only coroutines whose name matches, and tasks below them; `*` and `?` are wildcards. Empty for all."""
    server: str = ""
    """Only servers whose name or location matches, likewise."""
    full: bool = False
    """Also the tasks and frames of this package and of Trio."""
    limit: Annotated[int, msgspec.Meta(ge=0, le=100_000)] = 200
    """The largest number of tasks of one process."""
    stuck: bool = False
    """Only coroutines with a task that waits for room in a mailbox, without stacks: enough to find circles."""


class TaskDump(msgspec.Struct, frozen=True, array_like=True):
    """One task, or a coroutine that another process runs for a block of this process."""

    parent: int
    """The index of the task whose nursery it is in; -1 if that task is not shown."""
    nursery: str
    """The parent's nursery, for display."""
    name: str
    coro: str
    """The id of its coroutine; empty for none."""
    begins: bool
    """Whether this is the coroutine's first task, so that its parent is not part of the coroutine."""
    stack: list[str]
    """The stack, outermost frame first."""
    waits: str = ""
    """What it waits for, if that is known."""
    target: str = ""
    """The id of the coroutine whose mailbox or end it waits for."""
    target_name: str = ""
    elsewhere: bool = False
    """Whether it runs in another process, whose task dump has its stack."""


class ThreadDump(msgspec.Struct, frozen=True, array_like=True):
    """A thread other than Trio's, with the name of the coroutine whose plain function it runs."""

    name: str
    stack: list[str]


class AskDump(Control, frozen=True):
    """Request a task dump. Answered by `ProcessDump`, for peers with the cluster's secret."""

    wanted: Wanted


class ProcessDump(Control, frozen=True):
    """The task dump of a process."""

    pid: int
    program: str
    """Its command line."""
    tasks: list[TaskDump]
    """Parents before their children."""
    left_out: int
    """The number of tasks that are not included, as there are more than wanted."""
    threads: list[ThreadDump]


class TaskDumps:
    """Makes the task dumps of one process."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._blocks: dict[trio.lowlevel.Task, list[_Block]] = {}
        process.endpoint.services.on_request(AskDump, self._asked)

    @contextmanager
    def block(self, name: str, running: Callable[[], Iterable[Submission]]) -> Iterator[None]:
        """Include the remote coroutines of the calling task in task dumps while a block lasts.

        Args:
            name: The display name of the block.
            running: Returns the coroutines.
        """
        task = trio.lowlevel.current_task()
        block = (name, running)
        self._blocks.setdefault(task, []).append(block)
        try:
            yield
        finally:
            self._blocks[task].remove(block)
            if not self._blocks[task]:
                del self._blocks[task]

    async def _asked(self, _link: Link, ask: AskDump) -> ProcessDump:
        return self.dump(ask.wanted)

    def dump(self, wanted: Wanted) -> ProcessDump:
        """Return a task dump of this process."""
        walk = _Walk(wanted, self._blocks, self._place)
        walk.run()
        if wanted.stuck:
            senders = {task.coro for task in walk.tasks if task.waits == ROOM}
            return ProcessDump(os.getpid(), "", [task for task in walk.tasks if task.coro in senders], 0, [])
        program = " ".join(sys.orig_argv)[:_LONGEST_PROGRAM]
        return ProcessDump(os.getpid(), program, walk.tasks, walk.left_out, _threads(wanted))

    def _place(self, started: Submission) -> str:
        link = self._process.endpoint.links.get(started.home)
        return "" if link is None else str(link.peer.location)


_Block = tuple[str, "Callable[[], Iterable[Submission]]"]


class _Ahead(Record, frozen=True):
    """A task to visit."""

    task: trio.lowlevel.Task
    parent: int
    nursery: str
    above: LocalCoro | None
    """The coroutine of its parent."""
    chosen: bool
    """Whether it is wanted because its parent is."""


class _Walk:
    """One walk over the tree of tasks."""

    def __init__(
        self, wanted: Wanted, blocks: dict[trio.lowlevel.Task, list[_Block]], place: Callable[[Submission], str]
    ) -> None:
        self.tasks: list[TaskDump] = []
        self.left_out = 0
        self._wanted = wanted
        self._blocks = blocks
        self._place = place

    def run(self) -> None:
        """Visit every task, parents before their children."""
        root = trio.lowlevel.current_root_task()
        assert root is not None  # noqa: S101 - Trio is running
        ahead = [_Ahead(root, -1, "", None, not self._wanted.coroutine)]
        while ahead:
            ahead.extend(reversed(self._look(ahead.pop())))

    def _look(self, at: _Ahead) -> list[_Ahead]:
        """Visit one task; return the tasks in its nurseries."""
        local, parent = _local_of(at.task), at.parent
        begins = local is not None and local is not at.above
        chosen = at.chosen or (begins and local is not None and fnmatchcase(local.name, self._wanted.coroutine))
        if chosen and (self._wanted.stuck or self._room()):
            dump = self._task_dump(at, local, begins=begins)
            if dump is not None:
                parent = len(self.tasks)
                self.tasks.append(dump)
                if not self._wanted.stuck:
                    self._show_blocks(at.task, parent)
        return [
            _Ahead(child, parent, f"nursery {number}", local, chosen)
            for number, nursery in enumerate(at.task.child_nurseries, 1)
            for child in sorted(nursery.child_tasks, key=_serial_and_name)
        ]

    def _room(self) -> bool:
        """Return whether one more may be shown; count it, if not."""
        room = len(self.tasks) < self._wanted.limit
        self.left_out += not room
        return room

    def _task_dump(self, at: _Ahead, local: LocalCoro | None, *, begins: bool) -> TaskDump | None:
        frames = [frame for frame, _ in at.task.iter_await_frames()]
        if self._wanted.stuck:
            return None if local is None else _mail_wait(local, frames, begins=begins)
        stack = _lines(frames, full=self._wanted.full)
        # A link's task has the context of the coroutine that opened the link, but is not part of it.
        if not (stack or (begins and any(frame.f_code in _RUNNING for frame in frames))):
            return None
        name = local.name if begins and local is not None else at.task.name
        coro = "" if local is None else _id_of(local)
        return TaskDump(at.parent, at.nursery, name, coro, begins, stack, *_awaited(frames))

    def _show_blocks(self, task: trio.lowlevel.Task, parent: int) -> None:
        for block, running in self._blocks.get(task, ()):
            for started in running():
                if self._room():
                    name = f"{started.name}/{started.serial:x} at {self._place(started)}"
                    self.tasks.append(
                        TaskDump(parent, block, name, _id_of(started), begins=True, stack=[], elsewhere=True)
                    )


def _id_of(one: LocalCoro | Submission) -> str:
    """Return the id of a coroutine, as its handles do."""
    return f"{one.home.hex()}-{one.serial:x}"


def _local_of(task: trio.lowlevel.Task) -> LocalCoro | None:
    """Return the innermost coroutine to which a task belongs."""
    locals_ = task.context.get(current, ())
    return locals_[-1] if locals_ else None


def _serial_and_name(task: trio.lowlevel.Task) -> tuple[int, str]:
    local = _local_of(task)
    return local.serial if local is not None else 0, task.name


def _awaited(frames: list[FrameType]) -> tuple[str, str, str]:
    """Return what a task waits for, and the id and the name of the coroutine concerned."""
    waits, target = "", None
    for frame in frames:
        variable = _TARGETS.get(frame.f_code)
        if variable is not None and target is None:
            target = frame.f_locals[variable]
        waits = _WAITS.get(frame.f_code, waits)
    if waits not in (ROOM, END) or target is None:
        return waits, "", ""
    if isinstance(target, Submission):
        return waits, _id_of(target), f"{target.name}/{target.serial:x}"
    return waits, target.id, str(target)


def _mail_wait(local: LocalCoro, frames: list[FrameType], *, begins: bool) -> TaskDump | None:
    """Return a coroutine's task without its stack, if it waits for room in a mailbox or for a message."""
    awaited = _awaited(frames)
    return TaskDump(-1, "", local.name, _id_of(local), begins, [], *awaited) if awaited[0] in (ROOM, MESSAGE) else None


def _lines(frames: Sequence[FrameType], *, full: bool) -> list[str]:
    """Return frames as text, outermost first: users' frames and the calls that each makes, or all if `full`."""
    lines: list[str] = []
    after_users = bool(frames) and frames[0].f_code.co_filename.endswith(_FACES)
    for frame in frames:
        users = is_users(frame.f_code.co_filename)
        if full or users or after_users:
            lines.append(f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}")
        after_users = users
    return lines[-_MOST_FRAMES:]


def is_users(file: str) -> bool:
    """Return whether a file is users' code: not of this package, Trio, or what links the two to users' code."""
    return not file.startswith(_OWN) and file not in _LINKING


def _threads(wanted: Wanted) -> list[ThreadDump]:
    """Return the busy threads other than the calling one."""
    frames: dict[int, Any] = sys._current_frames()  # noqa: SLF001 - it is documented
    found = []
    for thread in threading.enumerate():
        frame = frames.get(thread.ident or 0)
        if frame is None or thread is threading.current_thread() or thread.name.startswith(_IDLE_THREAD):
            continue
        if wanted.coroutine and not fnmatchcase(thread.name, wanted.coroutine):
            continue
        outwards = [frame]
        while frame.f_back is not None:
            frame = frame.f_back
            outwards.append(frame)
        stack = _lines(outwards[::-1], full=wanted.full)
        if stack:
            found.append(ThreadDump(thread.name, stack))
    return found
