"""Decides how many nodes an adaptive launcher has; without I/O and without a clock.

Facts and the time go in, a decision with its reason comes out, and `_adaptive` carries it out.

The work that waits is measured in seconds of one server: the number of waiting jobs times the seconds that servers were
busy for each job that has ended. So a server that runs a hundred waiting coroutines at once counts as a fast one. While
no job has ended, the seconds that servers have been busy are the least that one job takes.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

from .._records import Record

if TYPE_CHECKING:
    from collections.abc import Sequence

_MEMORY = 60.0
"""Seconds of busy servers after which a measurement of the jobs has lost half of its weight."""
_FIRST_PAUSE = 1.0
"""Seconds before a node is started after one did not join; doubled each time, up to `_LONGEST_PAUSE`."""
_LONGEST_PAUSE = 300.0


class ScalingRules(Record, frozen=True, kw_only=True):
    """The limits of an adaptive launcher."""

    minimum: int
    maximum: int
    target: float
    """Seconds in which the servers should finish the work that waits."""
    cool_down: float
    """Seconds for which fewer nodes must have been enough before some are drained."""


class LaunchedFacts(Record, frozen=True, kw_only=True):
    """The facts of one launched node."""

    name: str
    joined: bool
    """Whether it has joined the scheduler; otherwise it is starting."""
    servers: int = 0
    busy: int = 0
    """How many of its servers run coroutines, as reported."""
    used: int = 0
    """How many of its servers have run coroutines. While jobs wait, these are busy, whatever they report."""
    running: int = 0
    """The number of coroutines that run there."""
    oldest: float = 0.0
    """Seconds for which the oldest of them has run."""


class Facts(Record, frozen=True, kw_only=True):
    """What a decision depends on."""

    nodes: Sequence[LaunchedFacts]
    """The launched nodes that are starting or have joined, without those that are being drained."""
    draining: int = 0
    """The number of nodes that are being drained."""
    failed: int = 0
    """The number of nodes that have ended before they joined, since the launcher was opened."""
    jobs: int = 0
    """The jobs that have not ended, waiting or running."""
    ended: int = 0
    """The coroutines that have ended since the scheduler was opened."""
    servers: int = 0
    """The number of servers that a computation waits for; 0 for none."""


class Scale(Record, frozen=True, kw_only=True):
    """A decision."""

    wanted: int
    """The number of nodes that are needed, within the limits."""
    start: int = 0
    """The number of nodes to start."""
    drain: tuple[str, ...] = ()
    """The nodes to drain and to end."""
    reason: str = ""


class Scaling:
    """The state of the decisions: how long jobs take, and how many nodes were needed in the last seconds."""

    def __init__(self, rules: ScalingRules) -> None:
        self.rules = rules
        self._time: float | None = None
        self._busy = 0
        self._busy_time = 0.0
        self._ended_count = 0.0
        self._ended_before = 0
        self._joined_once = False
        self._servers_each = 1.0
        self._needed: deque[tuple[float, int]] = deque()
        self._failed_before = 0
        self._pause = 0.0
        self._not_before = -math.inf
        self._full_at: int | None = None

    def decide(self, now: float, facts: Facts) -> Scale:
        """Decide which nodes to start and to drain.

        Args:
            now: The time, in seconds.
            facts: The nodes and the work.
        """
        self._measure(now, facts)
        self._note_failures(now, facts)
        rules = self.rules
        needed, why = self._need(facts)
        wanted = min(max(needed, rules.minimum), rules.maximum)
        if needed > rules.maximum:
            why = f"{why}, limited by maximum={rules.maximum}"
        elif needed < rules.minimum:
            why = f"{why}, limited by minimum={rules.minimum}"
        count = len(facts.nodes)
        self._remember(now, wanted)
        if wanted > count:
            return self._grow(now, facts, wanted, why)
        self._full_at = None
        most = max(number for _, number in self._needed)
        if most < count:
            return self._shrink(facts, wanted, count - most, why)
        if wanted < count:
            left = max(at for at, number in self._needed if number >= count) + rules.cool_down - now
            why = f"{why}; {_nodes(count - wanted)} can be drained in {max(left, 0):.0f} s"
        return Scale(wanted=wanted, reason=f"{_nodes(wanted)} wanted: {why}")

    def refused(self, started: int, facts: Facts) -> None:
        """Note that the launcher could start fewer nodes than decided: it has no place for more."""
        self._full_at = len(facts.nodes) + started

    # --- measurements

    def _measure(self, now: float, facts: Facts) -> None:
        joined = [node for node in facts.nodes if node.joined]
        if joined:
            self._joined_once = True
            self._servers_each = max(sum(node.servers for node in joined) / len(joined), 1.0)
        self._busy = busy = max(sum(node.busy for node in joined), min(sum(node.used for node in joined), facts.jobs))
        elapsed = 0.0 if self._time is None else max(now - self._time, 0.0)
        self._time = now
        if busy and elapsed:
            fade = 0.5 ** (elapsed / _MEMORY)
            self._busy_time = self._busy_time * fade + busy * elapsed
            self._ended_count *= fade
        self._ended_count += max(facts.ended - self._ended_before, 0)
        self._ended_before = facts.ended

    @property
    def seconds_per_job(self) -> float:
        """The seconds of one server that a job takes."""
        return self._busy_time / max(self._ended_count, 1.0)

    def _need(self, facts: Facts) -> tuple[int, str]:
        """Return the number of nodes that the work needs, and why."""
        rules = self.rules
        busy = self._busy
        running = max(sum(node.running for node in facts.nodes), busy)
        waiting = max(facts.jobs - running, 0)
        work = (waiting + busy) * self.seconds_per_job
        servers = max(math.ceil(min(work / rules.target, waiting + busy)), busy, 1 if waiting else 0)
        if waiting:
            known = f"{work:.0f} s of work for one server, to be done in target={rules.target:g} s"
            why = f"{_jobs(waiting)} waiting and {running} running, " + (known if work else "of unknown duration")
        elif running:
            why = f"{_jobs(running)} running and none waiting"
        else:
            why = "no jobs"
        if facts.servers > servers:
            servers, why = facts.servers, f"a computation waits for {facts.servers} servers"
        if not self._joined_once:  # the first node shows how many servers a node has
            servers = min(servers, 1)
        return math.ceil(servers / self._servers_each), why

    def _remember(self, now: float, wanted: int) -> None:
        """Keep the number of wanted nodes of the last `cool_down` seconds: times rise, numbers fall."""
        needed = self._needed
        while needed and needed[-1][1] <= wanted:
            needed.pop()
        needed.append((now, wanted))
        while needed[0][0] <= now - self.rules.cool_down and len(needed) > 1:
            needed.popleft()

    def _note_failures(self, now: float, facts: Facts) -> None:
        if facts.failed > self._failed_before:
            self._pause = min(max(2 * self._pause, _FIRST_PAUSE), _LONGEST_PAUSE)
            self._not_before = now + self._pause
        elif any(node.joined for node in facts.nodes) and now >= self._not_before:
            self._pause = 0.0
        self._failed_before = facts.failed

    # --- decisions

    def _grow(self, now: float, facts: Facts, wanted: int, why: str) -> Scale:
        count = len(facts.nodes)
        room = self.rules.maximum - facts.draining - count
        head = f"{_nodes(wanted)} wanted: {why}"
        if now < self._not_before:
            return Scale(
                wanted=wanted,
                reason=f"{head}; the last node did not join, the next starts in {self._not_before - now:.0f} s",
            )
        if self._full_at is not None and count >= self._full_at:
            return Scale(wanted=wanted, reason=f"{head}; the launcher has no place for more than {_nodes(count)}")
        if room <= 0:
            return Scale(wanted=wanted, reason=f"{head}; {_nodes(facts.draining)} must end before others start")
        return Scale(wanted=wanted, start=min(wanted - count, room), reason=head)

    def _shrink(self, facts: Facts, wanted: int, surplus: int, why: str) -> Scale:
        """Choose nodes to drain: those that are starting, then those with the fewest running coroutines.

        A node is kept if a coroutine there has run for longer than `target`: it may run for ever, and the node would
        neither end nor take work.
        """
        free = [node for node in facts.nodes if node.oldest <= self.rules.target]
        free.sort(key=lambda node: (node.joined, node.running, node.oldest))
        chosen = tuple(node.name for node in free[:surplus])
        reason = f"{_nodes(wanted)} wanted: {why}"
        if len(chosen) < surplus:
            reason = f"{reason}; {_nodes(surplus - len(chosen))} more run long coroutines and are kept"
        return Scale(wanted=wanted, drain=chosen, reason=reason)


def _nodes(count: int) -> str:
    return "1 node" if count == 1 else f"{count} nodes"


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count} jobs"
