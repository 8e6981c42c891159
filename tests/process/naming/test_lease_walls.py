"""A job that knows all about a coroutine of another computation, but has not been let in, does not get to it."""

from __future__ import annotations

from contextlib import ExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import trio

from discoro_trio import AuthenticationError, DiscoroError, FileTransferError, PeerDisconnected, config
from discoro_trio._link import Trust
from discoro_trio._process import RCI, locate, open_channel, send_file
from discoro_trio._process.channels._open_channels import AwaitDelivery, AwaitSubscribers, Subscribe
from discoro_trio._process.execution._outcome_store import AskOutcome, Monitor, Terminate
from discoro_trio._process.naming import _introductions
from discoro_trio._process.naming._addresses import Address
from discoro_trio._process.naming._introductions import Admit, Introduce
from discoro_trio._process.naming._name_registry import CORO, Locate, Register
from discoro_trio._process.rpc._offered_functions import BeginCall
from discoro_trio._wire import Credential, Kind, PeerIdentity

from ..computations import open_computation
from ..worlds import elsewhere, open_process, settle, spawn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from discoro_trio._link import Endpoint, Link
    from discoro_trio._process import Coro, Process

OTHER = Credential(b"M" * 16, b"m" * 32)


async def adopt_both(near: Endpoint, far: Endpoint, nursery: trio.Nursery) -> None:
    """Join a node and a server as a fork does: by a socket that both have."""
    ours, theirs = trio.socket.socketpair()
    server = PeerIdentity.of(far.identity, far_realm(far))
    await near.adopt(trio.SocketStream(ours), server, nursery=nursery, trust=Trust.CHILD)
    await far.adopt(trio.SocketStream(theirs), PeerIdentity.of(near.identity), nursery=nursery)


def far_realm(endpoint: Endpoint) -> bytes:
    """Give the lease of a server."""
    return next(iter(endpoint.credentials))


def itself(link: Link) -> Link:
    return link


class World:
    """Two computations of two clients, with a server each, on one node and under one scheduler."""

    def __init__(self, node: Process, client: Process, server: Process, hostile: Process, its_client: Process) -> None:
        self.node = node
        self.client = client
        self.server = server
        self.hostile = hostile
        self.its_client = its_client


@asynccontextmanager
async def open_world() -> AsyncIterator[World]:
    with trio.fail_after(45), ExitStack() as stack:
        async with (
            open_computation(1) as (client, (server,)),
            open_process() as scheduler,
            open_process() as node,
            open_process() as its_client,
            open_process(credential=OTHER) as hostile,
            trio.open_nursery() as nursery,
        ):
            for process in (client, its_client):
                above = await process.endpoint.link_at(scheduler.endpoint.location)
                stack.enter_context(process.names.kept_at(partial(itself, above)))
            its_client.endpoint.credentials[OTHER.realm] = OTHER
            hostile.names.client = its_client.id
            await its_client.endpoint.link_to(hostile.id, hostile.endpoint.location, OTHER.realm)
            for one in (server, hostile):
                await adopt_both(node.endpoint, one.endpoint, nursery)
            yield World(node, client, server, hostile, its_client)
            for one in (server, hostile):
                node.endpoint.links[one.id].close("the test is over")
            nursery.cancel_scope.cancel()


async def wait_for_messages(*, coro: Coro[Any]) -> Any:
    return await coro.receive()


def introduce(coro: Coro[Any]) -> Introduce:
    place = coro.location
    return Introduce(coro.home, coro.realm, place.addr, place.port, 0, by_job=False)


@pytest.mark.fault("F14")
@pytest.mark.spec("B07")
async def test_a_job_with_the_whole_handle_of_another_computations_coroutine_does_not_reach_it() -> None:
    async with open_world() as world, trio.open_nursery() as nursery:
        for home in (world.server, world.client):
            handle = elsewhere(spawn(nursery, home, wait_for_messages))
            with world.hostile.entered(), pytest.raises(AuthenticationError):
                await handle.send("let me in")
            for through in (world.its_client, world.node):
                with pytest.raises(AuthenticationError):
                    await world.hostile.endpoint.links[through.id].request(introduce(handle))
            assert world.hostile.id not in home.endpoint.links
        nursery.cancel_scope.cancel()


@pytest.mark.fault("F14")
async def test_a_guessed_key_opens_no_server_and_no_client_of_another_computation() -> None:
    async with open_world() as world:
        for home in (world.server, world.client):
            for realm in (world.server.realm, world.client.realm, b"guess"):
                guessed = Credential(realm, b"guessed key of 32 bytes or more!")
                world.hostile.endpoint.credentials[realm] = guessed
                with pytest.raises((AuthenticationError, PeerDisconnected)):
                    await world.hostile.endpoint.link_to(home.id, home.endpoint.location, realm)
            with world.hostile.entered():
                with pytest.raises(AuthenticationError):
                    await locate("name", location=home.endpoint.location)
                with pytest.raises(FileTransferError, match="does not accept"):
                    await send_file(home.endpoint.location, __file__)
            assert world.hostile.id not in home.endpoint.links


async def be_public(name: str, *, coro: Coro[Any]) -> Any:
    await coro.register(name, public=True)
    return await coro.receive()


