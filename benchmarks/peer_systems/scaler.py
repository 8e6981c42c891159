"""OpenGRIS Scaler with a local scheduler and workers."""

from __future__ import annotations

from contextlib import contextmanager
from importlib import metadata
from typing import TYPE_CHECKING

from scaler import Client, SchedulerClusterCombo

from benchmarks._blocking_load import batches_per_second, median_seconds
from benchmarks._scale import CHUNK, IN_FLIGHT, MAPPED, MICROSECONDS, WORKERS
from benchmarks.peer_systems._startup import startup
from benchmarks.peer_systems._work import increment, increment_all

if TYPE_CHECKING:
    from collections.abc import Iterator


def version() -> str:
    """Return the version of the system."""
    return metadata.version("opengris-scaler")


@contextmanager
def open_client() -> Iterator[Client]:
    """Open a scheduler with workers, and a client."""
    cluster = SchedulerClusterCombo(n_workers=WORKERS)
    try:
        with Client(address=cluster.get_address()) as client:
            client.submit(increment, 0).result()
            yield client
    finally:
        cluster.shutdown()


def jobs_per_s(seconds: float) -> float:
    """Map over so many values at once, a task each."""
    with open_client() as client:
        return batches_per_second(lambda: len(client.map(increment, range(IN_FLIGHT))), seconds=seconds)


def jobs_chunked_per_s(seconds: float) -> float:
    """Map over ranges: a task that is too small is to be made larger by the program itself."""
    chunks = [range(first, first + CHUNK) for first in range(0, MAPPED, CHUNK)]
    with open_client() as client:
        return batches_per_second(lambda: sum(map(len, client.map(increment_all, chunks))), seconds=seconds)


def job_latency_us(seconds: float) -> float:
    """Submit one job and wait for it."""
    with open_client() as client:
        return median_seconds(lambda n: client.submit(increment, n).result(), seconds=seconds) * MICROSECONDS


def startup_s(seconds: float) -> float:
    """Start a whole program."""
    return startup("with_scaler", seconds)
