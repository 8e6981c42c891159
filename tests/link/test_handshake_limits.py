from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from discoro_trio._config import config
from discoro_trio._errors import DiscoroError
from discoro_trio._link import Endpoint, Tls, serve_endpoint
from discoro_trio._link._handshake_limits import MOST, MOST_GREETED, MOST_OF_ADDRESS, SECONDS, HandshakeLimits
from discoro_trio._wire import Credential
from discoro_trio.testing._proxy import open_fault_proxy
from tests._deadlines import within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from discoro_trio._values import Location


class Crowd:
    """Connections that shake hands for ever."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.limits = HandshakeLimits()
        self.gone: list[str] = []
        self._nursery = nursery

    async def add(self, address: str, name: str = "", *, greeted: bool = False) -> None:
        await self._nursery.start(partial(self._shake_hands, address, name or address, greeted=greeted))

    async def _shake_hands(
        self,
        address: str,
        name: str,
        *,
        greeted: bool,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        with self.limits.admit(address) as scope:
            if greeted:
                self.limits.greeted(scope)
            task_status.started()
            await trio.Event().wait()
        self.gone.append(name)

    async def settled(self) -> list[str]:
        """Give those that were ended, once all of them are gone."""
        await trio.testing.wait_all_tasks_blocked()
        return self.gone


@pytest.mark.fault("F11")
async def test_of_too_many_equals_one_at_random_goes(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        crowd = Crowd(nursery)
        for number in range(MOST + 200):
            await crowd.add(f"10.{number // 250}.{number % 250}.1", str(number))
        gone = await crowd.settled()
        assert len(crowd.limits) == MOST
        assert len(gone) == 200
        assert gone != [str(number) for number in range(200)]  # neither the oldest nor the newest, in their order
        assert gone != [str(number) for number in range(MOST - 1, MOST + 199)]
        nursery.cancel_scope.cancel()


@pytest.mark.fault("F11")
async def test_of_too_many_from_one_address_one_of_that_address_goes(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        crowd = Crowd(nursery)
        await crowd.add("10.0.0.1", "node")
        for _ in range(MOST_OF_ADDRESS + 100):
            await crowd.add("10.0.0.9")
        assert await crowd.settled() == ["10.0.0.9"] * 100
        nursery.cancel_scope.cancel()


@pytest.mark.fault("F11")
@pytest.mark.parametrize(
    ("address", "counts_as_one"),
    [("2001:db8::{:x}", True), ("fe80::{:x}%eth0", True), ("2001:db8:0:{:x}::1", False), ("::ffff:10.0.0.{}", False)],
)
async def test_a_network_of_ipv6_counts_as_one_address(
    autojump_clock: trio.testing.MockClock, address: str, *, counts_as_one: bool
) -> None:
    async with trio.open_nursery() as nursery:
        crowd = Crowd(nursery)
        for number in range(MOST_OF_ADDRESS + 3):
            await crowd.add(address.format(number + 1))
        assert len(await crowd.settled()) == (3 if counts_as_one else 0)
        nursery.cancel_scope.cancel()


def hosts_of_one_network(count: int) -> Iterable[str]:
    return (f"10.0.0.{100 + number % 100}" for number in range(count))


def hosts_of_one_large_network(count: int) -> Iterable[str]:
    return (f"2001:db8:0:{number:x}::1" for number in range(count))


@pytest.mark.fault("F11")
@pytest.mark.parametrize("crowd_of", [hosts_of_one_network, hosts_of_one_large_network])
@pytest.mark.parametrize("node", ["10.0.0.1", "10.0.9.1"])
async def test_who_opens_many_pushes_out_his_own_and_not_a_node(
    autojump_clock: trio.testing.MockClock, crowd_of: Callable[[int], Iterable[str]], node: str
) -> None:
    async with trio.open_nursery() as nursery:
        crowd = Crowd(nursery)
        await crowd.add(node, "node")
        for address in crowd_of(1500):
            await crowd.add(address)
        assert "node" not in await crowd.settled()
        assert len(crowd.limits) == MOST
        nursery.cancel_scope.cancel()


@pytest.mark.fault("F11")
async def test_room_is_kept_for_those_with_a_valid_first_message(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        crowd = Crowd(nursery)
        await crowd.add("10.0.0.1", "node", greeted=True)
        for number in range(MOST + 100):
            await crowd.add(f"10.1.{number // 250}.{number % 250}")
        assert "node" not in await crowd.settled()
        before = len(crowd.gone)
        for number in range(MOST_GREETED + 10):
            await crowd.add(f"10.{number}.0.1", greeted=True)
        assert len(await crowd.settled()) == before + 1 + 11  # one for the first of them, which had no greeting yet
        assert len(crowd.limits) == MOST - 1 + MOST_GREETED  # the last newcomer has left its first place
        nursery.cancel_scope.cancel()


@pytest.mark.fault("F11")
@pytest.mark.parametrize("seconds", [10.0, 1.0])
async def test_a_handshake_takes_a_few_seconds_at_most(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    monkeypatch.setattr(config, "MsgTimeout", seconds)
    began = trio.current_time()
    with HandshakeLimits().admit("10.0.0.1") as scope:
        await trio.Event().wait()
    assert scope.cancelled_caught
    assert trio.current_time() - began == pytest.approx(min(seconds, SECONDS))
    assert SECONDS < 5


FLOOD = """
import itertools, selectors, socket, sys, time
port, rate = int(sys.argv[1]), float(sys.argv[2])
beginning = b"discoro_trio under TLS 1.3\\n"
held = []
began = time.monotonic()
for number in itertools.count():
    stranger = socket.socket()
    stranger.setblocking(False)
    stranger.bind((f"127.0.0.{100 + number % 100}", 0))
    stranger.connect_ex(("127.0.0.1", port))
    held.append(stranger)
    if number > 50:
        try:
            held[number - 50].send(beginning)
        except OSError:
            pass
    if number > 3000:
        held[number - 3000].close()
    if number == 1000:
        print("flooding", flush=True)
    time.sleep(max(0.0, began + number / rate - time.monotonic()))
"""


@pytest.mark.slow
@pytest.mark.fault("F11")
@pytest.mark.skipif(sys.platform != "linux", reason="connects from many addresses of the loopback interface")
async def test_a_slow_flood_from_many_addresses_delays_a_distant_node_by_less_than_two_seconds() -> None:
    credential = Credential(b"", bytes(32))
    async with serve_endpoint(tls=Tls(always=True)) as flooded, serve_endpoint(tls=Tls(always=True)) as node:
        flooded.credentials[b""] = node.credentials[b""] = credential
        async with open_fault_proxy(flooded.location) as way:
            way.delay = 0.02  # seconds each way
            flood = await trio.lowlevel.open_process(
                [sys.executable, "-c", FLOOD, str(flooded.location.port), "450"], stdout=subprocess.PIPE
            )
            assert flood.stdout is not None
            async with flood.stdout:
                try:
                    with trio.fail_after(60):
                        assert (await flood.stdout.receive_some()).startswith(b"flooding")
                        for _ in range(10):
                            await connect(node, flooded, way.location)
                finally:
                    flood.kill()
                    await flood.wait()


async def connect(node: Endpoint, flooded: Endpoint, way: Location) -> None:
    """Connect, and leave again."""
    link = None
    with within(2):
        while link is None:
            with suppress(DiscoroError):  # a node tries again
                link = await node.link_to(flooded.id, way, b"")
    link.close("that was it")
    await link.ended.wait()
