"""How long whole sets of uneven jobs take, as parts of what the work and the processors allow.

Each cell is one workload in one way: its time from the first start to the last result, as a part of its ideal. The
ideal is the greatest of the sum of all jobs over the servers and the longest job; for jobs that come in a bad order,
what comes of giving each to the server that is free first. The jobs report what they took, so a machine that is busy
otherwise changes the ideal, too. The mark is `MOST` of the ideal and `SLACK` seconds.
"""

from __future__ import annotations

import os
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import psutil
import trio
from attrs import frozen

import discoro_trio as discoro
from benchmarks._environments import prepare
from benchmarks._half_speed import half_speed, why_not
from benchmarks._peer_process import sets_of_peer
from benchmarks._processes import MeasurementError
from benchmarks._systems import PEERS
from benchmarks._uneven import ideal, plain_work, spin, workloads

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    from benchmarks._environments import Ready
    from benchmarks._systems import Peer
    from benchmarks._uneven import Job

MOST = 1.10
"""Of the ideal."""
SLACK = 0.03
"""Seconds."""
_LONGEST = 180.0
"""Seconds for all sets of another system, with its start."""

# --- jobs; all give the seconds that they took


async def async_work(kind: str, seconds: float, asleep: bool) -> float:  # noqa: FBT001 - sent by position
    """Block the server, or wait."""
    began = time.perf_counter()
    if kind == "wait":
        await trio.sleep(seconds)
    elif asleep:
        time.sleep(seconds)  # noqa: ASYNC251 - that is what is measured
    else:
        spin(seconds)
    return time.perf_counter() - began


async def async_item(item: tuple[str, float, bool]) -> float:
    """Do `async_work`, of one argument."""
    return await async_work(*item)


def plain_item(item: tuple[str, float, bool]) -> float:
    """Do `plain_work`, of one argument."""
    return plain_work(*item)


# --- ways to run them

Items = list[tuple[str, float, bool]]


async def by_map(computation: discoro.Computation, function: Callable[..., Any], items: Items) -> list[float]:
    """Use `starmap`."""
    async with computation.starmap(function, items) as results:
        return [value async for value in results]


async def by_run_results(computation: discoro.Computation, function: Callable[..., Any], items: Items) -> list[float]:
    """Use `run_results`, with one argument."""
    return await computation.run_results(async_item if function is async_work else plain_item, items)


async def by_nursery(computation: discoro.Computation, function: Callable[..., Any], items: Items) -> list[float]:
    """Use `run` of a nursery over the servers."""
    async with computation.open_nursery() as nursery:
        coros = [await nursery.run(function, *item) for item in items]
        return [await coro.result() for coro in coros]


async def by_run_result(computation: discoro.Computation, function: Callable[..., Any], items: Items) -> list[float]:
    """Use many calls of `run_result`, which begin in order."""
    taken = [0.0] * len(items)

    async def one(number: int) -> None:
        taken[number] = await computation.run_result(function, *items[number])

    async with trio.open_nursery() as nursery:
        for number in range(len(items)):
            nursery.start_soon(one, number)
            await trio.lowlevel.checkpoint()
    return taken


async def by_run(computation: discoro.Computation, function: Callable[..., Any], items: Items) -> list[float]:
    """Use `run` in a loop."""
    coros = [await computation.run(function, *item) for item in items]
    return [await coro.result() for coro in coros]


WAYS: dict[str, Callable[[discoro.Computation, Callable[..., Any], Items], Awaitable[list[float]]]] = {
    "map": by_map,
    "run_results": by_run_results,
    "nursery": by_nursery,
    "run_result": by_run_result,
    "run": by_run,
}


# --- the table


@frozen
class Cell:
    """One workload in one way."""

    way: str
    took: float
    """Seconds."""
    best: float
    """The ideal, in seconds."""

    @property
    def part(self) -> float:
        """What it took, as a part of the ideal."""
        return self.took / self.best

    @property
    def reached(self) -> bool:
        """Whether it reaches the mark."""
        return self.took <= MOST * self.best + SLACK


@frozen
class Setting:
    """Servers and jobs."""

    name: str
    servers: int
    asleep: bool
    """Whether jobs sleep in place of working, so that there may be more servers than processors."""
    plain: bool
    unit: float
    """Seconds of a short job."""
    slow: bool = False
    """Whether the servers are on two nodes, of which one has half the speed."""

    @property
    def function(self) -> Callable[..., Any]:
        """What is run."""
        return plain_work if self.plain else async_work

    @property
    def speeds(self) -> list[float]:
        """The speed of each server."""
        return [1.0] * (self.servers - 1) + [0.5 if self.slow else 1.0]

    def best(self, jobs: Sequence[Job], taken: Sequence[float]) -> float:
        """Return the ideal. A slow node's jobs report what they took there, so only their sizes count."""
        return ideal(jobs, [seconds for _, seconds in jobs] if self.slow else taken, self.speeds)


