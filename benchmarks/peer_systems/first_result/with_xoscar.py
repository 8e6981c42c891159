"""The shortest program with a result: a pool, an actor, one call."""

import asyncio

import xoscar


class Increment(xoscar.Actor):  # type: ignore[misc, unused-ignore]
    """Does the least that a job can do."""

    async def call(self, value: int) -> int:
        """Return one more."""
        return value + 1


async def main() -> None:
    """Print the result of one call."""
    pool = await xoscar.create_actor_pool("127.0.0.1", n_process=1)
    async with pool:
        actor = await xoscar.create_actor(
            Increment,
            address=pool.external_address,
            allocate_strategy=xoscar.allocate_strategy.ProcessIndex(1),
        )
        print(await actor.call(41), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
