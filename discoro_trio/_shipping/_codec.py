"""Converts users' objects to bytes and back. This is the only module that unpickles.

Plain pickle is tried first, so an int or a tuple has no other cost. Objects that plain pickle cannot pickle, or would
pickle as a name that the other side does not have, go through the careful pickler of `_by_value`.

The body is a pickle of protocol 5, or, if it contains large bytes or small buffers:

    u8 0x00 | u32 number of them, n
    n × (u32 index among all buffers, u8 its kind: one of `_BYTES` …, u32 size if it is `_INSIDE`, else 0)
    the content of those that are `_INSIDE`, in order
    the pickle

In that pickle each of them is fetched as pickle fetches its own out-of-band buffers, and all buffers are in the order
of the pickle. Pickles begin with 0x80, so the first byte distinguishes the two forms.

On receipt, bytes become bytes, without a copy if the connection received them as bytes, otherwise with one; bytearrays
become bytearrays, with one copy; memoryviews become bytes; arrays use the received buffer, without a copy if large.
Received arrays of any size are writable, unless the sender's array was read-only. The sender copies no large buffer:
bytes and arrays must keep their contents until they are written.
"""

from __future__ import annotations

import copyreg
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
"""Buffers of at least this many bytes are sent beside the body; smaller ones are in it, before the pickle."""

LARGE = 1024 * 1024
"""If there are bytes or bytearrays of this size, no deeper than `_DEPTH`, all large ones are sent beside the body."""

_MAX_BUFFERS = 1 << 15
"""A frame can carry twice as many; further buffers are in the body."""

_DEPTH = 3
_WIDTH = 16
_HEAD = struct.Struct("!BI")
_ENTRY = struct.Struct("!IBI")
_BYTES, _BYTEARRAY, _TEXT, _INSIDE = 0, 1, 2, 3

# The start of large objects that pickle writes separately: opcode, then the length in this many bytes. All of it may be
# replaced by the single opcode that takes the next buffer as it is.
_BEGINNINGS = ((b"B", 4, _BYTES), (b"\x8e", 8, _BYTES), (b"\x96", 8, _BYTEARRAY), (b"X", 4, _TEXT), (b"\x8d", 8, _TEXT))
_NEXT_BUFFER = b"\x97"
_ATOMS = frozenset({int, float, str, bool, type(None)})
_CONTAINERS = frozenset({tuple, list, dict})
_SCANNED = frozenset({bytes, bytearray, tuple, list, dict})


class _Plain:
    """A class without slots and without a base class in C."""


_PLAIN_SIZE = _Plain.__basicsize__

_c_dumps = pickle.dumps


def dumps(obj: Any, shipped: Registry | None = None) -> tuple[bytes, Sequence[Any]]:
    """Pickle an object.

    Args:
        obj: Any object.
        shipped: The receiver's registry of this client's modules; None for what all open computations share.

    Returns:
        The body, and the buffers to send beside it, without a copy: bytes-like, of one dimension.

    Raises:
        NotPicklable: It cannot be sent; the message names the part that cannot.
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
    except Exception:  # noqa: BLE001 - of any kind: the careful pickler finds and reports it again
        return _dumps_with_care(obj, shipped)
    named = STACK_GLOBAL in body and not (_is_record(obj, kind) and _knows(kind, shipped))
    if named and names_client_module(body) and not _knows_all(body, shipped):
        return _dumps_with_care(obj, shipped)
    if not buffers:
        return body, ()
    parts = _Buffers()
    for buffer in buffers:
        parts.take(buffer)
    return parts.joined(body), parts.beside


_FRAMING = 1024
"""Bytes of a message reserved for other data than the user's object: numbers, names, the lengths of buffers."""


def too_large(body: Buffer, buffers: Sequence[Any]) -> str | None:
    """Return a text, with both sizes, if a pickle does not fit in one message; None if it does."""
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
    """Raise NotPicklable for a pickle that does not fit in one message."""
    problem = too_large(body, buffers)
    if problem is not None:
        message = f"{what} {problem}"
        raise NotPicklable(message)


def dumps_message(what: str, obj: object, shipped: Registry | None = None) -> tuple[bytes, Sequence[Any]]:
    """Pickle what travels as one message, as `dumps` does.

    Args:
        what: What the object is, for the error.
        obj: The object.
        shipped: As for `dumps`.

    Raises:
        NotPicklable: It cannot be sent, or it does not fit in one message.
    """
    body, buffers = dumps(obj, shipped)
    check_size(what, body, buffers)
    return body, buffers


