"""Programs that use a Ray cluster: `python -m tests.launch.ray_scenarios NAME ADDRESS`.

A driver of Ray leaves threads and sockets behind, so it runs in a process of its own.
"""

from __future__ import annotations

import sys

import trio

import discoro_trio as discoro
from discoro_trio.launch import Launcher, Ray

SECONDS = 120.0


async def double(value: int) -> int:
    return 2 * value


async def until(launcher: Launcher, states: list[str]) -> None:
    with trio.fail_after(SECONDS):
        while sorted(node.state for node in launcher.nodes) != states:
            await launcher.until_changed()


async def the_machine_gets_a_node(address: str) -> None:
    launcher = Ray(address, resources={"special": 1})
    async with discoro.open_scheduler(ip_addr="127.0.0.1", discover=False, launch=launcher) as scheduler:
        (node,) = launcher.nodes
        async with discoro.Computation([double]).schedule(servers=2) as computation:
            assert await computation.run_result(double, 21) == 42
        assert [one.name for one in (await scheduler.status()).nodes] == [node.name]
        assert launcher.start(1) == (), "its machine has a node"
        await launcher.take_back(node.name)
        assert launcher.start(2) == (node.name,)
        await until(launcher, ["running"])
    assert launcher.nodes[0].reason == "the scheduler's block was left"
    try:
        async with discoro.open_scheduler(
            ip_addr="127.0.0.1", discover=False, launch=Ray(address, cpus=1, resources={"special": 2})
        ):
            raise AssertionError
    except discoro.DiscoroError as error:
        assert "has no machine with 1 processors and {'special': 2.0}" in str(error), error  # noqa: PT017 - no pytest here


async def stays(address: str) -> None:
    launcher = Ray(address)
    async with discoro.open_scheduler(ip_addr="127.0.0.1", discover=False, launch=launcher):
        print("begun", flush=True)  # noqa: T201 - the test ends this program, or the cluster, now
        await until(launcher, ["ended"])
        assert launcher.nodes[0].reason.startswith("Ray could not run it: "), launcher.nodes


if __name__ == "__main__":
    trio.run(globals()[sys.argv[1]], sys.argv[2])
