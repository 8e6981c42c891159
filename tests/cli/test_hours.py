"""The hours of service of a node that runs, on a clock that the test sets."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio

import discoro_trio as discoro
from tests._ports import free_udp_port
from tests.cli.programs import SECRET, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.cli.programs import Program

pytestmark = [pytest.mark.program, pytest.mark.slow]

NODE = """
import sys
from datetime import datetime
from pathlib import Path
from discoro_trio._cli import _hours, _node, run_node

clock = Path(sys.argv[1])
_hours.now = _node.now = lambda: datetime.fromisoformat(clock.read_text()).astimezone()
_hours._LOOK = 0.05
run_node(sys.argv[2:])
"""
"""`discoronode` with a clock that somebody sets: it looks at it as at one on the wall, only more often."""


async def echo(me: discoro.Coro[None], *, coro: discoro.Coro[Any]) -> None:
    """Send every message back."""
    async for text in coro:
        await me.send(text)


async def nothing() -> str:
    await trio.lowlevel.checkpoint()
    return "done"


class Clock:
    """The clock of a node."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def shows(self, time: str, *, day: int = 1) -> None:
        """Set it."""
        beside = self.file.with_suffix(".new")
        beside.write_text(f"2026-06-{day:02} {time}", encoding="ascii")
        beside.replace(self.file)  # never half written


@asynccontextmanager
async def node_and_scheduler(folder: Path, begun: str, *hours: str) -> AsyncIterator[tuple[Program, Clock]]:
    """Run a node whose clock shows a time, and a scheduler here."""
    clock = Clock(folder / "clock")
    clock.shows(begun)
    port = free_udp_port()
    options = ("--udp_port", str(port), "-c", "2", "--ping_interval", "0.5", *hours)
    async with (
        running(str(clock.file), *options, program=("-c", NODE)) as node,
        discoro.open_scheduler(ip_addr="127.0.0.1", secret=SECRET, udp_port=port),
    ):
        with trio.fail_after(60):
            yield node, clock


def one_server(*components: object) -> discoro.Computation:
    return discoro.Computation(components, node_allocations=[discoro.NodeAllocation(cpus=1)])


async def has_server(computation: discoro.Computation, seconds: float) -> bool:
    """Wait so long for a server."""
    with trio.move_on_after(seconds):
        while not await computation.servers():  # noqa: ASYNC110 - there is no event
            await trio.sleep(0.02)
        return True
    return False


@pytest.mark.option("discoronode --service_start", "discoronode --service_stop", "discoronode --service_end")
async def test_a_node_begins_stops_ends_and_begins_again_at_its_hours(tmp_path: Path) -> None:
    hours = ("--service_start", "08:00", "--service_stop", "18:00", "--service_end", "19:00")
    async with node_and_scheduler(tmp_path, "07:59:00", *hours) as (node, clock):
        await node.says("begin at 08:00")
        assert not any("listens at" in line for line in node.lines)
        clock.shows("08:00:01")
        await node.says("listens at")
        async with discoro.open_coro() as me, one_server(nothing).schedule() as late:
            with pytest.RaisesGroup(discoro.ServerLost):
                async with one_server(echo).schedule() as early:
                    assert await has_server(late, 20)
                    await late.close()
                    rcoro = await early.run(echo, me)
                    clock.shows("18:00:01")
                    await node.says("no further computation")
                    async with one_server(nothing).schedule() as refused:
                        assert not await has_server(refused, 1)
                    await rcoro.send("still there")
                    assert await me.receive() == "still there"
                    clock.shows("19:00:01")
                    await rcoro.wait()
            await node.says("hours of service are over")
        clock.shows("08:00:01", day=2)
        async with one_server(nothing).schedule() as next_day:
            assert await next_day.run_result(nothing) == "done"


async def test_without_an_hour_to_end_what_runs_is_waited_for(tmp_path: Path) -> None:
    hours = ("--service_start", "08:00", "--service_stop", "18:00")
    async with node_and_scheduler(tmp_path, "09:00:00", *hours) as (node, clock), discoro.open_coro() as me:
        async with one_server(echo).schedule() as computation:
            rcoro = await computation.run(echo, me)
            clock.shows("23:00:00")
            await node.says("no further computation")
            await rcoro.send("still there")
            assert await me.receive() == "still there"
            assert not any("are over" in line for line in node.lines)
        await node.says("hours of service are over")


async def test_the_number_of_computations_is_counted_over_the_days(tmp_path: Path) -> None:
    hours = ("--service_start", "08:00", "--service_stop", "18:00", "--serve", "2")
    async with node_and_scheduler(tmp_path, "09:00:00", *hours) as (node, clock):
        for day in (1, 2):
            clock.shows("09:00:00", day=day)
            async with one_server(nothing).schedule() as computation:
                assert await computation.run_result(nothing) == "done"
            if day == 1:
                clock.shows("18:00:01")
                await node.says("hours of service are over")
        assert await node.ended() == 0
