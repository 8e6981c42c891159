"""What type checkers make of the ways to run something: `nox -s types` reads this file, and here it is also run.

Each `assert_type` holds under mypy and under pyright, which also report an ignore comment that is not needed.
"""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_type

import pytest
import trio

import discoro_trio as discoro
from discoro_trio._process import signatures

from .clusters import open_computation

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="servers are forked"),
    pytest.mark.spec("B22"),
]

NODE = "127.0.0.1"


async def add(a: int, b: int = 1) -> int:
    return a + b


async def scaled(a: int, factor: float = 1.0, *, coro: discoro.Coro[Any]) -> float:
    await trio.lowlevel.checkpoint()
    assert coro.name
    return a * factor


async def six(  # noqa: PLR0917 (the most that are checked)
    a: int, b: str, c: int, d: str, e: int, f: str, *, coro: discoro.Coro[Any]
) -> str:
    assert coro.name
    return f"{a}{b}{c}{d}{e}{f}"


async def leading(coro: discoro.Coro[Any], a: int, *, scale: float) -> float:
    await trio.lowlevel.checkpoint()
    assert coro.name == "leading"
    return a * scale


async def seven(  # noqa: PLR0917 (any number is checked)
    coro: discoro.Coro[Any], a: int, b: str, c: int, d: str, e: int, f: str, g: int
) -> str:
    assert coro.name == "seven"
    return f"{a}{b}{c}{d}{e}{f}{g}"


async def of_another(coro: discoro.Coro[int], times: int = 1) -> int:
    return await coro.result() * times


async def doubled(coro: discoro.Coro[Any], a: int) -> int:
    assert coro.name
    return 2 * a


async def scaled_pair(coro: discoro.Coro[Any], a: int, b: float) -> float:
    assert coro.name
    return a * b


def plain(a: int, b: str) -> str:
    return b * a


async def numbers() -> AsyncIterator[int]:
    yield 1
    yield 2


async def announce(*, task_status: trio.TaskStatus[int]) -> None:
    task_status.started(5)


@pytest.mark.parametrize(
    ("protocol", "result"),
    [
        ("RunsOne", "Coro[R]"),
        ("RunsOneAt", "Coro[R]"),
        ("RunsMany", "list[Coro[R]]"),
        ("RunsManyAt", "list[Coro[R]]"),
        ("GivesResult", "R"),
        ("GivesResultAt", "R"),
        ("GivesResults", "list[R]"),
    ],
)
def test_each_way_of_running_keeps_the_type_of_the_result(protocol: str, result: str) -> None:
    # The overloads do not exist at run time; the type checkers see them, and the assertions of this file.
    tree = ast.parse(Path(str(signatures.__file__)).read_text(encoding="utf-8"))
    (found,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == protocol]
    overloads = [node for node in found.body if isinstance(node, ast.AsyncFunctionDef) and node.decorator_list]
    assert len(overloads) >= 3
    assert {ast.unparse(overload.returns) for overload in overloads if overload.returns} == {result}


async def test_results_keep_their_types() -> None:
    async with open_computation() as computation:
        assert assert_type(await computation.run_result(add, 1, b=2), int) == 3
        assert assert_type(await computation.run_result(scaled, 2), float) == 2
        assert assert_type(await computation.run_result(scaled, 2, 0.5), float) == 1
        assert assert_type(await computation.run_result(six, 1, "b", 3, "d", 5, "f"), str) == "1b3d5f"
        assert assert_type(await computation.run_result(plain, 2, "x"), str) == "xx"
        assert assert_type(await computation.run_results(add, [1, 2]), list[int]) == [2, 3]
        assert assert_type(await computation.run_results(scaled, numbers()), list[float]) == [1, 2]


async def test_a_first_parameter_of_type_coro_is_supplied_beside_all_others() -> None:
    async with open_computation() as computation:
        assert assert_type(await computation.run_result(leading, 2, scale=1.5), float) == 3
        assert assert_type(await computation.run_result(leading, a=2, scale=0.5), float) == 1
        assert assert_type(await computation.run_result(seven, 1, "b", 3, "d", 5, "f", 7), str) == "1b3d5f7"
        coro = assert_type(await computation.run(leading, 3, scale=2), discoro.Coro[float])
        assert await coro.result() == 6
        async with computation.map(doubled, [1, 2]) as results:
            assert [assert_type(value, int) async for value in results] == [2, 4]
        async with computation.map(doubled, [1, 2, 3], chunksize=2) as results:
            assert [value async for value in results] == [2, 4, 6]
        async with computation.starmap(scaled_pair, [(2, 1.5)]) as pairs:
            assert [assert_type(value, float) async for value in pairs] == [3]
        assert assert_type(await computation.run_results(doubled, [4]), list[int]) == [8]
        async with computation.open_nursery() as nursery:
            nursery.start_soon(doubled, 1)
            nursery.start_soon_at(NODE, scaled_pair, 1, 2.0, name="pair")
            assert assert_type(await nursery.run(seven, 1, "b", 3, "d", 5, "f", 7), discoro.Coro[str]).name == "seven"


