"""Requests over a link: which task waits for which reply, and which handler answers which request.

This module owns the numbers of requests, their replies, and their cancellation. `Link` carries the frames.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec
import trio

from .. import _errors
from .._errors import DiscoroError, PeerDisconnected, ProtocolError
from .._wire import Control, Kind
from . import _fault_injection
from ._services import control

if TYPE_CHECKING:
    from collections.abc import Hashable

    from .._wire import Frame
    from ._link import Link

REQUEST = 1
REPLY = 2
ERROR = 4
ABANDON = 8


_NOTHING = memoryview(b"")

IN_ORDER: tuple[Hashable, ...] = (Control,)
"""The key of all control frames but bulk data: notices, requests and replies of one direction arrive as sent."""

MOST_ANSWERING = 65_536
"""The most requests of one peer in flight at once; each has a task until its reply has room in the outbox."""

MOST_ANSWERING_BYTES = 256 * 1024 * 1024
"""The most bytes of these requests; a single request may have more."""

_STEPS = 8
"""The number of parts of a timeout. A period in which this process did not run uses up at most one of them."""

logger = logging.getLogger(__name__)


class BulkData(Control, frozen=True):
    """The base of requests and replies that carry bulk data: all other control frames may overtake them.

    The data is sent beside the message, is not copied, and must not be changed before it is written.
    """

    data: memoryview
    """Less than the minimum for shared memory (`shared_memory.LEAST`)."""


class Failed(Control, frozen=True):
    """A request failed at the peer."""

    error: str
    """The name of a class in `_errors`."""
    text: str
    """The text of the error."""


class Done(Control, frozen=True):
    """The request is done: the reply to requests that need no other one."""


class _Waiting:
    """One request that waits for its reply."""

    __slots__ = ("error", "event", "reply")

    def __init__(self) -> None:
        self.event = trio.Event()
        self.reply: Control | None = None
        self.error: Exception | None = None


async def _until_set(event: trio.Event, timeout: float | None) -> None:  # noqa: ASYNC109 - as in `Link`
    """Wait for an event. Time in which user code blocked this thread does not count against the peer."""
    if timeout is None:
        await event.wait()
        return
    for _ in range(_STEPS):
        with trio.move_on_after(timeout / _STEPS):
            await event.wait()
            return


class LinkRequests:
    """The requests of one link, in both directions."""

    def __init__(self, link: Link, *, most_bytes: int = MOST_ANSWERING_BYTES) -> None:
        self._link = link
        self._most_bytes = most_bytes
        self._number = 0
        self._waiting: dict[int, _Waiting] = {}
        self._answering: dict[int, trio.CancelScope] = {}
        self._bytes = 0  # of the requests that are being answered

    async def ask(self, message: Control, timeout: float | None) -> Control:  # noqa: ASYNC109 - as in `Link`
        """Send a request and wait for the reply. Cancelling abandons it, at the peer too."""
        self._number += 1
        number = self._number
        waiting = self._waiting[number] = _Waiting()
        keys = _keys(message, number)
        try:
            if not (_fault_injection.left and _fault_injection.loses(message)):
                body, buffers = _encoded(message)
                self._link.send(Kind.CONTROL, number, body, REQUEST, buffers, keys)
            await _until_set(waiting.event, timeout)
        finally:
            del self._waiting[number]
            if not waiting.event.is_set() and not self._link.lost:
                self._link.send(Kind.CONTROL, number, b"", ABANDON, keys=keys)
        if waiting.error is not None:
            raise waiting.error
        if waiting.reply is None:
            text = f"{self._link.peer_name} did not reply to {type(message).__name__} within {timeout:g} s"
            raise PeerDisconnected(text)
        return waiting.reply

    def received(self, frame: Frame, nursery: trio.Nursery) -> None:
        """Handle a frame that belongs to a request."""
        _, flags, number, _, _ = frame
        if flags == REQUEST:
            self._begin(number, _decoded_untrusted(frame), _size_of(frame), nursery)
        elif flags == ABANDON:
            scope = self._answering.get(number)
            if scope is not None:
                scope.cancel()
        elif flags in (REPLY, REPLY | ERROR):
            self._finish(number, _decoded_untrusted(frame))
        else:
            text = f"a control frame has the unknown flags {flags}"
            raise ProtocolError(text)

    def _begin(self, number: int, message: Control, size: int, nursery: trio.Nursery) -> None:
        if number in self._answering:
            text = f"request {number} came twice"
            raise ProtocolError(text)
        if len(self._answering) >= MOST_ANSWERING:
            text = f"more than {MOST_ANSWERING} requests at once"
            raise ProtocolError(text)
        if self._bytes and self._bytes + size > self._most_bytes:
            text = f"requests of more than {self._most_bytes} bytes at once"
            raise ProtocolError(text)
        self._bytes += size
        scope = self._answering[number] = trio.CancelScope()
        nursery.start_soon(self._answer, number, message, size, scope, name=f"answer {type(message).__name__}")

    async def _answer(self, number: int, message: Control, size: int, scope: trio.CancelScope) -> None:
        try:
            with scope:
                flags, reply = await self._reply_to(message)
                # If a peer does not read its replies, no more of them are kept here than it has requests in flight.
                with suppress(PeerDisconnected):
                    await self._link.room()
        finally:
            del self._answering[number]
            self._bytes -= size
        if scope.cancelled_caught or self._link.lost:
            return
        if not (_fault_injection.left and _fault_injection.loses(reply)):
            body, buffers = _encoded(reply)
            self._link.send(Kind.CONTROL, number, body, flags, buffers, _keys(reply, ~number))

    async def _reply_to(self, message: Control) -> tuple[int, Control]:
        try:
            handler = self._link.services.request_handler(self._link, message)
            return REPLY, await handler(self._link, message)
        except DiscoroError as error:
            return REPLY | ERROR, Failed(type(error).__name__, str(error))
        except Exception as error:
            # A bug here, or an unexpected message of the peer: only this request fails.
            logger.exception("a %s of %s could not be answered", type(message).__name__, self._link.peer_name)
            text = f"it could not be handled: {type(error).__name__}"
            return REPLY | ERROR, Failed("ProtocolError", text)

    def _finish(self, number: int, reply: Control) -> None:
        waiting = self._waiting.get(number)
        if waiting is None:
            return  # abandoned meanwhile
        if isinstance(reply, Failed):
            waiting.error = _restore(reply)
        else:
            waiting.reply = reply
        waiting.event.set()

    def lost(self, error: Exception) -> None:
        """Fail all requests that still wait."""
        for waiting in self._waiting.values():
            if not waiting.event.is_set():
                waiting.error = PeerDisconnected(str(error))
                waiting.event.set()


def _encoded(message: Control) -> tuple[bytes, tuple[memoryview, ...]]:
    if isinstance(message, BulkData):
        return control.encode(msgspec.structs.replace(message, data=_NOTHING)), (message.data,)
    return control.encode(message), ()


def _decoded_untrusted(frame: Frame) -> Control:
    message = control.decode(frame.body)
    if isinstance(message, BulkData):
        if len(frame.buffers) != 1:
            text = f"a {type(message).__name__} comes with {len(frame.buffers)} buffers, but it must have one"
            raise ProtocolError(text)
        msgspec.structs.force_setattr(message, "data", memoryview(frame.buffers[0]))
    return message


def _size_of(frame: Frame) -> int:
    return len(frame.body) + sum(map(len, frame.buffers))


def _keys(message: Control, number: int) -> tuple[Hashable, ...]:
    return ((BulkData, number),) if isinstance(message, BulkData) else IN_ORDER


def _restore(failed: Failed) -> Exception:
    kind = getattr(_errors, failed.error, None)
    if isinstance(kind, type) and issubclass(kind, DiscoroError):
        return kind(failed.text)
    return DiscoroError(f"{failed.error}: {failed.text}")
