from __future__ import annotations

import datetime as dt
import re
import secrets
import socket
import ssl
import subprocess
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypedDict

import pytest
import trio
import trio.testing
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from discoro_trio._errors import AuthenticationError, DiscoroError, ProtocolError
from discoro_trio._link import serve_endpoint
from discoro_trio._link._handshake_io import greet, welcome
from discoro_trio._link._option_error import OptionError
from discoro_trio._link._refusal_log import RefusalLog
from discoro_trio._link._resumable import ResumableTransport
from discoro_trio._link._writer import Writer
from discoro_trio._link.tls import _certificate
from discoro_trio._link.tls._tls import PREFACE, Tls, is_local, is_loopback
from discoro_trio._link.tls._transport import _WRITE_SIZE as MOST
from discoro_trio._link.tls._transport import TlsTransport
from discoro_trio._values import Location
from discoro_trio._wire import Binding, Credential, FrameReader, Identity, Kind, encode_header

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from discoro_trio._link._transport import Transport
    from discoro_trio._link.tls._tls import Wrapped
    from discoro_trio._wire import Buffer, PeerIdentity

CREDENTIAL = Credential(b"", bytes(32))
FRAME = encode_header(Kind.MESSAGE, 0, 7, 1000) + b"x" * 1000
Ends = tuple[trio.SocketStream, trio.SocketStream]


@asynccontextmanager
async def connection(host: str = "127.0.0.1") -> AsyncIterator[Ends]:
    """Give both ends of a TCP connection on this machine, the client's first."""
    (listener,) = await trio.open_tcp_listeners(0, host=host)
    async with listener:
        client = await trio.open_tcp_stream(host, listener.socket.getsockname()[1])
        async with client, await listener.accept() as server:
            yield client, server


async def shake_hands(
    client: trio.abc.Stream, server: trio.abc.Stream, *, ours: Tls | None = None, theirs: Tls | None = None
) -> tuple[Wrapped, Wrapped]:
    """Let both ends wrap a connection at once; the client's first."""
    wrapped: dict[str, Wrapped] = {}

    async def be_server() -> None:
        wrapped["server"] = await (theirs or Tls(always=True)).wrap_server(server)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(be_server)
        wrapped["client"] = await (ours or Tls(always=True)).wrap_client(client)
    return wrapped["client"], wrapped["server"]


def identity(name: str) -> Identity:
    return Identity(secrets.token_bytes(16), (3, 11), name, Location("127.0.0.1", 1))


@pytest.mark.spec("B08")
async def test_a_connection_that_leaves_the_machine_is_encrypted_with_nothing_set_up() -> None:
    client, server = trio.testing.memory_stream_pair()
    (near, bound_near), (far, bound_far) = await shake_hands(client, server)
    assert bound_near == bound_far
    assert bound_near.tls
    assert len(bound_near.fingerprint) == 32
    assert isinstance(near, TlsTransport)
    assert near.version == "TLSv1.3"
    await near.write([b"the", b"re"])
    assert await receive(far) == b"there"
    await far.write([b"and back"])
    assert await receive(near) == b"and back"


async def test_a_small_frame_waits_only_for_a_short_part_of_bulk_data_under_tls() -> None:
    (near, _), (far, _) = await shake_hands(*trio.testing.memory_stream_pair())
    writer = Writer(ResumableTransport(near))
    writer.outbox.put(Kind.MESSAGE, 0, 0, bytes(1 << 23))
    for _ in range(8):
        assert sum(map(len, writer.outbox.take())) < 130 * 1024
    await near.aclose()
    await far.aclose()


async def receive(transport: Transport, most: int = 100_000) -> bytes:
    """Read once, as a link does."""
    memory = memoryview(bytearray(most))
    return bytes(memory[: await transport.receive_into(memory)])


