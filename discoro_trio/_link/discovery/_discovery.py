"""Finds processes on the networks of this machine, and answers their queries.

This module owns the sockets of discovery, and the targets and timing of the queries. `_wire` defines the datagrams and
which of them are valid. The node and the scheduler use the processes that are found, and request searches from them on
their networks.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import random
import socket
import struct
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from ..._config import config
from ..._records import MutableRecord
from ..._wire import Answerer, Seeker, fingerprint
from .._option_error import OptionError
from ..tls._tls import is_loopback
from ._interfaces import GROUP, THIS_MACHINE, ways_out

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..._wire import Credential, Found, Role
    from ..._wire._beacon import Address
    from ._interfaces import Control, NetworkPath

    _Sockets = dict[int, trio.socket.SocketType]

logger = logging.getLogger(__name__)

UDP_PORT = 51350
"""The port at which processes listen for queries, unless `udp_port` is set."""

_LONGEST = 2048  # longer than any datagram of discovery; the rest of a longer one is cut off
_FIRST_PAUSE, _GROWTH = 0.2, 2.0  # seconds between the first queries, and the factor from each pause to the next
_JOIN_INTERVAL = 60.0  # seconds between checks for new interfaces
_MAPPED = "::ffff:"  # the prefix of an IPv4 address at a socket for both protocols
_OPTION = "udp_port"


class Discovery(MutableRecord, kw_only=True):
    """Finds other processes for one process, and answers their queries."""

    credential: Credential
    """The cluster's secret."""
    process_id: bytes
    """The process's own id."""
    udp_port: int = UDP_PORT
    """The port at which this and other processes answer queries."""
    loopback: bool = True
    """Whether only this machine takes part; the process then does not listen or send on any network."""
    _users: list[Seeker | Answerer] = msgspec.field(default_factory=list)

    def use(self, credential: Credential) -> None:
        """Use another secret from now on."""
        self.credential = credential
        for user in self._users:
            user.use(credential)

    @property
    def foreign(self) -> list[str]:
        """The addresses of machines whose processes use another secret for discovery."""
        answerers = [user for user in self._users if isinstance(user, Answerer)]
        return sorted({host for answerer in answerers for host in answerer.foreign})

    @contextlib.contextmanager
    def _told_of_changes(self, user: Seeker | Answerer) -> Iterator[None]:
        self._users.append(user)
        try:
            yield
        finally:
            self._users.remove(user)

    async def answer(self, presence: Found, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        """Answer the queries of others until cancelled; starts with the port.

        Args:
            presence: The answer: this process.
            task_status: Started when queries are received.

        Raises:
            OptionError: Another program, not of this package, uses the port.
        """
        with ExitStack() as stack:
            sock = self._listen(stack)
            answerer = Answerer(self.credential, presence)
            stack.enter_context(self._told_of_changes(answerer))
            answering = _Answering(answerer, sock, fingerprint(self.credential.key), loopback=self.loopback)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(answering.serve, name="discovery")
                if sock.family == socket.AF_INET6:
                    _join(sock)
                    nursery.start_soon(_keep_joined, sock, name="interfaces for discovery")
                task_status.started(answering.port)

    async def seek(
        self,
        wanted: Role,
        report: Callable[[Found], None],
        *,
        hosts: Sequence[str] = (),
        everywhere: bool = True,
        longest: float = math.inf,
    ) -> None:
        """Look for processes until cancelled: often at first, later every half minute.

        Args:
            wanted: The roles to look for.
            report: Called with every process that answers, again with each of its answers.
            hosts: Addresses or names of machines that are queried, too, on any network.
            everywhere: Whether to query the networks of this machine, or only this machine with `loopback`.
            longest: Seconds between two queries at most.
        """
        seeker = Seeker(self.credential, self.process_id, wanted)
        with ExitStack() as stack:
            stack.enter_context(self._told_of_changes(seeker))
            sockets: _Sockets = {socket.AF_INET: _open(stack, socket.AF_INET, "")}
            with contextlib.suppress(_NoSuchProtocolError):
                sockets[socket.AF_INET6] = _open(stack, socket.AF_INET6, "::", only=True)
            async with trio.open_nursery() as nursery:
                for sock in sockets.values():
                    nursery.start_soon(_hear, sock, seeker, report, name="answers to discovery")
                for number, pause in enumerate(pauses(longest)):
                    if everywhere:
                        ways = [] if self.loopback else ways_out()
                        # Usually IPv4 first; but a firewall may drop the answers on the first path only.
                        ways.sort(key=lambda way: way.address.version, reverse=bool(number % 2))
                        await self._ask_everywhere(sockets, seeker, ways)
                    for host in hosts:
                        await self._ask_host(sockets, seeker, host)
                    await trio.sleep(pause)

    async def find(
        self, wanted: Role, seconds: float, *, hosts: Sequence[str] = (), everywhere: bool = True
    ) -> list[Found]:
        """Look for processes for some seconds, as `seek` does. Return each one that answered once."""
        found: dict[bytes, Found] = {}

        def report(one: Found) -> None:
            found.setdefault(one.process_id, one)

        with trio.move_on_after(seconds):
            await self.seek(wanted, report, hosts=hosts, everywhere=everywhere)
        return list(found.values())

    def _listen(self, stack: ExitStack) -> trio.socket.SocketType:
        if self.loopback:
            # Bound to the broadcast address of loopback, a socket receives nothing from a network.
            return _open(stack, socket.AF_INET, THIS_MACHINE, self.udp_port)
        try:
            # One socket for both protocols, so that queries are received in the order in which they were sent.
            return _open(stack, socket.AF_INET6, "::", self.udp_port)
        except _NoSuchProtocolError:
            return _open(stack, socket.AF_INET, "", self.udp_port)

    async def _ask_everywhere(self, sockets: _Sockets, seeker: Seeker, ways: Sequence[NetworkPath]) -> None:
        """Send one query on all paths; a process answers the first one that reaches it, from its address there."""
        query = seeker.query()
        for way in ways:
            for target in way.targets:
                await _send(sockets, query, (target, self.udp_port), [way.control])
        await _send(sockets, query, (THIS_MACHINE, self.udp_port))

    async def _ask_host(self, sockets: _Sockets, seeker: Seeker, host: str) -> None:
        try:
            places = await trio.socket.getaddrinfo(host, self.udp_port, type=socket.SOCK_DGRAM)
        except OSError as error:
            logger.warning("discovery could not send a query to %s: %s", host, error)
            return
        for *_, place in places:
            await _send(sockets, seeker.query(alone=True), _address(place))


class _NoSuchProtocolError(Exception):
    """This machine has no IPv6."""


class _Answering:
    """The socket at which one process receives queries."""

    def __init__(
        self, answerer: Answerer, sock: trio.socket.SocketType, fingerprint_here: str, *, loopback: bool
    ) -> None:
        self._answerer = answerer
        self._socket = sock
        self._fingerprint = fingerprint_here
        self._loopback = loopback
        self.port: int = sock.getsockname()[1]

    async def serve(self) -> None:
        """Answer until cancelled."""
        while True:
            body, source = await _receive(self._socket)
            own_machine = is_loopback(source[0])
            now, foreign = trio.current_time(), len(self._answerer.foreign)
            for datagram in self._answerer.received_untrusted(body, source, now, own_machine=own_machine):
                host, port = datagram.to or (THIS_MACHINE, self.port)
                if not self._loopback or is_loopback(host):  # a query from elsewhere may have been relayed
                    await self._send(datagram.body, host, port)
            if len(self._answerer.foreign) > foreign:
                self._say_foreign(source[0])

    def _say_foreign(self, host: str) -> None:
        logger.info(
            "a process at %s uses another secret than this process, whose secret has the fingerprint %s; "
            "`discoro secret show` prints the location of a machine's secret",
            host,
            self._fingerprint,
        )

    async def _send(self, body: bytes, host: str, port: int) -> None:
        if self._socket.family == socket.AF_INET6 and ":" not in host:
            host = _MAPPED + host
        await _send({self._socket.family: self._socket}, body, (host, port))


def pauses(longest: float = math.inf) -> Iterator[float]:
    """Yield the seconds between queries: increasing, and random, so that processes started together spread out."""
    pause = _FIRST_PAUSE
    while True:
        yield pause * random.uniform(0.75, 1.25)  # noqa: S311 - it spreads load and protects nothing
        pause = min(pause * _GROWTH, config.ping_interval, longest)


async def _hear(sock: trio.socket.SocketType, seeker: Seeker, report: Callable[[Found], None]) -> None:
    while True:
        body, source = await _receive(sock)
        found = seeker.received_untrusted(body, source[0])
        if found is not None:
            report(found)


async def _receive(sock: trio.socket.SocketType) -> tuple[bytes, Address]:
    while True:
        try:
            body, place = await sock.recvfrom(_LONGEST)
        except OSError as error:
            # The machine has a problem, such as no memory; it is temporary, so discovery continues.
            logger.warning("discovery cannot receive: %s", error)
            await trio.sleep(1)
        else:
            return body, _address(place)


async def _send(sockets: _Sockets, body: bytes, to: Address, control: Sequence[Control] = ()) -> None:
    sock = sockets.get(socket.AF_INET6 if ":" in to[0] else socket.AF_INET)
    if sock is None:
        return  # this machine has no IPv6
    try:
        await sock.sendmsg([body], control, 0, to)
    except OSError as error:
        logger.debug("nothing could be sent to %s: %s", to[0], error)  # for example, the interface is down


def _address(place: tuple[Any, ...]) -> Address:
    """Return host and port of a socket's address; a link-local one includes its zone."""
    host, port, *rest = place
    if host.startswith(_MAPPED):
        return host.removeprefix(_MAPPED), port
    return (f"{host}%{rest[1]}", port) if len(rest) > 1 and rest[1] else (host, port)


def _open(
    stack: ExitStack, family: socket.AddressFamily, host: str, port: int = 0, *, only: bool = False
) -> trio.socket.SocketType:
    """Bind a socket until the stack is left; one for IPv6 also receives IPv4, unless `only` is set."""
    try:
        sock = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        if port:  # several processes share it, and each receives what is sent to all
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    except OSError as error:
        if family == socket.AF_INET6 and error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            raise _NoSuchProtocolError from error
        problem = f"cannot listen at {port}: {error.strerror}; choose another port, the same for the whole cluster"
        raise OptionError(_OPTION, problem) from error
    return trio.socket.from_stdlib_socket(sock)


async def _keep_joined(sock: trio.socket.SocketType) -> None:
    """Join the multicast groups of interfaces that come up later."""
    while True:
        await trio.sleep(_JOIN_INTERVAL)
        _join(sock)


def _join(sock: trio.socket.SocketType) -> None:
    """Join the multicast group of every interface."""
    group = socket.inet_pton(socket.AF_INET6, GROUP)
    for way in ways_out():
        if GROUP in way.targets:
            with contextlib.suppress(OSError):  # already joined, or the interface is gone again
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group + struct.pack("=I", way.index))
