"""Bytes to frames: the layout of a frame, and the reader that extracts frames from a stream.

This module defines the layout on the wire. `_outbox` writes frames and decides their order; `_memory` allocates memory
for large ones; `_control`, `_handshake` and `_codec` define what bodies mean.
"""

from __future__ import annotations

import enum
import struct
from typing import NamedTuple

from .._errors import ProtocolError
from ._memory import MAPPED, BytesMemory, allocate

Buffer = bytes | bytearray | memoryview

# A frame on the wire, numbers in network byte order:
#
#     u8   kind           one of `Kind`
#     u8   flags          depend on the kind
#     u16  buffer count   n, the number of out-of-band buffers
#     u64  body length    in bytes
#     u64  target         the addressee: a coroutine's serial, a request's number ...
#     u64  x n            the length of each buffer, in bytes; the highest bit means that it is received as `bytes`
#     body, then the n buffers, without padding
#
# A large frame travels as BULK, whose target is the number of a stream and whose body is that frame's header
# and buffer lengths; then come PARTs with that target, which fill body and buffers in order. ABORT drops the
# stream.
#
# A BATCH replaces many MESSAGEs with its target; `_batch` defines its body.
HEADER = struct.Struct("!BBHQQ")
LENGTH = struct.Struct("!Q")

MOST_BUFFERS = 0xFFFF
"""The most out-of-band buffers of a frame."""

LARGE = 64 * 1024
"""Frames with this much content or more, in bytes, are received straight into their own memory."""

_AS_BYTES = 1 << 63
_LENGTH_BITS = _AS_BYTES - 1

READ_SIZE = 256 * 1024
"""The most bytes of one read, unless a large frame is being received."""

HELLO_LIMIT = 4096
"""The longest body, in bytes, of a frame before authentication."""

MOST_STREAMS = 16
"""The bulk streams that a peer may have open at once."""

_NO_BUFFERS: tuple[Buffer, ...] = ()


class Kind(enum.IntEnum):
    """What a frame is."""

    CONTROL = 1
    START = 2
    STARTED = 3
    OUTCOME = 4
    MESSAGE = 5
    CREDIT = 6
    CANCEL = 7
    ACK = 8
    DEFINE = 9
    BULK = 10
    PART = 11
    ABORT = 12
    HELLO = 13
    FETCH = 14
    READY = 15
    OUTPUT = 16
    SHARED = 17
    BATCH = 18
    BEGUN = 19
    REVOKE = 20
    RETURNED = 21


_BULK, _PART, _ABORT, _HELLO = int(Kind.BULK), int(Kind.PART), int(Kind.ABORT), int(Kind.HELLO)
_STREAM_KINDS = frozenset({_BULK, _PART, _ABORT})
# The handshake has its own reader; a HELLO afterwards is as invalid as an unknown kind.
_PLAIN = frozenset(int(kind) for kind in Kind) - _STREAM_KINDS - {_HELLO}


class Frame(NamedTuple):
    """One frame; a plain tuple, because there are hundreds of thousands a second."""

    kind: int
    """One of `Kind`."""
    flags: int
    """The meaning depends on the kind."""
    target: int
    """The addressee of the frame."""
    body: Buffer
    """The content; `bytes` if the frame is small."""
    buffers: tuple[Buffer, ...]
    """The out-of-band buffers, each in its own memory: writable, or `bytes` if the sender had many `bytes` objects."""


def encode_header(kind: int, flags: int, target: int, body_length: int, lengths: tuple[int, ...] = ()) -> bytes:
    """Return the bytes of a frame that precede its body.

    Args:
        kind: One of `Kind`.
        flags: 0 to 255.
        target: 0 to 2**64 - 1.
        body_length: The length of the body in bytes.
        lengths: The `length_of` each out-of-band buffer; at most `MOST_BUFFERS` items.
    """
    count = len(lengths)
    header = HEADER.pack(kind, flags, count, body_length, target)
    return header + struct.pack(f"!{count}Q", *lengths) if count else header


def length_of(buffer: Buffer, size: int) -> int:
    """Return the length of an out-of-band buffer of `size` bytes as encoded in a frame's header.

    Large `bytes` objects are received as `bytes`: making them from other memory takes as long as receiving them.
    """
    return size | _AS_BYTES if type(buffer) is bytes and size >= MAPPED else size


