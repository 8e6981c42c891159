"""One point of a series, in a process of its own: ``python -m benchmarks.growth.point SERIES NUMBER``.

Standard output gets one JSON object with the values of the point, and nothing else.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

import trio

import discoro_trio as discoro
from benchmarks._load import calls_per_second, median_seconds
from benchmarks._memory import megabytes_together
from benchmarks._scale import IN_FLIGHT
from benchmarks._systems import ROOT
from benchmarks.discoro._cluster import open_computation
from benchmarks.discoro._distant import open_distant_computation
from benchmarks.discoro._remote import echo, increment, resident_megabytes, subscribe, suspended
from benchmarks.discoro._round_trips import median_round_trip

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

SECONDS = 0.4
"""How long a rate or a median is measured."""
STARTERS = 100
"""Tasks that start coroutines at once."""
CHANNEL = "growth"
LEAST_MEGABYTES = 0.01
"""Fewer are not seen in the resident memory, which grows by pages."""
MESSAGES = 200
"""Messages to subscribers at least."""


async def servers(number: int) -> dict[str, float]:
    """Start so many servers and use them all."""
    begun = perf_counter()
    async with open_computation(increment, servers=number) as computation:
        await computation.wait_for_servers(number)
        started = perf_counter() - begun

        async def each(_: int) -> None:
            for coro in await computation.run_servers(increment, 1):
                await coro.result()

        await each(0)
        each_seconds = await median_seconds(each, seconds=SECONDS)
        call = partial(computation.run_result, increment)
        rate = await calls_per_second(call, in_flight=IN_FLIGHT, seconds=SECONDS)
        memory = megabytes_together()
    return {"start_s": started, "each_s": each_seconds, "jobs_per_s": rate, "memory_MB": memory}


async def clients(number: int) -> dict[str, float]:
    """Run so many clients at once, each with one server of the same node."""
    secret = os.urandom(32).hex()
    async with discoro.open_cluster(servers=number, secret=secret, ip_addr="127.0.0.1") as scheduler:
        command = [sys.executable, "-m", "benchmarks.growth.client", str(scheduler.location), str(SECONDS)]
        environment = {**os.environ, "DISCORO_SECRET": secret}
        processes = [
            await trio.lowlevel.open_process(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, env=environment
            )
            for _ in range(number)
        ]
        rates: list[float] = []
        for process in processes:
            await _line(process)  # it has its server
        async with trio.open_nursery() as nursery:
            for process in processes:
                nursery.start_soon(_rate, process, rates)
        for process in processes:
            await process.wait()
    return {"jobs_per_s": sum(rates)}


async def _rate(process: trio.Process, rates: list[float]) -> None:
    """Have a client begin, and note what it reports."""
    assert process.stdin is not None
    await process.stdin.send_all(b"\n")
    rates.append(float(await _line(process)))


async def _line(process: trio.Process) -> bytes | bytearray:
    """Read what a client has written, which is a line at a time."""
    assert process.stdout is not None
    return await process.stdout.receive_some()


async def bytes_(number: int) -> dict[str, float]:
    """Send a message of so many bytes there and back."""
    payload = os.urandom(min(number, 1 << 20)) * max(1, number >> 20)
    return {
        "local_s": await median_round_trip(open_computation(echo, servers=1), lambda _: payload, seconds=SECONDS),
        "tls_s": await median_round_trip(open_distant_computation(echo), lambda _: payload, seconds=SECONDS),
    }


async def coroutines(number: int) -> dict[str, float]:
    """Start so many coroutines that wait."""
    async with open_computation(suspended, resident_megabytes, servers=1) as computation:
        idle = await computation.run_result(resident_megabytes)
        begun = perf_counter()
        starters = min(STARTERS, number)
        async with trio.open_nursery() as nursery:
            for starter in range(starters):
                nursery.start_soon(_start, computation, number // starters + (starter < number % starters))
        started = perf_counter() - begun
        grown = await computation.run_result(resident_megabytes) - idle
    return {"start_s": started, "memory_MB": max(grown, LEAST_MEGABYTES)}


async def _start(computation: discoro.Computation, number: int) -> None:
    for _ in range(number):
        await computation.run(suspended)


async def subscribers(number: int) -> dict[str, float]:
    """Publish to so many subscribers."""
    async with (
        open_computation(subscribe, servers=2) as computation,
        discoro.open_channel(CHANNEL) as channel,
    ):
        places = await computation.servers()
        for one in range(number):
            await computation.run_at(places[one % len(places)], subscribe, CHANNEL)
        await channel.deliver(0, n=number)
        published, begun = 0, perf_counter()
        while published < MESSAGES or perf_counter() - begun < SECONDS:
            await channel.send(published)
            published += 1
        await channel.deliver(0)
        message = (perf_counter() - begun) / published
    return {"message_s": message, "arrivals_per_s": number / message}


MEASURES: dict[str, Callable[[int], Awaitable[dict[str, float]]]] = {
    "servers": servers,
    "clients": clients,
    "bytes": bytes_,
    "coroutines": coroutines,
    "subscribers": subscribers,
}


def main(series: str, number: str) -> None:
    """Measure, and print the values. SIGTERM ends it as an exit would, with its cleaning up."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with os.fdopen(os.dup(1), "w") as output:
        os.dup2(2, 1)
        print(json.dumps(trio.run(MEASURES[series], int(number))), file=output)


if __name__ == "__main__":
    main(*sys.argv[1:])
