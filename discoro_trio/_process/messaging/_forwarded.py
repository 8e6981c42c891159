"""A message that is passed on unopened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..._records import Record
from ..._shipping import dumps, loads

if TYPE_CHECKING:
    from collections.abc import Sequence


class ForwardedMessage(Record, frozen=True, eq=False):
    """A message as it crosses the network; whoever receives it opens it."""

    body: Any
    """Its pickle."""
    buffers: Sequence[Any]
    """The buffers beside it."""

    def open(self) -> Any:
        """Give the message, a new one each time, with buffers of its own. Raises whatever opening it raises."""
        own = [buffer if type(buffer) is bytes else bytearray(buffer) for buffer in self.buffers]
        return loads(self.body, own)

    @classmethod
    def of(cls, message: object) -> ForwardedMessage:
        """Pack a message.

        Raises:
            NotPicklable: It cannot be sent.
        """
        return cls(*dumps(message))
