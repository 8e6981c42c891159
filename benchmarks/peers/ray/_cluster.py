"""The cluster that every figure is measured on."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import ray

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def open_cluster(*, workers: int) -> Iterator[None]:
    """Open a cluster of so many processors, without a dashboard."""
    ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        yield
    finally:
        ray.shutdown()
