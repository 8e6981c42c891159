"""The handshake: each end proves to the other that it knows the key, before anything else is said.

This module owns the four messages and the checks on them. Which connection they go over, and for how long a
stranger may take, is with the link; which keys there are is with the endpoint.

    1. client → server  Hello      who it is, which key it wants to use, a nonce
    2. server → client  Challenge  who it is, a nonce
    3. client → server  Proof      a MAC over 1 and 2
    4. server → client  Proof      a MAC over 1, 2 and 3

In place of 2 and 4 the server may send Refused. What both have said makes, with the key, a further key for the
connections that follow when this one breaks. The client proves first, so that nothing is signed for
strangers. Both MACs cover every byte of the messages before them, and whether there is TLS and with which
certificate, so that a handshake which is relayed through another connection fails. Each role has a key of its
own, so that nothing that one end has said can be sent back to it.
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
"""The version of everything that crosses the wire; both ends have the same or do not talk."""

PACKAGE_VERSION = "0.1.0.dev0"
"""The version of this package, as in `pyproject.toml`: reading that of what is installed would cost every start."""

NONCE_SIZE = 32
ID_SIZE = 16
_MAC_SIZE = 32
_REALM_SIZE = 64
_TEXT_SIZE = 255
_PACKAGE_SIZE = 64
_NAME_SIZE = 128  # letters of this process's own name; with the longest address a challenge stays below the next
HELLO_LEAST = 1024
"""The bytes that a client's first message has at the least, so that strangers get no more than they send."""
_LABEL = b"discoro_trio handshake"

M = TypeVar("M", bound=msgspec.Struct)


class Crossed(PeerDisconnected):
    """Both ends opened a connection at once, and this one gives way to the other."""


class ProcessEnded(PeerDisconnected):
    """Another process listens where the wanted one did, so the wanted one has ended."""


class Connected(PeerDisconnected):
    """The process that listens there is one to which there is a connection already.

    Attributes:
        process_id: Its id, as it says.
    """

    def __init__(self, process_id: bytes) -> None:
        super().__init__("there is a connection to this process already")
        self.process_id = process_id


class Identity(Record, frozen=True):
    """Who this process says it is."""

    process_id: bytes
    """Its own random 16 bytes."""
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
    """Who the peer is, as it proved."""

    process_id: bytes
    """Its own random 16 bytes."""
    name: str
    """A name for people."""
    location: Location
    """Where it listens."""
    realm: bytes
    """The key under which it proved that; b"" for the cluster's secret."""
    package: str = ""
    """The version of the package that it runs; "" if it does not report that."""

    @classmethod
    def of(cls, identity: Identity, realm: bytes = b"") -> PeerIdentity:
        """Give what a peer would see of an identity."""
        return cls(identity.process_id, identity.name, identity.location, realm, identity.package)


class Binding(Record, frozen=True):
    """The connection that a handshake runs over, as both of its ends see it."""

    tls: bool = False
    """Whether TLS protects it."""
    fingerprint: bytes = b""
    """The SHA-256 of the server's certificate, b"" without TLS."""


class Reason(enum.StrEnum):
    """Why a server refuses."""

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
    """The process id that the client wants to reach, b"" if it takes any."""
    padding: bytes = b""
    """What makes this message longer than any answer to it."""


class Challenge(_Party, frozen=True, tag="challenge"):
    """The server's answer."""


class Proof(msgspec.Struct, frozen=True, tag="proof", forbid_unknown_fields=True):
    """The MAC of one end."""

    mac: bytes


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """The server's last word; nobody has proved it, so it is only shown."""

    reason: str
    protocol: int
    python: tuple[int, int]


_MALFORMED = (msgspec.MsgspecError, ValueError, RecursionError)
_encode = msgspec.msgpack.Encoder().encode


