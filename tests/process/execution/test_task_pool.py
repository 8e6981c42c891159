"""Tasks that run one coroutine after the other."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

import trio
import trio.testing

from discoro_trio._process.execution import _task_pool
from discoro_trio._process.execution._task_pool import IDLE, TaskPool

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import pytest

    Job = Callable[[trio.CancelScope], Awaitable[None]]

variable: ContextVar[str] = ContextVar("variable", default="none")


class Served:
    """Berths that run async functions, and what they did."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.task_pool = TaskPool(self._run)
        self.tasks: list[trio.lowlevel.Task] = []
        self.seen: list[str] = []

    async def _run(self, task: trio.lowlevel.Task, scope: trio.CancelScope, job: Job) -> bool:
        assert task is trio.lowlevel.current_task()
        task.name = "busy"
        self.tasks.append(task)
        self.seen.append(variable.get())
        await job(scope)
        return not scope.cancel_called

    def put(self, job: Job) -> None:
        self.task_pool.put(self.nursery, job)

    async def run(self, *jobs: Job) -> None:
        """Run one after the other, each when the one before is long over."""
        for job in jobs:
            self.put(job)
            await trio.testing.wait_all_tasks_blocked()


async def nothing(_scope: trio.CancelScope) -> None:
    """Do nothing."""


async def test_a_task_serves_one_coroutine_after_the_other(nursery: trio.Nursery) -> None:
    served = Served(nursery)
    await served.run(nothing, nothing, nothing)
    assert len(served.tasks) == 3
    assert len(set(served.tasks)) == 1
    assert served.tasks[0].name == IDLE


async def test_they_begin_in_their_order_and_without_waiting_for_each_other(nursery: trio.Nursery) -> None:
    served = Served(nursery)
    begun: list[int] = []
    go = trio.Event()

    def job(number: int) -> Job:
        async def wait(_scope: trio.CancelScope) -> None:
            begun.append(number)
            if number % 3:
                await go.wait()

        return wait

    for number in range(1000):
        served.put(job(number))
    await trio.testing.wait_all_tasks_blocked()
    assert begun == list(range(1000))
    go.set()


async def test_a_thousand_that_wait_begin_within_few_turns(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_task_pool, "perf_counter", float)  # a busy machine would look like coroutines that block
    served = Served(nursery)

    async def wait(_scope: trio.CancelScope) -> None:
        await trio.sleep_forever()

    for _ in range(1000):
        served.put(wait)
    turns = 0
    while len(served.tasks) < 1000:
        await trio.lowlevel.checkpoint()
        turns += 1
    assert turns < 30
    nursery.cancel_scope.cancel()


async def test_a_task_that_was_cancelled_serves_nobody_else(nursery: trio.Nursery) -> None:
    served = Served(nursery)

    async def cancel(scope: trio.CancelScope) -> None:
        scope.cancel()

    await served.run(nothing, cancel, nothing)
    assert served.tasks[0] is served.tasks[1]
    assert served.tasks[2] is not served.tasks[1]


async def test_what_waits_behind_one_that_was_cancelled_runs(nursery: trio.Nursery) -> None:
    served = Served(nursery)

    async def cancel(scope: trio.CancelScope) -> None:
        scope.cancel()

    for _ in range(10):
        served.put(cancel)
    await trio.testing.wait_all_tasks_blocked()
    assert len(set(served.tasks)) == 10


async def test_none_sees_the_context_variables_of_another_or_of_who_has_started_it(nursery: trio.Nursery) -> None:
    served = Served(nursery)

    async def remember(_scope: trio.CancelScope) -> None:
        variable.set("of a coroutine")

    variable.set("of the starter")
    await served.run(remember, nothing)
    served.put(remember)
    served.put(nothing)
    await trio.testing.wait_all_tasks_blocked()
    assert served.seen == ["none"] * 4


async def test_a_scope_that_was_left_open_ends_nobody_else(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    served = Served(nursery)
    done: list[bool] = []

    async def leave_open(_scope: trio.CancelScope) -> None:
        trio.move_on_after(1).__enter__()

    async def sleep(_scope: trio.CancelScope) -> None:
        await trio.sleep(2)
        done.append(True)

    await served.run(leave_open, sleep)
    await trio.sleep(3)
    assert done == [True]
    assert "left a cancel scope open" in caplog.text


async def test_others_go_on_between_two_that_are_long(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_task_pool, "_LONGEST", -1)
    served = Served(nursery)
    for _ in range(5):
        served.put(nothing)
    rounds = 0
    while len(served.tasks) < 5:
        await trio.lowlevel.checkpoint()
        rounds += 1
    # In the first round of the event loop one runs, in the second at most two; without a pause, all in the first.
    assert rounds >= 3


async def test_none_is_idle_once_what_surrounds_them_is_cancelled(nursery: trio.Nursery) -> None:
    async with trio.open_nursery() as inner:
        served = Served(inner)
        await served.run(nothing)
        inner.cancel_scope.cancel()
    served.nursery = nursery
    await served.run(nothing)
    assert len(set(served.tasks)) == 2


async def test_only_so_many_are_kept(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_task_pool, "MOST_IDLE", 2)
    served = Served(nursery)
    go = trio.Event()
    for _ in range(5):
        served.put(lambda _scope: go.wait())
    await trio.testing.wait_all_tasks_blocked()
    assert len(nursery.child_tasks) == 5
    go.set()
    await trio.testing.wait_all_tasks_blocked()
    assert [task.name for task in nursery.child_tasks] == [IDLE, IDLE]
