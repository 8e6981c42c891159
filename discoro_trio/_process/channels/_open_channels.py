"""The channels that are open in this process: the subscribers of each, and the task that forwards messages.

A channel is a coroutine whose mailbox takes what is published, so that mailbox has the windows of the publishers; each
subscriber has a window of its own. Nothing is dropped: when a subscriber's window is full, the channel waits for it,
then its mailbox fills, then its publishers wait. Users hold `Channel`.
"""

from __future__ import annotations

import logging
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from ..._errors import DiscoroError, MailboxClosed, NotPicklable, PeerDisconnected
from ..._link import ANY, Done
from ..._printable import printable
from ..._records import Record
from ..._wire import Control
from ..execution._local_coro import current
from ..messaging._forwarded import ForwardedMessage
from ..naming._addresses import Address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..._link import Link
    from .._coro import Coro
    from .._process import Process
    from ..execution._local_coro import LocalCoro
    from ..messaging._mailbox import Mailbox
    from ..messaging._message_sender import MessageSender
    from ._subscription import Subscription

logger = logging.getLogger(__name__)

CHANNEL = "channel"
"""The kind of name that channels have."""

MOST_SUBSCRIBERS = 65_536
"""The most subscribers of one channel."""
MOST_DELIVERED = 65_536
"""The most deliveries of one channel whose publisher has not requested the result; the oldest is dropped."""

MARK = struct.Struct("!8s16s")
"""The last buffer of a message whose publisher waits for its delivery. Pickles have no buffers this small."""

_MARKED = b"\0deliver"


def mark(packed: ForwardedMessage, token: bytes) -> ForwardedMessage:
    """Mark a message so that the channel reports its delivery (`OpenChannel.delivered`)."""
    return ForwardedMessage(packed.body, [*packed.buffers, MARK.pack(_MARKED, token)])


class Subscribe(Control, frozen=True):
    """Add a coroutine to the subscribers; answered by `Done`."""

    channel: int
    subscriber: Address
    ends: bool
    """Whether it gets a message when the channel ends."""


class Unsubscribe(Control, frozen=True):
    """Remove a coroutine from the subscribers."""

    channel: int
    subscriber: Address


class AwaitSubscribers(Control, frozen=True):
    """Answered by `Done` when the channel has at least this number of subscribers."""

    channel: int
    count: int


class AwaitDelivery(Control, frozen=True):
    """Answered by `DeliveredTo` when a marked message is in the mailboxes of all subscribers."""

    channel: int
    token: bytes


class DeliveredTo(Control, frozen=True):
    """The number of subscribers that have the message."""

    subscribers: int


class ChannelEnd:
    """The last message of a channel to each subscription."""


class Published(Record, frozen=True, eq=False):
    """A message of the channel's own process."""

    message: Any
    """The message, which is passed by reference to subscribers of this process."""
    packed: ForwardedMessage | None
    """The packed message for remote subscribers, if there were any when it was published."""
    token: bytes | None
    """The token to pass to `OpenChannel.delivered`, if the publisher waits for the delivery."""


class _Subscriber:
    """A coroutine that gets what is published."""

    __slots__ = ("coro", "count", "ends", "route", "scope")

    def __init__(self, coro: Coro[Any], route: MessageSender | None, *, ends: bool) -> None:
        self.coro = coro
        self.route = route
        self.ends = ends
        self.count = 1
        self.scope: trio.CancelScope | None = None  # the scope of the wait for its window

    def leave(self) -> None:
        """Stop waiting for its window."""
        if self.scope is not None:
            self.scope.cancel()


