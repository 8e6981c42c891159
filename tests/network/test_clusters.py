"""Clusters of several hosts: found by broadcast, behind routers and NAT, over IPv6, encrypted, cut off and back."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from tests._network import cut, heal, open_network
from tests._sniffer import sniffing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests._network import Host, Lan, Network

pytestmark = [pytest.mark.network, pytest.mark.slow]

MARKER = "NOBODYMAYREADTHIS"
"""In the code, the arguments, the results and the secret."""

NODE = """
    import os, sys
    os.environ["DISCORO_SECRET"] = "NOBODYMAYREADTHIS"
    from discoro_trio._cli import run_node
    run_node(["-c", "1", "--min_pulse_interval", "1", *sys.argv[1:]])
"""

SCHEDULER = """
    import os, sys
    os.environ["DISCORO_SECRET"] = "NOBODYMAYREADTHIS"
    from discoro_trio._cli import run_discoro
    run_discoro(sys.argv[1:])
"""

CLIENT = """
    import json, os, sys, trio
    import discoro_trio as discoro

    count, scheduler, options = int(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])

    async def job(text, *, coro):
        return coro.location.addr, text + "NOBODYMAYREADTHIS"

    async def run(schedule):
        async with discoro.Computation([job]).schedule(schedule) as computation:
            with trio.fail_after(100):
                while len(await computation.servers()) < count:
                    await trio.sleep(0.05)
                coros = await computation.run_servers(job, "NOBODYMAYREADTHIS")
                found = [await coro.result() for coro in coros]
        assert all(text == 2 * "NOBODYMAYREADTHIS" for _, text in found)
        print(json.dumps(sorted(addr for addr, _ in found)))

    async def main():
        secret = "NOBODYMAYREADTHIS"
        if scheduler == "private":
            async with discoro.open_scheduler(secret=secret, **options):
                await run(None)
        else:
            async with discoro.open_endpoint(secret=secret, **{"ip_addr": "", **options}):
                await run(scheduler or None)

    trio.run(main)
"""


@pytest.fixture
def network() -> Iterator[Network]:
    with open_network() as opened:
        yield opened


@asynccontextmanager
async def unreadable(*lans: Lan) -> AsyncIterator[None]:
    """Listen on the wire of networks while the block runs; nothing of code, values or secret may be read there."""
    async with AsyncExitStack() as stack:
        sniffers = [await stack.enter_async_context(sniffing(lan, MARKER)) for lan in lans]
        yield
        for sniffer in sniffers:
            seen = await sniffer.stop()
            assert seen.bytes > 5_000
            assert not seen.marked


@asynccontextmanager
async def nodes_at(*hosts: Host, more: tuple[str, ...] = ()) -> AsyncIterator[None]:
    """Run a node at each host."""
    async with AsyncExitStack() as stack:
        for host in hosts:
            await stack.enter_async_context(host.running(NODE, "--name", host.name, *more))
        yield


async def used_by(client: Host, count: int, scheduler: str = "private", **options: object) -> list[str]:
    """Run a client until it has so many servers, and give the addresses of their nodes."""
    found: list[str] = json.loads(await client.run(CLIENT, str(count), scheduler, json.dumps(options)))
    return found


@pytest.mark.spec("S36", "S38")
async def test_three_hosts_in_one_network_find_each_other_by_broadcast(network: Network) -> None:
    client, *hosts = network.add_lan().add_hosts(3)
    async with nodes_at(*hosts):
        assert await used_by(client, 2) == sorted(host.address for host in hosts)


@pytest.mark.spec("S41")
async def test_a_client_finds_the_shared_scheduler_of_its_network(network: Network) -> None:
    client, middle, host = network.add_lan().add_hosts(3)
    async with nodes_at(host), middle.running(SCHEDULER):
        assert await used_by(client, 1, "") == [host.address]


@pytest.mark.spec("S38")
async def test_one_named_node_leads_to_all_of_a_remote_network(network: Network) -> None:
    here, there = network.add_lan(), network.add_lan()
    client, near = here.add_hosts(2)
    far = there.add_hosts(3)
    network.add_router(here, there)
    async with unreadable(here, there), nodes_at(near, *far):
        assert await used_by(client, 4, nodes=[far[0].address]) == sorted(host.address for host in (near, *far))


@pytest.mark.spec("S41", "S58")
async def test_a_scheduler_in_a_remote_network_is_reached_by_its_host(network: Network) -> None:
    here, there = network.add_lan(), network.add_lan()
    client = here.add_host()
    middle, host = there.add_hosts(2)
    network.add_router(here, there)
    async with nodes_at(host), middle.running(SCHEDULER):
        assert await used_by(client, 1, middle.address) == [host.address]


@pytest.mark.spec("S21")
async def test_a_node_behind_nat_is_used_at_its_outer_address(network: Network) -> None:
    inside, outside = network.add_lan("192.168.7.0/24"), network.add_lan()
    host, client = inside.add_host(), outside.add_host()
    router = network.add_router(inside, outside, nat=True)
    router.forward_to(host)
    async with unreadable(inside, outside), nodes_at(host, more=("--ext_ip_addr", router.outside)):
        assert await used_by(client, 1, nodes=[router.outside]) == [router.outside]


async def test_a_node_that_cannot_be_dialled_dials(network: Network) -> None:
    inside, outside = network.add_lan("192.168.7.0/24"), network.add_lan()
    host, client = inside.add_host(), outside.add_host()
    network.add_router(inside, outside, nat=True)
    async with nodes_at(host, more=("--peer", f"{client.address}:5000")):
        assert await used_by(client, 1, tcp_ports="5000") == [host.address]


async def test_clusters_work_over_ipv6_alone(network: Network) -> None:
    lan = network.add_lan()
    client, host = lan.add_hosts(2)
    for one in (client, host):
        one.ip("addr", "del", f"{one.address}/24", "dev", "eth0")
    async with unreadable(lan), nodes_at(host, more=("--ip_addr", host.address6)):
        assert await used_by(client, 1, ip_addr=client.address6) == [host.address6]


@pytest.mark.spec("B08")
async def test_nothing_of_a_session_can_be_read_on_the_wire(network: Network) -> None:
    lan = network.add_lan()
    client, middle, host = lan.add_hosts(3)
    async with unreadable(lan), nodes_at(host), middle.running(SCHEDULER):
        assert await used_by(client, 1, "") == [host.address]


async def test_what_is_not_encrypted_would_be_seen_on_the_wire(network: Network) -> None:
    lan = network.add_lan()
    host, other = lan.add_hosts(2)
    shout = "import socket, sys; socket.socket(type=socket.SOCK_DGRAM).sendto(sys.argv[2].encode(), (sys.argv[1], 9))"
    async with sniffing(lan, MARKER) as sniffer:
        await other.run(shout, host.address, MARKER)
        seen = await sniffer.stop()
    assert seen.marked


CUT_OFF = """
    import sys, time, trio
    import discoro_trio as discoro

    discoro.config.MinPulseInterval = 1.0

    async def job(seconds):
        await trio.sleep(seconds)
        return "done"

    async def main():
        async with discoro.open_scheduler(secret="NOBODYMAYREADTHIS", pulse_interval=1.0):
            computation = discoro.Computation([job], pulse_interval=1.0)
            async with computation.schedule():
                coro = await computation.run(job, 3600)
                print("running")
                await trio.to_thread.run_sync(sys.stdin.readline)
                start = time.monotonic()
                try:
                    with trio.fail_after(30):
                        await coro.result()
                except discoro.ServerLost:
                    print(f"lost {time.monotonic() - start}")
                await trio.to_thread.run_sync(sys.stdin.readline)
                with trio.fail_after(60):
                    print(await computation.run_result(job, 0))

    trio.run(main)
