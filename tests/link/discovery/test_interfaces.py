"""The networks of this machine's interfaces."""

from __future__ import annotations

import socket
from typing import Any

import psutil
import pytest

from discoro_trio._link.discovery import _interfaces as interfaces


def entry(family: socket.AddressFamily, address: str, netmask: str | None) -> Any:
    made: Any = type("Entry", (), {"family": family, "address": address, "netmask": netmask})
    return made


FOUR, SIX, CARD = socket.AF_INET, socket.AF_INET6, socket.AF_PACKET
FAR = {
    "lo": [entry(FOUR, "127.0.0.1", "255.0.0.0"), entry(SIX, "::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")],
    "lan": [
        entry(CARD, "02:00:00:00:00:01", None),
        entry(FOUR, "10.1.2.3", "255.255.0.0"),
        entry(SIX, "fe80::1%lan", "ffff:ffff:ffff:ffff::"),
        entry(SIX, "fd01::5", "ffff:ffff:ffff:ffff::"),
    ],
    "other": [entry(FOUR, "10.9.0.1", "255.255.0.0"), entry(SIX, "fe80::2%other", "ffff:ffff:ffff:ffff::")],
}


@pytest.mark.parametrize(
    ("one", "other", "zone", "shared"),
    [
        ("fe80::77", "10.1.200.4", 7, True),
        ("10.1.200.4", "fd01::9", 0, True),
        ("fe80::77", "10.1.200.4", 8, False),
        ("fe80::77", "10.9.0.4", 8, True),
        ("fe80::77", "10.9.0.4", 9, False),
        ("fd02::9", "10.1.200.4", 0, False),
        ("fd01::9", "10.9.0.4", 0, False),
        ("10.1.200.5", "10.1.200.4", 0, False),
        ("fd01::9", "fd01::8", 0, False),
        ("fd01::9", "a-host", 0, False),
    ],
)
def test_an_ipv4_and_an_ipv6_address_share_a_network_if_both_are_near_one_interface(
    one: str,
    other: str,
    zone: int,
    shared: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def name_of(index: int) -> str:
        if index not in {7, 8}:
            raise OSError(index)
        return {7: "lan", 8: "other"}[index]

    monkeypatch.setattr(psutil, "net_if_addrs", lambda: FAR)
    monkeypatch.setattr(socket, "if_indextoname", name_of)
    assert interfaces.share_a_network(one, other, zone) is shared
