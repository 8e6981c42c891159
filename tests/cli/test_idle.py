"""What programs cost that nobody uses: nearly no processor, and no more memory as time passes."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import psutil
import pytest
import trio

from tests._ports import free_udp_port
from tests.cli.programs import SECRET, output, running

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MINUTES = 10
MIB = 1024**2


def seconds_used(processes: list[psutil.Process]) -> float:
    """Give the processor's seconds that processes have used so far."""
    times = [process.cpu_times() for process in processes]
    return sum(one.user + one.system for one in times)


def memory_of(processes: list[psutil.Process]) -> list[int]:
    """Give the bytes of each that are its own."""
    return [process.memory_full_info().uss for process in processes]


@pytest.mark.soak
@pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")
async def test_an_idle_node_with_two_servers_and_a_scheduler_use_less_than_a_hundredth_of_a_core_and_do_not_grow(
    record_property: Callable[[str, object], None], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    secret = tmp_path / "secret"  # a file, as in a cluster that people run: the programs follow it
    secret.touch(mode=0o600)
    secret.write_text(SECRET, encoding="ascii")
    port = ("--udp_port", str(free_udp_port()), "--secret_file", str(secret))
    async with running(*port) as scheduler, running("node", *port, "-c", "2") as node:
        place = await scheduler.location()
        await node.says("joined")
        assert [row["servers"] for row in json.loads((await output("status", place, "--json")).stdout)["nodes"]] == [2]
        own = [psutil.Process(program.process.pid) for program in (scheduler, node)]
        processes = own + own[1].children(recursive=True)
        assert len(processes) == 5  # with the fork server
        memory, began, used = [], trio.current_time(), seconds_used(processes)
        for _ in range(MINUTES):
            await trio.sleep(60)
            memory.append(memory_of(processes))
        percent = 100 * (seconds_used(processes) - used) / (trio.current_time() - began)
        grown = [last - first for first, last in zip(memory[0], memory[-1], strict=True)]
    record_property("percent of a core", percent)
    record_property("bytes grown", grown)
    with capsys.disabled():
        sys.stdout.write(f"\n{percent:.2f} % of a core over {MINUTES} minutes; grown by {grown} bytes\n")
    assert percent < 1
    assert max(grown) < MIB
