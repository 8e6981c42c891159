"""Links over a simulated network: whatever breaks, nothing is lost, doubled or forgotten, and every wait ends."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from discoro_trio._config import config
from discoro_trio._errors import DiscoroError
from discoro_trio._wire import Kind

from .network import SimulatedNetwork, SimulatedProcess, seed_trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from discoro_trio._link import Link
    from discoro_trio._wire import Frame

BOUND = 5.0
"""Seconds: five heartbeat intervals."""
SETTLED = 40.0
"""Seconds after the last fault by which everything is known to everybody: two bounds, and dials that time out."""


@pytest.fixture(autouse=True)
def short_pulses() -> Iterator[None]:
    before = config.MinPulseInterval, config.MsgTimeout
    config.MinPulseInterval, config.MsgTimeout = 1.0, 5.0
    yield
    config.MinPulseInterval, config.MsgTimeout = before


class World:
    """Some processes that send numbered frames to each other, and what became of them."""

    def __init__(self, rng: Random, nursery: trio.Nursery) -> None:
        self.rng = rng
        self.nursery = nursery
        self.network = SimulatedNetwork(rng)
        self.processes: list[SimulatedProcess] = []
        self.sent: dict[bytes, list[int]] = defaultdict(list)  # by the key of the link and the sender
        self.received: dict[bytes, list[int]] = defaultdict(list)
        self.links: set[Link] = set()
        self.waits = 0
        self.number = 0

    async def add(self, host: str, port: int | None = None) -> SimulatedProcess:
        process: SimulatedProcess = await self.nursery.start(self.network.run_process, host, port)
        process.endpoint.services.on_frame(Kind.MESSAGE, self._arrived)
        process.endpoint.services.links_made.append(self.links.add)
        self.processes.append(process)
        return process

    def living(self) -> list[SimulatedProcess]:
        return [process for process in self.processes if process.alive]

    def _arrived(self, link: Link, frame: Frame) -> None:
        self.received[name_of(link) + link.peer.process_id].append(frame.target)

    async def talk(self) -> None:
        """Open or use a link, and send."""
        here, there = self.rng.sample(self.living(), 2)
        place = self.rng.choice(self.processes).location if self.rng.random() < 0.1 else there.location
        self.waits += 1
        try:
            link = await here.endpoint.link_to(there.endpoint.id, place, b"")
            for _ in range(self.rng.randint(1, 5)):
                if link.lost or not here.alive:
                    break
                self.number += 1
                self.sent[name_of(link) + here.endpoint.id].append(self.number)
                size = self.rng.choice([1, 1000, 100_000])
                link.send(Kind.MESSAGE, self.number, bytes(size), keys=("order",))
                await trio.sleep(self.rng.choice([0, 0.01]))
        except DiscoroError:
            pass
        finally:
            self.waits -= 1

    async def fault(self, *, kills: bool, longest_cut: float) -> None:
        """Do one thing to the network or to a process."""
        one, other = self.rng.sample(self.living(), 2)
        hosts = one.location.addr, other.location.addr
        kind = self.rng.choice(["reset", "reset", "cut", "cut both", "kill" if kills else "reset"])
        ends = [end for end in one.ends if not (end.closed or end.broken)]
        if kind == "reset" and ends:
            self.nursery.start_soon(self.network.reset, self.rng.choice(ends))
        elif kind.startswith("cut"):
            ways = [hosts, hosts[::-1]] if kind == "cut both" else [hosts]
            for way in ways:
                self.network.cut(*way)
            await trio.sleep(self.rng.uniform(0.05, longest_cut))
            for way in ways:
                self.network.heal(*way)
        elif kind == "kill" and len(self.living()) > 2:
            one.kill()
            port = one.location.port if self.rng.random() < 0.5 else None
            await self.add(one.location.addr, port)

    # --- what must hold

    def check(self, *, lossless: bool) -> None:
        assert not self.waits, "somebody waits for a link for ever"
        for key, numbers in self.received.items():
            assert numbers == self.sent[key][: len(numbers)], "frames are missing, doubled, or out of order"
        for process in self.living():
            for link in process.endpoint.links.values():
                peers = [other for other in self.living() if other.endpoint.id == link.peer.process_id]
                assert peers, "a link leads to a process that has ended"
                back = peers[0].endpoint.links.get(process.endpoint.id)
                assert back is not None, "one end has a link, the other none"
                assert name_of(back) == name_of(link), "the two ends use different links"
                assert not link.broken, "a connection stays broken though nothing is in the way"
                key = name_of(link) + process.endpoint.id
                assert self.received[key] == self.sent[key], "a frame over a living link has not arrived"
        if lossless:
            # One whose first connection broke before the last message of the handshake came exists at one end alone.
            made = Counter(map(name_of, self.links))
            lost = [link for link in self.links if link.lost and made[name_of(link)] == 2]
            assert not lost, "a link is lost though both of its ends live"


def name_of(link: Link) -> bytes:
    """Give what both ends call a link."""
    assert link.name
    return link.name


async def simulate(seed: int, *, kills: bool, longest_cut: float) -> None:
    rng = Random(seed)
    async with trio.open_nursery() as nursery:
        world = World(rng, nursery)
        for number in range(rng.randint(2, 3)):
            await world.add(f"host{number}")
        for _ in range(rng.randint(5, 30)):
            await trio.sleep(rng.choice([0, 0.01, rng.uniform(0, 1)]))
            if rng.random() < 0.3:
                nursery.start_soon(partial(world.fault, kills=kills, longest_cut=longest_cut))
            else:
                nursery.start_soon(world.talk)
        await trio.sleep(10)
        world.network.heal_all()
        await trio.sleep(SETTLED)
        world.check(lossless=not kills and longest_cut < BOUND)
        nursery.cancel_scope.cancel()


def run(seed: int, /, simulation: Callable[..., Awaitable[None]] = simulate, **how: Any) -> None:
    seed_trio(seed)
    trio.run(partial(simulation, seed, **how), clock=trio.testing.MockClock(autojump_threshold=0))


async def cut_one_way(seed: int) -> None:
    rng = Random(seed)
    async with trio.open_nursery() as nursery:
        world = World(rng, nursery)
        ends: dict[Link, float] = {}
        for number in range(2):
            process = await world.add(f"host{number}")
            process.endpoint.services.links_lost.append(lambda link: ends.update({link: trio.current_time()}))
        here, there = (process.endpoint for process in world.processes)
        await here.link_to(there.id, there.location, b"")
        await trio.sleep(rng.uniform(0, 5))
        began = trio.current_time()
        world.network.cut(*rng.sample(["host0", "host1"], 2))
        if rng.random() < 0.5:
            nursery.start_soon(world.talk)
        await trio.sleep(30)
        assert len(ends) == 2
        assert max(ends.values()) - began <= BOUND + 2.5, (
            "five intervals, and one each for the heartbeat and for a dial"
        )
        nursery.cancel_scope.cancel()


@pytest.mark.fault("F09", "F35")
def test_both_ends_know_after_five_intervals_that_packets_get_through_in_one_direction_only() -> None:
    for seed in range(40):
        run(seed, cut_one_way)


SURVIVES: dict[str, Any] = {"kills": False, "longest_cut": 2.0}
AGREES: dict[str, Any] = {"kills": True, "longest_cut": 12.0}


@pytest.mark.fault("F35")
@pytest.mark.parametrize("seed", range(0, 80, 20))
@pytest.mark.parametrize("faults", [SURVIVES, AGREES], ids=["resets and short cuts", "long cuts, kills and restarts"])
def test_nothing_is_lost_doubled_or_forgotten_over_links(faults: dict[str, Any], seed: int) -> None:
    for one in range(seed, seed + 20):
        run(one, **faults)


@pytest.mark.fault("F35")
@pytest.mark.soak
def test_nothing_is_lost_doubled_or_forgotten_over_links_for_ten_minutes() -> None:
    began, seed = time.monotonic(), time.time_ns()
    while time.monotonic() < began + 600:
        seed += 1
        for faults in (SURVIVES, AGREES):
            try:
                run(seed, **faults)
            except BaseException as error:
                error.add_note(f"seed {seed}, {faults}")
                raise
