"""Queues of status events, one for each subscriber: bounded, and never waited for.

Who is too far behind gets `StatusLagged`, and goes on. Which events there are is with those who publish them.
"""

from __future__ import annotations

from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

import trio

from .._config import config
from .._values import DiscoroStatus, MonitorException, Status, StatusLagged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from .._values import Location

Event = DiscoroStatus | MonitorException | StatusLagged
"""What subscribers get."""


class Deferred(Protocol):
    """An event that is expensive, and therefore made when it is taken."""

    def event(self) -> Event:
        """Make it."""
        ...


class Subscription(trio.abc.ReceiveChannel[Event]):
    """One subscriber's events, as they happened."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._events: deque[DiscoroStatus | Deferred] = deque()
        self._missed = 0
        self._arrived = trio.lowlevel.ParkingLot()
        self._closed = False

    def put(self, event: DiscoroStatus | Deferred) -> None:
        """Add an event; if there are too many, all of them become a number."""
        if self._missed:
            self._missed += 1
            return
        if len(self._events) >= config.status_backlog:
            self._missed = len(self._events) + 1
            self._events.clear()
            return
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
        if self._missed:
            missed, self._missed = self._missed, 0
            return StatusLagged(missed, self._publisher.snapshot())
        if not self._events:
            return None
        event = self._events.popleft()
        return event if isinstance(event, DiscoroStatus) else event.event()

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
        ended: Whether no event will follow for now.
    """

    def __init__(self, snapshot: Callable[[], object]) -> None:
        self.active: bool = False
        self.ended: bool = False
        self.snapshot = snapshot
        self._subscriptions: list[Subscription] = []

    def add(self) -> Subscription:
        """Add a subscriber."""
        subscription = Subscription(self)
        self._subscriptions.append(subscription)
        self.active = True
        return subscription

    def remove(self, subscription: Subscription) -> None:
        """Remove a subscriber; nothing if it was."""
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)
        self.active = bool(self._subscriptions)

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
