from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trustme

import discoro_trio as discoro
from discoro_trio import Location
from discoro_trio._link import EndpointOptions, OptionError, open_with, parse_ports, presence_of, resolve_peers
from discoro_trio._link._listening import main_address, open_listeners
from discoro_trio._wire import Found, Role
from tests._ports import free_tcp_port

if TYPE_CHECKING:
    from pathlib import Path

KEY = "11" * 32


def take_port(stack: ExitStack, port: int = 0) -> int:
    """Listen at a port of this machine; give it."""
    server = stack.enter_context(socket.create_server(("127.0.0.1", port)))
    taken: int = server.getsockname()[1]
    return taken


@pytest.mark.spec("S20", "S22")
@pytest.mark.parametrize(
    ("ports", "expected"),
    [
        (None, (0,)),
        (5000, (5000,)),
        ("5000", (5000,)),
        ("5000-5003", (5000, 5001, 5002, 5003)),
        ("5000 - 5001, 6000,5000", (5000, 5001, 6000)),
        ([5000, "6000-6001"], (5000, 6000, 6001)),
        (range(5000, 5003), (5000, 5001, 5002)),
    ],
)
def test_ports_are_numbers_and_ranges(ports: Any, expected: tuple[int, ...]) -> None:
    assert parse_ports(ports) == expected


@pytest.mark.fault("F24")
@pytest.mark.parametrize("ports", ["", "x", "0", 0, -1, 65536, "5003-5000", "5000-", "-5000", "1,,2", "\u0665"])
def test_what_is_no_port_is_refused_by_its_option(ports: Any) -> None:
    with pytest.raises(OptionError, match="tcp_ports: expected ports and ranges, such as"):
        parse_ports(ports)


@pytest.mark.fault("F24")
@pytest.mark.parametrize("port", [0, -1, 65536])
def test_what_is_no_udp_port_is_refused_by_its_option(port: int) -> None:
    with pytest.raises(OptionError, match="udp_port: expected a port from 1 to 65535"):
        EndpointOptions(udp_port=port)


@pytest.mark.spec("S20", "S23")
async def test_an_endpoint_has_the_address_the_port_and_the_name_that_it_is_given() -> None:
    port = free_tcp_port()
    async with discoro.open_endpoint(ip_addr="127.0.0.5", tcp_ports=port, name="mine", secret=KEY) as endpoint:
        assert endpoint.location == Location("127.0.0.5", port)
        assert endpoint.identity.name == "mine"
        assert endpoint.credentials[b""].key == b"\x11" * 32


@pytest.mark.spec("S21")
async def test_peers_are_told_the_address_outside() -> None:
    async with discoro.open_endpoint(ext_ip_addr="192.0.2.7", secret=KEY) as endpoint:
        assert endpoint.location.addr == "192.0.2.7"
        assert endpoint.bound == "127.0.0.1"


async def test_the_first_port_that_is_free_is_taken() -> None:
    with ExitStack() as stack:
        taken = [take_port(stack), take_port(stack)]
        free = free_tcp_port()
        async with discoro.open_endpoint(tcp_ports=[*taken, free], secret=KEY) as endpoint:
            assert endpoint.location.port == free


@pytest.mark.fault("F24")
async def test_a_port_in_use_is_refused_by_its_option() -> None:
    with ExitStack() as stack:
        taken = sorted([take_port(stack), take_port(stack)])
        with pytest.raises(OptionError, match=f"tcp_ports: other programs use port {taken[0]}; give more"):
            await open_listeners("127.0.0.1", taken[:1])
        with pytest.raises(OptionError, match=f"use all 2 ports from {taken[0]} to {taken[1]}; give more"):
            async with discoro.open_endpoint(tcp_ports=taken, secret=KEY):
                pass


@pytest.mark.fault("F24")
@pytest.mark.parametrize(
    ("ip_addr", "text"),
    [
        ("no-such-host.invalid", "ip_addr: 'no-such-host.invalid' is not an address or host name"),
        ("192.0.2.77", "ip_addr: '192.0.2.77' is not an address of this machine"),
    ],
)
async def test_an_address_of_another_machine_is_refused_by_its_option(ip_addr: str, text: str) -> None:
    with pytest.raises(OptionError, match=text):
        async with discoro.open_endpoint(ip_addr=ip_addr, secret=KEY):
            pass


@pytest.mark.fault("F24")
@pytest.mark.spec("S26", "S27")
async def test_files_that_do_not_exist_are_refused_by_their_options(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    with pytest.raises(OptionError, match=r"certfile: .*nowhere cannot be read"):
        await open_and_close(EndpointOptions(certfile=nowhere))
    with pytest.raises(OptionError, match=r"secret_file: .*nowhere cannot be used"):
        await open_and_close(EndpointOptions(secret_file=nowhere))


@pytest.mark.spec("S22")
async def test_endpoints_find_each_other_at_the_udp_port_that_they_were_given_and_at_no_other() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as two,
    ):
        for sock in (one, two):
            sock.bind(("127.0.0.1", 0))
        port, another = one.getsockname()[1], two.getsockname()[1]
    async with (
        open_with(EndpointOptions(secret=KEY, udp_port=port)) as near,
        open_with(EndpointOptions(secret=KEY, udp_port=port)) as far,
        open_with(EndpointOptions(secret=KEY, udp_port=another)) as apart,
        trio.open_nursery() as nursery,
    ):
        for endpoint in (far, apart):
            assert endpoint.discovery is not None
            await nursery.start(endpoint.discovery.answer, presence_of(endpoint, Role.NODE))
        assert near.discovery is not None
        found = await near.discovery.find(Role.NODE, 1.0)
        nursery.cancel_scope.cancel()
    assert [one.process_id for one in found] == [far.id]


