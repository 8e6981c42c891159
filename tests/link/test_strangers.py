from __future__ import annotations

import pytest
import trio

from discoro_trio._config import config
from discoro_trio._link._handshake_limits import MOST, MOST_OF_ADDRESS, SECONDS, HandshakeLimits


class Crowd:
    """Connections that shake hands for ever."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.handshake_limits = HandshakeLimits()
        self.gone: list[str] = []
        self._nursery = nursery

    async def add(self, address: str, name: str) -> None:
        await self._nursery.start(self._shake_hands, address, name)

    async def _shake_hands(
        self, address: str, name: str, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        with self.handshake_limits.admit(address):
            task_status.started()
            await trio.Event().wait()
        self.gone.append(name)


@pytest.mark.fault("F11")
async def test_of_too_many_the_oldest_goes(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        crowd = Crowd(nursery)
        for number in range(MOST + 3):
            await crowd.add(f"10.0.0.{number}", str(number))
        await trio.testing.wait_all_tasks_blocked()
        assert crowd.gone == ["0", "1", "2"]
        assert len(crowd.handshake_limits) == MOST
        nursery.cancel_scope.cancel()


@pytest.mark.fault("F11")
async def test_of_too_many_from_one_address_the_oldest_of_that_address_goes(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with trio.open_nursery() as nursery:
        crowd = Crowd(nursery)
        await crowd.add("10.0.0.1", "node")
        for number in range(MOST_OF_ADDRESS + 100):
            await crowd.add("10.0.0.9", str(number))
        await trio.testing.wait_all_tasks_blocked()
        assert crowd.gone == [str(number) for number in range(100)]
        nursery.cancel_scope.cancel()


@pytest.mark.fault("F11")
@pytest.mark.parametrize(
    ("address", "counts_as_one"),
    [("2001:db8::{:x}", True), ("fe80::{:x}%eth0", True), ("2001:db8:0:{:x}::1", False), ("::ffff:10.0.0.{}", False)],
)
async def test_a_network_of_ipv6_counts_as_one_address(
    autojump_clock: trio.testing.MockClock, address: str, *, counts_as_one: bool
) -> None:
    async with trio.open_nursery() as nursery:
        crowd = Crowd(nursery)
        for number in range(MOST_OF_ADDRESS + 3):
            await crowd.add(address.format(number + 1), str(number))
        await trio.testing.wait_all_tasks_blocked()
        assert crowd.gone == (["0", "1", "2"] if counts_as_one else [])
        nursery.cancel_scope.cancel()


@pytest.mark.fault("F11")
async def test_who_opens_many_pushes_out_his_own_and_not_a_node(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        crowd = Crowd(nursery)
        await crowd.add("10.0.0.1", "node")
        for number in range(500):
            await crowd.add(f"10.0.0.{100 + number % 10}", str(number))
        await trio.testing.wait_all_tasks_blocked()
        assert "node" not in crowd.gone
        assert len(crowd.handshake_limits) == MOST
        nursery.cancel_scope.cancel()


@pytest.mark.fault("F11")
@pytest.mark.parametrize("seconds", [10.0, 1.0])
async def test_a_handshake_takes_a_few_seconds_at_most(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    monkeypatch.setattr(config, "MsgTimeout", seconds)
    began = trio.current_time()
    with HandshakeLimits().admit("10.0.0.1") as scope:
        await trio.Event().wait()
    assert scope.cancelled_caught
    assert trio.current_time() - began == pytest.approx(min(seconds, SECONDS))
    assert SECONDS < 5
