"""What users send, as bytes and back. This is the one module that unpickles.

Plain pickle comes first: an int or a tuple pays for nothing else. What plain pickle cannot take, or would name
although the other side has not got it, goes through the careful pickler of `_by_value`.

The body is a pickle of protocol 5, or, where it holds large bytes, PARTS:

    u8 0x00 | u32 number of parts, n | n × u64 offset | the pickle without its large parts

The first n buffers are the large parts, each to be put in at its offset; the rest are the pickle's own out-of-band
buffers. Pickles begin with 0x80, so the first byte tells the two apart.

Received: bytes as bytes, bytearray as bytearray, memoryview as bytes, each with one copy out of the received buffer;
arrays over that buffer itself, without a copy. The sender copies none of them: bytes and arrays must keep
their contents until they are written.
"""

from __future__ import annotations

import io
import pickle
import struct
from typing import TYPE_CHECKING, Any

from .._errors import NotPicklable
from ._origins import STACK_GLOBAL, globals_of, names_client_module, resolve
from ._shipped import NATURAL, open_everywhere

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ._by_value import Registry

    Buffer = bytes | bytearray | memoryview

OUT_OF_BAND = 64 * 1024
"""Buffers of this many bytes leave the pickle."""

LARGE = 1024 * 1024
"""bytes and bytearrays of this many bytes, found no deeper than `_DEPTH`, make that all large ones leave it."""

_MAX_BUFFERS = 1 << 15
"""A frame can carry twice as many; what comes after so many stays in the pickle."""

_DEPTH = 3
_WIDTH = 16
_HEAD = struct.Struct("!BI")
_ATOMS = frozenset({int, float, str, bool, type(None)})
_SCANNED = frozenset({bytes, bytearray, tuple, list, dict})

_c_dumps = pickle.dumps


def dumps(obj: object, shipped: Registry | None = None) -> tuple[bytes, Sequence[Any]]:
    """Pickle an object.

    Args:
        obj: Any object.
        shipped: What the receiver has of this client's modules; None for what all open computations share.

    Returns:
        The body, and the buffers that go beside it, without a copy: bytes-like, of one dimension.

    Raises:
        NotPicklable: It cannot be sent; the message says which part of it.
    """
    kind = type(obj)
    if kind in _ATOMS:
        return _c_dumps(obj, 5), ()
    if kind in _SCANNED and _holds_large((obj,), _DEPTH):
        return _dumps_in_parts(obj, shipped)
    buffers: list[pickle.PickleBuffer] = []
    try:
        body = _c_dumps(obj, 5, buffer_callback=buffers.append)
    except Exception:  # noqa: BLE001 - of whatever kind: the careful way finds it again and says so
        return _dumps_with_care(obj, shipped)
    if STACK_GLOBAL in body and names_client_module(body) and not _knows_all(body, shipped):
        return _dumps_with_care(obj, shipped)
    if buffers and not _all_worth_it(buffers):
        buffers = []
        body = _c_dumps(obj, 5, buffer_callback=_taker(buffers))
    return body, [buffer.raw() for buffer in buffers] if buffers else ()


def loads(body: Buffer, buffers: Iterable[Any] = ()) -> Any:
    """Open what `dumps` made.

    Args:
        body: The body.
        buffers: The buffers, in their order. Arrays can be written to if these can.

    Raises:
        Exception: Whatever opening raises; the classes in it are users'.
    """
    if body[0]:
        return pickle.loads(body, buffers=buffers)  # noqa: S301 - only peers that have the secret get here
    buffers = list(buffers)
    file = _Joined(memoryview(body), buffers)
    return pickle.Unpickler(file, buffers=buffers[len(file.parts) :]).load()  # noqa: S301 - as above


def dumps_components(components: Sequence[object], registry: Registry) -> tuple[bytes, list[Any]]:
    """Pickle the components of a computation, each after a note of its place.

    Returns:
        The pickle, and what came along by value and is found at the receiver under its own name.

    Raises:
        NotPicklable: A component refers to what cannot be sent.
    """
    from ._by_value import ByValuePickler  # noqa: PLC0415 - slow to import
    from ._hosted import Progress  # noqa: PLC0415

    file = io.BytesIO()
    pickler = ByValuePickler(file, registry, defining=components)
    marked = [(Progress(index), component) for index, component in enumerate(components)]
    try:
        pickler.dump(marked)
    except Exception as error:
        from ._culprit import explain  # noqa: PLC0415 - seldom needed

        whole = components[0] if len(components) == 1 else list(components)
        raise NotPicklable(explain(whole, error, registry)) from error
    return file.getvalue(), pickler.bound


# --- sending


