"""Control messages: typed structs that cross the wire as msgpack.

This module owns their base class and their encoding. The layers that exchange messages define them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from .._errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._frames import Buffer

# The errors of msgspec for unexpected bytes; deep nesting raises RecursionError.
_MALFORMED = (msgspec.MsgspecError, ValueError, RecursionError)
_LONGEST_NAME = 50  # characters that are shown of an unknown name from a peer

_classes: dict[str, type[Control]] = {}


# Arrays, because they are half as long as maps; both ends run one version of the protocol, so no field is
# unknown.
class Control(msgspec.Struct, frozen=True, tag=True, array_like=True, forbid_unknown_fields=True):
    """The base of all control messages. The name of a subclass identifies it and must be unique."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__name__ in _classes:
            message = f"there is a control message {cls.__name__} already"
            raise TypeError(message)
        _classes[cls.__name__] = cls


class _MessageName(msgspec.Struct, array_like=True):
    """The start of every message; the decoder of its class reads the rest."""

    name: str


_head = msgspec.msgpack.Decoder(_MessageName)


class ControlCodec:
    """Encodes and decodes control messages.

    Args:
        types: The messages that are accepted; None for all that any layer has defined, or defines later.
    """

    def __init__(self, types: Iterable[type[Control]] | None = None) -> None:
        self._types = _classes if types is None else {one.__name__: one for one in types}
        self._encoder = msgspec.msgpack.Encoder()
        # One for each class, made when its first message arrives: a decoder for all of them takes long to make, and a
        # process receives only a few of them.
        self._decoders: dict[str, msgspec.msgpack.Decoder[Control]] = {}

    def encode(self, message: Control) -> bytes:
        """Return the bytes of a message."""
        return self._encoder.encode(message)

    def decode(self, data: Buffer) -> Control:
        """Read a message.

        Raises:
            ProtocolError: The bytes are not one of the accepted messages.
        """
        try:
            name = _head.decode(data).name
            decoder = self._decoders.get(name) or self._make_decoder(name)
            return decoder.decode(data)
        except _MALFORMED as error:
            message = f"a malformed control message: {error}"
            raise ProtocolError(message) from error

    def _make_decoder(self, name: str) -> msgspec.msgpack.Decoder[Control]:
        kind = self._types.get(name)
        if kind is None:
            message = f"a malformed control message: {name[:_LONGEST_NAME]!r} is not accepted here"
            raise ProtocolError(message)
        decoder = self._decoders[name] = msgspec.msgpack.Decoder(kind)
        return decoder
