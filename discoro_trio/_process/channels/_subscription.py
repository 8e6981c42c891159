"""The receiving end of a subscription to a channel; the channel itself is in `_open_channels`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

import trio

from ..._errors import PeerDisconnected
from ..._records import Record
from ._open_channels import ChannelEnd

if TYPE_CHECKING:
    from ..execution._local_coro import LocalCoro


class _Lost(Record, frozen=True):
    """The last message of a subscription whose channel cannot be reached any more."""


@final
class Subscription(trio.abc.ReceiveChannel[Any]):
    """Receives what is published to a channel from the time of subscribing."""

    def __init__(self, local: LocalCoro) -> None:
        self._local = local
        self._end: type[Exception] | None = None

    async def receive(self) -> Any:
        """Wait for the next message. If cancelled, it takes no message.

        Raises:
            trio.EndOfChannel: The channel has ended.
            PeerDisconnected: The connection to the channel is lost, and with it an unknown number of messages.
            trio.ClosedResourceError: The subscription was closed here.
            Exception: Unpickling the message raised it. That message is lost; the next ones are not.
        """
        mailbox = self._local.box()
        await mailbox.turns.take()
        if self._end is None and not mailbox:
            await mailbox.wait()
            mailbox.turns.rested()
        return self._next()

    def receive_nowait(self) -> Any:
        """Take the next message; `trio.WouldBlock` if there is none. Raises as `receive` otherwise."""
        return self._next()

    def _next(self) -> Any:
        if self._end is None:
            message = self._local.box().get_nowait()
            if isinstance(message, ChannelEnd):
                self._end = trio.EndOfChannel
            elif isinstance(message, _Lost):
                self._end = PeerDisconnected
            else:
                return message
        if self._end is PeerDisconnected:
            text = f"the connection to the channel {self._local.name} is lost; subscribe again to get later messages"
            raise PeerDisconnected(text)
        raise self._end

    def lost(self) -> None:
        """Note that the connection to the channel is lost."""
        if not self._local.box().closed:
            self._local.box().put_last(_Lost())

    async def aclose(self) -> None:
        """Close the subscription; publishers no longer wait for it."""
        self._end = trio.ClosedResourceError
        self._local.process.end_local(self._local)
        self._local.box().put_last(_Lost())  # wakes a waiting `receive`
        await trio.lowlevel.checkpoint()
