"""Channels: a message published to a channel goes to all its subscribers, in this and other processes.

This module owns the handle that users hold, and opens and finds channels. `_open_channels` forwards messages,
`_subscription` receives them.
"""

from __future__ import annotations

import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, final

import trio

from ..._arguments import callback, flag, integer, text, wrong_type
from ..._compat import _old_programs as migration
from ..._link import answered
from ..._scopes import open_background
from ..._values import optional_location
from .._coro import Coro
from .._current import current_process, enclosing_process
from ..messaging._forwarded import ForwardedMessage
from ..naming._addresses import Address
from ..naming._name_registry import Entry
from ._open_channels import (
    CHANNEL,
    AwaitDelivery,
    AwaitSubscribers,
    DeliveredTo,
    OpenChannel,
    Published,
    Subscribe,
    Unsubscribe,
    mark,
)
from ._subscription import Subscription

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from ..._link import Link
    from ..._values import Location
    from .._process import Process


@final
@migration.made_by("async with open_channel(name), or await locate_channel(name)", Coro)
@migration.answers_for(migration.CHANNEL)
class Channel:
    """A channel of this or another process: picklable, and equal in every process."""

    __slots__ = ("_inbox",)

    def __init__(self, inbox: Coro[Any]) -> None:
        self._inbox = inbox

    @property
    def name(self) -> str:
        """Its name."""
        return self._inbox.name

    @property
    def location(self) -> Location:
        """The location of the process that has opened it."""
        return self._inbox.location

    def __eq__(self, other: object) -> bool:
        """Return whether both are the same channel."""
        return isinstance(other, Channel) and self._inbox == other._inbox

    def __hash__(self) -> int:
        """Hash the identity."""
        return hash(self._inbox)

    def __repr__(self) -> str:
        """Return its name and location."""
        return f"<Channel {self.name} at {self.location}>"

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle its identity."""
        return Channel, (self._inbox,)

    async def send(self, message: object) -> None:
        """Publish a message, in order; subscribers may not have it when this returns.

        Waits while the channel is full, that is, while a subscriber's window is full: nothing is dropped. If
        cancelled, it has not sent the message.

        Args:
            message: Any picklable object; within a process it is passed by reference.

        Raises:
            NotPicklable: The message cannot be sent to another process.
            MailboxClosed: The channel is known to have ended.
            PeerDisconnected: The connection to the channel is lost, or was lost since the last send.
        """
        process = current_process()
        if self._inbox.home != process.id:
            await self._inbox.send(message)
            return
        opened = process.open_channels.find(self._inbox.serial)
        published = Published(message, opened.pack(message), None)
        await process.turns.take()
        await opened.mailbox.put(published)

    async def deliver(self, message: object, *, n: int = 0) -> int:
        """Publish a message and wait until it is in the mailboxes of all current subscribers.

        Args:
            message: Any picklable object.
            n: The number of subscribers to wait for before publishing.

        Returns:
            The number of subscribers that have it.

        Raises:
            NotPicklable, MailboxClosed, PeerDisconnected: As for `send`.

        If cancelled, all, some or none of the subscribers may have it.
        """
        process = current_process()
        n = integer("n", n)
        token = secrets.token_bytes(16)
        if self._inbox.home != process.id:
            return await self._deliver_there(process, ForwardedMessage.of(message), n, token)
        opened = process.open_channels.find(self._inbox.serial)
        published = Published(message, opened.pack(message), token)
        await trio.lowlevel.checkpoint()
        await opened.until_subscribed(n)
        await opened.mailbox.put(published)
        return await opened.delivered(token)

    async def _deliver_there(self, process: Process, packed: ForwardedMessage, n: int, token: bytes) -> int:
        await trio.lowlevel.checkpoint()
        inbox = self._inbox
        if n > 0:
            link = await process.link_to(inbox)
            await link.request(AwaitSubscribers(inbox.serial, n), timeout=None)
        route = process.mail.route(inbox)
        link = await process.mail.send_packed(inbox, route, mark(packed, token))
        reply = await link.request(AwaitDelivery(inbox.serial, token), timeout=None)
        reply = answered(reply, DeliveredTo)
        return reply.subscribers

    @asynccontextmanager
    async def subscribe(self, *, mailbox_size: int = 1024) -> AsyncIterator[trio.abc.ReceiveChannel[Any]]:
        """Receive the messages that are published while the block lasts.

        Args:
            mailbox_size: The number of unreceived messages after which the channel waits.

        Yields:
            A receive channel, which ends when the channel ends. If the connection to the channel is lost, it raises
            PeerDisconnected after the last message that has arrived.

        Raises:
            MailboxClosed: The channel has ended.
            PeerDisconnected: It cannot be reached.

        Cancelling it, or leaving the block, ends the subscription and drops unreceived messages.
        """
        process = current_process()
        size = integer("mailbox_size", mailbox_size, least=1)
        with process.opened_mailbox(self.name, size) as local:
            subscription = Subscription(local)
            async with self._subscribed(process, local.handle, ends=True) as link:
                with process.open_channels.watched(link, subscription):
                    yield subscription

    @migration.without_timeout
    @asynccontextmanager
    async def subscribe_coro(self, coro: Coro[Any]) -> AsyncIterator[None]:
        """Send what is published to the mailbox of a coroutine, of any process, while the block lasts.

        Args:
            coro: The coroutine.

        Raises:
            MailboxClosed: The channel has ended.
            PeerDisconnected: It cannot be reached.

        Cancelling it, or leaving the block, ends the subscription.
        """
        if not isinstance(coro, Coro):
            wrong_type("coro", coro, "a Coro")
        async with self._subscribed(current_process(), coro, ends=False):
            yield

    @asynccontextmanager
    async def _subscribed(self, process: Process, coro: Coro[Any], *, ends: bool) -> AsyncIterator[Link | None]:
        inbox = self._inbox
        await trio.lowlevel.checkpoint()
        if inbox.home == process.id:
            opened = process.open_channels.find(inbox.serial)
            opened.subscribe(coro, ends=ends)
            try:
                yield None
            finally:
                opened.unsubscribe(coro)
            return
        link = await process.link_to(inbox)
        address = Address.of(coro)
        try:
            await link.request(Subscribe(inbox.serial, address, ends))
            yield link
        finally:
            link.notify(Unsubscribe(inbox.serial, address))


@asynccontextmanager
async def open_channel(
    name: str, *, transform: Callable[[Any], Any] | None = None, public: bool = False
) -> AsyncIterator[Channel]:
    """Open a channel in this process, which other processes find by its name.

    Args:
        name: The name, for `locate_channel`.
        transform: A plain function that is called in this process with each message. Subscribers get what it returns;
            None drops the message. If it raises, the channel ends and the block raises the error.
        public: Whether every program on the network finds it, or only this computation.

    Yields:
        The channel.

    Raises:
        NameTaken: Another channel has that name.

    If no endpoint encloses the task, one is opened for the block, as `schedule` does.
    When the block is left, all subscribers still get what was published before; then their subscriptions end.
    When the block is left by an exception, or cancelled, the channel ends at once.
    """
    name = text("name", name)
    flag("public", public)
    if transform is not None:
        callback("transform", transform)
    async with enclosing_process() as process:
        with process.opened_mailbox(name, 1024) as local:
            opened = process.open_channels.open[local.serial] = OpenChannel(process, local, transform)
            registration = process.names.register(Entry((CHANNEL, name), Address.of(local.handle), public))
            try:
                async with open_background() as nursery:
                    nursery.start_soon(opened.run, name=f"channel {name}")
                    await registration
                    yield Channel(local.handle)
                    registration.free()
                    opened.finish()
                    await opened.finished.wait()
            finally:
                registration.free()
                del process.open_channels.open[local.serial]
                opened.close()


async def locate_channel(name: str, *, location: Location | str | None = None) -> Channel:
    """Wait until a channel of that name is open, and return it.

    Args:
        name: The name, as given to `open_channel`.
        location: The program to ask, as a Location or its text: a scheduler, a node, or the program that opened it; by
            default the computation and the cluster that the calling task belongs to.

    Returns:
        The channel.

    Raises:
        TypeError, ValueError: An argument has the wrong type or form.
        RuntimeError: No endpoint encloses the task.
        PeerDisconnected: The process that keeps the name cannot be reached.

    Cancelling it ends the search.
    """
    address = await current_process().names.locate(
        (CHANNEL, text("name", name)), optional_location("location", location)
    )
    return Channel(address.coro())
