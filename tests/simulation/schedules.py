"""Schedules of faults over simulated clusters, each decided by a seed, and what must hold in all of them.

Every job has one outcome, a job without retries runs once at most, no server serves two computations, the queue keeps
its order, every wait ends, and nothing is left of clients that have ended.

    PYTHONHASHSEED=0 python -m tests.simulation.schedules FIRST_SEED SECONDS
"""

from __future__ import annotations

import itertools
import logging
import sys
import tempfile
import time
import traceback
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import trio
import trio.testing

import discoro_trio as discoro
from discoro_trio._config import config
from discoro_trio._wire import Role

from .cluster import JOBS, LOST, SCHEDULER_PORT, Job, SimulatedCluster, entered, no_machine, work
from .network import seed_trio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .network import SimulatedProcess

LONGEST_ROUND = 400.0
"""Virtual seconds that a client may take, from its start to the end of its computation."""
SETTLED = 60.0
"""Virtual seconds after which nothing of ended clients may be left."""
STAYS = 8.0
"""Virtual seconds for which it must stay so: longer than five heartbeat intervals, and what follows them."""

FOUND = (3, 12, 107)
"""Seeds that have found something: a component that was installed twice at once, a lease that ended while it was
adopted."""


class Client:
    """A client with jobs of several kinds; it notes what is wrong with their outcomes."""

    def __init__(self, cluster: SimulatedCluster, number: int) -> None:
        self.cluster = cluster
        self.rng = Random(cluster.rng.random())
        self.name = f"client {number}"
        self.process: SimulatedProcess | None = None
        self.over = False
        self._jobs = 0

    @property
    def alive(self) -> bool:
        """Whether its process has not been killed."""
        return self.process is None or self.process.alive

    async def run(self) -> None:
        """Run one computation, on a process of its own."""
        self.process = await self.cluster.add(f"10.0.2.{self.cluster.network.fresh_number()}", Role(0))
        self.process.start_soon(self._run)

    async def _run(self) -> None:
        assert self.process is not None
        began = trio.current_time()
        options: dict[str, Any] = {
            "pulse_interval": 1.0,
            "grace_period": 1.0,
            "forward_output": False,
            "automatic": False,
        }
        if self.rng.random() < 0.5:
            options["node_allocations"] = [discoro.NodeAllocation(cpus=1)]
        with entered(self.process), trio.move_on_after(LONGEST_ROUND) as scope:
            try:
                computation = discoro.Computation([], name=self.name, **options)
                async with computation.schedule(), trio.open_nursery() as nursery:
                    for _ in range(self.rng.randint(1, 4)):
                        nursery.start_soon(
                            self._check, self.rng.choice([self._map, self._single, self._nursery]), computation
                        )
            except* discoro.SchedulerNotFound:
                pass
            except* LOST:
                pass
            except* discoro.DiscoroError as group:
                self._wrong(f"the computation raised {group.exceptions!r}")
        self.over = True
        if scope.cancelled_caught:
            self._wrong(f"it still waits after {trio.current_time() - began:.0f} s")

    def _wrong(self, what: str) -> None:
        if self.process is not None and self.process.alive:
            self.cluster.wrong(f"{self.name}: {what}")

    async def _check(self, kind: Callable[[discoro.Computation], Any], computation: discoro.Computation) -> None:
        try:
            await kind(computation)
        except* LOST:
            pass
        except* discoro.DiscoroError as group:
            self._wrong(f"{kind.__name__} raised {group.exceptions!r}")

    def _job(self) -> Job:
        self._jobs += 1
        return Job(self.cluster, (self.name, self._jobs), self.name, self.rng.choice([0.0, 0.1, 2.0, 8.0]))

    async def _single(self, computation: discoro.Computation) -> None:
        job = self._job()
        if self.rng.random() < 0.3:
            with trio.move_on_after(self.rng.uniform(0, 3)):
                await computation.run_result(work, job.number)
        elif await computation.run_result(work, job.number) != job.number:
            self._wrong("a wrong value")
        if self.cluster.runs[job.key] > 1:
            self._wrong("a job without retries ran twice")

    async def _map(self, computation: discoro.Computation) -> None:
        jobs = [self._job() for _ in range(self.rng.randint(1, 12))]
        async with computation.map(work, [job.number for job in jobs], retries=1000) as results:
            values = [value async for value in results]
        if values != [job.number for job in jobs]:
            self._wrong("wrong values of a map")

    async def _nursery(self, computation: discoro.Computation) -> None:
        jobs = [self._job() for _ in range(self.rng.randint(1, 5))]
        async with computation.open_nursery() as nursery:
            for job in jobs:
                nursery.start_soon(work, job.number)
        if not all(self.cluster.runs[job.key] == 1 for job in jobs):
            self._wrong("a job of a nursery did not run once")


