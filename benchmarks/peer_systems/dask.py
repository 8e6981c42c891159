"""dask.distributed with a local cluster of one-threaded processes; messages are calls of an actor."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any

import distributed
import numpy as np

from benchmarks._blocking_load import batches_per_second, median_seconds, per_second, requested_per_second
from benchmarks._memory import megabytes_together
from benchmarks._newcomer import JOBS, score, seconds_of
from benchmarks._scale import (
    CHUNK,
    IN_FLIGHT,
    MAPPED,
    MICROSECONDS,
    WORKERS,
    bulk_megabytes_per_second,
    bulk_payload,
)
from benchmarks._uneven import plain_work, timed_sets
from benchmarks.peer_systems._startup import startup
from benchmarks.peer_systems._work import increment, increment_all, last_of, total_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks._uneven import Job


def version() -> str:
    """Return the version of the system."""
    return str(distributed.__version__)


@contextmanager
def open_client(*, workers: int = WORKERS) -> Iterator[distributed.Client]:
    """Open a cluster without a dashboard, and a client."""
    with (
        distributed.LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def jobs_per_s(seconds: float) -> float:
    """Submit a job for each that is completed, so many in flight."""
    with open_client() as client:

        def work(deadline: float) -> int:
            futures = [client.submit(increment, number, pure=False) for number in range(IN_FLIGHT)]
            completed = distributed.as_completed(futures)
            jobs = 0
            for future in completed:
                future.result()
                jobs += 1
                if perf_counter() < deadline:
                    completed.add(client.submit(increment, jobs, pure=False))
            return jobs

        return per_second(work, seconds=seconds)


def jobs_chunked_per_s(seconds: float) -> float:
    """Map over ranges: a task that is too small is to be made larger by the program itself."""
    chunks = [range(first, first + CHUNK) for first in range(0, MAPPED, CHUNK)]
    with open_client() as client:
        return batches_per_second(
            lambda: sum(map(len, client.gather(client.map(increment_all, chunks, pure=False)))), seconds=seconds
        )


def job_latency_us(seconds: float) -> float:
    """Submit one job and wait for it."""
    with open_client() as client:

        def call(number: int) -> object:
            return client.submit(increment, number, pure=False).result()

        return median_seconds(call, seconds=seconds) * MICROSECONDS


class Echo:
    """An actor that gives back what it gets, and counts it."""

    def __init__(self) -> None:
        self.count = 0

    def echo(self, message: object) -> object:
        """Give it back."""
        return message

    def put(self, _message: object) -> None:
        """Count it."""
        self.count += 1


@contextmanager
def open_actor() -> Iterator[Any]:
    """Open a cluster with one actor in it."""
    with open_client(workers=1) as client:
        yield client.submit(Echo, actor=True).result()


def message_roundtrip_us(seconds: float) -> float:
    """Call the actor and wait for the answer."""
    with open_actor() as actor:
        return median_seconds(lambda n: actor.echo(n).result(), seconds=seconds) * MICROSECONDS


def messages_per_s(seconds: float) -> float:
    """Call the actor, so many calls in flight, since it has no message without an answer."""
    with open_actor() as actor:
        return requested_per_second(actor.put, lambda message: message.result(), seconds=seconds)


def bulk_roundtrip_mbps(seconds: float) -> float:
    """Call the actor with 64 MiB."""
    payload = bulk_payload()
    with open_actor() as actor:
        return bulk_megabytes_per_second(median_seconds(lambda _: actor.echo(payload).result(), seconds=seconds))


def share_s(seconds: float) -> float:
    """Scatter 64 MiB to all workers and use them at each."""
    payload = np.frombuffer(bulk_payload(), dtype=np.uint8)
    with open_client() as client:
        workers = list(client.scheduler_info()["workers"])

        def share(_: int) -> None:
            future = client.scatter(payload, broadcast=True, hash=False)
            tasks = [client.submit(last_of, future, workers=[worker], pure=False) for worker in workers]
            assert client.gather(tasks) == [payload[-1]] * WORKERS

        return median_seconds(share, seconds=seconds)


def share_memory_mb(_seconds: float) -> float:
    """Look at the memory of all processes after scattering; each page counts once."""
    payload = np.frombuffer(bulk_payload(), dtype=np.uint8)
    with open_client() as client:
        workers = list(client.scheduler_info()["workers"])

        def use(value: np.ndarray) -> object:
            future = client.scatter(value, broadcast=True, hash=False)
            client.gather([client.submit(total_of, future, workers=[worker], pure=False) for worker in workers])
            return future

        use(payload[:1000])
        before = megabytes_together()
        kept = use(payload)
        used = megabytes_together() - before
        del kept
        return used


def startup_s(seconds: float) -> float:
    """Start a whole program."""
    return startup("with_dask", seconds)


def _newcomer(table: np.ndarray) -> list[object]:
    with open_client() as client:
        shared = client.scatter(table, broadcast=True)
        futures = client.map(score, [shared] * JOBS, range(JOBS))
        for done, _ in enumerate(distributed.as_completed(futures)):
            print(f"\r{done + 1}/{JOBS}", end="", file=sys.stderr)
        return [future.exception() or future.result() for future in futures]


def newcomer_s(_seconds: float) -> float:
    """Run the newcomer's program."""
    return seconds_of(_newcomer)


def uneven(workers: int, sets: list[list[Job]], asleep: bool) -> list[list[float]]:  # noqa: FBT001 - from a request
    """Submit the jobs of a set and gather their results."""
    with open_client(workers=workers) as client:

        def run_all(items: list[tuple[str, float, bool]]) -> list[float]:
            found: list[float] = client.gather([client.submit(plain_work, *item, pure=False) for item in items])
            return found

        return timed_sets(run_all, sets, asleep=asleep)
