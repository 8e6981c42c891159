"""A launcher that adapts the number of its nodes, with nodes as processes of this machine."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import pytest
import trio

import discoro_trio as discoro
from discoro_trio._cluster import status_as_json, status_as_table, status_from_json
from discoro_trio._cluster.scheduler._observed_state import ClusterLoad, NodeLoad
from discoro_trio.launch import Adaptive, LaunchedNode, Launcher, Local, SchedulerAccess
from discoro_trio.launch._scaling import Scale, Scaling

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.spec("B37")
SECONDS = 120.0


async def work(number: int) -> int:
    time.sleep(0.02)  # noqa: ASYNC251 - it stands for computing
    return number


async def wait_for(number: int) -> int:
    await trio.sleep(number)
    return number


async def until(holds: Callable[[], bool]) -> None:
    """Wait until a condition holds that the next decision, or a report of a server, can bring about."""
    while not holds():  # noqa: ASYNC110 - no event is set for it
        await trio.sleep(0.05)


async def until_running(launcher: Launcher, count: int) -> None:
    with trio.fail_after(SECONDS):
        while sum(node.state == "running" for node in launcher.nodes) != count:
            await launcher.until_changed()


@pytest.mark.slow
async def test_nodes_follow_the_jobs_up_to_the_maximum_and_back_to_the_minimum(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "discoro_trio.launch")
    launcher = Adaptive(Local(3), minimum=1, target=0.5, cool_down=1)
    with trio.fail_after(SECONDS):
        async with (
            discoro.open_scheduler(ip_addr="127.0.0.1", discover=False, launch=launcher) as scheduler,
            discoro.Computation([work]).schedule() as computation,
        ):
            assert [node.name for node in launcher.nodes] == ["local1"]
            numbers = range(600)
            values = []
            status, most = await scheduler.status(), 0
            async with computation.map(work, numbers) as results:
                async for value in results:
                    values.append(value)
                    if len(launcher.nodes) == 3 and len(status.launched) < 3:
                        status = await scheduler.status()
                    most = max(most, sum(node.state == "running" for node in launcher.nodes))
            assert most == 3
            assert values == list(numbers)
            await until_running(launcher, 1)
            await until(lambda: launcher.explanation == "1 node wanted: no jobs, limited by minimum=1")
            assert await computation.run_result(work, 7) == 7
    table = status_as_table(status)
    assert "LAUNCHED" in table
    assert "3 nodes wanted: " in table
    assert "limited by maximum=3" in table
    assert status_from_json(status_as_json(status)) == status
    lines = [record.getMessage() for record in caplog.records]
    assert any(line.startswith("starting local2, local3: 3 nodes wanted: ") for line in lines), lines
    assert any(line.startswith("draining local") for line in lines), lines


@pytest.mark.slow
async def test_without_work_there_is_no_node_and_the_first_job_starts_one() -> None:
    launcher = Adaptive(Local(2), cool_down=0)
    with trio.fail_after(SECONDS):
        async with (
            discoro.open_scheduler(ip_addr="127.0.0.1", discover=False, launch=launcher),
            discoro.Computation([work]).schedule() as computation,
        ):
            assert launcher.nodes == ()
            assert await computation.run_result(work, 1) == 1
            await until_running(launcher, 0)
            assert await computation.run_result(work, 2) == 2
            await until_running(launcher, 0)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(computation.wait_for_servers, 2)
                await until_running(launcher, 2)


async def test_a_running_coroutine_finishes_at_a_node_that_is_drained(monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = Adaptive(Local(2), minimum=2, cool_down=0, target=1000)
    with trio.fail_after(SECONDS):
        async with (
            discoro.open_scheduler(ip_addr="127.0.0.1", discover=False, launch=launcher) as scheduler,
            discoro.Computation([wait_for]).schedule(servers=2) as computation,
        ):
            run = [await computation.run_at(server, wait_for, 3) for server in await computation.servers()]
            await until(lambda: sum(one.running for one in scheduler.load().nodes.values()) == 2)
            one_of_two = Scale(wanted=1, drain=("local1",), reason="a decision of this test")
            monkeypatch.setattr(Scaling, "decide", lambda *_: one_of_two)
            await until(lambda: "local1" in launcher._draining)
            monkeypatch.setattr(Scaling, "decide", lambda *_: Scale(wanted=1))
            assert [await one.result() for one in run] == [3, 3]
            await until_running(launcher, 1)
            assert launcher.nodes[0].taken_back


def test_jobs_at_other_nodes_are_no_reason_to_start_some(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = Local(2)
    own, other = discoro.Location("10.0.0.1", 1), discoro.Location("10.0.0.2", 1)
    launched = (
        LaunchedNode(name="local1", state="running", location=own),
        LaunchedNode(name="local2", state="starting"),
    )
    monkeypatch.setattr(Local, "nodes", launched)
    nodes = {
        own: NodeLoad(servers=2, busy=1, used=2, running=1, oldest=1.0),
        other: NodeLoad(servers=2, busy=2, used=2, running=5, oldest=1.0),
    }
    facts = Adaptive(inner)._facts(ClusterLoad(nodes=nodes, jobs=8, ended=3, servers=0))
    assert (facts.jobs, facts.ended, [(one.name, one.joined) for one in facts.nodes]) == (
        3,
        3,
        [("local1", True), ("local2", False)],
    )


async def test_nodes_that_cannot_start_are_tried_again_and_the_wait_names_the_reason() -> None:
    launcher = Adaptive(Local(1, kills={"local1": 0}), target=1)
    with trio.fail_after(SECONDS):
        async with (
            discoro.open_scheduler(ip_addr="127.0.0.1", discover=False, launch=launcher) as scheduler,
            discoro.Computation([work]).schedule() as computation,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(computation.run_result, work, 1)
            await until(lambda: "the last node did not join, the next starts in" in launcher.explanation)
            while (await scheduler.status()).scaling != launcher.explanation:  # noqa: ASYNC110 - it changes meanwhile
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()


def test_an_executor_can_use_it() -> None:
    with discoro.Executor(launch=Adaptive(Local(1)), ip_addr="127.0.0.1", discover=False) as executor:
        assert executor.submit(pow, 2, 10).result(SECONDS) == 1024


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"minimum": 3}, ValueError, r"minimum must be maximum=2 or less, not 3"),
        ({"minimum": -1}, ValueError, "minimum must be 0 or more"),
        ({"maximum": 0}, ValueError, "maximum must be 1 or more"),
        ({"target": 0}, ValueError, "target must be more than 0"),
        ({"cool_down": -1}, ValueError, "cool_down must be 0 or more"),
        ({"launcher": "ssh"}, TypeError, "launcher must be a Launcher that starts nodes"),
        ({"launcher": Adaptive(Local())}, TypeError, "launcher must be a Launcher that starts nodes"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, object], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        Adaptive(**{"launcher": Local(2), **arguments})  # type: ignore[arg-type]


async def test_it_needs_the_scheduler_in_its_process() -> None:
    access = SchedulerAccess(location=discoro.Location("::1", 1), secret="")
    with pytest.raises(RuntimeError, match="Adaptive needs the scheduler in this process"):
        async with Adaptive(Local()).open(access):
            pytest.fail("the block has begun")
