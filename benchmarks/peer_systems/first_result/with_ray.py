"""The shortest program with a result: a cluster, one task."""

import ray


def increment(value: int) -> int:
    """Do the least that a job can do."""
    return value + 1


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    print(ray.get(ray.remote(increment).remote(41)), flush=True)
    ray.shutdown()