@pytest.mark.spec("S27")
async def test_an_endpoint_uses_a_key_that_is_in_a_file_of_its_own(tmp_path: Path) -> None:
    certificate = trustme.CA().issue_cert("127.0.0.1")
    certfile, keyfile = tmp_path / "certificate.pem", tmp_path / "key.pem"
    certfile.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    with pytest.raises(OptionError, match="certfile"):
        await open_and_close(EndpointOptions(certfile=certfile, secret=KEY))
    certificate.private_key_pem.write_to_path(keyfile)
    await open_and_close(EndpointOptions(certfile=certfile, keyfile=keyfile, secret=KEY))


async def open_and_close(options: EndpointOptions) -> None:
    async with open_with(options):
        pass


def is_empty(folder: Path) -> bool:
    return not list(folder.iterdir())


@pytest.mark.spec("B07")
async def test_a_cluster_in_one_program_reads_and_makes_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    async with open_with(EndpointOptions(), private=True) as one, open_with(EndpointOptions(), private=True) as two:
        assert one.credentials[b""] != two.credentials[b""]
    assert is_empty(tmp_path)
    async with open_with(EndpointOptions(secret=KEY), private=True) as three:
        assert three.credentials[b""].key == b"\x11" * 32
    async with open_with(EndpointOptions()) as four, open_with(EndpointOptions()) as five:
        assert four.credentials == five.credentials
    assert not is_empty(tmp_path)


async def test_an_endpoint_at_all_addresses_has_one_port_and_tells_one_address() -> None:
    listeners = await open_listeners("")
    try:
        assert len({listener.socket.getsockname()[1] for listener in listeners}) == 1
        assert len({listener.socket.family for listener in listeners}) == len(listeners)
    finally:
        for listener in listeners:
            await listener.aclose()
    async with discoro.open_endpoint(ip_addr="", secret=KEY) as endpoint:
        assert endpoint.location.addr == main_address()


@pytest.mark.spec("S21", "S36")
async def test_who_listens_everywhere_is_found_by_the_address_that_the_seeker_sees() -> None:
    for options, addr in [
        (EndpointOptions(secret=KEY), "127.0.0.1"),
        (EndpointOptions(secret=KEY, ip_addr=""), ""),
        (EndpointOptions(secret=KEY, ip_addr="", ext_ip_addr="192.0.2.7"), "192.0.2.7"),
    ]:
        async with open_with(options) as endpoint:
            presence = presence_of(endpoint, Role.NODE)
            assert presence == Found(endpoint.id, Role.NODE, endpoint.identity.name, presence.location)
            assert presence.location == Location(addr, endpoint.location.port)
            assert endpoint.discovery is not None
            assert endpoint.discovery.loopback == (addr == "127.0.0.1")


def test_no_repr_shows_the_secret() -> None:
    assert "sesame" not in repr(EndpointOptions(secret="open sesame"))


@pytest.mark.spec("S38")
async def test_hosts_are_told_from_locations() -> None:
    peers = await resolve_peers(
        "node", ["127.0.0.1", "127.0.0.1:5000", "[::1]:5000", "::1", "[::1]", Location("::1", 6)]
    )
    assert peers.hosts == ("127.0.0.1", "::1", "::1")
    assert peers.locations == (Location("127.0.0.1", 5000), Location("::1", 5000), Location("::1", 6))


@pytest.mark.fault("F24")
@pytest.mark.parametrize("peer", ["no-such-host.invalid", "no-such-host.invalid:5000", ""])
async def test_an_unknown_host_is_refused_by_its_option(peer: str) -> None:
    with pytest.raises(OptionError, match=f"node: '{peer.partition(':')[0]}' is not an address or host name"):
        await resolve_peers("node", [peer])


@pytest.mark.spec("B07")
async def test_two_that_have_the_secret_are_linked_and_one_that_has_another_is_refused() -> None:
    async with (
        open_with(EndpointOptions(secret=KEY)) as one,
        open_with(EndpointOptions(secret=KEY)) as two,
        open_with(EndpointOptions(secret="22" * 32)) as stranger,
    ):
        link = await one.link_at(two.location)
        assert link.peer.process_id == two.id
        with pytest.raises(discoro.AuthenticationError, match="does not accept the cluster's secret"):
            await stranger.link_at(two.location)
        with trio.fail_after(60):
            assert (await two.link_at(one.location)).peer.process_id == one.id
