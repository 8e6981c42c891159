"""Carries views to browsers: each view is made and encoded once, however many look at it.

A browser has a queue of a few messages. One that does not keep up loses them and gets a full state when it is ready
again, so neither memory nor the others suffer. Views that are costly to make are made less often.
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

LONGEST_QUEUE = 16
"""Messages that wait for one browser."""
_SHARE = 0.01
"""The part of the time that may go into making views and sending them."""


class Clock(Protocol):
    """Gives seconds since the epoch."""

    def __call__(self) -> float:
        """Return the time."""
        ...


class MessageSink(Protocol):
    """How messages come to a browser."""

    @property
    def has_begun(self) -> bool:
        """Whether a message was begun and must be finished."""
        ...

    def send_now(self, message: bytes) -> bool:
        """Send a message, or begin to, if that needs no waiting."""
        ...


@attrs.define(eq=False)
class Browser:
    """Who looks at a view: a page, or `discoro top`."""

    way: MessageSink
    shown: Shown | None = None
    queue: list[bytes] = attrs.Factory(list)
    behind: bool = False
    """Messages were dropped; the next one must be a full state."""
    ready: trio.Event = attrs.Factory(trio.Event)
    """Set when something is there to send."""

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
        """Let the next message be a full state."""
        self.behind = True
        self.queue.clear()
        self.ready.set()


@attrs.define(eq=False)
class Shown:
    """A view that somebody looks at."""

    watch: WatchedView
    browsers: set[Browser] = attrs.Factory(set)
    version: int = -1
    """The model's, when the view was last made."""
    due: float = -math.inf
    """When it may be made again, by Trio's clock."""
    said: float = -math.inf
    """When its browsers last heard anything, by Trio's clock."""
    full: tuple[int, bytes] = (-1, b"")
    """The encoded full state, and the sequence number it belongs to."""


class Broadcast:
    """All browsers and what they look at.

    Args:
        model: What is shown.
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
        """How many look."""
        return sum(len(shown.browsers) for shown in self._shown.values())

    def seen(self) -> list[tuple[Query, list[str]]]:
        """Return what is looked at: views, and the ids of the rows that they show."""
        return [(query, shown.watch.ids()) for query, shown in self._shown.items()]

    # --- browsers

    def look(self, browser: Browser, query: Query) -> None:
        """Let a browser see a view, from a full state on; it leaves the one it saw before."""
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
        """Forget that a browser looks."""
        shown, browser.shown = browser.shown, None
        if shown is not None:
            shown.browsers.discard(browser)
            if not shown.browsers:
                self._shown.pop(shown.watch.query, None)

    async def next_message(self, browser: Browser) -> bytes:
        """Wait for what a browser is to be sent next."""
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
        """Make changed views and queue what is new, until cancelled."""
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
        """Make the views that are due and have changed; say a word where nothing was said for long."""
        now = trio.current_time()
        for shown in list(self._shown.values()):
            if now >= shown.due and shown.version != self.model.version:
                self._make(shown)
            elif now - shown.said >= self.poll_sec:
                self._tell(shown, self._encode({"type": "beat", "seq": shown.watch.seq, "now": self.clock()}))

    def flush(self) -> None:
        """Queue the last state of all views, due or not."""
        for shown in self._shown.values():
            self._make(shown)

    async def until_told(self) -> None:
        """Wait until no browser has anything waiting for it."""
        while any(browser.queue or browser.behind for shown in self._shown.values() for browser in shown.browsers):  # noqa: ASYNC110 - it is asked once, at the end, for two seconds at most
            await trio.sleep(0.01)

    def _make(self, shown: Shown) -> None:
        began = time.perf_counter()
        wall = self.clock()
        shown.version = self.model.version
        change = shown.watch.change(render(self.model, shown.watch.query, wall), wall)
        if change is not None:
            self._tell(shown, self._encode(change))
        cost = time.perf_counter() - began
        pause = max(shown.watch.query.every, min(cost * len(self._shown) / _SHARE, self.poll_sec))
        shown.due = trio.current_time() + pause

    def _tell(self, shown: Shown, message: bytes) -> None:
        shown.said = trio.current_time()
        for browser in shown.browsers:
            browser.put(message)

    def _full(self, shown: Shown) -> bytes:
        if shown.full[0] != shown.watch.seq:
            shown.full = (shown.watch.seq, self._encode(shown.watch.full(self.clock())))
        return shown.full[1]
