"""A client of a running scheduler: ``python -m benchmarks.growth.client SCHEDULER SECONDS``.

It takes one server and prints a line, waits for one, and prints how many jobs a second it then runs.
"""

from __future__ import annotations

import sys
from functools import partial

import trio

import discoro_trio as discoro
from benchmarks._load import calls_per_second
from benchmarks._scale import IN_FLIGHT
from benchmarks.discoro._remote import increment


async def main(scheduler: str, seconds: float) -> None:
    """Be a client."""
    computation = discoro.Computation([increment], node_allocations=[discoro.NodeAllocation("*", cpus=1)])
    async with computation.schedule(scheduler):
        await computation.run_result(increment, 0)
        print("ready", flush=True)
        await trio.to_thread.run_sync(sys.stdin.readline)
        call = partial(computation.run_result, increment)
        print(await calls_per_second(call, in_flight=IN_FLIGHT, seconds=seconds), flush=True)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], float(sys.argv[2]))
