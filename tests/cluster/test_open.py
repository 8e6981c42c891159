"""Schedulers and nodes that are opened by themselves: how they find each other, and what their options do."""

from __future__ import annotations

import os
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.lowlevel
import trio.testing

import discoro_trio as discoro
from discoro_trio._cluster import _open
from discoro_trio._cluster.fork_server._client import ForkServer
from discoro_trio._cluster.node import _server_slot
from discoro_trio._cluster.node._leasing import Leasing
from discoro_trio._cluster.node._server_slot import ServerSlot
from discoro_trio._link import OptionError, current
from discoro_trio._process._current import process_var
from tests._ports import free_ports, free_tcp_port, free_udp_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from discoro_trio._cluster.fork_server._client import ServerProcess

LOCAL: dict[str, Any] = {"ip_addr": "127.0.0.1", "secret": "0" * 64}
"""On this machine only, under a secret of its own."""


def options() -> dict[str, Any]:
    """Give options under which nobody else is found."""
    return {**LOCAL, "udp_port": free_udp_port()}


@asynccontextmanager
async def apart(block: AbstractAsyncContextManager[Any]) -> AsyncIterator[Any]:
    """Keep a block open in a task of its own, as another program would; give what it yields."""
    leave = trio.Event()

    async def hold(task_status: trio.TaskStatus[Any]) -> None:
        for variable in (process_var, current):  # as in another program, nothing encloses this
            variable.set(None)
        async with block as opened:
            task_status.started(opened)
            await leave.wait()

    async with trio.open_nursery() as nursery:
        opened = await nursery.start(hold)
        yield opened
        leave.set()


@pytest.mark.spec("B20")
async def test_a_node_whose_block_is_left_ends_while_a_computation_runs_there() -> None:
    given = options()
    async with discoro.open_scheduler(**given):
        with pytest.RaisesGroup(discoro.ServerLost), trio.fail_after(45):
            async with (
                discoro.Computation([trio.sleep_forever]).schedule() as computation,
                apart(discoro.open_node(cpus=1, **given)),
            ):
                await computation.run(trio.sleep_forever)


async def where(*, coro: discoro.Coro[Any]) -> discoro.Location:
    await trio.lowlevel.checkpoint()
    return coro.location


async def used_by(scheduler: Any = None) -> discoro.Location:
    """Run one coroutine and say at which server."""
    with trio.fail_after(45):
        async with discoro.Computation([where]).schedule(scheduler) as computation:
            return await computation.run_result(where)


async def test_the_first_server_of_a_node_starts_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    fork, listens = ForkServer.fork, ServerSlot.listens

    async def forks(*args: Any, **kwargs: Any) -> ServerProcess:
        events.append("fork")
        return await fork(*args, **kwargs)

    def listening(slot: ServerSlot, location: discoro.Location) -> None:
        events.append("listens")
        listens(slot, location)

    monkeypatch.setattr(ForkServer, "fork", forks)
    monkeypatch.setattr(ServerSlot, "listens", listening)
    monkeypatch.setattr(_server_slot, "LONGEST_START", 60)
    with trio.fail_after(60):
        async with discoro.open_cluster(servers=3), discoro.Computation([where]).schedule() as computation:
            while len(await computation.servers()) < 3:
                await trio.testing.wait_all_tasks_blocked()
    assert events[:4] == ["fork", "listens", "fork", "fork"]


async def test_the_others_do_not_wait_for_a_first_server_that_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    fork, forks = ForkServer.fork, 0

    async def second(*args: Any, **kwargs: Any) -> ServerProcess:
        nonlocal forks
        forks += 1
        if forks == 1:
            await trio.sleep_forever()
        return await fork(*args, **kwargs)

    monkeypatch.setattr(ForkServer, "fork", second)
    monkeypatch.setattr(_server_slot, "LONGEST_START", 0.1)
    async with discoro.open_cluster(servers=2):
        await used_by()


@pytest.mark.spec("S35", "S36")
async def test_a_private_scheduler_finds_a_node_that_runs_already() -> None:
    common = options()
    async with apart(discoro.open_node(cpus=1, **common)), discoro.open_scheduler(**common):
        await used_by()


