"""The shortest program with a result: a cluster, a client, one job."""

import distributed


def increment(value: int) -> int:
    """Do the least that a job can do."""
    return value + 1


if __name__ == "__main__":
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        print(client.submit(increment, 41).result(), flush=True)
