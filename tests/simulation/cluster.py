"""Whole clusters on the simulated network: the package's own schedulers, nodes, servers and clients on a virtual clock.

Only what needs a machine is replaced: a server is a further process of the simulation in place of a forked one, what
runs in a thread runs at once, and discovery looks into the list of processes.
"""

from __future__ import annotations

import secrets
from collections import Counter, defaultdict
from contextlib import ExitStack, asynccontextmanager, contextmanager
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any
from unittest import mock

import msgspec
import trio

import discoro_trio as discoro
from discoro_trio._client import _map, _membership, _session, _topology
from discoro_trio._client import _server as _leased_server
from discoro_trio._cluster import _messages as messages
from discoro_trio._cluster._presence import SCHEDULERS, Presence
from discoro_trio._cluster.fork_server._server_process import Exit
from discoro_trio._cluster.isolation._out_of_memory import OutOfMemory
from discoro_trio._cluster.isolation._users import Users
from discoro_trio._cluster.node import _node
from discoro_trio._cluster.node._node import Node
from discoro_trio._cluster.node._resource_usage import Vitals
from discoro_trio._cluster.node._server_spec import ServerSpec
from discoro_trio._cluster.scheduler._effects import TellTurn
from discoro_trio._cluster.scheduler._scheduler import Scheduler
from discoro_trio._cluster.server import _server
from discoro_trio._cluster.server._reports import Reporter
from discoro_trio._cluster.server._server import ServerProgram
from discoro_trio._link import Peers
from discoro_trio._link._endpoint import current
from discoro_trio._process import Process, _checkpoints, current_process
from discoro_trio._process.execution import _runner, _task_pool
from discoro_trio._values import Location
from discoro_trio._wire import Found, PeerIdentity, Role

from .network import KEY, SimulatedNetwork, SimulatedProcess, connected_pair

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from pathlib import Path
    from random import Random

SCHEDULER_PORT = 7000
LOST = (discoro.ServerLost, discoro.PeerDisconnected, discoro.MailboxClosed)


class SimulatedDiscovery:
    """Finds the processes that answer, wherever packets get through in both directions."""

    loopback = False
    foreign: Sequence[str] = ()
    credential = KEY

    def __init__(self, network: SimulatedNetwork, host: str) -> None:
        self._network = network
        self._host = host

    async def answer(self, _presence: object, *, task_status: trio.TaskStatus[None]) -> None:
        """Answer for ever: `seek` of the others looks into the list itself."""
        task_status.started()
        await trio.sleep_forever()

    async def seek(
        self,
        wanted: Role,
        found: Callable[[Found], None],
        *,
        hosts: Sequence[str] = (),
        everywhere: bool = True,
        longest: float = 1.0,
    ) -> None:
        """Report processes of some roles, again and again."""
        while True:
            for process in list(self._network.listening.values()):
                here, there = self._host, process.location.addr
                reached = not (self._network.is_cut(here, there) or self._network.is_cut(there, here))
                if process.role & wanted and reached and (everywhere or there in hosts):
                    found(Found(process.endpoint.id, process.role, there, process.location))
            await trio.sleep(min(longest, 1))


class SimulatedServerProcess:
    """What a node sees of a server that runs in this simulation."""

    pid = 1

    def __init__(self, spec: ServerSpec) -> None:
        self.spec = spec
        self.link: Any = None
        self.process: SimulatedProcess | None = None
        self._exit: Exit | None = None
        self._ended = trio.Event()

    def kill(self) -> None:
        """End it as SIGKILL does."""
        self.end(Exit(None, 9, ""))

    def end(self, how: Exit) -> None:
        """End it."""
        if self._exit is None:
            self._exit = how
            if self.process is not None:
                self.process.kill()
            self._ended.set()

    async def wait(self) -> Exit:
        """Wait for its end."""
        await self._ended.wait()
        assert self._exit is not None
        return self._exit

    def live_by(self, pulse_interval: float) -> None:
        """Do nothing: the node of a simulation never hangs."""


