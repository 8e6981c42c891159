"""The shortest program with a result: a call of `Parallel` with one job."""

from joblib import Parallel, delayed


def increment(value: int) -> int:
    """Do the least that a job can do."""
    return value + 1


if __name__ == "__main__":
    [found] = Parallel(n_jobs=2)([delayed(increment)(41)])
    print(found, flush=True)
