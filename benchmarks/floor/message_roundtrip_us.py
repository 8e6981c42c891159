"""A message there and its answer back, on a bare pair of sockets."""

from __future__ import annotations

import pickle

import trio

from benchmarks._load import median_seconds
from benchmarks._scale import MICROSECONDS
from benchmarks.floor._frames import frame, read_frames
from benchmarks.floor._workers import open_workers


def measure(seconds: float) -> float:
    """Return the median of one round trip in microseconds."""

    async def main() -> float:
        async with open_workers("echo", count=1) as [stream]:
            incoming = read_frames(stream)

            async def round_trip(number: int) -> None:
                await stream.send_all(frame(number, pickle.dumps(number, 5)))
                for _, body in await anext(incoming):
                    pickle.loads(body)

            return await median_seconds(round_trip, seconds=seconds) * MICROSECONDS

    return trio.run(main)
