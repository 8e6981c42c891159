"""Nodes that are started through ssh on another host, with default options."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests._network import open_network
from tests.launch.sshd import running_sshd, wait_until_ended

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.network

PROGRAM = """
import sys, trio, discoro_trio as discoro

async def where():
    import subprocess
    return subprocess.check_output(["ip", "-4", "-o", "addr", "show", "dev", "eth0"], text=True)

async def main():
    ssh = discoro.launch.Ssh(["worker1", "far"], python=sys.executable, ssh_options=["-F", sys.argv[1]])
    async with discoro.open_scheduler(launch=ssh), discoro.Computation([where]).schedule() as computation:
        while any(node.state != "running" for node in ssh.nodes):
            await ssh.until_changed()
        print(await computation.run_result(where))

trio.run(main)
"""


async def test_a_node_on_another_host_joins_and_runs_jobs(tmp_path: Path) -> None:
    with open_network() as network:
        client, worker = network.add_lan().add_hosts(2)
        with running_sshd(tmp_path, worker) as sshd:
            assert worker.address in await client.run(PROGRAM, str(sshd.config))
            wait_until_ended(sshd.processes())
