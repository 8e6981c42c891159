"""Finds deadlocked coroutines in the task dumps of a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._task_dump import MESSAGE, ROOM

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._task_dump import TaskDump


def stuck(tasks: Iterable[TaskDump]) -> list[tuple[str, str]]:
    """Find the coroutines that wait for each other's mailboxes for ever; return pairs of waiting and awaited coroutine.

    Each of them waits for room in the mailbox of one that also waits for room, and so on; none of them receives.
    """
    tasks = list(tasks)
    receiving = {task.coro for task in tasks if task.waits == MESSAGE}
    waiting = [task for task in tasks if task.waits == ROOM and task.coro and task.coro not in receiving]
    while True:
        senders = {task.coro for task in waiting}
        left = [task for task in waiting if task.target in senders]
        if len(left) == len(waiting):
            break
        waiting = left
    names = {task.target: task.target_name for task in waiting}
    return sorted((names.get(task.coro, task.name), task.target_name) for task in waiting)
