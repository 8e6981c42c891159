"""Feeds the model from its source: a scheduler through its tables, a computation through its journal.

Neither side waits for the other: the source is polled at most four times a second, and less often if a look takes long.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Awaitable, Callable
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Protocol

import trio

from .._client import Computation
from .._client._output import Display
from .._cluster import MOST_ANSWERS, current_scheduler
from .._errors import DiscoroError
from .._process import current_process
from ._journal_feed import JournalFeed
from ._remote import look_over, stacks_over
from ._tables_feed import TablesFeed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .._client import Journal
    from .._client._output import Line
    from .._cluster import ClusterStatus, DetailsAre, ProcessStacks, Recent, WantedOf
    from .._process import Wanted
    from ._feed import Feed
    from ._model import Model

logger = logging.getLogger(__name__)

OFTEN = 0.25
"""Seconds between two looks."""
LEAST = 0.05
"""Seconds between two looks on request."""
SELDOM = 2.0
"""Seconds between two tables that only complete other data."""
STALE = 5.0
"""Seconds without an answer from the source after which the shown state may be old."""
SLOWEST = 5.0
"""Maximum seconds between two looks or two tables, even if they are slow."""
_SHARE = 0.01
"""The share of time that may be spent on reading a journal."""
_SHARE_OF_TABLES = 0.03
"""The share of time that may be spent on tables; with a remote scheduler it is mostly waiting."""


Look = Callable[[int], Awaitable[tuple["ClusterStatus", "Recent"]]]
"""Returns the tables and what has ended since a `Recent.last`."""


class HasTables(Protocol):
    """A scheduler, local or remote."""

    async def look(self, seen: int) -> tuple[ClusterStatus, Recent]:
        """Return the tables and what has ended since `Recent.last` was `seen`."""
        ...

    async def details(self, wanted: Sequence[WantedOf]) -> DetailsAre:
        """Request arguments and output from servers; servers that do not answer in time are left out."""
        ...

    async def stacks(self, wanted: Wanted) -> list[ProcessStacks]:
        """Return the tasks and stacks of the cluster's processes."""
        ...


