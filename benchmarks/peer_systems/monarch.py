"""Monarch, Meta's single-controller actors: a mesh of processes on this host with an actor in each."""

from __future__ import annotations

from contextlib import contextmanager
from importlib import metadata
from time import perf_counter
from typing import TYPE_CHECKING, Any

from monarch.actor import Actor, endpoint, this_host

from benchmarks._blocking_load import median_seconds, per_second, requested_per_second
from benchmarks._scale import IN_FLIGHT, MICROSECONDS, WORKERS, bulk_megabytes_per_second, bulk_payload
from benchmarks.peer_systems._startup import startup

if TYPE_CHECKING:
    from collections.abc import Iterator


def version() -> str:
    """Return the version of the system."""
    return metadata.version("torchmonarch")


class Worker(Actor):  # type: ignore[misc, unused-ignore]
    """Does what an actor is asked to do in the figures."""

    def __init__(self) -> None:
        self._count = 0

    @endpoint  # type: ignore[untyped-decorator, unused-ignore]
    async def increment(self, value: int) -> int:
        """Do the least that a job can do."""
        return value + 1

    @endpoint  # type: ignore[untyped-decorator, unused-ignore]
    async def echo(self, message: Any) -> Any:
        """Give it back."""
        return message

    @endpoint  # type: ignore[untyped-decorator, unused-ignore]
    async def put(self, _message: Any) -> None:
        """Count it."""
        self._count += 1

    @endpoint  # type: ignore[untyped-decorator, unused-ignore]
    async def taken(self) -> int:
        """Return the count, and begin again."""
        count, self._count = self._count, 0
        return count


@contextmanager
def open_actors(processes: int) -> Iterator[Any]:
    """Start processes with an actor in each."""
    mesh = this_host().spawn_procs(per_host={"procs": processes})
    actors = mesh.spawn("workers", Worker)
    actors.increment.call(0).get()
    yield actors
    mesh.stop().get()


def jobs_per_s(seconds: float) -> float:
    """Call an endpoint of any of the actors, so many calls in flight."""
    with open_actors(WORKERS) as actors:
        return requested_per_second(actors.increment.choose, lambda job: job.get(), seconds=seconds)


def job_latency_us(seconds: float) -> float:
    """Call an endpoint of any of the actors and wait for the value."""
    with open_actors(WORKERS) as actors:
        return median_seconds(lambda n: actors.increment.choose(n).get(), seconds=seconds) * MICROSECONDS


def message_roundtrip_us(seconds: float) -> float:
    """Call the actor and wait for the answer."""
    with open_actors(1) as actors:
        return median_seconds(lambda n: actors.echo.call_one(n).get(), seconds=seconds) * MICROSECONDS


def messages_per_s(seconds: float) -> float:
    """Broadcast to the one actor, which asks for no value, until it has counted the last."""
    with open_actors(1) as actors:

        def work(deadline: float) -> int:
            messages = 0
            while perf_counter() < deadline:
                for number in range(IN_FLIGHT):
                    actors.put.broadcast(number)
                messages += IN_FLIGHT
                actors.echo.call_one(0).get()  # broadcast has no bound of its own
            counted = int(actors.taken.call_one().get())
            assert counted == messages
            return messages

        return per_second(work, seconds=seconds)


def bulk_roundtrip_mbps(seconds: float) -> float:
    """Call the actor with 64 MiB."""
    payload = bulk_payload()
    with open_actors(1) as actors:
        return bulk_megabytes_per_second(median_seconds(lambda _: actors.echo.call_one(payload).get(), seconds=seconds))


def startup_s(seconds: float) -> float:
    """Start a whole program."""
    return startup("with_monarch", seconds)
