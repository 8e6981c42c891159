"""Messages one way to a coroutine on a server, one `send` each: tuples, dicts, lists and small dataclasses in turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.discoro._cluster import open_computation
from benchmarks.discoro._flood import BETWEEN_LOOKS, measure_flood
from benchmarks.discoro._remote import Point, count

if TYPE_CHECKING:
    import discoro_trio as discoro


async def send_typed(receiver: discoro.Coro[Any]) -> None:
    """Send messages of each type in turn."""
    for number in range(BETWEEN_LOOKS // 4):
        await receiver.send((number, "text"))
        await receiver.send({"number": number, "text": "text"})
        await receiver.send([number, 2.5, "text"])
        await receiver.send(Point(number, 2.5))


def measure(seconds: float) -> float:
    """Return messages per second, until the receiver has counted the last."""
    return measure_flood(open_computation(count, Point, servers=1), seconds, send_typed)
