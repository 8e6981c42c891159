"""The shortest program with a result: two processes with an actor in each, one call."""

from monarch.actor import Actor, endpoint, this_host


class Worker(Actor):  # type: ignore[misc, unused-ignore]
    """Does the least that a job can do."""

    @endpoint  # type: ignore[untyped-decorator, unused-ignore]
    async def increment(self, value: int) -> int:
        """Return one more."""
        return value + 1


if __name__ == "__main__":
    mesh = this_host().spawn_procs(per_host={"procs": 2})
    workers = mesh.spawn("workers", Worker)
    print(workers.increment.choose(41).get(), flush=True)
    mesh.stop().get()