async def receive_exactly(transport: Transport, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += await receive(transport, min(size - len(data), 70_000))
    return data


async def test_much_at_once_comes_whole_and_in_order() -> None:
    client, server = trio.testing.memory_stream_pair()
    (near, _), (far, _) = await shake_hands(client, server)
    sent = [secrets.token_bytes(size) for size in (0, 1, 16_383, 16_384, 16_385, 300_000, 5, 0)]
    await near.write(sent)
    await near.write(sent[:3])
    assert await receive_exactly(far, sum(map(len, sent))) == b"".join(sent)
    assert await receive_exactly(far, sum(map(len, sent[:3]))) == b"".join(sent[:3])


@pytest.mark.parametrize(
    "sizes",
    [(MOST, 5), (MOST - 1, 1, 7), (2 * MOST, 1), (1, MOST - 1, 0, 9), (MOST, 0), (0, MOST), (1, MOST, MOST, 1)],
)
async def test_what_fills_one_write_exactly_comes_whole_and_in_order(sizes: tuple[int, ...]) -> None:
    (near, _), (far, _) = await shake_hands(*trio.testing.memory_stream_pair())
    sent = [secrets.token_bytes(size) for size in sizes]
    await near.write(near.write_now([*sent]))
    assert await receive_exactly(far, sum(sizes)) == b"".join(sent)


async def test_what_is_written_without_waiting_goes_first() -> None:
    async with connection() as (client, server):
        (near, _), (far, _) = await shake_hands(client, server)
        parts = [secrets.token_bytes(100_000) for _ in range(100)]
        at_once = 0
        rest: list[Buffer] = []
        while not rest:
            rest = near.write_now([parts[at_once]])
            at_once += 1
        assert 0 < at_once < 100, "until the buffers of the kernel are full"

        async def go_on() -> None:
            await near.write(rest)
            await near.write(parts[at_once:])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(go_on)
            assert await receive_exactly(far, 100 * 100_000) == b"".join(parts)


async def test_what_a_stream_in_general_cannot_write_at_once_is_kept() -> None:
    (near, _), (far, _) = await shake_hands(*trio.testing.memory_stream_pair())
    rest = near.write_now([b"first"])
    assert rest
    await near.write(rest)
    await near.write([b" then"])
    assert await receive_exactly(far, 10) == b"first then"


async def test_a_peer_that_ends_its_side_in_good_order_is_at_its_end() -> None:
    client, server = trio.testing.memory_stream_pair()
    ours = Tls(always=True)._client
    await client.send_all(PREFACE)
    stream = trio.SSLStream(client, ours)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.do_handshake)
        far, _ = await Tls(always=True).wrap_server(server)
    await stream.send_all(b"last")
    await stream.aclose()
    assert await receive(far) == b"last"
    assert await receive(far) == b""
    assert await receive(far) == b""


async def test_every_endpoint_has_a_certificate_of_its_own() -> None:
    bound = [(await shake_hands(*trio.testing.memory_stream_pair()))[0][1] for _ in range(2)]
    assert bound[0].fingerprint != bound[1].fingerprint


async def test_an_endpoint_keeps_its_certificate() -> None:
    theirs = Tls(always=True)
    theirs.prepare()
    bound = [(await shake_hands(*trio.testing.memory_stream_pair(), theirs=theirs))[0][1] for _ in range(2)]
    assert bound[0] == bound[1]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.9", "::1"])
async def test_a_connection_that_stays_on_the_machine_is_plain(host: str) -> None:
    async with connection(host) as (client, server):
        near, far = await shake_hands(client, server, ours=Tls(), theirs=Tls())
        assert (near[1], far[1]) == (Binding(), Binding())
        await near[0].write([b"plain"])
        assert await server.receive_some() == b"plain"


async def test_a_unix_socket_stays_on_the_machine() -> None:
    one, other = (trio.SocketStream(trio.socket.from_stdlib_socket(end)) for end in socket.socketpair())
    async with one, other:
        assert is_local(one)
        assert is_local(other)


async def test_one_that_has_gone_before_it_was_looked_at_is_a_broken_connection() -> None:
    async with connection() as (client, server):
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.socket.close()
        with pytest.raises(trio.BrokenResourceError):
            await server.receive_some()
        with pytest.raises(trio.BrokenResourceError):
            await Tls().wrap_server(server)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("10.0.0.1", False),
        ("0.0.0.0", False),  # noqa: S104 - nothing is bound
        ("::ffff:10.0.0.1", False),
        ("fe80::1%eth0", False),
        ("128.0.0.1", False),
    ],
)
def test_only_addresses_of_the_loopback_interface_count_as_this_machine(host: str, expected: bool) -> None:  # noqa: FBT001
    assert is_loopback(host) is expected


async def test_a_client_of_an_older_tls_is_refused() -> None:
    client, server = trio.testing.memory_stream_pair()
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    await client.send_all(PREFACE)
    refused: list[Exception] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(attempt, refused, trio.SSLStream(client, context).do_handshake)
        with pytest.raises(ProtocolError, match=r"does not speak TLS 1\.3"):
            await Tls(always=True).wrap_server(server)
        await server.aclose()
    assert [type(error) for error in refused] == [trio.BrokenResourceError]


