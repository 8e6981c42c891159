"""Reports coroutines that have begun here, so that their starters send further ones.

A report means that another one would begin at once. A coroutine that blocks the event loop lets no other begin, so the
report follows when the loop has completed a pass; a plain function that computes lets no other plain one begin, so its
report follows when the gate has room. A coroutine that has ended by then needs no report: its outcome implies it.
"""

from __future__ import annotations

import struct
from time import perf_counter
from typing import TYPE_CHECKING

import trio

from ..._link import Wakeup
from ..._wire import Kind

if TYPE_CHECKING:
    from ..._link import Link
    from ._local_coro import LocalCoro
    from ._thread_gate import ThreadGate

LONGEST_HELD = 7

SERIAL = struct.Struct("!Q")
"""The bodies of BEGUN, REVOKE and RETURNED frames are lists of serial numbers of coroutines.

The host sends BEGUN when further ones would begin there at once. The starter sends REVOKE to take back those that have
not begun; RETURNED lists those of them that never will begin."""

PLAIN_DELAY = 0.001
"""Seconds before a plain function is reported that runs alone. Short ones end earlier, which saves the report."""


class BegunReports:
    """The coroutines of one kind that have begun and were not reported yet.

    Args:
        gate: The gate of plain functions, which are reported when it would let another one begin; None for async
            functions, which are reported when the event loop has completed a pass.
    """

    __slots__ = ("_begun", "_count", "_first", "_gate", "_runs", "_wakeup")

    def __init__(self, gate: ThreadGate | None = None) -> None:
        self._gate = gate
        self._begun: dict[LocalCoro, None] = {}
        self._count = 0
        self._first = 0.0
        self._wakeup = Wakeup()
        self._runs = False

    def begun(self, local: LocalCoro, now: float, nursery: trio.Nursery) -> None:
        """Note that a coroutine begins.

        Args:
            local: The coroutine.
            now: The time.
            nursery: The nursery of the task that sends the reports.
        """
        if not self._begun:
            self._first, self._count = now, 0
            self._wakeup.ring()
            if not self._runs:
                self._runs = True
                nursery.start_soon(self._run, nursery, name="report what has begun")
        self._begun[local] = None
        self._count += 1

    def ended(self, local: LocalCoro) -> None:
        """Note that a coroutine has ended."""
        self._begun.pop(local, None)

    async def _run(self, nursery: trio.Nursery) -> None:
        try:
            while True:
                await self._wakeup.wait()
                if self._gate is not None and self._gate.allowed == 1 and self._begun:
                    await trio.sleep(PLAIN_DELAY)
                held = perf_counter() - self._first
                if self._gate is not None and self._begun:
                    await self._gate.until_open(nursery)
                if self._begun:
                    self._report(hold_level(held / self._count))
        finally:
            self._runs = False

    def _report(self, held: int) -> None:
        begun, self._begun = self._begun, {}
        reports: dict[tuple[Link, int], bytearray] = {}
        for local in begun:
            assert local.link is not None  # noqa: S101 - its starter is another process
            level = held if local.waited < 0 else hold_level(local.waited)
            reports.setdefault((local.link, level), bytearray()).extend(SERIAL.pack(local.serial))
        for (link, level), body in reports.items():
            if not link.lost:
                link.send(Kind.BEGUN, 0, bytes(body), level)


def hold_level(seconds: float) -> int:
    """Return the level for the time that a start delayed the next one: 0 below 40 µs, 1 below 80 µs, 7 from 2.56 ms."""
    return min(int(seconds * 25_000).bit_length(), LONGEST_HELD)
