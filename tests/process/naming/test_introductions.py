"""Processes that share no key reach each other through those that share one with each."""

from __future__ import annotations

from contextlib import ExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio

from discoro_trio import AuthenticationError, FileTransferError, ProtocolError
from discoro_trio._process import Coro, Process, del_file, locate, send_file
from discoro_trio._process.naming._introductions import Admit
from discoro_trio._wire import Credential

from ..computations import open_computation
from ..worlds import cut, elsewhere, open_process, open_processes, settle, spawn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from discoro_trio._link import Link


def echo(link: Link) -> Link:
    return link


async def hold_public(name: str, *, coro: Coro[Any]) -> Any:
    await coro.register(name, public=True)
    return await coro.receive()


async def send_to(name: str, message: object, *, coro: Coro[Any]) -> None:
    await (await locate(name)).deliver(message)


@asynccontextmanager
async def open_network() -> AsyncIterator[tuple[Process, Process, Process, Process]]:
    """Open a scheduler, a client with a server, and a program of somebody else."""
    async with open_computation(1) as (client, (server,)), open_processes(2) as (scheduler, program):
        with ExitStack() as stack:
            for process in (client, program):
                link = await process.endpoint.link_at(scheduler.endpoint.location)
                stack.enter_context(process.names.kept_at(partial(echo, link)))
            yield scheduler, client, server, program


@pytest.mark.spec("B16")
async def test_a_program_reaches_a_public_coroutine_of_a_server() -> None:
    async with open_network() as (_, _, server, program), trio.open_nursery() as nursery:
        owner = spawn(nursery, server, hold_public, "service")
        sender = spawn(nursery, program, send_to, "service", "from outside")
        with program.entered():
            await sender.result()
        with server.entered():
            assert await owner.result() == "from outside"


@pytest.mark.spec("B16")
async def test_a_server_reaches_a_public_coroutine_of_a_program_and_again_after_a_lost_link() -> None:
    async with open_network() as (_, _, server, program), trio.open_nursery() as nursery:
        for message in ("one", "two"):
            owner = spawn(nursery, program, hold_public, "service")
            sender = spawn(nursery, server, send_to, "service", message)
            with server.entered():
                await sender.result()
            with program.entered():
                assert await owner.result() == message
            cut(server, program)
            await settle()


async def test_a_server_reaches_a_public_coroutine_of_another_computation() -> None:
    other = Credential(b"M" * 16, b"m" * 32)
    async with (
        open_network() as (scheduler, _, server, program),
        open_process(credential=other) as stranger,
        trio.open_nursery() as nursery,
    ):
        program.endpoint.credentials[other.realm] = other
        stranger.names.client = program.id
        await program.endpoint.link_to(stranger.id, stranger.endpoint.location, other.realm)
        owner = spawn(nursery, server, hold_public, "service")
        sender = spawn(nursery, stranger, send_to, "service", "far away")
        with stranger.entered():
            await sender.result()
        with server.entered():
            assert await owner.result() == "far away"
        assert scheduler.id not in stranger.endpoint.links


async def test_nobody_is_introduced_to_whom_no_way_is_known() -> None:
    async with open_computation(1) as (_, (server,)), open_processes(1) as (program,):
        with server.entered():
            handle = elsewhere(spawn_idle_handle(server))
        with program.entered(), pytest.raises(AuthenticationError, match="knows no process that can introduce"):
            await handle.send(1)


def spawn_idle_handle(process: Process) -> Coro[Any]:
    local, _ = process.new_local("idle")
    return local.handle


async def test_only_the_client_and_those_with_the_secret_let_others_in() -> None:
    async with open_computation(2) as (_, (one, two)):
        link = await one.endpoint.link_to(two.id, two.endpoint.location, one.realm)
        with pytest.raises(AuthenticationError, match="can introduce others"):
            await link.request(Admit(b"r" * 16, b"k" * 32, by_job=False))
        assert b"r" * 16 not in two.endpoint.credentials


async def test_a_ticket_lets_nobody_start_coroutines_or_send_files() -> None:
    async with open_network() as (_, _, server, program), trio.open_nursery() as nursery:
        spawn(nursery, server, hold_public, "service")
        server.runner.open = True
        with program.entered():
            link = await program.link_to(await locate("service"))
        with pytest.raises(ProtocolError, match="no coroutines can be started"):
            await program.starts.host(link)
        with program.entered(), pytest.raises(FileTransferError, match="another computation"):
            await del_file(server.endpoint.location, "name")
        with program.entered(), pytest.raises(FileTransferError, match="another computation"):
            await send_file(server.endpoint.location, __file__)
        nursery.cancel_scope.cancel()


async def test_a_ticket_never_replaces_a_key() -> None:
    async with open_computation(1) as (client, (server,)):
        link = client.endpoint.links[server.id]
        for realm in (b"", server.realm):
            with pytest.raises(AuthenticationError, match="must not replace"):
                await link.request(Admit(realm, b"k" * 32, by_job=False))
