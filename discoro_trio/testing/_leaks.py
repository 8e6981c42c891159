"""Checks that a block leaves no task, no descriptor, no child process and no folder of this process behind.

Whatever exists before the block is ignored.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import psutil
import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_SETTLE = 5.0
"""Seconds to wait for tasks and processes that are ending."""


@attrs.frozen
class _InUse:
    """The resources of this process at one moment."""

    tasks: int
    descriptors: int
    processes: frozenset[int]
    folders: frozenset[str]

    def beyond(self, before: _InUse) -> list[str]:
        """Describe the resources that did not exist before."""
        left: list[str] = []
        if self.tasks > before.tasks:
            left.append(f"{self.tasks - before.tasks} tasks")
        if self.descriptors > before.descriptors:
            left.append(f"{self.descriptors - before.descriptors} descriptors")
        if self.processes - before.processes:
            left.append(f"the processes {sorted(self.processes - before.processes)}")
        if self.folders - before.folders:
            left.append(f"the folders {sorted(self.folders - before.folders)}")
        return left


def _look() -> _InUse:
    return _InUse(
        tasks=trio.lowlevel.current_statistics().tasks_living,
        descriptors=psutil.Process().num_fds(),
        processes=frozenset(child.pid for child in psutil.Process().children(recursive=True)),
        folders=frozenset(path.name for path in Path(tempfile.gettempdir()).glob(f"discoro-{os.getpid()}-*")),
    )


@asynccontextmanager
async def check_leaks() -> AsyncIterator[None]:
    """Check that the block leaves nothing behind.

    Raises:
        AssertionError: Something is left after a few seconds; the message lists it.
    """
    # The first worker thread opens descriptors that stay open.
    await trio.to_thread.run_sync(os.getpid)
    before = _look()
    yield
    left = _look().beyond(before)
    with trio.move_on_after(_SETTLE):
        while left:
            await trio.sleep(_SETTLE / 100)
            left = _look().beyond(before)
    if left:
        message = f"the block left behind: {', '.join(left)}"
        raise AssertionError(message)
