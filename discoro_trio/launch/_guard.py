"""Outlives the program that submitted jobs: `python -m discoro_trio.launch._guard SYSTEM FOLDER`.

When the program has ended, its standard input is closed. If the program could not end its jobs itself, because it was
killed, this process cancels them and removes their folder.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from ._queue import BatchQueue, end_run

GUARD_MODULE = ("-P", "-m", "discoro_trio.launch._guard")
_LONGEST = 3600.0
"""Seconds for which the end of the jobs is tried, if the batch system does not answer."""


def main() -> None:
    """Wait for the end of the program; then end its jobs."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # they may be sent to all processes of the program
    system, folder = sys.argv[1], Path(sys.argv[2])
    sys.stdin.read()
    if folder.exists():
        end_run(_queue(system), folder, seconds=_LONGEST)


def _queue(system: str) -> BatchQueue:
    from ._slurm import SlurmQueue  # noqa: PLC0415 - not while it only waits

    return {queue.name: queue for queue in (SlurmQueue,)}[system]()


if __name__ == "__main__":
    main()
