"""What runs in a cluster can be seen with stacks: who waits for whom, and where a thread is that answers nothing."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
import trio

import discoro_trio as discoro
from discoro_trio._cluster import AskStacks, StacksAre
from discoro_trio._cluster.scheduler._stacks import AskServers
from discoro_trio._cluster.server._stack_dump import users_frames
from discoro_trio._link import answered, current_endpoint
from discoro_trio._process import END, MESSAGE, THREAD, AskDump, TaskDump, Wanted, current_process, stuck
from tests.client.clusters import until_servers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from discoro_trio._cluster import ProcessStacks

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")


async def send_first(me: discoro.Coro[Any], *, coro: discoro.Coro[Any]) -> None:
    """Send more to the other one than it takes, before anything is received."""
    await me.send(coro)
    other = await coro.receive()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(aside)
        with suppress(discoro.MailboxClosed):  # the other one may have heard first that both are cancelled
            for number in range(2000):
                await other.send(number)


async def aside() -> None:
    await trio.sleep_forever()


async def receive(me: discoro.Coro[Any], *, coro: discoro.Coro[Any]) -> None:
    await me.send(coro)
    while await coro.receive() is not None:
        pass


async def sleep_on(client: discoro.Coro[None], go: str) -> str:
    await client.deliver(os.getpid())
    while not os.path.exists(go):  # noqa: ASYNC240, PTH110 - that is what is tested
        time.sleep(0.05)  # noqa: ASYNC251
    return "over"


async def compute_on(client: discoro.Coro[None], go: str) -> str:
    await client.deliver(os.getpid())
    while not os.path.exists(go):  # noqa: ASYNC240, PTH110 - that is what is tested
        pass
    return "over"


def plain(go: str) -> None:
    while not os.path.exists(go):  # noqa: PTH110 - it is called on a server
        time.sleep(0.05)


async def pid_of_server() -> int:
    return os.getpid()


async def ask_the_others(node_id: bytes, client_id: bytes) -> list[str]:
    """Ask node and client for what only those may see who know the secret."""
    refusals = []
    for process_id, question in ((node_id, AskServers(Wanted())), (client_id, AskDump(Wanted()))):
        try:
            await current_process().endpoint.links[process_id].request(question)
        except discoro.ProtocolError as error:
            refusals.append(str(error))
    return refusals


COMPONENTS = [send_first, aside, receive, sleep_on, compute_on, plain, pid_of_server, ask_the_others]


@asynccontextmanager
async def running(servers: int = 2) -> AsyncIterator[tuple[discoro.Computation, discoro.Coro[Any]]]:
    with trio.fail_after(60):
        async with (
            discoro.open_cluster(servers=servers),
            discoro.Computation(COMPONENTS, name="sums").schedule() as computation,
            discoro.open_coro("me") as me,
        ):
            await until_servers(computation, servers)
            yield computation, me


async def stacks(**wanted: Any) -> list[ProcessStacks]:
    endpoint = current_endpoint()
    link = await endpoint.link_at(endpoint.location)
    return answered(await link.request(AskStacks(Wanted(**wanted))), StacksAre).processes


async def until_all_answer(**wanted: Any) -> list[ProcessStacks]:
    """Look until every process answers; on a machine that is busy one may come too late."""
    found = await stacks(**wanted)
    while any(one.picture is None for one in found):
        await trio.sleep(0.01)
        found = await stacks(**wanted)
    return found


async def tasks_until(name: str, waits: str, **wanted: Any) -> list[TaskDump]:
    """Look until some coroutine of a name waits for something; give all tasks."""
    while True:
        tasks = tasks_of(await stacks(**wanted))
        if any((task.name, task.waits) == (name, waits) for task in tasks):
            return tasks
        await trio.sleep(0.01)


def tasks_of(processes: list[ProcessStacks]) -> list[TaskDump]:
    return [task for one in processes if one.picture is not None for task in one.picture.tasks]


async def test_coroutines_that_all_send_before_any_receives_are_found_with_their_nurseries() -> None:
    async with running() as (computation, me), computation.open_nursery() as nursery:
        servers = await computation.servers()
        for server in servers:
            nursery.start_soon_at(server, send_first, me)
        one, two = await me.receive(), await me.receive()
        await one.send(two)
        await two.send(one)
        while len(found := stuck(tasks_of(processes := await until_all_answer()))) < 2:  # noqa: ASYNC110 (there is no event)
            await trio.sleep(0.01)
        assert found == sorted([(str(one), str(two)), (str(two), str(one))])
        alone = tasks_of(await until_all_answer(stuck=True))
        assert {task.coro for task in alone} == {one.id, two.id}, "others are left out"
        assert stuck(alone) == found
        assert not any(task.stack for task in alone)
        client, *at_servers = processes
        assert client.roles == ["client", "scheduler", "node"]
        assert client.picture is not None
        (main,) = [task for task in client.picture.tasks if task.name == "me"]
        assert any("test_stacks.py" in line for line in main.stack)
        shown = [task for task in client.picture.tasks if task.elsewhere]
        assert {(task.coro, task.nursery, task.parent) for task in shown} == {
            (coro.id, "nursery in sums", client.picture.tasks.index(main)) for coro in (one, two)
        }
        for at_server in at_servers:
            assert at_server.node_id == client.process_id
            assert at_server.picture is not None
            sender, helper = at_server.picture.tasks
            assert (sender.name, sender.begins, sender.parent) == ("send_first", True, -1)
            assert sender.stack[0].endswith("in send_first")
            assert sender.stack[1].endswith("in Coro.send")
            assert (helper.parent, helper.coro, helper.begins) == (0, sender.coro, False)
            assert helper.stack[0].endswith("in aside")
        nursery.cancel_scope.cancel()


async def test_who_receives_is_not_stuck_and_what_it_waits_for_is_shown() -> None:
    async with running() as (computation, me), computation.open_nursery() as nursery, trio.open_nursery() as here:
        rcoro = await nursery.run(receive, me)
        coro = await me.receive()
        assert rcoro == coro
        here.start_soon(rcoro.wait)
        tasks = await tasks_until("receive", MESSAGE)
        assert stuck(tasks) == []
        (waiting,) = [task for task in tasks if task.waits == END]
        assert (waiting.target, waiting.target_name) == (coro.id, str(coro))
        await coro.send(None)


async def test_a_plain_function_is_shown_in_its_thread(tmp_path: Path) -> None:
    go = tmp_path / "go"
    async with running(servers=1) as (computation, _), computation.open_nursery() as nursery:
        nursery.start_soon(plain, str(go))
        await tasks_until("plain", THREAD)
        seen: list[tuple[str, list[str]]] = []
        while seen != [("plain", ["plain"])]:  # the task waits for it before the thread has begun
            (server,) = await until_all_answer(server="*")
            assert server.picture is not None
            threads = server.picture.threads
            seen = [(one.name, [line.rpartition(" in ")[2] for line in one.stack]) for one in threads]
        go.touch()


@pytest.mark.slow
@pytest.mark.fault("F08")
@pytest.mark.parametrize("block", [sleep_on, compute_on])
async def test_a_server_that_answers_nothing_shows_where_its_thread_is_and_goes_on(block: Any, tmp_path: Path) -> None:
    go = tmp_path / "go"
    async with running() as (computation, me):
        busy = await computation.run(block, me, str(go))
        await me.receive()
        where = str(busy.location)
        while (await stacks(server=where))[0].picture is not None:  # noqa: ASYNC110 (there is no event)
            await trio.sleep(0.01)  # it gets the receipt of its message, and then blocks
        for _ in range(2):
            (silent,) = await stacks(server=where)
            assert silent.picture is None
            assert block.__name__ in [line.rpartition(" in ")[2] for line in silent.thread]
        go.touch()
        assert await busy.result() == "over"
        await until_all_answer()


@pytest.mark.fault("F07")
async def test_a_server_that_was_stopped_shows_nothing_and_goes_on_when_continued() -> None:
    async with running(servers=1) as (computation, _):
        pid = await computation.run_result(pid_of_server)
        os.kill(pid, signal.SIGSTOP)
        (stopped,) = await stacks(server="*")
        assert (stopped.picture, stopped.thread) == (None, [])
        os.kill(pid, signal.SIGCONT)
        await until_all_answer()
        assert await computation.run_result(pid_of_server) == pid


async def test_names_and_a_limit_choose_what_is_shown() -> None:
    async with running() as (computation, me), computation.open_nursery() as nursery:
        servers = await computation.servers()
        for server in servers:
            for _ in range(5):
                nursery.start_soon_at(server, receive, me)
            nursery.start_soon_at(server, aside)
        for _ in range(10):
            await me.receive()
        await tasks_until("aside", "")
        (one,) = await until_all_answer(server=str(servers[0]))
        assert one.location == str(servers[0])
        assert one.picture is not None
        assert sorted(task.name for task in one.picture.tasks) == ["aside", *["receive"] * 5]
        assert [task.name for task in tasks_of(await until_all_answer(coroutine="as*"))] == ["aside"] * 2
        (one,) = await until_all_answer(server=str(servers[0]), limit=2)
        assert one.picture is not None
        assert len(one.picture.tasks) == 2
        assert one.picture.left_out >= 4
        full = tasks_of(await until_all_answer(server=str(servers[0]), full=True))
        assert any(task.name == "reports" for task in full)
        nursery.cancel_scope.cancel()


async def test_code_on_servers_may_not_see_what_runs_elsewhere() -> None:
    async with running(servers=1) as (computation, _):
        endpoint = current_endpoint()
        refusals = await computation.run_result(ask_the_others, endpoint.id, endpoint.id)
        assert [text.partition(" may not send ")[2] for text in refusals] == ["AskServers here", "AskDump here"]


def test_frames_of_users_are_told_of_a_stack_and_all_where_there_are_none() -> None:
    ours = str(discoro.__file__)
    frames = f'  File "{ours}", line 3 in main\n  File "<string>", line 1 in <module>\n'
    assert users_frames(f'Stack (most recent call first):\n  File "/a b.py", line 7 in work\n{frames}') == [
        "/a b.py:7 in work"
    ]
    assert users_frames(frames) == ["<string>:1 in <module>", f"{ours}:3 in main"]
    assert users_frames("") == []