class SimulatedForkServer:
    """Starts the servers of one node."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    async def fork(self, told: bytes, **_options: object) -> SimulatedServerProcess:
        """Start a server."""
        spec = msgspec.msgpack.decode(told, type=ServerSpec)
        process = SimulatedServerProcess(spec)
        await self._machine.start_server(process)
        return process

    async def wait_ended(self) -> None:
        """Wait for ever."""
        await trio.sleep_forever()

    def end_now(self) -> None:
        """Do nothing."""


class Machine:
    """A host with a node, which can be killed and started again."""

    def __init__(self, cluster: SimulatedCluster, host: str, servers: int) -> None:
        self.cluster = cluster
        self.host = host
        self.size = servers
        self.servers: list[SimulatedServerProcess] = []
        self.node: Node | None = None
        self.process: SimulatedProcess | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run its node until that is killed."""
        process = self.process = await self.cluster.add(self.host, Role.NODE)
        self.cluster.machines[self.host] = self

        async def serve() -> None:
            with entered(process):
                node = Node(process.endpoint, process.nursery, self.size, self.cluster.folder, users=Users())
                self.node = node
                presence = Presence(process.endpoint, Role.NODE, SCHEDULERS, node=node)
                await process.nursery.start(node.keep_servers)
                await process.nursery.start(partial(presence.run, Peers((), ()), discover=True))

        process.start_soon(serve)
        task_status.started()

    @asynccontextmanager
    async def open_fork_server(self) -> AsyncIterator[SimulatedForkServer]:
        """Stand in for the fork server."""
        yield SimulatedForkServer(self)

    async def start_server(self, server: SimulatedServerProcess) -> None:
        """Start a server process and give the node its end of their connection."""
        spec = server.spec
        network = self.cluster.network
        process = server.process = await self.cluster.add(self.host, Role(0), process_id=spec.process_id)
        del process.endpoint.credentials[b""]  # a server never has the secret
        near, far = connected_pair(network, self.host)
        assert self.process is not None
        self.process.ends.append(near)
        process.ends.append(far)
        server.link = near
        self.servers = [one for one in self.servers if one.process is not None and one.process.alive] + [server]

        async def serve() -> None:
            here = process.endpoint
            with entered(process) as inside:
                program = ServerProgram(here, inside, process.nursery, -1)
                process.nursery.start_soon(program.run)
                node = PeerIdentity(spec.node_id, spec.node_name, Location(spec.node_addr, spec.node_port), b"")
                link = await here.adopt(far, node, nursery=process.nursery)  # type: ignore[arg-type]
                reporter = Reporter(inside)
                program.last_report = partial(reporter.send, link)
                process.nursery.start_soon(reporter.run, link)
                link.notify(messages.ServerUp(here.location.addr, here.location.port))
                await link.ended.wait()
                server.end(Exit(1, None, ""))

        process.start_soon(serve)

    def kill(self) -> None:
        """Kill the node and all its servers."""
        for server in self.servers:
            server.kill()
        if self.process is not None and self.process.alive:
            self.process.kill()


class SimulatedCluster:
    """Machines, a shared scheduler and clients, and what the clients' jobs saw."""

    def __init__(self, rng: Random, nursery: trio.Nursery, folder: Path) -> None:
        self.rng = rng
        self.nursery = nursery
        self.folder = folder
        self.network = SimulatedNetwork(rng)
        self.machines: dict[str, Machine] = {}
        self.scheduler: Scheduler | None = None
        self.scheduler_process: SimulatedProcess | None = None
        self.states: set[int] = set()
        """Digests of all states that this cluster has had."""
        self.problems: list[str] = []
        self.runs: Counter[object] = Counter()
        """How often the function of each job has run."""
        self.served: dict[bytes, set[str]] = defaultdict(set)
        """The computations that have run something at each server."""

    async def add(self, host: str, role: Role, port: int | None = None, process_id: bytes = b"") -> SimulatedProcess:
        """Start a process without a program."""
        started: list[SimulatedProcess] = []
        ready = trio.Event()

        async def run() -> None:
            async with trio.open_nursery() as nursery:
                started.append(
                    await nursery.start(partial(self.network.run_process, host, port, process_id=process_id))
                )
                ready.set()

        Context().run(self.nursery.start_soon, run)
        await ready.wait()
        (process,) = started
        process.role = role
        process.endpoint.discovery = SimulatedDiscovery(self.network, host)  # type: ignore[assignment]
        return process

    async def add_machine(self, host: str, servers: int) -> Machine:
        """Start a node."""
        machine = Machine(self, host, servers)
        await self.nursery.start(machine.run)
        return machine

    async def start_scheduler(self, host: str, port: int | None = None, *, settle: bool) -> None:
        """Start a shared scheduler."""
        process = self.scheduler_process = await self.add(host, Role.SCHEDULER, port)
        with entered(process):
            scheduler = self.scheduler = Scheduler(
                process.endpoint, process.nursery, shared=True, settle=settle, pulse_interval=1.0
            )
            watched = scheduler._handle

            def handle(event: Any) -> Any:
                decision = watched(event)
                scheduler._state.validate()
                for effect in decision.effects:
                    if isinstance(effect, TellTurn):
                        self._check_order(scheduler, effect.computation)
                if scheduler is self.scheduler:
                    self.note_state()
                return decision

            scheduler._handle = handle  # type: ignore[method-assign]
            presence = Presence(process.endpoint, Role.SCHEDULER, Role.NODE)
            await process.nursery.start(partial(presence.run, Peers((), ()), discover=True))

    def kill_scheduler(self) -> None:
        """Kill the scheduler."""
        if self.scheduler_process is not None and self.scheduler_process.alive:
            self.scheduler_process.kill()

    def note_state(self) -> None:
        """Count the state, if it is new."""
        assert self.scheduler is not None
        state = self.scheduler._state
        claims = tuple((claim.running, claim.detached, len(claim.nodes)) for claim in state.claims)
        nodes = tuple(sorted((node.own, node.foreign, len(node.leases)) for node in state.nodes.values()))
        held = tuple(
            (machine.process is not None and machine.process.alive, tuple(self._held(machine)))
            for machine in self.machines.values()
        )
        self.states.add(hash((claims, nodes, held, len(self.network._cut), len(self.network.listening))))

    def _check_order(self, scheduler: Scheduler, computation: bytes) -> None:
        """Note if a computation that wants all servers gets them before an earlier one that wants all of them."""
        claims = {claim.computation: claim for claim in scheduler._state.claims}
        first = claims[computation]
        for other in claims.values():
            everything = all(one.wishes is not None and one.wishes.everything for one in (first, other))
            if everything and not other.running and other.terms.queue_entry < first.terms.queue_entry:
                self.wrong(f"{first.terms.name} has its turn before {other.terms.name}")

    def _held(self, machine: Machine) -> list[tuple[int, bool]]:
        if machine.node is None:
            return []
        return sorted((len(one.slots), one.attended) for one in machine.node._leasing._holding.leases.values())

    def wrong(self, what: str) -> None:
        """Note a problem."""
        self.problems.append(f"at {trio.current_time():.2f}: {what}")


