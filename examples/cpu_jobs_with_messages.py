"""Keep every server busy with one CPU-bound job that exchanges messages with this program meanwhile.

The job at each server asks for a range of numbers by a message, tells how many primes it found in it, and asks for the
next, until there are no more. So a fast server does more of them than a slow one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import discoro_trio as discoro
from _command_line import cluster_of, make_parser, run

if TYPE_CHECKING:
    from _command_line import Cluster


def is_prime(number: int) -> bool:
    """Tell whether a number is prime, slowly: this is to keep a processor busy."""
    return number > 1 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))


async def count_primes(client: discoro.Coro[None], *, coro: discoro.Coro[int]) -> int:
    """Count the primes in each range that the client sends; the result is their sum. This runs at a server."""
    total = 0
    await client.send((coro, "is ready"))
    while (task := await coro.receive()) is not None:
        low, high = task
        primes = sum(map(is_prime, range(low, high)))
        total += primes
        await client.send((coro, f"found {primes} primes between {low} and {high}"))
    return total


async def hand_out(client: discoro.Coro[None], tasks: list[tuple[int, int]], jobs: int) -> None:
    """Answer each message with a task, and each job's last one with None."""
    remaining = iter(tasks)
    while jobs:
        rcoro, text = await client.receive()
        print(f"{rcoro.location} {text}")
        task = next(remaining, None)
        await rcoro.send(task)
        if task is None:
            jobs -= 1


async def main(count: int, size: int, cluster: Cluster) -> None:
    """Count the primes below count × size."""
    tasks = [(number * size, (number + 1) * size) for number in range(count)]
    async with (
        cluster,
        discoro.Computation([count_primes, is_prime]).schedule() as computation,
        discoro.open_coro("client") as client,
    ):
        rcoros = await computation.run_servers(count_primes, client)
        await hand_out(client, tasks, len(rcoros))
        total = sum([await rcoro.result() for rcoro in rcoros])
        print(f"There are {total} primes below {count * size}.")


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--tasks", type=int, default=10, metavar="N", help="number of ranges (default: 10)")
    parser.add_argument("--size", type=int, default=40_000, metavar="N", help="numbers in each (default: 40000)")
    options = parser.parse_args()
    run(main, options.tasks, options.size, cluster_of(options))
