"""The figures: their names, units and marks. What is measured stands in each system's module of that name.

To add one: a line here, and a module of its lower-case name in the package of each system that has it.
"""

from __future__ import annotations

from typing import Literal

from attrs import field, frozen

Better = Literal["higher", "lower"]


@frozen
class Mark:
    """What this project has set itself to reach in a figure."""

    bound: float
    """The least, or the most where lower is better: a number, or a part of what `of` reaches."""
    of: str | None = None
    """The name of the system that it is a part of; None: `bound` is in the figure's unit."""


@frozen
class Figure:
    """One thing that is measured."""

    name: str
    unit: str
    better: Better
    mark: Mark | None = field(default=None, kw_only=True)
    network: bool = field(default=False, kw_only=True)
    """Whether `--network` measures it."""

    @property
    def module(self) -> str:
        """The name of the module that measures it, in each system's package."""
        return self.name.lower()


FIGURES = (
    Figure("jobs_per_s", "jobs/s", "higher", mark=Mark(0.5, of="floor")),
    Figure("jobs_chunked_per_s", "jobs/s", "higher", mark=Mark(1.0, of="ProcessPoolExecutor")),
    Figure("job_latency_us", "µs", "lower", mark=Mark(1.5, of="floor")),
    Figure("metg_us", "µs", "lower", mark=Mark(60)),
    Figure("message_roundtrip_us", "µs", "lower", mark=Mark(1.6, of="floor")),
    Figure("messages_per_s", "messages/s", "higher", mark=Mark(0.3, of="floor")),
    # Tuples, dicts, lists and small dataclasses, where messages_per_s has integers.
    Figure("messages_typed_per_s", "messages/s", "higher"),
    Figure("bulk_roundtrip_MBps", "MB/s", "higher", mark=Mark(0.8, of="floor")),
    # The same where there is no memory in common.
    Figure("bulk_tcp_MBps", "MB/s", "higher", mark=Mark(0.8, of="floor")),
    # What Ray reaches with objects in shared memory.
    Figure("bulk_shared_MBps", "MB/s", "higher", mark=Mark(5600)),
    # A value that all servers have: shared, used by each of them, released; and its memory in all processes together.
    Figure("share_s", "s", "lower"),
    Figure("share_memory_MB", "MB", "lower", mark=Mark(80)),
    # A newcomer's whole program, from nothing to 10,000 results.
    Figure("newcomer_s", "s", "lower", mark=Mark(1.0, of="ProcessPoolExecutor")),
    Figure("slow_neighbour_ratio", "of 1", "higher", mark=Mark(0.9)),
    Figure("status_unread_ratio", "of 1", "lower", mark=Mark(1.05)),
    Figure("status_read_ratio", "of 1", "lower"),
    Figure("monitor_cost_percent", "%", "lower", mark=Mark(5)),
    Figure("watched_jobs_ratio", "of 1", "higher"),
    Figure("fanout_per_s", "messages/s", "higher"),
    # Between two hosts everything goes over TLS.
    Figure("messages_tls_per_s", "messages/s", "higher", mark=Mark(0.8, of="discoro without TLS"), network=True),
    Figure("jobs_tls_per_s", "jobs/s", "higher", mark=Mark(0.85, of="discoro without TLS"), network=True),
    Figure("job_latency_tls_us", "µs", "lower", mark=Mark(1.25, of="discoro without TLS"), network=True),
    Figure("bulk_tls_MBps", "MB/s", "higher", mark=Mark(0.7, of="floor"), network=True),
    Figure("send_file_tls_MBps", "MB/s", "higher", mark=Mark(0.7, of="floor"), network=True),
    Figure("small_beside_bulk_p99_us", "µs", "lower", network=True),
    Figure("small_beside_bulk_ratio", "of 1", "lower", mark=Mark(2), network=True),
    Figure("startup_s", "s", "lower", mark=Mark(0.5)),
    Figure("next_computation_s", "s", "lower", mark=Mark(0.1)),
    Figure("placement_us", "µs", "lower"),
    Figure("placement_growth", "×", "lower", mark=Mark(2)),
    Figure("cancel_1000_s", "s", "lower", mark=Mark(1.0)),
    Figure("memory_10k_coroutines_MB", "MB", "lower", mark=Mark(80)),
)
