"""Frames: whatever way the bytes come, the same frames or a ProtocolError."""

from __future__ import annotations

import ctypes
import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discoro_trio import ProtocolError
from discoro_trio._wire import FrameReader, HelloReader, Kind, encode_header, encode_hello
from discoro_trio._wire._frames import HEADER, HELLO_LIMIT, LARGE, MOST_BUFFERS, MOST_STREAMS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from discoro_trio._wire import Frame

GIB = 1 << 30
AS_BYTES = 1 << 63
MAX = 4 * GIB
Plain = tuple[int, int, int, bytes, tuple[bytes, ...]]

PLAIN_KINDS = sorted(set(Kind) - {Kind.BULK, Kind.PART, Kind.ABORT, Kind.HELLO})


def encoded(kind: int, flags: int, target: int, body: bytes, buffers: Sequence[bytes] = ()) -> bytes:
    lengths = tuple(map(len, buffers))
    return encode_header(kind, flags, target, len(body), lengths) + body + b"".join(buffers)


def encoded_bytes(target: int, buffers: Sequence[bytes]) -> bytes:
    """Give a frame whose buffers are to be received as bytes."""
    return encode_header(Kind.MESSAGE, 0, target, 0, tuple(AS_BYTES | len(buffer) for buffer in buffers)) + b"".join(
        buffers
    )


def bulk(stream: int, frame: bytes, content: int, part_sizes: Iterable[int]) -> list[bytes]:
    """Give an encoded frame, whose content has so many bytes, as BULK and PARTs."""
    start = len(frame) - content
    pieces = [encoded(Kind.BULK, 0, stream, frame[:start])]
    for size in part_sizes:
        if start >= len(frame):
            break
        part = frame[start : start + size]
        pieces.append(encoded(Kind.PART, 0, stream, part))
        start += len(part)
    return pieces


def plain(frames: Iterable[Frame]) -> list[Plain]:
    return [
        (kind, flags, target, bytes(body), tuple(map(bytes, buffers))) for kind, flags, target, body, buffers in frames
    ]


def fed_in_pieces(reader: FrameReader, data: bytes, sizes: Iterable[int]) -> list[Frame]:
    """Let the reader receive the data as a socket would give it, at most so many bytes at a time."""
    frames: list[Frame] = []
    view = memoryview(data)
    for size in sizes:
        if not view:
            break
        memory = reader.buffer()
        assert len(memory) > 0
        count = min(size, len(memory), len(view))
        memory[:count] = view[:count]
        frames += reader.received(count)
        view = view[count:]
    return frames