def encode_hello(body: bytes) -> bytes:
    """Return the whole frame for a message of the handshake."""
    return HEADER.pack(_HELLO, 0, 0, len(body), 0) + body


class FrameReader:
    """Extracts frames from a stream of bytes, which is received into memory that the reader provides.

    Frames whose content is smaller than `LARGE` collect in one buffer and are copied out of it. Larger frames, and
    the parts of bulk streams, are received directly into their final memory.

    Args:
        max_message_size: The most bytes of body, buffers and their lengths that a frame may announce.
        read_size: The most bytes of one read, unless a large frame is being received.
    """

    def __init__(self, max_message_size: int, read_size: int = READ_SIZE) -> None:
        self._max = max_message_size
        self._small = min(LARGE, max_message_size + 1)
        self._view = memoryview(bytearray(max(read_size, HEADER.size)))
        self._end = 0  # the collected bytes are _view[:_end]
        self._need = HEADER.size  # parsing continues when this many bytes are collected
        self._into: _Assembly | None = None  # the frame to which the next bytes belong ...
        self._left = 0  # ... and how many of them
        self._streams: dict[int, _Assembly] = {}

    @property
    def at_boundary(self) -> bool:
        """Whether the stream may end here: no frame and no bulk stream is incomplete."""
        return not (self._end or self._into or self._streams)

    def buffer(self) -> memoryview:
        """Return the memory for the next bytes; never empty, valid until `received` is called."""
        if self._into is not None:
            return self._into.space(self._left)
        return self._view[self._end :]

    def received(self, count: int) -> list[Frame]:
        """Record that `count` bytes are now in `buffer()`. Return the frames that they complete.

        Raises:
            ProtocolError: The bytes violate the protocol; the reader cannot be used any more.
        """
        frames: list[Frame] = []
        if self._into is not None:
            count = self._received_direct(self._into, count, frames)
        self._end = end = self._end + count
        if end >= self._need:
            self._parse(end, frames)
        return frames

    def feed(self, data: Buffer) -> list[Frame]:
        """Copy received bytes in. Return the frames that they complete. Raises as `received` does."""
        frames: list[Frame] = []
        view = memoryview(data)
        while view:
            memory = self.buffer()
            count = min(len(memory), len(view))
            memory[:count] = view[:count]
            frames += self.received(count)
            view = view[count:]
        return frames

    def _received_direct(self, into: _Assembly, count: int, frames: list[Frame]) -> int:
        """Record bytes that were read into a frame's own memory. Return the number of bytes read beyond them."""
        beyond = count - self._left
        if beyond > 0:
            self._view[:beyond] = into.beyond(self._left, beyond)
            count = self._left
        into.filled(count)
        self._left -= count
        if not self._left:
            self._into = None
            self._finish_if_full(into, frames)
        return max(beyond, 0)

    def _parse(self, end: int, frames: list[Frame]) -> None:
        # The hot path. One copy of everything that was read makes each body a plain slice of bytes; slicing a
        # memoryview makes two objects for each frame, which takes longer.
        data = self._view[:end].tobytes()
        header_size, small, plain, no_buffers = HEADER.size, self._small, _PLAIN, _NO_BUFFERS
        unpack, append, new = HEADER.unpack_from, frames.append, tuple.__new__
        position = 0
        self._need = 0
        while end - position >= header_size:
            kind, flags, count, length, target = unpack(data, position)
            if not count and length < small and kind in plain:
                start = position + header_size
                stop = start + length
                if stop > end:
                    self._need = stop - position
                    break
                append(new(Frame, (kind, flags, target, data[start:stop], no_buffers)))
                position = stop
            else:
                position = self._special(data, position, frames)
                if self._need:
                    break
        if position == end:
            self._end, self._need = 0, header_size
        else:
            self._keep(data, position)

    def _keep(self, data: bytes, position: int) -> None:
        """Move an incomplete frame to the front, and make room for the rest of it."""
        rest = data[position:]
        self._need = self._need or HEADER.size
        if self._need > len(self._view):
            self._view = memoryview(bytearray(self._need))
        self._view[: len(rest)] = rest
        self._end = len(rest)

    def _special(self, data: bytes, position: int, frames: list[Frame]) -> int:
        """Handle a frame with buffers, a large one, or one of a bulk stream. Return where the next frame begins.

        If the frame is incomplete and has to be collected, `_need` is the number of bytes it needs from
        the given position.
        """
        kind, flags, count, length, target = _unpack(data, position)
        if kind not in _PLAIN and kind not in _STREAM_KINDS:
            message = f"a frame of kind {kind}, which does not exist or is not allowed here"
            raise ProtocolError(message)
        table = position + HEADER.size
        start = table + LENGTH.size * count
        self._check_size(length + LENGTH.size * count)
        if start > len(data):
            self._need = start - position
            return position
        lengths = struct.unpack_from(f"!{count}Q", data, table)
        whole = _Assembly(kind, flags, target, (length, *lengths))
        content = whole.left
        self._check_size(content + LENGTH.size * count)
        if kind == _PART:
            return self._part(data, start, self._stream(target, content, count), content, frames)
        if content >= LARGE:
            return self._part(data, start, whole, content, frames)
        if start + content > len(data):
            self._need = start + content - position
            return position
        whole.fill(memoryview(data)[start : start + content])
        self._finish_if_full(whole, frames)
        return start + content

    def _check_size(self, size: int) -> None:
        if size > self._max:
            message = f"a frame announces {size} bytes; config.max_message_size allows {self._max}"
            raise ProtocolError(message)

    def _part(self, data: bytes, start: int, into: _Assembly, content: int, frames: list[Frame]) -> int:
        """Copy the part of `content` bytes that has arrived; the rest is received directly into the frame's memory."""
        part = memoryview(data)[start : start + content]
        into.fill(part)
        self._left = content - len(part)
        if self._left:
            self._into = into
        else:
            self._finish_if_full(into, frames)
        return start + len(part)

    def _stream(self, number: int, content: int, buffers: int) -> _Assembly:
        """Return the stream that a part belongs to."""
        stream = self._streams.get(number)
        if stream is None:
            message = f"a part of bulk stream {number}, which is not open"
            raise ProtocolError(message)
        if buffers or not 0 < content <= stream.left:
            message = f"a part of {content} bytes in a bulk stream that lacks {stream.left}"
            raise ProtocolError(message)
        return stream

    def _finish_if_full(self, whole: _Assembly, frames: list[Frame]) -> None:
        if whole.left:
            return
        if whole.stream is not None:
            del self._streams[whole.stream]
        if whole.kind == _BULK:
            self._open_stream(whole)
        elif whole.kind == _ABORT:
            self._abort_stream(whole)
        else:
            frames.append(whole.frame())

    def _open_stream(self, bulk: _Assembly) -> None:
        number, announced = bulk.target, bytes(bulk.frame().body)
        if number in self._streams or len(self._streams) >= MOST_STREAMS:
            message = f"bulk stream {number} is open already, or {MOST_STREAMS} others are"
            raise ProtocolError(message)
        stream = _announced_untrusted(announced)
        self._check_size(stream.left + len(announced) - HEADER.size)
        if len(bulk.sizes) > 1 or not stream.left:
            message = "a bulk stream that announces nothing, or with buffers of its own"
            raise ProtocolError(message)
        stream.stream = number
        self._streams[number] = stream

    def _abort_stream(self, abort: _Assembly) -> None:
        if len(abort.sizes) > 1 or abort.sizes[0] or self._streams.pop(abort.target, None) is None:
            message = f"an abort of bulk stream {abort.target}, which is not open"
            raise ProtocolError(message)


