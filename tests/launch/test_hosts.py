"""Nodes that are started through ssh on another host, with default options."""

from __future__ import annotations

from contextlib import ExitStack
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


TUNNELS = """
import sys, trio, discoro_trio as discoro

async def receive(*, coro):
    return await coro.receive()

async def send(other, size):
    await other.send(bytes(size))
    return bytes(size)

async def leave():
    import os
    os._exit(1)

async def main():
    options = {"python": sys.executable, "ssh_options": ["-F", sys.argv[1]]}
    ssh = discoro.launch.Ssh(["one", "two"], cpus=1, tunnel=True, **options)
    async with discoro.open_scheduler(ip_addr="127.0.0.1", discover=False, launch=ssh):
        async with discoro.Computation([receive, send, leave]).schedule(servers=2) as computation:
            while len(servers := await computation.servers()) < 2:
                await trio.sleep(0.01)
            one, two = servers
            other = await computation.run_at(one, receive)
            sent = await computation.run_at(two, send, other, 5_000_000)
            assert await sent.result() == await other.result() == bytes(5_000_000)
            try:
                await (await computation.run_at(one, leave)).result()
            except discoro.ServerLost:
                pass
            while len(servers := await computation.servers()) < 2:
                await trio.sleep(0.01)
            other = await computation.run_at(servers[0], receive)
            sent = await computation.run_at(servers[1], send, other, 10)
            assert await sent.result() == await other.result() == bytes(10)
    print("complete")

trio.run(main)
"""


async def test_tunnels_connect_program_and_hosts_where_only_ssh_gets_through(tmp_path: Path) -> None:
    with open_network() as network, ExitStack() as stack:
        client, *hosts = network.add_lan().add_hosts(3)
        lines, servers = [], []
        client.admit_only(None)
        for name, host in zip(("one", "two"), hosts, strict=True):
            folder = tmp_path / name
            folder.mkdir()
            servers.append(sshd := stack.enter_context(running_sshd(folder, host)))
            host.admit_only(sshd.port)
            lines += [
                f"Host {name}",
                f"HostName {host.address}",
                f"Port {sshd.port}",
                f"IdentityFile {folder}/user_key",
            ]
            lines += ["IdentitiesOnly yes", f"UserKnownHostsFile {folder}/known_hosts"]
        config = tmp_path / "config"
        config.write_text("\n".join(lines))
        assert await client.run(TUNNELS, str(config)) == "complete\n"
        for sshd in servers:
            wait_until_ended(sshd.processes())
