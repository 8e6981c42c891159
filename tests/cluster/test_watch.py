"""A server ends when its node is silent, and a node ends servers that are stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any, cast

import pytest
import trio
import trio.testing

import discoro_trio as discoro
from discoro_trio.cluster._watch import NodeWatch, StopWatch, is_stopped
from discoro_trio.link import Done

if TYPE_CHECKING:
    from collections.abc import Iterator

    from discoro_trio.cluster._seat import Server
    from discoro_trio.link import Link


class MadeUpLink:
    """A connection to a node that answers, or does not."""

    def __init__(self) -> None:
        self.answers = True
        self.asked = 0

    async def request(self, _message: object, *, timeout: float) -> Done:  # noqa: ASYNC109 - as that of a link
        self.asked += 1
        if not self.answers:
            await trio.sleep(timeout)
            message = "no reply"
            raise discoro.PeerDisconnected(message)
        return Done()


class MadeUpServer:
    """A server whose process is known by its number."""

    def __init__(self, pid: int) -> None:
        self.process_id = b"a server"
        self.killed = ""
        self.process = self.link = self
        self.pid = pid
        self.peer_name = "a server"

    def kill(self, reason: str) -> None:
        self.killed = reason


class EndedError(Exception):
    """The process would have ended."""


@pytest.fixture
def stopped_process() -> Iterator[int]:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process.send_signal(signal.SIGSTOP)
    os.waitpid(process.pid, os.WUNTRACED)
    yield process.pid
    process.kill()
    process.wait()
    assert process.stdin is not None
    process.stdin.close()


def end(_status: int) -> None:
    raise EndedError


@pytest.mark.spec("S52")
async def test_a_server_ends_after_five_pulses_of_silence_and_not_before(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "_exit", end)
    link = MadeUpLink()
    link.answers = False
    start = trio.current_time()
    with pytest.RaisesGroup(EndedError):
        await NodeWatch(cast("Link", link), lambda: 2.0).run()
    assert trio.current_time() - start == pytest.approx(10)


async def test_a_server_whose_node_answers_lives(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "_exit", end)
    link = MadeUpLink()
    with trio.move_on_after(1000):
        await NodeWatch(cast("Link", link), lambda: 2.0).run()
    assert link.asked == pytest.approx(500, abs=2)


async def test_a_server_that_was_stopped_does_not_judge_by_the_time_that_passed(
    mock_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "_exit", end)
    watch = NodeWatch(cast("Link", MadeUpLink()), lambda: 2.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(3600)
        await trio.testing.wait_all_tasks_blocked()
        assert watch.missed < 2
        nursery.cancel_scope.cancel()


@pytest.mark.fault("F07")
def test_a_server_is_ended_once_it_was_stopped_for_five_pulses(stopped_process: int) -> None:
    server: Any = MadeUpServer(stopped_process)
    watch = StopWatch(lambda: 1.0)
    for _ in range(4):
        watch.look([cast("Server", server)])
    assert not server.killed
    watch.look([cast("Server", server)])
    assert server.killed


def test_a_server_that_goes_on_is_counted_anew(stopped_process: int) -> None:
    stopped, running = MadeUpServer(stopped_process), MadeUpServer(os.getpid())
    watch = StopWatch(lambda: 1.0)
    for server in (stopped, stopped, stopped, stopped, running, stopped):
        watch.look([cast("Server", server)])
    assert not stopped.killed


def test_stopped_processes_are_told_from_others(stopped_process: int) -> None:
    assert is_stopped(stopped_process)
    assert not is_stopped(os.getpid())
    assert not is_stopped(2**22 + 1)
