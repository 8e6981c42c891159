"""Messages between coroutines: sending with credit, delivering with a receipt, and handling incoming messages.

This module owns the routes to coroutines of other processes, and the frames of messages, credit and receipts. Each
coroutine owns its mailbox.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import trio

from ..._errors import DiscoroError, MailboxClosed, PeerDisconnected, ProtocolError
from ..._shipping import check_size, dumps
from ..._wire import COST, NOT_SHORT, Kind, decode_batch_untrusted, is_short, pack_short
from .. import _order as order
from ..execution._local_coro import NOBODY, current
from ._forwarded import ForwardedMessage
from ._mailbox import ASKED, CREDIT
from ._message_sender import MessageSender

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..._link import Link
    from ..._wire import Frame
    from .._coro import Coro
    from .._process import Process

RECEIPT = 1
"""The flag of a MESSAGE frame that wants an ACK; the number to acknowledge is its last buffer."""

DELIVERED = 0
REFUSED = 1
ENDED = 2
"""The flags of an ACK frame: the target is a receipt's number, or for ENDED a coroutine's serial number."""

MOST_ENDED = 10_000
"""The number of ended processes to remember. Sends to older ones fail only after a connection attempt."""

_MESSAGE = int(Kind.MESSAGE)
_NUMBER = struct.Struct("!Q")


class _Receipt:
    """A message whose sender waits for its arrival."""

    __slots__ = ("done", "refused")

    def __init__(self) -> None:
        self.done = trio.Event()
        self.refused: bool | None = None


class _Peer:
    """The state for one process with which this one exchanges messages."""

    __slots__ = ("receipts", "routes")

    def __init__(self) -> None:
        self.routes: dict[int, MessageSender] = {}
        self.receipts: dict[int, _Receipt] = {}


class Mail:
    """The messages of one process."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._peers: dict[Link, _Peer] = {}
        self._routes: WeakValueDictionary[tuple[bytes, int], MessageSender] = WeakValueDictionary()
        self._ended: dict[bytes, None] = {}
        self._opening: dict[trio.CancelScope, bytes] = {}  # the connections that senders wait for, by the process
        self._receipt = 0
        services = process.endpoint.services
        services.on_frame(Kind.MESSAGE, self._message)
        services.on_frame(Kind.BATCH, self._batch)
        services.on_frame(Kind.CREDIT, self._credit)
        services.on_frame(Kind.ACK, self._acknowledged)
        services.links_lost.append(self._lost)
        services.processes_ended.append(self.process_ended)

    def process_ended(self, process_id: bytes) -> None:
        """Note that a process has ended, or is lost for good, and takes no more messages."""
        self._ended[process_id] = None
        if len(self._ended) > MOST_ENDED:
            del self._ended[next(iter(self._ended))]
        for (home, _), route in list(self._routes.items()):
            if home == process_id:
                route.close_after_loss()
        for scope, home in self._opening.items():
            if home == process_id:
                scope.cancel()

    # --- sending

    def route(self, coro: Coro[Any]) -> MessageSender:
        """Return the route to a coroutine of another process."""
        key = (coro.home, coro.serial)
        route = self._routes.get(key)
        if route is None:
            route = self._routes[key] = MessageSender(self, str(coro), coro.serial, coro.mailbox_size)
            if coro.home in self._ended:
                route.close()
        return route

    async def send(self, coro: Coro[Any], route: MessageSender, message: object) -> None:
        """Send to another process; waits only for the receiver's window, and for the connection if needed."""
        body, buffers = dumps(message)
        check_size("the message", body, buffers)
        size = len(body) if not buffers else size_of(body, buffers)
        source = source_here()
        turns = self._process.turns
        if turns.due():
            await turns.rest()
        link = route.link
        if route.trouble or link is None or link.lost or not route.take(size, source):
            link = await self._pass(coro, route, size, source)
        link.send(_MESSAGE, coro.serial, body, 0, buffers, *order.message(source, coro.serial))

    async def send_short(self, coro: Coro[Any], route: MessageSender, value: object) -> None:
        """Send a short value (`is_short`); waits as `send` does, and is otherwise no checkpoint."""
        source = source_here()
        link = await self._pass(coro, route, COST, source)
        link.gather(route.batch, value, *order.message(source, coro.serial))

    async def send_packed(self, coro: Coro[Any], route: MessageSender, packed: ForwardedMessage) -> Link:
        """Send a packed message, for channels; return the link that it was sent on."""
        source = source_here()
        body, buffers = packed.body, packed.buffers
        link = await self._pass(coro, route, size_of(body, buffers), source)
        link.send(_MESSAGE, coro.serial, body, 0, buffers, *order.message(source, coro.serial))
        return link

    def try_packed(self, coro: Coro[Any], route: MessageSender, packed: ForwardedMessage) -> bool:
        """Send a packed message, if that needs no waiting; return whether it was sent."""
        source = source_here()
        if route.trouble:
            route.check(source)
        body, buffers = packed.body, packed.buffers
        link = route.link
        if link is None or not route.take(size_of(body, buffers), source):
            return False
        link.send(_MESSAGE, coro.serial, body, 0, buffers, *order.message(source, coro.serial))
        return True

    def met(self, coro: Coro[Any]) -> MessageSender:
        """Return the route to a coroutine whose handle has just arrived here, so no earlier message can be missing."""
        route = self.route(coro)
        route.told(source_here())
        return route

    def send_nowait(self, coro: Coro[Any], route: MessageSender, message: object) -> None:
        """Send without waiting, or raise WouldBlock."""
        source = source_here()
        if route.trouble:
            route.check(source)
        short = message if is_short(message) else pack_short(message)
        if short is not NOT_SHORT and route.gather(short):
            return
        body, buffers = dumps(message)
        check_size("the message", body, buffers)
        link = route.link
        if link is None:
            if not route.opening:
                route.opening = True
                self._process.endpoint.nursery.start_soon(self._open_quietly, coro, route)
            raise trio.WouldBlock
        if not route.take(size_of(body, buffers), source):
            raise trio.WouldBlock
        link.send(_MESSAGE, coro.serial, body, 0, buffers, *order.message(source, coro.serial))

    async def deliver(self, coro: Coro[Any], route: MessageSender, message: object) -> None:
        """Send to another process and wait until it is in the mailbox."""
        packed = ForwardedMessage.of(message)
        await trio.lowlevel.checkpoint()
        await self.deliver_packed(coro, route, packed)

    async def deliver_packed(self, coro: Coro[Any], route: MessageSender, packed: ForwardedMessage) -> None:
        """Send a packed message and wait until it is in the mailbox."""
        source = source_here()
        body, buffers = packed.body, packed.buffers
        link = await self._pass(coro, route, size_of(body, buffers), source)
        self._receipt += 1
        number, receipt = self._receipt, _Receipt()
        receipts = self._peer(link).receipts
        receipts[number] = receipt
        buffers = [*buffers, _NUMBER.pack(number)]
        link.send(_MESSAGE, coro.serial, body, RECEIPT, buffers, *order.message(source, coro.serial))
        try:
            await receipt.done.wait()
        finally:
            receipts.pop(number, None)
        if receipt.refused is None:
            route.told(source)
            text = f"the connection to {coro} was lost; the message may not have arrived"
            raise PeerDisconnected(text)
        if receipt.refused:
            text = f"{coro} has ended; it takes no more messages"
            raise MailboxClosed(text)

    async def _pass(self, coro: Coro[Any], route: MessageSender, size: int, source: int) -> Link:
        """Take the credit for one message and return the link to send it on."""
        if route.trouble:
            route.check(source)
        if route.link is None:
            await self._open(coro, route)
        link = route.link if route.take(size, source) else await route.wait(size, source)
        if link is None or link.lost or link is not route.link:
            route.told(source)
            text = f"the connection to {coro} is lost"
            raise PeerDisconnected(text)
        return link

    async def _open(self, coro: Coro[Any], route: MessageSender) -> None:
        """Connect to the process of a coroutine, or raise MailboxClosed as soon as the end of that process is known."""
        link: Link | None = None
        with trio.CancelScope() as scope:
            self._opening[scope] = coro.home
            try:
                link = await self._process.link_to(coro)
            finally:
                del self._opening[scope]
        if link is None:
            raise route.ended()
        if route.link is not link:
            route.opened(link)
            self._peer(link).routes[coro.serial] = route

    async def _open_quietly(self, coro: Coro[Any], route: MessageSender) -> None:
        try:
            await self._open(coro, route)
        except MailboxClosed:
            pass  # the route says so to who sends next
        except DiscoroError:
            route.failed()
        finally:
            route.opening = False

    # --- frames

    def _peer(self, link: Link) -> _Peer:
        peer = self._peers.get(link)
        if peer is None:
            peer = self._peers[link] = _Peer()
        return peer

    def _message(self, link: Link, frame: Frame) -> None:
        _, flags, serial, body, buffers = frame
        local = self._process.locals.get(serial)
        number = None
        if flags & RECEIPT:
            if not buffers or len(buffers[-1]) != _NUMBER.size:
                text = "a message requests a receipt and does not say which"
                raise ProtocolError(text)
            (number,) = _NUMBER.unpack(buffers[-1])
            buffers = buffers[:-1]
        if local is None:
            link.send(Kind.ACK, serial, b"", ENDED)
        else:
            local.box().arrived(link, body, buffers, size_of(body, buffers) if buffers else len(body))
        if number is not None:
            link.send(Kind.ACK, number, b"", REFUSED if local is None else DELIVERED)

    def _batch(self, link: Link, frame: Frame) -> None:
        values = decode_batch_untrusted(frame.body)
        local = self._process.locals.get(frame.target)
        if local is None:
            link.send(Kind.ACK, frame.target, b"", ENDED)
        else:
            local.box().arrived_together(link, values)

    def _credit(self, link: Link, frame: Frame) -> None:
        if len(frame.body) != CREDIT.size:
            text = "a return of credit does not say how much"
            raise ProtocolError(text)
        if frame.flags == ASKED:
            local = self._process.locals.get(frame.target)
            if local is not None:
                local.box().asked(link, *CREDIT.unpack(frame.body))
            return
        peer = self._peers.get(link)
        route = peer.routes.get(frame.target) if peer is not None else None
        if route is not None:
            route.give(*CREDIT.unpack(frame.body))

    def _acknowledged(self, link: Link, frame: Frame) -> None:
        peer = self._peer(link)
        if frame.flags == ENDED:
            route = peer.routes.pop(frame.target, None)
            if route is not None:
                route.close()
            return
        receipt = peer.receipts.get(frame.target)
        if receipt is not None:
            receipt.refused = frame.flags == REFUSED
            receipt.done.set()

    def _lost(self, link: Link) -> None:
        for local in self._process.locals.values():
            if local.mailbox is not None:
                local.mailbox.forget(link)
        peer = self._peers.pop(link, None)
        if peer is None:
            return
        for route in peer.routes.values():
            if route.link is link:
                route.lost()
        for receipt in peer.receipts.values():
            receipt.done.set()


def source_here() -> int:
    """Return the source number of the calling coroutine; all tasks that are no coroutine share one."""
    locals_ = current.get()
    return locals_[-1].source if locals_ else NOBODY


def size_of(body: object, buffers: Sequence[Any]) -> int:
    """Return the size of a message in bytes."""
    return len(body) + sum(memoryview(buffer).nbytes for buffer in buffers)  # type: ignore[arg-type]


def tell_ended(links: list[Link], serial: int) -> None:
    """Notify the senders of a coroutine that it takes no more messages."""
    for link in links:
        link.send(Kind.ACK, serial, b"", ENDED)
