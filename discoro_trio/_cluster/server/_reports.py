"""Reports of a server's coroutines: made at the server, collected by the node, read by the scheduler.

A server reports the changes since its last report, so a job that starts and ends between two reports is only counted
and costs almost nothing. Reports that a slow scheduler has not taken yet are merged into one report per server.
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
"""The most ended coroutines of one server that wait to be reported to a slow scheduler; older ones are only counted."""
MOST_DESCRIBED = 50
"""The most coroutines of one report with arguments; a monitor requests the arguments of the others when needed."""
LAST_LINES = 200
"""The lines of its output that a server sends with its last report."""
INTERVAL = 0.5
"""Seconds between two reports of a server, if there is a change to report."""


class Reporter:
    """Reports which coroutines run in this server and how they end."""

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
        """Report the changes to the node, if there are any.

        Args:
            node: The link to the node.
            lines: The end of the output, for the last report.
        """
        report = self.report(always=bool(lines))
        if report is not None:
            node.notify(msgspec.structs.replace(report, lines=list(lines)) if lines else report)

    def report(self, *, always: bool = False) -> messages.Report | None:
        """Return the changes since the last report; None if there are none, unless `always` is set."""
        runner = self._process.runner
        everything = runner.running()
        # A coroutine that has just arrived has no name yet; the next report names it.
        running = {serial: local for serial, local in everything.items() if local.name}
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
            args = described_arguments(local) if local.begun and len(started) < MOST_DESCRIBED else None
            started.append(messages.RunningCoro(serial, local.name, local.since, starter, args))
        gone.difference_update([one.serial for one in ended])
        endings = runner.endings
        return messages.Report(
            submitted=runner.submitted,
            failed=endings.failed,
            cancelled=endings.cancelled,
            running=len(everything),
            started=started,
            gone=list(gone),
            ended=ended,
            failures=failures,
            progress=changed,
        )


def combined(older: messages.Report, newer: messages.Report) -> messages.Report:
    """Merge two reports of one server into one, for a scheduler that has received neither."""
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
    """Sends reports to one scheduler: one report per server at a time, the next once the last is written."""

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
        """Send the pending reports of a server that has ended, without waiting for room."""
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
