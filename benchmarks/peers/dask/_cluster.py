"""The cluster that every figure is measured on, and what runs in it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import distributed

if TYPE_CHECKING:
    from collections.abc import Iterator


def increment(value: int) -> int:
    """Do the least that a job can do."""
    return value + 1


def last_of(value: Any) -> int:
    """Look at the last byte of a value."""
    return int(value[-1])


def total_of(value: Any) -> int:
    """Look at all of a value."""
    return int(value.sum())


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
def open_client(*, workers: int) -> Iterator[distributed.Client]:
    """Open a cluster of one-threaded processes without a dashboard, and a client."""
    with (
        distributed.LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@contextmanager
def open_actor() -> Iterator[Any]:
    """Open a cluster with one actor in it."""
    with open_client(workers=1) as client:
        yield client.submit(Echo, actor=True).result()
