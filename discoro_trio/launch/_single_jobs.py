"""Launchers for batch systems where each node is a job of its own: PBS, LSF and Grid Engine."""

from __future__ import annotations

import re
from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from .._arguments import optional_text
from ._batch import BatchLauncher, JobScript

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ._batch import BatchOptions

_CLOCK = re.compile(r"(\d+):(\d+):(\d+)")


class SingleJobs(BatchLauncher):
    """Submits one job for each node; its script runs the node, and the node itself keeps the time.

    Args:
        given: The other options.
        queue: The queue.
        time: The time limit of a job, "hours:minutes:seconds" or a number of minutes.
        account: The account.
        memory: The memory of a node, as the batch system writes it.
    """

    _cpus_variable: ClassVar[str]
    """The variable with the number of processors of a job."""
    _job_variable: ClassVar[str]
    """The variable with the job's id."""

    def __init__(
        self,
        given: BatchOptions,
        *,
        queue: str | None,
        time: str | int | None,
        account: str | None,
        memory: str | None,
    ) -> None:
        self._seconds = None if time is None else seconds_of(time)
        super().__init__(given, limit=self._seconds)
        self._queue_name = optional_text("queue", queue)
        self._account = optional_text("account", account)
        self._memory = optional_text("memory", memory)

    @property
    def _clock(self) -> str | None:
        if self._seconds is None:
            return None
        minutes, seconds = divmod(self._seconds, 60)
        return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"

    @abstractmethod
    def _command(self, folder: Path) -> list[str]:
        """Return the command that submits a job, without further options."""

    @abstractmethod
    def _job(self, answer: str) -> str:
        """Return the job's id, from what the command has written."""

    def _groups(self, names: tuple[str, ...]) -> list[tuple[str, ...]]:
        return [(name,) for name in names]

    def _submission(self, folder: Path, names: Sequence[str]) -> JobScript:
        (name,) = names
        cpus, job = f'"${{{self._cpus_variable}:-0}}"', f'"${{{self._job_variable}}}"'
        script = f"#!/bin/sh\n{self._node_script(folder, name=name, cpus=cpus, job=job)}\n"
        return JobScript(command=[*self._command(folder), *self._options], script=script)

    def _jobs(self, answer: str, names: Sequence[str]) -> dict[str, str]:
        return dict.fromkeys(names, self._job(answer))


def seconds_of(time: str | int) -> int:
    """Return the seconds of a time limit.

    Raises:
        ValueError: It is neither "hours:minutes:seconds" nor a number of minutes.
    """
    if isinstance(time, int) and not isinstance(time, bool) and time > 0:
        return 60 * time
    match = _CLOCK.fullmatch(time) if isinstance(time, str) else None
    if match is None:
        message = f'time must be a text such as "2:00:00", or a number of minutes, not {time!r}'
        raise ValueError(message)
    hours, minutes, seconds = map(int, match.groups())
    return (60 * hours + minutes) * 60 + seconds
