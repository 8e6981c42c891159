"""The table of an endpoint's handlers for incoming frames and messages, filled by the layers above.

This module owns the table and the trust that each entry requires. The process, the node and the scheduler own the
handlers.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, TypeVar

from .._errors import ProtocolError
from .._records import Record
from .._wire import ControlCodec, Kind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .._wire import Control, Frame
    from ._link import Link

    FrameHandler = Callable[["Link", Frame], None]
    NoticeHandler = Callable[["Link", Any], None]
    RequestHandler = Callable[["Link", Any], Awaitable[Control]]

M = TypeVar("M", bound="Control")


class Trust(enum.Flag):
    """What the peer of a link has proved, and so what it may do."""

    LEASE = enum.auto()
    """The peer has the key of a lease that this process is part of."""
    SECRET = enum.auto()
    """The peer has the cluster's secret."""
    KIN = enum.auto()
    """The peer is this process itself; or its parent, over an inherited socket."""
    CHILD = enum.auto()
    """The peer is a server that this process has started, over an inherited socket. Users' code runs there and can do
    all that the server can, so it may do no more than a process with the key of the server's lease."""


FULL = Trust.SECRET | Trust.KIN
ANY = Trust.SECRET | Trust.KIN | Trust.LEASE | Trust.CHILD


class _Service(Record, frozen=True):
    handler: Callable[[Link, Any], Any]
    trust: Trust


def _ignore(_link: Link, frame: Frame) -> None:
    message = f"no service here takes a frame of kind {frame[0]}"
    raise ProtocolError(message)


class Services:
    """The handlers of one endpoint."""

    def __init__(self) -> None:
        self.frames: list[FrameHandler] = [_ignore] * (max(Kind) + 1)
        self.links_made: list[Callable[[Link], None]] = []
        self.links_lost: list[Callable[[Link], None]] = []
        self.processes_ended: list[Callable[[bytes], None]] = []
        """Called with the id of a process that has certainly ended: it said goodbye, or its location has no process."""
        self._notices: dict[type[Control], _Service] = {}
        self._requests: dict[type[Control], _Service] = {}

    def on_frame(self, kind: Kind, handler: FrameHandler) -> None:
        """Call `handler` with every frame of this kind, from any link."""
        self.frames[kind] = handler

    def on_notice(self, message: type[M], handler: Callable[[Link, M], None], *, trust: Trust = FULL) -> None:
        """Call `handler` with every notice of this type from a peer with this trust."""
        self._notices[message] = _Service(handler, trust)

    def on_request(
        self, message: type[M], handler: Callable[[Link, M], Awaitable[Control]], *, trust: Trust = FULL
    ) -> None:
        """Answer every request of this type from a peer with this trust by `handler`, in a task of the link."""
        self._requests[message] = _Service(handler, trust)

    def notice_handler(self, link: Link, message: Control) -> NoticeHandler:
        """Return the handler of a notice; ProtocolError if this peer may not send it."""
        return _allowed(self._notices.get(type(message)), link, message)

    def request_handler(self, link: Link, message: Control) -> RequestHandler:
        """Return the handler of a request; ProtocolError if this peer may not make it."""
        return _allowed(self._requests.get(type(message)), link, message)


def _allowed(entry: _Service | None, link: Link, message: Control) -> Callable[[Link, Any], Any]:
    if entry is None or link.trust not in entry.trust:
        text = f"{link.peer_name} may not send {type(message).__name__} here"
        raise ProtocolError(text)
    return entry.handler


def answered(reply: Control, kind: type[M]) -> M:
    """Return a reply, after checking its type.

    Raises:
        ProtocolError: It has another type.
    """
    if not isinstance(reply, kind):
        text = f"the reply is a {type(reply).__name__}, but only {kind.__name__} is valid"
        raise ProtocolError(text)
    return reply


control: ControlCodec = ControlCodec()
"""Encodes and decodes every control message that any layer has defined."""
