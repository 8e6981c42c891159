"""The live tree: tasks below the tasks whose nurseries they are in, and circles."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from discoro_trio._cluster import ProcessStacks
from discoro_trio._monitor._tree import tree
from discoro_trio._process import ROOM, ProcessDump, TaskDump

pytestmark = pytest.mark.spec("B39")


def task(name: str, parent: int = -1, **more: Any) -> TaskDump:
    nursery = "nursery 1" if parent >= 0 else ""
    return TaskDump(parent, nursery, name, f"id-{name}", begins=True, stack=["a.py:1 in f"], **more)


def process(*tasks: TaskDump) -> ProcessStacks:
    return ProcessStacks(b"p", b"", ["server"], "server 1", "h:1", ProcessDump(7, "", list(tasks), 0, []), [], [])


def test_tasks_stand_below_their_parents() -> None:
    found: Any = tree([process(task("main"), task("child", 0), task("grandchild", 1), task("other"))])
    (one,) = found["processes"]
    assert [row["name"] for row in one["tasks"]] == ["main", "other"]
    assert one["tasks"][0]["tasks"][0]["tasks"][0]["name"] == "grandchild"
    assert found["circle"] == []


def test_clients_are_named_by_what_they_run_and_servers_once() -> None:
    client = msgspec.structs.replace(process(), roles=["client"], name="build7", location="h:9")
    found: Any = tree([client, process()], {"h:9": "ada@build7 render.py with nightly"})
    assert [one["name"] for one in found["processes"]] == [
        "client ada@build7 render.py with nightly at h:9",
        "server 1 at h:1",
    ]


def test_those_that_send_to_each_other_for_ever_are_named() -> None:
    one = task("a", waits=ROOM, target="id-b", target_name="b")
    other = task("b", waits=ROOM, target="id-a", target_name="a")
    found = tree([process(one, other)])
    assert found["circle"] == ["a waits for room in the mailbox of b", "b waits for room in the mailbox of a"]


def test_a_process_that_does_not_answer_shows_where_its_thread_is() -> None:
    silent = ProcessStacks(b"p", b"", ["server"], "server 1", "h:1", None, ["a.py:3 in invert"], ["invert"])
    found: Any = tree([silent])
    (row,) = found["processes"]
    assert (row["answers"], row["stack"], row["coroutines"]) == (False, ["a.py:3 in invert"], ["invert"])
