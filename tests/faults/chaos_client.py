"""A client of the chaos runs: maps, nurseries, messages and channels, again and again, each outcome checked.

It prints one JSON object a line: `ready`, `round`, `wrong` and `end`. It stops when its standard input says so.

    python chaos_client.py SEED
"""

from __future__ import annotations

import json
import logging
import os
import random
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

import discoro_trio as discoro

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

PULSE = 1.0
ROUND_SECONDS = 12.0
LONGEST = 90.0
"""Seconds that one operation may take while faults happen: after that it counts as waiting for ever."""
ONE_SERVER = [discoro.NodeAllocation(cpus=1)]


async def square(number: int, seconds: float) -> int:
    await trio.sleep(seconds)
    return number * number


def square_in_thread(number: int, seconds: float) -> int:
    time.sleep(seconds)
    return number * number


async def raises(number: int) -> None:
    raise KeyError(number)


async def collect(*, coro: discoro.Coro[Any]) -> list[int]:
    """Return the numbers that arrive before a None."""
    numbers = []
    while (number := await coro.receive()) is not None:
        numbers.append(number)
    return numbers


async def listen(name: str) -> list[int]:
    """Return the numbers of a channel until a None."""
    channel = await discoro.locate_channel(name)
    numbers = []
    async with channel.subscribe() as messages:
        async for number in messages:
            if number is None:
                break
            numbers.append(number)
    return numbers


async def measure(data: bytes, shared: discoro.Shared[bytes]) -> tuple[bytes, int]:
    """Return large data, and the length of a shared value."""
    return data[::-1], len(shared.value)


async def call(name: str) -> int:
    """Call a function of the client."""
    rci = await discoro.locate_rci(name)
    value: int = await rci.run(6, 0.01)
    return value


COMPONENTS = [measure, call, square, square_in_thread, raises, collect, listen]
LOST = (discoro.ServerLost, discoro.PeerDisconnected, discoro.MailboxClosed)


def say(event: str, **fields: Any) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)  # noqa: T201


