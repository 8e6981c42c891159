"""A cluster in a process of its own, which lasts longer than one test.

It prints the location of its scheduler, and ends at the end of its standard input. The environment holds the secret.
"""

from __future__ import annotations

import sys

import trio

from .._cluster import open_cluster
from .._process import open_endpoint


async def _serve(servers: int) -> None:
    async with open_endpoint(), open_cluster(servers) as scheduler:
        sys.stdout.write(f"{scheduler.location}\n")
        sys.stdout.flush()
        await trio.to_thread.run_sync(sys.stdin.read)


if __name__ == "__main__":
    trio.run(_serve, int(sys.argv[1]))