@pytest.mark.spec("S36")
async def test_a_node_that_comes_later_is_used_too() -> None:
    common = options()
    async with discoro.open_scheduler(**common), trio.open_nursery() as nursery:
        done = trio.Event()

        async def use() -> None:
            await used_by()
            done.set()

        nursery.start_soon(use)
        await trio.testing.wait_all_tasks_blocked(0.05)
        async with apart(discoro.open_node(cpus=1, **common)):
            await done.wait()


@pytest.mark.spec("S38")
@pytest.mark.parametrize("discover", [True, False])
async def test_a_scheduler_uses_a_node_by_its_address(discover: bool) -> None:  # noqa: FBT001 - a parameter
    async with (
        apart(discoro.open_node(cpus=1, discover=False, **options())) as node,
        discoro.open_scheduler(nodes=[str(node.location)], discover=discover, **options()),
    ):
        await used_by()


async def test_a_node_joins_a_scheduler_by_its_address() -> None:
    async with discoro.open_scheduler(discover=False, **options()) as scheduler:
        block = discoro.open_node(cpus=1, discover=False, nodes=[str(scheduler.location)], **options())
        async with apart(block):
            await used_by()


async def test_a_node_finds_the_scheduler_of_a_machine_that_is_named() -> None:
    common = options()
    async with discoro.open_scheduler(**common), apart(discoro.open_node(cpus=1, nodes=["localhost"], **common)):
        await used_by()


@pytest.mark.spec("S34", "S41", "S58")
@pytest.mark.parametrize("named", ["", "localhost", "location", "text"])
async def test_a_client_finds_a_shared_scheduler(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discoro.config, "MinPulseInterval", 0.05)  # after five of them it begins to give servers
    common = options()
    async with (
        apart(discoro.open_scheduler(shared=True, pulse_interval=0.05, **common)) as scheduler,
        apart(discoro.open_node(cpus=1, **common)),
        discoro.open_endpoint(**common),
    ):
        names = {"": None, "localhost": "localhost", "location": scheduler.location, "text": str(scheduler.location)}
        await used_by(names[named])


async def test_a_private_scheduler_is_not_found_by_other_clients() -> None:
    common = options()
    async with apart(discoro.open_scheduler(**common)), discoro.open_endpoint(**common):
        with pytest.raises(discoro.SchedulerNotFound, match="discoro"):
            async with discoro.Computation([where], timeout=0.6).schedule():
                pytest.fail("found one")


@pytest.mark.spec("S58")
async def test_a_scheduler_that_is_not_there_is_said_to_be_missing() -> None:
    async with discoro.open_endpoint(**options()):
        with pytest.raises(discoro.SchedulerNotFound):
            async with discoro.Computation([where]).schedule(f"127.0.0.1:{free_tcp_port()}"):
                pytest.fail("found one")


async def test_the_udp_port_in_the_address_of_a_scheduler_is_said_to_be_wrong() -> None:
    common = options()
    async with discoro.open_endpoint(**common):
        with pytest.raises(discoro.SchedulerNotFound, match="is the UDP port of discovery: leave it out"):
            async with discoro.Computation([where]).schedule(f"127.0.0.1:{common['udp_port']}"):
                pytest.fail("found one")


async def test_who_has_another_secret_is_not_found() -> None:
    common = options()
    async with (
        apart(discoro.open_scheduler(shared=True, **common)),
        discoro.open_endpoint(**{**common, "secret": "1" * 64}),
    ):
        with pytest.raises(discoro.SchedulerNotFound):
            async with discoro.Computation([where], timeout=0.6).schedule():
                pytest.fail("found one")


async def test_a_node_returns_to_a_scheduler_that_was_started_again() -> None:
    common = options()
    port = free_tcp_port()
    async with apart(discoro.open_node(cpus=1, discover=False, nodes=[f"127.0.0.1:{port}"], **common)):
        for _ in range(2):
            async with discoro.open_scheduler(discover=False, tcp_ports=[port], **common):
                await used_by()


