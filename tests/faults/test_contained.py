"""Jobs that stop being what their node takes them for: none keeps a server slot, and nothing of them is left."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
import trio

import discoro_trio as discoro
from tests.client.clusters import open_computation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

MIB = 1 << 20

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def execute(program: str) -> None:
    os.execv(program, [program, "600"])  # noqa: S606 - that is what is tested


def close_descriptors() -> None:
    os.closerange(3, 256)


async def pid_of_server() -> int:
    return os.getpid()


def start_daemon() -> int:
    """Start a process as daemons are: in a session of its own, and its parent has ended."""
    read_fd, write_fd = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(write_fd, str(os.getpid()).encode())
            os.execv("/bin/sleep", ["sleep", "600"])  # noqa: S606
        os._exit(0)
    os.waitpid(child, 0)
    return int(os.read(read_fd, 64))


def exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def keep_parts(count: int) -> str:
    """Send the node parts of files that it cannot write yet, with the means of this package."""
    from discoro_trio._errors import DiscoroError  # noqa: PLC0415 - where it runs
    from discoro_trio._link import answered  # noqa: PLC0415
    from discoro_trio._process import current_process  # noqa: PLC0415
    from discoro_trio._process._parts import PART  # noqa: PLC0415
    from discoro_trio._process.files._transfers import BeginFile, FileBegun, FilePart  # noqa: PLC0415

    (node, *_) = current_process().endpoint.links.values()
    part = bytes(PART)
    async with trio.open_nursery() as nursery:

        async def send(transfer: int, offset: int) -> None:
            with contextlib.suppress(DiscoroError):
                await node.request(FilePart(memoryview(part), transfer, offset), timeout=None)

        for number in range(count):
            try:
                begun = await node.request(BeginFile("", f"file{number}", 2**40, overwrite=True))
            except DiscoroError as error:
                return str(error)
            for offset in range(1, 8):
                nursery.start_soon(send, answered(begun, FileBegun).transfer, offset * PART)
            await node.room()
    return "all were taken"


async def keep_one_frame(size: int) -> None:
    """Send the node one large message."""
    from discoro_trio._process import current_process  # noqa: PLC0415 - where it runs
    from discoro_trio._process.files._transfers import FilePart  # noqa: PLC0415

    (node, *_) = current_process().endpoint.links.values()
    await node.request(FilePart(memoryview(bytes(size)), 1, 0), timeout=None)


@pytest.mark.slow
@pytest.mark.fault("F16")
@pytest.mark.parametrize(("hog", "number"), [(keep_parts, 500), (keep_one_frame, 900 * MIB)])
async def test_a_job_cannot_make_its_node_keep_much(hog: Callable[[int], Awaitable[object]], number: int) -> None:
    node = psutil.Process()
    async with open_computation([hog, pid_of_server], servers=1, seconds=60) as computation:
        before = node.memory_info().rss
        with pytest.raises(discoro.ServerLost):
            await computation.run_result(hog, number)
        assert node.memory_info().rss - before < 200 * MIB
        await computation.run_result(pid_of_server)


async def test_a_server_that_executes_another_program_is_replaced() -> None:
    with trio.fail_after(120):
        async with open_computation([execute, pid_of_server], servers=1) as computation:
            pid = await computation.run_result(pid_of_server)
            with pytest.raises(discoro.ServerLost, match="closed its connection to its node"):
                await computation.run_result(execute, "/bin/sleep")
            assert await computation.run_result(pid_of_server) != pid
            assert not exists(pid)


async def test_a_server_that_closes_its_descriptors_is_replaced() -> None:
    with trio.fail_after(120):
        async with open_computation([close_descriptors, pid_of_server], servers=1) as computation:
            pid = await computation.run_result(pid_of_server)
            with pytest.raises(discoro.ServerLost):
                await computation.run_result(close_descriptors)
            assert await computation.run_result(pid_of_server) != pid


async def test_a_daemon_that_a_job_started_ends_with_its_computation() -> None:
    with trio.fail_after(120):
        async with discoro.open_cluster(servers=2):
            async with discoro.Computation([start_daemon]).schedule() as computation:
                daemon = await computation.run_result(start_daemon)
                assert exists(daemon)
            with trio.fail_after(60):
                while exists(daemon):  # noqa: ASYNC110 - there is no event
                    await trio.sleep(0.01)
