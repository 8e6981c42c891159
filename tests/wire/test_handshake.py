"""The handshake: who knows the key gets in, and nobody else, whatever they say or repeat."""

from __future__ import annotations

import hmac
import random
from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discoro_trio import AuthenticationError, DiscoroError, Location, PeerDisconnected, ProtocolError, VersionMismatch
from discoro_trio._wire import (
    PROTOCOL_VERSION,
    Binding,
    ClientHandshake,
    Credential,
    Crossed,
    Identity,
    PeerIdentity,
    ProcessEnded,
    ServerHandshake,
    fingerprint,
)
from discoro_trio._wire._frames import HELLO_LIMIT
from discoro_trio._wire._handshake import HELLO_LEAST

pytestmark = pytest.mark.spec("B07")

SECRET = Credential(b"", b"s" * 32)
LEASE = Credential(b"l" * 16, b"k" * 32)
TLS = Binding(tls=True, fingerprint=b"f" * 32)


def identity(name: str, number: int) -> Identity:
    return Identity(bytes([number]) * 16, (3, 11), name, Location(f"{name}.example", number))


CLIENT, SERVER = identity("client", 1), identity("server", 2)


def client_end(credential: Credential = SECRET, binding: Binding = TLS, **options: Any) -> ClientHandshake:
    return ClientHandshake(CLIENT, credential, binding, **options)


def server_end(*credentials: Credential, binding: Binding = TLS) -> ServerHandshake:
    known = {each.realm: each for each in credentials or (SECRET,)}
    return ServerHandshake(SERVER, known.get, binding)


def shake(client: ClientHandshake, server: ServerHandshake) -> None:
    """Carry all messages; raise what the first end that refuses raises, after the client has heard of it."""
    message = client.start()
    while True:
        try:
            answer = server.received(message)
        except DiscoroError:
            if server.refusal is not None:
                with pytest.raises(DiscoroError):
                    client.received(server.refusal)
            raise
        assert answer is not None
        reply = client.received(answer)
        if reply is None:
            return
        message = reply


def refused_both(client: ClientHandshake, server: ServerHandshake) -> tuple[DiscoroError, DiscoroError]:
    """Carry all messages until the server refuses; give what the client's and the server's end raise."""
    message = client.start()
    while True:
        try:
            answer = server.received(message)
        except DiscoroError as at_server:
            assert server.refusal is not None
            with pytest.raises(DiscoroError) as at_client:
                client.received(server.refusal)
            return at_client.value, at_server
        assert answer is not None
        message = client.received(answer) or b""


def changed(message: bytes, **fields: object) -> bytes:
    return msgspec.msgpack.encode(msgspec.msgpack.decode(message) | fields)


@pytest.mark.parametrize("credential", [SECRET, LEASE])
@pytest.mark.parametrize("binding", [Binding(), TLS])
def test_two_that_know_the_key_know_each_other_afterwards(credential: Credential, binding: Binding) -> None:
    client = client_end(credential, binding, expect=SERVER.process_id)
    server = server_end(SECRET, LEASE, binding=binding)
    shake(client, server)
    assert client.done
    assert server.done
    assert client.peer == PeerIdentity.of(SERVER, credential.realm)
    assert server.peer == PeerIdentity.of(CLIENT, credential.realm)
    assert server.refusal is None


@pytest.mark.parametrize("known", [Credential(b"", b"x" * 32), Credential(b"", b"\0" * 32)])
def test_a_wrong_secret_is_refused_and_each_end_names_its_own(known: Credential) -> None:
    client, server = client_end(), server_end(known)
    at_client, at_server = refused_both(client, server)
    assert type(at_client) is type(at_server) is AuthenticationError
    assert fingerprint(SECRET.key) in str(at_client)
    assert fingerprint(known.key) in str(at_server)
    assert not any((client.done, server.done, client.peer, server.peer))


def test_a_stranger_learns_nothing_of_the_secret() -> None:
    server = server_end()
    said = [server.received(client_end().start()) or b""]
    with pytest.raises(AuthenticationError):
        server.received(msgspec.msgpack.encode({"type": "proof", "mac": b"m" * 32}))
    said.append(server.refusal or b"")
    assert all(fingerprint(SECRET.key).encode() not in each and b"mac" not in each for each in said)


