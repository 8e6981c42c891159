"""The handshake: each end proves to the other that it knows the key, before anything else is sent.

This module owns the four messages and the checks on them. The link sends them and limits the time for an
unauthenticated peer; the endpoint has the keys.

    1. client → server  Hello      its identity, which key it wants to use, a nonce
    2. server → client  Challenge  its identity, a nonce
    3. client → server  Proof      a MAC over 1 and 2
    4. server → client  Proof      a MAC over 1, 2 and 3

Instead of 2 and 4 the server may send Refused. From all messages and the key, both ends derive another key for the
connections that follow if this one breaks. The client proves first, so that nothing is signed for unauthenticated
peers. Both MACs cover every byte of the messages before them, and whether there is TLS and with which certificate, so
a handshake that is relayed through another connection fails. Each role has its own key, so a message of one end cannot
be reflected to it.
"""

from __future__ import annotations

import enum
import hmac
import secrets
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from .._errors import AuthenticationError, PeerDisconnected, ProtocolError, VersionMismatch
from .._printable import printable
from .._records import Record
from .._values import MAX_PORT, Location
from ._frames import HELLO_LIMIT
from ._keys import Credential, Purpose, fingerprint, handshake_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._errors import DiscoroError

PROTOCOL_VERSION = 1
"""The version of the whole protocol; both ends must have the same one."""

PACKAGE_VERSION = "0.1.0.dev0"
"""The version of this package, as in `pyproject.toml`: reading the installed version would slow every start."""

NONCE_SIZE = 32
ID_SIZE = 16
_MAC_SIZE = 32
_REALM_SIZE = 64
_TEXT_SIZE = 255
_PACKAGE_SIZE = 64
_NAME_SIZE = 128  # letters of this process's name; with the longest address a challenge stays below the next limit
HELLO_LEAST = 1024
"""The minimum length of a client's first message in bytes, so that no answer is longer than the message."""
_LABEL = b"discoro_trio handshake"

M = TypeVar("M", bound=msgspec.Struct)


class Crossed(PeerDisconnected):
    """Both ends opened a connection at the same time, and this one gives way to the other."""


class ProcessEnded(PeerDisconnected):
    """Another process listens at the location of the wanted one, so the wanted one has ended."""


class Connected(PeerDisconnected):
    """The process that listens there is already connected.

    Attributes:
        process_id: Its id, as it claims.
    """

    def __init__(self, process_id: bytes) -> None:
        super().__init__("this process is already connected")
        self.process_id = process_id


class Identity(Record, frozen=True):
    """The identity of this process."""

    process_id: bytes
    """The process id: 16 random bytes."""
    python: tuple[int, int]
    """The major and minor version of its Python."""
    name: str
    """A name for people."""
    location: Location
    """Where it listens."""
    protocol: int = PROTOCOL_VERSION
    """The version of the protocol that it speaks."""
    package: str = PACKAGE_VERSION
    """The version of the package that it runs."""


class PeerIdentity(Record, frozen=True):
    """The identity of the peer, which it has proved."""

    process_id: bytes
    """The process id: 16 random bytes."""
    name: str
    """A name for people."""
    location: Location
    """Where it listens."""
    realm: bytes
    """The realm of the key with which it proved its identity; b"" for the cluster's secret."""
    package: str = ""
    """The version of the package that it runs; "" if it does not report that."""

    @classmethod
    def of(cls, identity: Identity, realm: bytes = b"") -> PeerIdentity:
        """Return an identity as its peers see it."""
        return cls(identity.process_id, identity.name, identity.location, realm, identity.package)


class Binding(Record, frozen=True):
    """The connection that a handshake runs over, as both of its ends see it."""

    tls: bool = False
    """Whether TLS protects it."""
    fingerprint: bytes = b""
    """The SHA-256 of the server's certificate, b"" without TLS."""


class Reason(enum.StrEnum):
    """The reason for a refusal by the server."""

    VERSION = "version"
    SECRET = "secret"  # noqa: S105 - the name of a reason
    PROCESS = "process"
    CROSSED = "crossed"


# Maps, and unknown fields are allowed: the two versions must be readable in a Hello of any later version.
class _Versions(msgspec.Struct, frozen=True):
    protocol: int
    python: tuple[int, int]


class _Party(msgspec.Struct, frozen=True):
    protocol: int
    python: tuple[int, int]
    process_id: bytes
    nonce: bytes
    name: str
    addr: str
    port: int
    package: str = msgspec.field(default="", name="package_version")


