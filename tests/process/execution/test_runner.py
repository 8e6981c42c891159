"""Coroutines that a peer starts: when they begin, and what of one another reaches."""

from __future__ import annotations

from contextvars import ContextVar

import trio

from discoro_trio._process import Ending
from discoro_trio._process.execution._definitions import NUMBER
from discoro_trio._process.execution._runner import ENDING
from discoro_trio._shipping import dumps, loads
from discoro_trio._wire import Kind

from ..peers import LANE, frame, open_peer

begun: list[int] = []
variable: ContextVar[int] = ContextVar("variable", default=0)


async def note(number: int) -> None:
    """Note that it has begun."""
    begun.append(number)


async def counted() -> int:
    """Count what a context variable says, after a pause that lets others go on."""
    variable.set(variable.get() + 1)
    await trio.lowlevel.checkpoint()
    return variable.get()


def start(number: int, *args: object) -> bytes:
    return frame(Kind.START, LANE | number, NUMBER.pack(1) + dumps(args)[0])


async def test_what_is_cancelled_before_it_begins_never_does_and_has_its_outcome() -> None:
    begun.clear()
    async with open_peer() as peer:
        cancel = frame(Kind.CANCEL, LANE | 1, b"too late")
        await peer.send(frame(Kind.DEFINE, 1, dumps(note)[0]) + start(1, 1) + cancel + start(2, 2))
        outcomes = {outcome.target & 0xFF: outcome for outcome in await peer.frames(Kind.OUTCOME, 2)}
    assert begun == [2]
    assert outcomes[1].flags == Ending.CANCELLED
    assert bytes(outcomes[1].body) == b"too late"
    assert outcomes[2].flags & ENDING == Ending.VALUE  # the other bits say how long it took


async def test_coroutines_have_context_variables_of_their_own() -> None:
    async with open_peer() as peer:
        starts = b"".join(start(number) for number in range(1, 51))
        await peer.send(frame(Kind.DEFINE, 1, dumps(counted)[0]) + starts)
        await peer.frames(Kind.OUTCOME, 50)
        await peer.send(b"".join(start(number) for number in range(51, 101)))
        assert [loads(outcome.body) for outcome in await peer.frames(Kind.OUTCOME, 50)] == [1] * 50
