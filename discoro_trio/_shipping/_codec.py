"""What users send, as bytes and back. This is the one module that unpickles.

Plain pickle comes first: an int or a tuple pays for nothing else. What plain pickle cannot take, or would name
although the other side has not got it, goes through the careful pickler of `_by_value`.

The body is a pickle of protocol 5, or, where it holds large bytes or small buffers:

    u8 0x00 | u32 number of them, n
    n × (u32 index among all buffers, u8 what it is: one of `_BYTES` …, u32 size if it is `_INSIDE`, else 0)
    the content of those that are `_INSIDE`, in order
    the pickle

In that pickle each of them is fetched as pickle fetches its own out-of-band buffers, and all buffers come in the order
of the pickle. Pickles begin with 0x80, so the first byte distinguishes the two forms.

Received: bytes as bytes, without a copy where they came as such over the connection and else with one; bytearray as
bytearray, with one copy; memoryview as bytes; arrays over the received buffer itself, without a copy if they are large.
Arrays can be changed by their receiver, whatever their size, unless the sender's could not be changed. The sender
copies no large buffer: bytes and arrays must keep their contents until they are written.
"""

from __future__ import annotations

import io
import pickle
import struct
from itertools import islice
from typing import TYPE_CHECKING, Any

from .._config import config
from .._errors import NotPicklable
from .._wire._memory import copied
from ._exception_parts import needs_care
from ._module_origins import STACK_GLOBAL, globals_of, names_client_module, resolve
from ._shipped import NATURAL, open_everywhere

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ._by_value import Registry

    Buffer = bytes | bytearray | memoryview

OUT_OF_BAND = 64 * 1024
"""Buffers of this many bytes go beside the body; smaller ones go in it, before the pickle."""

LARGE = 1024 * 1024
"""bytes and bytearrays of this many bytes, found no deeper than `_DEPTH`, make that all large ones leave it."""

_MAX_BUFFERS = 1 << 15
"""A frame can carry twice as many; what comes after so many goes in the body."""

_DEPTH = 3
_WIDTH = 16
_HEAD = struct.Struct("!BI")
_ENTRY = struct.Struct("!IBI")
_BYTES, _BYTEARRAY, _TEXT, _INSIDE = 0, 1, 2, 3

# How pickle begins what it hands over by itself: opcode, then the length in so many bytes. All of it may be replaced by
# the one opcode that takes the next buffer as it is.
_BEGINNINGS = ((b"B", 4, _BYTES), (b"\x8e", 8, _BYTES), (b"\x96", 8, _BYTEARRAY), (b"X", 4, _TEXT), (b"\x8d", 8, _TEXT))
_NEXT_BUFFER = b"\x97"
_ATOMS = frozenset({int, float, str, bool, type(None)})
_CONTAINERS = frozenset({tuple, list, dict})
_SCANNED = frozenset({bytes, bytearray, tuple, list, dict})

_c_dumps = pickle.dumps


def dumps(obj: Any, shipped: Registry | None = None) -> tuple[bytes, Sequence[Any]]:
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
    if kind in _ATOMS or (kind is tuple and len(obj) <= _WIDTH and _ATOMS.issuperset(map(type, obj))):
        return _c_dumps(obj, 5), ()
    if kind in _CONTAINERS and _is_small(obj, kind):
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
    if not buffers:
        return body, ()
    parts = _Buffers()
    for buffer in buffers:
        parts.take(buffer)
    return parts.joined(body), parts.beside


_FRAMING = 1024
"""Bytes of a message that are kept for what goes with a user's object: numbers, names, the lengths of buffers."""


def too_large(body: Buffer, buffers: Sequence[Any]) -> str | None:
    """Say that a pickle does not fit into one message, with both sizes; None if it does."""
    size = len(body)
    if buffers:
        size += sum(memoryview(buffer).nbytes for buffer in buffers)
    if size <= config.max_message_size - _FRAMING:
        return None
    return (
        f"has {size} bytes, and config.max_message_size allows {config.max_message_size} in one message; raise that in "
        f"all programs, or send a file or several parts"
    )


