"""A network that exists in one program, on a virtual clock: delay, resets, cuts in one direction, silence, kills.

Processes are the package's own endpoints. Between them there are no sockets: what one writes reaches the other after a
delay, unless the way is cut. A connection behaves as one of TCP does: what a cut holds back arrives after it, the
kernel of a host refuses where no process listens, and a reset may reach one end before the other.
"""

from __future__ import annotations

import errno
import os
import random
import socket
import struct
from collections import deque
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from discoro_trio._link._endpoint import Endpoint, make_identity
from discoro_trio._link._link import Link
from discoro_trio._link._services import Trust
from discoro_trio._values import Location
from discoro_trio._wire import Binding, Credential, Role

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from random import Random

    from discoro_trio._process import Process
    from discoro_trio._wire import Buffer, PeerIdentity

KEY = Credential(b"", b"k" * 32)
_RESET = "the connection was reset"
PROBE_SECONDS = 1.0
"""After so long the kernel of an idle end learns that the other end is gone."""


class _Socket:
    """What the package asks of the socket of a connection."""

    family = socket.AF_INET

    def __init__(self, end: End) -> None:
        self._end = end

    def getpeername(self) -> tuple[str, int]:
        return self._end.other.host, 1

    def getsockname(self) -> tuple[str, int]:
        return self._end.host, 1

    def fileno(self) -> int:
        return -1 if self._end.closed else 1

    def setsockopt(self, *_arguments: object) -> None:
        """Take any option."""

    def getsockopt(self, *_arguments: object) -> bytes:
        """Give a `tcp_info`, as far as it is read: what is in flight, and how long nothing has been received."""
        end = self._end
        silence = int(1000 * end.network.silence(end))
        return struct.pack("=3xB20xI28xI60xQ", 1, end.acknowledged < end.written, silence, end.acknowledged)


class End:
    """One end of a connection; a `Transport`."""

    other: End
    longest_part = None

    def __init__(self, network: SimulatedNetwork, host: str) -> None:
        self.network = network
        self.host = host
        self.socket = _Socket(self)
        self.closed = False
        self.broken = False
        self.arriving: deque[tuple[float, bytes]] = deque()
        self.written = 0
        self._latest = 0.0
        self._acknowledged = 0
        self._changed = trio.Event()
        network.ends[self] = None

    @property
    def acknowledged(self) -> int:
        """The written bytes that the other kernel has confirmed: both directions must be open."""
        if not any(self.network.is_cut(*way) for way in ((self.host, self.other.host), (self.other.host, self.host))):
            now = trio.current_time()
            self._acknowledged = self.written - sum(len(data) for due, data in self.other.arriving if due > now)
        return self._acknowledged

    def change(self) -> None:
        """Let its reader look again."""
        self._changed.set()
        self._changed = trio.Event()

    async def receive_into(self, memory: memoryview) -> int:
        """Wait for bytes that have arrived."""
        while True:
            if self.broken:
                raise trio.BrokenResourceError(_RESET)
            if self.closed:
                raise trio.ClosedResourceError
            due = None
            if not self.network.is_cut(self.other.host, self.host):
                if self.arriving:
                    due, data = self.arriving[0]
                    if due <= trio.current_time():
                        return self._take(memory, data)
                elif self.other.closed:
                    await trio.lowlevel.checkpoint()
                    return 0
            if due is None:
                await self._changed.wait()
            else:
                with trio.move_on_at(due):
                    await self._changed.wait()

    def _take(self, memory: memoryview, data: bytes) -> int:
        count = min(len(data), len(memory))
        memory[:count] = data[:count]
        due, _ = self.arriving.popleft()
        if count < len(data):
            self.arriving.appendleft((due, data[count:]))
        return count

    def write_now(self, buffers: list[Buffer]) -> list[Buffer]:
        """Write at once; errors are for the next `write`."""
        if self.closed or self.broken:
            return buffers
        data = b"".join(buffers)
        if data:
            first = self.network.first_packet(len(data))
            for packet in (data[:first], data[first:]):
                if packet:
                    self._latest = max(self._latest, trio.current_time() + self.network.delay())
                    self.other.arriving.append((self._latest, packet))
            self.written += len(data)
            if self.other.closed and not self.network.is_cut(self.host, self.other.host):
                self.broken = True
                self.change()
            self.other.change()
        return []

    async def write(self, buffers: Sequence[Buffer]) -> None:
        """Write; the kernel takes all of it."""
        await trio.lowlevel.checkpoint()
        if self.closed and not self.broken:
            raise trio.ClosedResourceError
        if self.write_now(list(buffers)):
            raise trio.BrokenResourceError(_RESET)

    async def aclose(self) -> None:
        """Close this end."""
        self.closed = True
        self.network.ends.pop(self, None)
        self.change()
        self.other.change()


class _Plain:
    """In place of TLS."""

    async def wrap_client(self, end: End) -> tuple[End, Binding]:
        return end, Binding()

    wrap_server = wrap_client


class _SimulatedEndpoint(Endpoint):
    network: SimulatedNetwork
    process: SimulatedProcess

    async def adopt(
        self, stream: Any, peer: PeerIdentity, *, nursery: trio.Nursery | None = None, trust: Trust = Trust.KIN
    ) -> Link:
        if not isinstance(stream, End):
            return await super().adopt(stream, peer, nursery=nursery, trust=trust)
        link = Link(stream, peer, self.services, trust)  # type: ignore[arg-type]
        self._register(link)
        await (nursery or self.nursery).start(link.run)
        return link

    async def _connect(self, location: Location) -> trio.SocketStream:
        return await self.network.connect(self.process, location)  # type: ignore[return-value]