class ClientHandshake:
    """The handshake of the end that opened the connection.

    Args:
        identity: Who this process is.
        credential: The key to use.
        binding: The connection.
        expect: The id of the process that must answer; None for any.
        connected: Tells of an id whether there is a connection to that process already, so that none is wanted.

    Attributes:
        peer: Who the peer is; None until it has proved that.
        resume: What only the two of them know, for further connections of the same link.
        done: Whether both ends have proved what they must.
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
        """Give the first message to send."""
        party = _party_fields(self._identity)
        said = Hello(**party, realm=self._credential.realm, wanted=self._expect or b"")
        hello = _encode(msgspec.structs.replace(said, padding=bytes(max(HELLO_LEAST - len(_encode(said)), 0))))
        self._transcript.add(hello)
        return hello

    def received(self, body: bytes) -> bytes | None:
        """Handle a message of the server; give the one to send, None if there is none.

        Raises:
            AuthenticationError: The server does not accept our key, or did not prove that it knows it.
            VersionMismatch: It speaks another version of the protocol or of Python.
            PeerDisconnected: Another process than the wanted one is there, (`Connected`) one to which there is a
                connection already, or (`Crossed`) the peer's own
                connection to us wins.
            ProtocolError: It sent something else than a handshake.
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
        message = f"a {type(answer).__name__} has no place here in the handshake"
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
            return Crossed("the peer is opening a connection to us, which wins over ours")
        if refused.reason == Reason.SECRET:
            return AuthenticationError("the peer does not accept " + _name_of(self._credential))
        return ProtocolError("the peer refused the connection for a reason that is not known here")


class ServerHandshake:
    """The handshake of the end that was connected to.

    Args:
        identity: Who this process is.
        credentials: Gives the key for a realm, None if there is none here.
        binding: The connection.

    Attributes:
        peer: Who the peer is; None until it has proved that.
        resume: What only the two of them know, for further connections of the same link.
        done: Whether both ends have proved what they must; what `received` gave is still to be sent.
        refusal: What to send before closing, after `received` has raised an error; None if nothing.
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
        """Handle a message of the client; give the one to send.

        Raises:
            AuthenticationError: The client wants a key that is not here, did not prove that it knows it, or
                is this process itself.
            VersionMismatch: It speaks another version of the protocol or of Python.
            PeerDisconnected: It wants another process.
            ProtocolError: It sent something else than a handshake.
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
            message = f"a peer wants to use {_name_of_realm(hello.realm)}, which is not known here"
            raise AuthenticationError(message)
        challenge = _encode(Challenge(**_party_fields(self._identity)))
        if len(challenge) > self._received:
            message = "a first message that is shorter than its answer would be"
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
        """Refuse a peer that has proved itself, in place of sending what `received` gave: our own connection wins.

        Returns:
            The error for this end; `refusal` is what to send.
        """
        self._refuse(Reason.CROSSED)
        return Crossed("the peer opened a connection while ours to it is under way, which wins")

    def _refuse(self, reason: Reason) -> None:
        # No fingerprint of the key that is here: strangers could try passphrases against it at their leisure.
        refusal = _encode(Refused(reason.value, self._identity.protocol, self._identity.python))
        self.refusal = refusal if len(refusal) <= self._received else None


class _Transcript:
    """Everything that both ends have said so far, and the MACs over it."""

    def __init__(self, binding: Binding) -> None:
        self._said = b""
        for part in (_LABEL, b"tls" if binding.tls else b"plain", binding.fingerprint):
            self.add(part)

    def add(self, part: bytes) -> None:
        """Add bytes, with their length, so that no other parts make the same whole."""
        self._said += len(part).to_bytes(4, "big") + part

    def mac(self, key: bytes, purpose: Purpose) -> bytes:
        """Give the MAC of one role under a key."""
        return hmac.digest(handshake_key(key, purpose), self._said, "sha256")

    def resume_credential(self, key: bytes) -> Credential:
        """Derive what opens further connections of the link that this handshake begins; both ends derive the same."""
        return Credential(self.mac(key, Purpose.RESUME_ID)[:ID_SIZE], self.mac(key, Purpose.RESUME_KEY))


def _proved_key(proof: Proof, transcript: _Transcript, credential: Credential) -> bytes | None:
    """Find the key that the client has proved to know: the current one or, during a change, a further one."""
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
        # Not the text of the error: it may quote what a stranger sent, and ends in a log.
        message = "a malformed message in the handshake; the peer is no discoro_trio process of this version"
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
        message = "the peer presents this process's own id: something sends back what it says"
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
    return ProcessEnded("another process than the wanted one listens there; the wanted one has ended")


def _name_of_realm(realm: bytes) -> str:
    return f"the key of lease {realm.hex()[:8]}" if realm else "the cluster's secret"


def _name_of(credential: Credential) -> str:
    """Name a key for people at its own end; the other end shows another fingerprint if the keys differ."""
    return f"{_name_of_realm(credential.realm)} (fingerprint {fingerprint(credential.key)})"
