"""What a launcher decides about nodes in jobs of a batch system: events in, effects out, without I/O.

A node has one life. When the batch system takes its machine back, or the time of its job ends, another node with a name
of its own replaces it.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from typing import TYPE_CHECKING, Literal

import attrs

from .._cluster import LaunchedNode
from .._values import Location
from ._order import DRAINING_FOR_SIGNAL, DRAINING_FOR_TIME, ENDED, JOINED
from ._output import TAIL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ._queue import QueueState

_NEVER_SEEN = 60.0
"""Seconds after which a job that the queue has not shown yet counts as ended."""
_FRUITLESS = 3
"""Nodes that may follow each other without any of them joining."""
_SHORT = 10.0
"""A node whose time ends after fewer seconds counts like one that has not joined."""
RESTART = 30.0
"""Seconds after a start of the controller, or after a time without an answer, in which it may cancel jobs by itself."""
_KEPT = 100
"""Nodes that have ended and are still shown."""
_NAMED = 4
"""Nodes that a line of the log names; it counts the others."""


@attrs.frozen
class SubmitJobs:
    """Submit a job, or jobs, for nodes that have none."""

    names: tuple[str, ...]


@attrs.frozen
class Cancel:
    """Cancel jobs."""

    ids: tuple[str, ...]


@attrs.frozen
class EndNode:
    """Ask one node to end by its marker file."""

    name: str


@attrs.frozen
class EndAll:
    """Ask all nodes to end by a marker file."""


@attrs.frozen
class LogLine:
    """Write a line to the log."""

    level: int
    text: str


Effect = SubmitJobs | Cancel | EndNode | EndAll | LogLine


@attrs.define
class BatchNode:
    """One node, and what is known of it."""

    name: str
    state: Literal["starting", "running", "ended"] = "starting"
    reason: str = ""
    job: str = ""
    submitted: float = 0.0
    started: float | None = None
    """When its job was first seen running."""
    location: Location | None = None
    asked: str = ""
    """Why the launcher has asked for its end."""
    drained: bool = False
    replaced: bool = False
    status: str = ""
    """The exit status that its job's script has written."""
    fruitless: int = 0
    """How many nodes before it have ended without joining."""
    tail: deque[str] = attrs.field(factory=lambda: deque(maxlen=TAIL))


