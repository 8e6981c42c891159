"""The shortest program with a result: a pool, one job."""

from concurrent.futures import ProcessPoolExecutor


def increment(value: int) -> int:
    """Do the least that a job can do."""
    return value + 1


if __name__ == "__main__":
    with ProcessPoolExecutor(2) as pool:
        print(pool.submit(increment, 41).result(), flush=True)