def test_a_key_that_the_server_has_not_is_named_on_both_sides() -> None:
    at_client, at_server = refused_both(client_end(LEASE), server_end(SECRET))
    assert type(at_client) is type(at_server) is AuthenticationError
    assert f"lease {LEASE.realm.hex()[:8]}" in str(at_server)
    assert fingerprint(LEASE.key) in str(at_client)


def test_the_key_of_a_lease_does_not_open_what_the_secret_opens() -> None:
    imposter = Credential(b"", LEASE.key)
    with pytest.raises(AuthenticationError):
        shake(client_end(imposter), server_end(SECRET, LEASE))


def test_while_the_secret_is_being_changed_either_key_is_accepted_and_no_third() -> None:
    old, new, third = (Credential(b"", bytes([number]) * 32) for number in range(3))
    changing = Credential(b"", old.key, accepted=(new.key,))
    for credential in (old, new):
        client, server = client_end(credential), server_end(changing)
        shake(client, server)
        assert (client.done, server.done) == (True, True)
    with pytest.raises(AuthenticationError):
        shake(client_end(third), server_end(changing))


@pytest.mark.fault("F14")
def test_an_empty_or_missing_proof_is_refused() -> None:
    for mac in (b"", b"\0" * 32):
        server = server_end()
        server.received(client_end().start())
        with pytest.raises(AuthenticationError):
            server.received(msgspec.msgpack.encode({"type": "proof", "mac": mac}))
        with pytest.raises(ProtocolError, match="over"):
            server.received(b"")


@pytest.mark.fault("F14")
def test_a_replayed_handshake_is_refused() -> None:
    client, first = client_end(), server_end()
    hello = client.start()
    proof = client.received(first.received(hello) or b"") or b""
    answer = first.received(proof) or b""
    second = server_end()
    second.received(hello)
    with pytest.raises(AuthenticationError):
        second.received(proof)
    other = client_end()
    other.received(server_end().received(other.start()) or b"")
    with pytest.raises(AuthenticationError):
        other.received(answer)
    assert not other.done


@pytest.mark.fault("F14")
def test_a_process_that_is_made_to_talk_to_itself_refuses() -> None:
    own_server = ServerHandshake(CLIENT, lambda _realm: SECRET, TLS)
    client = client_end()
    hello = client.start()
    with pytest.raises(AuthenticationError, match="own id"):
        own_server.received(hello)
    echo = ServerHandshake(SERVER, lambda _realm: SECRET, TLS).received(hello) or b""
    with pytest.raises(AuthenticationError, match="own id"):
        client.received(changed(echo, process_id=CLIENT.process_id))


@pytest.mark.fault("F14")
def test_a_proof_that_is_sent_back_proves_nothing() -> None:
    client = client_end()
    challenge = server_end().received(client.start()) or b""
    proof = client.received(challenge) or b""
    with pytest.raises(AuthenticationError):
        client.received(proof)
    assert client.peer is None


@pytest.mark.fault("F14")
@pytest.mark.parametrize("there", [Binding(), Binding(tls=True, fingerprint=b"other"), Binding(fingerprint=b"f" * 32)])
def test_a_handshake_relayed_through_another_connection_is_refused(there: Binding) -> None:
    client, server = client_end(binding=TLS), server_end(binding=there)
    with pytest.raises(AuthenticationError):
        shake(client, server)
    assert not any((client.done, server.done))


@pytest.mark.fault("F14")
@given(st.integers(0, 3), st.integers(0, 10_000), st.integers(1, 255))
@settings(deadline=None, max_examples=300)
def test_no_byte_can_be_changed_on_the_way(which: int, where: int, flip: int) -> None:
    client, server = client_end(), server_end()
    receivers: list[ServerHandshake | ClientHandshake] = [server, client, server, client]
    message: bytes | None = client.start()
    with pytest.raises(DiscoroError):
        for number, receiver in enumerate(receivers):
            assert message is not None
            if number == which:
                at = where % len(message)
                message = message[:at] + bytes([message[at] ^ flip]) + message[at + 1 :]
            message = receiver.received(message)
    assert not client.done
    assert server.done == (which == 3)