@contextmanager
def entered(process: SimulatedProcess) -> Iterator[Process]:
    """Let the current task belong to a process of the simulation."""
    inside = process.inside
    if inside is None:
        inside = process.inside = Process(process.endpoint)
    token = current.set(process.endpoint)
    try:
        with inside.entered():
            yield inside
    finally:
        current.reset(token)


async def _at_once(function: Callable[..., Any], *arguments: Any, **_options: Any) -> Any:
    await trio.lowlevel.checkpoint()
    return function(*arguments)


async def _never(*_arguments: object) -> None:
    await trio.sleep_forever()


async def _sample(_vitals: Vitals, _blocked: object) -> messages.Pulse:
    await trio.lowlevel.checkpoint()
    return messages.Pulse(1, 0.0, 1 << 33, 1 << 33, 1 << 33, 1 << 33, {}, {})


@contextmanager
def no_machine(rng: Random, cluster: Callable[[], SimulatedCluster]) -> Iterator[None]:
    """Replace what needs a machine, while the block lasts."""

    def open_fork_server(**_options: object) -> Any:
        machine = next(one for one in cluster().machines.values() if one.process is _process_of(cluster()))
        return machine.open_fork_server()

    with ExitStack() as stack:
        for target, name, value in (
            (trio.to_thread, "run_sync", _at_once),
            (secrets, "token_bytes", rng.randbytes),
            (_membership, "imported_packages", dict),
            (_node, "open_fork_server", open_fork_server),
            (_node, "replace_stopped", _never),
            (Vitals, "sample", _sample),
            (OutOfMemory, "run", _never),
            (OutOfMemory, "cause", lambda *_: ""),
            (_server, "run_exit_handlers", lambda: None),
            (_server, "serve_child_processes", lambda: None),
            (ServerProgram, "_install", _never_installs),
        ):
            stack.enter_context(mock.patch.object(target, name, value))
        for module in (_session, _topology, _leased_server, _map, _runner, _task_pool, _checkpoints):
            stack.enter_context(mock.patch.object(module, "perf_counter", trio.current_time))
        yield


async def _never_installs(_program: ServerProgram, _begin: object) -> None:
    await trio.lowlevel.checkpoint()


def _process_of(cluster: SimulatedCluster) -> SimulatedProcess:
    endpoint = current.get()
    return next(one for one in cluster.network.listening.values() if one.endpoint is endpoint)


class Job:
    """One job, which notes where it runs."""

    def __init__(self, cluster: SimulatedCluster, key: tuple[str, int], owner: str, seconds: float) -> None:
        self.cluster = cluster
        self.key = key
        self.owner = owner
        self.seconds = seconds
        self.number = len(JOBS)
        JOBS.append(self)


JOBS: list[Job] = []
"""All jobs of the present simulation, by number."""


async def work(number: int) -> int:
    """Note the run of a job, and take a while."""
    # The function travels by value: only an import gives it the list of this process.
    from tests.simulation.cluster import JOBS  # noqa: PLC0415

    job = JOBS[number]
    job.cluster.runs[job.key] += 1
    served = job.cluster.served[current_process().id]
    served.add(job.owner)
    if len(served) > 1:
        job.cluster.wrong(f"a server serves {served}")
    await trio.sleep(job.seconds)
    return number
