"""Follows what is watched into the model: a scheduler by its tables, a computation by its journal.

The one who is watched is not waited for and does not wait: it is looked at, at most four times a second, and less
often where a look takes long.
"""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Protocol

import trio

from .._client import Computation
from .._client._output import Display
from .._cluster import current_scheduler
from .._errors import DiscoroError
from .._process import current_process
from ._journal_feed import JournalFeed
from ._remote import tables_over
from ._tables_feed import TablesFeed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from .._client import Journal
    from .._client._output import Line
    from .._cluster import ClusterStatus
    from ._feed import Feed
    from ._model import Model

logger = logging.getLogger(__name__)

OFTEN = 0.25
"""Seconds between two looks."""
SELDOM = 2.0
"""Seconds between two tables that only complete what others tell."""
SLOWEST = 5.0
"""Seconds between two of either, at most, however long they take."""
_SHARE = 0.01
"""The part of the time that may go into looking at a journal."""
_SHARE_OF_TABLES = 0.03
"""The part of the time that may go into tables; those of a scheduler elsewhere are mostly waited for."""


class HasTables(Protocol):
    """A scheduler, here or elsewhere."""

    async def status(self) -> ClusterStatus:
        """Give the tables of nodes, servers and computations."""
        ...


class Follower:
    """Feeds a model from what is watched.

    Args:
        source: A Computation, a Scheduler, or None where messages come to `status_coro`.
        model: What is fed.
        feed: What takes status messages.

    Attributes:
        ready: Whether the model has the state of what is watched.
        begun: Set once nothing that happens is missed.
    """

    def __init__(self, source: Computation | HasTables | None, model: Model, feed: Feed) -> None:
        self._source = source
        self._model = model
        self._feed = feed
        self._tables = TablesFeed(model, feed)
        self.ready: bool = source is None
        self.begun: trio.Event = trio.Event()

    async def run(self) -> None:
        """Feed the model until what is watched has ended, or for ever."""
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
        records = JournalFeed(self._model, self._tables)
        with computation._followed() as journal:  # noqa: SLF001 - users have `subscribe`, which hears errors
            self.begun.set()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._complete, journal, records)
                while True:
                    began = time.perf_counter()
                    records.apply(journal.look())
                    self.ready = True
                    await _pause(began, OFTEN, _SHARE)

    async def _complete(self, journal: Journal, records: JournalFeed) -> None:
        """Take from the scheduler what a computation does not know itself, as long as it answers."""
        while True:
            ask = _scheduler_of(journal)
            began = time.perf_counter()
            try:
                status = None if ask is None else await ask()
            except DiscoroError:
                status = None  # the computation goes on without it, and so do its tables
            records.alone = status is None
            if status is not None:
                self._tables.beside(status)
            await _pause(began, SELDOM, _SHARE_OF_TABLES)

    # --- a scheduler

    async def _poll(self, source: HasTables) -> None:
        while True:
            began = time.perf_counter()
            try:
                self._tables.apply(await source.status())
                self.ready = True
            except DiscoroError as error:
                self.ready = False
                logger.warning("the scheduler does not answer: %s", error)
            await _pause(began, OFTEN, _SHARE_OF_TABLES)

    # --- messages

    async def _complete_messages(self) -> None:
        """Take what messages do not tell from the scheduler in this program, if there is one."""
        scheduler = current_scheduler()
        self._feed.tables_known = scheduler is not None
        while scheduler is not None:
            began = time.perf_counter()
            self._tables.beside(await scheduler.status())
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
        text = f"{line.coro}: {line.text}" if line.coro else line.text
        self._model.output(time.time(), str(line.server), line.level, text)


async def _pause(began: float, least: float, share: float) -> None:
    took = time.perf_counter() - began
    await trio.sleep(max(least, min(took / share, SLOWEST)))


def _scheduler_of(journal: Journal) -> Callable[[], Awaitable[ClusterStatus]] | None:
    """Give what asks the scheduler of a computation for its tables; None if there is none to ask."""
    scheduler = current_scheduler()
    if scheduler is not None:
        return scheduler.status
    session = journal.session
    link = None if session is None else session.scheduler
    return None if link is None else partial(tables_over, link)