def resident() -> int:
    """Give this process's memory in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def block(size: int) -> bytes:
    """Give bytes in which no part looks like another."""
    return (b"%08x" * (size // 8 + 1) % tuple(range(size // 8 + 1)))[:size]


small_frames = st.tuples(
    st.sampled_from(PLAIN_KINDS).map(int),
    st.integers(0, 255),
    st.integers(0, 2**64 - 1),
    st.binary(max_size=100),
    st.lists(st.binary(max_size=50), max_size=4).map(tuple),
)
edges = st.sampled_from([0, 1, LARGE - 1, LARGE, LARGE + 1, 3 * LARGE]).map(block)
large_frames = st.tuples(
    st.sampled_from(PLAIN_KINDS).map(int),
    st.just(1),
    st.integers(0, 2**64 - 1),
    edges,
    st.lists(edges, max_size=2).map(tuple),
)
splits = st.lists(st.integers(1, 200), min_size=1, max_size=20).map(itertools.cycle)


@given(st.lists(small_frames, max_size=20), splits, st.integers(1, 300))
@settings(deadline=None)
def test_any_split_of_the_stream_gives_the_same_frames(
    frames: list[Plain], sizes: Iterable[int], read_size: int
) -> None:
    reader = FrameReader(MAX, read_size)
    data = b"".join(encoded(*frame) for frame in frames)
    assert plain(fed_in_pieces(reader, data, sizes)) == frames
    assert reader.at_boundary


@given(st.lists(large_frames, max_size=4), st.integers(5_000, 300_000), st.integers(1, 300_000))
@settings(deadline=None, max_examples=40)
def test_large_frames_arrive_whole_in_any_split(frames: list[Plain], split: int, read_size: int) -> None:
    reader = FrameReader(MAX, read_size)
    data = b"".join(encoded(*frame) for frame in frames)
    assert plain(fed_in_pieces(reader, data, itertools.repeat(split))) == frames
    assert reader.at_boundary


@given(
    st.lists(small_frames, min_size=1, max_size=6),
    st.lists(st.integers(1, 60), min_size=1, max_size=9),
    splits,
    st.randoms(use_true_random=False),
)
@settings(deadline=None)
def test_bulk_streams_that_take_turns_arrive_whole(
    frames: list[Plain], part_sizes: list[int], sizes: Iterable[int], random: st.DataObject
) -> None:
    content = [len(body) + sum(map(len, buffers)) for *_, body, buffers in frames]
    streams = [
        bulk(number, encoded(*frame), size, itertools.cycle(part_sizes))
        for number, (frame, size) in enumerate(zip(frames, content, strict=True))
        if size
    ]
    pieces = []
    while streams:
        stream = random.choice(streams)  # type: ignore[attr-defined]
        pieces.append(stream.pop(0))
        streams = [each for each in streams if each]
    reader = FrameReader(MAX)
    got = plain(fed_in_pieces(reader, b"".join(pieces), sizes))
    expected = [frame for frame, size in zip(frames, content, strict=True) if size]
    assert sorted(got) == sorted(expected)
    assert reader.at_boundary


@pytest.mark.fault("F12", "F16")
@given(st.binary(max_size=400), splits)
@settings(deadline=None, max_examples=300)
def test_garbage_raises_nothing_but_protocol_error(data: bytes, sizes: Iterable[int]) -> None:
    reader = FrameReader(10_000)
    try:
        fed_in_pieces(reader, data, sizes)
    except ProtocolError:
        return


headers = st.builds(
    HEADER.pack,
    st.integers(0, 20),
    st.integers(0, 255),
    st.integers(0, 3),
    st.integers(0, 60),
    st.integers(0, 3),
)


@pytest.mark.fault("F12", "F16")
@given(st.lists(st.one_of(headers, st.binary(max_size=30)), max_size=20), splits)
@settings(deadline=None, max_examples=300)
def test_nearly_right_bytes_raise_nothing_but_protocol_error(pieces: list[bytes], sizes: Iterable[int]) -> None:
    reader = FrameReader(300)
    try:
        fed_in_pieces(reader, b"".join(pieces), sizes)
    except ProtocolError:
        return


def test_a_small_body_is_bytes_and_its_buffers_are_writable_memory_of_their_own() -> None:
    reader = FrameReader(MAX)
    data = encoded(Kind.MESSAGE, 0, 1, b"body", [b"one", b"two"])
    first, second = reader.feed(data + data)
    assert type(first.body) is bytes
    memory = first.buffers[0]
    assert isinstance(memory, memoryview)
    memory[:] = b"ONE"
    assert [bytes(buffer) for buffer in first.buffers] == [b"ONE", b"two"]
    assert [bytes(buffer) for buffer in second.buffers] == [b"one", b"two"]


@given(st.lists(edges, min_size=1, max_size=3), splits, st.booleans())
@settings(deadline=None, max_examples=50)
def test_what_is_marked_as_bytes_arrives_as_those(buffers: list[bytes], sizes: Iterable[int], in_parts: bool) -> None:  # noqa: FBT001
    frame = encoded_bytes(7, buffers)
    content = sum(map(len, buffers))
    if in_parts and content:
        frame = b"".join(bulk(1, frame, content, itertools.repeat(LARGE)))
    (got,) = fed_in_pieces(FrameReader(MAX), frame, sizes)
    assert [type(buffer) for buffer in got.buffers] == [bytes] * len(buffers)
    assert list(got.buffers) == buffers


def test_bytes_are_received_where_they_stay() -> None:
    reader = FrameReader(MAX)
    reader.feed(encode_header(Kind.MESSAGE, 0, 1, 0, (AS_BYTES | 6 << 20,)))
    memory = reader.buffer()
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    memory[:] = bytes(range(256)) * (6 << 12)
    count = len(memory)
    del memory
    (frame,) = reader.received(count)
    assert frame.buffers[0] == bytes(range(256)) * (6 << 12)
    assert id(frame.buffers[0]) + bytes.__basicsize__ - 1 == address


@pytest.mark.parametrize("size", [LARGE, 4 * LARGE, 6 << 20])
def test_a_large_body_is_received_into_the_memory_in_which_it_ends(size: int) -> None:
    reader = FrameReader(MAX)
    reader.feed(encode_header(Kind.MESSAGE, 0, 1, size))
    memory = reader.buffer()
    assert len(memory) == size
    memory[:5] = b"start"
    assert reader.received(5) == []
    (frame,) = reader.feed(bytes(size - 5))
    assert frame.body[:5] == b"start"
    memory[:5] = b"other"
    assert frame.body[:5] == b"other"


def test_the_header_after_a_part_may_come_with_it() -> None:
    reader = FrameReader(MAX)
    size = 4 * LARGE
    frame = encoded(Kind.MESSAGE, 0, 9, block(size))
    announced, first, second = bulk(3, frame, size, [size // 2] * 2)
    reader.feed(announced + first[: HEADER.size])
    memory = reader.buffer()
    beyond = first[HEADER.size :] + second[: HEADER.size]
    assert len(memory) == len(beyond)
    memory[:] = beyond
    assert reader.received(len(beyond)) == []
    assert plain(reader.feed(second[HEADER.size :])) == [(Kind.MESSAGE, 0, 9, block(size), ())]


def test_the_most_buffers_that_a_header_can_count_arrive() -> None:
    reader = FrameReader(MAX, 1000)
    buffers = [b"x"] + [b""] * (MOST_BUFFERS - 2) + [b"y"]
    (frame,) = reader.feed(encoded(Kind.MESSAGE, 0, 1, b"body", buffers))
    assert len(frame.buffers) == MOST_BUFFERS
    assert (bytes(frame.buffers[0]), bytes(frame.buffers[-1])) == (b"x", b"y")


def test_the_stream_may_not_end_inside_a_frame_or_a_bulk_stream() -> None:
    reader = FrameReader(MAX)
    announced, part = bulk(1, encoded(Kind.MESSAGE, 0, 9, b"text"), 4, [4])
    boundaries = [reader.at_boundary]
    for piece in (announced[:3], announced[3:], part[:-1], part[-1:]):
        reader.feed(piece)
        boundaries.append(reader.at_boundary)
    assert boundaries == [True, False, False, False, True]


@pytest.mark.parametrize("kind", [0, max(Kind) + 1, 255, int(Kind.HELLO)])
def test_an_unknown_kind_or_a_late_handshake_is_refused(kind: int) -> None:
    with pytest.raises(ProtocolError, match=f"kind {kind}"):
        FrameReader(MAX).feed(encoded(kind, 0, 0, b""))


def test_the_largest_message_is_taken_and_one_byte_more_is_refused() -> None:
    assert len(FrameReader(100).feed(encoded(Kind.MESSAGE, 0, 0, bytes(100)))) == 1
    assert len(FrameReader(100).feed(encoded(Kind.MESSAGE, 0, 0, bytes(50), [bytes(42)]))) == 1
    with pytest.raises(ProtocolError, match="max_message_size"):
        FrameReader(100).feed(encoded(Kind.MESSAGE, 0, 0, bytes(101)))
    with pytest.raises(ProtocolError, match="max_message_size"):
        FrameReader(100).feed(encoded(Kind.MESSAGE, 0, 0, bytes(50), [bytes(43)]))


@pytest.mark.fault("F12")
@pytest.mark.parametrize(
    "announcement",
    [
        encode_header(Kind.MESSAGE, 0, 0, MAX + 1),
        encode_header(Kind.MESSAGE, 0, 0, 2**64 - 1),
        encode_header(Kind.MESSAGE, 0, 0, 0, (MAX, MAX)),
        encode_header(Kind.MESSAGE, 0, 0, 0, (AS_BYTES | MAX,)),
        encode_header(Kind.MESSAGE, 0, 0, AS_BYTES),
        encoded(Kind.BULK, 0, 1, encode_header(Kind.MESSAGE, 0, 0, 1, (AS_BYTES | MAX,))),
        encoded(Kind.BULK, 0, 1, encode_header(Kind.MESSAGE, 0, 0, MAX + 1)),
        encode_header(Kind.BULK, 0, 1, MAX + 1),
    ],
)
def test_frames_that_announce_too_much_are_refused_without_taking_memory(announcement: bytes) -> None:
    before = resident()
    for _ in range(2_000):
        with pytest.raises(ProtocolError, match="max_message_size"):
            FrameReader(MAX, 4096).feed(announcement)
    assert resident() - before < 1 << 20


@pytest.mark.fault("F12")
def test_a_gibibyte_that_is_announced_and_not_sent_takes_no_memory() -> None:
    reader = FrameReader(MAX)
    before = resident()
    reader.feed(encode_header(Kind.MESSAGE, 0, 0, GIB))
    assert len(reader.buffer()) == GIB
    streams = FrameReader(MAX)
    for number in range(MOST_STREAMS):
        streams.feed(encoded(Kind.BULK, 0, number, encode_header(Kind.MESSAGE, 0, 0, GIB)))
    values = FrameReader(MAX)
    values.feed(encode_header(Kind.MESSAGE, 0, 0, 0, (AS_BYTES | GIB,)))
    assert len(values.buffer()) == GIB
    assert resident() - before < 1 << 20


@pytest.mark.parametrize(
    "wrong",
    [
        encoded(Kind.PART, 0, 2, b"x"),  # not open
        encoded(Kind.PART, 0, 1, b"12345"),  # more than announced
        encoded(Kind.PART, 0, 1, b""),
        encoded(Kind.PART, 0, 1, b"12", [b"34"]),
        encoded(Kind.ABORT, 0, 2, b""),
        encoded(Kind.ABORT, 0, 1, b"x"),
        encoded(Kind.ABORT, 0, 1, b"", [b""]),
        encoded(Kind.BULK, 0, 1, encode_header(Kind.MESSAGE, 0, 0, 4)),  # open already
        encoded(Kind.BULK, 0, 2, encode_header(Kind.BULK, 0, 0, 4)),  # nested
        encoded(Kind.BULK, 0, 2, encode_header(Kind.HELLO, 0, 0, 4)),
        encoded(Kind.BULK, 0, 2, encode_header(Kind.MESSAGE, 0, 0, 0)),  # empty
        encoded(Kind.BULK, 0, 2, encode_header(Kind.MESSAGE, 0, 0, 4)[:-1]),
        encoded(Kind.BULK, 0, 2, encode_header(Kind.MESSAGE, 0, 0, 4, (5, 6))[:-1]),
        encoded(Kind.BULK, 0, 2, encode_header(Kind.MESSAGE, 0, 0, 4), [b"buffer"]),
    ],
)
def test_a_wrong_frame_of_a_bulk_stream_is_refused(wrong: bytes) -> None:
    reader = FrameReader(MAX)
    reader.feed(encoded(Kind.BULK, 0, 1, encode_header(Kind.MESSAGE, 0, 0, 4)))
    with pytest.raises(ProtocolError):
        reader.feed(wrong)


def test_as_many_bulk_streams_as_the_limit_may_be_open_and_no_more() -> None:
    reader = FrameReader(MAX)
    announced = encode_header(Kind.MESSAGE, 0, 0, 4)
    for number in range(MOST_STREAMS):
        reader.feed(encoded(Kind.BULK, 0, number, announced))
    with pytest.raises(ProtocolError):
        reader.feed(encoded(Kind.BULK, 0, MOST_STREAMS, announced))


def test_an_aborted_stream_is_dropped_and_its_number_free_again() -> None:
    reader = FrameReader(MAX)
    announced = encoded(Kind.BULK, 0, 1, encode_header(Kind.MESSAGE, 0, 7, 4))
    assert reader.feed(announced + encoded(Kind.PART, 0, 1, b"ab") + encoded(Kind.ABORT, 0, 1, b"")) == []
    assert reader.at_boundary
    got = reader.feed(announced + encoded(Kind.PART, 0, 1, b"abcd"))
    assert plain(got) == [(Kind.MESSAGE, 0, 7, b"abcd", ())]


@given(st.binary(max_size=200), st.binary(max_size=100), splits)
@settings(deadline=None)
def test_a_hello_arrives_in_any_split_and_what_follows_is_kept(body: bytes, rest: bytes, sizes: Iterable[int]) -> None:
    reader = HelloReader()
    data = memoryview(encode_hello(body) + rest)
    got = None
    for size in sizes:
        memory = reader.buffer()
        count = min(size, len(memory), len(data))
        memory[:count] = data[:count]
        data = data[count:]
        got = reader.received(count)
        if got is not None:
            break
    assert got == body
    assert reader.rest() + bytes(data) == rest


def test_a_second_hello_that_came_with_the_first_is_given_when_asked() -> None:
    reader = HelloReader()
    data = encode_hello(b"one") + encode_hello(b"two")
    reader.buffer()[: len(data)] = data
    assert reader.received(len(data)) == b"one"
    assert reader.received(0) == b"two"
    assert reader.received(0) is None


def test_the_longest_hello_is_taken() -> None:
    reader = HelloReader()
    data = encode_hello(bytes(HELLO_LIMIT))
    reader.buffer()[: len(data)] = data
    assert reader.received(len(data)) == bytes(HELLO_LIMIT)


@pytest.mark.spec("B07")
@pytest.mark.fault("F12")
@pytest.mark.parametrize(
    "wrong",
    [
        encode_header(Kind.HELLO, 0, 0, HELLO_LIMIT + 1),
        encode_header(Kind.HELLO, 0, 0, MAX + 1),
        encode_header(Kind.HELLO, 0, 0, 4, (1,)),
        encode_header(Kind.HELLO, 1, 0, 4),
        encode_header(Kind.MESSAGE, 0, 0, 4),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_before_authentication_only_a_short_hello_is_read(wrong: bytes) -> None:
    before = resident()
    for _ in range(2_000):
        reader = HelloReader()
        reader.buffer()[: len(wrong)] = wrong
        with pytest.raises(ProtocolError):
            reader.received(len(wrong))
    assert resident() - before < 1 << 20
