"""The shortest program with a result: a pool, one job."""

from mpire import WorkerPool


def increment(value: int) -> int:
    """Do the least that a job can do."""
    return value + 1


if __name__ == "__main__":
    with WorkerPool(n_jobs=2) as pool:
        print(pool.apply(increment, (41,)), flush=True)
