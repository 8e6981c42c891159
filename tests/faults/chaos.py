"""Chaos on real programs: two nodes, a shared scheduler and two clients on hosts of their own, and a seeded killer.

The programs run with default options except for shorter times. The killer kills, stops, ends and restarts them, and
cuts the network between two hosts in one direction or in both. Afterwards the network is whole, the clients end, and
nothing may be left: no process, no folder, no further descriptor.

    python -m tests.faults.chaos SEED SECONDS FOLDER
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import trio

from tests._network import ROOT, open_network

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from tests._network import Host

BIN = Path(sys.executable).parent
TIMES = ("--min_pulse_interval", "1", "--msg_timeout", "5")
COMMANDS = {
    "node": (str(BIN / "discoronode"), "-c", "2", "--ping_interval", "2", *TIMES),
    "scheduler": (str(BIN / "discoro"), "--pulse_interval", "1", *TIMES),
}
ENDS_WITHIN = 120.0
"""Seconds in which the clients end their last round when all is well again."""


class Program:
    """A program at a host; it can be started again."""

    def __init__(self, kind: str, host: Host, folder: Path, seed: int) -> None:
        self.kind = kind
        self.host = host
        self.folder = folder
        self.seed = seed
        self.events: list[dict[str, Any]] = []
        self.busy = False
        """Whether the killer is at work on it."""
        folder.mkdir()
        (folder / "tmp").mkdir()
        self.start()

    def start(self) -> None:
        """Start it."""
        client = (sys.executable, "-u", str(Path(__file__).with_name("chaos_client.py")), str(self.seed))
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder / "tmp"),
            "DISCORO_SECRET": "the secret that all programs of the chaos have",
        }
        with (self.folder / "out").open("ab") as out, (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.host.command(*COMMANDS.get(self.kind, client)),
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=log,
                env=environment,
                cwd=self.folder,
                start_new_session=True,
            )

    @property
    def name(self) -> str:
        """What it is called in what is printed."""
        return self.folder.name

    def signal(self, number: int) -> None:
        """Send a signal, if it runs."""
        if self.process.poll() is None:
            self.process.send_signal(number)

    async def ended(self) -> int:
        """Wait for its end."""
        while self.process.poll() is None:  # noqa: ASYNC110 - there is no event
            await trio.sleep(0.02)
        if self.process.stdin is not None:
            with suppress(BrokenPipeError):
                self.process.stdin.close()
        return self.process.returncode

    def below(self, depth: int) -> list[psutil.Process]:
        """Give the processes that it has started: 1, the fork server; 2, servers."""
        found = [psutil.Process(self.process.pid)]
        with suppress(psutil.NoSuchProcess):
            for _ in range(depth):
                found = [child for one in found for child in one.children()]
            return found
        return []

    def said(self) -> list[dict[str, Any]]:
        """Give all that a client has printed."""
        lines = (self.folder / "out").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def footprint(self) -> tuple[int, int]:
        """Give its descriptors and its memory in MiB."""
        process = psutil.Process(self.process.pid)
        return process.num_fds(), process.memory_info().rss >> 20


class Killer:
    """Breaks programs and the network between them, in an order that a seed decides."""

    def __init__(self, programs: list[Program], seed: int) -> None:
        self.programs = programs
        self.rng = random.Random(seed)
        self.done: list[str] = []
        self._hosts = [program.host for program in programs]
        for host in self._hosts:
            run(host, "nft", "add table inet chaos")
            run(host, "nft", "add chain inet chaos in { type filter hook input priority 0; }")
        self._actions: list[tuple[int, Callable[[], Awaitable[None]]]] = [
            (4, self.kill_server),
            (2, self.stop_server),
            (1, self.kill_fork_server),
            (2, self.kill_program),
            (2, self.end_program),
            (2, self.stop_program),
            (4, self.cut),
        ]

    async def run(self, seconds: float) -> None:
        """Do things for so many seconds, then undo what is still to be undone."""
        weights = [weight for weight, _ in self._actions]
        async with trio.open_nursery() as nursery:
            until = trio.current_time() + seconds
            while trio.current_time() < until:
                await trio.sleep(self.rng.uniform(0.2, 2.0))
                ((_, action),) = self.rng.choices(self._actions, weights)
                nursery.start_soon(action)

    def _note(self, what: str) -> None:
        self.done.append(f"{trio.current_time() % 10000:.2f} {what}")

    def _pause(self, longest: float = 9.0) -> float:
        return self.rng.choice([0.05, self.rng.uniform(0, longest)])

    def _one_below(self, depth: int) -> Iterator[psutil.Process]:
        node = self.rng.choice([program for program in self.programs if program.kind == "node"])
        below = node.below(depth) if node.process.poll() is None else []
        if below:
            yield self.rng.choice(below)

    async def kill_server(self) -> None:
        """Kill a server."""
        for server in self._one_below(2):
            self._note(f"kill server {server.pid}")
            with suppress(psutil.NoSuchProcess):
                server.kill()

    async def stop_server(self) -> None:
        """Stop a server, and continue it."""
        for server in self._one_below(2):
            self._note(f"stop server {server.pid}")
            with suppress(psutil.NoSuchProcess):
                server.suspend()
                await trio.sleep(self._pause())
                server.resume()

    async def kill_fork_server(self) -> None:
        """Kill a fork server."""
        for fork_server in self._one_below(1):
            self._note(f"kill fork server {fork_server.pid}")
            with suppress(psutil.NoSuchProcess):
                fork_server.kill()

    async def _restart(self, number: int) -> None:
        program = self.rng.choice(self.programs)
        if program.busy:
            return
        program.busy = True
        self._note(f"{signal.Signals(number).name} to {program.name} {program.process.pid}")
        program.signal(number)
        with trio.move_on_after(30) as scope:
            await program.ended()
        if scope.cancelled_caught:
            self._note(f"PROBLEM: {program.name} {program.process.pid} does not end")
            program.signal(signal.SIGKILL)
            await program.ended()
        await trio.sleep(self._pause(4))
        program.start()
        self._note(f"{program.name} is {program.process.pid}")
        program.busy = False

    async def kill_program(self) -> None:
        """Kill a program, and start it again."""
        await self._restart(signal.SIGKILL)

    async def end_program(self) -> None:
        """End a program in order, and start it again."""
        await self._restart(signal.SIGTERM)

    async def stop_program(self) -> None:
        """Stop a program, and continue it."""
        program = self.rng.choice(self.programs)
        if program.busy:
            return
        program.busy = True
        self._note(f"stop {program.name} {program.process.pid}")
        program.signal(signal.SIGSTOP)
        await trio.sleep(self._pause())
        program.signal(signal.SIGCONT)
        self._note(f"continue {program.name}")
        program.busy = False

    async def cut(self) -> None:
        """Drop what one host sends to another, or what both send."""
        one, other = self.rng.sample(self._hosts, 2)
        ways = [(one, other), (other, one)] if self.rng.random() < 0.3 else [(one, other)]
        seconds = self._pause()
        self._note(f"cut {len(ways)} {one.address} -> {other.address} for {seconds:.1f} s")
        for source, target in ways:
            run(target, "nft", f"add rule inet chaos in ip saddr {source.address} drop")
        await trio.sleep(seconds)
        for _, target in ways:  # also ends other cuts of that host
            run(target, "nft", "flush chain inet chaos in")

    def heal(self) -> None:
        """Let everything pass."""
        for host in self._hosts:
            run(host, "nft", "flush chain inet chaos in")


def run(host: Host, *command: str) -> None:
    """Run a command at a host."""
    subprocess.run(host.command(*command), check=True, capture_output=True)


async def chaos(seed: int, seconds: float, folder: Path) -> list[str]:
    """Run one seed. Return what was wrong."""
    problems: list[str] = []
    with open_network() as network:
        hosts = network.add_lan().add_hosts(5)
        kinds = ("scheduler", "node", "node", "client", "client")
        programs = [
            Program(kind, host, folder / f"{kind}{number}", seed * 100 + number)
            for number, (kind, host) in enumerate(zip(kinds, hosts, strict=True))
        ]
        killer = Killer(programs, seed)
        try:
            await trio.sleep(5)
            await killer.run(seconds)
            killer.heal()
            problems += [line for line in killer.done if "PROBLEM" in line]
            problems += await finish(programs)
        finally:
            (folder / "killer").write_text("\n".join(killer.done), encoding="utf-8")
            problems += remove(programs)
        problems += [f"{host.name} has processes left" for host in hosts if host_pids(host)]
        problems += [
            f"{program.name} left {path.name}" for program in programs for path in (program.folder / "tmp").iterdir()
        ]
    return problems


async def finish(programs: list[Program]) -> list[str]:
    """Let all programs end in order. Return what was wrong."""
    problems: list[str] = []
    clients = [program for program in programs if program.kind == "client"]
    others = [program for program in programs if program.kind != "client"]
    for client in clients:
        assert client.process.stdin is not None
        client.process.stdin.write(b"end\n")
        client.process.stdin.flush()
    for client in clients:
        with trio.move_on_after(ENDS_WITHIN) as scope:
            status = await client.ended()
            if status:
                problems.append(f"{client.name} ended with status {status}")
        if scope.cancelled_caught:
            problems.append(f"{client.name} {client.process.pid} does not end")
        problems += check_client(client)
    await trio.sleep(8)
    for program in others:
        if program.process.poll() is None:
            descriptors, size = program.footprint()
            print(program.name, "descriptors", descriptors, "MiB", size)  # noqa: T201
            if descriptors > 60 or size > 120:
                problems.append(f"{program.name} has {descriptors} descriptors and {size} MiB")
        else:
            problems.append(f"{program.name} ended by itself, with {program.process.returncode}")
        program.signal(signal.SIGTERM)
    for program in others:
        with trio.move_on_after(20) as scope:
            await program.ended()
        if scope.cancelled_caught:
            problems.append(f"{program.name} {program.process.pid} does not end after SIGTERM")
    return problems


def check_client(client: Program) -> list[str]:
    """Return what was wrong with a client by what it has printed."""
    said = client.said()
    problems = [f"{client.name}: {one['what']}" for one in said if one["event"] == "wrong"]
    lives: list[list[dict[str, Any]]] = []
    for one in said:
        if one["event"] == "ready":
            lives.append([])
        lives[-1].append(one)
    for life in lives:
        rounds = [one for one in life if one["event"] in {"round", "end"}]
        print(client.name, [(one["descriptors"], one["MiB"]) for one in rounds], rounds[-1:])  # noqa: T201
        if len(rounds) > 2 and rounds[-1]["descriptors"] > rounds[0]["descriptors"] + 12:
            problems.append(f"{client.name} keeps descriptors: {[one['descriptors'] for one in rounds]}")
        if len(rounds) > 4 and rounds[-1]["MiB"] > rounds[1]["MiB"] + 40:
            problems.append(f"{client.name} grows: {[one['MiB'] for one in rounds]} MiB")
    if not lives or lives[-1][-1]["event"] != "end":
        problems.append(f"{client.name} did not come to its end")
    return problems


def host_pids(host: Host) -> list[str]:
    """Give the processes at a host."""
    done = subprocess.run(["ip", "netns", "pids", host.name], check=False, capture_output=True, text=True)
    return done.stdout.split()


def remove(programs: list[Program]) -> list[str]:
    """Kill what still runs. Return what that was."""
    problems = []
    for program in programs:
        for pid in host_pids(program.host):
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(int(pid))
                problems.append(f"left at {program.name}: {pid} {process.status()} {' '.join(process.cmdline())[:120]}")
                process.kill()
        program.process.wait()
    return problems


if __name__ == "__main__":
    found = trio.run(chaos, int(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3]))
    print("\n".join(found) or "nothing wrong")  # noqa: T201
    sys.exit(bool(found))
