"""Reports coroutines that have begun here, so that their starters send further ones.

A coroutine that blocks the event loop lets no other begin, so the report follows when the loop has completed a pass. A
coroutine that has ended by then needs no report: its outcome implies it.
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

LONGEST_HELD = 7

SERIAL = struct.Struct("!Q")
"""The bodies of BEGUN, REVOKE and RETURNED frames are lists of serial numbers of coroutines.

The host sends BEGUN when its event loop has completed a pass after they began: further ones begin there at once. The
starter sends REVOKE to take back those that have not begun; RETURNED lists those of them that never will begin."""

PLAIN_DELAY = 0.001
"""Seconds before plain functions that have begun are reported. Short ones end earlier, which saves the report."""


class BegunReports:
    """The coroutines of one kind that have begun and were not reported yet.

    Args:
        delay: Seconds to wait before a report; 0: until the event loop has completed a pass.
    """

    __slots__ = ("_begun", "_delay", "_first", "_runs", "_wakeup")

    def __init__(self, delay: float = 0.0) -> None:
        self._delay = delay
        self._begun: list[tuple[dict[int, LocalCoro], LocalCoro]] = []
        self._first = 0.0
        self._wakeup = Wakeup()
        self._runs = False

    def begun(self, running: dict[int, LocalCoro], local: LocalCoro, now: float, nursery: trio.Nursery) -> None:
        """Note that a coroutine begins.

        Args:
            running: The coroutines of its starter that run here; it is among them until it ends.
            local: The coroutine.
            now: The time.
            nursery: The nursery of the task that sends the reports.
        """
        self._begun.append((running, local))
        if len(self._begun) == 1:
            self._first = now
            self._wakeup.ring()
            if not self._runs:
                self._runs = True
                nursery.start_soon(self._run, name="report what has begun")

    def ended(self, local: LocalCoro) -> None:
        """Note that a coroutine has ended; cheap if it is the last one that has begun."""
        if self._begun and self._begun[-1][1] is local:
            self._begun.pop()

    async def _run(self) -> None:
        try:
            while True:
                await self._wakeup.wait()
                if self._delay and self._begun:
                    await trio.sleep(self._delay)
                begun, self._begun = self._begun, []
                if begun:
                    self._report(begun)
        finally:
            self._runs = False

    def _report(self, begun: list[tuple[dict[int, LocalCoro], LocalCoro]]) -> None:
        held = hold_level((perf_counter() - self._first) / len(begun))
        reports: dict[tuple[Link, int], bytearray] = {}
        for running, local in begun:
            if local.serial in running:
                assert local.link is not None  # noqa: S101 - its starter is another process
                level = held if local.waited < 0 else hold_level(local.waited)
                reports.setdefault((local.link, level), bytearray()).extend(SERIAL.pack(local.serial))
        for (link, level), body in reports.items():
            if not link.lost:
                link.send(Kind.BEGUN, 0, bytes(body), level)


def hold_level(seconds: float) -> int:
    """Return the level for the time that a start delayed the next one: 0 below 40 µs, 1 below 80 µs, 7 from 2.56 ms."""
    return min(int(seconds * 25_000).bit_length(), LONGEST_HELD)
