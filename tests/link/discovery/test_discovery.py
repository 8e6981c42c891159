from __future__ import annotations

import itertools
import os
import pickle
import secrets
import socket
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import TYPE_CHECKING

import psutil
import pytest
import trio

from discoro_trio._link._option_error import OptionError
from discoro_trio._link.discovery import _discovery
from discoro_trio._link.discovery._discovery import Discovery, pauses
from discoro_trio._link.discovery._interfaces import ANYBODY, GROUP, THIS_MACHINE, ways_out
from discoro_trio._values import Location
from discoro_trio._wire import Credential
from discoro_trio._wire._beacon import QUERY_SIZE, Answerer, Found, Role, Seeker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from contextlib import ExitStack
    from pathlib import Path

    from discoro_trio._link.discovery._interfaces import Control
    from discoro_trio._wire._beacon import Address

SECRET, OTHER_SECRET = Credential(b"", bytes(32)), Credential(b"", b"\1" * 32)


def presence(name: str, role: Role = Role.NODE, addr: str = "127.0.0.1") -> Found:
    return Found(secrets.token_bytes(16), role, name, Location(addr, 5000))


def discovery(port: int, credential: Credential = SECRET) -> Discovery:
    return Discovery(credential=credential, process_id=secrets.token_bytes(16), udp_port=port)


@asynccontextmanager
async def answering(*presences: Found, credential: Credential = SECRET) -> AsyncIterator[int]:
    """Let processes of this machine answer at one port, and give that."""
    port = 0
    async with trio.open_nursery() as nursery:
        for one in presences:
            port = await nursery.start(discovery(port, credential).answer, one)
        yield port
        nursery.cancel_scope.cancel()


async def first(looking: Discovery, wanted: Role, count: int, *, hosts: tuple[str, ...] = ()) -> list[Found]:
    """Seek until so many have answered."""
    found: list[Found] = []
    enough = trio.Event()

    def report(one: Found) -> None:
        found.append(one)
        if len(found) == count:
            enough.set()

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: looking.seek(wanted, report, hosts=hosts, everywhere=not hosts))
            await enough.wait()
            nursery.cancel_scope.cancel()
    return found


@pytest.mark.spec("S22", "S36")
async def test_all_processes_of_one_machine_are_found_at_one_port() -> None:
    nodes = [presence(f"node {number}") for number in range(3)]
    async with answering(*nodes, presence("scheduler", Role.SCHEDULER)) as port:
        found = await first(discovery(port), Role.NODE, 3)
    assert sorted(found, key=lambda one: one.name) == nodes


@pytest.mark.spec("S41")
async def test_a_client_finds_a_shared_scheduler_and_no_private_one() -> None:
    shared, private = presence("shared", Role.SCHEDULER), presence("private", Role.PRIVATE)
    async with answering(private, shared) as port:
        assert await first(discovery(port), Role.SCHEDULER, 1) == [shared]


@pytest.mark.spec("S38")
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_query_to_one_host_reaches_every_process_there(host: str) -> None:
    nodes = [presence("node 0", addr=""), presence("node 1", addr="")]
    async with answering_to_all(*nodes) as port:
        found = await first(discovery(port), Role.NODE, 2, hosts=(host,))
    assert {one.name for one in found} == {"node 0", "node 1"}
    assert {one.location for one in found} == {Location("127.0.0.1", 5000)}


@asynccontextmanager
async def answering_to_all(*presences: Found) -> AsyncIterator[int]:
    """Answer as processes do that take part in a network; nothing is sent on any, for nobody seeks there."""
    port = 0
    async with trio.open_nursery() as nursery:
        for one in presences:
            part = Discovery(credential=SECRET, process_id=one.process_id, udp_port=port, loopback=False)
            port = await nursery.start(part.answer, one)
        yield port
        nursery.cancel_scope.cancel()


async def test_a_process_that_arrives_late_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_discovery, "pauses", lambda _longest: itertools.repeat(0))
    early, late = presence("early"), presence("late")
    names: set[str] = set()
    both = trio.Event()

    def report(one: Found) -> None:
        names.add(one.name)
        if len(names) == 2:
            both.set()

    async with answering(early) as port, trio.open_nursery() as nursery:
        nursery.start_soon(discovery(port).seek, Role.NODE, report)
        await nursery.start(discovery(port).answer, late)
        with trio.fail_after(60):
            await both.wait()
        nursery.cancel_scope.cancel()


