"""Buffers of a process that a job of another process can fill: each has a bound, which the job cannot exceed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import pytest
import trio

from discoro_trio import DiscoroError
from discoro_trio._client import _output
from discoro_trio._process import RCI, open_channel, output
from discoro_trio._process.channels import _open_channels
from discoro_trio._process.channels._open_channels import AwaitSubscribers, Subscribe, mark
from discoro_trio._process.execution import _outcome_store
from discoro_trio._process.execution._outcome_store import Monitor
from discoro_trio._process.files import _transfers
from discoro_trio._process.files._transfers import BeginFile
from discoro_trio._process.messaging._forwarded import ForwardedMessage
from discoro_trio._process.naming import _introductions, _name_registry
from discoro_trio._process.naming._addresses import Address
from discoro_trio._process.naming._name_registry import CORO, Register, Unregister
from discoro_trio._process.rpc import _offered_functions
from discoro_trio._process.rpc._offered_functions import BeginCall
from discoro_trio._shipping import dumps
from discoro_trio._wire import Kind

from .computations import open_computation
from .worlds import elsewhere, settle, spawn

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path
    from types import ModuleType

    from discoro_trio._link import Link
    from discoro_trio._process import Channel, Coro, Process
    from discoro_trio._wire import Control

MOST = 5
SENT = 20


class World(NamedTuple):
    """A client, and a server of its computation whose job misbehaves."""

    client: Process
    display: _output.Display
    channel: Channel
    rci: RCI
    waits: Coro[Any]
    server: Process
    link: Link


def own(world: World, serial: int, realm: bytes = b"") -> Address:
    """Make up the address of a coroutine of the server."""
    place, home = world.server.endpoint.location, world.server.id
    return Address(home, serial, home, realm or world.server.realm, "made up", place.addr, place.port, 10)


async def request_all(world: World, made: Callable[[int], Control]) -> None:
    """Send requests all at once; those beyond the bound are refused."""
    refused: list[str] = []
    async with trio.open_nursery() as nursery:

        async def send(number: int) -> None:
            try:
                await world.link.request(made(number))
            except DiscoroError as error:
                refused.append(str(error))

        for number in range(SENT):
            nursery.start_soon(send, number)
    assert len(refused) == SENT - MOST
    assert all(f"{MOST} " in text for text in refused), refused[0]


async def register(world: World) -> None:
    await request_all(
        world, lambda number: Register(CORO, f"{number}", own(world, number), public=False, scope=world.server.realm)
    )


async def register_of_many_realms(world: World) -> None:
    for number in range(SENT):
        address = own(world, number, os.urandom(16))
        await world.link.request(Register(CORO, "name", address, public=False, scope=world.server.realm))
        world.link.notify(Unregister(CORO, "name", address, public=False))


async def subscribe(world: World) -> None:
    channel = serial_of(world.channel)
    await request_all(world, lambda number: Subscribe(channel, own(world, number), ends=False))


async def publish_and_never_ask(world: World) -> None:
    coro = elsewhere(world.channel)._inbox
    with world.server.entered():
        for number in range(SENT):
            route = world.server.mail.route(coro)
            await world.server.mail.send_packed(coro, route, mark(ForwardedMessage.of(number), os.urandom(16)))
    await settle()


async def observe(world: World) -> None:
    coro = world.waits
    await request_all(world, lambda number: Monitor(coro.home, coro.serial, coro.starter, own(world, number)))


async def call_and_never_ask(world: World) -> None:
    body, _ = dumps(((), {}))
    address = world.rci._address
    assert address is not None
    await request_all(world, lambda _: BeginCall(address.serial, body, []))


async def begin_files(world: World) -> None:
    await request_all(world, lambda number: BeginFile("", f"file {number}", 1 << 40, overwrite=False))


async def write_lines_that_never_end(world: World) -> None:
    body = msgspec.msgpack.encode(output.Written("job", b"no end"))
    for number in range(SENT):
        world.link.send(Kind.OUTPUT, number, body, output.STDOUT)
    await world.link.request(AwaitSubscribers(serial_of(world.channel), 0))  # all before it was handled then


class Kept(NamedTuple):
    """A buffer: how its number of entries is limited, how a job fills it, and what is in it."""

    module: ModuleType
    limit: str
    fill: Callable[[World], Awaitable[None]]
    count: Callable[[World], int]


BUFFERS = {
    "realms": Kept(_introductions, "MOST_HEARD", register_of_many_realms, lambda w: len(w.client.introductions._heard)),
    "names": Kept(_name_registry, "MOST_NAMES", register, lambda w: sum(map(len, w.client.names._guests.values()))),
    "deliveries": Kept(_open_channels, "MOST_DELIVERED", publish_and_never_ask, lambda w: len(channel_of(w)._done)),
    "subscribers": Kept(_open_channels, "MOST_SUBSCRIBERS", subscribe, lambda w: len(channel_of(w)._subscribers)),
    "observers": Kept(
        _outcome_store, "MOST_OBSERVERS", observe, lambda w: sum(w.client.outcome_store._observers.values())
    ),
    "calls": Kept(
        _offered_functions,
        "MOST_CALLS",
        call_and_never_ask,
        lambda w: sum(map(len, w.client.offered_functions._calls.values())),
    ),
    "files": Kept(_transfers, "MOST_INCOMING", begin_files, lambda w: sum(map(len, w.client.files._incoming.values()))),
    "lines": Kept(_output, "MOST_UNENDED", write_lines_that_never_end, lambda w: len(w.display._partial)),
}


def serial_of(channel: Channel) -> int:
    return channel._inbox.serial


def channel_of(world: World) -> _open_channels.OpenChannel:
    return world.client.open_channels.find(serial_of(world.channel))


async def wait(*, coro: Coro[Any]) -> None:
    await coro.receive()


async def nothing() -> None:
    pass


@pytest.mark.fault("F16")
async def test_a_job_fills_no_buffer_of_another_process_beyond_its_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for buffer in BUFFERS.values():
        monkeypatch.setattr(buffer.module, buffer.limit, MOST)
    async with open_computation(1) as (client, (server,)), trio.open_nursery() as nursery:
        waits = spawn(nursery, client, wait)
        link = server.endpoint.links[client.id]
        display = _output.Display.of(client.endpoint)
        display._servers[server.id] = server.endpoint.location
        client.files.folder = tmp_path
        with client.entered():
            async with open_channel("news") as channel, RCI(nothing).register() as rci:
                world = World(client, display, channel, rci, waits, server, link)
                counts = {}
                for name, buffer in BUFFERS.items():
                    await buffer.fill(world)
                    counts[name] = buffer.count(world)
        assert counts == dict.fromkeys(BUFFERS, MOST)
        nursery.cancel_scope.cancel()
    assert not client.outcome_store._observers
