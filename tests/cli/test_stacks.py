"""`discoro stacks`, as people run it, and the tree that it draws."""

from __future__ import annotations

import io
import json

import pytest
import trio
from rich.console import Console

import discoro_trio as discoro
from discoro_trio._cli._tree import tree_of
from discoro_trio._cluster import ProcessStacks
from discoro_trio._process import MESSAGE, ROOM, ProcessDump, TaskDump, ThreadDump, stuck
from tests._ports import free_udp_port
from tests.cli.programs import SECRET, output, running

pytestmark = pytest.mark.program


async def wait(client: discoro.Coro[None], *, coro: discoro.Coro[None]) -> None:
    await client.send(coro)
    await coro.receive()


@pytest.mark.slow
@pytest.mark.option("discoro stacks --json", "discoro stacks --server")
async def test_the_command_shows_client_scheduler_node_and_servers_with_their_coroutines() -> None:
    udp_port = free_udp_port()
    async with running("--udp_port", str(udp_port)) as scheduler, running("node", "--udp_port", str(udp_port), "-c1"):
        place = await scheduler.location()
        with trio.fail_after(60):
            async with (
                discoro.open_endpoint(secret=SECRET, udp_port=udp_port),
                discoro.open_coro("main") as client,
                discoro.Computation([wait]).schedule(place) as computation,
            ):
                rcoro = await computation.run(wait, client)
                await client.receive()
                shown = await output("stacks", place)
                assert shown.returncode == 0, shown.stderr
                text = shown.stdout.decode()
                for title in ("client ", "scheduler ", "node ", "server "):
                    assert sum(line.startswith(title) for line in text.splitlines()) == 1
                assert f"wait/{rcoro.serial:x}, waits for a message" in text
                assert f"{rcoro}" in text
                assert f"{__file__}:" in text
                shown = await output("stacks", place, "--json", "--server", str(rcoro.location))
                (server,) = json.loads(shown.stdout)
                assert [task["waits"] for task in server["picture"]["tasks"]] == [MESSAGE]
                await rcoro.send(None)
                await rcoro.result()


async def test_without_a_scheduler_the_command_says_so() -> None:
    shown = await output("stacks", f"127.0.0.1:{free_udp_port()}")
    assert shown.returncode == 1
    assert shown.stderr.count(b"\n") == 1


def task(name: str, target: str = "", waits: str = ROOM) -> TaskDump:
    return TaskDump(-1, "nursery 1", name, name, True, [], waits, target, target)  # noqa: FBT003 - a field


def test_a_circle_and_those_who_wait_for_it_are_stuck_and_a_row_that_ends_at_one_who_receives_is_not() -> None:
    row = [task("a", "b"), task("b", "c"), task("c", waits=MESSAGE)]
    assert stuck(row) == []
    circle = [task("x", "y"), task("y", "x"), task("z", "x")]
    assert stuck([*row, *circle]) == [("x", "y"), ("y", "x"), ("z", "x")]
    # Another task of x receives what its first one is waited for.
    assert stuck([*circle, task("x", waits=MESSAGE)]) == []


def test_the_tree_shows_nurseries_threads_silent_servers_and_no_control_characters() -> None:
    tasks = [
        TaskDump(-1, "nursery 1", "[red]top\x1b[2J", "id-1", begins=True, stack=["a.py:1 in f"]),
        TaskDump(0, "nursery 1", "below", "id-1", begins=False, stack=["a.py:2 in g"]),
        TaskDump(7, "nursery 1", "astray", "", begins=False, stack=[]),
    ]
    picture = ProcessDump(5, "python x.py", tasks, 3, [ThreadDump("plain", ["b.py:1 in h"])])
    client = ProcessStacks(b"c", b"", ["client"], "host", "h:1", picture, [], [])
    silent = ProcessStacks(b"s", b"n", ["server"], "host server 1", "h:2", None, ["c.py:3 in busy"], ["work"])
    console = Console(width=200, file=io.StringIO())
    with console.capture() as capture:
        console.print(tree_of([client, silent]))
    text = capture.get()
    assert "\x1b" not in text
    lines = [line.strip("│├└─ ") for line in text.splitlines()]
    assert lines == [
        "client host at h:1 (pid 5: python x.py)",
        "[red]top\\x1b[2J/1",
        "a.py:1 in f",
        "nursery 1",
        "below",
        "a.py:2 in g",
        "astray",
        "thread plain",
        "b.py:1 in h",
        "and 3 more tasks; --limit shows more",
        "server host server 1 at h:2 is unresponsive",
        "work, when last reported",
        "its thread is busy",
        "c.py:3 in busy",
    ]
