"""Processes that run out of descriptors: it costs what needed one, and no more."""

from __future__ import annotations

import resource
import sys
from typing import TYPE_CHECKING

import pytest
import trio

from discoro_trio._errors import DiscoroError
from discoro_trio._link import serve_endpoint
from discoro_trio._link._descriptors import KEPT, Descriptors
from discoro_trio._wire import Credential
from tests.client.clusters import run_script

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")

PROGRAM = """
import errno, logging, os, resource, signal, sys
import trio
import discoro_trio as discoro

logging.disable(logging.ERROR)
resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
discoro.config.MinPulseInterval = 0.2

async def pid():
    return os.getpid()

def take_all():
    held = []
    try:
        while True:
            held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError as error:
        assert error.errno == errno.EMFILE
    return held

async def main():
    async with discoro.open_cluster(servers=2) as scheduler:
        async with discoro.Computation([pid], pulse_interval=0.2).schedule() as computation:
            pids = set()
            while len(pids) < 2:
                pids.add(await computation.run_result(pid))
            victim, other = pids
            held = take_all()
            os.kill(victim, signal.SIGKILL)
            while len(await computation.servers()) == 2:
                await trio.sleep(0.01)
            for _ in range(10):  # pulses, checks and restarts that cannot open anything
                assert await computation.run_result(pid) == other
                await trio.sleep(0.2)
            for fd in held:
                os.close(fd)
            with trio.fail_after(45):
                while await computation.run_result(pid) == other:
                    await trio.sleep(0.05)
            assert (await scheduler.status()).nodes[0].servers == 2
    print("ok")

trio.run(main)
"""


async def test_a_client_and_its_node_go_on_without_descriptors_and_start_servers_again_later(tmp_path: Path) -> None:
    assert await run_script(PROGRAM, tmp_path, seconds=60) == "ok\n"


def test_descriptors_are_scarce_when_only_those_are_left_that_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    for most, first in ((1024, 1024 - KEPT), (64, 56), (resource.RLIM_INFINITY, None)):
        monkeypatch.setattr(resource, "getrlimit", lambda _kind, most=most: (most, most))
        if first is not None:
            assert not Descriptors().are_scarce(first - 1)
            assert Descriptors().are_scarce(first)
        else:
            assert not Descriptors().are_scarce(1_000_000)


async def test_without_descriptors_no_connection_is_accepted_and_that_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve_endpoint() as full, serve_endpoint() as peer:
        full.credentials[b""] = peer.credentials[b""] = Credential(b"", bytes(32))
        with monkeypatch.context() as scarce:
            scarce.setattr(Descriptors, "are_scarce", lambda _self, _newest: True)
            for _ in range(3):
                with pytest.raises(DiscoroError):
                    await peer.link_to(full.id, full.location, b"")
        said = [record for record in caplog.records if "connections are refused" in record.getMessage()]
        assert len(said) == 1
        with trio.fail_after(60):
            await peer.link_to(full.id, full.location, b"")