@pytest.mark.fault("F13")
@pytest.mark.parametrize("before", [b"", PREFACE[:100], PREFACE])
@pytest.mark.parametrize("first", [b"\x0d" + bytes(19), b"\x80\x05cos\nsystem\n.", b"GET / HTTP/1.1\r\n\r\n"])
async def test_plain_bytes_are_no_way_in(before: bytes, first: bytes) -> None:
    client, server = trio.testing.memory_stream_pair()
    await client.send_all(before + first)
    with pytest.raises(ProtocolError, match=r"does not speak TLS 1\.3"):
        await Tls(always=True).wrap_server(server)


async def test_a_plain_server_is_refused() -> None:
    client, server = trio.testing.memory_stream_pair()
    await server.send_all(b"\x0d" + bytes(19))
    with pytest.raises(ProtocolError, match=r"does not speak TLS 1\.3"):
        await Tls(always=True).wrap_client(client)


async def test_a_peer_that_goes_during_the_handshake_is_a_broken_connection() -> None:
    client, server = trio.testing.memory_stream_pair()
    await server.aclose()
    with pytest.raises(trio.BrokenResourceError):
        await Tls(always=True).wrap_client(client)


# --- what sits in between


async def attempt(refused: list[Exception], handshake: Callable[[], Awaitable[object]]) -> None:
    """Take part in a handshake that fails, and keep why."""
    try:
        await handshake()
    except (DiscoroError, trio.BrokenResourceError) as error:
        refused.append(error)


async def pump(source: Transport, sink: Transport) -> None:
    while True:
        await sink.write([await receive(source)])


async def never(_peer: PeerIdentity) -> bool:
    return False


@pytest.mark.fault("F14")
async def test_a_handshake_relayed_by_one_with_another_certificate_is_refused() -> None:
    client, middle_near = trio.testing.memory_stream_pair()
    middle_far, server = trio.testing.memory_stream_pair()
    refused: list[Exception] = []

    async def be_client() -> None:
        transport, binding = await Tls(always=True).wrap_client(client)
        await attempt(refused, lambda: greet(transport, identity("client"), CREDENTIAL, None, binding))
        await transport.aclose()

    async def be_server() -> None:
        transport, binding = await Tls(always=True).wrap_server(server)
        keys = {b"": CREDENTIAL}.get
        await attempt(refused, lambda: welcome(transport, identity("server"), keys, never, binding))
        await transport.aclose()

    async def be_between() -> None:
        near, _ = await Tls(always=True).wrap_server(middle_near)
        far, _ = await Tls(always=True).wrap_client(middle_far)
        async with trio.open_nursery() as nursery:
            for source, sink in ((near, far), (far, near)):
                nursery.start_soon(attempt, refused, lambda source=source, sink=sink: pump(source, sink))

    async with trio.open_nursery() as nursery:
        for part in (be_client, be_server, be_between):
            nursery.start_soon(part)
    assert [type(error) for error in refused[:2]] == [AuthenticationError, AuthenticationError]


def flip(data: bytearray, at: int) -> None:
    data[at] ^= 1


def double(data: bytearray, at: int) -> None:
    data.insert(at, data[at])


def remove(data: bytearray, at: int) -> None:
    del data[at]


def move(data: bytearray, at: int) -> None:
    data.insert((at + 7) % len(data), data.pop(at) ^ 0x55)


def places(length: int) -> Iterator[int]:
    """Give the head of a TLS record, each of its bytes, and some of what it holds, its authentication at the end."""
    yield from range(5)
    yield from range(5, length - 17, 97)
    yield length - 17
    yield length - 1


@pytest.mark.fault("F15")
@pytest.mark.parametrize("harm", [flip, double, remove, move])
async def test_a_byte_that_is_changed_on_the_way_closes_the_connection(harm: Callable[[bytearray, int], None]) -> None:
    ours, theirs = Tls(always=True), Tls(always=True)
    for place in places(len(FRAME) + 22):
        client, server = trio.testing.memory_stream_pair()
        (near, _), (far, _) = await shake_hands(client, server, ours=ours, theirs=theirs)
        await near.write([FRAME])
        await expect_frames(far, 1)
        await near.write([FRAME])
        record = bytearray(await server.receive_some())
        assert len(record) == len(FRAME) + 22
        harm(record, place)
        await client.send_all(record)
        await near.write([FRAME] * 20)  # so that a record that became longer is completed
        with pytest.raises(trio.BrokenResourceError):
            await expect_frames(far, 2)  # one of them may be whole: a byte doubled at its end is the next one's


