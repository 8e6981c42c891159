"""Who looks at a machine with `ps`, `top` or a debugger finds the servers and what runs there by their names."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from tests.client.clusters import open_computation

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")


async def of_main_thread() -> tuple[int, str]:
    return os.getpid(), threading.main_thread().name


def in_a_thread() -> tuple[str, str]:
    thread = threading.current_thread()
    return thread.name, Path(f"/proc/self/task/{thread.native_id}/comm").read_text(encoding="ascii").strip()


def shown_by_ps(pid: int, column: str) -> str:
    done = subprocess.run(["ps", "-o", f"{column}=", "-p", str(pid)], capture_output=True, text=True, check=True)
    return done.stdout.strip()


async def test_servers_and_their_fork_server_are_shown_with_what_they_are() -> None:
    async with open_computation([of_main_thread], servers=2) as computation:
        for rcoro in await computation.run_servers(of_main_thread):
            pid, thread = await rcoro.result()
            assert thread.endswith(f"at {rcoro.location}")
            assert shown_by_ps(pid, "comm") == "discoro-server"
            assert shown_by_ps(pid, "args") == f"discoro-server {thread}"
            fork_server = psutil.Process(pid).ppid()
            assert shown_by_ps(fork_server, "args") == "discoro-forks"


async def test_the_thread_of_a_plain_function_has_the_name_of_its_coroutine() -> None:
    async with open_computation([in_a_thread], servers=1) as computation:
        assert await computation.run_result(in_a_thread) == ("in_a_thread", "in_a_thread")
        async with computation.open_nursery() as nursery:
            rcoro = await nursery.run(in_a_thread)
            assert await rcoro.result() == ("in_a_thread", "in_a_thread")