class BatchState:
    """The nodes of one launcher and their jobs.

    Args:
        system: Begins the nodes' names.
        timeout: Seconds that a node may take to join, from the start of its job.
        where: The scheduler's place, for texts.
        keeps_ended: Whether the queue shows jobs that have ended; it has then lost one that it does not show any more.

    Attributes:
        version: Counts the changes that `nodes` shows.
    """

    def __init__(self, system: str, *, timeout: float, where: str, keeps_ended: bool = False) -> None:
        self.version = 0
        self._system = system
        self._timeout = timeout
        self._where = where
        self._keeps_ended = keeps_ended
        self._nodes: dict[str, BatchNode] = {}
        self._count = 0
        self._now = 0.0
        self._away_at = self._may_lack = -math.inf
        self._seen: dict[str, QueueState] = {}
        """The last state of each job that has not ended."""
        self._leaving = False

    @property
    def nodes(self) -> tuple[LaunchedNode, ...]:
        """The nodes, as the launcher shows them."""
        return tuple(
            LaunchedNode(
                name=one.name, state=one.state, reason=one.reason, location=one.location, taken_back=bool(one.asked)
            )
            for one in self._nodes.values()
        )

    @property
    def over(self) -> bool:
        """Whether all nodes and jobs have ended."""
        return not self._seen and all(node.state == "ended" for node in self._nodes.values())

    @property
    def has_begun(self) -> bool:
        """Whether a job was submitted."""
        return any(node.job for node in self._nodes.values())

    def wants(self, names: Sequence[str]) -> bool:
        """Whether one of these nodes is still to be submitted."""
        return any(self._nodes[name].state != "ended" for name in names)

    def __contains__(self, name: object) -> bool:
        return name in self._nodes

    def tail(self, name: str) -> deque[str]:
        """Return the lines that may explain why a node has failed."""
        return self._nodes[name].tail

    @property
    def is_ending(self) -> bool:
        """Whether the batch system is ending all jobs that have not ended."""
        return all(state.phase == "ending" for state in self._seen.values())

    @property
    def writing(self) -> list[str]:
        """The nodes that may have written something."""
        return [node.name for node in self._nodes.values() if node.state != "ended" and node.job]

    def new(self, count: int, fruitless: int = 0) -> SubmitJobs:
        """Add nodes, which are to be submitted.

        Args:
            count: How many.
            fruitless: How many nodes before them have ended without joining.
        """
        names = [f"{self._system}{self._count + index + 1}" for index in range(count)]
        self._count += count
        self._nodes |= {name: BatchNode(name, fruitless=fruitless) for name in names}
        self.version += 1
        return SubmitJobs(tuple(names))

    # --- what happens

    def submitted(self, now: float, jobs: Mapping[str, str]) -> list[Effect]:
        """Note the jobs of nodes, by name; nodes of one job share its id."""
        for name, job in jobs.items():
            self._nodes[name].job = job
            self._nodes[name].submitted = now
        ids = tuple(dict.fromkeys(jobs.values()))
        effects: list[Effect] = [LogLine(logging.INFO, f"submitted {_list(ids)} for {_list(tuple(jobs))}")]
        needed = {job for name, job in jobs.items() if not self._nodes[name].asked}
        if unneeded := tuple(job for job in ids if job not in needed):
            effects.append(Cancel(unneeded))
        return effects

    def refused(self, names: Sequence[str], why: str) -> list[Effect]:
        """Note that a submission has failed."""
        for name in names:
            self._end(self._nodes[name], why)
        return [LogLine(logging.WARNING, f"{_list(names)} cannot be submitted: {why}")]

    def unavailable(self, now: float, started: float | None = None) -> None:
        """Note that the queue does not answer, or that its controller has just started: it may have lost jobs.

        Args:
            now: The time.
            started: When the controller started, if that is known: it has not lost what was submitted later.
        """
        self._away_at, self._may_lack = now, now if started is None else started

    def cancelled_elsewhere(self, found: Mapping[str, QueueState]) -> bool:
        """Whether a job was cancelled that is not known to have ended, and not by this launcher."""
        alive = {node.job for node in self._nodes.values() if node.state != "ended" and not node.asked}
        return any(job in alive and state.verdict == "cancelled" for job, state in found.items())

    def queue(self, now: float, found: Mapping[str, QueueState]) -> list[Effect]:
        """Follow the states of all jobs of the program."""
        self._now = now
        effects: list[Effect] = []
        by_job: dict[str, list[BatchNode]] = {}
        for node in self._nodes.values():
            if node.job and node.state != "ended":
                by_job.setdefault(node.job, []).append(node)
        known = {node.job for node in self._nodes.values()}
        stray = [job for job, state in found.items() if job not in known and state.phase in {"queued", "running"}]
        if stray:  # a submission whose answer was lost
            effects.append(Cancel(tuple(stray)))
        news: dict[str, list[str]] = {}
        for job, nodes in by_job.items():
            state = found.get(job)
            if state is None and job not in self._seen and now - nodes[0].submitted < _NEVER_SEEN:
                continue
            if state is None or state.phase == "ended":
                effects += self._job_ended(job, nodes, state)
                continue
            if all(node.asked for node in nodes) and state.phase in {"queued", "running"}:
                effects.append(Cancel((job,)))  # it is new, or the first attempt has failed
            if state.phase != "queued" and nodes[0].started is None:
                for node in nodes:
                    node.started = now
            what = state.text + (f" on {state.where}" if state.where else "")
            if job not in self._seen or self._seen[job] != state:
                news.setdefault(what, []).extend(node.name for node in nodes)
            for node in nodes:
                if node.state == "starting" and node.reason != f"job {job}: {what}":
                    node.reason = f"job {job}: {what}"
                    self.version += 1
        self._seen = {job: state for job, state in found.items() if state.phase != "ended"}
        effects += [LogLine(logging.INFO, f"{_list(names)}: {what}") for what, names in news.items()]
        return effects

    def _job_ended(self, job: str, nodes: list[BatchNode], state: QueueState | None) -> list[Effect]:
        verdict = state.verdict if state is not None else "taken" if self._keeps_ended else ""
        if verdict == "cancelled" and self._now - self._away_at < RESTART and nodes[0].submitted <= self._may_lack:
            verdict = "taken"  # by a controller that has restarted
        text = f"job {job} " + (f"ended: {state.text}" if state is not None else "left the queue")
        alive = [node for node in nodes if not node.asked]
        lost = [
            node
            for node in alive
            if not node.replaced and (verdict == "taken" or (node.drained and state is not None and not verdict))
        ]
        effects = self._replace(lost)
        if verdict == "cancelled":
            text += "; it was cancelled outside of this program"
        for node in nodes:
            why = text if not node.tail or node.drained else f"{text}: {' / '.join(node.tail)}"
            expected = node.asked or node.replaced
            self._end(node, node.asked or why)
            effects.append(
                LogLine(logging.INFO if expected else logging.WARNING, f"{node.name} has ended: {node.reason}")
            )
        return effects

    def _replace(self, nodes: Sequence[BatchNode]) -> list[Effect]:
        """Submit other nodes for some that end or have ended, unless none of the last ones could join."""
        wanted = []
        for node in nodes:
            lasted = node.state == "running" and node.started is not None and self._now - node.started >= _SHORT
            fruitless = 0 if lasted else node.fruitless + 1
            if fruitless < _FRUITLESS and not self._leaving:
                node.replaced = True
                wanted.append(fruitless)
        return [self.new(len(wanted), max(wanted))] if wanted else []

    def wrote(self, name: str, line: str) -> list[Effect] | None:
        """Follow what a node reports in its output; None for a line of another kind."""
        node = self._nodes[name]
        if line.startswith(ENDED):
            return self._exited(node, line.removeprefix(ENDED))
        if line.startswith(JOINED):
            if node.state == "starting" and not node.asked:
                node.state, node.reason = "running", ""
                node.location = Location.parse(line.removeprefix(JOINED))
                self.version += 1
            return [LogLine(logging.INFO, f"the node {name} has joined")]
        if line in {DRAINING_FOR_TIME, DRAINING_FOR_SIGNAL}:
            node.drained = True
            effects: list[Effect] = [LogLine(logging.INFO, f"{name}: {line.partition(': ')[2]}")]
            if line == DRAINING_FOR_TIME and not node.replaced and not node.asked:
                effects += self._replace([node, *(one for one in self._others(node) if not one.asked)])
            return effects
        return None

    def _exited(self, node: BatchNode, status: str) -> list[Effect]:
        """Follow the end of a node's process.

        What it means is clear only when its job has ended, unless it was asked for or other nodes keep the job running.
        """
        node.status = status
        shared = self._others(node)
        if node.asked:
            self._end(node, node.asked)
            return [LogLine(logging.INFO, f"the node {node.name} has ended: {node.reason}")]
        if shared and not node.drained and any(not one.status for one in shared):
            text = f"its process ended with status {status}"
            self._end(node, f"{text}: {' / '.join(node.tail)}" if node.tail else text)
            return [LogLine(logging.WARNING, f"the node {node.name} has ended: {node.reason}")]
        return []

    def clock(self, now: float) -> list[Effect]:
        """End the nodes that have not joined in time."""
        effects: list[Effect] = []
        for node in self._nodes.values():
            late = node.started is not None and now - node.started >= self._timeout
            if node.state == "starting" and late and not node.asked:
                reason = (
                    f"it did not join within timeout={self._timeout:g} s of its start; can it connect to "
                    f"{self._where}? "
                    "open_scheduler(ext_ip_addr=…) sets another address"
                )
                if node.tail:
                    reason = f"{reason}. Its output: {' / '.join(node.tail)}"
                effects += [LogLine(logging.WARNING, f"the node {node.name}: {reason}"), *self.end(node.name, reason)]
        return effects

    # --- what the program asks for

    def end(self, name: str, reason: str) -> list[Effect]:
        """End one node; the first reason is kept."""
        node = self._nodes[name]
        if node.state == "ended" or node.asked:
            return []
        node.asked = reason
        effects: list[Effect] = [EndNode(name)]
        if node.job and all(one.asked for one in self._others(node)):
            effects.append(Cancel((node.job,)))
        return effects

    def end_all(self, reason: str) -> list[Effect]:
        """End all nodes."""
        self._leaving = True
        alive = [node for node in self._nodes.values() if node.state != "ended"]
        for node in alive:
            node.asked = node.asked or reason
            if not node.job:
                self._end(node, node.asked)
        ids = tuple(dict.fromkeys([node.job for node in alive if node.job] + list(self._seen)))
        return [EndAll(), Cancel(ids)] if ids else [EndAll()]

    def forget(self, reason: str) -> list[LogLine]:
        """Leave jobs to the batch system, which does not end them in time."""
        left = tuple(self._seen)
        self._seen = {}
        for node in list(self._nodes.values()):
            if node.state != "ended":
                self._end(node, node.asked or reason)
        return [LogLine(logging.WARNING, f"the jobs {_list(left)} have not ended in time: {reason}")] if left else []

    def _others(self, node: BatchNode) -> list[BatchNode]:
        """Return the other nodes of a node's job that have not ended."""
        nodes = self._nodes.values()
        return [one for one in nodes if one is not node and one.job == node.job and one.state != "ended"]

    def _end(self, node: BatchNode, reason: str) -> None:
        node.state, node.reason = "ended", reason
        self.version += 1
        ended = [one.name for one in self._nodes.values() if one.state == "ended" and one.replaced]
        for name in ended[:-_KEPT]:
            del self._nodes[name]


def _list(names: Sequence[str]) -> str:
    if len(names) > _NAMED:
        return f"{', '.join(names[: _NAMED - 1])} and {len(names) - _NAMED + 1} others"
    return ", ".join(names)