@pytest.mark.fault("F14", "F16")
def test_ten_thousand_wrong_handshakes_are_refused_in_few_words() -> None:
    rng = random.Random(14)
    good = client_end().start()
    texts = set()
    for number in range(10_000):
        server = server_end()
        with pytest.raises(DiscoroError) as caught:
            if number % 2:
                server.received(rng.randbytes(rng.randrange(100)))
                server.received(rng.randbytes(40))
            server.received(changed(good, nonce=rng.randbytes(32)))
            server.received(msgspec.msgpack.encode({"type": "proof", "mac": rng.randbytes(32)}))
        assert not server.done
        texts.add(str(caught.value))
    assert len(texts) <= 4
    assert all(len(text) < 200 and text.isprintable() for text in texts)


@pytest.mark.fault("F14")
def test_a_refusal_takes_no_more_of_keys_than_an_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: Counter[str] = Counter()
    digest = hmac.digest

    def counted(key: bytes, message: bytes, kind: str) -> bytes:
        taken[whose] += 1
        return digest(key, message, kind)

    monkeypatch.setattr(hmac, "digest", counted)
    whose = "attempt"
    attempt = client_end(Credential(b"", b"x" * 32))
    first = attempt.start()
    whose = "junk"
    for junk in (b"", b"?", first[:-1], first[:500], changed(first, realm=b"of nobody")):
        with pytest.raises(DiscoroError):
            server_end().received(junk)
    whose = "challenge"
    server = server_end()
    challenge = server.received(first)
    assert challenge is not None
    whose = "attempt"
    proof = attempt.received(challenge)
    assert proof is not None
    whose = "refusal"
    with pytest.raises(AuthenticationError):
        server.received(proof)
    assert not taken["junk"]
    assert not taken["challenge"]
    # The log names the key that is here by its fingerprint, as the one who tried does with his.
    assert taken["refusal"] <= taken["attempt"] + 2


@pytest.mark.fault("F17")
@pytest.mark.parametrize(
    ("other", "named"),
    [
        (msgspec.structs.replace(SERVER, protocol=PROTOCOL_VERSION + 1), "protocol 2 under Python 3.11"),
        (msgspec.structs.replace(SERVER, python=(3, 12)), "protocol 1 under Python 3.12"),
    ],
)
def test_another_version_is_refused_with_both_versions_named_at_both_ends(other: Identity, named: str) -> None:
    client = client_end()
    at_client, at_server = refused_both(client, ServerHandshake(other, lambda _realm: SECRET, TLS))
    for error in (at_client, at_server):
        assert type(error) is VersionMismatch
        assert named in str(error)
        assert f"protocol {PROTOCOL_VERSION} under Python 3.11" in str(error)


@pytest.mark.fault("F17")
def test_a_later_protocol_whose_hello_looks_different_is_still_told_by_its_version() -> None:
    server = server_end()
    future = {"type": "salute", "protocol": 9, "python": (4, 0), "new": [1, 2], "padding": bytes(64)}
    with pytest.raises(VersionMismatch, match=r"protocol 9 under Python 4\.0"):
        server.received(msgspec.msgpack.encode(future))
    assert server.refusal is not None


@pytest.mark.fault("F17")
def test_a_server_of_another_version_that_does_not_refuse_is_refused_by_the_client() -> None:
    client = client_end()
    challenge = server_end().received(client.start()) or b""
    with pytest.raises(VersionMismatch):
        client.received(changed(challenge, python=(3, 12)))


@pytest.mark.fault("F11")
def test_who_says_less_than_an_answer_has_gets_none() -> None:
    assert len(client_end().start()) >= HELLO_LEAST
    talkative = msgspec.structs.replace(SERVER, name="n" * 300)
    short = {"type": "hello", "protocol": 9, "python": (4, 0)}
    for said, error in (
        (msgspec.msgpack.encode(short), VersionMismatch),
        (changed(client_end().start(), padding=b""), ProtocolError),
    ):
        server = ServerHandshake(talkative, {b"": SECRET}.get, TLS)
        with pytest.raises(error):
            server.received(said)
        assert server.refusal is None
    challenge = ServerHandshake(talkative, {b"": SECRET}.get, TLS).received(client_end().start())
    assert challenge is not None
    assert len(challenge) < HELLO_LEAST


