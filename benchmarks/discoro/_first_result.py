"""The shortest program with a result of each server: a cluster, a computation, one job on each of two servers."""

import trio

import discoro_trio as discoro


async def increment(value: int) -> int:
    """Do the least that a job can do."""
    return value + 1


async def main() -> None:
    """Print the results of one job on each server."""
    async with (
        discoro.open_cluster(servers=2),
        discoro.Computation([increment]).schedule() as computation,
    ):
        print([await coro.result() for coro in await computation.run_servers(increment, 41)], flush=True)


if __name__ == "__main__":
    trio.run(main)
