"""64 MiB there and back over a bare socket, each side into memory taken once."""

from __future__ import annotations

import trio

from benchmarks._load import median_seconds
from benchmarks._scale import bulk_megabytes_per_second, bulk_payload
from benchmarks.floor._bulk import receive_exactly
from benchmarks.floor._workers import open_workers


def measure(seconds: float) -> float:
    """Return megabytes per second, both directions counted."""

    async def main() -> float:
        payload = bulk_payload()
        memory = memoryview(bytearray(len(payload)))
        async with open_workers("bulk", count=1) as [stream]:
            await stream.send_all(len(payload).to_bytes(8, "big"))

            async def round_trip(_: int) -> None:
                await stream.send_all(payload)
                await receive_exactly(stream, memory)

            return bulk_megabytes_per_second(await median_seconds(round_trip, seconds=seconds))

    return trio.run(main)
