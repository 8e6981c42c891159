"""Sends functions to the processes that run them: once to each process, and later by number.

This module owns those numbers, on both sides. `_wire` defines the form in which functions are sent.
"""

from __future__ import annotations

import functools
import hashlib
import struct
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from ..._errors import ProtocolError
from ..._shipping import dumps_message, loads, watch
from ..._wire import Kind
from .. import _order as order
from ._callables import checked_traits, describe

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..._link import Link
    from ..._shipping import Shipped, Watch
    from ..._wire import Buffer, Frame
    from ._callables import Described

NUMBER = struct.Struct("!I")
"""The first bytes of a START frame's body: the number of the function, assigned by DEFINE."""

MOST_DEFINITIONS = 1024
"""The number of functions that a process keeps for another one; the oldest is dropped first, and sent again if used."""


class Pickled:
    """A function in its state at one moment: pickled once, for any number of calls at any number of servers.

    Args:
        function: The function.
        shipped: The code that is pickled by name.

    Raises:
        NotPicklable: It cannot be sent.
    """

    __slots__ = ("body", "buffers", "digest", "function")

    def __init__(self, function: Callable[..., Any], shipped: Shipped | None) -> None:
        self.function: Callable[..., Any] = function
        self.body: bytes
        self.buffers: Sequence[Any]
        self.body, self.buffers = dumps_message(f"the function {checked_traits(function)[0]}", function, shipped)
        digest = hashlib.blake2b(self.body, digest_size=16)
        for buffer in self.buffers:
            digest.update(buffer)
        self.digest: bytes = digest.digest()


def snapshot(function: Callable[..., Any] | Pickled, shipped: Shipped | None) -> Callable[..., Any] | Pickled:
    """Return a function in a form that later changes to its state do not affect.

    Raises:
        NotPicklable: It has state, and cannot be sent.
    """
    return function if isinstance(function, Pickled) or _is_fixed(function) else Pickled(function, shipped)


class Head(NamedTuple):
    """How a START frame names a function, and the keys that order it with the function's frames."""

    number: bytes
    """The start of the body of a START frame."""
    defined: tuple[str, int]
    """The key of the frame that defines the function; a start follows it."""
    used: tuple[str, int]
    """The key of the starts that use it; the frame that removes the definition follows them."""


class Sent:
    """The functions that this process has sent to another one."""

    __slots__ = ("_by_digest", "_known", "_latest", "_link", "_shipped")

    def __init__(self, link: Link, shipped: Shipped | None) -> None:
        self._link = link
        self._shipped = shipped
        self._latest = 0
        # The heads of functions that never change while the program runs, by identity; each with the function, which is
        # kept so that its id is not reused for another one.
        self._known: dict[int, tuple[Head, object, Watch]] = {}
        self._by_digest: dict[bytes, Head] = {}

    def head(self, function: Callable[..., Any] | Pickled) -> Head:
        """Return how a START frame names a function; send the function first if the peer lacks it.

        Raises:
            NotPicklable: It cannot be sent.
            PeerDisconnected: The peer is gone.
        """
        known = self._known.get(id(function))
        if known is not None and not known[2].changed():
            return known[0]
        if isinstance(function, Pickled):
            return self._defined(function)
        head = self._defined(Pickled(function, self._shipped))
        if _is_fixed(function):
            if len(self._known) >= MOST_DEFINITIONS:  # many objects may have the same body
                self._known.clear()
            self._known[id(function)] = (head, function, watch(function))
        return head

    def _defined(self, function: Pickled) -> Head:
        head = self._by_digest.get(function.digest)
        if head is None:
            if len(self._by_digest) >= MOST_DEFINITIONS:
                self._forget_oldest()
            self._latest = number = self._latest + 1
            head = Head(NUMBER.pack(number), order.defined(number), order.used(number))
            keys, after = (head.defined,), (order.TAKEN_BACK,)
            self._link.send(Kind.DEFINE, number, function.body, 0, function.buffers, keys, after)
            self._by_digest[function.digest] = head
        return head

    def _forget_oldest(self) -> None:
        oldest = self._by_digest.pop(next(iter(self._by_digest)))
        self._known = {key: known for key, known in self._known.items() if known[0] is not oldest}
        (number,) = NUMBER.unpack(oldest.number)
        self._link.send(Kind.DEFINE, number, keys=(order.TAKEN_BACK,), after=(oldest.defined, oldest.used))


_UNCHANGING = (int, float, complex, str, bytes, bool, type(None))


def _is_fixed(function: Callable[..., Any]) -> bool:
    """Return whether a callable never changes; closures, most partials and objects with state may."""
    if isinstance(function, FunctionType):
        return function.__closure__ is None
    if isinstance(function, BuiltinFunctionType):
        return function.__self__ is None or isinstance(function.__self__, ModuleType)
    if type(function) is functools.partial:
        return _is_fixed(function.func) and all(map(_never_changes, (*function.args, *function.keywords.values())))
    return isinstance(function, type)


def _never_changes(value: object) -> bool:
    return type(value) in _UNCHANGING or (type(value) is tuple and all(map(_never_changes, value)))


class Definition:
    """A function that another process sent; the first call unpickles it.

    Attributes:
        name: The name for the tasks that run it, once it is known.
        known: The function, once it is unpickled.
        plain: Whether it is called in a thread, once that is known.
    """

    __slots__ = ("_body", "_buffers", "known", "name", "plain")

    def __init__(self, body: Buffer, buffers: Sequence[Buffer]) -> None:
        self._body = body
        self._buffers = buffers
        self.known: Described | None = None
        self.plain: bool | None = None
        self.name: str = "coroutine"

    def is_plain(self) -> bool:
        """Return whether it is called in a thread; False if it cannot be unpickled."""
        try:
            return not self.described().is_async
        except BaseException:  # noqa: BLE001 - it is raised again for the coroutine that uses it
            return False

    def described(self) -> Described:
        """Return the function. Raises what unpickling it raises, as the outcome of the coroutine that uses it."""
        if self.known is None:
            self.known = described = describe(loads(self._body, self._buffers))
            self._body, self._buffers = b"", ()
            self.name, self.plain = described.name, not described.is_async
        return self.known


class ReceivedDefinitions:
    """The functions that another process has sent here."""

    __slots__ = ("_definitions",)

    def __init__(self) -> None:
        self._definitions: dict[int, Definition] = {}

    def define(self, frame: Frame) -> None:
        """Handle a DEFINE frame; an empty one removes the definition. ProtocolError if there are too many."""
        if not frame.body:
            self._definitions.pop(frame.target, None)
            return
        if len(self._definitions) >= MOST_DEFINITIONS:
            message = f"more than {MOST_DEFINITIONS} functions were defined"
            raise ProtocolError(message)
        self._definitions[frame.target] = Definition(frame.body, frame.buffers)

    def called(self, body: Buffer) -> Definition:
        """Return the function that a START frame names. ProtocolError if it was not defined."""
        if len(body) < NUMBER.size:
            message = "a start names no function"
            raise ProtocolError(message)
        definition = self._definitions.get(NUMBER.unpack_from(body)[0])
        if definition is None:
            message = "a start names a function that was not defined"
            raise ProtocolError(message)
        return definition