async def test_servers_listen_at_the_ports_of_the_node() -> None:
    ports = free_ports(2)
    common = options()
    async with (
        apart(discoro.open_node(cpus=1, tcp_ports=ports, **common)) as node,
        discoro.open_scheduler(**common),
    ):
        assert node.location.port == ports[0]
        for _ in range(2):  # the second time it is another process
            assert (await used_by()).port == ports[1]


@pytest.mark.spec("S21")
async def test_peers_are_told_the_outer_address() -> None:
    async with discoro.open_endpoint(ext_ip_addr="203.0.113.7", **options()) as endpoint:
        assert endpoint.location.addr == "203.0.113.7"


@pytest.mark.spec("S20")
async def test_a_host_name_stands_for_its_address() -> None:
    async with discoro.open_endpoint(**{**options(), "ip_addr": "localhost"}) as endpoint:
        assert endpoint.location.addr in {"127.0.0.1", "::1"}


async def test_ipv6_addresses_do() -> None:
    async with discoro.open_cluster(1, ip_addr="::1") as scheduler:
        assert scheduler.location.addr == "::1"
        assert (await used_by()).addr == "::1"


@pytest.mark.spec("S18")
async def test_a_node_has_one_server_for_each_available_processor_by_default() -> None:
    there = len(os.sched_getaffinity(0))
    async with discoro.open_node(**options()) as node:
        with trio.fail_after(30):
            while len(node.servers) < there:  # noqa: ASYNC110 - a node has no event for that
                await trio.sleep(0.01)
        assert len(node.servers) == there


@pytest.mark.spec("S19")
@pytest.mark.parametrize("cpus", [10_000, -10_000])
async def test_more_servers_than_processors_are_refused(cpus: int) -> None:
    with pytest.raises(OptionError, match="processors"):
        async with discoro.open_node(cpus=cpus, **options()):
            pytest.fail("opened")


@pytest.mark.spec("S18", "S19")
@pytest.mark.parametrize(("cpus", "servers"), [(3, 3), (8, 8), (-3, 5), (-7, 1), (0, 8), (9, None), (-8, None)])
def test_servers_are_counted_or_processors_are_left_out(
    cpus: int, servers: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_open, "processors", lambda: 8)
    if servers is not None:
        assert _open.check_cpus(cpus) == servers
    else:
        with pytest.raises(OptionError, match=f"cpus: {cpus} is not possible: this process may use 8 processors"):
            _open.check_cpus(cpus)


@pytest.mark.spec("S19")
async def test_a_node_has_as_many_servers_as_it_was_told() -> None:
    async with discoro.open_node(cpus=1, **options()) as node:
        assert node.size == 1


@pytest.mark.fault("F24")
@pytest.mark.parametrize(
    ("wrong", "option"),
    [
        ({"ip_addr": "no-such-host.invalid"}, "ip_addr"),
        ({"ip_addr": "203.0.113.7"}, "ip_addr"),
        ({"udp_port": 70_000}, "udp_port"),
        ({"tcp_ports": [0]}, "tcp_ports"),
        ({"certfile": "/no/such/file"}, "certfile"),
        ({"secret": ""}, "secret"),
        ({"nodes": ["no-such-host.invalid"]}, "node"),
        ({"nodes": ["127.0.0.1"], "discover": False}, "node"),
    ],
)
async def test_an_option_that_cannot_work_is_named(wrong: dict[str, Any], option: str) -> None:
    with pytest.raises(OptionError) as caught:
        async with discoro.open_scheduler(**{**options(), **wrong}):
            pytest.fail("opened")
    assert caught.value.option == option


@pytest.mark.fault("F24")
async def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OptionError, match=f"tcp_ports: .*{port}"):
            async with discoro.open_scheduler(tcp_ports=[port], **options()):
                pytest.fail("opened")


@pytest.mark.spec("S24")
async def test_working_folders_are_made_below_dest_path(tmp_path: Path) -> None:
    place = tmp_path / "made" / "here"
    async with (
        discoro.open_cluster(1, dest_path=place, **LOCAL),
        discoro.Computation([os.getcwd]).schedule() as computation,
    ):
        assert (await computation.run_result(os.getcwd)).startswith(str(place))
    assert not list(place.iterdir())