@pytest.mark.fault("F15")
async def test_records_that_come_twice_or_in_another_order_close_the_connection() -> None:
    for order in ([0, 0], [1, 0], [1]):
        client, server = trio.testing.memory_stream_pair()
        (near, _), (far, _) = await shake_hands(client, server)
        records = []
        for _ in range(2):
            await near.write([FRAME])
            records.append(await server.receive_some())
        for number in order:
            await client.send_all(records[number])
        with pytest.raises(trio.BrokenResourceError):
            await expect_frames(far, 2)
        left = far.write_now([FRAME])
        with pytest.raises(trio.BrokenResourceError):
            await far.write(left)


@pytest.mark.fault("F15")
async def test_a_stream_that_somebody_cuts_short_does_not_end_like_one_that_is_complete() -> None:
    client, server = trio.testing.memory_stream_pair()
    _, (far, _) = await shake_hands(client, server)
    await client.aclose()
    with pytest.raises(trio.BrokenResourceError):
        await expect_frames(far, 1)


async def expect_frames(transport: Transport, count: int) -> None:
    """Read frames as a link does; what arrives must be what was sent."""
    reader = FrameReader(1 << 20)
    while count:
        frames = reader.received(await transport.receive_into(reader.buffer()))
        assert all(frame == (Kind.MESSAGE, 0, 7, b"x" * 1000, ()) for frame in frames)
        count -= len(frames)


# --- certificates from files


