"""Jobs that take processes and memory without end; their server alone goes, and all that it has started."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import trio

import discoro_trio as discoro
from discoro_trio._cli import _doctor
from discoro_trio._cluster.isolation._control_groups import Group
from tests._deadlines import within
from tests.client.clusters import open_computation, until_gone, until_servers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")

PROCESSES = 40


async def start_many(count: int, client: discoro.Coro[None]) -> None:
    """Start processes that start processes, and never end by itself."""
    command = "sleep 600 & sleep 600 & wait"
    pids = [subprocess.Popen(["sh", "-c", command]).pid for _ in range(count)]  # noqa: ASYNC220
    await client.send((os.getpid(), pids))
    with trio.CancelScope(shield=True):
        await trio.sleep_forever()


async def take_memory() -> None:
    """Take memory until there is no more, under a limit as a control group or `ulimit` sets it."""
    import resource  # noqa: PLC0415 - it is a server's

    used = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**26, used + 2**26))
    taken = []
    try:
        while True:
            taken.append(bytearray(2**20))
    finally:
        taken.clear()


async def wait_for_word(client: discoro.Coro[None], *, coro: discoro.Coro[str]) -> str:
    await client.send(coro)
    word: str = await coro.receive()
    return word


@pytest.mark.fault("F28")
@pytest.mark.spec("S30")
async def test_a_job_that_starts_processes_without_end_goes_with_all_of_them_and_no_other_server_does() -> None:
    async with (
        open_computation([start_many, wait_for_word]) as computation,
        discoro.open_coro() as client,
    ):
        bomb = await computation.run(start_many, PROCESSES, client)
        pid, pids = await client.receive()
        other = await computation.run(wait_for_word, client)
        await client.receive()
        assert other.location != bomb.location
        below = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        assert {process.pid for process in below} > set(pids)
        with within(5):
            await bomb.terminate(grace_period=0)
        await until_gone(below, seconds=2)
        with pytest.raises(discoro.ServerLost, match="did not end in its grace period"):
            await bomb.result()
        await other.send("still here")
        assert await other.result() == "still here"
        await until_servers(computation, 2)


@pytest.mark.fault("F28")
async def test_a_job_that_takes_more_memory_than_it_may_fails_alone() -> None:
    async with (
        open_computation([take_memory, wait_for_word], servers=1) as computation,
        discoro.open_coro() as client,
    ):
        other = await computation.run(wait_for_word, client)
        await client.receive()
        with pytest.raises(MemoryError):
            await computation.run_result(take_memory)
        await other.send("still here")
        assert await other.result() == "still here"


@pytest.mark.fault("F28")
@pytest.mark.parametrize(
    ("there", "level", "said"),
    [
        (["memory", "pids"], _doctor.GOOD, "enforced by control groups in /one (version 2), /one (version 2)"),
        (["memory"], _doctor.WARNING, "processes of servers are limited by rlimits"),
        ([], _doctor.WARNING, "memory and processes of servers are limited by rlimits"),
    ],
)
def test_doctor_warns_where_no_control_group_can_limit_a_job(
    monkeypatch: pytest.MonkeyPatch, there: list[str], level: str, said: str
) -> None:
    groups = [Group(Path("/one"), 2, frozenset({name})) for name in there]
    monkeypatch.setattr(_doctor, "find_groups", lambda _named: groups)
    check = _doctor.check_groups(())
    assert (check.level, bool(check.advice)) == (level, level != _doctor.GOOD)
    assert said in check.text