def check_size(what: str, body: Buffer, buffers: Sequence[Any]) -> None:
    """Raise NotPicklable for a pickle that does not fit into one message."""
    problem = too_large(body, buffers)
    if problem is not None:
        message = f"{what} {problem}"
        raise NotPicklable(message)


def loads(body: Buffer, buffers: Iterable[Any] = (), *, read_only: bool = False) -> Any:
    """Open what `dumps` made.

    Args:
        body: The body.
        buffers: The buffers beside it, in their order. Large arrays can be written to if these can.
        read_only: Whether small arrays cannot be written to.

    Raises:
        Exception: Whatever opening raises; the classes in it are users'. What would end a process, such as SystemExit,
            becomes an UnpicklingError.
    """
    try:
        if body[0]:
            return pickle.loads(body, buffers=buffers)  # noqa: S301 - only peers that have the secret get here
        pickled, made = _restored(memoryview(body), iter(buffers), bytes if read_only else bytearray)
        return pickle.loads(pickled, buffers=made)  # noqa: S301 - as above
    except Exception:
        raise
    except BaseException as error:
        if _is_interrupt(error):
            raise
        # Code of users must not end the program that opens what they sent.
        text = f"opening it raised {type(error).__name__}: {error}"
        raise pickle.UnpicklingError(text) from error


