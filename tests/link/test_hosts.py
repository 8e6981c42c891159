"""Discovery, TLS and the handshake between hosts: what one machine alone cannot show."""

from __future__ import annotations

import os
import pickle
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from tests._network import open_network
from tests._sniffer import sniffing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests._network import Host, Namespace, Network, Program

pytestmark = [pytest.mark.network, pytest.mark.slow]

SECRET, OTHER_SECRET = "11" * 32, "22" * 32
PORT = "51350"


@pytest.fixture
def network() -> Iterator[Network]:
    with open_network() as opened:
        yield opened


ANSWER = """
    import secrets, sys, trio
    from discoro_trio._values import Location
    from discoro_trio._link.discovery._discovery import Discovery
    from discoro_trio._link.secret._secret_file import load_secret
    from discoro_trio._wire._beacon import Found, Role

    name, secret, addr, loopback = sys.argv[1:]

    async def main():
        me = Found(secrets.token_bytes(16), Role.NODE, name, Location(addr, 5000))
        part = Discovery(credential=load_secret(secret), process_id=me.process_id, loopback=loopback == "loopback")
        async with trio.open_nursery() as nursery:
            print(await nursery.start(part.answer, me))

    trio.run(main)
"""

FIND = """
    import secrets, sys, trio
    from discoro_trio._link.discovery._discovery import Discovery
    from discoro_trio._link.secret._secret_file import load_secret
    from discoro_trio._wire._beacon import Role

    secret, count, loopback, *hosts = sys.argv[1:]

    async def main():
        part = Discovery(
            credential=load_secret(secret), process_id=secrets.token_bytes(16), loopback=loopback == "loopback"
        )
        found = {}
        async with trio.open_nursery() as nursery:
            def report(one):
                found[one.name] = str(one.location)
                if len(found) == int(count):
                    nursery.cancel_scope.cancel()
            nursery.cancel_scope.deadline = trio.current_time() + (0.5 if count == "0" else 10)
            await part.seek(Role.NODE, report, hosts=hosts, everywhere=not hosts)
        print(*(f"{name}={found[name]}" for name in sorted(found)))

    trio.run(main)
"""


@asynccontextmanager
async def answering(
    *hosts: Host, secret: str = SECRET, addr: str = "", reach: str = "network"
) -> AsyncIterator[list[Program]]:
    """Let a node answer at each host; they are named a, b, c and so on."""
    async with AsyncExitStack() as stack:
        programs = []
        for name, host in zip("abcdef", hosts, strict=False):
            program = await stack.enter_async_context(host.running(ANSWER, name, secret, addr, reach))
            assert await program.line() == PORT
            programs.append(program)
        yield programs


async def find(seeker: Host, count: int, *hosts: str, secret: str = SECRET, reach: str = "network") -> list[str]:
    """Seek until so many nodes are found, or for half a second if none shall be."""
    return (await seeker.run(FIND, secret, str(count), reach, *hosts)).split()


@pytest.mark.spec("S36", "S38", "S41")
async def test_the_hosts_of_one_network_are_found_by_broadcast(network: Network) -> None:
    seeker, *others = network.add_lan().add_hosts(3)
    async with answering(*others):
        assert await find(seeker, 2) == [f"a={others[0].address}:5000", f"b={others[1].address}:5000"]


@pytest.mark.spec("S36", "S41")
async def test_a_node_on_the_seekers_own_host_is_found_by_its_address_on_the_network(network: Network) -> None:
    one, two = network.add_lan().add_hosts(2)
    async with answering(one, two):
        assert await find(one, 2) == [f"a={one.address}:5000", f"b={two.address}:5000"]


@pytest.mark.spec("S36")
async def test_hosts_without_ipv4_are_found_by_multicast(network: Network) -> None:
    hosts = network.add_lan().add_hosts(2)
    for host in hosts:
        host.ip("-4", "addr", "flush", "dev", "eth0")
    async with answering(hosts[1]):
        assert await find(hosts[0], 1) == [f"a=[{hosts[1].address6}]:5000"]


@pytest.mark.spec("S36")
async def test_hosts_whose_only_addresses_are_of_the_link_are_found_with_the_link(network: Network) -> None:
    hosts = network.add_lan().add_hosts(2)
    for host in hosts:
        host.ip("addr", "flush", "dev", "eth0", "scope", "global")
    async with answering(hosts[1]):
        (found,) = await find(hosts[0], 1)
    assert found.startswith("a=[fe80::")
    assert "%" in found


