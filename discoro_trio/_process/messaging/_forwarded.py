"""A message that is forwarded without unpickling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..._records import Record
from ..._shipping import dumps_message, loads

if TYPE_CHECKING:
    from collections.abc import Sequence


class ForwardedMessage(Record, frozen=True, eq=False):
    """A message in its network form; the receiver unpickles it."""

    body: Any
    """Its pickle."""
    buffers: Sequence[Any]
    """Its out-of-band buffers."""

    def open(self) -> Any:
        """Return a new copy of the message, with buffers of its own. Raises what unpickling raises."""
        own = [buffer if type(buffer) is bytes else bytearray(buffer) for buffer in self.buffers]
        return loads(self.body, own)

    @classmethod
    def of(cls, message: object) -> ForwardedMessage:
        """Pack a message.

        Raises:
            NotPicklable: It cannot be sent.
        """
        return cls(*dumps_message("the message", message))