class Follower:
    """Feeds a model from its source.

    Args:
        source: A Computation, a Scheduler, or None if messages come to `status_coro`.
                model: The model to feed.
                feed: Applies status messages.

    Attributes:
        tables: Applies tables.
                ready: Whether the model has the state of the source.
                begun: Set once no later event can be missed.
    """

    def __init__(self, source: Computation | HasTables | None, model: Model, feed: Feed) -> None:
        self._source = source
        self._model = model
        self._feed = feed
        self.tables: TablesFeed = TablesFeed(model, feed)
        self.ready: bool = source is None
        self.begun: trio.Event = trio.Event()
        self._last = 0
        self._origin = b""
        self._records = JournalFeed(model, self.tables)
        self._journal: Journal | None = None
        self._looked = -math.inf
        self._asked: float | None = None  # since when a request has had no answer, in seconds since the epoch

    async def run(self) -> None:
        """Feed the model until the source has ended, or for ever."""
        with self._output():
            if isinstance(self._source, Computation):
                await self._follow(self._source)
                return
            self.begun.set()
            if self._source is not None:
                await self._poll(self._source)
            else:
                await self._complete_messages()

    # --- a computation

    async def _follow(self, computation: Computation) -> None:
        with computation._followed() as journal:  # noqa: SLF001 - users have `subscribe`, which receives errors
            self._journal = journal
            self.begun.set()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._complete, journal)
                while True:
                    began = time.perf_counter()
                    self._look(journal)
                    self.ready = True
                    await _pause(began, OFTEN, _SHARE)

    def _look(self, journal: Journal) -> None:
        self._looked = trio.current_time()
        self._records.apply(journal.look())
        self._model.as_of = time.time()

    def refresh(self) -> None:
        """Apply the events up to now that need no waiting."""
        if self._journal is not None and trio.current_time() - self._looked >= LEAST:
            self._look(self._journal)

    async def first_look(self, source: HasTables) -> None:
        """Apply everything that a scheduler knows.

        Raises:
            DiscoroError: It does not answer.
        """
        await self._take(source)
        self.ready = True

    async def last_look(self) -> None:
        """Apply all events up to now, if the source answers."""
        if self._journal is not None:
            self._look(self._journal)
        elif self._source is not None and not isinstance(self._source, Computation):
            with suppress(DiscoroError):
                await self._take(self._source)

    async def _complete(self, journal: Journal) -> None:
        """Fetch from the scheduler the data that a computation does not have, while the scheduler answers."""
        while True:
            look = _scheduler_of(journal)
            began = time.perf_counter()
            try:
                found = None if look is None else await self._ask(look)
            except DiscoroError:
                found = None  # the computation goes on without it, and so do its tables
            self._records.alone = found is None
            if found is not None:
                self.tables.beside(*found)
            await _pause(began, SELDOM, _SHARE_OF_TABLES)

    async def stacks(self, wanted: Wanted) -> list[ProcessStacks]:
        """Return the tasks and stacks of the cluster's processes.

        Raises:
            DiscoroError: The scheduler does not answer.
        """
        if self._source is not None and not isinstance(self._source, Computation):
            return await self._source.stacks(wanted)
        scheduler = current_scheduler()
        if scheduler is not None:
            return await scheduler.stacks(wanted)
        session = None if self._journal is None else self._journal.session
        link = None if session is None else session.scheduler
        return [] if link is None else await stacks_over(link, wanted)

    # --- a scheduler

    async def _poll(self, source: HasTables) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_answers)
            await self._keep_polling(source)

    async def _keep_polling(self, source: HasTables) -> None:
        while True:
            began = time.perf_counter()
            try:
                await self._take(source)
                self.ready = True
            except DiscoroError as error:
                self.ready = False
                logger.warning("the scheduler does not answer: %s", error)
            await _pause(began, OFTEN, _SHARE_OF_TABLES)

    async def _take(self, source: HasTables) -> None:
        asked = time.time()
        if self._asked is None:
            self._asked = asked
        for _ in range(MOST_ANSWERS):
            status, recent = await self._ask(source.look)
            self.tables.apply(status, recent)
            if recent.whole:
                break
        self._model.as_of, self._asked = asked, None

    async def _ask(self, look: Look) -> tuple[ClusterStatus, Recent]:
        """Request the tables, and what has ended since the last ones."""
        status, recent = await look(self._last)
        if self._last and recent.origin != self._origin:  # a restarted scheduler begins its numbers again
            status, recent = await look(0)
        self._last, self._origin = recent.last, recent.origin
        return status, recent

    async def _watch_answers(self) -> None:
        """Let pages show for how long the source has not answered, even if nothing else changes."""
        while True:
            silent = 0.0 if self._asked is None else time.time() - self._asked
            stale = int(silent) if silent >= STALE else None
            if stale != self._model.stale:
                if stale is None or self._model.stale is None:
                    self._note_silence(stale)
                self._model.stale = stale
                self._model.changed()
            self.ready = self.ready and stale is None
            await trio.sleep(1)

    def _note_silence(self, stale: int | None) -> None:
        level, text = ("good", "answers again") if stale is None else ("bad", "does not answer")
        self._model.log.add(time.time(), level, f"The scheduler {text}")

    # --- messages

    async def _complete_messages(self) -> None:
        """Fetch the data that messages lack from the scheduler in this program, if there is one."""
        scheduler = current_scheduler()
        self._feed.tables_known = scheduler is not None
        while scheduler is not None:
            began = time.perf_counter()
            self.tables.beside(*await self._ask(scheduler.look))
            await _pause(began, SELDOM, _SHARE_OF_TABLES)

    # --- output

    @contextmanager
    def _output(self) -> Iterator[None]:
        watchers = Display.of(current_process().endpoint).watchers
        watchers.append(self._line)
        try:
            yield
        finally:
            watchers.remove(self._line)

    def _line(self, line: Line) -> None:
        self._model.output(time.time(), str(line.server), line.level, line.text, coro=line.coro)


async def _pause(began: float, least: float, share: float) -> None:
    took = time.perf_counter() - began
    await trio.sleep(max(least, min(took / share, SLOWEST)))


def _scheduler_of(journal: Journal) -> Look | None:
    """Return the source for the tables of a computation's scheduler; None if there is no scheduler."""
    scheduler = current_scheduler()
    if scheduler is not None:
        return scheduler.look
    session = journal.session
    link = None if session is None else session.scheduler
    return None if link is None else partial(look_over, link)
