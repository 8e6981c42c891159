"""The operator's pages: their commands, word for word, at two hosts with a secret and a client at a third."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sysconfig
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests._network import open_network

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests._network import Host, Network

pytestmark = [pytest.mark.network, pytest.mark.slow]

DOCS = Path(__file__).parents[2] / "docs" / "howto"
NODE = "discoronode --cpus 2 --tcp_ports 51351-51353"
STATUS = "discoro status --json"
DRAIN = "discoro drain NODE"
SCHEDULER = "discoro"
SECRET = "five words of the operator"

CLIENT = """
import trio
import discoro_trio as discoro

def square(number):
    return number * number

async def main():
    async with discoro.Computation([square]).schedule(servers=4) as computation:
        print(sum(await computation.run_results(square, range(100))), *sorted(await computation.nodes()))

trio.run(main)
"""


@pytest.fixture
def network() -> Iterator[Network]:
    with open_network() as opened:
        yield opened


def commands_of(page: str) -> list[str]:
    """Give the commands of a page, without their comments."""
    text = (DOCS / page).read_text(encoding="utf-8")
    listings = re.findall(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    lines = [line for listing in listings for line in listing.splitlines() if line.startswith("$ ")]
    return [line.removeprefix("$ ").split("  #")[0].strip() for line in lines]


def shell(host: Host, command: str) -> list[str]:
    return host.command("sh", "-c", f"exec {command}")


def environment(folder: Path) -> dict[str, str]:
    """Give the environment of an operator: the programs in the path, the secret, and a home."""
    path = f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}"
    return {"PATH": path, "HOME": str(folder), "DISCORO_SECRET": SECRET, "DISCORO_DAEMON": "1"}


@asynccontextmanager
async def running(host: Host, command: str, folder: Path) -> AsyncIterator[None]:
    """Run a program at a host; end it as systemd does, in time and with status 0."""
    process = await trio.lowlevel.open_process(
        shell(host, command), env=environment(folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder
    )
    try:
        yield
        process.send_signal(signal.SIGTERM)
        with trio.fail_after(30):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()


async def output(host: Host, command: str, folder: Path) -> str:
    with trio.fail_after(100):
        done = await trio.run_process(
            shell(host, command),
            env=environment(folder),
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            cwd=folder,
        )
    assert done.returncode == 0, (command, done.stderr.decode())
    return done.stdout.decode()


async def test_two_nodes_run_by_the_commands_of_the_pages(network: Network, tmp_path: Path) -> None:
    deploy, upgrade = commands_of("deploy.md"), commands_of("upgrade.md")
    assert {NODE, STATUS} <= set(deploy)
    assert DRAIN in upgrade
    one, two, third = network.add_lan().add_hosts(3)
    client = tmp_path / "client.py"
    client.write_text(CLIENT, encoding="utf-8")

    async def status() -> Any:
        return json.loads(await output(third, STATUS, tmp_path))

    async with AsyncExitStack() as stack:
        await stack.enter_async_context(running(third, SCHEDULER, tmp_path))
        for host in (one, two):
            await stack.enter_async_context(running(host, NODE, tmp_path))
        nodes = sorted([one.address, two.address])
        assert (
            await output(third, f"python {client}", tmp_path) == f"{sum(n * n for n in range(100))} {' '.join(nodes)}\n"
        )
        assert sorted(node["location"].split(":")[0] for node in (await status())["nodes"]) == nodes
        await output(third, DRAIN.replace("NODE", one.address), tmp_path)
        drained = {node["location"].split(":")[0]: node for node in (await status())["nodes"]}
        assert drained[one.address] != drained[two.address]