class Faults:
    """What happens to a cluster."""

    def __init__(self, cluster: SimulatedCluster, clients: list[Client]) -> None:
        self.cluster = cluster
        self.clients = clients
        self.rng = cluster.rng

    async def one(self) -> None:
        """Do one thing."""
        await self.rng.choice(
            [
                self.kill_server,
                self.restart_node,
                self.restart_scheduler,
                self.cut,
                self.cut,
                self.reset,
                self.kill_client,
            ]
        )()

    async def kill_server(self) -> None:
        machine = self.rng.choice(list(self.cluster.machines.values()))
        if machine.servers:
            self.rng.choice(machine.servers).kill()

    async def restart_node(self) -> None:
        machine = self.rng.choice(list(self.cluster.machines.values()))
        machine.kill()
        await trio.sleep(self.rng.uniform(0, 5))
        if machine.process is not None and not machine.process.alive:
            await machine.run()

    async def restart_scheduler(self) -> None:
        process = self.cluster.scheduler_process
        if process is None or not process.alive:
            return
        self.cluster.kill_scheduler()
        await trio.sleep(self.rng.uniform(0, 5))
        port = SCHEDULER_PORT if self.rng.random() < 0.5 else None
        await self.cluster.start_scheduler(process.location.addr, port, settle=True)

    async def cut(self) -> None:
        hosts = sorted({process.location.addr for process in self.cluster.network.listening.values()})
        if len(hosts) < 2:
            return
        one, other = self.rng.sample(hosts, 2)
        ways = [(one, other), (other, one)] if self.rng.random() < 0.5 else [(one, other)]
        for way in ways:
            self.cluster.network.cut(*way)
        await trio.sleep(self.rng.choice([0.1, self.rng.uniform(0, 12)]))
        for way in ways:
            self.cluster.network.heal(*way)

    async def reset(self) -> None:
        process = self.rng.choice(list(self.cluster.network.listening.values()))
        ends = [end for end in process.ends if not (end.closed or end.broken) and end.host != end.other.host]
        if ends:
            await self.cluster.network.reset(self.rng.choice(ends))

    async def kill_client(self) -> None:
        client = self.rng.choice(self.clients)
        if client.process is not None and client.process.alive and self.rng.random() < 0.3:
            client.process.kill()


async def simulate(seed: int, folder: Path, holder: list[SimulatedCluster]) -> None:
    rng = Random(seed)
    async with trio.open_nursery() as nursery:
        cluster = SimulatedCluster(rng, nursery, folder)
        holder.append(cluster)
        await cluster.start_scheduler("10.0.0.1", SCHEDULER_PORT, settle=False)
        for number in range(rng.randint(1, 3)):
            await cluster.add_machine(f"10.0.1.{number}", rng.randint(1, 3))
        clients = [Client(cluster, number) for number in range(rng.randint(1, 4))]
        faults = Faults(cluster, clients)
        for client in clients:
            nursery.start_soon(client.run)
            await trio.sleep(rng.choice([0, rng.uniform(0, 3)]))
        async with trio.open_nursery() as at_work:
            for _ in range(rng.randint(0, 12)):
                await trio.sleep(rng.uniform(0, 4))
                at_work.start_soon(faults.one)
        cluster.network.heal_all()
        with trio.move_on_after(2 * LONGEST_ROUND) as scope:
            while not all(client.over or not client.alive for client in clients):  # noqa: ASYNC110 - kills are no event
                await trio.sleep(1)
        if scope.cancelled_caught:
            cluster.wrong("a client does not end")
        await until_nothing_is_left(cluster)
        nursery.cancel_scope.cancel()


async def until_nothing_is_left(cluster: SimulatedCluster) -> None:
    """Wait until nothing is left, and stays so; note what is left after the longest time."""
    longest = trio.current_time() + SETTLED
    since = trio.current_time()
    while (left := list(what_is_left(cluster))) or trio.current_time() < since + STAYS:
        if left:
            since = trio.current_time()
        if trio.current_time() >= longest:
            for what in left or ["something is left again and again"]:
                cluster.wrong(what)
            return
        await trio.sleep(0.5)


def what_is_left(cluster: SimulatedCluster) -> Iterator[str]:
    """Give what of ended clients is left."""
    assert cluster.scheduler is not None
    claims = cluster.scheduler._state.claims
    if claims:
        yield f"the scheduler still has {[claim.computation for claim in claims]}"
    for machine in cluster.machines.values():
        assert machine.node is not None
        holding = machine.node._leasing._holding
        if holding.leases:
            yield f"the node at {machine.host} still has leases"
        up = [slot for slot in machine.node._slots if slot.server is not None and slot.server.up.is_set()]
        if len(up) != machine.size:
            yield f"the node at {machine.host} has {len(up)} servers of {machine.size}"


def run(seed: int) -> SimulatedCluster:
    """Run one seed."""
    holder: list[SimulatedCluster] = []
    rng = Random(f"tokens of {seed}")
    seed_trio(seed)
    with tempfile.TemporaryDirectory() as folder, no_machine(rng, lambda: holder[0]):
        clock = trio.testing.MockClock(autojump_threshold=0)
        trio.run(partial(simulate, seed, Path(folder), holder), clock=clock)
    JOBS.clear()
    return holder[0]


def main(first: int, seconds: float) -> int:
    """Run seeds for so many seconds, after those that have found something. Return the exit status."""
    logging.getLogger("discoro_trio").addHandler(logging.NullHandler())
    logging.getLogger("discoro_trio").propagate = False
    config.MinPulseInterval, config.MsgTimeout = 1.0, 5.0
    began = time.monotonic()
    states: set[int] = set()
    seeds = itertools.chain(FOUND, itertools.count(first))
    for count, seed in enumerate(seeds):  # noqa: B007 - also used after the loop
        if time.monotonic() > began + seconds:
            break
        try:
            cluster = run(seed)
        except Exception:  # noqa: BLE001 - whatever it is, it is reported with its seed
            sys.stdout.write(f"seed {seed}:\n{traceback.format_exc()}\n")
            return 1
        if cluster.problems:
            sys.stdout.write(f"seed {seed}: {cluster.problems}\n")
            return 1
        states |= cluster.states
    sys.stdout.write(f"{count} schedules, {len(states)} distinct states\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), float(sys.argv[2])))