def _is_interrupt(error: BaseException) -> bool:
    """Tell whether Ctrl-C raised an error, and not the code that was opened."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return isinstance(error, KeyboardInterrupt) and (trace is None or "_ki" in trace.tb_frame.f_code.co_filename)


def dumps_components(components: Sequence[object], registry: Registry) -> tuple[bytes, list[Any]]:
    """Pickle the components of a computation, each after a note of its place.

    Returns:
        The pickle, and what came along by value and is found at the receiver under its own name.

    Raises:
        NotPicklable: A component refers to what cannot be sent.
    """
    from ._by_value import pickle_carefully  # noqa: PLC0415 - slow to import
    from ._hosted_modules import InstallProgress  # noqa: PLC0415

    marked = [(InstallProgress(index), component) for index, component in enumerate(components)]
    try:
        file, bound = pickle_carefully(marked, registry, io.BytesIO, defining=components)
    except Exception as error:
        from ._unpicklable import explain  # noqa: PLC0415 - seldom needed

        whole = components[0] if len(components) == 1 else list(components)
        raise NotPicklable(explain(whole, error, registry)) from error
    return file.getvalue(), bound


# --- sending


class _Buffers:
    """What has left a pickle, in order.

    Attributes:
        beside: The buffers that go beside the body.
    """

    def __init__(self) -> None:
        self.beside: list[Any] = []
        self._count = 0
        self._entries: list[bytes] = []
        self._inside: list[memoryview] = []

    @property
    def full(self) -> bool:
        """Whether no more can go beside the body."""
        return len(self.beside) >= _MAX_BUFFERS

    def add(self, content: Any, kind: int) -> None:
        """Put large bytes beside the body, which the receiver makes an object of this kind of."""
        self._entries.append(_ENTRY.pack(self._count, kind, 0))
        self.beside.append(content)
        self._count += 1

    def take(self, buffer: pickle.PickleBuffer) -> None:
        """Take a buffer out of the pickle."""
        raw = buffer.raw()
        if raw.nbytes >= OUT_OF_BAND and not self.full:
            self.beside.append(raw)
        else:
            self._entries.append(_ENTRY.pack(self._count, _INSIDE, raw.nbytes))
            self._inside.append(raw)
        self._count += 1

    def joined(self, *pickled: bytes) -> bytes:
        """Give the body."""
        if not self._entries:
            return b"".join(pickled)
        return b"".join([_HEAD.pack(0, len(self._entries)), *self._entries, *self._inside, *pickled])


def _is_small(obj: Any, kind: type) -> bool:
    """Tell whether a container holds few things, each an atom or a container of few atoms: most arguments do."""
    if len(obj) > _WIDTH or (kind is dict and not _ATOMS.issuperset(map(type, obj))):
        return False
    for part in obj.values() if kind is dict else obj:
        inner = type(part)
        if inner in _ATOMS:
            continue
        if inner not in _CONTAINERS or len(part) > _WIDTH or not _ATOMS.issuperset(map(type, part)):
            return False
        if inner is dict and not _ATOMS.issuperset(map(type, part.values())):
            return False
    return True


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
    if pairs is None:
        return False
    for found in (resolve(*pair) for pair in pairs):
        if registry.reference(found) != NATURAL or needs_care(found):
            return False
    return True


class _Chunks:
    """A file and a list of buffers for a pickler, which hands large bytes over uncopied: those become buffers too."""

    def __init__(self) -> None:
        self._small: list[bytes] = []
        self._buffers = _Buffers()
        self.take = self._buffers.take

    def write(self, chunk: Buffer) -> None:
        """Take what the pickler writes. What is large, it writes by itself, and its opcode just before."""
        if len(chunk) >= LARGE and not self._buffers.full:
            for opcode, width, kind in _BEGINNINGS:
                beginning = opcode + len(chunk).to_bytes(8, "little")[:width]
                if self._small[-1].endswith(beginning):
                    self._small[-1] = self._small[-1].removesuffix(beginning) + _NEXT_BUFFER
                    self._buffers.add(chunk, kind)
                    return
        self._small.append(bytes(chunk))

    def packed(self) -> tuple[bytes, Sequence[Any]]:
        """Give body and buffers."""
        return self._buffers.joined(*self._small), self._buffers.beside

    def pickled(self) -> bytes:
        """Give the pickle alone."""
        return b"".join(self._small)


def _dumps_in_parts(obj: object, shipped: Registry | None) -> tuple[bytes, Sequence[Any]]:
    file = _Chunks()
    try:
        pickle.Pickler(file, 5, buffer_callback=file.take).dump(obj)
    except Exception:  # noqa: BLE001 - as in `dumps`
        return _dumps_with_care(obj, shipped)
    pickled = file.pickled()
    if names_client_module(pickled) and not _knows_all(pickled, shipped):
        return _dumps_with_care(obj, shipped)
    return file.packed()


def _dumps_with_care(obj: object, shipped: Registry | None) -> tuple[bytes, Sequence[Any]]:
    from ._by_value import pickle_carefully  # noqa: PLC0415 - slow to import

    registry = open_everywhere if shipped is None else shipped
    try:
        file, _ = pickle_carefully(obj, registry, _Chunks)
    except MemoryError:
        raise
    except Exception as error:
        from ._unpicklable import explain  # noqa: PLC0415 - seldom needed

        raise NotPicklable(explain(obj, error, registry)) from error
    packed: tuple[bytes, Sequence[Any]] = file.packed()
    return packed


# --- receiving


def _restored(body: memoryview, beside: Iterator[Any], inside: type[bytes | bytearray]) -> tuple[memoryview, list[Any]]:
    """Give the pickle in a body, and all buffers in order, with bytes, bytearrays and text among them as such."""
    _, count = _HEAD.unpack_from(body)
    position = _HEAD.size + _ENTRY.size * count
    buffers: list[Any] = []
    for index, kind, size in _ENTRY.iter_unpack(body[_HEAD.size : position]):
        buffers.extend(islice(beside, index - len(buffers)))
        if kind == _INSIDE:
            buffers.append(inside(body[position : position + size]))
            position += size
        else:
            buffers.append(_made(kind, next(beside)))
    buffers.extend(beside)
    return body[position:], buffers


def _made(kind: int, buffer: Any) -> object:
    if kind == _TEXT:
        return str(buffer, "utf-8", "surrogatepass")
    if kind == _BYTEARRAY:
        return bytearray(buffer)
    return buffer if type(buffer) is bytes else copied(memoryview(buffer).cast("B"))
