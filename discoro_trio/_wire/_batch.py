"""Short values that go together: numbers, truth values, None, short text and bytes.

Such a value cannot change after it was sent, so it need not be pickled by itself: what gathers for one target goes as
one frame. This module owns which values those are, what each counts for, and the body of that frame: a msgpack array
of them. It grows in the outbox.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from .._errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ._frames import Buffer

COST = 64
"""What a value of a batch counts for in a window, in bytes; it takes no more on the wire."""

MOST_VALUES = 64
"""The most values of one frame: as many as a coroutine sends before it lets others run."""

_LONGEST = 48
_LEAST, _GREATEST = -(1 << 63), (1 << 63) - 1  # what msgpack has for both signs
_FIXED = frozenset({float, bool, type(None)})

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[object])


class Batch(list[object]):
    """Values that gather for one target."""

    __slots__ = ("target",)

    def __init__(self, target: int) -> None:
        super().__init__()
        self.target: int = target


def is_short(value: object) -> bool:
    """Tell whether a value may go in a batch. Of subclasses none may: they would arrive as something else."""
    kind = type(value)
    if kind is int:
        return _LEAST <= value <= _GREATEST  # type: ignore[operator]
    if kind is str:
        return len(value) <= _LONGEST and value.isascii()  # type: ignore[arg-type, attr-defined]
    return kind in _FIXED or (kind is bytes and len(value) <= _LONGEST)  # type: ignore[arg-type]


def encode_batches(values: Sequence[object]) -> Iterator[bytes]:
    """Give the bodies of the frames that carry these values."""
    for begin in range(0, len(values), MOST_VALUES):
        yield _encoder.encode(values[begin : begin + MOST_VALUES])


def decode_batch_untrusted(body: Buffer) -> list[object]:
    """Give the values of one frame.

    Raises:
        ProtocolError: It holds none, too many, or something else.
    """
    try:
        values = _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        text = f"a malformed batch of messages: {error}"
        raise ProtocolError(text) from error
    if not 0 < len(values) <= MOST_VALUES or len(body) > COST * len(values):
        text = f"a batch of {len(values)} messages in {len(body)} bytes"
        raise ProtocolError(text)
    return values
