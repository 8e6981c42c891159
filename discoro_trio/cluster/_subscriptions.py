"""Queues of status events, one for each subscriber: bounded, and never waited for.

Who is too far behind gets `StatusLagged`, and goes on. Which events there are is with those who publish them.
"""

from __future__ import annotations

from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

from .._config import config
from .._values import DiscoroStatus, MonitorException, Status, StatusLagged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from .._values import Location

Event = DiscoroStatus | MonitorException | StatusLagged
"""What subscribers get."""


Deferred = tuple[Any, ...]
"""An event that is expensive, and therefore made when it is taken: the function that makes it, and its arguments."""


class Subscription(trio.abc.ReceiveChannel[Event]):
    """One subscriber's events, as they happened."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._events: deque[DiscoroStatus | Deferred] = deque()
        self.missed: int = 0
        self._arrived = trio.lowlevel.ParkingLot()
        self._closed = False

    def put(self, event: DiscoroStatus | Deferred) -> None:
        """Add an event; if there are too many, all of them become a number."""
        if self.missed:
            self.missed += 1
        elif len(self._events) >= config.status_backlog:
            self.missed = len(self._events) + 1
            self._events.clear()
            self._publisher.settle()
        else:
            self._events.append(event)
            if self._arrived:
                self._arrived.unpark_all()

    async def receive(self) -> Event:
        """Wait for the next event.

        Raises:
            trio.EndOfChannel: What it is about has ended, and all events are taken.
            trio.ClosedResourceError: This channel was closed.
        """
        await trio.lowlevel.checkpoint()
        while (event := self.take()) is None:
            if self._closed:
                raise trio.ClosedResourceError
            if self._publisher.ended:
                raise trio.EndOfChannel
            await self._arrived.park()
        return event

    def take(self) -> Event | None:
        """Give the next event; None if there is none now."""
        if self.missed:
            self._publisher.settle()
            missed, self.missed = self.missed, 0
            self._publisher.settle()
            return StatusLagged(missed, self._publisher.snapshot())
        if not self._events:
            return None
        event = self._events.popleft()
        if isinstance(event, DiscoroStatus):
            return event
        make, *arguments = event
        made: Event = make(*arguments)
        return made

    def wake(self) -> None:
        """Let those who wait look again."""
        self._arrived.unpark_all()

    async def aclose(self) -> None:
        """Take no more events."""
        self._closed = True
        self._events.clear()
        self._publisher.remove(self)
        self.wake()
        await trio.lowlevel.checkpoint()


class Publisher:
    """The subscribers of one computation, or of one scheduler.

    Attributes:
        active: Whether there are any; while there are none, nothing is made for them.
        full: Whether all of them are too far behind; then events are only counted, in `skipped`.
        ended: Whether no event will follow for now.
    """

    def __init__(self, snapshot: Callable[[], object]) -> None:
        self.active: bool = False
        self.full: bool = False
        self.skipped: int = 0
        self.ended: bool = False
        self.snapshot = snapshot
        self._subscriptions: list[Subscription] = []

    def add(self) -> Subscription:
        """Add a subscriber."""
        self.settle()
        subscription = Subscription(self)
        self._subscriptions.append(subscription)
        self.settle()
        return subscription

    def remove(self, subscription: Subscription) -> None:
        """Remove a subscriber; nothing if it was."""
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)
        self.settle()

    def settle(self) -> None:
        """Share out what was only counted, and see who there is and who is too far behind."""
        for subscription in self._subscriptions:
            subscription.missed += self.skipped
        self.skipped = 0
        self.active = bool(self._subscriptions)
        self.full = self.active and all(subscription.missed for subscription in self._subscriptions)

    def begin(self) -> None:
        """Note that events follow."""
        self.ended = False

    def end(self) -> None:
        """Let channels end once all events are taken."""
        self.ended = True
        for subscription in self._subscriptions:
            subscription.wake()

    def tell(self, status: Status, info: str | Location) -> None:
        """Tell of a node, a server or the computation."""
        if self.active:
            self.put(DiscoroStatus(status, info))

    def put(self, event: DiscoroStatus | Deferred) -> None:
        """Give an event to all subscribers; never waits."""
        if self.full:
            self.skipped += 1
            return
        for subscription in self._subscriptions:
            subscription.put(event)

    @asynccontextmanager
    async def subscribed(self) -> AsyncIterator[Subscription]:
        """Subscribe while the block lasts."""
        subscription = self.add()
        try:
            yield subscription
        finally:
            with trio.CancelScope(shield=True):
                await subscription.aclose()
