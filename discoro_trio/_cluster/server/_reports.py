"""Reports of what runs at a server: made there, gathered at the node, read at the scheduler.

A server reports what has changed since the last time, so that a job that came and went between two reports is a
number and costs next to nothing. What a slow scheduler has not taken yet is put together to one report a server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import trio

from ..._process import described_arguments, merged_failures
from .. import _messages as messages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..._link import Link
    from ..._process import OutputLine, Process

MOST_ENDED = 1_000
"""Ended coroutines of one server that wait to be reported to a slow scheduler; the oldest are only counted."""
MOST_DESCRIBED = 50
"""Coroutines of one report whose arguments are described; those of the others are fetched when somebody looks."""
LAST_LINES = 200
"""Lines of its output that a server sends with its last report."""
INTERVAL = 0.5
"""Seconds between two reports of a server, if there is anything to report."""


class Reporter:
    """Reports what runs in this server, and how it ended."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._known: set[int] = process.runner.endings.known
        self._submitted = 0
        self._progress: dict[int, tuple[float, float | None, str]] = {}

    async def run(self, node: Link) -> None:
        """Report to the node until cancelled."""
        while True:
            await trio.sleep(INTERVAL)
            self.send(node)
            await node.room()

    def send(self, node: Link, lines: Sequence[OutputLine] = ()) -> None:
        """Report to the node what is new, if anything is.

        Args:
            node: The link to it.
            lines: With the last report, the end of the output.
        """
        report = self.report(always=bool(lines))
        if report is not None:
            node.notify(msgspec.structs.replace(report, lines=list(lines)) if lines else report)

    def report(self, *, always: bool = False) -> messages.Report | None:
        """Give what has changed since the last report; None if nothing has, unless it is wanted `always`."""
        runner = self._process.runner
        running = runner.running()
        ended, failures = runner.endings.take()
        progress = {serial: local.report for serial, local in running.items() if local.report is not None}
        new, gone = running.keys() - self._known, self._known - running.keys()
        told = [(serial, words) for serial, words in progress.items() if self._progress.get(serial) != words]
        changed = [messages.CoroProgress(serial, *words) for serial, words in told]
        nothing = runner.submitted == self._submitted and not new and not gone and not ended and not changed
        if nothing and not always:
            return None
        self._known.clear()
        self._known.update(running)
        self._submitted, self._progress = runner.submitted, progress
        started: list[messages.RunningCoro] = []
        for serial in new:
            local = running[serial]
            starter = local.link.peer.process_id if local.link is not None else self._process.id
            args = described_arguments(local) if len(started) < MOST_DESCRIBED else None
            started.append(messages.RunningCoro(serial, local.name, local.since, starter, args))
        gone.difference_update([one.serial for one in ended])
        endings = runner.endings
        return messages.Report(
            submitted=runner.submitted,
            failed=endings.failed,
            cancelled=endings.cancelled,
            running=len(running),
            started=started,
            gone=list(gone),
            ended=ended,
            failures=failures,
            progress=changed,
        )


def combined(older: messages.Report, newer: messages.Report) -> messages.Report:
    """Put two reports of one server together, to what a scheduler needs that has got neither."""
    over = {one.serial for one in newer.ended}.union(newer.gone)
    begun_and_gone = {one.serial for one in older.started}.intersection(newer.gone)
    started = [one for one in older.started if one.serial not in over]
    progress = {one.serial: one for one in (*older.progress, *newer.progress) if one.serial not in over}
    return messages.Report(
        submitted=newer.submitted,
        failed=newer.failed,
        cancelled=newer.cancelled,
        running=newer.running,
        started=[*started, *newer.started],
        gone=[*older.gone, *(serial for serial in newer.gone if serial not in begun_and_gone)],
        ended=[*older.ended, *newer.ended][-MOST_ENDED:],
        failures=merged_failures(older.failures, newer.failures),
        progress=list(progress.values()),
        lines=newer.lines,
    )


class Outlet:
    """The way of reports to one scheduler: one report a server at a time, the next when the last is written."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self._gathered: dict[bytes, messages.ServerReport] = {}
        self._arrived = trio.Event()

    def put(self, computation: bytes, server_id: bytes, report: messages.Report) -> None:
        """Take a report of a server; never waits."""
        before = self._gathered.get(server_id)
        whole = report if before is None else combined(before.report, report)
        self._gathered[server_id] = messages.ServerReport(computation, server_id, whole)
        self._arrived.set()

    def flush(self, server_id: bytes) -> None:
        """Send what a server has reported, without waiting for room: it has ended, and this was its last report."""
        gathered = self._gathered.pop(server_id, None)
        if gathered is not None:
            self.link.notify(gathered)

    async def run(self) -> None:
        """Send reports until the link is lost.

        Raises:
            PeerDisconnected: The link is lost.
        """
        while True:
            await self._arrived.wait()
            await self.link.room()
            self._arrived = trio.Event()
            gathered, self._gathered = self._gathered, {}
            for one in gathered.values():
                self.link.notify(one)
