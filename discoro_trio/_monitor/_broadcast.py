"""Sends views to browsers: each view is made and encoded once for all browsers.

Each browser has a queue of a few messages. A browser that does not keep up loses them and gets a full state when it is
ready again. So memory stays bounded and other browsers are not delayed. Costly views are made less often.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Protocol

import attrs
import msgspec
import trio

from ._rows import SAMPLE_SECONDS
from ._views import render
from ._watched_view import WatchedView

if TYPE_CHECKING:
    from ._model import Model
    from ._query import Query

BEAT = 1.0
"""Seconds after which a browser learns that its view is unchanged while the source goes on answering."""
LONGEST_QUEUE = 16
"""Maximum number of messages that wait for one browser."""
_SHARE = 0.01
"""The share of time that may be spent on making and sending views."""


class Clock(Protocol):
    """Returns seconds since the epoch."""

    def __call__(self) -> float:
        """Return the time."""
        ...


class MessageSink(Protocol):
    """Sends messages to a browser."""

    @property
    def has_begun(self) -> bool:
        """Whether a message was sent in part and must be finished."""
        ...

    def send_now(self, message: bytes) -> bool:
        """Send a message, or a part of it, if that needs no waiting."""
        ...


@attrs.define(eq=False)
class Browser:
    """A viewer: a page, or `discoro top`."""

    way: MessageSink
    shown: Shown | None = None
    queue: list[bytes] = attrs.Factory(list)
    behind: bool = False
    """Messages were dropped; the next one must be a full state."""
    ready: trio.Event = attrs.Factory(trio.Event)
    """Set when there is something to send."""

    def put(self, message: bytes) -> None:
        """Send a message at once or queue it, or note that this browser is too slow for it."""
        if self.behind:
            return
        if not self.queue and self.way.send_now(message):
            if self.way.has_begun:
                self.queue.append(b"")
                self.ready.set()
            return
        if len(self.queue) >= LONGEST_QUEUE:
            self.restart()
            return
        self.queue.append(message)
        self.ready.set()

    def restart(self) -> None:
        """Make the next message a full state."""
        self.behind = True
        self.queue.clear()
        self.ready.set()


@attrs.define(eq=False)
class Shown:
    """A view that has viewers."""

    watch: WatchedView
    browsers: set[Browser] = attrs.Factory(set)
    version: int = -1
    """The model's version when the view was last made."""
    due: float = -math.inf
    """When it may be made again, by Trio's clock."""
    said: float = -math.inf
    """When a message was last sent to its browsers, by Trio's clock."""
    full: tuple[int, bytes] = (-1, b"")
    """The encoded full state, and the sequence number it belongs to."""
    as_of: float | None = None
    """The time of the shown state, in seconds since the epoch; None if it is not known."""
    told: float | None = None
    """The time that the browsers have received."""


class Broadcast:
    """All browsers and their views.

    Args:
        model: The source of the views.
        poll_sec: The longest time between two messages to a browser, in seconds.
        clock: Seconds since the epoch.
    """

    def __init__(self, model: Model, *, poll_sec: float, clock: Clock = time.time) -> None:
        self.model = model
        self.poll_sec = poll_sec
        self.clock = clock
        self._shown: dict[Query, Shown] = {}
        self._encode = msgspec.json.Encoder().encode
        self._wake = trio.Event()

    @property
    def browsers(self) -> int:
        """How many browsers are connected."""
        return sum(len(shown.browsers) for shown in self._shown.values())

    def seen(self) -> list[tuple[Query, list[str]]]:
        """Return the views that have viewers, and the ids of the rows that they show."""
        return [(query, shown.watch.ids()) for query, shown in self._shown.items()]

    # --- browsers

    def look(self, browser: Browser, query: Query) -> None:
        """Show a view to a browser, beginning with a full state; it replaces the browser's previous view."""
        self.leave(browser)
        shown = self._shown.get(query)
        if shown is None:
            shown = self._shown[query] = Shown(WatchedView(query))
            self._make(shown)
        shown.browsers.add(browser)
        browser.shown = shown
        browser.restart()
        self._wake.set()

    def leave(self, browser: Browser) -> None:
        """Remove a browser."""
        shown, browser.shown = browser.shown, None
        if shown is not None:
            shown.browsers.discard(browser)
            if not shown.browsers:
                self._shown.pop(shown.watch.query, None)

    async def next_message(self, browser: Browser) -> bytes:
        """Wait for the next message to a browser."""
        while True:
            await browser.ready.wait()
            if browser.behind and browser.shown is not None:
                browser.behind = False
                return self._full(browser.shown)
            if browser.queue:
                return browser.queue.pop(0)
            browser.ready = trio.Event()

    # --- views

    async def run(self) -> None:
        """Make changed views and queue their changes, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._sample)
            while True:
                if not self._shown:
                    self._wake = trio.Event()
                    await self._wake.wait()
                self.step()
                await trio.sleep(0.05)

    async def _sample(self) -> None:
        while True:
            self.model.sample(self.clock())
            await trio.sleep(SAMPLE_SECONDS)

    def step(self) -> None:
        """Make the views that are due and have changed; send a sign of life for views that were silent for long."""
        now = trio.current_time()
        for shown in list(self._shown.values()):
            if now >= shown.due and shown.version != self.model.version:
                self._make(shown)
            elif now - shown.said >= (self.poll_sec if shown.as_of == shown.told else min(BEAT, self.poll_sec)):
                self._beat(shown)

    def flush(self) -> None:
        """Queue the last state of all views, due or not."""
        for shown in self._shown.values():
            self._make(shown)

    async def until_told(self) -> None:
        """Wait until no browser has anything waiting for it."""
        while any(browser.queue or browser.behind for shown in self._shown.values() for browser in shown.browsers):  # noqa: ASYNC110 - called once, at the end, for two seconds at most
            await trio.sleep(0.01)

    def _make(self, shown: Shown) -> None:
        began = time.thread_time()
        wall = self.clock()
        shown.version = self.model.version
        shown.as_of = self.model.as_of
        change = shown.watch.change(render(self.model, shown.watch.query, wall), wall)
        if change is not None:
            self._tell(shown, self._encode({**change, "as_of": shown.as_of}))
        cost = time.thread_time() - began
        pause = max(shown.watch.query.every, min(cost * len(self._shown) / _SHARE, self.poll_sec))
        shown.due = trio.current_time() + pause

    def _beat(self, shown: Shown) -> None:
        """Send a sign of life, with the time of the state that the browsers have."""
        beat = {"type": "beat", "seq": shown.watch.seq, "now": self.clock(), "as_of": shown.as_of}
        self._tell(shown, self._encode(beat))

    def _tell(self, shown: Shown, message: bytes) -> None:
        shown.said, shown.told = trio.current_time(), shown.as_of
        for browser in shown.browsers:
            browser.put(message)

    def _full(self, shown: Shown) -> bytes:
        if shown.full[0] != shown.watch.seq:
            full = {**shown.watch.full(self.clock()), "as_of": shown.as_of}
            shown.full = (shown.watch.seq, self._encode(full))
        return shown.full[1]