class OpenChannel:
    """One open channel."""

    def __init__(self, process: Process, local: LocalCoro, transform: Callable[[Any], Any] | None) -> None:
        self.serial: int = local.serial
        self.mailbox: Mailbox = local.box()
        self.mailbox.opener = ForwardedMessage
        self._process = process
        self._local = local
        self._transform = transform
        self._subscribers: dict[Coro[Any], _Subscriber] = {}
        self._changed = trio.lowlevel.ParkingLot()
        self.finished: trio.Event = trio.Event()
        self._done: dict[bytes, int] = {}
        self._asked: dict[bytes, trio.Event] = {}

    # --- subscribers

    def subscribe(self, coro: Coro[Any], *, ends: bool) -> None:
        """Send to a coroutine from now on; if `ends`, also send it a message when the channel ends."""
        known = self._subscribers.get(coro)
        if known is not None:
            known.count += 1
            return
        if len(self._subscribers) >= MOST_SUBSCRIBERS:
            text = f"a channel has at most {MOST_SUBSCRIBERS} subscribers"
            raise DiscoroError(text)
        token = current.set((self._local,))
        try:
            route = None if coro.home == self._process.id else self._process.mail.met(coro)
        finally:
            current.reset(token)
        self._subscribers[coro] = _Subscriber(coro, route, ends=ends)
        self._changed.unpark_all()

    def unsubscribe(self, coro: Coro[Any]) -> None:
        """Stop sending to a coroutine."""
        known = self._subscribers.get(coro)
        if known is not None:
            known.count -= 1
            if not known.count:
                del self._subscribers[coro]
                known.leave()

    def lost(self, home: bytes) -> None:
        """Drop the subscribers of a process that cannot be reached."""
        for coro in [coro for coro in self._subscribers if coro.home == home]:
            self._subscribers.pop(coro).leave()

    async def until_subscribed(self, count: int) -> None:
        """Wait until there are at least `count` subscribers."""
        while len(self._subscribers) < count:
            await self._changed.park()

    # --- publishing

    def pack(self, message: object) -> ForwardedMessage | None:
        """Pack a message of this process, if remote subscribers will get it untransformed."""
        far = self._transform is None and any(one.route is not None for one in self._subscribers.values())
        return ForwardedMessage.of(message) if far else None

    async def delivered(self, token: bytes) -> int:
        """Wait until a marked message is delivered; return the number of subscribers that have it."""
        if token not in self._done:
            event = self._asked[token] = trio.Event()
            try:
                await event.wait()
            finally:
                del self._asked[token]
        if token not in self._done:
            raise _ended()
        return self._done.pop(token)

    async def run(self) -> None:
        """Forward what is published until `finish`; then send subscribers the end of the channel."""
        current.set((self._local,))
        while True:
            if self.mailbox:
                await trio.lowlevel.checkpoint()
            else:
                await self.mailbox.wait()
            item = self.mailbox.get_nowait()
            if isinstance(item, ChannelEnd):
                break
            await self._pass_on(item)
        await self._to_all(
            [one for one in self._subscribers.values() if one.ends], Published(item, ForwardedMessage.of(item), None)
        )
        self.finished.set()

    def finish(self) -> None:
        """Let `run` end once everything published before has been forwarded."""
        self.mailbox.put_last(ChannelEnd())

    def close(self) -> None:
        """Fail the waits for deliveries that will not happen."""
        for event in self._asked.values():
            event.set()

    async def _pass_on(self, item: object) -> None:
        published = self._opened(item)
        if published is None:
            return
        reached = 0
        late = [
            one
            for one in list(self._subscribers.values())
            if published.token is not None or not self._try(one, published)
        ]
        if late:
            reached = await self._to_all(late, published)
        if published.token is not None:
            self._done[published.token] = reached
            if len(self._done) > MOST_DELIVERED:
                del self._done[next(iter(self._done))]
            event = self._asked.get(published.token)
            if event is not None:
                event.set()

    def _opened(self, item: object) -> Published | None:
        """Transform a published message; return None if it is dropped."""
        token = None
        if isinstance(item, Published):
            message, packed, token = item.message, item.packed, item.token
        else:
            assert isinstance(item, ForwardedMessage)  # noqa: S101 - the two kinds of items in this mailbox
            packed = item
            if item.buffers and len(item.buffers[-1]) == MARK.size:
                token = MARK.unpack(item.buffers[-1])[1]
                packed = ForwardedMessage(item.body, item.buffers[:-1])
            message = packed
        if self._transform is not None:
            try:
                message = message.open() if isinstance(message, ForwardedMessage) else message
            except Exception:
                logger.exception("a message to the channel %s could not be opened", printable(self._local.name))
                message = None
            message = None if message is None else self._transform(message)
            if message is None:
                return Published(None, None, token) if token is not None else None
            packed = None
        return Published(message, packed, token)

    def _try(self, one: _Subscriber, published: Published) -> bool:
        """Send to one subscriber if that needs no waiting; return False if it has to wait."""
        try:
            if one.route is not None:
                packed = published.packed
                return packed is not None and self._process.mail.try_packed(one.coro, one.route, packed)
            self._process.mailbox_of(one.coro).put_nowait(published.message)
        except trio.WouldBlock:
            return False
        except (MailboxClosed, PeerDisconnected):
            self._gone(one)
        return True

    async def _to_all(self, late: list[_Subscriber], published: Published) -> int:
        if self._transform is not None and published.message is None:
            return 0  # the transform dropped it
        if published.packed is None and any(one.route is not None for one in late):
            published, late = self._packed_late(published, late)
        reached = 0
        deliver = published.token is not None
        async with trio.open_nursery() as nursery:

            async def send(one: _Subscriber) -> None:
                nonlocal reached
                if await self._to_one(one, published, deliver=deliver):
                    reached += 1

            for one in late:
                nursery.start_soon(send, one)
        return reached

    def _packed_late(self, published: Published, late: list[_Subscriber]) -> tuple[Published, list[_Subscriber]]:
        """Pack what was not packed when it was published; return the subscribers that can have it, too."""
        try:
            packed = ForwardedMessage.of(published.message)
        except NotPicklable:
            if self._transform is not None:
                raise  # it is the error of the process that opened the channel
            # The publisher has gone on: there were no subscribers of other processes when it published.
            logger.exception("a message to the channel %s cannot be sent to other processes", self._local.name)
            return published, [one for one in late if one.route is None]
        return msgspec.structs.replace(published, packed=packed), late

    async def _to_one(self, one: _Subscriber, published: Published, *, deliver: bool) -> bool:
        reached = False
        with trio.CancelScope() as one.scope:
            try:
                await self._send(one, published, deliver=deliver)
            except DiscoroError:
                self._gone(one)
            else:
                reached = True
        one.scope = None
        return reached

    async def _send(self, one: _Subscriber, published: Published, *, deliver: bool) -> None:
        mail, packed = self._process.mail, published.packed
        if one.route is None:
            await self._process.mailbox_of(one.coro).put(published.message)
            return
        assert packed is not None  # noqa: S101 - packed before, if there are remote subscribers
        if deliver:
            await mail.deliver_packed(one.coro, one.route, packed)
        else:
            await mail.send_packed(one.coro, one.route, packed)

    def _gone(self, one: _Subscriber) -> None:
        if self._subscribers.get(one.coro) is one:
            del self._subscribers[one.coro]


