"""Programs that use a Dask cluster: `python -m tests.launch.dask_scenarios NAME ADDRESS`.

The client of Dask leaves threads and sockets behind, so it runs in a process of its own.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import trio
from distributed import Client

import discoro_trio as discoro
from discoro_trio.launch import Adaptive, Dask, Launcher

SECONDS = 120.0


async def double(value: int) -> int:
    return 2 * value


async def work(value: int) -> int:
    time.sleep(0.02)  # noqa: ASYNC251 - it stands for computing
    return value


async def until(launcher: Launcher, states: list[str]) -> None:
    with trio.fail_after(SECONDS):
        while sorted(node.state for node in launcher.nodes) != states:
            await launcher.until_changed()


async def each_worker_gets_a_node(client: Any) -> None:
    launcher = Dask(client)
    async with discoro.open_scheduler(ip_addr="127.0.0.1", discover=False, launch=launcher) as scheduler:
        await until(launcher, ["running", "running"])
        async with discoro.Computation([double]).schedule(servers=4) as computation:
            assert await computation.run_result(double, 21) == 42
        names = {f"dask-{address.removeprefix('tcp://')}" for address in client.scheduler_info()["workers"]}
        assert {node.name for node in (await scheduler.status()).nodes} == names
        assert await trio.to_thread.run_sync(lambda: client.submit(abs, -1).result(timeout=SECONDS)) == 1
        first = launcher.nodes[0].name
        await launcher.take_back(first)
        assert launcher.nodes[0].state == "ended"
        assert launcher.start(5) == (first,), "its worker is free again"
        await until(launcher, ["running", "running"])
    assert {node.reason for node in launcher.nodes} == {"the scheduler's block was left"}


async def a_node_waits_in_the_queue_and_takes_resources(client: Any) -> None:
    launcher = Dask(client, nodes=1, cpus=1, resources={"GPU": 1})
    address = next(iter(client.scheduler_info()["workers"]))
    other = client.submit(time.sleep, 2, workers=[address], resources={"GPU": 1}, pure=False)
    reasons = []

    async def see_it_wait() -> None:
        while True:
            await launcher.until_changed()
            reasons.append(launcher.nodes[0].reason)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(see_it_wait)
        async with discoro.open_scheduler(ip_addr="127.0.0.1", discover=False, launch=launcher):
            assert other.done()
            nursery.cancel_scope.cancel()
    assert reasons[0] == f"it waits for a free thread of the Dask worker {address}", reasons
    try:
        async with discoro.open_scheduler(
            ip_addr="127.0.0.1", discover=False, launch=Dask(client, resources={"GPU": 2})
        ):
            raise AssertionError
    except discoro.DiscoroError as error:
        assert "has no worker with the resources {'GPU': 2.0}" in str(error), error  # noqa: PT017 - no pytest here


async def the_number_of_nodes_follows_the_work(client: Any) -> None:
    launcher = Adaptive(Dask(client), target=0.1, cool_down=0.5)
    async with (
        discoro.open_scheduler(ip_addr="127.0.0.1", discover=False, launch=launcher),
        discoro.Computation([work]).schedule() as computation,
    ):
        most = 0
        async with computation.map(work, range(500)) as results:
            async for _ in results:
                most = max(most, sum(node.state == "running" for node in launcher.nodes))
        assert most == 2
        await until(launcher, ["ended", "ended"])


async def the_cluster_ends(client: Any) -> None:
    launcher = Dask(client, cpus=1)
    async with discoro.open_scheduler(ip_addr="127.0.0.1", discover=False, launch=launcher):
        await until(launcher, ["running", "running"])
        print("begun", flush=True)  # noqa: T201 - the test ends a worker now
        await until(launcher, ["ended", "running"])
        gone = next(node for node in launcher.nodes if node.state == "ended")
        assert "has left the Dask cluster" in gone.reason or "Dask could not run it" in gone.reason, gone
        await trio.to_thread.run_sync(client.shutdown)
        await until(launcher, ["ended", "ended"])


async def stays(client: Any) -> None:
    launcher = Dask(client)
    async with discoro.open_scheduler(ip_addr="127.0.0.1", discover=False, launch=launcher):
        await until(launcher, ["running", "running"])
        print("begun", flush=True)  # noqa: T201 - the test ends this program now
        await trio.sleep_forever()


if __name__ == "__main__":
    with Client(sys.argv[2], set_as_default=False) as opened:
        trio.run(globals()[sys.argv[1]], opened)
