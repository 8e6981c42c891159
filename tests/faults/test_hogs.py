"""Jobs that take processes and memory without end; their server alone goes, and all that it has started."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest
import trio

import discoro_trio as discoro
from discoro_trio.cli import _doctor
from tests.client.clusters import open_computation, until_gone, until_servers

if TYPE_CHECKING:
    from pathlib import Path

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
        with trio.fail_after(5):
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
    ("there", "said"), [("cpu io memory pids", ""), ("cpu memory", "pids"), (None, "memory and pids")]
)
def test_doctor_warns_where_no_control_group_can_limit_a_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: str | None, said: str
) -> None:
    file = tmp_path / "cgroup.controllers"
    if there is not None:
        file.write_text(there, encoding="ascii")
    monkeypatch.setattr(_doctor, "_CONTROLLERS", file)
    warned = [check.text for check in _doctor.check_limits() if "control groups" in check.text]
    assert warned == ([f"no control groups for {said}: one job can take all of it"] if said else [])
