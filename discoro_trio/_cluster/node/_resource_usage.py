"""Measures the resources of a node and its servers, for heartbeats and status.

psutil is imported with the first sample, because importing it would slow down every start.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import attrs
import trio

from .. import _messages as messages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    import psutil

    from ._server_slot import NodeServer


logger = logging.getLogger(__name__)


@attrs.frozen
class _Machine:
    """The resources of this machine and their use, as `messages.Pulse` reports them."""

    cpus: int = 1
    cpu_percent: float = 0.0
    memory_total: int = 0
    memory_available: int = 0
    disk_total: int = 0
    disk_free: int = 0


class Vitals:
    """Measures this machine and the processes of its servers.

    Args:
        folder: The folder on whose file system the servers work.
        servers: Returns the present servers.
    """

    def __init__(self, folder: Path, servers: Callable[[], Iterable[NodeServer]]) -> None:
        self._folder = folder
        self._servers = servers
        self._processes: dict[bytes, psutil.Process] = {}
        self._turn = trio.Lock()
        self._machine = _Machine()
        self._said = ""

    async def sample(self, blocked: dict[bytes, messages.Blocked]) -> messages.Pulse:
        """Measure now, in a thread; processor use is measured since the last sample.

        Args:
            blocked: The servers that do not answer, for the same message.
        """
        # Imported here and not in the thread: other tasks may iterate over the modules, which must not change then.
        import psutil  # noqa: F401, PLC0415 - see above

        pids = {server.process_id: server.process.pid for server in self._servers()}
        async with self._turn:  # each scheduler has heartbeats of its own
            return await trio.to_thread.run_sync(self._measure, blocked, pids)

    def _measure(self, blocked: dict[bytes, messages.Blocked], pids: dict[bytes, int]) -> messages.Pulse:
        import psutil  # noqa: PLC0415 - see above

        try:
            memory, disk = psutil.virtual_memory(), psutil.disk_usage(str(self._folder))
            cpus, busy = psutil.cpu_count() or 1, psutil.cpu_percent()
            self._machine = _Machine(cpus, busy, memory.total, memory.available, disk.total, disk.free)
        except (psutil.Error, OSError) as error:  # no free descriptor, or the folder is gone
            self._say_once(error)
        one = self._machine
        return messages.Pulse(
            one.cpus,
            one.cpu_percent,
            one.memory_total,
            one.memory_available,
            one.disk_total,
            one.disk_free,
            blocked,
            self._measure_servers(pids),
        )

    def _say_once(self, error: Exception) -> None:
        if str(error) != self._said:
            self._said = str(error)
            logger.warning("the use of this machine could not be measured; keeping the last figures: %s", error)

    def _measure_servers(self, pids: dict[bytes, int]) -> dict[bytes, tuple[int, float, int]]:
        import psutil  # noqa: PLC0415 - see above

        before, self._processes = self._processes, {}
        used = {}
        for server_id, pid in pids.items():
            try:
                process = self._processes[server_id] = before.get(server_id) or psutil.Process(pid)
                with process.oneshot():
                    used[server_id] = pid, process.cpu_percent(), process.memory_info().rss
            except (psutil.Error, OSError):
                continue  # it has just ended, or no file can be opened at the moment
        return used
