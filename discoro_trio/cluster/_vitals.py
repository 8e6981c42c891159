"""What a node has and how much of it is in use, for pulses and status.

psutil is imported where the first sample is taken: it would cost every start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from . import _messages as messages

if TYPE_CHECKING:
    from pathlib import Path


class Vitals:
    """Measures this machine.

    Args:
        folder: The folder on whose file system the servers work.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def sample(self, blocked: dict[bytes, float]) -> messages.Pulse:
        """Measure now, in a thread; processor time is that since the last sample.

        Args:
            blocked: What else there is to tell.
        """
        return await trio.to_thread.run_sync(self._measure, blocked)

    def _measure(self, blocked: dict[bytes, float]) -> messages.Pulse:
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
        )
