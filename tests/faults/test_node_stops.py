"""Nodes that are stopped in order, and nodes that are killed, under load and with default options."""

from __future__ import annotations

import signal
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

import discoro_trio as discoro
from tests._deadlines import Stopwatch
from tests._ports import free_udp_port
from tests.cli.programs import SECRET, Program, running
from tests.client.clusters import until_servers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [pytest.mark.skipif(sys.platform != "linux", reason="servers are forked"), pytest.mark.slow]

Statuses = list[tuple[str, object]]


def note(folder: str | Path, what: str) -> None:
    """Note what happened, as an empty file."""
    (Path(folder) / what).touch()


async def until_noted(folder: Path, *whats: str) -> None:
    while not all((folder / what).exists() for what in whats):  # noqa: ASYNC110 - another process writes it
        await trio.sleep(0.01)


async def until_told(told: Statuses, status: str) -> None:
    while all(name != status for name, _ in told):  # noqa: ASYNC110 - it comes by another task
        await trio.sleep(0.01)


async def work(folder: str, number: int) -> int:
    """Take a moment, and clean up."""
    try:
        await trio.sleep(0.1)
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(0.05)
        note(folder, f"cleaned-{number}")
    return number


async def stay(folder: str, name: str) -> None:
    """Run until it is cancelled, and take a while to clean up."""
    note(folder, f"began-{name}")
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(0.3)
        note(folder, f"cleaned-{name}")


@asynccontextmanager
async def two_nodes(folder: Path) -> AsyncIterator[tuple[list[Program], discoro.Computation, Statuses]]:
    """Open a private scheduler that finds two node programs of one server each; give what is reported, too."""
    udp_port = free_udp_port()
    told: Statuses = []
    computation = discoro.Computation([sys.modules[__name__]])
    with trio.fail_after(90):
        async with AsyncExitStack() as stack:
            nodes = [
                await stack.enter_async_context(
                    running(
                        "node",
                        "--name",
                        name,
                        "--cpus",
                        "1",
                        "--dest_path",
                        str(folder),
                        DISCORO_UDP_PORT=str(udp_port),
                    )
                )
                for name in ("n1", "n2")
            ]
            block = discoro.open_scheduler(ip_addr="127.0.0.1", udp_port=udp_port, secret=SECRET)
            await stack.enter_async_context(block)
            events = await stack.enter_async_context(computation.subscribe())
            tasks = await stack.enter_async_context(trio.open_nursery())

            async def follow() -> None:
                async for event in events:
                    if isinstance(event, discoro.DiscoroStatus):
                        told.append((event.status.name, event.info))

            tasks.start_soon(follow)
            async with computation.schedule():
                await until_servers(computation, 2)
                yield nodes, computation, told
            tasks.cancel_scope.cancel()


async def longest_gap(folder: Path, computation: discoro.Computation, when: Any) -> float:
    """Run a map with retries, call something when it is under way, and give the longest wait for a value."""
    gap, watch, count = 0.0, Stopwatch(), 0
    async with computation.starmap(work, ((str(folder), number) for number in range(1000)), retries=3) as results:
        async for value in results:
            assert value == count
            count += 1
            gap, watch = max(gap, watch.undisturbed), Stopwatch()
            if count == 200:
                when()
    assert count == 1000
    return gap


@pytest.mark.fault("F30")
@pytest.mark.spec("B44")
async def test_a_node_that_is_told_to_end_lets_all_clean_up_and_says_goodbye(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (nodes, computation, told):
        places = await computation.servers()
        errors: list[BaseException] = []

        async def stay_at(place: discoro.Location) -> None:
            try:
                await (await computation.run_at(place, stay, str(tmp_path), f"stay-{place.port}")).result()
            except discoro.ServerLost as error:
                errors.append(error)

        async with trio.open_nursery() as nursery:
            for place in places:
                nursery.start_soon(stay_at, place)
            await until_noted(tmp_path, *(f"began-stay-{place.port}" for place in places))
            gap = await longest_gap(tmp_path, computation, lambda: nodes[0].process.send_signal(signal.SIGTERM))
            assert gap < 1
            assert await nodes[0].ended() == 0
            await until_told(told, "NodeClosed")
            while not errors:  # noqa: ASYNC110 - another task gets it
                await trio.sleep(0.01)
            (error,) = errors
            assert isinstance(error, discoro.ServerLost)
            assert error.location is not None
            assert "has cleaned up" in str(error)
            assert (tmp_path / f"cleaned-stay-{error.location.port}").exists()
            nursery.cancel_scope.cancel()
        ends = [
            one for one in told if one[0] in {"ServerClosed", "NodeClosed", "ServerDisconnected", "NodeDisconnected"}
        ]
        assert ends == [("ServerClosed", error.location), ("NodeClosed", "127.0.0.1")]


@pytest.mark.fault("F30")
async def test_jobs_of_a_killed_node_go_on_elsewhere_at_once(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (nodes, computation, told):
        assert await longest_gap(tmp_path, computation, nodes[0].process.kill) < 3
        with trio.fail_after(60):
            await until_told(told, "NodeDisconnected")
        assert not any(name == "NodeClosed" for name, _ in told)


async def test_a_deadline_around_a_whole_cluster_lets_jobs_clean_up(tmp_path: Path) -> None:
    with trio.move_on_after(120) as scope:
        async with (
            discoro.open_cluster(servers=1),
            discoro.Computation([sys.modules[__name__]]).schedule() as computation,
            computation.open_nursery() as nursery,
        ):
            await nursery.run(stay, str(tmp_path), "job")
            await until_noted(tmp_path, "began-job")
            scope.cancel()
    assert (tmp_path / "cleaned-job").exists()