def test_another_process_at_the_address_is_refused_by_both() -> None:
    at_client, at_server = refused_both(client_end(expect=b"w" * 16), server_end())
    assert type(at_client) is type(at_server) is ProcessEnded
    client = client_end(expect=b"w" * 16)
    answer = server_end().received(changed(client.start(), wanted=b"")) or b""
    with pytest.raises(PeerDisconnected):
        client.received(answer)


def test_a_connection_that_crossed_is_refused_in_place_of_the_last_proof() -> None:
    client, server = client_end(), server_end()
    proof = client.received(server.received(client.start()) or b"") or b""
    assert server.received(proof) is not None
    assert server.peer == PeerIdentity.of(CLIENT)
    assert isinstance(server.give_way(), Crossed)
    with pytest.raises(Crossed):
        client.received(server.refusal or b"")
    assert client.peer is None


def test_both_ends_derive_the_same_key_for_further_connections_and_each_handshake_another_one() -> None:
    keys = []
    for _ in range(2):
        client, server = client_end(), server_end()
        shake(client, server)
        assert client.resume is not None
        assert client.resume == server.resume
        keys.append((client.resume.realm, client.resume.key))
        assert SECRET.key not in keys[-1]
    assert len({part for pair in keys for part in pair}) == 4


@pytest.mark.parametrize(
    "fields",
    [
        {"nonce": b"n" * 31},
        {"nonce": b"n" * 33},
        {"nonce": b""},
        {"process_id": b"i" * 15},
        {"realm": b"r" * 65},
        {"wanted": b"w" * 15},
        {"name": "n" * 256},
        {"addr": "a" * 256},
        {"port": 65_536},
        {"port": -1},
        {"port": "80"},
        {"type": "challenge"},
        {"name": "n" * HELLO_LIMIT},
    ],
)
def test_a_hello_with_a_wrong_field_is_refused(fields: dict[str, object]) -> None:
    server = server_end()
    with pytest.raises(ProtocolError):
        server.received(changed(client_end().start(), **fields))
    assert server.refusal is None


@pytest.mark.parametrize("fields", [{"nonce": b"n" * 31}, {"process_id": b""}, {"port": 65_536}])
def test_a_challenge_with_a_wrong_field_is_refused(fields: dict[str, object]) -> None:
    client = client_end()
    challenge = server_end().received(client.start()) or b""
    with pytest.raises(ProtocolError):
        client.received(changed(challenge, **fields))


def test_messages_in_the_wrong_order_are_refused() -> None:
    proof = msgspec.msgpack.encode({"type": "proof", "mac": b"m" * 32})
    with pytest.raises(ProtocolError):
        server_end().received(proof)
    client = client_end()
    hello = client.start()
    with pytest.raises(ProtocolError):
        client.received(proof)
    server = server_end()
    challenge = server.received(hello) or b""
    with pytest.raises(ProtocolError):
        server.received(hello)
    with pytest.raises(ProtocolError, match="over"):
        client.received(challenge)
    other = client_end()
    second = server_end().received(other.start()) or b""
    other.received(second)
    with pytest.raises(ProtocolError):
        other.received(second)


def test_nothing_is_taken_after_the_end() -> None:
    client, server = client_end(), server_end()
    shake(client, server)
    with pytest.raises(ProtocolError, match="over"):
        client.received(b"")
    with pytest.raises(ProtocolError, match="over"):
        server.received(b"")


def test_a_refusal_for_an_unknown_reason_is_an_error_too() -> None:
    refused = {"type": "refused", "reason": "weather", "protocol": 1, "python": (3, 11)}
    client = client_end()
    client.start()
    with pytest.raises(ProtocolError, match="unknown reason"):
        client.received(msgspec.msgpack.encode(refused))


@pytest.mark.fault("F14", "F16")
@given(st.binary(max_size=200))
@settings(deadline=None)
def test_garbage_raises_only_documented_errors(data: bytes) -> None:
    for end in (server_end(), client_end()):
        if isinstance(end, ClientHandshake):
            end.start()
        with pytest.raises(DiscoroError):
            end.received(data)
        assert end.peer is None


def test_every_handshake_has_nonces_of_its_own() -> None:
    hellos = {client_end().start() for _ in range(50)}
    assert len(hellos) == 50