class Hello(_Party, frozen=True, tag="hello", kw_only=True):
    """The client's first message."""

    realm: bytes
    wanted: bytes
    """The process id that the client wants to reach; b"" for any."""
    padding: bytes = b""
    """Padding that makes this message longer than any answer to it."""


class Challenge(_Party, frozen=True, tag="challenge"):
    """The server's answer."""


class Proof(msgspec.Struct, frozen=True, tag="proof", forbid_unknown_fields=True):
    """The MAC of one end."""

    mac: bytes


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """The server refuses and sends nothing more; this is not authenticated, so it is only shown."""

    reason: str
    protocol: int
    python: tuple[int, int]


_MALFORMED = (msgspec.MsgspecError, ValueError, RecursionError)
_encode = msgspec.msgpack.Encoder().encode


class ClientHandshake:
    """The handshake of the end that opened the connection.

    Args:
        identity: The identity of this process.
        credential: The key to use.
        binding: The connection.
        expect: The id of the process that must answer; None for any.
        connected: Returns whether the process with an id is already connected, so that no connection is wanted.

    Attributes:
        peer: The identity of the peer; None until it has proved it.
        resume: A key that only the two ends have, for more connections of the same link.
        done: Whether both ends have proved their identity.
    """

    def __init__(
        self,
        identity: Identity,
        credential: Credential,
        binding: Binding,
        expect: bytes | None = None,
        *,
        connected: Callable[[bytes], bool] | None = None,
    ) -> None:
        self.peer: PeerIdentity | None = None
        self.resume: Credential | None = None
        self.done: bool = False
        self._identity = identity
        self._credential = credential
        self._expect = expect
        self._connected = connected
        self._transcript = _Transcript(binding)
        self._challenge: Challenge | None = None
        self._over = False

    def start(self) -> bytes:
        """Return the first message to send."""
        party = _party_fields(self._identity)
        said = Hello(**party, realm=self._credential.realm, wanted=self._expect or b"")
        hello = _encode(msgspec.structs.replace(said, padding=bytes(max(HELLO_LEAST - len(_encode(said)), 0))))
        self._transcript.add(hello)
        return hello

    def received(self, body: bytes) -> bytes | None:
        """Handle a message of the server. Return the message to send; None if there is none.

        Raises:
            AuthenticationError: The server does not accept the key, or did not prove that it knows it.
            VersionMismatch: It uses another version of the protocol or of Python.
            PeerDisconnected: Another process than the wanted one answered, the process is already connected
                (`Connected`), or the peer's own connection to this process wins
                (`Crossed`).
            ProtocolError: It did not send a handshake.
        """
        if self._over:
            message = "the handshake is over"
            raise ProtocolError(message)
        self._over = True  # until this message has passed all checks
        answer = _decode_untrusted(body, _from_server)
        if isinstance(answer, Refused):
            raise self._refused(answer)
        if isinstance(answer, Challenge) and self._challenge is None:
            proof = self._prove(body, answer)
            self._over = False
            return proof
        if isinstance(answer, Proof) and self._challenge is not None:
            self._check(answer, self._challenge)
            return None
        message = f"a {type(answer).__name__} is not allowed at this point of the handshake"
        raise ProtocolError(message)

    def _prove(self, body: bytes, challenge: Challenge) -> bytes:
        _check_party_untrusted(challenge, self._identity)
        if self._expect is not None and challenge.process_id != self._expect:
            raise _another_process()
        if self._connected is not None and self._connected(challenge.process_id):
            raise Connected(challenge.process_id)
        self._challenge = challenge
        self._transcript.add(body)
        proof = _encode(Proof(self._transcript.mac(self._credential.key, Purpose.LINK_CLIENT)))
        self._transcript.add(proof)
        return proof

    def _check(self, proof: Proof, challenge: Challenge) -> None:
        expected = self._transcript.mac(self._credential.key, Purpose.LINK_SERVER)
        if not hmac.compare_digest(proof.mac, expected):
            message = "the peer did not prove that it knows " + _name_of(self._credential)
            raise AuthenticationError(message)
        self.peer = _peer(challenge, self._credential.realm)
        self.resume = self._transcript.resume_credential(self._credential.key)
        self.done = True

    def _refused(self, refused: Refused) -> DiscoroError:
        if refused.reason == Reason.VERSION:
            return _mismatch(self._identity, refused)
        if refused.reason == Reason.PROCESS:
            return _another_process()
        if refused.reason == Reason.CROSSED:
            return Crossed("the peer is opening a connection to this process, which wins over this one")
        if refused.reason == Reason.SECRET:
            return AuthenticationError("the peer does not accept " + _name_of(self._credential))
        return ProtocolError("the peer refused the connection for an unknown reason")


