"""A server and its node watch each other: each ends what the other one cannot answer for any more.

This module owns the two clocks. What ends is with the seat and the server.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from .._errors import DiscoroError
from ..link import Done
from ..wire import Control
from ._facts import PULSES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..link import Link
    from ._seat import Server

logger = logging.getLogger(__name__)


class NodePulse(Control, frozen=True):
    """Are you there? A server asks its node; answered by `Done`."""


async def answer_node_pulse(_link: Link, _question: NodePulse) -> Done:
    """Say that the node is there."""
    return Done()


class NodeWatch:
    """Ends the server that this process is when its node is silent.

    What counts is the number of questions without an answer, not the time: a server that was stopped has asked none
    meanwhile, and reads the answers that wait before it judges.

    Args:
        link: The connection to the node.
        interval: Gives the seconds between questions.
    """

    def __init__(self, link: Link, interval: Callable[[], float]) -> None:
        self._link = link
        self._interval = interval
        self.missed = 0

    async def run(self) -> None:
        """Ask until cancelled; end the process when the node was silent for too long."""
        async with trio.open_nursery() as nursery:
            while self.missed < PULSES:
                self.missed += 1
                nursery.start_soon(self._ask)
                await trio.sleep(self._interval())
            # The node's side of the connection may be open for ever, and nobody answers for this server any more.
            os._exit(1)

    async def _ask(self) -> None:
        try:
            await self._link.request(NodePulse(), timeout=self._interval() * PULSES)
        except DiscoroError:
            return
        self.missed = 0


class StopWatch:
    """Ends servers that somebody has stopped, and not set going again."""

    def __init__(self, interval: Callable[[], float]) -> None:
        self._interval = interval
        self._stopped: dict[bytes, int] = {}

    async def run(self, servers: Callable[[], Iterable[Server]]) -> None:
        """Look at the servers until cancelled."""
        while True:
            await trio.sleep(self._interval())
            self.look(servers())

    def look(self, servers: Iterable[Server]) -> None:
        """Count for how many pulses each was found stopped, and end those that were for too many."""
        counts = {}
        for server in servers:
            if is_stopped(server.process.pid):
                count = counts[server.process_id] = self._stopped.get(server.process_id, 0) + 1
                if count >= PULSES:
                    logger.warning(
                        "%s is stopped for %d pulses; another one takes its place", server.link.peer_name, count
                    )
                    server.kill("it was stopped")
        self._stopped = counts


def is_stopped(pid: int) -> bool:
    """Tell whether a process is stopped, by a signal or a debugger; False where the system does not say."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] in {"T", "t"}
