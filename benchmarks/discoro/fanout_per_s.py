"""Messages over one channel to 100 subscribers on two servers; each arrival counts."""

from __future__ import annotations

from time import perf_counter

import trio

import discoro_trio as discoro
from benchmarks._scale import WARM_UP
from benchmarks.discoro._cluster import open_computation
from benchmarks.discoro._remote import subscribe

SUBSCRIBERS = 100
NAME = "fanout"

BETWEEN_LOOKS = 16
"""Messages between two looks at the clock."""


def measure(seconds: float) -> float:
    """Return arrivals per second, until all subscribers have the last message."""

    async def main() -> float:
        async with (
            open_computation(subscribe, servers=2) as computation,
            discoro.open_channel(NAME) as channel,
        ):
            places = [server.location for server in await computation.run_servers(subscribe, None)]
            for number in range(SUBSCRIBERS):
                await computation.run_at(places[number % len(places)], subscribe, NAME)
            await channel.deliver(0, n=SUBSCRIBERS)
            await _publish(channel, seconds * WARM_UP)
            begun = perf_counter()
            published = await _publish(channel, seconds)
            return published * SUBSCRIBERS / (perf_counter() - begun)

    return trio.run(main)


async def _publish(channel: discoro.Channel, seconds: float) -> int:
    deadline = perf_counter() + seconds
    published = 1
    while perf_counter() < deadline:
        for number in range(BETWEEN_LOOKS):
            await channel.send(number)
        published += BETWEEN_LOOKS
    await channel.deliver(0)
    return published
