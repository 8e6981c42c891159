"""What the kernel holds servers to."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

import pytest
import trio

import discoro_trio as discoro
from discoro_trio._cluster.isolation._limits import Limits, check_limits
from discoro_trio._link import OptionError
from tests.test_ports import SECRET, UDP_PORT, running

if TYPE_CHECKING:
    from collections.abc import Mapping

MIB = 1 << 20


async def limits_here() -> Mapping[str, tuple[int, int]]:
    names = ("RLIMIT_DATA", "RLIMIT_NOFILE", "RLIMIT_NPROC")
    return {name: resource.getrlimit(getattr(resource, name)) for name in names}


async def take(size: int) -> int:
    return len(bytearray(size))


@pytest.mark.slow
@pytest.mark.fault("F28")
@pytest.mark.option("discoronode --max_memory", "discoronode --max_files", "discoronode --max_processes")
async def test_a_server_is_held_to_the_limits_of_its_node_and_outlives_a_job_that_wants_more() -> None:
    options = ("--max_memory", "600M", "--max_files", "300", "--max_processes", "5000")
    with trio.fail_after(60):
        async with (
            running("node", "--cpus", "1", *options),
            discoro.open_scheduler(ip_addr="127.0.0.1", udp_port=UDP_PORT, secret=SECRET),
            discoro.Computation([limits_here, take]).schedule() as computation,
        ):
            there = await computation.run_result(limits_here)
            assert there == {
                "RLIMIT_DATA": (600 * MIB, 600 * MIB),
                "RLIMIT_NOFILE": (300, 300),
                "RLIMIT_NPROC": (5000, 5000),
            }
            with pytest.raises(MemoryError):
                await computation.run_result(take, 1000 * MIB)
            assert await computation.run_result(take, MIB) == MIB


@pytest.mark.parametrize("limits", [Limits(max_memory=1), Limits(max_files=3), Limits(max_processes=0)])
def test_limits_with_which_no_server_would_start_are_refused(limits: Limits) -> None:
    with pytest.raises(OptionError, match="needs at least"):
        check_limits(limits)
