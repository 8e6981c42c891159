"""Functions on their way to where they run: sent once to each process, and named by a number after that.

This module owns those numbers, on both sides. What a function is made of on the way is with `_wire`.
"""

from __future__ import annotations

import hashlib
import struct
from types import BuiltinFunctionType, FunctionType
from typing import TYPE_CHECKING, Any

from ..._errors import ProtocolError
from ..._shipping import dumps, loads
from ..._wire import Kind
from ._callables import describe

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..._link import Link
    from ..._shipping import Shipped
    from ..._wire import Buffer, Frame
    from ._callables import Described

NUMBER = struct.Struct("!I")
"""The first bytes of a START frame's body: the number of the function, as DEFINE gave it."""

MOST_DEFINITIONS = 1024
"""The functions that a process keeps for another one; the oldest goes first, and is sent again when it is used."""


class Sent:
    """The functions that this process has sent to another one."""

    __slots__ = ("_by_body", "_known", "_latest", "_link", "_shipped")

    def __init__(self, link: Link, shipped: Shipped | None) -> None:
        self._link = link
        self._shipped = shipped
        self._latest = 0
        # The heads of those that cannot change, by identity; each with the function, which is kept so that its id is
        # not used again for another one.
        self._known: dict[int, tuple[bytes, object]] = {}
        self._by_body: dict[bytes, int] = {}

    def head(self, function: Callable[..., Any]) -> bytes:
        """Give what a START frame's body begins with to call a function, sending that if the other side lacks it.

        Raises:
            NotPicklable: It cannot be sent.
            PeerDisconnected: The other side is gone.
        """
        known = self._known.get(id(function))
        if known is not None:
            return known[0]
        body, buffers = dumps(function, self._shipped)
        head = NUMBER.pack(self._number_of(body, buffers))
        if _is_fixed(function):
            self._known[id(function)] = (head, function)
        return head

    def _number_of(self, body: bytes, buffers: Sequence[Any]) -> int:
        digest = hashlib.blake2b(body, digest_size=16)
        for buffer in buffers:
            digest.update(buffer)
        key = digest.digest()
        number = self._by_body.get(key)
        if number is None:
            if len(self._by_body) >= MOST_DEFINITIONS:
                self._forget_oldest()
            self._latest = number = self._latest + 1
            self._link.send(Kind.DEFINE, number, body, 0, buffers)
            self._by_body[key] = number
        return number

    def _forget_oldest(self) -> None:
        oldest = self._by_body.pop(next(iter(self._by_body)))
        head = NUMBER.pack(oldest)
        self._known = {key: known for key, known in self._known.items() if known[0] != head}
        self._link.send(Kind.DEFINE, oldest)


def _is_fixed(function: Callable[..., Any]) -> bool:
    """Tell whether a callable stays what it is; closures, partials and objects with state do not."""
    return isinstance(function, (type, BuiltinFunctionType)) or (
        isinstance(function, FunctionType) and function.__closure__ is None
    )


class Definition:
    """A function that another process sent, opened when it is first called.

    Attributes:
        name: For the tasks that run it, as soon as it is known.
    """

    __slots__ = ("_body", "_buffers", "_described", "name")

    def __init__(self, body: Buffer, buffers: Sequence[Buffer]) -> None:
        self._body = body
        self._buffers = buffers
        self._described: Described | None = None
        self.name: str = "coroutine"

    def described(self) -> Described:
        """Give the function. Raises whatever opening it raises, which is for the coroutine that wants it."""
        if self._described is None:
            self._described = describe(loads(self._body, self._buffers))
            self._body, self._buffers = b"", ()
            self.name = self._described.name
        return self._described


class Received:
    """The functions that another process has sent here."""

    __slots__ = ("_definitions",)

    def __init__(self) -> None:
        self._definitions: dict[int, Definition] = {}

    def define(self, frame: Frame) -> None:
        """Take a DEFINE frame; an empty one takes the definition back. ProtocolError if there are too many."""
        if not frame.body:
            self._definitions.pop(frame.target, None)
            return
        if len(self._definitions) >= MOST_DEFINITIONS:
            message = f"more than {MOST_DEFINITIONS} functions were defined"
            raise ProtocolError(message)
        self._definitions[frame.target] = Definition(frame.body, frame.buffers)

    def called(self, body: Buffer) -> Definition:
        """Give the function that a START frame names. ProtocolError if it was not defined."""
        if len(body) < NUMBER.size:
            message = "a start names no function"
            raise ProtocolError(message)
        definition = self._definitions.get(NUMBER.unpack_from(body)[0])
        if definition is None:
            message = "a start names a function that was not defined"
            raise ProtocolError(message)
        return definition
