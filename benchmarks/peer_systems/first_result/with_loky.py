"""The shortest program with a result: an executor, one job."""

from loky import get_reusable_executor


def increment(value: int) -> int:
    """Do the least that a job can do."""
    return value + 1


if __name__ == "__main__":
    print(get_reusable_executor(max_workers=2).submit(increment, 41).result(), flush=True)