class Files:
    """Certificate files of one authority."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = trustme.CA()
        self.cafile = self.put("ca.pem", self.authority.cert_pem.bytes())

    def put(self, name: str, content: bytes) -> Path:
        (self.folder / name).write_bytes(content)
        return self.folder / name

    def issue(self, name: str, begin: dt.datetime | None = None, end: dt.datetime | None = None) -> tuple[Path, Path]:
        """Give the files of a certificate and of its key."""
        issued = self.authority.issue_cert("node.example", not_before=begin, not_after=end)
        chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        return self.put(f"{name}.pem", chain), self.put(f"{name}.key", issued.private_key_pem.bytes())


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


async def exchange_fingerprint(ours: Tls, theirs: Tls) -> bytes:
    (_, near), (_, far) = await shake_hands(*trio.testing.memory_stream_pair(), ours=ours, theirs=theirs)
    assert near == far
    return near.fingerprint


@pytest.mark.spec("S27")
async def test_a_certificate_and_its_key_come_from_two_files_or_from_one(files: Files) -> None:
    certfile, keyfile = files.issue("node")
    both = files.put("both.pem", keyfile.read_bytes() + certfile.read_bytes())
    client = Tls(always=True)
    separate = await exchange_fingerprint(client, Tls(certfile=certfile, keyfile=str(keyfile), always=True))
    assert separate == await exchange_fingerprint(client, Tls(certfile=both, always=True))


async def test_with_an_authority_only_certificates_that_it_signed_are_taken(files: Files) -> None:
    certfile, keyfile = files.issue("node")
    client = Tls(cafile=files.cafile, always=True)
    await exchange_fingerprint(client, Tls(certfile=certfile, keyfile=keyfile, always=True))

    one, other = trio.testing.memory_stream_pair()
    refused: list[Exception] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(attempt, refused, lambda: Tls(always=True).wrap_server(other))
        with pytest.raises(AuthenticationError, match="no authority in cafile vouches"):
            await client.wrap_client(one)
        await one.aclose()


def _loaded(file: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(file.read_bytes())


YEAR = dt.timedelta(days=365)


@pytest.mark.spec("S27")
@pytest.mark.parametrize("end", ["client", "server"])
@pytest.mark.parametrize(
    ("shown", "why"),
    [
        ("none", "shows no certificate|vouches"),
        ("foreign", "vouches for the peer's certificate"),
        ("expired", "certificate has expired"),
    ],
)
async def test_with_an_authority_both_ends_must_show_a_certificate_of_it_and_each_says_why_not(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, end: str, shown: str, why: str
) -> None:
    certfile, keyfile = files.issue("node")
    good = Tls(certfile=certfile, keyfile=keyfile, cafile=files.cafile, always=True)
    other = Tls(always=True)
    if shown == "foreign":
        (tmp_path / "foreign").mkdir()
        certfile, keyfile = Files(tmp_path / "foreign").issue("node")
        other = Tls(certfile=certfile, keyfile=keyfile, always=True)
    elif shown == "expired":  # while it was in use
        monkeypatch.setattr(_certificate, "_read_certificate", _loaded)
        now = dt.datetime.now(dt.UTC)
        certfile, keyfile = files.issue("old", now - 2 * YEAR, now - YEAR)
        other = Tls(certfile=certfile, keyfile=keyfile, always=True)
    refused: list[Exception] = []
    monkeypatch.setattr(RefusalLog, "add", lambda _self, _now, _host, error: refused.append(error))
    ours, theirs = (other, good) if end == "client" else (good, other)
    async with serve_endpoint(tls=ours) as client, serve_endpoint(tls=theirs) as server:
        client.credentials[b""] = server.credentials[b""] = CREDENTIAL
        with trio.fail_after(60), pytest.raises(DiscoroError) as caught:
            await client.link_to(server.id, server.location, b"")
        with trio.fail_after(60):
            while not refused:  # noqa: ASYNC110 - there is no event
                await trio.sleep(0.01)
    judge = refused[0] if end == "client" else caught.value
    assert isinstance(judge, AuthenticationError)
    assert re.search(why, str(judge))
    assert all("\n" not in str(error) for error in (caught.value, *refused))
    judged = caught.value if end == "client" else refused[0]
    assert isinstance(judged, AuthenticationError)
    assert "does not accept the certificate of this process" in str(judged)


async def test_both_ends_with_certificates_of_one_authority_connect(files: Files) -> None:
    certfile, keyfile = files.issue("node")
    tls = Tls(certfile=certfile, keyfile=keyfile, cafile=files.cafile, always=True)
    async with serve_endpoint(tls=tls) as client, serve_endpoint(tls=tls) as server:
        client.credentials[b""] = server.credentials[b""] = CREDENTIAL
        link = await client.link_to(server.id, server.location, b"")
        assert link.peer.process_id == server.id


class _Options(TypedDict, total=False):
    certfile: Path
    keyfile: Path
    cafile: Path


@pytest.mark.fault("F24")
@pytest.mark.spec("S27")
def test_certificates_that_cannot_work_are_refused_by_their_option(files: Files) -> None:
    now = dt.datetime.now(dt.UTC)
    good, key = files.issue("good")
    other_key = files.issue("other")[1]
    expired, expired_key = files.issue("expired", now - 2 * YEAR, now - YEAR)
    early, early_key = files.issue("early", now + YEAR, now + 2 * YEAR)
    junk, nowhere = files.put("junk", b"junk"), files.folder / "nowhere"
    cases: list[tuple[_Options, str]] = [
        ({"certfile": nowhere}, "certfile: .*nowhere cannot be read: No such file"),
        ({"certfile": files.folder}, "certfile: .* cannot be read: Is a directory"),
        ({"certfile": junk}, "certfile: .*junk holds no certificate in PEM form"),
        ({"certfile": good}, "certfile: .*good.pem holds no private key in PEM form"),
        ({"certfile": good, "keyfile": nowhere}, "keyfile: .*nowhere cannot be read: No such file"),
        ({"certfile": good, "keyfile": junk}, "keyfile: .*junk holds no private key"),
        ({"certfile": good, "keyfile": other_key}, "keyfile: the key in .*other.key is not the one of .*good.pem"),
        ({"certfile": good, "keyfile": encrypted(files, key)}, "keyfile: the key in .* is encrypted"),
        ({"certfile": expired, "keyfile": expired_key}, r"certfile: .*expired.pem expired on \d{4}-\d\d-\d\d$"),
        ({"certfile": early, "keyfile": early_key}, r"certfile: .*early.pem is valid from \d{4}-\d\d-\d\d; is the"),
        ({"keyfile": key}, "keyfile: a key needs its certificate"),
        ({"cafile": nowhere}, "cafile: .*nowhere cannot be read: No such file"),
        ({"cafile": junk}, "cafile: .*junk holds no certificate"),
    ]
    for options, text in cases:
        with pytest.raises(OptionError, match=text) as caught:
            Tls(**options)
        assert "\n" not in str(caught.value)


def encrypted(files: Files, keyfile: Path) -> Path:
    key = serialization.load_pem_private_key(keyfile.read_bytes(), None)
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return files.put("locked.key", key.private_bytes(pem, form, serialization.BestAvailableEncryption(b"word")))


def test_nothing_slow_is_imported_before_a_connection_leaves_the_machine() -> None:
    source = "import sys, discoro_trio._link.tls._tls as t; t.Tls(); assert 'cryptography' not in sys.modules"
    subprocess.run([sys.executable, "-c", source], check=True)
