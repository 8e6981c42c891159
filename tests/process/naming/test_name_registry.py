from __future__ import annotations

from typing import Any

import pytest
import trio

from discoro_trio import DiscoroError, PeerDisconnected
from discoro_trio._errors import NameTaken
from discoro_trio._process import RCI, Coro, Process, locate, locate_channel, locate_rci, open_channel, open_coro
from discoro_trio._process.naming import _name_registry
from discoro_trio._process.naming._addresses import Address
from discoro_trio._process.naming._name_registry import Register
from discoro_trio._wire import Credential

from ..computations import open_computation
from ..worlds import cut, open_process, open_processes, settle, spawn


async def hold(name: str, *, coro: Coro[Any]) -> None:
    await coro.register(name)
    await trio.sleep_forever()


async def hold_public(name: str, *, coro: Coro[Any]) -> None:
    await coro.register(name, public=True)
    await trio.sleep_forever()


async def find(process: Process, name: str) -> Coro[Any]:
    with process.entered():
        return await locate(name)


@pytest.mark.spec("B16")
async def test_a_name_of_a_server_is_found_by_the_client_and_the_other_servers() -> None:
    async with open_computation(2) as (client, servers), trio.open_nursery() as nursery:
        owner = spawn(nursery, servers[0], hold, "worker")
        for process in (client, *servers):
            assert await find(process, "worker") == owner
        with servers[1].entered():
            await (await locate("worker")).deliver("a message")
        nursery.cancel_scope.cancel()


@pytest.mark.spec("B16")
async def test_a_name_of_the_client_is_found_by_its_servers() -> None:
    async with open_computation(1) as (client, servers):
        with client.entered():
            async with open_coro() as coro:
                coro.register("collector")
                assert await find(servers[0], "collector") == coro


async def test_locating_waits_until_the_name_appears() -> None:
    async with open_computation(2) as (client, servers), trio.open_nursery() as nursery:
        found: list[Coro[Any]] = []

        async def wait(process: Process) -> None:
            found.append(await find(process, "late"))

        async with trio.open_nursery() as waiting:
            for process in (client, *servers):
                waiting.start_soon(wait, process)
            await settle()
            assert not found
            owner = spawn(nursery, servers[0], hold, "late")
        assert found == [owner] * 3
        nursery.cancel_scope.cancel()


async def test_a_name_is_free_again_when_its_owner_has_ended() -> None:
    async with open_computation(2) as (client, servers), trio.open_nursery() as nursery:
        end = trio.Event()

        async def hold_a_while(*, coro: Coro[Any]) -> None:
            await coro.register("shared")
            await end.wait()

        first = spawn(nursery, servers[0], hold_a_while)
        assert await find(client, "shared") == first
        end.set()
        await settle()
        second = spawn(nursery, servers[1], hold, "shared")
        assert await find(client, "shared") == second
        nursery.cancel_scope.cancel()


async def test_names_of_a_lost_process_are_free() -> None:
    async with open_computation(2) as (client, servers), trio.open_nursery() as nursery:
        spawn(nursery, servers[0], hold, "shared")
        await find(client, "shared")
        cut(client, servers[0])
        await settle()
        second = spawn(nursery, servers[1], hold, "shared")
        assert await find(client, "shared") == second
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("public", [False, True])
async def test_a_second_owner_is_refused(*, public: bool) -> None:
    async with open_computation(2) as (client, servers), trio.open_nursery() as nursery:
        first = spawn(nursery, servers[0], hold_public if public else hold, "one")
        assert await find(client, "one") == first
        for process in (client, *servers):
            with process.entered():
                async with open_coro("another") as coro:
                    with pytest.raises(NameTaken, match="belongs to the coroutine"):
                        await coro.register("one", public=public)
        assert await find(client, "one") == first
        nursery.cancel_scope.cancel()


async def test_the_client_hears_of_a_taken_name_at_once() -> None:
    async with open_processes(1) as (client,):
        with client.entered():
            async with open_coro("a") as one, open_coro("b") as two:
                one.register("name")
                one.register("name")
                with pytest.raises(NameTaken, match="'name' belongs to the coroutine 'a'"):
                    two.register("name")


async def test_computations_do_not_see_each_others_names() -> None:
    async with open_computation(1) as (client, servers):
        other = Credential(b"M" * 16, b"m" * 32)
        client.endpoint.credentials[other.realm] = other
        async with open_process(credential=other) as stranger, trio.open_nursery() as nursery:
            stranger.names.client = client.id
            await client.endpoint.link_to(stranger.id, stranger.endpoint.location, other.realm)
            spawn(nursery, servers[0], hold, "mine")
            await find(client, "mine")
            with trio.move_on_after(0.05) as scope:
                await find(stranger, "mine")
            assert scope.cancelled_caught
            spawn(nursery, stranger, hold, "mine")
            await settle()
            assert (await find(stranger, "mine")).home == stranger.id
            nursery.cancel_scope.cancel()


