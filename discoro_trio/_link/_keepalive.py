"""Finds connections whose peer's host has vanished, by the acknowledgements of its kernel.

A host that loses its power or its network does not close its streams. The kernel of a living host answers at once, even
for a process that computes or was stopped. So this module judges by the kernel's acknowledgements, and never ends a
connection to a living peer that is merely slow. Whether a program still works is judged elsewhere, by its replies.

Silence counts only while an acknowledgement is due. A peer whose window is closed is probed more and more rarely, and
has nothing to acknowledge in between. TCP_USER_TIMEOUT ends such connections, so it is of no use here.
"""

from __future__ import annotations

import math
import socket
import struct
import sys
from typing import TYPE_CHECKING

import trio

from .._config import PULSES, config
from .._errors import PeerDisconnected
from .._records import MutableRecord

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._link import Link
    from ._transport import Transport

_LONGEST_IDLE = 32767
"""The longest interval between probes that the kernel accepts, in seconds."""

# Linux, struct tcp_info (include/uapi/linux/tcp.h): eight bytes, of which the fourth is tcpi_probes, the unanswered
# probes of an idle connection or a closed window; then 32-bit numbers, of which the fifth is tcpi_unacked, the segments
# in flight, and the thirteenth tcpi_last_ack_recv, the milliseconds since the last acknowledgement.
_TCP_INFO = struct.Struct("=3xB20xI28xI")


class Keepalive:
    """Watches the TCP connections of one endpoint.

    Attributes:
        pulse_intervals: Each returns the seconds between the heartbeats of a user of the link, or None if it does not
            use the link. The longest one counts, because the end of the connection ends all of its uses.
    """

    def __init__(self) -> None:
        self.pulse_intervals: list[Callable[[Link], float | None]] = []
        self._watched: dict[Link, _Watched] = {}

    def watch(self, link: Link, transport: Transport) -> None:
        """Watch the connection of a link, if it is a TCP connection."""
        sock = transport.socket
        if sock is not None and sock.family in {socket.AF_INET, socket.AF_INET6}:
            interval = self.interval(link)
            _probe_when_idle(sock, interval)
            self._watched[link] = _Watched(sock, interval)

    def forget(self, link: Link) -> None:
        """Stop watching a link."""
        self._watched.pop(link, None)

    async def run(self) -> None:
        """End the links whose peers are gone, until cancelled."""
        while True:
            shortest = min((watched.interval for watched in self._watched.values()), default=math.inf)
            await trio.sleep(min(shortest, _bounded(config.MinPulseInterval)) / 2)
            for link, watched in list(self._watched.items()):
                if not link.lost:
                    self._look(link, watched)

    def _look(self, link: Link, watched: _Watched) -> None:
        interval = self.interval(link)
        if interval != watched.interval:
            watched.interval = interval
            _probe_when_idle(watched.sock, interval)
        longest = PULSES * interval
        if _silence(watched.sock) >= longest:
            link.fail(PeerDisconnected(f"the host of the peer has been silent for {longest:g} s"))

    def interval(self, link: Link) -> float:
        """Return the seconds between the heartbeats of a link; it may be silent for five of them."""
        asked = [seconds for ask in self.pulse_intervals if (seconds := ask(link)) is not None]
        return _bounded(max(asked, default=config.MinPulseInterval))


class _Watched(MutableRecord):
    """The connection of a link."""

    sock: trio.socket.SocketType
    interval: float
    """Seconds between the kernel's probes while it is idle."""


def _bounded(seconds: float) -> float:
    # The kernel probes an idle connection once a second at most.
    return max(1.0, seconds)


def _probe_when_idle(sock: trio.socket.SocketType, interval: float) -> None:
    if sock.fileno() < 0:
        return
    seconds = min(int(interval), _LONGEST_IDLE)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # macOS has another name for the first option; Windows has had all of them since 2017.
    idle = getattr(socket, "TCP_KEEPIDLE", None) or getattr(socket, "TCP_KEEPALIVE", None)
    if idle is not None:
        sock.setsockopt(socket.IPPROTO_TCP, idle, seconds)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, seconds)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PULSES)


def _silence(sock: trio.socket.SocketType) -> float:
    """Return for how many seconds an acknowledgement by the peer's kernel is due.

    0 if this kernel does not report it; there, only keepalive finds hosts that vanish.
    """
    if sys.platform != "linux" or sock.fileno() < 0:
        return 0.0
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
    probes, under_way, milliseconds = _TCP_INFO.unpack(info)
    return milliseconds / 1000 if probes or under_way else 0.0