@pytest.mark.spec("S38")
async def test_a_host_of_another_network_is_found_when_it_is_named(network: Network) -> None:
    left, right = network.add_lan(), network.add_lan()
    network.add_router(left, right)
    seeker, named, unnamed = left.add_host(), right.add_host(), right.add_host()
    async with answering(named, unnamed):
        assert await find(seeker, 0) == []
        assert await find(seeker, 1, named.address) == [f"a={named.address}:5000"]
        assert await find(seeker, 1, named.address6) == [f"a=[{named.address6}]:5000"]


@pytest.mark.spec("S21", "S38")
async def test_a_host_behind_nat_says_the_address_that_it_was_given_for_outside(network: Network) -> None:
    home, world = network.add_lan("192.168.7.0/24"), network.add_lan()
    router = network.add_router(home, world, nat=True)
    inside, seeker = home.add_host(), world.add_host()
    router.forward_to(inside)
    async with answering(inside, addr=router.outside):
        assert await find(seeker, 1, router.outside) == [f"a={router.outside}:5000"]


@pytest.mark.spec("S22")
async def test_who_keeps_to_its_own_machine_is_neither_found_nor_heard_on_the_network(network: Network) -> None:
    lan = network.add_lan()
    one, two = lan.add_hosts(2)
    async with sniffing(lan, "nothing") as sniffer, answering(one, addr="127.0.0.1", reach="loopback"):
        assert await find(two, 0) == []
        assert await find(two, 0, one.address) == []
        assert await find(one, 1, reach="loopback") == ["a=127.0.0.1:5000"]
        seen = await sniffer.stop()
    assert seen.udp_from(two.address)
    assert not seen.udp_from(one.address)


@pytest.mark.spec("B07")
@pytest.mark.fault("F13")
async def test_a_stranger_on_the_network_is_told_nothing(network: Network, tmp_path: Path) -> None:
    lan = network.add_lan()
    node, stranger = lan.add_hosts(2)
    bomb = pickle.dumps(_Bomb(str(tmp_path / "made"))).hex()
    async with sniffing(lan, "nothing") as sniffer, answering(node):
        assert await stranger.run(SHOUT, node.address, PORT, bomb) == "no answer\n"
        assert await find(stranger, 0, secret=OTHER_SECRET) == []
        assert await find(stranger, 0, node.address, secret=OTHER_SECRET) == []
        assert await find(stranger, 1) == [f"a={node.address}:5000"], "the node is still there"
        seen = await sniffer.stop()
    assert not (tmp_path / "made").exists()
    assert seen.udp_from(node.address) == 1


SHOUT = """
    import socket, sys
    address, port, bomb = sys.argv[1], int(sys.argv[2]), bytes.fromhex(sys.argv[3])
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    sock.settimeout(0.3)
    for body in (b"", b"x", bomb, bomb.ljust(768, b"\\0"), b"\\xff" * 65000):
        for target in (address, "255.255.255.255"):
            try:
                sock.sendto(body, (target, port))
            except OSError:
                pass  # too long for a broadcast, or no route to everybody
    try:
        print(sock.recv(2048))
    except TimeoutError:
        print("no answer")
"""


class _Bomb:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (self.path,)


# --- what passes on the network


