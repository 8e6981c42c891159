"""The hosts of `tests._network` are what they say: apart, joined, cut and healed, and gone at the end."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests._network import Host, cut, heal, ip, open_network

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests._network import Network

pytestmark = [pytest.mark.network, pytest.mark.slow]

SERVE = """
    import socket, sys
    server = socket.create_server(("", 4000))
    six = socket.create_server(("::", 4001), family=socket.AF_INET6)
    print("ready")
    while True:
        stream, source = (server if sys.stdin.readline().strip() == "4" else six).accept()
        stream.sendall(source[0].encode())
        stream.close()
"""

DIAL = """
    import socket, sys
    stream = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)
    print(stream.makefile().read())
"""

PROBE = """
    import socket, sys
    probe = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_STREAM)
    probe.settimeout(0.3)
    try:
        probe.connect((sys.argv[1], 9))
    except TimeoutError:
        print("silence")
    except OSError as error:
        print(error.strerror)
"""


@pytest.fixture
def network() -> Iterator[Network]:
    with open_network() as opened:
        yield opened


async def dialled(client: Host, server: Host, address: str | None = None) -> list[str]:
    """Give the address that a server sees of a client, by IPv4 and, without NAT, by IPv6."""
    async with server.running(SERVE) as program:
        assert await program.line() == "ready"
        await program.say("4")
        seen = [await client.run(DIAL, address or server.address, "4000")]
        if address is None:
            await program.say("6")
            seen.append(await client.run(DIAL, server.address6, "4001"))
    return [one.strip() for one in seen]


async def test_hosts_of_one_network_reach_each_other_by_both_protocols(network: Network) -> None:
    one, two = network.add_lan().add_hosts(2)
    assert await dialled(one, two) == [one.address, one.address6]


async def test_what_is_cut_is_silent_until_it_is_healed(network: Network) -> None:
    one, two, three = network.add_lan().add_hosts(3)
    for address in (two.address, two.address6):
        assert await one.run(PROBE, address) == "Connection refused\n"
    cut(one, two)
    for address in (two.address, two.address6):
        assert await one.run(PROBE, address) == "silence\n"
    assert await one.run(PROBE, three.address) == "Connection refused\n"
    assert await three.run(PROBE, two.address) == "Connection refused\n"
    heal(one, two)
    for address in (two.address, two.address6):
        assert await one.run(PROBE, address) == "Connection refused\n"


async def test_a_router_joins_two_networks(network: Network) -> None:
    left, right = network.add_lan(), network.add_lan()
    before = left.add_host()
    network.add_router(left, right)
    after = right.add_host()
    assert await dialled(before, after) == [before.address, before.address6]
    assert await dialled(after, before) == [after.address, after.address6]


async def test_behind_nat_are_two_networks_with_equal_addresses(network: Network) -> None:
    middle = network.add_lan()
    homes = [network.add_lan("192.168.7.0/24") for _ in range(2)]
    routers = [network.add_router(home, middle, nat=True) for home in homes]
    one, two = (home.add_host() for home in homes)
    assert one.address == two.address
    routers[1].forward_to(two)
    assert await dialled(one, two, routers[1].outside) == [routers[0].outside]


def test_everything_is_gone_afterwards_even_when_the_test_fails() -> None:
    names: list[str] = []
    with pytest.raises(ZeroDivisionError):
        build_and_fail(names)
    assert len(names) == 2
    assert not set(names) & set(ip("netns", "list").split())


def build_and_fail(names: list[str]) -> None:
    with open_network() as network:
        host = network.add_lan().add_host()
        names += [host.name, host.lan.switch.name]
        assert set(names) <= set(ip("netns", "list").split())
        raise ZeroDivisionError


def test_what_a_killed_run_left_is_removed_by_the_next() -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    name = f"discoro-test-{ended.pid}-0-host"
    ip("netns", "add", name)
    with open_network():
        assert name not in ip("netns", "list").split()
