"""Queues of status events, one for each subscriber: limited in length, and never a reason to wait.

A subscriber that is too far behind receives `StatusLagged` and continues. The publishers define the events.
"""

from __future__ import annotations

import sys
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

from .._config import config
from .._process import Checkpoints
from .._status import DiscoroStatus, Status, StatusLagged
from .._values import MonitorException

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from .._values import Location

Event = DiscoroStatus | MonitorException | StatusLagged
"""The values that subscribers receive."""


class StatusSubscription(trio.abc.ReceiveChannel[Event]):
    """One subscriber's events, in the order in which they happened.

    Attributes:
        queue: The events that are not received yet. Each is one object whose `event()` makes it, or, flat, the number
            of items that make it, then a function and its arguments.
        missed: The number of events that were dropped as it was too far behind; more than 0 until that is reported.
    """

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        # A tuple for each event would be cheap to make and expensive to keep: the garbage collector runs more often
        # the more new objects it tracks.
        self.queue: deque[Any] = deque()
        self.missed: int = 0
        self._backlog = config.status_backlog
        self._behind = 0
        self._arrived = trio.lowlevel.ParkingLot()
        self._turns = Checkpoints()
        self._closed = False

    @property
    def room(self) -> int:
        """How many more events fit into the queue, as of the last `count`."""
        return self._backlog - self._behind

    def count(self, events: int) -> None:
        """Count the events that were put since the last time."""
        if self.missed:
            self.missed += events
        else:
            self._behind += events

    def give_up(self) -> None:
        """Replace all events that are not received yet by their number: the subscriber is too far behind."""
        self.missed, self._behind = self._behind, 0
        self.queue.clear()

    async def receive(self) -> Event:
        """Wait for the next event.

        Raises:
            trio.EndOfChannel: The computation or scheduler has ended, and all events are received.
            trio.ClosedResourceError: This channel was closed.
        """
        await self._turns.take()
        while (event := self.take()) is None:
            if self._closed:
                raise trio.ClosedResourceError
            if self._publisher.ended:
                raise trio.EndOfChannel
            self._publisher.waited_for = True
            await self._arrived.park()
            self._turns.rested()
        return event

    def take(self) -> Event | None:
        """Return the next event; None if there is none now."""
        if self.missed:
            self._publisher.settle()
            missed, self.missed = self.missed, 0
            self._publisher.settle()
            return StatusLagged(missed, self._publisher.snapshot())
        queue = self.queue
        if not queue:
            return None
        self._behind -= 1
        first = queue.popleft()
        if isinstance(first, int):
            make, *arguments = [queue.popleft() for _ in range(first)]
            made: Event = make(*arguments)
        else:
            made = first.event()
        return made

    def wake(self) -> None:
        """Wake the waiting receivers."""
        self._arrived.unpark_all()

    async def aclose(self) -> None:
        """Stop receiving events."""
        self._closed = True
        self.queue.clear()
        self._publisher.remove(self)
        self.wake()
        await trio.lowlevel.checkpoint()


class Publisher:
    """The subscribers of one computation, or of one scheduler.

    Attributes:
        active: Whether there are subscribers; without any, no events are made.
        full: Whether all subscribers are too far behind; then events are only counted.
        room: How many more events may be put before a subscriber might be too far behind.
        queues: The queues of the subscribers that are not too far behind.
        waited_for: Whether a task may wait for an event.
        ended: Whether no event will follow for now.
    """

    def __init__(self, snapshot: Callable[[], object]) -> None:
        self.active: bool = False
        self.full: bool = False
        self.room: int = sys.maxsize
        self.waited_for: bool = False
        self.ended: bool = False
        self.snapshot = snapshot
        self._subscriptions: list[StatusSubscription] = []
        # The work for each subscriber is done later, so that putting an event is little more than extending its queue.
        # Code that runs for every job extends the queue itself, as `put` does: a call would cost 1 % of a job.
        self.queues: list[deque[Any]] = []
        self._room_before = sys.maxsize

    def add(self) -> StatusSubscription:
        """Add a subscriber."""
        self.settle()
        subscription = StatusSubscription(self)
        self._subscriptions.append(subscription)
        self.settle()
        return subscription

    def remove(self, subscription: StatusSubscription) -> None:
        """Remove a subscriber; does nothing if it is already removed."""
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)
        self.settle()

    def settle(self) -> None:
        """Count the events put since the last time for each subscriber, and find those that are too far behind."""
        for subscription in self._subscriptions:
            subscription.count(self._room_before - self.room)
        following = [subscription for subscription in self._subscriptions if not subscription.missed]
        self.queues = [subscription.queue for subscription in following]
        self.active = bool(self._subscriptions)
        self.full = self.active and not following
        self.room = self._room_before = min((subscription.room for subscription in following), default=sys.maxsize)

    def make_room(self) -> int:
        """Give up the queues that have no room for another event; return the room of the others."""
        self.settle()
        if self.room <= 0:
            for subscription in self._subscriptions:
                if subscription.room <= 0:
                    subscription.give_up()
            self.settle()
        return self.room

    def begin(self) -> None:
        """Note that events follow."""
        self.ended = False

    def end(self) -> None:
        """Let channels end once all events are taken."""
        self.ended = True
        self.wake()

    def tell(self, status: Status, info: str | Location) -> None:
        """Publish an event of a node, a server or the computation."""
        if self.active:
            self.put((DiscoroStatus, status, info))

    def put(self, made_of: tuple[Any, ...]) -> None:
        """Put an event into the queues of all subscribers; never waits.

        Args:
            made_of: The function that makes it for the receiver, and the arguments of that function.
        """
        if self.room <= 0:
            self.make_room()
        self.room -= 1
        for queue in self.queues:
            queue.append(len(made_of))
            queue.extend(made_of)
        if self.waited_for:
            self.wake()

    def wake(self) -> None:
        self.waited_for = False
        for subscription in self._subscriptions:
            subscription.wake()

    @asynccontextmanager
    async def subscribed(self) -> AsyncIterator[StatusSubscription]:
        """Subscribe while the block lasts."""
        subscription = self.add()
        try:
            yield subscription
        finally:
            with trio.CancelScope(shield=True):
                await subscription.aclose()
