"""Actions on a whole cluster, by its scheduler: in the same program, and in another one."""

from __future__ import annotations

import json
import logging
import sys
import urllib.request
from contextlib import asynccontextmanager
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import trio

import discoro_trio as discoro
from discoro_trio._monitor import RemoteScheduler, _remote
from discoro_trio._process import current_process

from .test_open_http_server import TOKEN, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from discoro_trio import Computation, Scheduler

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")


async def stay() -> None:
    await trio.sleep_forever()


async def one() -> int:
    return 1


def post(url: str, ids: list[str]) -> Any:
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps({"ids": ids}).encode(), headers)  # noqa: S310 - our own address
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - as above
        return json.loads(answer.read())["results"]


async def act(server: Any, action: str, key: str) -> Any:
    (result,) = await trio.to_thread.run_sync(partial(post, f"{server.url}api/v1/actions/{action}", [key]))
    return result


@asynccontextmanager
async def watched(where: str) -> AsyncIterator[tuple[Any, Computation]]:
    with trio.fail_after(60):
        async with discoro.open_cluster(servers=1) as scheduler:
            source: Scheduler | RemoteScheduler = scheduler
            if where == "elsewhere":
                source = RemoteScheduler(current_process().endpoint, str(scheduler.location))
            async with (
                discoro.Computation([stay, one], name="work").schedule() as computation,
                discoro.open_http_server(source, port=0, token=TOKEN) as server,
            ):
                yield server, computation


@pytest.mark.spec("S97", "B14")
@pytest.mark.parametrize("where", ["here", "elsewhere"])
async def test_a_node_rests_and_works_again(where: str, caplog: pytest.LogCaptureFixture) -> None:
    async with watched(where) as (server, computation):
        await computation.run_result(one)
        nodes = await until(server, "cluster", lambda page: page["total"] == 1)
        key = nodes["rows"][0]["id"]
        with caplog.at_level(logging.WARNING, "discoro_trio.monitor.audit"):
            assert (await act(server, "suspend", key))["ok"]
        assert [record.getMessage() for record in caplog.records] == [f"127.0.0.1: suspend {key}"]
        await until(server, "cluster", lambda page: page["rows"][0]["state"] == "suspended")
        while computation.statistics().suspended_nodes != 1:  # noqa: ASYNC110 - the monitor may show it earlier
            await trio.sleep(0.01)
        with trio.move_on_after(0.3) as waiting:
            await computation.run(one)
        assert waiting.cancelled_caught
        assert (await act(server, "resume", key))["ok"]
        assert await computation.run_result(one) == 1


@pytest.mark.spec("S97")
@pytest.mark.parametrize("where", ["here", "elsewhere"])
async def test_a_server_is_restarted_and_another_takes_its_place(where: str) -> None:
    async with watched(where) as (server, computation):
        rcoro = await computation.run(stay)
        (location,) = await computation.servers()
        await until(server, "coroutines", lambda page: page["total"] == 1)
        assert (await act(server, "restart", str(location)))["ok"]
        with pytest.raises(discoro.ServerLost, match="an admin request restarted it"):
            await rcoro.result()
        assert await computation.run_result(one) == 1


@pytest.mark.spec("S97")
@pytest.mark.parametrize("where", ["here", "elsewhere"])
async def test_a_computation_is_closed_and_its_client_is_told(where: str) -> None:
    async with watched(where) as (server, computation):
        rcoro = await computation.run(stay)
        found = await until(server, "computations", lambda page: page["total"] == 1)
        assert (await act(server, "close", found["rows"][0]["id"]))["ok"]
        with pytest.raises(discoro.ComputationClosed, match="an admin request closed it"):
            await rcoro.result()
        await until(server, "computations", lambda page: page["rows"][0]["state"] == "closed")


async def test_a_computation_that_waits_in_the_queue_is_closed_and_its_client_is_told() -> None:
    closed = trio.Event()

    async def wait_for_a_turn() -> None:
        with pytest.raises(discoro.ComputationClosed, match="an admin request closed it"):
            async with discoro.Computation([one], name="waits").schedule():
                pytest.fail("it has no turn")
        closed.set()

    async def is_queued() -> bool:
        return any(found.name == "waits" and found.place == 1 for found in (await scheduler.status()).computations)

    with trio.fail_after(60):
        async with (
            discoro.open_cluster(servers=1) as scheduler,
            trio.open_nursery() as nursery,
            discoro.Computation([stay]).schedule(),
        ):
            nursery.start_soon(wait_for_a_turn)
            while not await is_queued():  # noqa: ASYNC110 - status has no events
                await trio.sleep(0.02)
            await scheduler.close_computation("waits")
            await closed.wait()


@pytest.mark.spec("S97", "B14")
async def test_a_monitor_of_a_computation_closes_no_other_one(caplog: pytest.LogCaptureFixture) -> None:
    async def wait_in_the_queue() -> None:
        async with discoro.Computation([one], name="others").schedule() as others:
            assert await others.run_result(one) == 1

    with trio.fail_after(60):
        async with (
            discoro.open_cluster(servers=1),
            trio.open_nursery() as nursery,
            discoro.Computation([one], name="own").schedule() as computation,
            discoro.open_http_server(computation, port=0, token=TOKEN) as server,
        ):
            nursery.start_soon(wait_in_the_queue)
            found = await until(server, "computations", lambda page: page["total"] == 2)
            ids = {row["name"]: row["id"] for row in found["rows"]}
            with caplog.at_level(logging.WARNING, "discoro_trio.monitor.audit"):
                refused = await act(server, "close", ids["others"])
            assert (refused["ok"], "belongs to another program" in refused["text"]) == (False, True)
            assert caplog.records == []
            assert await computation.run_result(one) == 1
            assert (await act(server, "close", ids["own"]))["ok"]
            with pytest.raises(discoro.ComputationClosed):
                await computation.run(one)


async def test_what_is_not_there_is_said(caplog: pytest.LogCaptureFixture) -> None:
    async with discoro.open_cluster(servers=1) as scheduler:
        for call in (
            scheduler.suspend_node("10.9.9.9"),
            scheduler.resume_node("nowhere"),
            scheduler.restart_server(discoro.Location("10.9.9.9", 1)),
        ):
            with pytest.raises(discoro.UnknownLocation, match="the scheduler has no"):
                await call
        with pytest.raises(discoro.DiscoroError, match="no computation"):
            await scheduler.close_computation("00")


async def test_a_monitor_stays_with_the_scheduler_that_it_found_until_that_one_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    links: list[Any] = []

    async def find(_endpoint: object, _seconds: float, *, host: str | None = None) -> Any:
        await trio.lowlevel.checkpoint()
        links.append(SimpleNamespace(ended=trio.Event(), host=host))
        return links[-1]

    monkeypatch.setattr(_remote, "find_scheduler", find)
    endpoint: Any = None
    source = RemoteScheduler(endpoint, None)
    first = await source._link()
    assert await source._link() is first, "another scheduler of the network is not mixed in"
    first.ended.set()
    assert await source._link() is links[1]
