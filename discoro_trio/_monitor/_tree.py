"""The live tree of a cluster for a page: processes, nurseries and coroutines, and what each waits for. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from .._process import END, MESSAGE, ROOM, THREAD, stuck
from .._shown import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .._cluster import ProcessStacks
    from .._process import TaskDump

_WAITS = {
    ROOM: "waits for room in the mailbox of",
    MESSAGE: "waits for a message",
    END: "waits for the end of",
    THREAD: "runs in a thread",
}


class Tree(TypedDict):
    """The live tree."""

    processes: list[dict[str, object]]
    circle: list[str]
    """What the coroutines in circular waits wait for, one line for each."""


def tree(processes: Sequence[ProcessStacks], clients: Mapping[str, str] | None = None) -> Tree:
    """Return the processes with their tasks, and the coroutines in circular waits.

    Args:
        processes: The task dumps.
        clients: What clients run, for display, by the Location of the client as text.
    """
    tasks = [task for one in processes if one.picture is not None for task in one.picture.tasks]
    return {
        "processes": [_process(one, clients or {}) for one in processes],
        "circle": [f"{one_line(who)} waits for room in the mailbox of {one_line(whom)}" for who, whom in stuck(tasks)],
    }


def _process(one: ProcessStacks, clients: Mapping[str, str]) -> dict[str, object]:
    picture = one.picture
    roles = "" if one.roles == ["server"] else f"{', '.join(one.roles)} "  # the name of a server says that it is one
    name = clients.get(one.location, one.name)
    return {
        "id": one.process_id.hex(),
        "name": one_line(f"{roles}{name} at {one.location}"),
        "answers": picture is not None,
        "stack": [one_line(line) for line in one.thread],
        "tasks": [] if picture is None else _tasks(picture.tasks),
        "left_out": 0 if picture is None else picture.left_out,
        "coroutines": [one_line(name) for name in one.coroutines],
    }


def _tasks(tasks: Sequence[TaskDump]) -> list[dict[str, object]]:
    """Put tasks below the tasks whose nurseries they are in."""
    roots: list[dict[str, object]] = []
    shown: list[list[dict[str, object]]] = []
    for task in tasks:
        below: list[dict[str, object]] = []
        row = {
            "name": one_line(task.name),
            "coro": task.coro if task.begins else "",
            "nursery": one_line(task.nursery),
            "waits": " ".join(filter(None, (_WAITS.get(task.waits, ""), one_line(task.target_name)))),
            "stack": [one_line(line) for line in task.stack[-1:]],
            "elsewhere": task.elsewhere,
            "tasks": below,
        }
        (shown[task.parent] if 0 <= task.parent < len(shown) else roots).append(row)
        shown.append(below)
    return roots
