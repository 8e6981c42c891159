"""Follows what is watched into the model: a scheduler by its tables, a computation by its events.

The one who is watched never waits: tables are asked for less often when they are large, and who is too far behind
with events misses some and is told.
"""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import trio

from .._errors import DiscoroError
from ..client import Computation
from ..client._output import Display
from ..cluster import current_scheduler
from ..process import current_process, output
from ._tables_feed import TablesFeed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..client._output import Line
    from ..cluster import ClusterStatus
    from ._feed import Feed
    from ._model import Model

logger = logging.getLogger(__name__)

OFTEN = 0.4
"""Seconds between two tables."""
SELDOM = 2.0
"""Seconds between two tables where events tell the rest."""
_SHARE = 0.03
"""The part of the time that may go into tables."""
_LEVELS = {output.STDOUT: "print", output.STDERR: "stderr", output.LOG: "log"}


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
    """

    def __init__(self, source: Computation | HasTables | None, model: Model, feed: Feed) -> None:
        self._source = source
        self._model = model
        self._feed = feed
        self._tables = TablesFeed(model, feed)
        self.ready = source is None

    async def run(self) -> None:
        """Feed the model until what is watched has ended, or for ever."""
        with self._output():
            if isinstance(self._source, Computation):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._poll_beside)
                    await self._events(self._source)
            elif self._source is not None:
                await self._poll(self._source)
            else:
                await self._poll_beside()

    async def _events(self, computation: Computation) -> None:
        async with computation.subscribe() as messages:
            status = computation._snapshot()  # noqa: SLF001 - the state that the events then change
            if status is not None:
                self._tables.begin(status)
            self.ready = True
            async for message in messages:
                self._feed.apply(message)

    async def _poll(self, source: HasTables) -> None:
        while True:
            began = time.perf_counter()
            try:
                self._tables.apply(await source.status())
                self.ready = True
            except DiscoroError as error:
                self.ready = False
                logger.warning("the scheduler does not answer: %s", error)
            await trio.sleep(max(OFTEN, (time.perf_counter() - began) / _SHARE))

    async def _poll_beside(self) -> None:
        """Take what events do not tell from the scheduler in this program, if there is one."""
        scheduler = current_scheduler()
        self._feed.computations_known = scheduler is not None
        while scheduler is not None:
            self._tables.beside(await scheduler.status())
            await trio.sleep(SELDOM)

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
        self._model.output(time.time(), str(line.server), _LEVELS.get(line.stream, "print"), text)
