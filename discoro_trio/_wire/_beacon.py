"""The datagrams of discovery: queries for processes, and their answers.

This module defines the datagrams, which of them are valid, and how often one is answered. `_link` owns the sockets,
the interfaces and the timing of the queries.

    1. seeker → all processes        Query    the seeker, the wanted roles, a nonce; padded to `QUERY_SIZE`
    2. process → the query's source  Answer   that nonce, and the process; never longer than the query
       process → its own machine     Relayed  a query that reached only this process, and where its answers go

Each datagram begins with a MAC over the rest, with a key that is derived from the cluster's secret only for discovery.
If the MAC is wrong, the datagram is dropped before anything in it is read: it is not answered, and nothing is signed. A
query is answered once, no matter how often and from where it arrives. If an attacker replays a recorded query to
another process, the answer has a nonce that no seeker waits for any more. A found process is not trusted: the full
handshake follows.
"""

from __future__ import annotations

import enum
import hmac
import secrets
from collections import deque
from typing import TYPE_CHECKING, TypeVar

import msgspec

from .._printable import printable
from .._records import Record
from .._values import MAX_PORT, Location
from ._handshake import ID_SIZE
from ._keys import Purpose, handshake_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._keys import Credential

QUERY_SIZE = 768
"""The length of every query in bytes. The longest answer fits, and no common network has to fragment it."""

NONCE_SIZE = 16
_MAC_SIZE = 32
_NAME_LENGTH = 64
_ADDR_LENGTH = 255  # the longest host name
_FOREIGN_KEPT = 64  # machines whose queries use another secret
_QUERIES_KEPT = 32  # queries whose answers are still accepted
_NONCES_KEPT = 4096
_RATE = 200.0  # answers a second; a cluster of that size may start at once
_BURST = 200.0

S = TypeVar("S", bound=msgspec.Struct)
Address = tuple[str, int]
"""A host and a UDP port; IPv6 with its zone, if it needs one."""


class Role(enum.IntFlag):
    """The role by which a process can be found."""

    NODE = 1
    SCHEDULER = 2
    """A shared scheduler: clients look for it."""
    PRIVATE = 4
    """A client's own scheduler: only nodes look for it."""


class Found(Record, frozen=True):
    """A process that answered."""

    process_id: bytes
    """Its process id, 16 random bytes, which its handshake has to prove."""
    role: Role
    """Its role."""
    name: str
    """A name for people."""
    location: Location
    """Where it listens for links."""


class Datagram(Record, frozen=True):
    """A datagram to send."""

    body: bytes
    """Its bytes."""
    to: Address | None
    """Its destination; None for every process of this machine."""


# Maps, and unknown fields are allowed: a process of another version is found too, and the handshake then reports why
# the two cannot communicate.
class _BeaconQuery(msgspec.Struct, frozen=True, tag="query"):
    nonce: bytes
    process_id: bytes
    wanted: int
    alone: bool
    """Whether it was sent to one machine, where only one process receives it."""
    padding: bytes = b""


class _Relayed(msgspec.Struct, frozen=True, tag="relayed"):
    nonce: bytes
    process_id: bytes
    wanted: int
    host: str
    port: int


class _Answer(msgspec.Struct, frozen=True, tag="answer"):
    nonce: bytes
    process_id: bytes
    role: int
    name: str
    addr: str
    port: int


