"""A computation that is sent to its servers: coroutines there start others, in nurseries of their own."""

from __future__ import annotations

import pickle
import sys
from typing import TYPE_CHECKING, Any

import pytest
import trio

import discoro_trio as discoro

from .clusters import open_computation

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="servers are forked"),
    pytest.mark.spec("B01", "B02"),
]


async def where(*, coro: discoro.Coro[Any]) -> discoro.Location:
    return coro.location


async def fail(text: str) -> None:
    raise ValueError(text)


async def stay(folder: Path, *, coro: discoro.Coro[Any]) -> None:
    """Say in a folder where it runs, and at its end that it has cleaned up."""
    mark = folder / f"{coro.location}-{coro.starter.hex()[:4]}-{coro.serial:x}"
    mark.write_text("runs")
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(0.05)
        mark.write_text("clean")


def states(folder: Path) -> list[str]:
    return [path.read_text() for path in folder.iterdir()]


async def stay_at_all(folder: Path, computation: discoro.Computation, failing: bool) -> None:  # noqa: FBT001
    """Open a nursery at a server, with a coroutine at each; fail when all of them run, if that is wanted."""
    async with computation.open_nursery() as nursery:
        for server in await computation.run_servers(where):
            nursery.start_soon_at(await server.result(), stay, folder)
        if failing:
            while len(states(folder)) < 2:  # noqa: ASYNC110 (other processes write them)
                await trio.sleep(0.005)
            nursery.start_soon(fail, "from a server")


async def stay_mixed(folder: Path, computation: discoro.Computation, failing: bool) -> None:  # noqa: FBT001
    """Open a local nursery at a server, with a coroutine there, and a task that has one at each server."""
    async with discoro.open_nursery() as here:
        here.start_soon(stay, folder)
        here.start_soon(stay_at_all, folder, computation, False)  # noqa: FBT003
        if failing:
            while len(states(folder)) < 3:  # noqa: ASYNC110 (other processes write them)
                await trio.sleep(0.005)
            here.start_soon(fail, "from a local nursery")


async def ask_all(computation: discoro.Computation) -> list[discoro.Location]:
    servers = [await coro.result() for coro in await computation.run_servers(where)]
    async with computation.open_nursery() as nursery:
        coros = [await nursery.run_at(server, where) for server in servers]
        coros.append(await nursery.run_at("127.0.0.1", where))
        coros.append(await nursery.run(where))
    return sorted({await coro.result() for coro in coros})


async def use_all_ways(computation: discoro.Computation) -> list[Any]:
    async with computation.map(abs, [-1, -2]) as results:
        mapped = [value async for value in results]
    coro = await computation.run(pow, 2, 3)
    return [await computation.run_result(pow, 2, 2), await coro.result(), mapped]


async def nest(computation: discoro.Computation, depth: int) -> int:
    """Go on to another server, and back, so many times."""
    if not depth:
        return 0
    async with computation.open_nursery() as nursery:
        coro = await nursery.run(nest, computation, depth - 1)
    return await coro.result() + 1


async def lose(computation: discoro.Computation, server: discoro.Location) -> None:
    async with computation.open_nursery() as nursery:
        nursery.start_soon_at(server, exit_now)
        nursery.start_soon(trio.sleep_forever)


async def exit_now() -> None:
    import os  # noqa: PLC0415 (it runs where this module's globals are not)

    os._exit(1)


async def run_and_forget(computation: discoro.Computation) -> None:
    coro = await computation.run(fail, "forgotten")
    await coro.wait()


COMPONENTS = [where, fail, stay, states, stay_at_all, stay_mixed, nest, exit_now]


@pytest.fixture
async def computation() -> AsyncIterator[discoro.Computation]:
    async with open_computation(COMPONENTS, grace_period=2.0) as computation:
        yield computation


async def test_a_nursery_at_a_server_uses_all_servers(computation: discoro.Computation) -> None:
    found = await computation.run_result(ask_all, computation)
    assert found == sorted(await computation.servers())


async def test_all_ways_to_run_something_work_there(computation: discoro.Computation) -> None:
    assert await computation.run_result(use_all_ways, computation) == [4, 8, [1, 2]]


async def test_it_goes_on_from_server_to_server(computation: discoro.Computation) -> None:
    assert await computation.run_result(nest, computation, 5) == 5


async def test_an_error_cancels_the_siblings_on_both_servers_and_comes_as_it_was(
    computation: discoro.Computation, tmp_path: Path
) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        await computation.run_result(stay_at_all, tmp_path, computation, True)  # noqa: FBT003
    assert [str(error) for error in caught.value.exceptions] == ["from a server"]
    assert states(tmp_path) == ["clean"] * 2


async def test_an_error_in_a_local_nursery_at_a_server_cancels_what_its_siblings_run_elsewhere(
    computation: discoro.Computation, tmp_path: Path
) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        await computation.run_result(stay_mixed, tmp_path, computation, True)  # noqa: FBT003
    assert [str(error) for error in caught.value.exceptions] == ["from a local nursery"]
    assert states(tmp_path) == ["clean"] * 3


async def test_cancelling_at_the_client_reaches_local_and_remote_nurseries_that_are_nested_at_a_server(
    computation: discoro.Computation, tmp_path: Path
) -> None:
    with trio.CancelScope() as scope:
        async with computation.open_nursery() as nursery:
            nursery.start_soon(stay_mixed, tmp_path, computation, False)  # noqa: FBT003
            while states(tmp_path) != ["runs"] * 3:  # noqa: ASYNC110 (other processes write them)
                await trio.sleep(0.005)
            scope.cancel()
    assert scope.cancelled_caught
    assert states(tmp_path) == ["clean"] * 3


async def test_a_deadline_at_the_client_reaches_what_runs_two_steps_away(
    computation: discoro.Computation, tmp_path: Path
) -> None:
    with trio.CancelScope() as scope:
        async with computation.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(stay_at_all, tmp_path, computation, False)  # noqa: FBT003
            while states(tmp_path) != ["runs"] * 4:  # noqa: ASYNC110 (other processes write them)
                await trio.sleep(0.005)
            scope.cancel()
    assert scope.cancelled_caught
    assert states(tmp_path) == ["clean"] * 4


async def test_a_server_that_is_lost_is_an_error_at_the_one_that_started_there(
    computation: discoro.Computation,
) -> None:
    first, second = await computation.servers()
    coro = await computation.run_at(first, lose, computation, second)
    with pytest.raises(ExceptionGroup) as caught:
        await coro.result()
    assert [type(error) for error in caught.value.exceptions] == [discoro.ServerLost]


async def test_errors_that_nobody_hears_there_are_logged(
    computation: discoro.Computation, caplog: pytest.LogCaptureFixture
) -> None:
    await computation.run_result(run_and_forget, computation)
    await computation.close()
    assert "no code received its error" in caplog.text
    assert "ValueError: forgotten" in caplog.text


async def test_elsewhere_than_at_its_servers_it_says_so(computation: discoro.Computation) -> None:
    sent = pickle.loads(pickle.dumps(computation))
    with pytest.raises(RuntimeError, match="at its own servers only"):
        await sent.run(where)
    with pytest.raises(RuntimeError, match="not scheduled"):
        pickle.dumps(discoro.Computation())
