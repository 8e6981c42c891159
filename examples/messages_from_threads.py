"""Run plain functions in threads of the servers, and have them send messages to this program.

A thread cannot await. `trio.from_thread.run` has the server's Trio do that for it, and the thread waits meanwhile.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import trio

import discoro_trio as discoro
from _command_line import cluster_of, make_parser, run

if TYPE_CHECKING:
    from _command_line import Cluster

ROUNDS = 4  # messages of each job


def digest(client: discoro.Coro[None], password: str, rounds: int) -> str:
    """Hash a password in rounds, and tell of each. This runs in a thread at a server."""
    location = discoro.current_coro().location
    value = password.encode()
    for number in range(1, rounds + 1):
        value = hashlib.pbkdf2_hmac("sha256", value, b"salt", 50_000)
        trio.from_thread.run(client.send, (location, password, f"round {number} of {rounds}"))
    return value.hex()


async def main(jobs: int, cluster: Cluster) -> None:
    """Start all jobs, show what they say, and print their results."""
    async with (
        cluster,
        discoro.Computation([digest]).schedule() as computation,
        discoro.open_coro("client") as client,
    ):
        rcoros = [await computation.run(digest, client, f"password {number}", ROUNDS) for number in range(jobs)]
        for _ in range(jobs * ROUNDS):
            location, password, text = await client.receive()
            print(f"{location} {password}: {text}")
        for number, rcoro in enumerate(rcoros):
            value = await rcoro.result()
            print(f"password {number}: {value[:16]}…")


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--jobs", type=int, default=4, metavar="N", help="number of jobs (default: 4)")
    options = parser.parse_args()
    run(main, options.jobs, cluster_of(options))
