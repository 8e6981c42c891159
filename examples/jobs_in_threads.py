"""Run plain functions, which never await, as jobs: each runs in a thread of its server.

A server runs several of them at once, as many as `threads` allows. Threads help where jobs wait for files, for other
machines, or for code that lets go of Python's lock, as the hashing here does.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import discoro_trio as discoro
from _command_line import cluster_of, make_parser, run

if TYPE_CHECKING:
    from _command_line import Cluster


def digest(password: str) -> str:
    """Hash a password slowly, as one should. This runs in a thread at a server."""
    return hashlib.pbkdf2_hmac("sha256", password.encode(), b"salt", 200_000).hex()


async def main(jobs: int, cluster: Cluster) -> None:
    """Hash passwords, and print the digests in their order."""
    passwords = [f"password {number}" for number in range(jobs)]
    async with (
        cluster,
        discoro.Computation([digest], threads=2).schedule() as computation,
        computation.map(digest, passwords) as results,
    ):
        remaining = iter(passwords)
        async for value in results:
            print(f"{next(remaining)}: {value[:16]}…")


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--jobs", type=int, default=10, metavar="N", help="number of jobs (default: 10)")
    options = parser.parse_args()
    run(main, options.jobs, cluster_of(options))
