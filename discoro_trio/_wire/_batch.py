"""Batches of short values: numbers, booleans, None, short str and bytes, and short tuples, lists and dicts.

Such values need not be pickled one by one: those for one target are sent as one frame. This module defines which values
these are, how many bytes of a window each uses, and the body of the frame: a msgpack array, in which a tuple is an
extension that holds the array of its items. The outbox collects the values.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import msgspec

from .._errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ._frames import Buffer

COST = 64
"""The bytes of a window that each value of a batch uses; a value is never longer on the wire."""

MOST_VALUES = 64
"""The most values of one frame: a coroutine sends this many before it lets other tasks run."""

NOT_SHORT = object()
"""The result of `pack_short` for a value that must not go in a batch."""

_LONGEST = 48
_LEAST, _GREATEST = -(1 << 63), (1 << 63) - 1  # msgpack's range of signed integers
_FIXED = frozenset({float, bool, type(None)})

_MOST_ITEMS = 8
_TUPLE = 1
_OVERHEAD = 8  # of an extension, and of an array with one value

_encoder = msgspec.msgpack.Encoder()
_items = msgspec.msgpack.Decoder(list[object])


def _extension(code: int, data: memoryview) -> object:
    if code != _TUPLE:
        text = f"an extension of code {code}"
        raise ValueError(text)
    return tuple(_items.decode(data))


_decoder = msgspec.msgpack.Decoder(list[object], ext_hook=_extension)


class Batch(list[object]):
    """The values that wait for one target."""

    __slots__ = ("target",)

    def __init__(self, target: int) -> None:
        super().__init__()
        self.target: int = target


def is_short(value: object) -> bool:
    """Return whether a value may go in a batch as it is. Subclasses may not: they would arrive as another type."""
    kind = type(value)
    if kind is int:
        return _LEAST <= value <= _GREATEST  # type: ignore[operator]
    if kind is str:
        return len(value) <= _LONGEST and value.isascii()  # type: ignore[arg-type, attr-defined]
    return kind in _FIXED or (kind is bytes and len(value) <= _LONGEST)  # type: ignore[arg-type]


def pack_short(value: Any) -> object:
    """Return the packed form of a tuple, list or dict that may go in a batch; NOT_SHORT for other values.

    The value may be changed afterwards.
    """
    kind = type(value)
    if kind is dict:
        items: Iterable[object] = chain(value, value.values())
    elif kind is tuple or kind is list:
        items = value
    else:
        return NOT_SHORT
    if len(value) > _MOST_ITEMS or not all(map(is_short, items)):
        return NOT_SHORT
    packed = _encoder.encode(value)
    if len(packed) > COST - _OVERHEAD:
        return NOT_SHORT
    return msgspec.msgpack.Ext(_TUPLE, packed) if kind is tuple else msgspec.Raw(packed)


def encode_batches(values: Sequence[object]) -> list[bytes]:
    """Return the bodies of the frames that carry these values."""
    encode = _encoder.encode
    if len(values) <= MOST_VALUES:
        return [encode(values)] if values else []
    return [encode(values[begin : begin + MOST_VALUES]) for begin in range(0, len(values), MOST_VALUES)]


def decode_batch_untrusted(body: Buffer) -> list[object]:
    """Return the values of one frame.

    Raises:
        ProtocolError: The body has no values, too many, or invalid ones.
    """
    try:
        values = _decoder.decode(body)
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
        text = f"a malformed batch of messages: {error}"
        raise ProtocolError(text) from error
    if not 0 < len(values) <= MOST_VALUES or len(body) > COST * len(values):
        text = f"a batch of {len(values)} messages in {len(body)} bytes"
        raise ProtocolError(text)
    return values
