"""The monitor's model of a cluster: facts and events go in, tables are read from it.

No I/O, no clock: times are arguments. `_source` supplies the facts, `_views` shows them. Finished entries are kept up
to a limit; the oldest are dropped first.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import attrs

from .._shown import LONGEST_LINE, arguments, one_line
from ._events import EventLog
from ._rows import SAMPLES, ComputationRow, CoroCounts, CoroutineRow, Failures, OutputRow, rounded
from ._topology_rows import TopologyRows, update

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._tree import Tree

KEPT_COROUTINES = 20_000
"""How many ended coroutines are kept."""
KEPT_COMPUTATIONS = 200
"""How many ended computations are kept."""
KEPT_LOST = 10_000
"""How many lost coroutines are kept as recent."""
KEPT_FAILURES = 500
"""How many kinds of failures are kept."""
KEPT_LINES = 5_000
"""How many lines of output are kept."""
MOST_AT_ONCE = 500_000
"""How many running coroutines are listed one by one; beyond that they are only counted."""


@attrs.define
class Totals:
    """The sums over the cluster, now and in the last five minutes."""

    counts: CoroCounts = attrs.Factory(CoroCounts)
    rate: float = 0.0
    """Coroutines that ended per second."""
    rate_history: deque[float | None] = attrs.Factory(lambda: deque(maxlen=SAMPLES))
    running_history: deque[float | None] = attrs.Factory(lambda: deque(maxlen=SAMPLES))
    cpu_history: deque[float | None] = attrs.Factory(lambda: deque(maxlen=SAMPLES))
    """Percent of all processors."""
    memory_history: deque[float | None] = attrs.Factory(lambda: deque(maxlen=SAMPLES))
    """Percent of all memory."""
    times: deque[float] = attrs.Factory(lambda: deque(maxlen=SAMPLES))
    """When the samples were taken, in seconds since the epoch."""


class Model(TopologyRows):
    """The state of a cluster, as reported to the monitor.

    Attributes:
        running: The coroutines that run, by key.
        ended: Those that have ended, the oldest first.
        over: The ended coroutines, by key.
        failures: The kinds of failures, by key; the one with the latest failure comes last.
        log: The latest events.
        lost: When coroutines were lost with their server, in seconds since the epoch, and why.
        as_of: The time of the state, in seconds since the epoch: the model has all that the source knew then. None
            before the first answer, and without a source that answers.
        tree: The tasks of all processes when they were last fetched, in the form of `_tree`.
        circle: The coroutines that waited for each other for ever at that time, one line for each.
        scaling: Why the launcher has as many nodes as it has; empty if the number is fixed.
        stale: For how many seconds the source has not answered; None if it answers.
        one_in: Of very short coroutines, one in this many is listed; all are counted.
    """

    def __init__(self) -> None:
        super().__init__()
        self.running: dict[str, CoroutineRow] = {}
        self.ended: deque[CoroutineRow] = deque(maxlen=KEPT_COROUTINES)
        self.over: dict[str, CoroutineRow] = {}
        self.failures: dict[str, Failures] = {}
        self.computations: dict[str, ComputationRow] = {}
        self.lines: deque[OutputRow] = deque(maxlen=KEPT_LINES)
        self.totals: Totals = Totals()
        self.log: EventLog = EventLog()
        self.lost: deque[tuple[float, str]] = deque(maxlen=KEPT_LOST)
        self.as_of: float | None = None
        self.scaling: str = ""
        self.stale: int | None = None
        self.tree: Tree | None = None
        self.circle: list[str] = []
        self.one_in: int = 1
        self._line_number = 0
        self._sampled: tuple[float, int] | None = None

    # --- computations

    def computation(self, key: str, **facts: Any) -> ComputationRow:
        """Note a computation or new facts about one: any fields of `ComputationRow`."""
        computation = self.computations.get(key)
        if computation is None:
            computation = self.computations[key] = ComputationRow(key)
            self._forget_computations()
        update(computation, facts)
        self.changed()
        return computation

    def _forget_computations(self) -> None:
        surplus = len(self.computations) - KEPT_COMPUTATIONS
        if surplus > 0:
            over = [one.key for one in self.computations.values() if one.state == "closed"]
            for key in over[:surplus]:
                del self.computations[key]

    # --- coroutines

    def created(self, coroutine: CoroutineRow, *, count: bool = True) -> None:
        """Note a coroutine; a known one changes nothing. Without `count`, `counted` supplies the numbers."""
        if coroutine.key in self.running or coroutine.key in self.over:
            return
        for counts in self._counts_of(coroutine) if count else ():
            counts.submitted += 1
        self.changed()
        if len(self.running) < MOST_AT_ONCE:
            self.running[coroutine.key] = coroutine
            server = self.servers.get(coroutine.server)
            if server is not None:
                server.running[coroutine.key] = None

    def finished(self, key: str, state: str, at: float, error: str = "", *, count: bool = True) -> None:
        """Note the end of a coroutine, known by its key or not.

        Args:
            key: Its key; an unknown one changes nothing.
            state: `done`, `failed`, `cancelled`, `lost` or `closed` with its server; `ended` if it is not known how.
            at: When, in seconds since the epoch.
            error: The error that it raised, as text.
            count: Whether to count the end here; otherwise `counted` supplies the numbers.
        """
        coroutine = self.running.pop(key, None)
        if coroutine is None:
            return
        coroutine.state, coroutine.end, coroutine.error = state, at, one_line(error)
        if state == "lost":
            self.lost.append((at, coroutine.error))
        if state != "done" and coroutine.described is None and (coroutine.args or coroutine.kwargs):
            coroutine.described = arguments(coroutine.args, coroutine.kwargs)
        # The table must not keep its arguments alive.
        coroutine.args, coroutine.kwargs, coroutine.handle = (), {}, None
        failed = state in {"failed", "lost"}
        for counts in self._counts_of(coroutine) if count else ():
            counts.done += 1
            counts.failed += failed
        server = self.servers.get(coroutine.server)
        if server is not None:
            server.running.pop(key, None)
        if len(self.ended) == KEPT_COROUTINES:
            self.over.pop(self.ended[0].key, None)
        self.ended.append(coroutine)
        self.over[key] = coroutine
        self.changed()

    def coroutine(self, key: str) -> CoroutineRow | None:
        """Return a coroutine that runs, or one of the last that ended."""
        return self.running.get(key) or self.over.get(key)

    def failed(self, key: str, server: str, count: int, **facts: Any) -> Failures:
        """Note a group of equal failures.

        Args:
            key: The key of the group.
            server: The server where they happened.
            count: How many happened at that server so far.
            facts: Fields of `Failures`.
        """
        failures = self.failures.pop(key, None) or Failures(key)
        self.failures[key] = failures
        more = count - failures.counts.get(server, 0)
        failures.counts[server] = count
        update(failures, facts)
        if more > 0:
            failures.recent.append((failures.at, more))
        if len(self.failures) > KEPT_FAILURES:
            del self.failures[next(iter(self.failures))]
        self.changed()
        return failures

    def progress(self, key: str, done: float, of: float | None, text: str) -> None:
        """Note the progress that a coroutine reports."""
        coroutine = self.running.get(key)
        if coroutine is not None:
            coroutine.progress = (done, of, one_line(text, 200))
            self.changed()

    def counted(self, server: str, submitted: int, done: int, failed: int = 0) -> None:
        """Note coroutines of a server that are only counted: how many more began and how many more ended."""
        for counts in self._counts_at(server, ""):
            counts.add(submitted, done, failed)
        self.changed()

    def server_gone(self, key: str, state: str, at: float, why: str = "") -> None:
        """Note that a server has ended, and with it the coroutines that are known to run there.

        Args:
            key: Its Location as text.
            state: `closed`, `ignored` or `disconnected`.
            at: When, in seconds since the epoch.
            why: The reason, for display.
        """
        server = self.servers.get(key)
        if server is not None:
            for coroutine in list(server.running):
                lost = state == "disconnected"
                self.finished(coroutine, "lost" if lost else "closed", at, why or "its server has ended", count=False)
        self.server_left(key, state)

    def _counts_of(self, coroutine: CoroutineRow) -> Iterator[CoroCounts]:
        return self._counts_at(coroutine.server, coroutine.computation)

    def _counts_at(self, server_key: str, computation_key: str) -> Iterator[CoroCounts]:
        yield self.totals.counts
        server = self.servers.get(server_key)
        if server is not None:
            yield server.counts
            yield self.nodes[server.node].counts
        computation = self.computations.get(computation_key or (server.computation if server else ""))
        if computation is not None:
            yield computation.counts

    def note_circle(self, circle: list[str]) -> None:
        """Note the coroutines that wait for each other for ever, one line for each."""
        if circle != self.circle:
            self.circle = circle
            self.changed()

    def sampled(self, one_in: int) -> None:
        """Note that of very short coroutines only one in this many is listed."""
        if self.one_in != one_in:
            self.one_in = one_in
            self.changed()

    # --- output and samples

    def output(self, at: float, server: str, level: str, text: str, *, coro: str = "", key: str = "") -> None:
        """Note a line of output.

        Args:
            at: When it was written, in seconds since the epoch.
            server: The Location of its server.
            level: `print`, `stderr` or the level of the log record.
            text: The line.
            coro: The name of the coroutine that wrote it, if one did.
            key: The key of that coroutine, if it is known.
        """
        self._line_number += 1
        text = f"{coro}: {text}" if coro else text
        lines = [one_line(line) for line in text[:LONGEST_LINE].splitlines() or [""]]  # a traceback has several
        self.lines.append(OutputRow(self._line_number, at, server, level, "\n".join(lines), key))
        self.changed()

    def begin_rate(self) -> None:
        """Count what ends from now on: what ended before the first look has no rate."""
        self._sampled = None

    def sample(self, now: float) -> None:
        """Take the next point of all small graphs; called every `SAMPLE_SECONDS`."""
        for node in self.nodes.values():
            node.load.sample()
        for server in self.servers.values():
            server.load.sample()
        totals = self.totals
        done = totals.counts.done
        if self._sampled is not None and now > self._sampled[0]:
            totals.rate = (done - self._sampled[1]) / (now - self._sampled[0])
        self._sampled = (now, done)
        totals.times.append(round(now, 1))
        totals.rate_history.append(rounded(totals.rate))
        totals.running_history.append(totals.counts.running)
        totals.cpu_history.append(rounded(self.cpu()))
        totals.memory_history.append(rounded(self.memory()))
        self.changed()