async def test_a_coro_that_the_caller_gives_stays_the_first_argument() -> None:
    async with open_computation() as computation:
        coro = await computation.run(add, 2)
        assert assert_type(await computation.run_result(of_another, coro), int) == 3
        assert assert_type(await computation.run_result(of_another, coro, times=2), int) == 6


async def test_handles_know_what_the_result_is() -> None:
    async with open_computation() as computation:
        coro = assert_type(await computation.run(add, 1), discoro.Coro[int])
        assert assert_type(await coro.result(), int) == 2
        (server, _) = await computation.servers()
        at = assert_type(await computation.run_at(server, scaled, 1, 2.0), discoro.Coro[float])
        assert await at.result() == 2
        each = assert_type(await computation.run_each("node", plain, 1, "x"), list[discoro.Coro[str]])
        assert [await one.result() for one in each] == ["x"]
        everywhere = assert_type(await computation.run_servers(add, 1), list[discoro.Coro[int]])
        nodes = assert_type(await computation.run_nodes(scaled, 1), list[discoro.Coro[float]])
        here = assert_type(await computation.run_node_servers(NODE, add, 1), list[discoro.Coro[int]])
        assert [await one.result() for one in (*everywhere, *nodes, *here)] == [2, 2, 1, 2, 2]


async def test_maps_give_what_the_function_returns() -> None:
    async with open_computation() as computation:
        async with computation.map(scaled, [1, 2]) as results:
            assert [assert_type(value, float) async for value in results] == [1, 2]
        async with computation.map(add, numbers(), ordered=True, limit=3, chunksize=2) as sums:
            assert [assert_type(value, int) async for value in sums] == [2, 3]
        async with computation.starmap(plain, [(1, "x"), (2, "y")]) as texts:
            assert [assert_type(value, str) async for value in texts] == ["x", "yy"]
        async with computation.starmap(scaled, [(1, 2.0)]) as scales:
            assert [assert_type(value, float) async for value in scales] == [2]


async def test_nurseries_do_as_well() -> None:
    async with open_computation() as computation, computation.open_nursery() as nursery:
        nursery.start_soon(add, 1)
        nursery.start_soon(scaled, 1, 2.0, name="scaled")
        nursery.start_soon_at(NODE, plain, 1, "x", name="plain")
        assert assert_type(await nursery.run(scaled, 1), discoro.Coro[float]).name == "scaled"
        assert assert_type(await nursery.run_at(NODE, add, 1), discoro.Coro[int]).name == "add"
        assert await nursery.start(announce) == 5
        async with discoro.open_nursery() as local:
            local.start_soon(plain, 1, "x")
            assert await assert_type(await local.run(scaled, 3), discoro.Coro[float]).result() == 3
            assert await local.start(announce) == 5


if TYPE_CHECKING:

    async def wrong_arguments(computation: discoro.Computation, local: discoro.Nursery) -> None:
        await computation.run(add, "1")  # type: ignore[arg-type]
        await computation.run(add)  # type: ignore[arg-type]
        await computation.run_result(scaled, "1")  # type: ignore[misc]
        await computation.run_result(plain, 1)  # type: ignore[arg-type]
        await computation.run(leading, "1", scale=2)  # type: ignore[arg-type, call-arg]
        await computation.run(leading, 1)  # type: ignore[arg-type]
        await computation.run_at(NODE, plain, 1, 2)  # type: ignore[arg-type]
        await computation.run_at(5, add, 1)  # type: ignore[call-overload]
        computation.map(plain, [1])  # type: ignore[arg-type]
        computation.starmap(add, [("1", "2")])  # type: ignore[arg-type]
        local.start_soon(add, "1")  # type: ignore[arg-type]
        local.start_soon(scaled, 1, "2")  # type: ignore[call-arg, misc]