ENDS = """
    import secrets, sys, trio
    from discoro_trio._errors import DiscoroError
    from discoro_trio._values import Location
    from discoro_trio._link._handshake_io import greet, welcome
    from discoro_trio._link.secret._secret_file import load_secret
    from discoro_trio._link.tls._tls import Tls
    from discoro_trio._link._transport import transport_over
    from discoro_trio._wire import Binding, Identity

    role, secret, tls, address, marker = sys.argv[1:]
    credential = load_secret(secret)
    me = Identity(secrets.token_bytes(16), sys.version_info[:2], role, Location("10.0.0.1", 4000))

    class Plain:
        async def wrap_client(self, stream):
            return transport_over(stream), Binding()

        wrap_server = wrap_client

    async def never(peer):
        return False

    ways = Tls() if tls == "tls" else Plain()

    async def receive(transport):
        memory = memoryview(bytearray(100_000))
        count = await transport.receive_into(memory)
        if not count:
            raise trio.BrokenResourceError
        return bytes(memory[:count])

    async def serve(stream):
        transport, binding = await ways.wrap_server(stream)
        try:
            greeted = await welcome(transport, me, {b"": credential}.get, never, binding)
        except DiscoroError as error:
            print("refused:", error)
        else:
            rest = greeted.rest
            while len(rest) < 1000 * len(marker):
                rest += await receive(transport)
            await transport.write([rest])
            print("served", greeted.peer.name, len(rest))

    async def dial():
        transport, binding = await ways.wrap_client(await trio.open_tcp_stream(address, 4000))
        greeted = await greet(transport, me, credential, None, binding)
        await transport.write([1000 * marker.encode()])
        rest = greeted.rest
        while len(rest) < 1000 * len(marker):
            rest += await receive(transport)
        print("there and back", greeted.peer.name, rest == 1000 * marker.encode())

    async def main():
        if role == "server":
            async with trio.open_nursery() as nursery:
                listeners = await nursery.start(trio.serve_tcp, serve, 4000)
                print("listening")
        else:
            try:
                await dial()
            except DiscoroError as error:
                print("refused:", error)

    trio.run(main)
"""

MIDDLE = """
    import sys, trio
    from discoro_trio._link.tls._tls import Tls

    async def pump(source, sink):
        memory = memoryview(bytearray(100_000))
        try:
            while count := await source.receive_into(memory):
                await sink.write([memory[:count]])
        except trio.BrokenResourceError:
            pass
        await sink.aclose()

    async def relay(near):
        near, _ = await Tls().wrap_server(near)
        far, _ = await Tls().wrap_client(await trio.open_tcp_stream(sys.argv[1], 4000))
        print("between")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pump, near, far)
            nursery.start_soon(pump, far, near)

    async def main():
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_tcp, relay, 4000)
            print("listening")

    trio.run(main)
"""

MARKER = "the-text-that-nobody-else-may-read"


@asynccontextmanager
async def ends_at(host: Namespace, tls: str = "tls") -> AsyncIterator[Program]:
    async with host.running(ENDS, "server", SECRET, tls, "", MARKER) as program:
        assert await program.line() == "listening"
        yield program


@pytest.mark.spec("B08")
@pytest.mark.parametrize("tls", ["tls", "plain"])
async def test_under_tls_nothing_of_what_is_said_can_be_read_on_the_way(network: Network, tls: str) -> None:
    lan = network.add_lan()
    client, server = lan.add_hosts(2)
    async with sniffing(lan, MARKER) as sniffer, ends_at(server, tls) as program:
        assert await client.run(ENDS, "client", SECRET, tls, server.address, MARKER) == "there and back server True\n"
        assert await program.line() == f"served client {1000 * len(MARKER)}"
        seen = await sniffer.stop()
    assert seen.bytes > 2000 * len(MARKER), "it saw both ways"
    assert bool(seen.marked) == (tls == "plain"), "it can read what is not encrypted"


@pytest.mark.spec("B08")
async def test_tls_works_over_ipv6(network: Network) -> None:
    client, server = network.add_lan().add_hosts(2)
    async with ends_at(server):
        assert (
            await client.run(ENDS, "client", SECRET, "tls", server.address6, MARKER) == "there and back server True\n"
        )


@pytest.mark.spec("B08")
async def test_a_host_that_dials_its_own_address_on_the_network_is_encrypted_at_both_ends(network: Network) -> None:
    host = network.add_lan().add_host()
    async with ends_at(host):
        assert await host.run(ENDS, "client", SECRET, "tls", host.address, MARKER) == "there and back server True\n"
        assert await host.run(ENDS, "client", SECRET, "tls", "127.0.0.1", MARKER) == "there and back server True\n"


@pytest.mark.spec("B07")
async def test_another_secret_is_refused_under_tls(network: Network) -> None:
    client, server = network.add_lan().add_hosts(2)
    async with ends_at(server) as program:
        refusal = await client.run(ENDS, "client", OTHER_SECRET, "tls", server.address, "x")
        assert "the peer does not accept the cluster's secret (fingerprint" in refusal
        assert "did not prove that it knows" in await program.line()


