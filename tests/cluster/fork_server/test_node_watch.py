"""Servers end when their node is silent, also those whose thread is blocked, and not before."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest
import trio

import discoro_trio as discoro
from discoro_trio._cluster.fork_server._client import open_fork_server
from discoro_trio._cluster.fork_server._fork_server import Leisure
from discoro_trio._cluster.fork_server._node_watch import NodeWatch
from tests._ports import free_udp_port
from tests.cli.programs import SECRET, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def looks(watch: NodeWatch, *, until: float, answers: bool) -> Iterator[tuple[float, list[int]]]:
    """Look whenever it is due, and give the time and who must end."""
    now = max(0.0, watch.due())
    while now <= until:
        yield now, list(watch.look(now))
        if answers:
            watch.heard()
        now = watch.due()


def test_the_rest_is_imported_a_second_after_the_first_server_and_once() -> None:
    leisure = Leisure()
    assert not leisure.take(100.0)
    leisure.forked(100.0)
    leisure.forked(100.9)
    assert leisure.due() == 101.0
    assert not leisure.take(100.9)
    assert leisure.take(101.1)
    leisure.forked(102.0)
    assert not leisure.take(200.0)


async def test_servers_that_are_forked_late_have_the_whole_package(discoro_cluster: discoro.Scheduler) -> None:
    """What only some jobs use is imported by the fork server a second after it forked the first."""
    with trio.fail_after(30):
        while True:
            async with discoro.Computation([has_all]).schedule() as computation:
                if await computation.run_result(has_all):
                    return


async def has_all() -> bool:
    return {"discoro_trio._client", "discoro_trio._process.channels._channel"} <= sys.modules.keys()


@pytest.mark.spec("S52")
def test_each_server_ends_after_five_pulses_of_its_own_without_an_answer_and_not_before() -> None:
    watch = NodeWatch()
    watch.add(1, 2.0)
    watch.add(2, 3.0)
    ended: dict[int, float] = {}
    for now, numbers in looks(watch, until=100, answers=False):
        for number in numbers:
            ended[number] = now
            watch.forget(number)
    assert ended == {1: 10.0, 2: 16.0}  # the second after the first question that is due then


def test_servers_whose_node_answers_live() -> None:
    watch = NodeWatch()
    watch.add(1, 2.0)
    asked = list(looks(watch, until=1000, answers=True))
    assert len(asked) == 501
    assert not any(numbers for _, numbers in asked)


def test_who_was_stopped_does_not_judge_by_the_time_that_passed() -> None:
    watch = NodeWatch()
    watch.add(1, 2.0)
    watch.look(0.0)
    assert not list(watch.look(3600.0))
    watch.heard()
    assert not list(watch.look(7200.0))


def test_without_servers_that_live_by_the_node_it_is_not_asked() -> None:
    watch = NodeWatch()
    watch.add(1, 0.0)
    watch.add(2, 1.0)
    watch.add(2, 0.0)
    assert watch.due() == float("inf")


async def block_thread(me: discoro.Coro[None]) -> None:
    """Say which process this is, and let its thread do nothing else any more."""
    await me.send(os.getpid())
    await trio.sleep(0.1)  # so that the message is on its way
    time.sleep(600)  # noqa: ASYNC251 - it is what is to be seen


@pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")
async def test_what_stops_a_node_s_process_group_does_not_stop_who_watches_it(tmp_path: Path) -> None:
    async with open_fork_server() as fork_server:
        assert os.getpgid(fork_server.pid) == fork_server.pid != os.getpgrp()


@pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")
@pytest.mark.fault("F07")
@pytest.mark.spec("S51", "S52")
async def test_a_server_whose_thread_is_blocked_ends_five_of_its_computation_s_pulses_after_its_node_fell_silent() -> (
    None
):
    udp_port = free_udp_port()
    quick = ("--udp_port", str(udp_port), "--min_pulse_interval", "0.2")
    before = discoro.config.MinPulseInterval
    discoro.config.MinPulseInterval = 0.2
    try:
        async with running("node", *quick, "-c", "1") as node:
            pulse = 0.6
            seconds = await until_server_ends(node.process, udp_port, pulse)
            assert 4 * pulse <= seconds <= 8 * pulse
    finally:
        discoro.config.MinPulseInterval = before


async def until_server_ends(node: trio.Process, udp_port: int, pulse: float) -> float:
    """Block the one server of a node and stop the node; give the seconds after which the server has ended."""
    async with discoro.open_scheduler(ip_addr="127.0.0.1", secret=SECRET, udp_port=udp_port):
        computation = discoro.Computation([block_thread, time], pulse_interval=pulse)
        with trio.fail_after(30):
            async with computation.schedule(), discoro.open_coro() as me:
                blocked = await computation.run(block_thread, me)
                server = psutil.Process(await me.receive())
                await trio.sleep(4 * pulse)  # being blocked alone ends nothing
                assert server.is_running()
                node.send_signal(signal.SIGSTOP)
                began = trio.current_time()
                with pytest.raises(discoro.ServerLost):
                    await blocked.result()
                return trio.current_time() - began
