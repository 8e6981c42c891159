"""How coroutines of a process ended since the last report: the bounded record that a server reports.

A job that returns costs one comparison. Failures are stored as text, as the objects themselves must not be kept alive.
Similar failures are grouped, and one traceback is kept for each group.
"""

from __future__ import annotations

import traceback
from time import time
from typing import TYPE_CHECKING

import msgspec

from ..._records import MutableRecord
from ..._shipping._errors_in_transit import MACHINERY
from ..._shown import arguments, one_line, shown
from ._outcome import Ending

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from ._local_coro import LocalCoro

MOST_RETURNED = 8
"""The number of returned coroutines in one report, besides those that were reported as running."""
MOST_FAILED = 200
"""The number of failed or cancelled coroutines in one report; further ones are only counted."""
MOST_GROUPS = 100
"""The number of kinds of failures that a process distinguishes; all further ones count as one kind."""
LONGEST_TRACE = 8_000
"""The largest number of characters of a traceback."""
SMALL_ARGUMENTS = 4 * 1024
"""The largest size of pickled arguments that are described, in bytes; `str()` of larger ones could take long."""

_VALUE = Ending.VALUE
_STATES = {Ending.VALUE: "done", Ending.ERROR: "failed", Ending.CANCELLED: "cancelled"}
_OTHERS = ("", "", "")


class EndedCoro(msgspec.Struct, frozen=True, array_like=True):
    """A coroutine that has ended."""

    serial: int
    name: str
    since: float
    """When it began, in seconds since the epoch."""
    at: float
    """When it ended, in seconds since the epoch."""
    state: str
    """`done`, `failed` or `cancelled`; `lost` or `closed` if it ended with its server."""
    error: str = ""
    """Its error, or the reason of its cancellation, in one line."""
    args: str = ""
    """Its arguments, as text; empty if they were too large."""
    group: int = 0
    """The number of its kind of failure at this process; 0 if it did not fail."""


class FailureGroup(msgspec.Struct, frozen=True, array_like=True):
    """Similar failures of one process: of one function, with one type of error, raised at one place."""

    number: int
    name: str
    """The name of the function, as in its coroutines."""
    kind: str
    """The type of the error."""
    place: str
    """Where it was raised: file and line."""
    count: int
    """The number of such failures since the process started."""
    at: float
    """When the last one was, in seconds since the epoch."""
    error: str
    """The message of the last one."""
    trace: str = ""
    """The traceback of the first one; empty if it was reported before."""


class _GrowingGroup(MutableRecord):
    number: int
    name: str
    kind: str
    place: str
    trace: str
    count: int = 0
    at: float = 0.0
    error: str = ""
    changed: bool = True
    told: bool = False

    def tell(self) -> FailureGroup:
        trace = "" if self.told else self.trace
        self.changed, self.told = False, True
        return FailureGroup(self.number, self.name, self.kind, self.place, self.count, self.at, self.error, trace)


class Endings:
    """The ends of coroutines that other processes started in this process.

    Attributes:
        failed: The number of coroutines that raised.
        cancelled: The number of coroutines that were cancelled.
        room: How many more returned coroutines are described before the next `take`.
        known: The serial numbers of coroutines whose end is described in any case.
    """

    def __init__(self) -> None:
        self.failed: int = 0
        self.cancelled: int = 0
        self.room: int = MOST_RETURNED
        self.known: set[int] = set()
        self._room_failed = MOST_FAILED
        self._ended: list[EndedCoro] = []
        self._groups: dict[tuple[str, str, str], _GrowingGroup] = {}

    def note(self, local: LocalCoro, ending: Ending, error: BaseException | None) -> None:
        """Note how a coroutine ended.

        Args:
            local: The coroutine.
            ending: The kind of its outcome.
            error: The error, if it raised one.
        """
        known = local.serial in self.known
        if ending is _VALUE:
            if self.room > 0 or known:
                self.room -= not known
                self._ended.append(EndedCoro(local.serial, local.name, local.since, time(), "done"))
            return
        at, group, text = time(), 0, ""
        if ending is Ending.CANCELLED:
            self.cancelled += 1
            text = one_line(local.reason or "", 200)
        else:
            self.failed += 1
            if error is not None:
                group, text = self._grouped(local.function or local.name, error, at)
        described = self._room_failed > 0
        self._room_failed -= 1
        if described or known:
            args = described_arguments(local) if described else ""
            self._ended.append(EndedCoro(local.serial, local.name, local.since, at, _STATES[ending], text, args, group))

    def _grouped(self, function: str, error: BaseException, at: float) -> tuple[int, str]:
        text = error_line(error)
        key = (function, _kind(error), _place(error.__traceback__))
        group = self._groups.get(key)
        if group is None:
            if len(self._groups) >= MOST_GROUPS:
                key = _OTHERS
                group = self._groups.get(key)
            if group is None:
                group = self._groups[key] = _GrowingGroup(len(self._groups) + 1, *key, trace=trace_of(error))
        group.count += 1
        group.at, group.error, group.changed = at, text, True
        return group.number, text

    def take(self) -> tuple[list[EndedCoro], list[FailureGroup]]:
        """Return the ends since the last call, and the groups of failures that have grown since then."""
        ended, self._ended = self._ended, []
        self.room, self._room_failed = MOST_RETURNED, MOST_FAILED
        return ended, [group.tell() for group in self._groups.values() if group.changed]


def described_arguments(local: LocalCoro) -> str:
    """Return the arguments of a coroutine as text; empty if they are too large."""
    return "" if local.given is None else arguments(*local.given)


def error_line(error: BaseException) -> str:
    """Return an error in one line: its type and message."""
    return one_line(f"{_kind(error)}: {shown(error)}", 300)


def trace_of(error: BaseException) -> str:
    """Return a traceback as text; only its end if it is long."""
    try:
        text = "".join(traceback.format_exception(type(error), error, _of_users(error.__traceback__)))
    except Exception as raised:  # noqa: BLE001 - it is the error's own `__str__`, or a broken traceback
        return f"the traceback could not be formatted: {type(raised).__name__}"
    return text if len(text) <= LONGEST_TRACE else f"…\n{text[-LONGEST_TRACE:]}"


def _of_users(trace: TracebackType | None) -> TracebackType | None:
    """Remove the frames of this package and Trio above users' frames."""
    below = trace
    while below is not None and below.tb_frame.f_code.co_filename.startswith(MACHINERY):
        below = below.tb_next
    return below or trace


def _kind(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _place(trace: TracebackType | None) -> str:
    """Return the file and the line where an error was raised."""
    if trace is None:
        return ""
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"


def merged_failures(older: Sequence[FailureGroup], newer: Sequence[FailureGroup]) -> list[FailureGroup]:
    """Merge two reports of failures of one process."""
    groups = {group.number: group for group in older}
    for group in newer:
        before = groups.get(group.number)
        trace = group.trace or (before.trace if before is not None else "")
        groups[group.number] = msgspec.structs.replace(group, trace=trace)
    return list(groups.values())