async def test_options_of_an_endpoint_are_refused_inside_one() -> None:
    async with discoro.open_endpoint(**options()):
        with pytest.raises(RuntimeError, match=r"secret: .* open this block before it, .* an open_endpoint\(\) around"):
            async with discoro.open_scheduler(secret="1" * 64):
                pytest.fail("opened")


async def nothing() -> None:
    """Do nothing."""


async def test_a_lease_that_ends_while_its_node_closes_is_no_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    freed, quicker = Leasing._freed, []

    def closed_before(self: Leasing, *given: Any) -> None:
        self.close()
        quicker.append(self)
        freed(self, *given)

    monkeypatch.setattr(Leasing, "_freed", closed_before)
    with trio.fail_after(45):
        async with discoro.open_cluster(servers=1), discoro.Computation([nothing]).schedule() as computation:
            await computation.run_result(nothing)
    assert quicker
    assert not caplog.records  # an error there would be the answer to the client, who logs it


@pytest.mark.parametrize("discover", [False, True])
async def test_an_embedded_cluster_uses_nodes_that_it_is_given_or_discovers(discover: bool) -> None:  # noqa: FBT001 - as above
    common = options()
    async with apart(discoro.open_node(cpus=1, **common)) as node:
        nodes = [] if discover else [node.location]
        given = {**common, "udp_port": common["udp_port"] if discover else free_udp_port()}
        async with discoro.open_cluster(servers=1, nodes=nodes, discover=discover, **given), used_by_two():
            pass


@asynccontextmanager
async def used_by_two() -> AsyncIterator[None]:
    with trio.fail_after(45):
        async with discoro.Computation([where]).schedule() as computation:
            await computation.wait_for_servers(2)
            coros = await computation.run_servers(where)
            assert len({await coro.result() for coro in coros}) == 2
            yield


async def test_an_embedded_cluster_closes_what_is_idle_for_its_zombie_period() -> None:
    with trio.fail_after(45):
        async with (
            discoro.open_cluster(servers=1, zombie_period=0.2),
            discoro.Computation([where]).schedule() as computation,
            computation.subscribe() as events,
        ):
            await computation.run_result(where)
            async for event in events:
                if isinstance(event, discoro.DiscoroStatus) and event.status is discoro.Status.ServerClosed:
                    break


async def test_an_embedded_cluster_has_the_pulse_interval_that_it_is_given() -> None:
    async with (
        discoro.open_cluster(servers=1, pulse_interval=20),
        discoro.Computation([where]).schedule() as computation,
    ):
        assert computation._running().set_up.pulse_interval == 20


async def test_an_embedded_cluster_takes_no_larger_file_than_it_says(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(2048))
    async with (
        discoro.open_cluster(servers=1, max_file_size=2048, name="mine") as scheduler,
        discoro.Computation([where]).schedule() as computation,
    ):
        assert [row.name for row in (await scheduler.status()).nodes] == ["mine"], "an option of its endpoint"
        (place,) = await computation.servers()
        await discoro.send_file(place, file)
        file.write_bytes(bytes(2049))
        with pytest.raises(discoro.FileTransferError, match="max_file_size"):
            await discoro.send_file(place, file, overwrite=True)


async def test_a_node_takes_so_many_more_computations_and_no_other() -> None:
    common = options()
    async with apart(discoro.open_node(cpus=1, **common)) as node, discoro.open_scheduler(**common):
        node.rest(after=2)
        with trio.fail_after(45):
            await used_by()
            await used_by()
            await node.until_free()


async def test_a_monitor_gets_what_has_ended_since_it_looked() -> None:
    async with discoro.open_cluster(servers=1) as scheduler, discoro.Computation([where]).schedule() as computation:

        async def look(seen: int) -> tuple[int, int]:
            with trio.fail_after(45):
                while True:
                    _, recent = await scheduler.look(seen)
                    if recent.ended:
                        return recent.last, len(recent.ended)
                    await trio.sleep(0.01)

        await computation.run_result(where)
        last, count = await look(0)
        assert count == 1
        await computation.run_result(where)
        assert (await look(last))[1] == 1
        assert (await look(0))[1] == 2
