"""Processes that jobs fork: the server that they are copied from goes on undisturbed."""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from tests.client.clusters import open_computation

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")


def thread_returns() -> tuple[str, int]:
    pid = os.fork()
    return ("copy", 0) if pid == 0 else ("job", wait_for(pid))


def thread_exits() -> tuple[str, int]:
    pid = os.fork()
    if pid == 0:
        sys.exit(3)
    return "job", wait_for(pid) - 3


def thread_raises() -> tuple[str, int]:
    pid = os.fork()
    if pid == 0:
        raise LookupError
    return "job", wait_for(pid) - 1


async def task_returns() -> tuple[str, int]:
    pid = os.fork()
    return ("copy", 0) if pid == 0 else ("job", wait_for(pid))


async def task_exits() -> tuple[str, int]:
    pid = os.fork()
    if pid == 0:
        sys.exit("that is all")
    return "job", wait_for(pid) - 1


async def task_awaits() -> tuple[str, int]:
    pid = os.fork()
    await trio.sleep(0.01)
    return ("copy", 0) if pid == 0 else ("job", wait_for(pid) - 1)


async def task_has_a_pool() -> tuple[str, int]:
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return "job", sum(pool.map(abs, [-1, 1])) - 2


def thread_leaves_one() -> tuple[str, int]:
    """Leave a copy behind that has all descriptors of the server, and lives on."""
    if os.fork() == 0:
        time.sleep(600)
        os._exit(0)
    return "job", 0


def thread_has_no_descriptors() -> tuple[str, int]:
    """Fork while this process has as many descriptors open as it may have."""
    taken = []
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    with suppress(OSError):
        while True:
            taken.append(os.dup(0))
    pid = os.fork()
    if pid == 0:
        kept = [fd for fd in range(256) if fd not in taken and leads_to(fd).startswith("socket:")]
        os._exit(len(kept))
    for fd in taken:
        os.close(fd)
    resource.setrlimit(resource.RLIMIT_NOFILE, before)
    return "job", wait_for(pid)


def leads_to(fd: int) -> str:
    try:
        return str(Path(f"/proc/self/fd/{fd}").readlink())
    except OSError:
        return ""


def wait_for(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


async def count_up(number: int) -> int:
    return number + 1


async def neighbour(seconds: float) -> int:
    await trio.sleep(seconds)
    return os.getpid()


@pytest.mark.parametrize(
    "job",
    [
        thread_returns,
        thread_exits,
        thread_raises,
        task_returns,
        task_exits,
        task_awaits,
        task_has_a_pool,
        thread_leaves_one,
        thread_has_no_descriptors,
    ],
)
async def test_a_fork_in_a_job_disturbs_nothing(job: Callable[[], object]) -> None:
    components = [job, count_up, neighbour, wait_for, leads_to]
    async with open_computation(components, servers=1) as computation:
        beside = await computation.run(neighbour, 0.5)
        assert await computation.run_result(job) == ("job", 0)
        assert await computation.run_results(count_up, range(200)) == list(range(1, 201))
        pid = await beside.result()
        assert await computation.run_result(neighbour, 0) == pid
