"""Servers that are granted and not ready: who waits for them, and who does not."""

from __future__ import annotations

import os
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

import discoro_trio as discoro

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")


async def take_turns(folder: Path) -> None:
    """Let one more server be set up for each file in a folder."""
    number = 0
    while True:
        try:
            os.close(os.open(folder / f"server {number}", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            number += 1
        else:
            break
    while not (folder / f"go {number}").exists():  # noqa: ASYNC110 - of another process
        await trio.sleep(0.005)


def fail() -> None:
    message = "not here"
    raise ValueError(message)


def block(_number: int) -> int:
    time.sleep(0.2)
    return os.getpid()


@pytest.mark.spec("B27")
async def test_in_a_cluster_of_its_own_a_computation_has_all_servers_from_the_start() -> None:
    with trio.fail_after(30):
        async with discoro.open_cluster(servers=3), discoro.Computation().schedule() as computation:
            servers = await computation.servers()
            assert len(servers) == len(set(servers)) == 3
            assert len({await computation.run_result(block, number) for number in range(1)}) == 1


@pytest.mark.spec("B27")
async def test_servers_nodes_and_placed_calls_wait_for_what_is_granted_and_not_ready(tmp_path: Path) -> None:
    found: list[object] = []
    with trio.fail_after(30):
        async with (
            discoro.open_cluster(servers=2),
            discoro.Computation([take_turns], server_setup=partial(take_turns, tmp_path)).schedule(
                servers=0
            ) as computation,
            trio.open_nursery() as nursery,
        ):

            async def find() -> None:
                found.extend([len(await computation.servers()), await computation.nodes()])

            nursery.start_soon(find)
            with trio.move_on_after(0.1):
                await computation.wait_for_servers(1)
                pytest.fail("no server is set up yet")
            assert found == []
            (tmp_path / "go 0").touch()
            await computation.wait_for_servers(1)
            await computation.wait_for_servers(1, where="127.0.0.1")
            (first,) = await computation.servers()
            await computation.wait_for_servers(1, where=str(first))
            with trio.move_on_after(0.1):
                await computation.wait_for_servers(2)
                pytest.fail("the second server is not set up yet")

            all_pids: list[int] = []

            async def run_everywhere() -> None:
                all_pids.extend([await coro.result() for coro in await computation.run_servers(os.getpid)])

            elsewhere = discoro.Location(first.addr, first.port + 1)
            nursery.start_soon(run_everywhere)
            with trio.move_on_after(0.1):
                await computation.run_at(elsewhere, os.getpid)
                pytest.fail("the second server may be there")
            (tmp_path / "go 1").touch()
            await computation.wait_for_servers(2)
            second = next(iter(set(await computation.servers()) - {first}))
            assert await (await computation.run_at(second, os.getpid)).result() > 0
            unknown = discoro.Location(first.addr, 1)
            with pytest.raises(discoro.UnknownLocation):
                await computation.run_at(unknown, os.getpid)
        assert found == [1, ["127.0.0.1"]]
        assert len(set(all_pids)) == 2


@pytest.mark.spec("B27", "B10")
async def test_nobody_waits_for_servers_that_cannot_be_set_up() -> None:
    with trio.fail_after(30):
        async with discoro.open_cluster(servers=2):
            async with discoro.Computation(server_setup=fail).schedule() as computation:
                for call in (computation.servers, computation.nodes, partial(computation.wait_for_servers, 1)):
                    with pytest.raises(discoro.DiscoroError, match="server_setup failed"):
                        await call()
                with pytest.raises(discoro.DiscoroError, match="server_setup failed"):
                    await computation.run_result(block, 1)
            with pytest.raises(discoro.DiscoroError, match="server_setup failed"):
                async with discoro.Computation(server_setup=fail).schedule(servers=2):
                    pytest.fail("no server can be used")


@pytest.mark.spec("B26")
@pytest.mark.parametrize("how", ["map", "run_results", "nursery", "run"])
async def test_jobs_that_block_go_to_a_server_each_right_after_the_schedule(how: str) -> None:
    pids: list[int] = []
    with trio.fail_after(30):
        async with discoro.open_cluster(servers=3), discoro.Computation([block]).schedule() as computation:
            if how == "map":
                async with computation.map(block, range(3)) as results:
                    pids = [pid async for pid in results]
            elif how == "run_results":
                pids = await computation.run_results(block, range(3))
            elif how == "run":
                pids = [await coro.result() for coro in [await computation.run(block, number) for number in range(3)]]
            else:

                async def run(number: int) -> None:
                    pids.append(await computation.run_result(block, number))

                async with trio.open_nursery() as nursery:
                    for number in range(3):
                        nursery.start_soon(run, number)
    assert len(set(pids)) == 3