async def test_who_was_let_in_to_a_public_coroutine_asks_of_no_other_and_ends_none() -> None:
    async with open_world() as world, trio.open_nursery() as nursery:
        public = spawn(nursery, world.server, be_public, "service")
        private = spawn(nursery, world.server, wait_for_messages)
        with world.hostile.entered():
            found = await locate("service")
            link = await world.hostile.link_to(found)
            for coro in (public, private):
                link.send(Kind.CANCEL, coro.serial, b"by a stranger")
                with pytest.raises(AuthenticationError, match="of another computation"):
                    await link.request(Terminate(coro.home, coro.serial, coro.starter, 0.0))
            with pytest.raises(AuthenticationError, match="of another computation"):
                await link.request(AskOutcome(private.home, private.serial, private.starter, heard=True))
            with pytest.raises(AuthenticationError, match="of another computation"):
                await link.request(Monitor(private.home, private.serial, private.starter, Address.of(found)))
            with pytest.raises(AuthenticationError, match="of another computation"):
                await link.request(AskOutcome(world.client.id, 1, world.client.id, heard=True))
            outcome = spawn(nursery, world.hostile, found.result)
            await settle()
            await found.deliver("a message")
            assert await outcome.result() == "a message"
        assert private.serial in world.server.locals
        nursery.cancel_scope.cancel()


async def test_a_job_registers_nothing_that_is_not_of_its_own_process() -> None:
    async with open_world() as world, trio.open_nursery() as nursery:
        for home in (world.server, world.client):
            handle = spawn(nursery, home, wait_for_messages)
            for through in (world.its_client, world.node):
                request = Register(CORO, "name", Address.of(handle), public=True, scope=OTHER.realm)
                with pytest.raises(DiscoroError, match="for an object of another process"):
                    await world.hostile.endpoint.links[through.id].request(request)
        nursery.cancel_scope.cancel()


async def test_who_came_by_a_ticket_lets_nobody_else_in_though_it_says_that_it_is_the_client() -> None:
    async with open_world() as world, trio.open_nursery() as nursery:
        spawn(nursery, world.server, be_public, "service")
        with world.hostile.entered():
            link = await world.hostile.link_to(await locate("service"))
        here = world.server.endpoint.links[world.hostile.id]
        here.peer = msgspec.structs.replace(here.peer, process_id=world.client.id)
        with pytest.raises(AuthenticationError, match="can introduce others"):
            await link.request(Admit(b"r" * 16, b"k" * 32, by_job=False))
        nursery.cancel_scope.cancel()


async def test_a_job_lets_nobody_in_at_its_node_nor_at_its_client() -> None:
    async with open_world() as world:
        for through in (world.node, world.its_client):
            for by_job in (False, True):
                with pytest.raises(AuthenticationError, match="can introduce others"):
                    link = world.hostile.endpoint.links[through.id]
                    await link.request(Admit(b"r" * 16, b"k" * 32, by_job=by_job))
            assert b"r" * 16 not in through.endpoint.credentials


async def test_tickets_are_few_and_nothing_is_left_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_introductions, "MOST_OPEN", 3)
    async with open_world() as world, trio.open_nursery() as nursery:
        spawn(nursery, world.server, be_public, "service")
        introductions, endpoint = world.server.introductions, world.server.endpoint
        with world.hostile.entered():
            found = await locate("service")
            await world.hostile.link_to(found)
            through = world.hostile.endpoint.links[world.its_client.id]
            for _ in range(2):
                await through.request(introduce(found))
            with pytest.raises(AuthenticationError, match="3 introductions wait to be used"):
                await through.request(introduce(found))
        assert len(introductions._admitted) == len(endpoint.introductions) == 3
        monkeypatch.setattr(config, "MsgTimeout", 0.001)
        for realm in list(introductions._admitted):
            await introductions._expire(realm)
        assert endpoint.introductions == {endpoint.links[world.hostile.id].realm}
        endpoint.links[world.hostile.id].close("the test is over")
        await settle()
        assert not endpoint.introductions
        assert not introductions._admitted
        assert not world.hostile.endpoint.introductions
        nursery.cancel_scope.cancel()


async def test_who_was_let_in_to_a_public_coroutine_gets_no_channel_and_no_call_that_is_not_public() -> None:
    async with open_world() as world, trio.open_nursery() as nursery:
        spawn(nursery, world.server, be_public, "service")
        spawn(nursery, world.server, offer)
        await settle()
        (channel,) = world.server.open_channels.open
        (rci,) = world.server.offered_functions.offers
        with world.hostile.entered():
            found = await locate("service")
            link = await world.hostile.link_to(found)
        asked = [
            Subscribe(channel, Address.of(found), ends=False),
            AwaitSubscribers(channel, 1),
            AwaitDelivery(channel, bytes(16)),
            BeginCall(rci, b"", []),
        ]
        for question in asked:
            with pytest.raises(AuthenticationError, match="has not made it public"):
                await link.request(question)
        nursery.cancel_scope.cancel()


async def offer() -> None:
    async with open_channel("channel"), RCI(wait_for_ever).register():
        await trio.sleep_forever()


async def wait_for_ever() -> None:
    await trio.sleep_forever()


async def test_who_was_let_in_neither_finds_names_that_are_not_public_nor_plants_any() -> None:
    async with open_world() as world, trio.open_nursery() as nursery:
        spawn(nursery, world.server, be_public, "service")
        spawn(nursery, world.server, be_private, "inside")
        own = spawn(nursery, world.hostile, wait_for_messages)
        with world.hostile.entered():
            link = await world.hostile.link_to(await locate("service"))
        with trio.move_on_after(0.05) as waiting:
            await link.request(Locate(CORO, "inside", world.server.realm))
        assert waiting.cancelled_caught
        for public in (False, True):
            with pytest.raises(DiscoroError, match="cannot register names here"):
                await link.request(Register(CORO, "planted", Address.of(own), public, b""))
        nursery.cancel_scope.cancel()


async def be_private(name: str, *, coro: Coro[Any]) -> Any:
    await coro.register(name)
    return await coro.receive()
