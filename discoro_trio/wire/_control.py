"""Control messages: typed structs that cross the wire as msgpack.

This module owns their base and their coding. The messages themselves are defined by the layers that exchange
them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Union

import msgspec

from .._errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._frames import Buffer

# What msgspec raises for bytes that are not what was expected; deep nesting ends in RecursionError.
_MALFORMED = (msgspec.MsgspecError, ValueError, RecursionError)

_classes: list[type[Control]] = []


# As arrays, for they are half as long as maps; both ends run one version of the protocol, so that no field is
# unknown.
class Control(msgspec.Struct, frozen=True, tag=True, array_like=True, forbid_unknown_fields=True):
    """The base of all control messages. A subclass is known by its name, which no other may have."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _classes.append(cls)


class ControlCodec:
    """Encodes and decodes control messages.

    Args:
        types: The messages that may come; None for all that any layer has defined, also later.
    """

    def __init__(self, types: Iterable[type[Control]] | None = None) -> None:
        self._types = None if types is None else list(types)
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[Control] | None = None
        self._known = 0

    def encode(self, message: Control) -> bytes:
        """Give the bytes of a message."""
        return self._encoder.encode(message)

    def decode(self, data: Buffer) -> Control:
        """Read a message.

        Raises:
            ProtocolError: The bytes are none of the messages that may come.
        """
        decoder = self._decoder
        if decoder is None or self._known != len(_classes):
            decoder = self._make_decoder()
        try:
            return decoder.decode(data)
        except _MALFORMED as error:
            message = f"a malformed control message: {error}"
            raise ProtocolError(message) from error

    def _make_decoder(self) -> msgspec.msgpack.Decoder[Control]:
        types = self._types if self._types is not None else _classes
        self._known = len(_classes)
        decoder: msgspec.msgpack.Decoder[Control] = msgspec.msgpack.Decoder(Union[tuple(types)])  # noqa: UP007
        self._decoder = decoder
        return decoder
