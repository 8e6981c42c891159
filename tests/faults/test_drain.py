"""`discoro drain` and `discoro cancel`: a node under load is free, and a computation ends."""

from __future__ import annotations

import signal
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

import discoro_trio as discoro
from tests._ports import free_udp_port
from tests.cli.programs import SECRET, output, running
from tests.client.clusters import until_servers

from .test_node_stops import longest_gap, stay, until_noted, until_told

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

pytestmark = [pytest.mark.skipif(sys.platform != "linux", reason="servers are forked"), pytest.mark.slow]


async def finish_soon(number: int) -> int:
    await trio.sleep(1)
    return number


@asynccontextmanager
async def shared_cluster() -> AsyncIterator[tuple[str, discoro.Computation, list[tuple[str, object]]]]:
    """Run a shared scheduler and two nodes of one server each; give its place, a computation, and what is reported."""
    udp_port = str(free_udp_port())
    told: list[tuple[str, object]] = []
    computation = discoro.Computation([sys.modules[__name__], sys.modules[stay.__module__]], name="drained")
    with trio.fail_after(120):
        async with AsyncExitStack() as stack:
            scheduler = await stack.enter_async_context(running("--udp_port", udp_port))
            place = await scheduler.location()
            for name in ("n1", "n2"):
                node = await stack.enter_async_context(
                    running("node", "--name", name, "--cpus", "1", "--udp_port", udp_port)
                )
                await node.says("joined the scheduler")
            await stack.enter_async_context(discoro.open_endpoint(udp_port=int(udp_port), secret=SECRET))
            events = await stack.enter_async_context(computation.subscribe())
            tasks = await stack.enter_async_context(trio.open_nursery())

            async def follow() -> None:
                async for event in events:
                    if isinstance(event, discoro.DiscoroStatus):
                        told.append((event.status.name, event.info))  # noqa: PERF401 - for others, as they come

            tasks.start_soon(follow)
            async with computation.schedule(place):
                await until_servers(computation, 2)
                yield place, computation, told
            tasks.cancel_scope.cancel()


@pytest.mark.fault("F30")
@pytest.mark.spec("B37")
async def test_a_drained_node_lets_coroutines_finish_and_jobs_with_retries_move(tmp_path: Path) -> None:
    async with shared_cluster() as (place, computation, told), trio.open_nursery() as nursery:
        finished = await computation.run_at("n1", finish_soon, 5)
        printed: list[str] = []

        async def drain() -> None:
            done = await output("drain", "n1", "--scheduler", place)
            assert done.returncode == 0, done.stderr
            printed.append(done.stdout.decode())

        assert await longest_gap(tmp_path, computation, lambda: nursery.start_soon(drain)) < 1
        assert await finished.result() == 5
        while not printed:  # noqa: ASYNC110 - another program ends
            await trio.sleep(0.05)
        assert printed == ["n1 is free\n"]
        await until_told(told, "NodeClosed")
        ends = [name for name, _ in told if name.endswith(("Closed", "Disconnected"))]
        assert ends == ["ServerClosed", "NodeClosed"]
        assert len(await computation.servers()) == 1
        assert await computation.run_result(finish_soon, 6) == 6


async def block(seconds: float) -> float:
    time.sleep(seconds)  # noqa: ASYNC251 - on purpose
    return seconds


@pytest.mark.fault("F30")
@pytest.mark.spec("B37")
@pytest.mark.parametrize("job", [finish_soon, block])
async def test_an_unreported_coroutine_finishes_at_a_drained_node(job: Callable[[int], Awaitable[float]]) -> None:
    with trio.fail_after(60):
        async with (
            discoro.open_cluster(servers=2) as scheduler,
            discoro.Computation([job]).schedule(servers=2) as computation,
        ):
            run = [await computation.run_at(server, job, 2) for server in await computation.servers()]
            (node,) = (await scheduler.status()).nodes
            await scheduler.drain(node.location)
            assert [await one.result() for one in run] == [2, 2]


@pytest.mark.fault("F30")
@pytest.mark.spec("B37")
@pytest.mark.option("discoronode --drain")
async def test_sigterm_drains_a_node_within_its_bound() -> None:
    udp_port = str(free_udp_port())
    computation = discoro.Computation([sys.modules[__name__]])
    with trio.fail_after(120):
        async with running("--udp_port", udp_port) as scheduler, AsyncExitStack() as stack:
            options = ("--cpus", "1", "--udp_port", udp_port, "--drain", "60")
            nodes = {}
            for name in ("n1", "n2"):
                nodes[name] = await stack.enter_async_context(running("node", "--name", name, *options))
                await nodes[name].says("joined the scheduler")
            await stack.enter_async_context(discoro.open_endpoint(udp_port=int(udp_port), secret=SECRET))
            async with computation.schedule(await scheduler.location()):
                await until_servers(computation, 2)
                finished = await computation.run_at("n1", finish_soon, 5)
                nodes["n1"].process.send_signal(signal.SIGTERM)
                assert await finished.result() == 5
                await nodes["n1"].says("ending; a second one ends at once")
                assert await nodes["n1"].process.wait() == 0
                assert await computation.run_result(finish_soon, 6) == 6


@pytest.mark.fault("F30")
@pytest.mark.option("discoro drain --within", "discoro drain --scheduler")
async def test_what_takes_longer_than_it_may_is_cancelled_and_cleans_up(tmp_path: Path) -> None:
    async with shared_cluster() as (place, computation, _):
        coro = await computation.run_at("n2", stay, str(tmp_path), "long")
        await until_noted(tmp_path, "began-long")
        done = await output("drain", "n2", "--within", "0.5", "--scheduler", place)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "cleaned-long").exists()
        with pytest.raises(discoro.ServerLost, match="the node is drained"):
            await coro.result()
        unknown = await output("drain", "nowhere", "--scheduler", place)
        assert unknown.returncode == 1
        assert b"has no node nowhere; its nodes are: n1 at 127." in unknown.stderr


@pytest.mark.fault("F30")
@pytest.mark.spec("B37")
async def test_what_takes_longer_than_a_program_says_is_cancelled_and_cleans_up(tmp_path: Path) -> None:
    with trio.fail_after(60):
        async with (
            discoro.open_cluster(servers=1) as scheduler,
            discoro.Computation([stay]).schedule() as computation,
        ):
            coro = await computation.run(stay, str(tmp_path), "long")
            (node,) = (await scheduler.status()).nodes
            await scheduler.drain(node.location, within=0.2)
            assert (tmp_path / "cleaned-long").exists()
            with pytest.raises(discoro.ServerLost):
                await coro.result()


@pytest.mark.spec("B37")
@pytest.mark.option("discoro cancel --scheduler")
async def test_a_computation_is_cancelled_by_its_name(tmp_path: Path) -> None:
    async with shared_cluster() as (place, computation, told):
        coro = await computation.run(stay, str(tmp_path), "cancelled")
        await until_noted(tmp_path, "began-cancelled")
        done = await output("cancel", "drained", "--scheduler", place)
        assert done.returncode == 0, done.stderr
        with pytest.raises(discoro.ComputationClosed):
            await coro.result()
        await until_noted(tmp_path, "cleaned-cancelled")
        await until_told(told, "ComputationClosed")
        again = await output("cancel", "drained", "--scheduler", place)
        assert b"no computation" in again.stderr
