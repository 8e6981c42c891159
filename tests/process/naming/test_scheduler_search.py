"""Programs that share nothing but the secret find each other's public names by a shared scheduler of the network."""

from __future__ import annotations

import logging
import sys
from typing import Any

import pytest
import trio

import discoro_trio as discoro
from discoro_trio._process.naming._name_registry import NameRegistry
from tests._ports import free_udp_port

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")


@pytest.fixture
def udp_port(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("DISCORO_SECRET", "6" * 64)
    return free_udp_port()


async def run_scheduler(udp_port: int, *, task_status: trio.TaskStatus[None]) -> None:
    async with discoro.open_scheduler(shared=True, settle=False, udp_port=udp_port):
        task_status.started()
        await trio.sleep_forever()


async def offer(udp_port: int, *, task_status: trio.TaskStatus[None]) -> None:
    async with discoro.open_endpoint(ip_addr="", udp_port=udp_port), discoro.open_coro() as coro:
        await coro.register("echo", public=True)
        async with discoro.RCI(abs, name="absolute").register(public=True):
            task_status.started()
            async for message, sender in coro:
                await sender.send(2 * message)


@pytest.mark.parametrize("scheduler_first", [True, False])
async def test_public_names_are_found_without_a_computation(udp_port: int, scheduler_first: bool) -> None:  # noqa: FBT001
    first, second = (run_scheduler, offer) if scheduler_first else (offer, run_scheduler)
    async with trio.open_nursery() as nursery:
        with trio.fail_after(60):
            await nursery.start(first, udp_port)
            await nursery.start(second, udp_port)
            async with discoro.open_endpoint(ip_addr="", udp_port=udp_port), discoro.open_coro() as client:
                echo = await discoro.locate("echo")
                await echo.send((21, client))
                assert await client.receive() == 42
                absolute = await discoro.locate_rci("absolute")
                assert await absolute.run(-3) == 3
        nursery.cancel_scope.cancel()


async def test_a_name_that_no_scheduler_keeps_is_reported(
    udp_port: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(discoro.config, "MsgTimeout", 0.05)
    with caplog.at_level(logging.WARNING):
        async with discoro.open_endpoint(ip_addr="", udp_port=udp_port), trio.open_nursery() as nursery:
            nursery.start_soon(discoro.locate, "nowhere")
            with trio.fail_after(45):
                while not any("'nowhere' is not found yet" in text for text in caplog.messages):  # noqa: ASYNC110
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()


@pytest.mark.fault("F29")
@pytest.mark.parametrize("known_before", [True, False])
async def test_a_scheduler_that_is_started_later_learns_public_names_that_nobody_waits_for(
    udp_port: int,
    known_before: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(discoro.config, "MsgTimeout", 1.0)
    async with trio.open_nursery() as nursery:
        with trio.fail_after(60):
            if known_before:
                async with trio.open_nursery() as first:
                    await first.start(run_scheduler, udp_port)
                    await nursery.start(offer, udp_port)
                    async with discoro.open_endpoint(ip_addr="", udp_port=udp_port):
                        await discoro.locate("echo")
                    first.cancel_scope.cancel()
            else:
                await nursery.start(offer, udp_port)
            await trio.sleep(1.5)  # longer than one search
            await nursery.start(run_scheduler, udp_port)
            async with discoro.open_endpoint(ip_addr="", udp_port=udp_port), discoro.open_coro() as client:
                echo = await discoro.locate("echo")
                await echo.send((21, client))
                assert await client.receive() == 42
        nursery.cancel_scope.cancel()


async def test_two_schedulers_on_a_network_do_not_ask_each_other_for_a_name(
    udp_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    answer = NameRegistry._asked_to_locate

    async def note(names: NameRegistry, link: Any, message: Any) -> Any:
        asked.append(message)
        assert len(asked) < 10
        return await answer(names, link, message)

    monkeypatch.setattr(NameRegistry, "_asked_to_locate", note)
    async with trio.open_nursery() as nursery:
        with trio.fail_after(60):
            for _ in range(2):
                await nursery.start(run_scheduler, udp_port)
            async with discoro.open_endpoint(ip_addr="", udp_port=udp_port):
                with trio.move_on_after(3):
                    await discoro.locate("nowhere")
        nursery.cancel_scope.cancel()
    assert len(asked) == 1
