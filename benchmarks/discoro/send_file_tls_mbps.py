"""A file of 64 MiB to a server under TLS."""

from __future__ import annotations

import tempfile

import trio

import discoro_trio as discoro
from benchmarks._load import median_seconds
from benchmarks._scale import bulk_payload, one_way_megabytes_per_second
from benchmarks.discoro._distant import open_distant_computation
from benchmarks.discoro._remote import suspended


def measure(seconds: float) -> float:
    """Return megabytes per second, until the file is in the server's working folder."""

    async def main() -> float:
        with tempfile.TemporaryDirectory() as folder:
            file = trio.Path(folder, "file")
            await file.write_bytes(bulk_payload())
            async with open_distant_computation(suspended) as computation:
                server = await computation.run(suspended)

                async def send(_: int) -> None:
                    await discoro.send_file(server.location, file, overwrite=True)

                median = await median_seconds(send, seconds=seconds)
                await server.terminate()
                return one_way_megabytes_per_second(median)

    return trio.run(main)
