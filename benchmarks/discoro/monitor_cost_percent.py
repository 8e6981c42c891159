"""What the monitor costs a computation whose jobs are many and short: fifty browsers look on, and one never reads."""

from __future__ import annotations

import gc

import trio

from benchmarks.discoro._account import Account
from benchmarks.discoro._endless import open_jobs
from benchmarks.discoro._watched import open_browsers
from discoro_trio._client._journal import Journal

LONGER = 4
"""It goes on so many times as long as other figures do: most of what it costs comes four times a second."""
SETTLING = 0.5
"""Seconds until all browsers have what they first get."""


def measure(seconds: float) -> float:
    """Return its processor time in percent of all other that the program of the computation takes.

    That program is what bounds the jobs in a second, so it is what they are fewer by.
    """

    async def main() -> float:
        account = Account("discoro_trio._monitor")
        async with open_jobs() as jobs, open_browsers() as browsers:
            with account.charging((Journal, "begin"), (Journal, "end")):
                async with browsers.watching(jobs.computation):
                    await trio.sleep(SETTLING)
                    gc.collect()
                    account.begin()
                    await trio.sleep(LONGER * seconds)
                    return 100 * account.cost()

    return trio.run(main)
