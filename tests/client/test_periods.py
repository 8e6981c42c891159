"""The options that are seconds: which are taken, and what is said of the others."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest
import trio

import discoro_trio as discoro

from ..cluster.test_open import apart

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def higher_bound() -> Iterator[None]:
    before = discoro.config.MaxPulseInterval
    discoro.config.MaxPulseInterval = 500.0
    yield
    discoro.config.MaxPulseInterval = before


@pytest.mark.spec("S51")
def test_the_pulse_interval_of_a_computation_is_the_shortest_one_by_default() -> None:
    assert discoro.Computation().options.pulse_interval == discoro.config.MinPulseInterval == 10.0


@pytest.mark.spec("S53")
@pytest.mark.parametrize("seconds", [9.9, 100.1, -1.0, float("nan")])
def test_a_pulse_interval_outside_of_its_bounds_is_refused_with_their_names(seconds: float) -> None:
    with pytest.raises(ValueError, match=r"config\.MinPulseInterval to config\.MaxPulseInterval, 10 to 100 s"):
        discoro.Computation(pulse_interval=seconds)


@pytest.mark.spec("S53")
def test_a_setting_raises_the_bound(higher_bound: None) -> None:
    assert discoro.Computation(pulse_interval=300).options.pulse_interval == 300


@pytest.mark.spec("S53")
@pytest.mark.parametrize("block", [discoro.open_cluster, discoro.open_scheduler, discoro.open_node])
async def test_schedulers_and_nodes_have_the_same_bounds(block: Callable[..., Any]) -> None:
    async with AsyncExitStack() as stack:
        with pytest.raises(ValueError, match="MinPulseInterval"):
            await stack.enter_async_context(block(pulse_interval=1.0, discover=False))


@pytest.fixture
def lower_bound() -> Iterator[None]:
    before = discoro.config.MinPulseInterval
    discoro.config.MinPulseInterval = 0.5
    yield
    discoro.config.MinPulseInterval = before


@pytest.mark.spec("S51")
async def test_a_computation_has_no_fewer_seconds_between_pulses_than_its_scheduler(lower_bound: None) -> None:
    async with discoro.open_scheduler(ip_addr="127.0.0.1", discover=False, secret="s", pulse_interval=20):
        for asked, in_force in ((0.5, 20), (30, 30)):
            async with discoro.Computation(pulse_interval=asked).schedule() as computation:
                assert computation._running().set_up.pulse_interval == in_force


@pytest.mark.spec("S39")
@pytest.mark.parametrize("seconds", [-1, float("nan")])
def test_a_zombie_period_below_nothing_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="zombie_period must be 0 or more seconds"):
        discoro.Computation(zombie_period=seconds)


@pytest.mark.spec("B09")
def test_what_is_no_allocation_is_refused() -> None:
    with pytest.raises(TypeError, match="node_allocations must be NodeAllocation"):
        discoro.Computation(node_allocations=["10.0.0.1"])  # type: ignore[list-item]


async def test_a_node_sends_heartbeats_as_often_as_it_says_though_its_scheduler_asks_for_fewer(
    lower_bound: None,
) -> None:
    given: dict[str, Any] = {"ip_addr": "127.0.0.1", "secret": "s", "discover": False}
    async with discoro.open_scheduler(pulse_interval=20, **given) as scheduler:
        block = discoro.open_node(cpus=1, nodes=[scheduler.location], pulse_interval=0.5, **given)
        async with apart(block):
            heartbeats, before = 0, -1.0
            with trio.fail_after(60):  # less than five of the scheduler's intervals
                while heartbeats < 5:
                    rows = (await scheduler.status()).nodes
                    heartbeats += any(row.silence < before for row in rows)
                    before = rows[0].silence if rows else -1.0
                    await trio.sleep(0.02)
