"""Run CPU-bound jobs, at most one on a server, that exchange messages with this program while they compute.

Each job asks for its task by a message, tells how far it is by messages, and gives the number of primes that it found
as its result.
"""

from __future__ import annotations

import argparse
import sys

import trio

import discoro_trio as discoro

STEPS = 4  # messages of progress from each job


def is_prime(number: int) -> bool:
    """Tell whether a number is prime, slowly: this is to keep a processor busy."""
    return number > 1 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))


async def count_primes(client: discoro.Coro[None], steps: int, *, coro: discoro.Coro[int]) -> int:
    """Ask the client for a range, and count the primes in it. This runs at a server."""
    await client.send((coro, "ready"))
    low, high = await coro.receive()
    primes = 0
    for step in range(steps):
        part = range(low + (high - low) * step // steps, low + (high - low) * (step + 1) // steps)
        primes += sum(map(is_prime, part))
        await client.send((coro, f"{primes} primes below {part.stop}"))
    return primes


async def answer_jobs(client: discoro.Coro[None], tasks: list[tuple[int, int]]) -> None:
    """Give a task to each job that is ready, and show what the others say."""
    remaining = iter(tasks)
    async for rcoro, text in client:
        if text == "ready":
            low, high = next(remaining)
            print(f"{rcoro.location}: gets {low} to {high}")
            await rcoro.send((low, high))
        else:
            print(f"{rcoro.location}: {text}")


async def main(jobs: int, size: int, servers: int) -> None:
    """Count the primes below jobs × size."""
    tasks = [(number * size, (number + 1) * size) for number in range(jobs)]
    async with (
        discoro.open_cluster(servers=servers),
        discoro.Computation([count_primes, is_prime]).schedule() as computation,
        discoro.open_coro("client") as client,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(answer_jobs, client, tasks)
        # As many at a time as there are servers: the least loaded one, which gets the next, has none.
        async with computation.starmap(count_primes, [(client, STEPS)] * jobs, ordered=False, limit=servers) as results:
            total = sum([primes async for primes in results])
        nursery.cancel_scope.cancel()
        print(f"There are {total} primes below {jobs * size}.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=6, metavar="N", help="number of jobs (default: 6)")
    parser.add_argument("--size", type=int, default=40_000, metavar="N", help="numbers for each job (default: 40000)")
    parser.add_argument("--servers", type=int, default=2, metavar="N", help="server processes (default: 2)")
    options = parser.parse_args()
    status = 0
    try:
        trio.run(main, options.jobs, options.size, options.servers)
    except* KeyboardInterrupt:
        print("\nStopped; nothing is left running.", file=sys.stderr)
        status = 130
    sys.exit(status)