class ServerHandshake:
    """The handshake of the end that accepted the connection.

    Args:
        identity: The identity of this process.
        credentials: Returns the key for a realm, or None if this process has none.
        binding: The connection.

    Attributes:
        peer: The identity of the peer; None until it has proved it.
        resume: A key that only the two ends have, for more connections of the same link.
        done: Whether both ends have proved their identity; the last result of `received` is still to be sent.
        refusal: The message to send before closing, after `received` has raised an error; None for none.
    """

    def __init__(
        self,
        identity: Identity,
        credentials: Callable[[bytes], Credential | None],
        binding: Binding,
    ) -> None:
        self.peer: PeerIdentity | None = None
        self.resume: Credential | None = None
        self.done: bool = False
        self.refusal: bytes | None = None
        self._identity = identity
        self._credentials = credentials
        self._binding = binding
        self._hello: Hello | None = None
        self._credential: Credential | None = None
        self._transcript: _Transcript | None = None
        self._over = False
        self._received = 0

    def received(self, body: bytes) -> bytes | None:
        """Handle a message of the client. Return the message to send.

        Raises:
            AuthenticationError: The client wants an unknown key, did not prove that it knows the key, or
                is this process itself.
            VersionMismatch: It uses another version of the protocol or of Python.
            PeerDisconnected: It wants another process.
            ProtocolError: It did not send a handshake.
        """
        if self._over:
            message = "the handshake is over"
            raise ProtocolError(message)
        self._over = True  # until this message has passed all checks
        self._received += len(body)
        if self._hello is None or self._transcript is None:
            answer = self._challenge(body)
            self._over = False
            return answer
        return self._answer_proof(body, self._hello, self._transcript)

    def _challenge(self, body: bytes) -> bytes:
        versions = _decode_untrusted(body, _versions)
        if (versions.protocol, versions.python) != (self._identity.protocol, self._identity.python):
            self._refuse(Reason.VERSION)
            raise _mismatch(self._identity, versions)
        hello = _decode_untrusted(body, _first_from_client)
        _check_hello_untrusted(hello, self._identity)
        if hello.wanted and hello.wanted != self._identity.process_id:
            self._refuse(Reason.PROCESS)
            raise _another_process()
        credential = self._credentials(hello.realm)
        if credential is None:
            self._refuse(Reason.SECRET)
            message = f"a peer wants to use {_name_of_realm(hello.realm)}, which this process does not have"
            raise AuthenticationError(message)
        challenge = _encode(Challenge(**_party_fields(self._identity)))
        if len(challenge) > self._received:
            message = "the first message is shorter than its answer would be"
            raise ProtocolError(message)
        self._hello, self._credential = hello, credential
        self._transcript = _Transcript(self._binding)
        self._transcript.add(body)
        self._transcript.add(challenge)
        return challenge

    def _answer_proof(self, body: bytes, hello: Hello, transcript: _Transcript) -> bytes:
        assert self._credential is not None  # noqa: S101 - set together with the transcript
        proof = _decode_untrusted(body, _second_from_client)
        key = _proved_key(proof, transcript, self._credential)
        if key is None:
            self._refuse(Reason.SECRET)
            message = "a peer did not prove that it knows " + _name_of(self._credential)
            raise AuthenticationError(message)
        transcript.add(body)
        self.peer, self.done = _peer(hello, self._credential.realm), True
        self.resume = transcript.resume_credential(key)
        return _encode(Proof(transcript.mac(key, Purpose.LINK_SERVER)))

    def give_way(self) -> Crossed:
        """Refuse an authenticated peer instead of sending the result of `received`: this end's own connection wins.

        Returns:
            The error for this end; `refusal` is the message to send.
        """
        self._refuse(Reason.CROSSED)
        return Crossed("the peer opened a connection, but this process is opening one to the peer, which wins")

    def _refuse(self, reason: Reason) -> None:
        # No fingerprint of this process's key: an unauthenticated peer could test passphrases against it offline.
        refusal = _encode(Refused(reason.value, self._identity.protocol, self._identity.python))
        self.refusal = refusal if len(refusal) <= self._received else None


