"""Peers whose machine is silent: known by the kernel's acknowledgements, whatever the peer's own threads do.

This module owns the keepalive of connections, and the look at what they have not acknowledged. How a node or scheduler
is judged by its answers is with them.

A peer that computes, or is stopped, still acknowledges: its kernel does. One whose window is closed acknowledges each
probe. So it is silence itself that is judged, and never slowness: that is why TCP_USER_TIMEOUT, which ends connections
with a closed window, is of no use here.
"""

from __future__ import annotations

import math
import socket
import struct
from typing import TYPE_CHECKING

import trio

from .._config import config
from .._errors import PeerDisconnected

if TYPE_CHECKING:
    from ._link import Link

PULSES = 5
"""After so many pulse intervals of silence a peer is taken for dead."""

# struct tcp_info of <linux/tcp.h>: eight bytes, then numbers of 32 bits. These of them, from its beginning:
_UNACKED, _LAST_ACK_RECEIVED, _SIZE = 24, 56, 60


class Liveness:
    """Judges the peers of one endpoint's connections."""

    def __init__(self) -> None:
        self._watched: dict[Link, trio.socket.SocketType] = {}

    def watch(self, link: Link, stream: trio.SocketStream) -> None:
        """Judge the peer of a link, until the link has ended."""
        if stream.socket.family not in (socket.AF_INET, socket.AF_INET6):
            return
        interval = max(1, math.ceil(config.MinPulseInterval))
        for option, value in _keepalive(interval):
            stream.socket.setsockopt(socket.IPPROTO_TCP, option, value)
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._watched[link] = stream.socket

    def watched(self, link: Link) -> trio.socket.SocketType | None:
        """Give the socket of a link that is judged."""
        return self._watched.get(link)

    def forget(self, link: Link) -> None:
        """Judge it no more."""
        self._watched.pop(link, None)

    async def run(self) -> None:
        """Look at all of them, each pulse, until cancelled."""
        while True:
            await trio.sleep(config.MinPulseInterval)
            for link, sock in list(self._watched.items()):
                seconds = silence(sock)
                if seconds > PULSES * config.MinPulseInterval:
                    link.fail(PeerDisconnected(f"its machine has acknowledged nothing for {seconds:.0f} s"))


def _keepalive(interval: int) -> list[tuple[int, int]]:
    """Give the settings with which an idle connection is probed each pulse, where the system has them."""
    wanted = {"TCP_KEEPIDLE": interval, "TCP_KEEPINTVL": interval, "TCP_KEEPCNT": PULSES - 1}
    return [(getattr(socket, name), value) for name, value in wanted.items() if hasattr(socket, name)]


def silence(sock: trio.socket.SocketType) -> float:
    """Give the seconds for which the peer's kernel has acknowledged nothing of what it was sent.

    Returns:
        Seconds; 0 if nothing waits for it, if the system does not say, or if the connection is gone already.
    """
    if not hasattr(socket, "TCP_INFO"):
        return 0.0
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _SIZE)
    except OSError:
        return 0.0
    if len(info) < _SIZE:
        return 0.0
    (unacked,) = struct.unpack_from("=I", info, _UNACKED)
    (since,) = struct.unpack_from("=I", info, _LAST_ACK_RECEIVED)
    return since / 1000 if unacked else 0.0