class HelloReader:
    """Extracts the frames of the handshake from a stream, one at a time, before the peer is authenticated.

    It holds no more than one frame of `HELLO_LIMIT` bytes. Bytes that a fast peer sends after its last HELLO are
    kept: pass `rest()` to `FrameReader.feed` when the handshake is done.
    """

    def __init__(self) -> None:
        self._view = memoryview(bytearray(HEADER.size + HELLO_LIMIT))
        self._end = 0

    def buffer(self) -> memoryview:
        """Return the memory for the next bytes; never empty as long as `received` returns None."""
        return self._view[self._end :]

    def received(self, count: int) -> bytes | None:
        """Record that `count` bytes are now in `buffer()`. Return the next HELLO's body if it is complete.

        Call it with 0 before reading, because the peer may have sent two at once.

        Raises:
            ProtocolError: The bytes are not a HELLO, or announce more than `HELLO_LIMIT`.
        """
        self._end += count
        if self._end < HEADER.size:
            return None
        kind, flags, buffers, length, target = HEADER.unpack_from(self._view)
        if kind != _HELLO or flags or buffers or target or length > HELLO_LIMIT:
            message = f"expected a handshake of at most {HELLO_LIMIT} bytes; the peer is not a discoro_trio process"
            raise ProtocolError(message)
        stop = HEADER.size + length
        if self._end < stop:
            return None
        body = self._view[HEADER.size : stop].tobytes()
        rest = self._view[stop : self._end].tobytes()
        self._view[: len(rest)] = rest
        self._end = len(rest)
        return body

    def rest(self) -> bytes:
        """Return the bytes that arrived after the last HELLO."""
        return self._view[: self._end].tobytes()