class Seeker:
    """Looks for processes: makes queries, and accepts the answers to the latest ones.

    Args:
        credential: The cluster's secret.
        process_id: The seeking process, which does not find itself.
        wanted: The roles that it looks for.
    """

    def __init__(self, credential: Credential, process_id: bytes, wanted: Role) -> None:
        self.use(credential)
        self._process_id = process_id
        self._wanted = wanted
        self._nonces: deque[bytes] = deque(maxlen=_QUERIES_KEPT)

    def use(self, credential: Credential) -> None:
        """Use another secret from now on."""
        self._key = handshake_key(credential.key, Purpose.DISCOVERY)

    def query(self, *, alone: bool = False) -> bytes:
        """Make a query with a new nonce.

        Args:
            alone: Whether it is sent to one machine, rather than to a whole network.
        """
        nonce = secrets.token_bytes(NONCE_SIZE)
        self._nonces.append(nonce)
        bare = _BeaconQuery(nonce, self._process_id, int(self._wanted), alone, bytes(QUERY_SIZE // 2))
        missing = QUERY_SIZE - len(_seal(self._key, bare))
        return _seal(self._key, msgspec.structs.replace(bare, padding=bytes(QUERY_SIZE // 2 + missing)))

    def received_untrusted(self, body: bytes, host: str) -> Found | None:
        """Read a received datagram; None unless it answers one of the latest queries.

        Args:
            body: Its bytes.
            host: The source address; used if the answer does not contain an address.
        """
        answer = _unseal_untrusted([self._key], body, _answers)
        if answer is None or answer[1].nonce not in self._nonces:
            return None
        return self._found(answer[1], host)

    def _found(self, answer: _Answer, host: str) -> Found | None:
        if len(answer.process_id) != ID_SIZE or not 0 < answer.port <= MAX_PORT:
            return None
        if answer.process_id == self._process_id:
            return None
        role = Role(answer.role & self._wanted)
        location = Location(answer.addr or host, answer.port)
        return Found(answer.process_id, role, printable(answer.name[:_NAME_LENGTH]), location) if role else None


class Answerer:
    """Answers the queries for one process.

    Args:
        credential: The cluster's secret; a query with another key that it accepts is answered with that key.
        presence: The process. A location without an address means the source address of the answer.

    Raises:
        ValueError: The location's address is longer than a host name can be.

    Attributes:
        foreign: The number of queries that used another secret, by the address of their machine.
    """

    def __init__(self, credential: Credential, presence: Found) -> None:
        self.foreign: dict[str, int] = {}
        if len(presence.location.addr.encode()) > _ADDR_LENGTH:
            message = f"an address has at most {_ADDR_LENGTH} bytes, not {presence.location.addr!r}"
            raise ValueError(message)
        self.use(credential)
        self._presence = presence
        self._heard: dict[bytes, None] = {}  # nonces, the oldest first
        self._left = _BURST
        self._then = float("-inf")

    def use(self, credential: Credential) -> None:
        """Accept another secret, and the keys that it accepts, from now on."""
        self._keys = [handshake_key(key, Purpose.DISCOVERY) for key in (credential.key, *credential.accepted)]

    def received_untrusted(self, body: bytes, source: Address, now: float, *, own_machine: bool) -> list[Datagram]:
        """Handle a received datagram. Return the datagrams to send.

        Args:
            body: Its bytes.
            source: Where it came from.
            now: The time of a monotonic clock, in seconds.
            own_machine: Whether it came from this machine itself.
        """
        read = _unseal_untrusted(self._keys, body, _queries)
        if read is None:
            if len(body) == QUERY_SIZE and (source[0] in self.foreign or len(self.foreign) < _FOREIGN_KEPT):
                self.foreign[source[0]] = self.foreign.get(source[0], 0) + 1
            return []
        key, query = read
        if isinstance(query, _Relayed):
            relay = None
            source = (query.host, query.port)
            acceptable = own_machine
        else:
            relay = _Relayed(query.nonce, query.process_id, query.wanted, *source) if query.alone else None
            acceptable = len(body) == QUERY_SIZE
        if not (acceptable and self._is_new(query.nonce) and self._is_time(now)):
            return []
        sent = [Datagram(_seal(key, relay), None)] if relay is not None else []
        if query.process_id != self._presence.process_id and query.wanted & self._presence.role:
            sent.append(Datagram(self._answer(key, query.nonce), source))
        return sent

    def _answer(self, key: bytes, nonce: bytes) -> bytes:
        me = self._presence
        where = me.location
        return _seal(key, _Answer(nonce, me.process_id, int(me.role), me.name[:_NAME_LENGTH], where.addr, where.port))

    def _is_new(self, nonce: bytes) -> bool:
        """Whether a query arrives for the first time: it arrives again over every other path to this process."""
        if nonce in self._heard:
            return False
        self._heard[nonce] = None
        if len(self._heard) > _NONCES_KEPT:
            del self._heard[next(iter(self._heard))]
        return True

    def _is_time(self, now: float) -> bool:
        self._left = min(_BURST, self._left + (now - self._then) * _RATE)
        self._then = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


_encode = msgspec.msgpack.Encoder().encode
_answers: msgspec.msgpack.Decoder[_Answer] = msgspec.msgpack.Decoder(_Answer)
_queries: msgspec.msgpack.Decoder[_BeaconQuery | _Relayed] = msgspec.msgpack.Decoder(_BeaconQuery | _Relayed)


def _seal(key: bytes, content: msgspec.Struct) -> bytes:
    body = _encode(content)
    return hmac.digest(key, body, "sha256") + body


def _unseal_untrusted(
    keys: Iterable[bytes], datagram: bytes, decoder: msgspec.msgpack.Decoder[S]
) -> tuple[bytes, S] | None:
    """Read a datagram that begins with a MAC under one of the keys. Return its content and that key."""
    mac, body = datagram[:_MAC_SIZE], datagram[_MAC_SIZE:]
    for key in keys:
        if hmac.compare_digest(mac, hmac.digest(key, body, "sha256")):
            try:
                return key, decoder.decode(body)
            except (msgspec.MsgspecError, ValueError, RecursionError):
                return None  # another kind of datagram, or one of another version
    return None
