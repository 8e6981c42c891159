"""What a node and its servers have and how much of it is in use, for pulses and status.

psutil is imported where the first sample is taken: it would cost every start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from .. import _messages as messages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    import psutil

    from ._server_slot import NodeServer


class Vitals:
    """Measures this machine and the processes of its servers.

    Args:
        folder: The folder on whose file system the servers work.
        servers: Gives those that there are.
    """

    def __init__(self, folder: Path, servers: Callable[[], Iterable[NodeServer]]) -> None:
        self._folder = folder
        self._servers = servers
        self._processes: dict[bytes, psutil.Process] = {}
        self._turn = trio.Lock()

    async def sample(self, blocked: dict[bytes, messages.Blocked]) -> messages.Pulse:
        """Measure now, in a thread; processor time is that since the last sample.

        Args:
            blocked: What else there is to tell.
        """
        # Here and not in the thread: what else goes on may look through the modules, and must not find them changing.
        import psutil  # noqa: F401, PLC0415 - see above

        pids = {server.process_id: server.process.pid for server in self._servers()}
        async with self._turn:  # each scheduler has pulses of its own
            return await trio.to_thread.run_sync(self._measure, blocked, pids)

    def _measure(self, blocked: dict[bytes, messages.Blocked], pids: dict[bytes, int]) -> messages.Pulse:
        import psutil  # noqa: PLC0415 - see above

        memory, disk = psutil.virtual_memory(), psutil.disk_usage(str(self._folder))
        return messages.Pulse(
            psutil.cpu_count() or 1,
            psutil.cpu_percent(),
            memory.total,
            memory.available,
            disk.total,
            disk.free,
            blocked,
            self._measure_servers(pids),
        )

    def _measure_servers(self, pids: dict[bytes, int]) -> dict[bytes, tuple[int, float, int]]:
        import psutil  # noqa: PLC0415 - see above

        before, self._processes = self._processes, {}
        used = {}
        for server_id, pid in pids.items():
            try:
                process = self._processes[server_id] = before.get(server_id) or psutil.Process(pid)
                with process.oneshot():
                    used[server_id] = pid, process.cpu_percent(), process.memory_info().rss
            except psutil.Error:
                continue  # it has just ended, and its server slot hears of that
        return used