class _Assembly:
    """A frame that is being assembled in its own memory.

    Memory for the body and for each buffer is allocated when its first byte is about to arrive.
    """

    __slots__ = ("_bytes", "_lengths", "_memory", "_offset", "flags", "kind", "left", "sizes", "stream", "target")

    def __init__(self, kind: int, flags: int, target: int, lengths: tuple[int, ...]) -> None:
        self.kind = kind
        self.flags = flags
        self.target = target
        self.sizes = [lengths[0], *[length & _LENGTH_BITS for length in lengths[1:]]]
        self.left = sum(self.sizes)
        self._lengths = lengths
        self._bytes: dict[int, BytesMemory] = {}
        self.stream: int | None = None
        self._memory: list[memoryview] = []
        self._offset = 0  # in the last item of _memory

    def space(self, wanted: int) -> memoryview:
        """Return memory for the next `wanted` bytes and the next header, or for the rest of one piece.

        The next header may lie in this frame's memory for a moment: the following bytes overwrite it. So a bulk
        stream needs one read for each part, and none of it is copied.
        """
        memory = self._current()
        return memory[self._offset : self._offset + wanted + HEADER.size]

    def beyond(self, wanted: int, count: int) -> memoryview:
        """Return the `count` bytes that were read into `space(wanted)` after the wanted ones."""
        start = self._offset + wanted
        return self._memory[-1][start : start + count]

    def filled(self, count: int) -> None:
        """Record that `count` bytes are now in `space()`."""
        self._offset += count
        self.left -= count

    def fill(self, data: memoryview) -> None:
        """Copy the next bytes in."""
        while data:
            memory = self._current()
            count = min(len(memory) - self._offset, len(data))
            memory[self._offset : self._offset + count] = data[:count]
            self.filled(count)
            data = data[count:]

    def frame(self) -> Frame:
        """Return the complete frame."""
        while len(self._memory) < len(self.sizes):
            self._memory.append(self._allocated(len(self._memory)))
        body, *buffers = self._memory
        pieces: list[Buffer] = [*buffers]
        for index, memory in self._bytes.items():
            pieces[index - 1] = memory.filled()
        small = len(body) < LARGE
        return Frame(self.kind, self.flags, self.target, bytes(body) if small else body, tuple(pieces))

    def _current(self) -> memoryview:
        """Return the piece of memory for the next byte."""
        memory = self._memory
        while not memory or self._offset == len(memory[-1]):
            memory.append(self._allocated(len(memory)))
            self._offset = 0
        return memory[-1]

    def _allocated(self, index: int) -> memoryview:
        """Allocate memory for the body or a buffer."""
        size = self.sizes[index]
        if not index or size == self._lengths[index]:
            return allocate(size)
        memory = self._bytes[index] = BytesMemory(size)
        return memory.view


def _unpack(data: bytes, position: int) -> tuple[int, int, int, int, int]:
    header: tuple[int, int, int, int, int] = HEADER.unpack_from(data, position)
    return header


def _announced_untrusted(body: bytes) -> _Assembly:
    """Read the body of a BULK frame: header and buffer lengths of the frame that follows in parts."""
    if len(body) < HEADER.size:
        message = f"the announcement of a bulk stream has {len(body)} bytes"
        raise ProtocolError(message)
    kind, flags, count, length, target = HEADER.unpack_from(body)
    if kind not in _PLAIN or len(body) != HEADER.size + LENGTH.size * count:
        message = f"a malformed announcement of a bulk stream with a frame of kind {kind}"
        raise ProtocolError(message)
    return _Assembly(kind, flags, target, (length, *struct.unpack_from(f"!{count}Q", body, HEADER.size)))
