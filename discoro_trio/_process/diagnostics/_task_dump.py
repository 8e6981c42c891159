"""What runs in this process, for whoever looks for the cause of a hang: its tasks, their stacks, what they wait for.

A picture is made at one moment and changes nothing. What tasks wait for is read from their stacks, so that it costs
nothing while nobody asks. Gathering the pictures of a cluster is in `_cluster`.
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
"""What a task may wait for: room in a mailbox, a message in its own, the end of a coroutine, a thread."""

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
"""The functions in which a task is while it waits for another coroutine, and the variable that holds that."""

_RUNNING = (Runner.outcome.__code__, Runner._run_guest.__code__)  # noqa: SLF001 - it starts them, and nobody calls it
"""The functions that run coroutines, those that begin here and those that others begin."""

_OWN = tuple(str(Path(str(sys.modules[name].__file__)).parent) + os.sep for name in ("discoro_trio", "trio", "outcome"))
_LINKING = (contextmanager.__code__.co_filename, threading.Thread.start.__code__.co_filename)
_FACES = tuple(f"{_OWN[0]}{part}.py" for part in (Path("_process", "_coro"), Path("_client", "_runs")))
"""The files with what users start as tasks directly, as in `nursery.start_soon(coro.result)`."""
_MOST_FRAMES = 50
_IDLE_THREAD = "Trio thread "
_LONGEST_PROGRAM = 200


class Wanted(msgspec.Struct, frozen=True, array_like=True):
    """What of the cluster shall be shown."""

    coroutine: str = ""
    """Only coroutines of such a name, and what is below them; may hold `*` and `?`. Empty for all."""
    server: str = ""
    """Only servers of such a name or location, likewise."""
    full: bool = False
    """Also the tasks and frames of this package and of Trio."""
    limit: Annotated[int, msgspec.Meta(ge=0, le=100_000)] = 200
    """The most tasks of one process."""


class TaskDump(msgspec.Struct, frozen=True, array_like=True):
    """One task, or a coroutine that another process runs for a block of this one."""

    parent: int
    """The index of the task whose nursery it is in; -1 if that is not shown."""
    nursery: str
    """Which of the parent's nurseries, for people."""
    name: str
    coro: str
    """The id of the coroutine that it is; empty for none."""
    begins: bool
    """Whether the coroutine begins with this task, and its parent is not a part of it."""
    stack: list[str]
    """The outermost frame first."""
    waits: str = ""
    """What it waits for, if that is known."""
    target: str = ""
    """The id of the coroutine whose mailbox or end it waits for."""
    target_name: str = ""
    elsewhere: bool = False
    """Whether it runs in another process, which shows its stack."""


class ThreadDump(msgspec.Struct, frozen=True, array_like=True):
    """A thread besides that of Trio, with the name of the coroutine whose plain function runs there."""

    name: str
    stack: list[str]


class AskDump(Control, frozen=True):
    """What runs in that process? Answered by `ProcessDump`, for those who know the cluster's secret."""

    wanted: Wanted


class ProcessDump(Control, frozen=True):
    """What runs in a process."""

    pid: int
    program: str
    """Its command."""
    tasks: list[TaskDump]
    """Parents before their children."""
    left_out: int
    """Tasks that were not looked at, since there are more than wanted."""
    threads: list[ThreadDump]


class TaskDumps:
    """Answers what runs in one process."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._blocks: dict[trio.lowlevel.Task, list[_Block]] = {}
        process.endpoint.services.on_request(AskDump, self._asked)

    @contextmanager
    def block(self, name: str, running: Callable[[], Iterable[Submission]]) -> Iterator[None]:
        """Show what the calling task has running elsewhere while a block lasts.

        Args:
            name: What the block is, for people.
            running: Gives the coroutines.
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
        return self.picture(ask.wanted)

    def picture(self, wanted: Wanted) -> ProcessDump:
        """Show what runs here now."""
        walk = _Walk(wanted, self._blocks, self._place)
        walk.run()
        program = " ".join(sys.orig_argv)[:_LONGEST_PROGRAM]
        return ProcessDump(os.getpid(), program, walk.tasks, walk.left_out, _threads(wanted))

    def _place(self, started: Submission) -> str:
        link = self._process.endpoint.links.get(started.home)
        return "" if link is None else str(link.peer.location)


_Block = tuple[str, "Callable[[], Iterable[Submission]]"]


class _Ahead(Record, frozen=True):
    """A task that is to be looked at."""

    task: trio.lowlevel.Task
    parent: int
    nursery: str
    above: LocalCoro | None
    """The coroutine that its parent is a part of."""
    chosen: bool
    """Whether it is wanted with its parent."""


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
        """Look at every task, parents before their children."""
        root = trio.lowlevel.current_root_task()
        assert root is not None  # noqa: S101 - Trio runs, or nobody would ask
        ahead = [_Ahead(root, -1, "", None, not self._wanted.coroutine)]
        while ahead:
            ahead.extend(reversed(self._look(ahead.pop())))

    def _look(self, at: _Ahead) -> list[_Ahead]:
        """Look at one task; return those in its nurseries."""
        local, parent = _local_of(at.task), at.parent
        begins = local is not None and local is not at.above
        chosen = at.chosen or (begins and local is not None and fnmatchcase(local.name, self._wanted.coroutine))
        if chosen and self._room():
            picture = self._picture(at, local, begins=begins)
            if picture is not None:
                parent = len(self.tasks)
                self.tasks.append(picture)
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

    def _picture(self, at: _Ahead, local: LocalCoro | None, *, begins: bool) -> TaskDump | None:
        frames = [frame for frame, _ in at.task.iter_await_frames()]
        stack = _lines(frames, full=self._wanted.full)
        # A link has the context of the coroutine that opened it, and is no part of it.
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
    """Return the innermost coroutine that a task is a part of."""
    locals_ = task.context.get(current, ())
    return locals_[-1] if locals_ else None


def _serial_and_name(task: trio.lowlevel.Task) -> tuple[int, str]:
    local = _local_of(task)
    return local.serial if local is not None else 0, task.name


def _awaited(frames: list[FrameType]) -> tuple[str, str, str]:
    """Tell what a task waits for, and which coroutine's that is: its id, and its name."""
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


def _lines(frames: Sequence[FrameType], *, full: bool) -> list[str]:
    """Return the frames as text, the outermost first: those of users, and what each of them called; or all."""
    lines: list[str] = []
    after_users = bool(frames) and frames[0].f_code.co_filename.endswith(_FACES)
    for frame in frames:
        users = is_users(frame.f_code.co_filename)
        if full or users or after_users:
            lines.append(f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}")
        after_users = users
    return lines[-_MOST_FRAMES:]


def is_users(file: str) -> bool:
    """Return whether a file is not of this package or Trio, nor does just link the two to users' code."""
    return not file.startswith(_OWN) and file not in _LINKING


def _threads(wanted: Wanted) -> list[ThreadDump]:
    """Show the threads that run something, besides the calling one."""
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
