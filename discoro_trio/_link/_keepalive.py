"""Finds connections whose peer's host has vanished, by the acknowledgements of its kernel.

A host that loses its power or its network does not close its streams. The kernel of a living host answers at once, even
for a process that computes or was stopped. So this module judges by the kernel's acknowledgements, and never ends a
connection to a living peer that is merely slow. Whether a program still works is judged elsewhere, by its replies.

Silence counts only while an acknowledgement is due. A peer whose window is closed is probed more and more rarely, and
has nothing to acknowledge in between. TCP_USER_TIMEOUT ends such connections, so it is of no use here.

If packets get through in one direction only, the end that still receives packets is not silent for its peer, but for
itself nothing is wrong. The other end hears nothing, and resets the connection. So that the first end then knows since
when its own packets are not confirmed, each end of an idle connection sends a heartbeat in each interval. The time
without a confirmation shortens the time that is left to connect again; on its own it ends nothing, because a living
host that runs out of buffers does not confirm either.
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
from .._records import MutableRecord, Record

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._link import Link
    from ._transport import Transport

_LONGEST_IDLE = 32767
"""The longest interval between probes that the kernel accepts, in seconds."""

# Linux, struct tcp_info (include/uapi/linux/tcp.h): eight bytes, of which the fourth is tcpi_probes, the unanswered
# probes of an idle connection or a closed window; then 32-bit numbers, of which the fifth is tcpi_unacked, the segments
# in flight, and the thirteenth tcpi_last_ack_recv, the milliseconds since the last acknowledgement; the 64-bit number
# at byte 120 is tcpi_bytes_acked, the bytes that the peer's kernel has acknowledged.
_TCP_INFO = struct.Struct("=3xB20xI28xI60xQ")

_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: closing the socket resets the connection, and does not wait until the peer's kernel has all bytes."""


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

    def unconfirmed(self, link: Link) -> float:
        """Return for how many seconds the peer's kernel has confirmed nothing of what this end has sent."""
        watched = self._watched.get(link)
        return 0.0 if watched is None else watched.unconfirmed

    async def run(self) -> None:
        """End the links whose peers are gone, until cancelled."""
        while True:
            shortest = min((watched.interval for watched in self._watched.values()), default=math.inf)
            pause = min(shortest, _bounded(config.MinPulseInterval)) / 2
            await trio.sleep(pause)
            for link, watched in list(self._watched.items()):
                if not link.lost:
                    self._look(link, watched, pause)

    def _look(self, link: Link, watched: _Watched, pause: float) -> None:
        interval = self.interval(link)
        if interval != watched.interval:
            watched.interval = interval
            _probe_when_idle(watched.sock, interval)
        longest = PULSES * interval
        seen = _acknowledgements(watched.sock)
        if seen is None:
            return
        if seen.silence >= longest:
            # The reset reaches the peer if only the other direction is cut; a goodbye would wait behind earlier bytes.
            watched.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            link.fail(PeerDisconnected(f"the host of the peer has been silent for {longest:g} s"))
            return
        if seen.position != watched.position:
            watched.position, watched.unconfirmed, watched.idle = seen.position, 0.0, 0.0
        elif seen.due:
            watched.unconfirmed += pause  # not by the clock: this process may have been stopped
        else:
            watched.unconfirmed = 0.0
            watched.idle += pause
            if watched.idle >= interval:
                watched.idle = -math.inf  # one at a time: the peer may be unable to take it
                link.heartbeat()

    def interval(self, link: Link) -> float:
        """Return the seconds between the heartbeats of a link; it may be silent for five of them."""
        asked = [seconds for ask in self.pulse_intervals if (seconds := ask(link)) is not None]
        return _bounded(max(asked, default=config.MinPulseInterval))


class _Watched(MutableRecord):
    """The connection of a link."""

    sock: trio.socket.SocketType
    interval: float
    """Seconds between the kernel's probes while it is idle."""
    position: int = 0
    """Bytes that the peer's kernel has acknowledged."""
    unconfirmed: float = 0.0
    """Seconds for which bytes are in flight and none is acknowledged."""
    idle: float = 0.0
    """Seconds for which there has been nothing to acknowledge."""


class _Acknowledgements(Record, frozen=True):
    """What this kernel reports of the acknowledgements by the peer's kernel."""

    silence: float
    """Seconds for which an acknowledgement is due and nothing at all has arrived."""
    due: bool
    """Whether bytes are in flight."""
    position: int
    """Bytes that are acknowledged."""


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


def _acknowledgements(sock: trio.socket.SocketType) -> _Acknowledgements | None:
    """Return what this kernel reports; None if it does not. There, only keepalive finds hosts that vanish."""
    if sys.platform != "linux" or sock.fileno() < 0:
        return None
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
    probes, in_flight, milliseconds, position = _TCP_INFO.unpack(info)
    silence = milliseconds / 1000 if probes or in_flight else 0.0
    return _Acknowledgements(silence, bool(in_flight), position)