@pytest.mark.spec("B16")
async def test_public_names_are_found_by_other_programs_through_the_scheduler() -> None:
    async with open_computation(1) as (client, servers), open_processes(2) as (scheduler, program):
        first = await client.endpoint.link_at(scheduler.endpoint.location)
        second = await program.endpoint.link_at(scheduler.endpoint.location)
        with (
            client.names.kept_at(lambda: first),
            program.names.kept_at(lambda: second),
        ):
            async with trio.open_nursery() as nursery:
                owner = spawn(nursery, servers[0], hold_public, "service")
                assert await find(program, "service") == owner
                assert await find(scheduler, "service") == owner
                cut(client, servers[0])
                await settle()
                with program.entered():
                    async with open_coro() as coro:
                        await coro.register("service", public=True)
                        assert await find(client, "service") == coro
                nursery.cancel_scope.cancel()


@pytest.mark.spec("B19")
async def test_public_names_are_registered_again_at_a_scheduler_that_was_started_again() -> None:
    async with open_computation(1) as (client, (server,)), open_processes(2) as (first, second):
        links = [await client.endpoint.link_at(first.endpoint.location)]
        with client.names.kept_at(lambda: links[0]):
            async with trio.open_nursery() as nursery:
                far = spawn(nursery, server, hold_public, "of a server")
                near = spawn(nursery, client, hold_public, "of the client")
                for name in ("of a server", "of the client"):
                    await find(first, name)
                links[0] = await client.endpoint.link_at(second.endpoint.location)
                client.names.rejoined()
                assert await find(second, "of a server") == far
                assert await find(second, "of the client") == near
                nursery.cancel_scope.cancel()
            await settle()
            with trio.move_on_after(0.05) as scope:
                await find(second, "of the client")
            assert scope.cancelled_caught, "it is free at the new one, too"


async def test_a_name_is_found_by_the_place_of_its_program() -> None:
    async with open_processes(2) as (one, two):
        with one.entered():
            async with open_coro() as coro:
                await coro.register("service", public=True)
                with two.entered():
                    assert await locate("service", location=one.endpoint.location) == coro


async def found_from(here: Process, there: Process, find: Any) -> dict[str, Any]:
    """Ask a process from another program for a name that is not public, then for one that is; return what is found."""
    found: dict[str, Any] = {}

    async def ask(name: str) -> None:
        found[name] = await find(name, location=there.endpoint.location)

    with here.entered():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, "private")
            await settle()  # it is asked for before the other one
            await ask("public")
            await settle()
            nursery.cancel_scope.cancel()
    return found


async def test_names_that_are_not_public_are_not_shown_to_other_programs() -> None:
    async with open_processes(2) as (one, two):
        with one.entered():
            async with open_coro() as coro:
                await coro.register("private")
                await coro.register("public", public=True)
                assert await found_from(two, one, locate) == {"public": coro}


async def test_only_a_living_coroutine_of_the_process_gets_a_name() -> None:
    async with open_processes(2) as (one, two):
        with two.entered():
            async with open_coro() as coro:
                with one.entered(), pytest.raises(RuntimeError, match="not a running coroutine of this process"):
                    coro.register("name")
            with pytest.raises(RuntimeError, match="not a running coroutine"):
                coro.register("name")


async def test_a_server_that_lost_its_client_says_so() -> None:
    async with open_computation(1) as (client, servers):
        cut(client, servers[0])
        await settle()
        with servers[0].entered():
            with pytest.raises(PeerDisconnected, match="the client of this computation"):
                await locate("anything")
            async with open_coro() as coro:
                with pytest.raises(PeerDisconnected, match="the client of this computation"):
                    coro.register("anything")


async def test_one_process_registers_so_many_names_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_name_registry, "MOST_NAMES", 2)
    async with open_computation(1) as (_, (server,)), trio.open_nursery() as nursery:
        owner = spawn(nursery, server, register_all, ["one", "two", "three"])
        with server.entered(), pytest.raises(DiscoroError, match="at most 2 names"):
            await owner.result()


async def register_all(names: list[str], *, coro: Coro[Any]) -> None:
    for name in names:
        await coro.register(name)


async def test_a_name_that_is_too_long_is_refused_here_and_elsewhere() -> None:
    longest = _name_registry.LONGEST_NAME
    async with open_computation(1) as (client, (server,)), trio.open_nursery() as nursery:
        with client.entered(), pytest.raises(ValueError, match=f"name has {longest + 1} characters"):
            await spawn(nursery, client, register_all, ["x" * (longest + 1)]).result()
        link = server.endpoint.links[client.id]
        place = server.endpoint.location
        address = Address(server.id, 1, server.id, server.realm, "one", place.addr, place.port, 1)
        with pytest.raises(PeerDisconnected):  # such a message is malformed
            await link.request(Register("coroutine", "x" * (longest + 1), address, public=False, scope=server.realm))


@pytest.mark.parametrize("kind", ["channel", "function"])
async def test_public_channels_and_functions_are_found_by_the_place_of_their_program(kind: str) -> None:
    opened: Any = (
        open_channel if kind == "channel" else lambda name, public: RCI(abs, name=name).register(public=public)
    )
    find: Any = locate_channel if kind == "channel" else locate_rci
    async with open_processes(2) as (one, two):
        with one.entered():
            async with opened("private", public=False), opened("public", public=True):
                found = await found_from(two, one, find)
                assert {name: what.name for name, what in found.items()} == {"public": "public"}
