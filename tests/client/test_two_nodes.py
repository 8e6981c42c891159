"""Placing on two nodes: one at each, all of one, nurseries over both, set-up once a node."""

from __future__ import annotations

import functools
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio

import discoro_trio as discoro

from ..cluster.test_open import apart, options
from .clusters import until_servers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")


@asynccontextmanager
async def open_two_nodes(computation: discoro.Computation) -> AsyncIterator[dict[str, list[discoro.Location]]]:
    """Schedule a computation on two nodes, with two servers and one; give their servers by the nodes' names."""
    common = options()
    with trio.fail_after(120):
        async with AsyncExitStack() as stack:
            nodes = [
                await stack.enter_async_context(
                    apart(discoro.open_node(cpus=cpus, discover=False, **{**options(), "name": name}))
                )
                for name, cpus in (("north", 2), ("south", 1))
            ]
            locations = [str(node.location) for node in nodes]
            await stack.enter_async_context(discoro.open_scheduler(nodes=locations, discover=False, **common))
            await stack.enter_async_context(computation.schedule())
            await until_servers(computation, 3)
            yield {node.name: node.servers for node in nodes}


async def where(*, coro: discoro.Coro[Any]) -> discoro.Location:
    return coro.location


async def stay(folder: Path, *, coro: discoro.Coro[Any]) -> None:
    mark = folder / str(coro.location)
    mark.touch()
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(0.05)
        mark.unlink()


async def fail() -> None:
    message = "it failed"
    raise ValueError(message)


async def note(folder: Path) -> None:
    with (folder / "notes").open("a") as file:
        file.write("node\n")


def marks(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.spec("S60", "S62", "S63", "S64", "S65", "S66", "S69")
async def test_one_at_each_node_all_servers_and_all_of_one_node() -> None:
    computation = discoro.Computation([where])
    async with open_two_nodes(computation) as servers:
        everywhere = sorted([*servers["north"], *servers["south"]])
        at_nodes = [await coro.result() for coro in await computation.run_nodes(where)]
        assert len(at_nodes) == 2
        assert set(at_nodes) & set(servers["south"])
        assert sorted([await coro.result() for coro in await computation.run_servers(where)]) == everywhere
        for name in servers:
            there = [await coro.result() for coro in await computation.run_node_servers(name, where)]
            assert sorted(there) == sorted(servers[name])
            assert await (await computation.run_at(name, where)).result() in servers[name]


@pytest.mark.spec("S63")
async def test_the_least_loaded_node_comes_first_and_suspended_ones_not_at_all(tmp_path: Path) -> None:
    computation = discoro.Computation([stay, where])
    async with open_two_nodes(computation) as servers:
        await computation.run_at("north", stay, tmp_path)
        assert await computation.run_result(where) in servers["south"]
        await computation.suspend_node("south")
        assert await computation.run_result(where) in servers["north"]
        (coro,) = await computation.run_nodes(where)
        assert await coro.result() in servers["north"]
        await computation.resume_node("south")
        assert await computation.run_result(where) in servers["south"]


@pytest.mark.spec("B01", "B02")
async def test_when_one_fails_its_siblings_on_all_servers_of_both_nodes_have_cleaned_up(tmp_path: Path) -> None:
    computation = discoro.Computation([stay])
    texts: list[str] = []
    async with open_two_nodes(computation) as servers:
        try:
            async with computation.open_nursery() as nursery:
                for location in (*servers["north"], *servers["south"]):
                    nursery.start_soon_at(location, stay, tmp_path)
                while len(marks(tmp_path)) != 3:  # noqa: ASYNC110 (other processes make them)
                    await trio.sleep(0.005)
                nursery.start_soon(fail)
        except* ValueError as group:
            texts = [str(error) for error in group.exceptions]
        assert texts == ["it failed"]
        assert marks(tmp_path) == []


@pytest.mark.spec("B10")
async def test_node_setup_is_run_once_on_each(tmp_path: Path) -> None:
    computation = discoro.Computation(node_setup=functools.partial(note, tmp_path))
    async with open_two_nodes(computation):
        assert len(await computation.run_servers(where)) == 3
    assert (tmp_path / "notes").read_text().split() == ["node", "node"]