"""


@pytest.mark.fault("F10")
@pytest.mark.spec("S52")
async def test_a_host_that_vanishes_is_known_after_five_pulses_and_used_again_when_it_returns(network: Network) -> None:
    client, host = network.add_lan().add_hosts(2)
    async with nodes_at(host), client.running(CUT_OFF) as program:
        assert await program.line() == "running"
        cut(client, host)
        await program.say("it is cut off")
        word, seconds = (await program.line()).split()
        assert word == "lost"
        assert 3 < float(seconds) < 12
        heal(client, host)
        await program.say("it is back")
        assert await program.line() == "done"


@pytest.mark.fault("F09")
@pytest.mark.spec("S52")
async def test_a_client_and_a_node_that_are_cut_apart_know_it_and_find_together_again(network: Network) -> None:
    client, middle, host = network.add_lan().add_hosts(3)
    async with (
        nodes_at(host),
        middle.running(SCHEDULER, "--min_pulse_interval", "1", "--pulse_interval", "1"),
        client.running(CUT_APART) as program,
    ):
        assert await program.line() == "running"
        cut(client, host)
        await program.say("they are cut apart")
        word, seconds = (await program.line()).split()
        assert word == "lost"
        assert 3 < float(seconds) < 15
        heal(client, host)
        await program.say("they are back")
        assert await program.line() == "done"


CUT_APART = CUT_OFF.replace(
    'discoro.open_scheduler(secret="NOBODYMAYREADTHIS", pulse_interval=1.0)',
    'discoro.open_endpoint(secret="NOBODYMAYREADTHIS", ip_addr="")',
)


@pytest.mark.spec("S21", "S38")
async def test_two_networks_with_equal_addresses_are_told_apart_by_their_outer_ones(network: Network) -> None:
    outside = network.add_lan()
    client = outside.add_host()
    async with AsyncExitStack() as stack:
        outer = []
        for _ in range(2):
            inside = network.add_lan("192.168.7.0/24")
            host = inside.add_host()
            router = network.add_router(inside, outside, nat=True)
            router.forward_to(host)
            outer.append(router.outside)
            await stack.enter_async_context(nodes_at(host, more=("--ext_ip_addr", router.outside)))
        assert await used_by(client, 2, nodes=outer) == sorted(outer)


RETURNS = """
    import trio
    import discoro_trio as discoro

    async def main():
        async with discoro.open_scheduler(secret="NOBODYMAYREADTHIS"):
            async with discoro.Computation([]).schedule() as computation:
                known = []
                while True:
                    found = sorted(server.addr for server in await computation.servers())
                    if found != known:
                        known = found
                        print(",".join(known))
                    await trio.sleep(0.05)

    trio.run(main)
"""


@pytest.mark.spec("S36")
async def test_a_node_that_goes_and_returns_with_another_address_is_used_there(network: Network) -> None:
    client, host = network.add_lan().add_hosts(2)
    other = host.address.rpartition(".")[0] + ".77"
    async with client.running(RETURNS) as program:
        async with nodes_at(host):
            assert await program.line() == host.address
        assert await program.line() == ""
        host.ip("addr", "add", f"{other}/24", "brd", "+", "dev", "eth0")
        host.ip("addr", "del", f"{host.address}/24", "dev", "eth0")
        host.ip("addr", "replace", f"{other}/24", "brd", "+", "dev", "eth0")
        async with nodes_at(host):
            assert await program.line() == other