@pytest.mark.spec("B07")
async def test_a_cluster_with_another_secret_is_not_found_and_does_not_disturb() -> None:
    mine = presence("mine")
    async with answering(presence("foreign"), credential=OTHER_SECRET), answering(mine) as port:
        assert await first(discovery(port), Role.NODE, 1) == [mine]


async def test_find_gives_each_process_once_and_takes_no_longer_than_it_may(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_discovery, "pauses", lambda _longest: itertools.repeat(0.01))
    node = presence("node")
    async with answering(node) as port:
        with trio.fail_after(60):  # seconds
            assert await discovery(port).find(Role.NODE, 0.05) == [node]


async def test_an_unknown_host_does_not_keep_the_others_from_being_asked(caplog: pytest.LogCaptureFixture) -> None:
    node = presence("node", addr="")
    async with answering_to_all(node) as port:
        (found,) = await first(discovery(port), Role.NODE, 1, hosts=("no-such-host.invalid", "127.0.0.1"))
    assert found.process_id == node.process_id
    assert "discovery could not send a query to no-such-host.invalid" in caplog.text


@pytest.mark.fault("F24")
async def test_a_port_that_another_program_has_is_refused_by_its_option() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind((THIS_MACHINE, 0))
        port = other.getsockname()[1]
        with pytest.raises(OptionError, match=rf"udp_port: cannot listen at {port}: .* in use; choose another"):
            await discovery(port).answer(presence("node"))


@pytest.mark.fault("F13")
async def test_strangers_get_no_answer_and_their_pickles_are_not_opened(tmp_path: Path) -> None:
    bomb = pickle.dumps(Bomb(tmp_path / "made"))
    node = presence("node")
    with broadcaster() as stranger:
        async with answering(node) as port:
            for body in (b"", bomb, bomb.ljust(QUERY_SIZE, b"\0"), Seeker(OTHER_SECRET, b"s" * 16, Role.NODE).query()):
                stranger.sendto(body, (THIS_MACHINE, port))
            # They came before this query, so they have been handled when its answer is here.
            assert await first(discovery(port), Role.NODE, 1) == [node]
        with pytest.raises(BlockingIOError):
            stranger.recv(1)
    assert not (tmp_path / "made").exists()


def broadcaster() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    sock.settimeout(0)
    return sock


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


async def test_one_that_keeps_to_this_machine_hears_nothing_that_is_sent_to_its_addresses() -> None:
    async with answering(presence("node")) as port:
        bound = [entry.laddr for entry in psutil.Process().net_connections("udp") if entry.laddr[1] == port]
    assert bound == [(THIS_MACHINE, port)]


async def test_one_that_keeps_to_this_machine_answers_nobody_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    far, node = ("192.0.2.9", 4000), presence("node")
    query = Seeker(SECRET, b"s" * 16, Role.NODE).query(alone=True)
    relayed, _ = Answerer(SECRET, presence("other")).received_untrusted(query, far, 0.0, own_machine=False)
    sent: list[Address] = []
    send = _discovery._send

    async def note(sockets: _discovery._Sockets, body: bytes, to: Address, control: Sequence[Control] = ()) -> None:
        sent.append(to)
        if to != far:
            await send(sockets, body, to, control)

    monkeypatch.setattr(_discovery, "_send", note)
    async with answering(node) as port:
        with broadcaster() as another:
            another.sendto(relayed.body, (THIS_MACHINE, port))
        assert await first(discovery(port), Role.NODE, 1) == [node]
    assert sent
    assert far not in sent


def test_pauses_grow_to_half_a_minute_and_are_never_the_same_for_two() -> None:
    some = list(itertools.islice(pauses(), 12))
    bases = [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 30, 30, 30]
    assert all(0.75 * base <= pause <= 1.25 * base for pause, base in zip(some, bases, strict=True))
    assert some != list(itertools.islice(pauses(), 12))


def test_ways_out_are_those_of_networks_alone() -> None:
    for way in ways_out():
        assert not ip_address(way.address).is_loopback
        assert way.targets == [GROUP] if way.address.version == 6 else way.targets[-1] == ANYBODY


async def test_a_machine_without_ipv6_is_found_by_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    real = _discovery._open

    def four_only(
        stack: ExitStack, family: socket.AddressFamily, host: str, port: int = 0, *, only: bool = False
    ) -> trio.socket.SocketType:
        if family == socket.AF_INET6:
            raise _discovery._NoSuchProtocolError
        return real(stack, family, host, port, only=only)

    monkeypatch.setattr(_discovery, "_open", four_only)
    node = presence("node")
    async with answering_to_all(node) as port:
        assert await first(discovery(port), Role.NODE, 1, hosts=("127.0.0.1", "::1")) == [node]
