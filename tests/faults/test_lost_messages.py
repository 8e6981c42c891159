"""Requests and replies that get lost: whoever waits hears of it in time, and what can go on goes on."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
import trio

import discoro_trio as discoro
from discoro_trio._link._fault_injection import parse_losses
from discoro_trio.testing import lose_messages
from tests._deadlines import Stopwatch
from tests.client.shared import client, open_shared

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")


@pytest.fixture(autouse=True)
def short_waits() -> Iterator[None]:
    before = discoro.config.MinPulseInterval, discoro.config.MsgTimeout
    discoro.config.MinPulseInterval = discoro.config.MsgTimeout = 0.5
    yield
    discoro.config.MinPulseInterval, discoro.config.MsgTimeout = before


async def double(number: int) -> int:
    return 2 * number


@pytest.mark.fault("F09")
@pytest.mark.spec("S50")
@pytest.mark.parametrize("lost", ["NodeIs", "Welcome", "Grant", "Granted", "Prepare", "Prepared", "Attach"])
async def test_a_computation_gets_its_servers_though_a_message_is_lost_on_the_way(lost: str) -> None:
    with lose_messages(**{lost: 1}) as left:
        async with open_shared() as cluster:
            scheduler = await cluster.scheduler()
            await cluster.node("node", scheduler)
            async with client(scheduler, double) as computation:
                assert await computation.run_result(double, 21) == 42
        assert left[lost] == 0


@pytest.mark.fault("F09")
@pytest.mark.spec("S50")
@pytest.mark.parametrize("lost", ["Submit", "Queued"])
async def test_a_schedule_whose_scheduler_does_not_answer_raises_in_time_and_leaves_the_queue_clean(lost: str) -> None:
    async with open_shared() as cluster:
        scheduler = await cluster.scheduler()
        await cluster.node("node", scheduler)
        watch = Stopwatch()
        with lose_messages(**{lost: 100}), pytest.raises(discoro.SchedulerNotFound):
            async with client(scheduler, double):
                pytest.fail("it runs without a word of the scheduler")
        assert watch.undisturbed < 5
        async with client(scheduler, double) as computation:
            assert await computation.run_result(double, 21) == 42


@pytest.mark.fault("F09")
@pytest.mark.spec("S50")
@pytest.mark.parametrize("lost", ["Release", "Done"])
async def test_a_computation_whose_close_is_not_confirmed_is_left_in_time_and_the_next_one_runs(lost: str) -> None:
    async with open_shared() as cluster:
        scheduler = await cluster.scheduler()
        await cluster.node("node", scheduler)
        with trio.fail_after(30), ExitStack() as stack:
            async with client(scheduler, double, grace_period=0.5) as computation:
                assert await computation.run_result(double, 1) == 2
                stack.enter_context(lose_messages(**{lost: 1}))
            async with client(scheduler, double) as computation:
                assert await computation.run_result(double, 21) == 42


def test_the_environment_says_how_many_of_which_are_lost() -> None:
    assert parse_losses("") == {}
    assert parse_losses("Grant=2, Prepared") == {"Grant": 2, "Prepared": 1}
    with pytest.raises(ValueError, match="many"):
        parse_losses("Grant=many")
