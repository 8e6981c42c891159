"""The shortest program with a result: a scheduler with workers, a client, one job."""

from scaler import Client, SchedulerClusterCombo


def increment(value: int) -> int:
    """Do the least that a job can do."""
    return value + 1


if __name__ == "__main__":
    cluster = SchedulerClusterCombo(n_workers=2)
    with Client(address=cluster.get_address()) as client:
        print(client.submit(increment, 41).result(), flush=True)
    cluster.shutdown()
