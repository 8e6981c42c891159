"""Servers, fork servers and nodes that die under a computation."""

from __future__ import annotations

import os
import secrets
import signal
import sys
from typing import TYPE_CHECKING

import psutil
import pytest
import trio

import discoro_trio as discoro
from tests._deadlines import within

from .clusters import Program, open_computation, runs, until_gone, until_servers

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")


async def pid_of_server() -> int:
    return os.getpid()


async def exit_with(status: int) -> None:
    sys.stderr.write("the last words\n")
    os._exit(status)


async def count_up(*, coro: discoro.Coro[int]) -> int:
    """Count messages until one is None."""
    count = 0
    while await coro.receive() is not None:
        count += 1
    return count


async def write_and_wait(client: discoro.Coro[None]) -> None:
    sys.stderr.write("something is wrong\n")
    await client.send(os.getpid())
    await trio.sleep_forever()


@pytest.mark.spec("B05", "S30")
async def test_a_job_that_ends_its_server_raises_ServerLost_with_status_and_last_lines() -> None:  # noqa: N802
    async with open_computation([exit_with], servers=1) as computation:
        (location,) = await computation.servers()
        with pytest.raises(discoro.ServerLost, match="ended with exit status 3") as caught:
            await computation.run_result(exit_with, 3)
        lost = caught.value
        assert (lost.exitcode, lost.signal, lost.location) == (3, None, location)
        assert lost.stderr_tail == "the last words\n"
        assert await computation.run_result(pid_of_server) > 0


@pytest.mark.spec("B05", "S30")
@pytest.mark.fault("F01")
async def test_a_killed_server_loses_its_coroutines_within_1_s_and_another_takes_its_place_within_3_s() -> None:
    async with open_computation([write_and_wait, count_up]) as computation, discoro.open_coro() as client:
        victim = await computation.run(write_and_wait, client)
        pid = await client.receive()
        other = await computation.run(count_up)
        assert other.location != victim.location
        await other.send("before")
        os.kill(pid, signal.SIGKILL)
        with within(1), pytest.raises(discoro.ServerLost) as caught:
            await victim.result()
        lost = caught.value
        assert (lost.exitcode, lost.signal, lost.location) == (None, signal.SIGKILL, victim.location)
        assert lost.stderr_tail == "something is wrong\n"
        with within(3):
            locations = await until_servers(computation, 2)
        assert other.location in locations
        await other.send("after")
        await other.send(None)
        assert await other.result() == 2


@pytest.mark.spec("B05")
async def test_a_send_to_a_lost_coroutine_raises() -> None:
    async with open_computation([write_and_wait], servers=1) as computation, discoro.open_coro() as client:
        victim = await computation.run(write_and_wait, client)
        await victim.send(1)
        os.kill(await client.receive(), signal.SIGKILL)
        await victim.wait()
        with pytest.raises(discoro.PeerDisconnected):
            await victim.deliver(2)
        for deliver in (victim.deliver, victim.send):
            with pytest.raises(discoro.MailboxClosed):
                await deliver(3)
        with pytest.raises(discoro.MailboxClosed):
            victim.send_nowait(3)
        with pytest.raises(discoro.ServerLost):
            await victim.result()


@pytest.mark.fault("F27")
async def test_after_the_fork_server_is_killed_there_are_new_servers_within_3_s() -> None:
    async with open_computation([write_and_wait]) as computation, discoro.open_coro() as client:
        victim = await computation.run(write_and_wait, client)
        server = psutil.Process(await client.receive())
        fork_server = server.parent()
        assert fork_server is not None
        assert fork_server.ppid() == os.getpid()
        siblings = fork_server.children()
        fork_server.kill()
        with within(3):
            with pytest.raises(discoro.ServerLost) as caught:
                await victim.result()
            await until_servers(computation, 2)
        assert caught.value.signal == signal.SIGKILL
        assert not any(runs(process) for process in siblings)
        assert await computation.run_result(pid_of_server) != server.pid


CLUSTER = """
import subprocess, trio
import discoro_trio as discoro

async def start_program(client):
    subprocess.Popen(["sleep", "600"])
    await client.send("runs")
    await trio.sleep_forever()

async def main():
    async with discoro.open_cluster(servers=2):
        async with discoro.Computation([start_program]).schedule() as computation, discoro.open_coro() as client:
            await computation.run(start_program, client)
            print(await client.receive(), flush=True)
            await trio.sleep_forever()

trio.run(main)
"""

NODE = """
import trio
import discoro_trio as discoro

async def main():
    async with discoro.open_node(cpus=1, discover=False, ip_addr="127.0.0.1") as node:
        print(node.location)
        await trio.sleep_forever()

trio.run(main)
"""


def start(source: str, folder: Path) -> Program:
    script = folder / "program.py"
    script.write_text(source, encoding="utf-8")
    return Program([str(script)], folder)


@pytest.mark.fault("F02")
@pytest.mark.spec("B20")
async def test_a_killed_program_with_an_embedded_node_leaves_no_process_behind(tmp_path: Path) -> None:
    with start(CLUSTER, tmp_path) as program, trio.fail_after(30):
        await program.until_line(lambda line: line == "runs\n")
        below = program.below()
        assert {process.name() for process in below} >= {"discoro-server", "sleep"}
        program.process.kill()
        await until_gone(below, seconds=2)
        assert (await program.ended())[0] == -signal.SIGKILL


@pytest.mark.fault("F02")
async def test_when_a_node_is_killed_its_servers_are_gone_and_client_and_scheduler_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISCORO_SECRET", secrets.token_hex())
    with start(NODE, tmp_path) as node, trio.fail_after(30):
        location = (await node.until_line(lambda line: line.startswith("127.0.0.1:"))).strip()
        async with (
            discoro.open_scheduler(nodes=[location], discover=False, ip_addr="127.0.0.1") as scheduler,
            discoro.Computation([write_and_wait]).schedule() as computation,
            discoro.open_coro() as client,
        ):
            victim = await computation.run(write_and_wait, client)
            await client.receive()
            below = node.below()
            assert len((await scheduler.status()).nodes) == 1
            node.process.kill()
            with within(1):
                with pytest.raises(discoro.ServerLost):
                    await victim.result()
                while (await scheduler.status()).nodes:  # noqa: ASYNC110 (until it is so, within a second)
                    await trio.sleep(0.005)
            await until_gone(below, seconds=1)
        assert (await node.ended())[0] == -signal.SIGKILL
