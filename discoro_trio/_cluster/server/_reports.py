"""Reports of what runs at a server: made there, gathered at the node, read at the scheduler.

A server reports what has changed since the last time, so that a job that came and went between two reports is a
number and costs nothing. What a slow scheduler has not taken yet is put together to one report a server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import trio

from ..._records import MutableRecord
from .. import _messages as messages

if TYPE_CHECKING:
    from ..._link import Link
    from ..._process import Process

INTERVAL = 0.5
"""Seconds between two reports of a server, if there is anything to report."""


class Reporter:
    """Reports what runs in this server."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._known: set[int] = set()
        self._submitted = 0
        self._progress: dict[int, tuple[float, float | None, str]] = {}

    async def run(self, node: Link) -> None:
        """Report to the node until cancelled."""
        while True:
            await trio.sleep(INTERVAL)
            report = self.report()
            if report is not None:
                node.notify(report)
                await node.room()

    def report(self) -> messages.Report | None:
        """Say what has changed since the last report; None if nothing has."""
        runner = self._process.runner
        running = runner.running()
        progress = {serial: local.report for serial, local in running.items() if local.report is not None}
        new, gone = running.keys() - self._known, self._known - running.keys()
        told = [(serial, words) for serial, words in progress.items() if self._progress.get(serial) != words]
        changed = [messages.CoroProgress(serial, *words) for serial, words in told]
        if runner.submitted == self._submitted and not new and not gone and not changed:
            return None
        self._known, self._submitted, self._progress = set(running), runner.submitted, progress
        started = []
        for serial in new:
            local = running[serial]
            starter = local.link.peer.process_id if local.link is not None else self._process.id
            started.append(messages.RunningCoro(serial, local.name, local.since, starter))
        return messages.Report(runner.submitted, len(running), started, list(gone), changed)


class _Gathered(MutableRecord):
    """What a scheduler was not told yet of one server."""

    computation: bytes
    submitted: int = 0
    running: int = 0
    started: dict[int, messages.RunningCoro] = msgspec.field(default_factory=dict)
    ended: set[int] = msgspec.field(default_factory=set)
    progress: dict[int, messages.CoroProgress] = msgspec.field(default_factory=dict)

    def add(self, report: messages.Report) -> None:
        self.submitted, self.running = report.submitted, report.running
        for serial in report.ended:
            self.progress.pop(serial, None)
            if self.started.pop(serial, None) is None:
                self.ended.add(serial)
        self.started.update({coro.serial: coro for coro in report.started})
        self.progress.update({one.serial: one for one in report.progress})


class Outlet:
    """The way of reports to one scheduler: one report a server at a time, the next when the last is written."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self._gathered: dict[bytes, _Gathered] = {}
        self._arrived = trio.Event()

    def put(self, computation: bytes, server_id: bytes, report: messages.Report) -> None:
        """Take a report of a server; never waits."""
        gathered = self._gathered.get(server_id)
        if gathered is None:
            gathered = self._gathered[server_id] = _Gathered(computation)
        gathered.add(report)
        self._arrived.set()

    async def run(self) -> None:
        """Send reports until the link is lost.

        Raises:
            PeerDisconnected: It is.
        """
        while True:
            await self._arrived.wait()
            await self.link.room()
            self._arrived = trio.Event()
            gathered, self._gathered = self._gathered, {}
            for server_id, one in gathered.items():
                self.link.notify(
                    messages.ServerReport(
                        one.computation,
                        server_id,
                        one.submitted,
                        one.running,
                        list(one.started.values()),
                        list(one.ended),
                        list(one.progress.values()),
                    )
                )
