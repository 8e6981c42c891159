"""`discoro secret rotate` on a cluster that runs: nobody is restarted, nothing is cut off, the old secret ends."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio

import discoro_trio as discoro
from discoro_trio._link import secret_file as files
from tests._ports import free_udp_port
from tests.cli.programs import output, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.program

OLD, NEW = "ab" * 32, "cd" * 32
MACHINES = ("scheduler", "node", "client")


async def echo(*, coro: discoro.Coro[Any]) -> None:
    """Send every message back to who is named in it."""
    async for sender, text in coro:
        await sender.send(text)


async def where(*, coro: discoro.Coro[Any]) -> str:
    await trio.lowlevel.checkpoint()
    return coro.location.addr


class Cluster:
    """A scheduler and a node that run, each with a file of the secret of its own, and a file for clients."""

    def __init__(self, folder: Path) -> None:
        self.udp_port = free_udp_port()
        self.files = {machine: folder / machine for machine in MACHINES}
        self.location = ""
        for file in self.files.values():
            file.touch(mode=0o600)
            file.write_text(OLD, encoding="ascii")

    async def rotate(self, machine: str, *step: str) -> None:
        """Do one step at one machine, as its operator does."""
        done = await output("secret", "rotate", *step, "--secret_file", str(self.files[machine]))
        assert done.returncode == 0, done.stderr

    async def serves(self, **secret: Any) -> str:
        """Be a new client with a secret, and have a job run."""
        async with (
            discoro.open_endpoint(udp_port=self.udp_port, **secret),
            discoro.Computation([where], node_allocations=[discoro.NodeAllocation(cpus=1)]).schedule(
                self.location
            ) as computation,
        ):
            return await computation.run_result(where)


@asynccontextmanager
async def open_cluster(folder: Path) -> AsyncIterator[tuple[Cluster, list[Any]]]:
    """Run the programs; none of them knows a secret but by its file."""
    cluster = Cluster(folder)
    port = ("--udp_port", str(cluster.udp_port))
    async with (
        running(*port, "--secret_file", str(cluster.files["scheduler"])) as scheduler,
        running("node", *port, "-c", "2", "--secret_file", str(cluster.files["node"])) as node,
    ):
        cluster.location = await scheduler.location()
        await node.says("joined")
        yield cluster, [scheduler, node]


@pytest.mark.slow
@pytest.mark.spec("B07")
async def test_the_secret_is_changed_under_a_cluster_that_runs_without_a_restart(tmp_path: Path) -> None:
    old, new = ("fingerprint " + fingerprint_of(secret) for secret in (OLD, NEW))
    async with open_cluster(tmp_path) as (cluster, programs):
        with trio.fail_after(90):
            async with connected(cluster) as answers:
                for step, said in (
                    (("stage", NEW), f"{old} is used; {fingerprint_of(NEW)} is accepted too"),
                    (("switch",), f"{new} is used; {fingerprint_of(OLD)} is accepted too"),
                ):
                    for machine in MACHINES:
                        await cluster.rotate(machine, *step)
                        await cluster.serves(secret_file=cluster.files["client"])  # whoever is ahead of the others
                    for program in programs:
                        await program.says(said)
                    await answers()
                    for secret in (OLD, NEW):
                        assert await cluster.serves(secret=secret) == "127.0.0.1"
                for machine in MACHINES:
                    await cluster.rotate(machine, "drop")
                for program in programs:
                    await program.says(f"{new} is used; no other one is accepted")
                await answers()
                assert await cluster.serves(secret=NEW) == "127.0.0.1"
                late = ("--udp_port", str(cluster.udp_port), "-c", "1", "--name", "late")
                async with running("node", *late, "--secret_file", str(cluster.files["client"])) as node:
                    await node.says("joined")  # found under the new secret by those who run all the time
                with pytest.raises(discoro.AuthenticationError, match=fingerprint_of(OLD)):
                    await cluster.serves(secret=OLD)
        assert all(program.process.returncode is None for program in programs)


@asynccontextmanager
async def connected(cluster: Cluster) -> AsyncIterator[Any]:
    """Be a client with a coroutine that runs all the time; give a function that talks to it, and one new one."""
    async with discoro.open_endpoint(udp_port=cluster.udp_port, secret_file=cluster.files["client"]):
        one = discoro.NodeAllocation(cpus=1)
        async with (
            discoro.Computation([echo, where], node_allocations=[one]).schedule(cluster.location) as computation,
            discoro.open_coro() as me,
        ):
            rcoro = await computation.run(echo)

            async def answers() -> None:
                await rcoro.send((me, "still there"))
                assert await me.receive() == "still there"
                assert await computation.run_result(where) == "127.0.0.1"

            await answers()
            yield answers


def fingerprint_of(secret: str) -> str:
    return files.SecretFile(files.default_path(), secret).fingerprints()[0]


@pytest.mark.slow
async def test_a_file_that_cannot_be_used_any_more_is_told_and_changes_nothing(tmp_path: Path) -> None:
    async with open_cluster(tmp_path) as (cluster, (scheduler, _node)):
        cluster.files["scheduler"].write_text("one\ntwo\n", encoding="ascii")
        await scheduler.says("the secret stays as it is")
        assert await cluster.serves(secret=OLD) == "127.0.0.1"