def _ended() -> MailboxClosed:
    return MailboxClosed("the channel has ended; it takes no more messages and subscribers")


class OpenChannels:
    """The channels that are open in this process, by number."""

    def __init__(self, process: Process) -> None:
        self.open: dict[int, OpenChannel] = {}
        self._watching: dict[Link, set[Subscription]] = {}
        self._process = process
        services = process.endpoint.services
        services.on_request(Subscribe, self._asked_to_subscribe, trust=ANY)
        services.on_notice(Unsubscribe, self._told_to_unsubscribe, trust=ANY)
        services.on_request(AwaitSubscribers, self._asked_for_subscribers, trust=ANY)
        services.on_request(AwaitDelivery, self._asked_for_delivery, trust=ANY)
        services.links_lost.append(self._lost)

    def find(self, serial: int) -> OpenChannel:
        """Return an open channel.

        Raises:
            MailboxClosed: It has ended.
        """
        channel = self.open.get(serial)
        if channel is None:
            raise _ended()
        return channel

    def _found(self, link: Link, serial: int) -> OpenChannel:
        self._process.introductions.check_public(link, CHANNEL, serial)
        return self.find(serial)

    async def _asked_to_subscribe(self, link: Link, message: Subscribe) -> Done:
        # If the peer cancels the request before this point, its later Unsubscribe still removes the subscription.
        await trio.lowlevel.checkpoint()
        channel = self._found(link, message.channel)
        if not link.lost:
            channel.subscribe(message.subscriber.coro(), ends=message.ends)
        return Done()

    def _told_to_unsubscribe(self, _link: Link, message: Unsubscribe) -> None:
        channel = self.open.get(message.channel)
        if channel is not None:
            channel.unsubscribe(message.subscriber.coro())

    async def _asked_for_subscribers(self, link: Link, message: AwaitSubscribers) -> Done:
        await self._found(link, message.channel).until_subscribed(message.count)
        return Done()

    async def _asked_for_delivery(self, link: Link, message: AwaitDelivery) -> DeliveredTo:
        return DeliveredTo(await self._found(link, message.channel).delivered(message.token))

    @contextmanager
    def watched(self, link: Link | None, subscription: Subscription) -> Iterator[None]:
        """Notify a subscription if the link to its channel is lost while the block lasts."""
        if link is None:
            yield
            return
        watching = self._watching.setdefault(link, set())
        watching.add(subscription)
        if link.lost:
            subscription.lost()
        try:
            yield
        finally:
            watching.discard(subscription)
            if not watching:
                self._watching.pop(link, None)

    def _lost(self, link: Link) -> None:
        for subscription in self._watching.pop(link, ()):
            subscription.lost()
        for channel in self.open.values():
            channel.lost(link.peer.process_id)
