"""The processes of a cluster and their tasks as a tree for a terminal, and the circular waits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text
from rich.tree import Tree

from .._printable import printable
from .._process import END, MESSAGE, ROOM, THREAD, stuck

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._cluster import ProcessStacks
    from .._process import TaskDump

_WAITS = {
    ROOM: "waits for room in the mailbox of",
    MESSAGE: "waits for a message",
    END: "waits for the end of",
    THREAD: "runs in a thread",
}


def tree_of(processes: Sequence[ProcessStacks]) -> Group:
    """Draw all processes, then the circular waits."""
    drawn: list[Tree | Text] = [_process(one) for one in processes]
    circle = stuck([task for one in processes if one.picture is not None for task in one.picture.tasks])
    if circle:
        drawn.append(Text("These coroutines all send to each other and none of them receives:", style="bold red"))
        drawn += [
            Text(f"  {printable(who)} waits for room in the mailbox of {printable(whom)}") for who, whom in circle
        ]
    return Group(*drawn) if drawn else Group(Text("no matching task runs"))


def _process(one: ProcessStacks) -> Tree:
    picture = one.picture
    title = Text(printable(f"{', '.join(one.roles)} {one.name} at {one.location}"), style="bold")
    if picture is None:
        return _unresponsive(one, title)
    program = f": {picture.program}" if one.roles != ["server"] else ""
    title.append(printable(f" (pid {picture.pid}{program})"), style="not bold")
    tree = Tree(title)
    _add_tasks(tree, picture.tasks)
    for thread in picture.threads:
        tree.add(_label(f"thread {thread.name}", "", thread.stack))
    if picture.left_out:
        tree.add(Text(f"and {picture.left_out} more tasks; --limit shows more"))
    return tree


def _unresponsive(one: ProcessStacks, title: Text) -> Tree:
    title.append(" is unresponsive", style="red")
    tree = Tree(title)
    for name in one.coroutines:
        tree.add(Text(printable(f"{name}, when last reported")))
    if one.thread:
        tree.add(_label("its thread is busy", "", one.thread))
    return tree


def _add_tasks(tree: Tree, tasks: Sequence[TaskDump]) -> None:
    drawn: list[Tree] = []
    nurseries: dict[tuple[int, str], Tree] = {}
    for task in tasks:
        above = tree if task.parent < 0 or task.parent >= len(drawn) else drawn[task.parent]
        if above is not tree:
            key = (task.parent, task.nursery)
            if key not in nurseries:
                nurseries[key] = above.add(Text(printable(task.nursery), style="italic"))
            above = nurseries[key]
        drawn.append(above.add(_label(_name(task), _waiting(task), task.stack)))


def _name(task: TaskDump) -> str:
    if task.elsewhere or not task.begins:
        return task.name
    return f"{task.name}/{task.coro.rpartition('-')[2]}"


def _waiting(task: TaskDump) -> str:
    return " ".join(filter(None, (_WAITS.get(task.waits, ""), task.target_name)))


def _label(name: str, waits: str, stack: Sequence[str]) -> Text:
    label = Text(printable(name))
    if waits:
        label.append(f", {printable(waits)}", style="yellow")
    for line in stack:
        label.append(f"\n{printable(line)}", style="dim")
    return label