class SimulatedProcess:
    """One process; `kill` ends it without a goodbye."""

    def __init__(
        self, network: SimulatedNetwork, host: str, port: int, nursery: trio.Nursery, process_id: bytes = b""
    ) -> None:
        self.network = network
        self.nursery = nursery
        self.location = Location(host, port)
        self.role = Role(0)
        self.inside: Process | None = None
        identity = make_identity(name=host, location=self.location, process_id=process_id or network.rng.randbytes(16))
        tls = _Plain()
        endpoint = _SimulatedEndpoint(
            identity=identity,
            location=self.location,
            bound=host,
            tls=tls,  # type: ignore[arg-type]
            nursery=nursery,
        )
        endpoint.network = network
        endpoint.process = self
        self.endpoint: Endpoint = endpoint
        self.endpoint.credentials[b""] = KEY
        self.ends: list[End] = []
        self.alive = True
        nursery.start_soon(self.endpoint.keepalive.run)

    def start_soon(self, function: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        """Start a task that inherits nothing from the process of the calling task."""
        Context().run(partial(self.nursery.start_soon, function, *arguments))

    def kill(self) -> None:
        """End it as SIGKILL does: its kernel closes everything."""
        self.alive = False
        del self.network.listening[self.location]
        for end in self.ends:
            end.broken = end.closed = True
        self.nursery.cancel_scope.cancel()
        self.network.change()


def connected_pair(network: SimulatedNetwork, host: str) -> tuple[End, End]:
    """Give both ends of a connection inside a host."""
    near, far = End(network, host), End(network, host)
    near.other, far.other = far, near
    return near, far


def seed_trio(seed: int) -> None:
    """Let tasks run in the same order whenever a program has this seed and PYTHONHASHSEED=0."""
    random.seed(seed)
    trio._core._run._r.seed(seed)
    trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]


class SimulatedNetwork:
    """Hosts by name, the ways between them, and who listens where."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.listening: dict[Location, SimulatedProcess] = {}
        self.ends: dict[End, None] = {}
        self._cut: dict[tuple[str, str], float] = {}
        self._port = 0
        self._number = 0

    async def run_process(
        self,
        host: str,
        port: int | None = None,
        *,
        process_id: bytes = b"",
        task_status: trio.TaskStatus[SimulatedProcess],
    ) -> None:
        """Run a process until it is killed."""
        self._port += 1
        async with trio.open_nursery() as nursery:
            process = SimulatedProcess(self, host, port or self._port, nursery, process_id)
            self.listening[process.location] = process
            task_status.started(process)
            await trio.sleep_forever()

    def fresh_number(self) -> int:
        """Give a number that no other has."""
        self._number += 1
        return self._number

    def change(self) -> None:
        """Let all readers look again."""
        for end in self.ends:
            end.change()

    def delay(self) -> float:
        """Give the seconds that the next bytes take."""
        return self.rng.choice([0.0, 0.001, 0.05, self.rng.uniform(0, 0.3)])

    def first_packet(self, size: int) -> int:
        """Give how many of some bytes travel together; the others follow."""
        return self.rng.randrange(1, size + 1) if self.rng.random() < 0.2 else size

    # --- faults

    def is_cut(self, source: str, target: str) -> bool:
        """Tell whether nothing passes in this direction."""
        return (source, target) in self._cut

    def cut(self, source: str, target: str) -> None:
        """Let nothing pass in one direction."""
        for process in self.listening.values():
            for end in process.ends:
                _ = end.acknowledged  # what is confirmed so far stays so
        self._cut.setdefault((source, target), trio.current_time())

    def heal(self, source: str, target: str) -> None:
        """Let everything pass, also what was held back."""
        self._cut.pop((source, target), None)
        self.change()

    def heal_all(self) -> None:
        """End all cuts."""
        self._cut.clear()
        self.change()

    def silence(self, end: End) -> float:
        """Give for how long nothing at all has reached the kernel at an end, which sends probes all the time."""
        since = self._cut.get((end.other.host, end.host))
        return 0.0 if since is None else trio.current_time() - since

    async def reset(self, end: End) -> None:
        """Reset a connection at one end; the other end learns it when it writes, or by a probe."""
        end.broken = True
        self.change()
        await trio.sleep(self.rng.uniform(0, PROBE_SECONDS))
        while self.is_cut(end.host, end.other.host):  # noqa: ASYNC110 - as the kernel does
            await trio.sleep(PROBE_SECONDS)
        end.other.broken = True
        self.change()

    # --- dials

    async def connect(self, caller: SimulatedProcess, location: Location) -> End:
        """Open a connection, as the kernels of both hosts do."""
        source = caller.location.addr
        await trio.sleep(self.delay())
        while self.is_cut(source, location.addr) or self.is_cut(location.addr, source):  # noqa: ASYNC110 - as it does
            await trio.sleep(0.5)
        process = self.listening.get(location)
        if process is None:
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        here, there = End(self, source), End(self, location.addr)
        here.other, there.other = there, here
        if not caller.alive:
            raise ConnectionAbortedError(errno.ECONNABORTED, os.strerror(errno.ECONNABORTED))
        process.ends.append(there)
        caller.ends.append(here)
        process.start_soon(process.endpoint.accept, there)
        return here
