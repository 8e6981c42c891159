"""Control messages: typed structs that cross the wire as msgpack.

This module owns their base and their coding. The messages themselves are defined by the layers that exchange
them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from .._errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._frames import Buffer

# What msgspec raises for bytes that are not what was expected; deep nesting ends in RecursionError.
_MALFORMED = (msgspec.MsgspecError, ValueError, RecursionError)
_LONGEST_NAME = 50  # that is shown of what a peer made up

_classes: dict[str, type[Control]] = {}


# As arrays, for they are half as long as maps; both ends run one version of the protocol, so that no field is
# unknown.
class Control(msgspec.Struct, frozen=True, tag=True, array_like=True, forbid_unknown_fields=True):
    """The base of all control messages. A subclass is known by its name, which no other may have."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__name__ in _classes:
            message = f"there is a control message {cls.__name__} already"
            raise TypeError(message)
        _classes[cls.__name__] = cls


class _Head(msgspec.Struct, array_like=True):
    """How every message begins; what follows is for the decoder of its class."""

    name: str


_head = msgspec.msgpack.Decoder(_Head)


class ControlCodec:
    """Encodes and decodes control messages.

    Args:
        types: The messages that may come; None for all that any layer has defined, also later.
    """

    def __init__(self, types: Iterable[type[Control]] | None = None) -> None:
        self._types = _classes if types is None else {one.__name__: one for one in types}
        self._encoder = msgspec.msgpack.Encoder()
        # One for each class, made when its first message comes: a decoder of all of them takes long to make, and a
        # process gets few of them.
        self._decoders: dict[str, msgspec.msgpack.Decoder[Control]] = {}

    def encode(self, message: Control) -> bytes:
        """Give the bytes of a message."""
        return self._encoder.encode(message)

    def decode(self, data: Buffer) -> Control:
        """Read a message.

        Raises:
            ProtocolError: The bytes are none of the messages that may come.
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
            message = f"a malformed control message: none of the name {name[:_LONGEST_NAME]!r} may come here"
            raise ProtocolError(message)
        decoder = self._decoders[name] = msgspec.msgpack.Decoder(kind)
        return decoder
