"""Turns the entries of a computation's journal into facts of the monitor's model.

Synchronous: `_source` decides when the journal is read. Counts and places come from the computation's tables, through
`_tables_feed`; this module handles the coroutines that the journal lists one by one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._process import Ending
from .._shown import shown
from ._rows import CoroutineRow

if TYPE_CHECKING:
    from .._client import Begun, Ended, Look
    from .._cluster import ClusterStatus
    from ._model import Model
    from ._tables_feed import TablesFeed

_STATES = {Ending.VALUE: "done", Ending.ERROR: "failed", Ending.CANCELLED: "cancelled", Ending.LOST: "lost"}


class JournalFeed:
    """Applies the results of looks, one after the other.

    Args:
        model: The model to change.
        tables: Applies the computation's tables.

    Attributes:
        alone: Whether no other source reports nodes and computations.
    """

    def __init__(self, model: Model, tables: TablesFeed) -> None:
        self._model = model
        self._tables = tables
        self.alone: bool = True

    def apply(self, look: Look) -> None:
        """Apply the result of a look."""
        model = self._model
        for server in look.gone:  # first: another server may have its place
            self._tables.count(server)
            self._tables.server_left(str(server.location))
        for tables in (*look.closed, look.tables):
            if tables is not None:
                self._take_tables(tables)
        for begun in look.begun:
            model.created(self._coroutine(begun), count=False)
        for ended in look.ended:
            self._end(ended)
        for where, count in look.failed.items():
            model.counted(where, 0, 0, count)
        for tables in look.closed:
            self._close(tables)
        model.sampled(look.one_in)

    def _take_tables(self, status: ClusterStatus) -> None:
        if self.alone:
            self._tables.nodes(status.nodes, status.time)
            self._tables.computations(status.computations, status.time)
        for server in status.servers:
            self._tables.own_server(server, status.time, alone=self.alone)

    def _close(self, status: ClusterStatus) -> None:
        model, computation = self._model, status.computations[0].id
        for server in status.servers:
            self._tables.server_left(str(server.location))
        for node in status.nodes if self.alone else ():
            model.node_left(str(node.location), "closed")
        for key in [one.key for one in model.running.values() if one.computation == computation]:
            model.finished(key, "ended", status.time, count=False)
        if self.alone:
            model.computation(computation, state="closed", end=status.time, lease=0)

    @staticmethod
    def _coroutine(begun: Begun) -> CoroutineRow:
        return CoroutineRow(
            begun.key,
            begun.name,
            begun.server,
            begun.start,
            computation=begun.computation,
            args=begun.args,
            kwargs=begun.kwargs,
            handle=begun.handle,
        )

    def _end(self, ended: Ended) -> None:
        if ended.begun is not None:
            self._model.created(self._coroutine(ended.begun), count=False)
        self._model.finished(ended.key, _STATES[ended.ending], ended.at, _error(ended), count=False)


def _error(ended: Ended) -> str:
    if ended.outcome is None:
        return ""
    error = ended.outcome.error()
    return "" if error is None else f"{type(error).__name__}: {shown(error)}"
