"""The shortest program with a result: a cluster, a computation, one job."""

import trio

import discoro_trio as discoro


async def increment(value: int) -> int:
    """Do the least that a job can do."""
    return value + 1


async def main() -> None:
    """Print the result of one job."""
    async with (
        discoro.open_cluster(servers=2),
        discoro.Computation([increment]).schedule() as computation,
    ):
        print(await computation.run_result(increment, 41), flush=True)


if __name__ == "__main__":
    trio.run(main)