class Client:
    """What one client does, and the outcomes that it has counted."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.outcomes: Counter[str] = Counter()
        self.stopping = False
        self.number = 0

    def wrong(self, what: str) -> None:
        say("wrong", what=what)
        self.outcomes["wrong"] += 1

    def check(self, what: str, value: object, expected: object) -> None:
        """Compare a value."""
        if value != expected:
            self.wrong(f"{what}: {value!r:.300} where {expected!r:.300} was expected")

    async def repeat(
        self, operation: Callable[[discoro.Computation], Awaitable[None]], computation: discoro.Computation
    ) -> None:
        """Do one operation again and again until the round ends."""
        until = trio.current_time() + ROUND_SECONDS
        name = operation.__name__
        while trio.current_time() < until and not self.stopping:
            with trio.move_on_after(LONGEST) as scope:
                try:
                    await operation(computation)
                    self.outcomes[f"{name} ok"] += 1
                except* LOST as group:
                    for error in leaves(group):
                        self.outcomes[f"{name} {type(error).__name__}"] += 1
                except* discoro.DiscoroError as group:
                    self.wrong(f"{name} raised {leaves(group)!r:.500}")
            if scope.cancelled_caught:
                self.wrong(f"{name} did not end within {LONGEST:g} s")

    async def map(self, computation: discoro.Computation) -> None:
        jobs = [(number, self.rng.choice([0, 0.01, 0.05, 0.3])) for number in range(self.rng.randint(1, 60))]
        fn = self.rng.choice([square, square_in_thread])
        async with computation.starmap(fn, jobs, retries=1000) as results:
            values = [value async for value in results]
        self.check("map", values, [number * number for number, _ in jobs])

    async def nursery(self, computation: discoro.Computation) -> None:
        async with computation.open_nursery() as nursery:
            for number in range(self.rng.randint(1, 10)):
                nursery.start_soon(square, number, self.rng.choice([0, 0.1, 1.0]))
            coro = await nursery.run(square, 7, 0.2)
            self.check("nursery", await coro.result(), 49)

    async def single(self, computation: discoro.Computation) -> None:
        self.check("run_result", await computation.run_result(square, 5, self.rng.choice([0, 0.5])), 25)
        try:
            await computation.run_result(raises, 8)
            self.wrong("an error of a job was not raised")
        except KeyError as error:
            self.check("error", error.args, (8,))

    async def cancelled(self, computation: discoro.Computation) -> None:
        with trio.move_on_after(self.rng.uniform(0, 0.5)):
            await computation.run_result(square, 1, 3600)
            self.wrong("a job of an hour has ended")

    async def messages(self, computation: discoro.Computation) -> None:
        coro = await computation.run(collect)
        count = self.rng.choice([1, 100, 3000])
        for number in range(count):
            await coro.send(number)
        await coro.deliver(None)
        self.check("messages", await coro.result(), list(range(count)))

    async def channel(self, computation: discoro.Computation) -> None:
        self.number += 1
        name = f"channel {os.getpid()} {self.number}"
        async with discoro.open_channel(name) as channel:
            coro = await computation.run(listen, name)
            with trio.move_on_after(30) as scope:
                await channel.deliver(-1, n=1)
                for number in range(100):
                    await channel.send(number)
                await channel.send(None)
                numbers = await coro.result()
                self.check("channel", numbers, [*range(-1, 100)][-len(numbers) :])
            if scope.cancelled_caught:  # the subscriber is lost, or its subscription
                self.outcomes["channel without a subscriber"] += 1
                await coro.terminate(grace_period=0)

    async def large(self, computation: discoro.Computation) -> None:
        data = self.rng.randbytes(self.rng.choice([1000, 300_000, 2_000_000]))
        shared = await computation.share(self.rng.randbytes(1_500_000))
        jobs = [(data, shared)] * self.rng.randint(1, 8)
        async with computation.starmap(measure, jobs, retries=1000) as results:
            values = [value async for value in results]
        if values != [(data[::-1], 1_500_000)] * len(jobs):
            self.wrong("large data was damaged")
        await shared.release()

    async def rci(self, computation: discoro.Computation) -> None:
        self.number += 1
        rci = discoro.RCI(square, name=f"rci {os.getpid()} {self.number}")
        async with rci.register():
            self.check("RCI", await computation.run_result(call, rci.name), 36)

    async def round(self) -> None:
        """Run one computation, with all operations at once."""
        operations = [
            self.large,
            self.rci,
            self.map,
            self.nursery,
            self.single,
            self.cancelled,
            self.messages,
            self.channel,
        ]
        computation = discoro.Computation(
            COMPONENTS, pulse_interval=PULSE, node_allocations=ONE_SERVER, grace_period=2.0, forward_output=False
        )
        async with computation.schedule():
            began = trio.current_time()
            async with trio.open_nursery() as nursery:
                for operation in operations:
                    nursery.start_soon(self.repeat, operation, computation)
            leaving = trio.current_time()
        left = trio.current_time() - leaving
        if left > 30:
            self.wrong(f"leaving the computation took {left:.1f} s")
        say("round", seconds=round(trio.current_time() - began, 1), left=round(left, 2), **footprint())

    async def run(self) -> None:
        discoro.config.MinPulseInterval = PULSE
        discoro.config.MsgTimeout = 5.0
        async with discoro.open_endpoint(ip_addr=""), trio.open_nursery() as nursery:
            nursery.start_soon(self._read_stop)
            say("ready", **footprint())
            while not self.stopping:
                with trio.move_on_after(3 * LONGEST) as scope:
                    try:
                        await self.round()
                    except* discoro.SchedulerNotFound:
                        self.outcomes["no scheduler"] += 1
                    except* LOST as group:  # coroutines whose ends no operation has waited for
                        self.outcomes["unheard losses"] += len(leaves(group))
                    except* discoro.DiscoroError as group:
                        self.wrong(f"the computation raised {leaves(group)!r:.500}")
                if scope.cancelled_caught:
                    self.wrong("a computation waited for its turn, or to end, for too long")
            nursery.cancel_scope.cancel()
        say("end", outcomes=self.outcomes, **footprint())

    async def _read_stop(self) -> None:
        await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
        self.stopping = True


def leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    """Give the errors of a group and of those in it."""
    found: list[BaseException] = []
    for error in group.exceptions:
        found += leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


def footprint() -> dict[str, int]:
    """Give what this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {"descriptors": len(os.listdir("/proc/self/fd")), "MiB": pages * 4096 >> 20}  # noqa: PTH208


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    trio.run(Client(int(sys.argv[1])).run)
