"""What a monitor shows and does of each kind of cluster: in the client, at the scheduler, as a program of its own."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import trio

import discoro_trio as discoro
from tests.cli.programs import SECONDS, running

from .kinds import SERVERS, TOKEN, kind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .kinds import Kind

__all__ = ["kind"]
pytestmark = [pytest.mark.program, pytest.mark.slow]


def divide(a: float, b: float) -> float:
    return a / b


async def stay(way: str) -> None:
    print(f"here is {way}", flush=True)  # noqa: T201 - as jobs do
    await trio.sleep_forever()


async def until_terminated(computation: discoro.Computation) -> None:
    """Wait for a result of what somebody terminates."""
    with pytest.raises(discoro.CoroCancelled):
        await computation.run_result(stay, "run_result")


class Monitor(NamedTuple):
    """A monitor, as a program that asks it."""

    url: str

    async def get(self, path: str) -> Any:
        """Request a part of the interface for programs."""
        return await self._ask(urllib.request.Request(f"{self.url}api/v1/{path}"))  # noqa: S310 - our own address

    async def until_ready(self) -> None:
        """Wait until it has the state of the cluster."""
        while True:
            try:
                await self._ask(urllib.request.Request(f"{self.url}readyz"))  # noqa: S310 - our own address
            except urllib.error.HTTPError:
                await trio.sleep(0.05)
            else:
                return

    async def act(self, action: str, ids: list[str]) -> list[dict[str, Any]]:
        """Carry out an action; return what came of it."""
        request = urllib.request.Request(  # noqa: S310 - our own address
            f"{self.url}api/v1/actions/{action}",
            json.dumps({"ids": ids}).encode(),
            {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"},
        )
        found: list[dict[str, Any]] = (await self._ask(request))["results"]
        return found

    async def until(self, path: str, holds: Any) -> Any:
        """Ask again and again until something holds of the answer."""
        while not holds(found := await self.get(path)):  # noqa: ASYNC110 - as a program asks that has no stream
            await trio.sleep(0.05)
        return found

    async def _ask(self, request: urllib.request.Request) -> Any:
        def ask() -> Any:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:  # noqa: S310 - our own address
                return json.loads(answer.read())

        return await trio.to_thread.run_sync(ask)


@asynccontextmanager
async def opened(
    kind: Kind, where: str, computation: discoro.Computation, scheduler: discoro.Scheduler | None
) -> AsyncIterator[Monitor]:
    """Open a monitor of a kind of cluster."""
    if where == "client":
        async with discoro.open_http_server(computation, port=0, token=TOKEN) as server:
            yield Monitor(server.url)
    elif where == "scheduler" and scheduler is not None:
        async with discoro.open_http_server(scheduler, port=0, token=TOKEN) as server:
            yield Monitor(server.url)
    elif where == "scheduler":
        assert kind.monitor is not None
        yield Monitor(kind.monitor)
    else:
        place = [] if scheduler is None else [str(scheduler.location)]
        options = ["--udp_port", str(kind.udp_port), "--http_port", "0", "--http_token", TOKEN]
        async with running("monitor", *place, *options, read="all") as program:
            yield Monitor((await program.says("look at")).split()[-1].partition("#")[0])


@pytest.mark.spec("S89", "S91", "S92", "S94", "S95", "S97", "B18", "B24", "B25", "B38")
@pytest.mark.parametrize("where", ["client", "scheduler", "a program"])
async def test_it_shows_what_runs_what_failed_and_what_was_written_and_ends_coroutines(kind: Kind, where: str) -> None:
    computation = discoro.Computation([divide, stay], name="the truth")
    async with (
        kind.place() as scheduler,
        computation.schedule(servers=SERVERS),
        opened(kind, where, computation, scheduler) as monitor,
    ):
        await monitor.until_ready()
        before = await monitor.get("summary")
        await computation.run_result(divide, 4, 2)
        with pytest.raises(ZeroDivisionError):
            await computation.run_result(divide, 1, 0)
        async with trio.open_nursery() as nursery:
            started = await computation.run(stay, "run")
            nursery.start_soon(until_terminated, computation)
            shown = await monitor.until("coroutines", lambda found: found["total"] == 2)
            assert sorted(row["args"] for row in shown["rows"]) == ["'run'", "'run_result'"]
            summary = await monitor.until(
                "summary", lambda found: (found["submitted"] - before["submitted"], found["running"]) == (4, 2)
            )
            assert (summary["done"] - before["done"], summary["failed"] - before["failed"]) == (2, 1)
            nodes = (await monitor.get("cluster"))["rows"]
            assert sum(row["running"] for row in nodes) == 2
            assert all(row["cpu"] >= 0 and row["memory"] > 0 for row in nodes)
            node = await monitor.get(f"nodes/{nodes[0]['id']}")
            servers = {str(place) for place in await computation.servers()}
            assert {row["id"] for row in node["rows"] if row["state"] == "ready"} <= servers
            failures = await monitor.until("failures", lambda found: found["rows"])
            told = [(row["name"], row["error"], row["count"]) for row in failures["rows"]]
            assert ("divide", "ZeroDivisionError: division by zero", 1) in told
            await monitor.until("output", lambda found: {"here is run", "here is run_result"} <= texts(found))
            assert (await monitor.get("timeline"))["rows"]
            done = await monitor.act("terminate", [row["id"] for row in shown["rows"]])
            assert [one["ok"] for one in done] == [True, True]
            with pytest.raises(discoro.CoroCancelled):
                await started.result()
            await monitor.until("summary", lambda found: found["running"] == 0)


def texts(found: Any) -> set[str]:
    """Return the lines of a page of output."""
    return {row["text"].removeprefix("stay: ") for row in found["rows"]}
