"""Whatever reads bytes of a peer, by itself: it gives a value or raises what it says, and takes no memory."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import pytest

from discoro_trio import ProtocolError
from discoro_trio._link import control
from discoro_trio._link.shared_memory._sharing import _HEAD, _PLACE, _unpacked_untrusted
from discoro_trio._monitor._json import object_untrusted
from discoro_trio._monitor._query import QueryError, read_query_untrusted
from discoro_trio._process import output
from discoro_trio._shipping import decode_package_untrusted, encode_package, pack_error, unpack_error
from discoro_trio._shipping._package import Package, PackedFile, sealed
from discoro_trio._wire import FrameReader, Kind, decode_batch_untrusted
from discoro_trio._wire._batch import encode_batches
from tests._memory import resident_bytes
from tests.fuzz.mutator import Mutator
from tests.fuzz.samples import control_types, frames, kept, plain
from tests.fuzz.target import MIB

if TYPE_CHECKING:
    from collections.abc import Callable

COUNT = 2_000
SEED = 3
SECONDS = float(os.environ.get("DISCORO_FUZZ_SECONDS", "0"))

pytestmark = [pytest.mark.fuzz, pytest.mark.fault("F16")]


class Decoder(NamedTuple):
    """What reads, sound inputs, and what it may raise."""

    read: Callable[[bytes], object]
    sound: list[bytes]
    raises: tuple[type[Exception], ...] = (ProtocolError,)


def read_frames(data: bytes) -> object:
    return FrameReader(1 << 32).feed(data)


def read_control(data: bytes) -> object:
    return control.decode(data)


def read_query(data: bytes) -> object:
    return read_query_untrusted(object_untrusted(data))


def batches() -> list[bytes]:
    values = [[1], [*range(64)], ["text", b"bytes", None, True, 2.5, -(1 << 63), (1 << 63) - 1], ["x" * 48] * 64]
    return [body for one in values for body in encode_batches(one)]


def packages() -> list[bytes]:
    files = (PackedFile("a/b", 0o644, b"content"), PackedFile("a", 0o755, b"", is_folder=True))
    package = Package(
        "", b"origin", ("f",), b"pickle", (("m", "n"),), (("m", None),), ("n",), ("os",), files, files, ("a",)
    )
    return [encode_package(sealed(package)), encode_package(package)]


def errors() -> list[bytes]:
    # None that is pickled on the way: what would be opened here is code.
    single = [pack_error(error("text"), where="here")[0] for error in (KeyboardInterrupt, SystemExit, GeneratorExit)]
    group = BaseExceptionGroup("group", [KeyboardInterrupt("one"), BaseExceptionGroup("inner", [SystemExit(2)])])
    return [*single, pack_error(group, where="here")[0]]


DECODERS = {
    "frames": Decoder(read_frames, [*frames(), *kept("after")]),
    "control messages": Decoder(read_control, [control.encode(plain(kind)) for kind in control_types()]),
    "batches": Decoder(decode_batch_untrusted, batches()),
    "components": Decoder(decode_package_untrusted, packages()),
    "places in shared memory": Decoder(
        _unpacked_untrusted, [_HEAD.pack(Kind.MESSAGE, count) + _PLACE.pack(0, 1, 2, 3) * count for count in (0, 1, 9)]
    ),
    "errors": Decoder(unpack_error, errors(), ()),
    "written lines": Decoder(
        msgspec.msgpack.Decoder(output.Written).decode,
        [msgspec.msgpack.encode(output.Written("coro", b"line\n"))],
        (ValueError, RecursionError),
    ),
    "questions of browsers": Decoder(
        read_query, [b'{"view": "cluster", "sort": "name", "page": 2, "filter": "x"}', b"{}"], (ValueError, QueryError)
    ),
}


@pytest.mark.parametrize("name", DECODERS)
def test_what_reads_bytes_of_others_gives_a_value_or_raises_what_it_says(name: str) -> None:
    decoder = DECODERS[name]
    deadline = time.monotonic() + SECONDS / len(DECODERS) / 4
    before = 0
    for number, data in enumerate(Mutator([*decoder.sound, *kept("decoders")], time.time_ns() if SECONDS else SEED)):
        if number == COUNT // 4:
            before = resident_bytes()
        if number >= COUNT and time.monotonic() > deadline:
            break
        try:
            decoder.read(data)
        except decoder.raises:
            continue
    assert resident_bytes() - before < 10 * MIB


@pytest.mark.parametrize("name", DECODERS)
def test_what_is_sound_is_read(name: str) -> None:
    decoder = DECODERS[name]
    read = 0
    for data in decoder.sound:
        try:
            decoder.read(data)
        except decoder.raises:
            continue
        read += 1
    assert read
