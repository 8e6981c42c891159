"""When plain functions begin: one at a time while they compute, many while they wait.

The clock stands still but in the last test: what the processor is used for is what each test says.
"""

from __future__ import annotations

from functools import partial

import pytest
import trio
import trio.testing

from discoro_trio._process.execution._thread_gate import SLICE, ThreadGate


class Threads:
    """Functions that wait for their turn, and a processor that is used as a test says."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.gate = ThreadGate(lambda: {"thread": self.seconds}, lambda: self.runnable)
        self.seconds = 0.0
        self.runnable = False
        self.begun: list[int] = []
        self._ends: dict[int, trio.Event] = {}

    async def run(self, number: int, *, force: bool = False) -> None:
        """Be a function that runs until the test ends it."""
        task = trio.lowlevel.current_task()
        if not self.gate.enter_now(task, self.nursery, force=force):
            await self.gate.enter(self.nursery)
        self.begun.append(number)
        self._ends[number] = trio.Event()
        await self._ends[number].wait()
        self.gate.leave(task)

    async def start(self, count: int) -> None:
        for number in range(count):
            self.nursery.start_soon(self.run, number)
            await trio.testing.wait_all_tasks_blocked()

    def end(self, number: int) -> None:
        self._ends[number].set()


async def compute(threads: Threads, slices: int, part: float) -> None:
    """Let time pass, with so much of a processor used; the real clock does not count."""
    for _ in range(slices):
        threads.gate.used(part)
        await trio.testing.wait_all_tasks_blocked()


@pytest.mark.spec("B26")
async def test_while_they_compute_they_run_one_after_the_other(
    nursery: trio.Nursery, mock_clock: trio.testing.MockClock
) -> None:
    threads = Threads(nursery)
    await threads.start(4)
    await compute(threads, 10, 1.0)
    assert threads.begun == [0]
    for number in range(3):
        threads.end(number)
        await trio.testing.wait_all_tasks_blocked()
        await compute(threads, 3, 0.7)
        assert threads.begun == [*range(number + 2)]
    threads.end(3)


@pytest.mark.spec("B26", "S67")
async def test_while_they_wait_twice_as_many_begin_each_time_up_to_the_limit(
    nursery: trio.Nursery, mock_clock: trio.testing.MockClock
) -> None:
    threads = Threads(nursery)
    threads.gate.most = 6
    await threads.start(9)
    counts = []
    for _ in range(4):
        threads.gate.used(0.0)
        await trio.testing.wait_all_tasks_blocked()
        counts.append(len(threads.begun))
    assert counts == [2, 4, 6, 6]
    threads.end(0)
    await trio.testing.wait_all_tasks_blocked()
    assert sorted(threads.begun) == [*range(7)]
    for _ in range(9):
        await compute(threads, 1, 1.0)
    for number in range(1, 7):
        threads.end(number)
        await trio.testing.wait_all_tasks_blocked()
    assert sorted(threads.begun) == [*range(8)], "they compute now, so the last one waits for the one before"
    for number in (7, 8):
        threads.end(number)
        await trio.testing.wait_all_tasks_blocked()


@pytest.mark.spec("B26")
async def test_the_gate_opens_when_one_ends_or_when_those_that_run_wait(
    nursery: trio.Nursery, mock_clock: trio.testing.MockClock
) -> None:
    threads = Threads(nursery)
    opened: list[str] = []

    async def watch(name: str) -> None:
        await threads.gate.until_open(nursery)
        opened.append(name)

    nursery.start_soon(watch, "empty")
    await trio.testing.wait_all_tasks_blocked()
    await threads.start(1)
    nursery.start_soon(watch, "one computes")
    await trio.testing.wait_all_tasks_blocked()
    await compute(threads, 5, 1.0)
    assert opened == ["empty"]
    threads.end(0)
    await trio.testing.wait_all_tasks_blocked()
    assert opened == ["empty", "one computes"]
    nursery.start_soon(threads.run, 1)
    await trio.testing.wait_all_tasks_blocked()
    nursery.start_soon(watch, "one waits")
    await trio.testing.wait_all_tasks_blocked()
    await compute(threads, 1, 0.0)
    assert opened == ["empty", "one computes", "one waits"]
    threads.end(1)


async def test_one_that_must_begin_at_once_does_and_one_that_is_cancelled_leaves_the_queue(
    nursery: trio.Nursery, mock_clock: trio.testing.MockClock
) -> None:
    threads = Threads(nursery)
    await threads.start(1)
    scope = trio.CancelScope()

    async def wait() -> None:
        with scope:
            await threads.run(9)

    nursery.start_soon(wait)
    await trio.testing.wait_all_tasks_blocked()
    nursery.start_soon(threads.run, 8)
    await trio.testing.wait_all_tasks_blocked()
    nursery.start_soon(partial(threads.run, 7, force=True))
    await trio.testing.wait_all_tasks_blocked()
    assert threads.begun == [0, 7]
    scope.cancel()
    for number in (0, 7):
        threads.end(number)
    await trio.testing.wait_all_tasks_blocked()
    assert threads.begun == [0, 7, 8]
    threads.end(8)


@pytest.mark.spec("B26")
async def test_the_use_of_the_processor_is_measured_while_some_wait(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    threads = Threads(nursery)
    threads.runnable = True
    await threads.start(2)
    await trio.sleep(20 * SLICE)
    assert threads.begun == [0], "it waits for a processor"
    threads.runnable = False
    with trio.fail_after(10):
        while threads.begun != [0, 1]:  # noqa: ASYNC110 - the gate has no event
            await trio.sleep(SLICE)
    for number in (0, 1):
        threads.end(number)