SETTINGS = (
    Setting("2 servers, async jobs that compute", 2, asleep=False, plain=False, unit=0.02),
    Setting("2 servers, plain jobs that compute", 2, asleep=False, plain=True, unit=0.02),
    Setting("8 servers, async jobs that block", 8, asleep=True, plain=False, unit=0.02),
    Setting("2 nodes, one at half speed, async jobs that compute", 2, asleep=False, plain=False, unit=0.02, slow=True),
)


@asynccontextmanager
async def scheduled(setting: Setting) -> AsyncIterator[discoro.Computation]:
    """Open a cluster with a computation."""
    functions = discoro.Computation([async_work, plain_work, async_item, plain_item, spin])
    if not setting.slow:
        async with discoro.open_cluster(servers=setting.servers), functions.schedule() as computation:
            yield computation
        return
    nodes = discoro.launch.Local(setting.servers, cpus=1)
    async with (
        discoro.open_scheduler(ip_addr="127.0.0.1", discover=False, launch=nodes) as scheduler,
        functions.schedule(scheduler, servers=setting.servers) as computation,
    ):
        with half_speed(_processes_of_a_node()):
            yield computation


def _processes_of_a_node() -> list[int]:
    for child in psutil.Process().children():
        family = [child, *child.children(recursive=True)]
        if any(process.name() == "discoro-server" for process in family):
            return [process.pid for process in family]
    message = "no node runs here"
    raise RuntimeError(message)


async def _measured(setting: Setting, way: str, jobs: list[Job], computation: discoro.Computation) -> Cell:
    items = [(kind, seconds, setting.asleep) for kind, seconds in jobs]
    began = trio.current_time()
    taken = await WAYS[way](computation, setting.function, items)
    return Cell(way, trio.current_time() - began, setting.best(jobs, taken))


def _of_peers(setting: Setting, ready: Mapping[Peer, Ready], sets: list[list[Job]]) -> list[list[Cell]]:
    """Run the sets by the other systems, which have no slow node; return the cells of each set."""
    cells: list[list[Cell]] = [[] for _ in sets]
    for peer, one in ready.items():
        try:
            found = sets_of_peer(peer, one.python, setting.servers, sets, asleep=setting.asleep, timeout=_LONGEST)
        except MeasurementError as error:
            print(f"  {peer.name}: {error}")
            continue
        for row, jobs, (took, *taken) in zip(cells, sets, found, strict=True):
            row.append(Cell(peer.name, took, setting.best(jobs, taken)))
    return cells


def _show(workload: str, cells: list[Cell]) -> None:
    shown = "  ".join(f"{cell.way} {cell.part:.2f}{'' if cell.reached else '!'}" for cell in cells)
    print(f"  {workload:22}{cells[0].best:6.2f} s  {shown}", flush=True)


async def _run(settings: Sequence[Setting], ways: Sequence[str], ready: Mapping[Peer, Ready]) -> bool:
    missed = 0
    for setting in settings:
        print(f"\n{setting.name}: parts of the ideal; '!' is beyond {MOST:g} of it and {SLACK * 1000:.0f} ms")
        if setting.slow and (reason := why_not()):
            print(f"  not measured: {reason}")
            continue
        sets = workloads(setting.servers, setting.unit)
        if setting.plain or setting.slow:
            del sets["half wait, half work"]
        others = {} if setting.slow else ready
        peers = await trio.to_thread.run_sync(_of_peers, setting, others, list(sets.values()))
        for (workload, jobs), of_peers in zip(sets.items(), peers, strict=True):
            first, warm = [], []
            for way in ways:
                async with scheduled(setting) as computation:
                    first.append(await _measured(setting, way, jobs, computation))
                    warm.append(await _measured(setting, way, jobs, computation))
            _show(workload, [*first, *of_peers])
            _show("  warm", warm)
            missed += sum(not cell.reached for cell in first + warm)
    print(f"\n{missed} cells miss the mark")
    return not missed


def run(*, quick: bool, peers: Sequence[str] | None, folder: Path) -> bool:
    """Print the table; tell whether all cells reach the mark.

    Args:
        quick: Whether to run less, and ProcessPoolExecutor alone beside it.
        peers: The modules of the other systems; None for all that have the sets.
        folder: Where their environments are kept.
    """
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} before")
    wanted = [peer for peer in PEERS if peer.has_function("uneven") and (peer.quick or not quick)]
    if peers is not None:
        wanted = [peer for peer in wanted if peer.package.rpartition(".")[2] in peers]
    found, missing = prepare(wanted, folder=folder)
    for name, reason in missing.items():
        print(f"{name} is not measured: {reason}")
    ready = {peer: found[peer.name] for peer in wanted if peer.name in found}
    settings = SETTINGS[2:3] if quick else SETTINGS
    return trio.run(_run, settings, ("map", "run") if quick else tuple(WAYS), ready)