@pytest.mark.spec("B08")
@pytest.mark.fault("F14")
async def test_a_handshake_relayed_by_a_host_in_between_is_refused(network: Network) -> None:
    client, middle, server = network.add_lan().add_hosts(3)
    async with ends_at(server) as program, middle.running(MIDDLE, server.address) as relay:
        assert await relay.line() == "listening"
        refusal = await client.run(ENDS, "client", SECRET, "tls", middle.address, "x")
        assert refusal.startswith("refused: the peer does not accept")
        assert await relay.line() == "between"
        assert (await program.line()).startswith("refused: a peer did not prove")


# --- whole endpoints


SERVE = """
    import sys, trio
    import discoro_trio as discoro

    async def main():
        address, secret = sys.argv[1:]
        async with discoro.open_endpoint(ip_addr=address, tcp_ports=5000, name="server", secret=secret) as here:
            here.services.links_made.append(lambda link: print("link from", link.peer.name))
            print("listening at", here.location)
            await trio.sleep_forever()

    trio.run(main)
"""

JOIN = """
    import sys, time, trio
    import discoro_trio as discoro

    async def main():
        async with discoro.open_endpoint(ip_addr="", name="client", secret=sys.argv[2]) as here:
            began = time.monotonic()
            try:
                link = await here.link_at(discoro.Location(sys.argv[1], 5000))
            except discoro.DiscoroError as error:
                print(type(error).__name__, error)
            else:
                print(link.peer.name, time.monotonic() - began)

    trio.run(main)
"""


@asynccontextmanager
async def endpoint_at(host: Host, ip_addr: str = "") -> AsyncIterator[Program]:
    async with host.running(SERVE, ip_addr, SECRET) as program:
        assert await program.line() == f"listening at {host.address}:5000"
        yield program


@pytest.mark.spec("B07", "B08", "S20")
@pytest.mark.parametrize("everywhere", [True, False])
async def test_endpoints_of_two_hosts_are_linked_under_tls(network: Network, everywhere: bool) -> None:  # noqa: FBT001
    lan = network.add_lan()
    client, server = lan.add_hosts(2)
    # Names are said in the handshake; who could read there would see them.
    async with sniffing(lan, "server") as sniffer, endpoint_at(server, "" if everywhere else server.address) as program:
        assert (await client.run(JOIN, server.address, SECRET)).startswith("server ")
        assert await program.line() == "link from client"
        refusal = await client.run(JOIN, server.address, OTHER_SECRET)
        assert refusal.startswith("AuthenticationError the peer does not accept the cluster's secret (fingerprint ")
        seen = await sniffer.stop()
    assert seen.bytes > 1000
    assert not seen.marked


DRIBBLE = """
    import sys, time, trio
    target, *addresses = sys.argv[1:]
    longest = 0.0
    opened = 0

    async def dribble(address, everybody):
        global longest, opened
        with trio.socket.socket() as sock:
            await sock.bind((address, 0))
            await sock.connect((target, 5000))
            began = time.monotonic()
            opened += 1
            if opened == 10 * len(addresses):
                everybody.set()
            try:
                while True:
                    await sock.send(b"\\x16")
                    with trio.move_on_after(1):
                        if not await sock.recv(100):
                            break
            except OSError:
                pass
            longest = max(longest, time.monotonic() - began)

    async def main():
        everybody = trio.Event()
        async with trio.open_nursery() as nursery:
            for address in 10 * addresses:
                nursery.start_soon(dribble, address, everybody)
            await everybody.wait()
            print("all connected")
        print(longest)

    trio.run(main)
"""


@pytest.mark.fault("F11")
async def test_500_who_dribble_are_closed_soon_and_a_node_joins_meanwhile(network: Network) -> None:
    attacker, server, node = network.add_lan().add_hosts(3)
    addresses = [f"10.77.1.{100 + number}" for number in range(50)]
    for address in addresses:
        attacker.ip("addr", "add", f"{address}/24", "dev", "eth0")
    async with endpoint_at(server), attacker.running(DRIBBLE, server.address, *addresses) as attack:
        assert await attack.line() == "all connected"
        name, seconds = (await node.run(JOIN, server.address, SECRET)).split()
        assert name == "server"
        assert float(seconds) < 1
        assert float(await attack.line()) < 5
