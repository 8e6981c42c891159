"""Neither computations one after the other nor jobs without number make any process grow."""

from __future__ import annotations

import psutil
import pytest
import trio

import discoro_trio as discoro

MIB = 1024 * 1024


async def increment(number: int) -> int:
    return number + 1


async def size_here() -> tuple[int, int]:
    """Give the memory and the descriptors of the process that this runs in."""
    process = psutil.Process()
    return process.memory_info().rss, process.num_fds()


@pytest.mark.slow
@pytest.mark.spec("S71")
async def test_fifty_computations_one_after_the_other_leave_client_and_node_as_they_were() -> None:
    sizes = []
    async with discoro.open_cluster(servers=2):
        for number in range(50):
            async with discoro.Computation([increment]).schedule() as computation:
                assert await computation.run_result(increment, number) == number + 1
            sizes.append(await size_here())
    (memory_before, descriptors_before), (memory_after, descriptors_after) = sizes[10], sizes[-1]
    assert memory_after - memory_before < 4 * MIB
    assert descriptors_after <= descriptors_before + 2  # a server may just be on its way


@pytest.mark.parametrize(
    "jobs", [pytest.param(100_000, marks=pytest.mark.slow), pytest.param(1_000_000, marks=pytest.mark.soak)]
)
async def test_jobs_without_number_leave_client_and_server_as_they_were(jobs: int) -> None:
    async with (
        discoro.open_cluster(servers=1),
        discoro.Computation([increment, size_here]).schedule() as computation,
    ):

        async def run_jobs(count: int) -> None:
            numbers = iter(range(count))

            async def work() -> None:
                for number in numbers:
                    assert await computation.run_result(increment, number) == number + 1

            async with trio.open_nursery() as nursery:
                for _ in range(256):
                    nursery.start_soon(work)

        await run_jobs(10_000)
        client, server = await size_here(), await computation.run_result(size_here)
        await run_jobs(jobs)
        client_after, server_after = await size_here(), await computation.run_result(size_here)
    for before, after in ((client, client_after), (server, server_after)):
        assert after[0] - before[0] < 4 * MIB
        assert after[1] == before[1]
