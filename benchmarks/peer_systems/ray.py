"""Ray with a local cluster of processes; messages are calls of an actor."""

from __future__ import annotations

from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import ray
from ray.util.multiprocessing import Pool

from benchmarks import _newcomer
from benchmarks._blocking_load import batches_per_second, median_seconds, per_second, requested_per_second
from benchmarks._memory import megabytes_together
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
from benchmarks.peer_systems import _work
from benchmarks.peer_systems._startup import startup

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks._uneven import Job


def version() -> str:
    """Return the version of the system."""
    return str(ray.__version__)


@contextmanager
def open_cluster(*, workers: int = WORKERS) -> Iterator[None]:
    """Open a cluster of so many processors, without a dashboard."""
    ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        yield
    finally:
        ray.shutdown()


def jobs_per_s(seconds: float) -> float:
    """Start a task for each that is ready, so many in flight."""
    increment = ray.remote(_work.increment)
    with open_cluster():

        def work(deadline: float) -> int:
            in_flight = [increment.remote(number) for number in range(IN_FLIGHT)]
            jobs = 0
            while in_flight:
                ready, in_flight = ray.wait(in_flight, num_returns=min(len(in_flight), IN_FLIGHT // 2))
                jobs += len(ray.get(ready))
                if perf_counter() < deadline:
                    in_flight += [increment.remote(number) for number in range(len(ready))]
            return jobs

        return per_second(work, seconds=seconds)


def jobs_chunked_per_s(seconds: float) -> float:
    """Map in chunks with Ray's pool."""
    with open_cluster(), Pool(WORKERS) as pool:
        return batches_per_second(
            lambda: len(pool.map(_work.increment, range(MAPPED), chunksize=CHUNK)), seconds=seconds
        )


def job_latency_us(seconds: float) -> float:
    """Start one task and wait for it."""
    increment = ray.remote(_work.increment)
    with open_cluster():
        return median_seconds(lambda n: ray.get(increment.remote(n)), seconds=seconds) * MICROSECONDS


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
    with open_cluster():
        actor = ray.remote(Echo).remote()
        ray.get(actor.echo.remote(0))
        yield actor


def message_roundtrip_us(seconds: float) -> float:
    """Call the actor and wait for the answer."""
    with open_actor() as actor:
        return median_seconds(lambda n: ray.get(actor.echo.remote(n)), seconds=seconds) * MICROSECONDS


def messages_per_s(seconds: float) -> float:
    """Call the actor, so many calls in flight, since it has no message without an answer."""
    with open_actor() as actor:
        return requested_per_second(actor.put.remote, ray.get, seconds=seconds)


def bulk_roundtrip_mbps(seconds: float) -> float:
    """Call the actor with 64 MiB."""
    payload = bulk_payload()
    with open_actor() as actor:
        return bulk_megabytes_per_second(median_seconds(lambda _: ray.get(actor.echo.remote(payload)), seconds=seconds))


def share_s(seconds: float) -> float:
    """Put 64 MiB into the object store and use them at each worker."""
    payload = np.frombuffer(bulk_payload(), dtype=np.uint8)
    last_of = ray.remote(_work.last_of)
    with open_cluster():

        def share(_: int) -> None:
            reference = ray.put(payload)
            assert ray.get([last_of.remote(reference) for _ in range(WORKERS)]) == [payload[-1]] * WORKERS

        return median_seconds(share, seconds=seconds)


def share_memory_mb(_seconds: float) -> float:
    """Look at the memory of all processes after putting; each page counts once."""
    payload = np.frombuffer(bulk_payload(), dtype=np.uint8)
    total_of = ray.remote(_work.total_of)
    with open_cluster():

        def use(value: np.ndarray) -> object:
            reference = ray.put(value)
            ray.get([total_of.remote(reference) for _ in range(WORKERS)])
            return reference

        use(payload[:1000])
        before = megabytes_together()
        kept = use(payload)
        used = megabytes_together() - before
        del kept
        return used


def startup_s(seconds: float) -> float:
    """Start a whole program."""
    return startup("with_ray", seconds)


def _collected(table: np.ndarray, job: int) -> object:
    """Run a job; return its error in place of a value."""
    try:
        return _newcomer.score(table, job)
    except ValueError as error:
        return error


def newcomer_s(_seconds: float) -> float:
    """Run the newcomer's program."""

    def program(table: np.ndarray) -> list[object]:
        score = ray.remote(_collected)
        with open_cluster():
            shared = ray.put(table)
            references = [score.remote(shared, job) for job in range(_newcomer.JOBS)]
            waiting, done = references, 0
            while waiting:
                ready, waiting = ray.wait(waiting, num_returns=min(100, len(waiting)))
                done += len(ready)
                print(f"\r{done}/{_newcomer.JOBS}", end="", flush=True)
            found: list[object] = ray.get(references)
            return found

    return _newcomer.seconds_of(program)


def uneven(workers: int, sets: list[list[Job]], asleep: bool) -> list[list[float]]:  # noqa: FBT001 - from a request
    """Start a task for each job of a set and get their results."""
    work = ray.remote(plain_work)
    with open_cluster(workers=workers):

        def run_all(items: list[tuple[str, float, bool]]) -> list[float]:
            found: list[float] = ray.get([work.remote(*item) for item in items])
            return found

        return timed_sets(run_all, sets, asleep=asleep)