def loads(body: Buffer, buffers: Iterable[Any] = (), *, read_only: bool = False) -> Any:
    """Unpickle the result of `dumps`.

    Args:
        body: The body.
        buffers: The buffers beside it, in their order. Large arrays are writable if these are.
        read_only: Whether small arrays are read-only.

    Raises:
        Exception: Any exception from unpickling, which calls users' classes. Exceptions that would end a process, such
            as SystemExit, become an UnpicklingError.
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
        # Users' code must not end the program that unpickles their objects.
        text = f"opening it raised {type(error).__name__}: {error}"
        raise pickle.UnpicklingError(text) from error


def _is_interrupt(error: BaseException) -> bool:
    """Return whether Ctrl-C raised an error, and not the unpickled code."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return isinstance(error, KeyboardInterrupt) and (trace is None or "_ki" in trace.tb_frame.f_code.co_filename)


def dumps_components(components: Sequence[object], registry: Registry) -> tuple[bytes, list[Any]]:
    """Pickle the components of a computation, each after a note of its place.

    Returns:
        The pickle, and the objects sent along by value, which the receiver finds under their own names.

    Raises:
        NotPicklable: A component refers to an object that cannot be sent.
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
    """The buffers taken out of a pickle, in order.

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
        """Whether no more buffers can be sent beside the body."""
        return len(self.beside) >= _MAX_BUFFERS

    def add(self, content: Any, kind: int) -> None:
        """Put large bytes beside the body; the receiver makes an object of this kind from them."""
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
        """Return the body."""
        if not self._entries:
            return b"".join(pickled)
        return b"".join([_HEAD.pack(0, len(self._entries)), *self._entries, *self._inside, *pickled])


def _is_small(obj: Any, kind: type) -> bool:
    """Return whether a container holds few items, each an atom or a container of few atoms: most arguments do."""
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
    """Return whether there are large bytes near the surface; checks few objects, because it runs for every one."""
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


def _is_record(obj: Any, kind: Any) -> bool:
    """Return whether the pickle of an object names its class and nothing else: most small dataclasses are such.

    It has a dict of plain values, no slots, no base class in C, and no pickling of its own.
    """
    state = getattr(obj, "__dict__", None)
    return (
        type(state) is dict
        and len(state) <= _WIDTH
        and kind.__basicsize__ == _PLAIN_SIZE
        and kind.__reduce_ex__ is object.__reduce_ex__
        and kind.__reduce__ is object.__reduce__
        and kind.__getstate__ is object.__getstate__
        and not hasattr(kind, "__getnewargs__")
        and not hasattr(kind, "__getnewargs_ex__")
        and kind not in copyreg.dispatch_table
        and _ATOMS.issuperset(map(type, state.values()))
    )


def _knows(kind: type, shipped: Registry | None) -> bool:
    """Return whether the peer finds a class of this client by its name."""
    registry = open_everywhere if shipped is None else shipped
    return registry.reference(kind) == NATURAL


def _knows_all(body: bytes, shipped: Registry | None) -> bool:
    """Return whether the peer has every name in a plain pickle: then the pickle can be sent as it is."""
    registry = open_everywhere if shipped is None else shipped
    pairs = globals_of(body)
    if pairs is None:
        return False
    for found in (resolve(*pair) for pair in pairs):
        if registry.reference(found) != NATURAL or needs_care(found):
            return False
    return True


class _Chunks:
    """A file and a list of buffers for a pickler, which passes large bytes without a copy: those become buffers too."""

    def __init__(self) -> None:
        self._small: list[bytes] = []
        self._buffers = _Buffers()
        self.take = self._buffers.take

    def write(self, chunk: Buffer) -> None:
        """Take the pickler's output. It writes a large object separately, and its opcode just before."""
        if len(chunk) >= LARGE and not self._buffers.full:
            for opcode, width, kind in _BEGINNINGS:
                beginning = opcode + len(chunk).to_bytes(8, "little")[:width]
                if self._small[-1].endswith(beginning):
                    self._small[-1] = self._small[-1].removesuffix(beginning) + _NEXT_BUFFER
                    self._buffers.add(chunk, kind)
                    return
        self._small.append(bytes(chunk))

    def packed(self) -> tuple[bytes, Sequence[Any]]:
        """Return body and buffers."""
        return self._buffers.joined(*self._small), self._buffers.beside

    def pickled(self) -> bytes:
        """Return only the pickle."""
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
    """Return the pickle in a body, and all buffers in order, converted to bytes, bytearrays and text where needed."""
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