def _taker(buffers: list[pickle.PickleBuffer]) -> Callable[[pickle.PickleBuffer], bool]:
    def take(buffer: pickle.PickleBuffer) -> bool:
        """Take a buffer out of the pickle, or tell pickle to keep it."""
        if memoryview(buffer).nbytes < OUT_OF_BAND or len(buffers) >= _MAX_BUFFERS:
            return True
        buffers.append(buffer)
        return False

    return take


def _all_worth_it(buffers: list[pickle.PickleBuffer]) -> bool:
    large = all(memoryview(buffer).nbytes >= OUT_OF_BAND for buffer in buffers)
    return large and len(buffers) <= _MAX_BUFFERS


def _holds_large(parts: Iterable[Any], depth: int) -> bool:
    """Tell whether there are large bytes at the surface; looks at few objects, for this is asked of every one."""
    for part in parts:
        kind = type(part)
        if kind in _ATOMS or kind not in _SCANNED:
            continue
        if kind is bytes or kind is bytearray:
            if len(part) >= LARGE:
                return True
        elif part and depth and len(part) <= _WIDTH:
            inner = part.values() if kind is dict else part
            if _holds_large(inner, depth - 1):
                return True
    return False


def _knows_all(body: bytes, shipped: Registry | None) -> bool:
    """Tell whether the peer finds all that a plain pickle names: then it is right as it is."""
    registry = open_everywhere if shipped is None else shipped
    pairs = globals_of(body)
    return pairs is not None and all(registry.reference(resolve(*pair)) == NATURAL for pair in pairs)


class _Chunks:
    """A file that keeps what is written to it as it is: pickle hands large bytes over uncopied."""

    def __init__(self) -> None:
        self.chunks: list[Buffer] = []
        self.write = self.chunks.append

    def packed(self, buffers: list[pickle.PickleBuffer]) -> tuple[bytes, Sequence[Any]]:
        """Give body and buffers, with the large chunks among the buffers."""
        raw = [buffer.raw() for buffer in buffers]
        if len(self.chunks) == 1:
            return bytes(self.chunks[0]), raw
        small = bytearray()
        offsets: list[int] = []
        large: list[Buffer] = []
        for chunk in self.chunks:
            if len(chunk) < LARGE or len(large) >= _MAX_BUFFERS:
                small += chunk
            else:
                offsets.append(len(small))
                large.append(chunk)
        if not large:
            return bytes(small), raw
        head = _HEAD.pack(0, len(large)) + struct.pack(f"!{len(large)}Q", *offsets)
        return head + small, [*large, *raw]


def _dumps_in_parts(obj: object, shipped: Registry | None) -> tuple[bytes, Sequence[Any]]:
    file = _Chunks()
    buffers: list[pickle.PickleBuffer] = []
    try:
        pickle.Pickler(file, 5, buffer_callback=_taker(buffers)).dump(obj)
    except Exception:  # noqa: BLE001 - as in `dumps`
        return _dumps_with_care(obj, shipped)
    body, all_buffers = file.packed(buffers)
    if names_client_module(body) and not _knows_all(body, shipped):
        return _dumps_with_care(obj, shipped)
    return body, all_buffers


def _dumps_with_care(obj: object, shipped: Registry | None) -> tuple[bytes, Sequence[Any]]:
    from ._by_value import ByValuePickler  # noqa: PLC0415 - slow to import

    file = _Chunks()
    buffers: list[pickle.PickleBuffer] = []
    registry = open_everywhere if shipped is None else shipped
    try:
        ByValuePickler(file, registry, buffer_callback=_taker(buffers)).dump(obj)
    except MemoryError:
        raise
    except Exception as error:
        from ._culprit import explain  # noqa: PLC0415 - seldom needed

        raise NotPicklable(explain(obj, error, registry)) from error
    return file.packed(buffers)


# --- receiving


class _Joined(io.RawIOBase):
    """The pickle with its large parts in their places again, as a file."""

    def __init__(self, body: memoryview, buffers: Sequence[Any]) -> None:
        _, count = _HEAD.unpack_from(body)
        start = _HEAD.size + 8 * count
        offsets = struct.unpack_from(f"!{count}Q", body, _HEAD.size)
        small = body[start:]
        self.parts = [memoryview(part).cast("B") for part in buffers[:count]]
        self._pieces: list[memoryview] = []
        for begin, end, part in zip((0, *offsets), offsets, self.parts, strict=False):
            self._pieces += [small[begin:end], part]
        self._pieces.append(small[offsets[-1] :])
        self._pieces.reverse()

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        """Fill a buffer, from as many pieces as it takes."""
        view = memoryview(target).cast("B")
        done = 0
        while done < len(view) and self._pieces:
            piece = self._pieces.pop()
            taken = min(len(piece), len(view) - done)
            view[done : done + taken] = piece[:taken]
            done += taken
            if taken < len(piece):
                self._pieces.append(piece[taken:])
        return done
