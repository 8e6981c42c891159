"""Kills processes at random moments; a seed decides the order.

The caller chooses the candidates; `server_pids` returns the servers of a cluster on this machine.
"""

from __future__ import annotations

import os
import random
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import psutil
import trio

from .._scopes import open_background

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

_SERVER = "discoro-server"


def server_pids(parent: int | None = None) -> list[int]:
    """Return the ids of the server processes below a process.

    Args:
        parent: The id of a process that runs a node; by default this process, as with `open_cluster`.
    """
    found: list[int] = []
    for child in psutil.Process(parent).children(recursive=True):
        try:
            if child.name() == _SERVER:
                found.append(child.pid)
        except psutil.Error:
            continue  # it has just ended
    return sorted(found)


class ProcessKiller:
    """Kills processes while its block lasts.

    Attributes:
        kills: The number of processes that it has killed.
    """

    def __init__(self, victims: Callable[[], Sequence[int]], *, seed: int, most: int | None, pause: float) -> None:
        self.kills: int = 0
        self._victims = victims
        self._random = random.Random(seed)  # noqa: S311 - chosen to be repeatable
        self._most = most
        self._pause = pause
        self._moved = trio.lowlevel.ParkingLot()

    async def until(self, kills: int) -> None:
        """Wait until it has killed `kills` processes, or reached its limit. Cancelling the wait does not stop it.

        Args:
            kills: The number of processes.
        """
        while self.kills < kills and not self._through:
            await self._moved.park()

    @property
    def _through(self) -> bool:
        return self._most is not None and self.kills >= self._most

    async def run(self) -> None:
        """Kill processes until the limit is reached; `open_process_killer` starts this."""
        while not self._through:
            await trio.sleep(self._random.uniform(0, 2 * self._pause))
            victims = self._victims()
            if victims and self._kill(self._random.choice(victims)):
                self.kills += 1
                self._moved.unpark_all()

    def _kill(self, pid: int) -> bool:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True


@asynccontextmanager
async def open_process_killer(
    victims: Callable[[], Sequence[int]] = server_pids, *, seed: int, most: int | None = None, pause: float = 0.1
) -> AsyncIterator[ProcessKiller]:
    """Kill processes with SIGKILL while the block lasts.

    Args:
        victims: Returns the ids of the candidates for the next kill; by default the servers of this process.
        seed: Decides the pauses and the choice among the candidates.
        most: The number of processes to kill; None for no limit.
        pause: The average number of seconds between two kills.

    Yields:
        The killer, which counts its kills.

    Leaving the block stops it, but does not wait for killed processes.
    """
    async with open_background() as nursery:
        killer = ProcessKiller(victims, seed=seed, most=most, pause=pause)
        nursery.start_soon(killer.run, name="process killer")
        yield killer