class _Transcript:
    """All messages of both ends so far, and the MACs over them."""

    def __init__(self, binding: Binding) -> None:
        self._said = b""
        for part in (_LABEL, b"tls" if binding.tls else b"plain", binding.fingerprint):
            self.add(part)

    def add(self, part: bytes) -> None:
        """Add bytes with their length, so that no other parts make the same transcript."""
        self._said += len(part).to_bytes(4, "big") + part

    def mac(self, key: bytes, purpose: Purpose) -> bytes:
        """Return the MAC of one role under a key."""
        return hmac.digest(handshake_key(key, purpose), self._said, "sha256")

    def resume_credential(self, key: bytes) -> Credential:
        """Derive the key for more connections of the link that this handshake begins; both ends derive the same one."""
        return Credential(self.mac(key, Purpose.RESUME_ID)[:ID_SIZE], self.mac(key, Purpose.RESUME_KEY))


def _proved_key(proof: Proof, transcript: _Transcript, credential: Credential) -> bytes | None:
    """Return the key that the client has proved to know: the current one or, during a change, another one."""
    for key in (credential.key, *credential.accepted):
        if hmac.compare_digest(proof.mac, transcript.mac(key, Purpose.LINK_CLIENT)):
            return key
    return None


_versions: msgspec.msgpack.Decoder[_Versions] = msgspec.msgpack.Decoder(_Versions)
_first_from_client: msgspec.msgpack.Decoder[Hello] = msgspec.msgpack.Decoder(Hello)
_second_from_client: msgspec.msgpack.Decoder[Proof] = msgspec.msgpack.Decoder(Proof)
_from_server: msgspec.msgpack.Decoder[Challenge | Proof | Refused] = msgspec.msgpack.Decoder(
    Challenge | Proof | Refused
)


def _decode_untrusted(body: bytes, decoder: msgspec.msgpack.Decoder[M]) -> M:
    if len(body) > HELLO_LIMIT:
        message = f"a message of {len(body)} bytes in the handshake; at most {HELLO_LIMIT} are allowed"
        raise ProtocolError(message)
    try:
        return decoder.decode(body)
    except _MALFORMED as error:
        # Without the text of the error: it may quote bytes of an unauthenticated peer, and is written to a log.
        message = "a malformed message in the handshake; the peer is not a discoro_trio process of this version"
        raise ProtocolError(message) from error


def _check_party_untrusted(party: _Party, own: Identity) -> None:
    if (party.protocol, party.python) != (own.protocol, own.python):
        raise _mismatch(own, party)
    lengths = len(party.process_id) == ID_SIZE and len(party.nonce) == NONCE_SIZE
    texts = len(party.name) <= _TEXT_SIZE and len(party.addr) <= _TEXT_SIZE and len(party.package) <= _PACKAGE_SIZE
    if not (lengths and texts and 0 <= party.port <= MAX_PORT):
        message = "a message in the handshake has a field of the wrong length"
        raise ProtocolError(message)
    if hmac.compare_digest(party.process_id, own.process_id):
        message = "the peer presents this process's own id: the messages of this process are sent back to it"
        raise AuthenticationError(message)


def _check_hello_untrusted(hello: Hello, own: Identity) -> None:
    _check_party_untrusted(hello, own)
    if len(hello.realm) > _REALM_SIZE or len(hello.wanted) not in (0, ID_SIZE):
        message = "a message in the handshake has a field of the wrong length"
        raise ProtocolError(message)


def _party_fields(identity: Identity) -> dict[str, Any]:
    return {
        "protocol": identity.protocol,
        "python": identity.python,
        "process_id": identity.process_id,
        "nonce": secrets.token_bytes(NONCE_SIZE),
        "name": identity.name[:_NAME_SIZE],
        "addr": identity.location.addr,
        "port": identity.location.port,
        "package": identity.package[:_PACKAGE_SIZE],
    }


def _peer(party: _Party, realm: bytes) -> PeerIdentity:
    location = Location(party.addr, party.port)
    return PeerIdentity(party.process_id, printable(party.name), location, realm, printable(party.package))


def _mismatch(own: Identity, peer: _Versions | _Party | Refused) -> VersionMismatch:
    return VersionMismatch(
        f"the peer speaks protocol {peer.protocol} under Python {peer.python[0]}.{peer.python[1]}, "
        f"this process protocol {own.protocol} under Python {own.python[0]}.{own.python[1]}: "
        f"run the same versions at both ends"
    )


def _another_process() -> ProcessEnded:
    return ProcessEnded("another process listens there; the wanted one has ended")


def _name_of_realm(realm: bytes) -> str:
    return f"the key of lease {realm.hex()[:8]}" if realm else "the cluster's secret"


def _name_of(credential: Credential) -> str:
    """Describe a key for the users of this end; the other end shows another fingerprint if the keys differ."""
    return f"{_name_of_realm(credential.realm)} (fingerprint {fingerprint(credential.key)})"
