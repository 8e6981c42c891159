"""Counts the steps of the interpreter, which depend neither on the load nor on the speed of the machine."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Self

import pytest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import FrameType

REPEATED = 6
SAME_STEPS = pytest.mark.skipif(
    sys.version_info[:2] != (3, 11), reason="the numbers of steps differ between versions of Python"
)


class Steps:
    """Counts the steps of the interpreter in this thread while the block lasts."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> Self:
        self._before = sys.gettrace()
        sys.settrace(self._called)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def _called(self, frame: FrameType, event: str, _: object) -> Any:
        if event == "opcode":
            self.count += 1
        else:
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._called


async def least_steps(run: Callable[[], Awaitable[None]]) -> int:
    """Return the steps of the best of several runs: a busy machine delivers data in smaller batches."""
    counts = []
    for _ in range(REPEATED):
        with Steps() as steps:
            await run()
        counts.append(steps.count)
    return min(counts)
