"""Outlives the program that submitted jobs: `python -m discoro_trio.launch._guard SYSTEM FOLDER`.

When the program has ended, and the command that it may be submitting with, the standard input of this process is
closed. If the program could not end its jobs itself, because it was killed, this process cancels them and removes
their folder.
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
    # Imported here: it mostly only waits.
    from ._lsf import LsfQueue  # noqa: PLC0415
    from ._pbs import PbsQueue  # noqa: PLC0415
    from ._sge import SgeQueue  # noqa: PLC0415
    from ._slurm import SlurmQueue  # noqa: PLC0415

    queues: tuple[type[BatchQueue], ...] = (LsfQueue, PbsQueue, SgeQueue, SlurmQueue)
    return next(queue for queue in queues if queue.name == system)()


if __name__ == "__main__":
    main()
