"""Where a program for the old system would break without a word, it hears what to write instead."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

import discoro_trio as discoro
from discoro_trio._compat import _old_programs as migration

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

PAGE = (Path(__file__).parents[1] / "docs" / "migration.md").read_text(encoding="utf-8")


def generator_job(n: int, coro: Any = None) -> Iterator[Any]:
    yield coro.sleep(n)


async def async_generator_job(n: int, *, coro: Any) -> AsyncIterator[Any]:
    yield coro.sleep(n)


async def half_changed_job(n: int, coro: Any = None) -> Any:
    return n, coro.location


async def job(n: int) -> int:
    return n


# --- names that are gone


@pytest.mark.parametrize("name", migration.PACKAGE)
def test_an_old_name_of_the_modules_names_the_new_one(name: str) -> None:
    with pytest.raises(AttributeError) as caught:
        getattr(discoro, name)
    assert str(caught.value) == f"discoro.{name} is gone; instead: {migration.PACKAGE[name]}"
    assert f"`{name}`" in PAGE


CLASSES: list[tuple[Any, dict[str, str]]] = [
    (discoro.Coro, migration.CORO),
    (discoro.Channel, migration.CHANNEL),
    (discoro.RCI, migration.RCI),
    (discoro.Computation, migration.COMPUTATION),
    (discoro.Scheduler, migration.SCHEDULER),
]


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, old in CLASSES for name in old])
def test_an_old_name_of_a_class_names_the_new_one(kind: type, name: str) -> None:
    with pytest.raises(AttributeError, match=rf"{kind.__name__}\.{name} is gone; instead: \w+"):
        getattr(kind, name)
    assert not hasattr(kind, name)
    assert f"`{name}`" in PAGE


async def test_an_old_name_of_an_object_names_the_new_one() -> None:
    async with discoro.open_endpoint(), discoro.open_coro() as me:
        coro: Any = me
        with pytest.raises(AttributeError, match=r"await coro\.result\(\)"):
            coro.finish()


@pytest.mark.parametrize("name", ["MsgTimeout", "MinPulseInterval", "MaxPulseInterval"])
def test_a_setting_that_is_set_where_it_was_once_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discoro, name, 5, raising=False)
    with pytest.raises(AttributeError, match=rf"instead: discoro\.config\.{name}"):
        discoro.Computation([job])


# --- objects that programs made themselves


@pytest.mark.parametrize(
    ("make", "instead"),
    [
        (lambda kind: kind.Scheduler(), r"async with open_scheduler\(\)"),
        (lambda kind: kind.Scheduler(node="localhost"), r"async with open_scheduler\(\)"),
        (lambda kind: kind.Coro(job, 1), r"await computation\.run\(function, \.\.\.\)"),
        (lambda kind: kind.Coro(job, 1, 2, 3, 4, 5), r"await computation\.run\(function, \.\.\.\)"),
        (lambda kind: kind.Channel("news"), r"async with open_channel\(name\)"),
        (lambda kind: kind.HTTPServer(), r"async with open_http_server\(computation\)"),
    ],
)
def test_what_is_opened_now_refuses_to_be_made(make: Callable[[Any], object], instead: str) -> None:
    with pytest.raises(TypeError, match=instead):
        make(discoro)


# --- blocks that were calls


async def test_schedule_that_is_awaited_says_that_it_is_a_block() -> None:
    computation: Any = discoro.Computation([job])
    with pytest.raises(TypeError, match=r"write: async with Computation\.schedule\(\.\.\.\):"):
        await computation.schedule()


@pytest.mark.parametrize("call", [discoro.Computation([job]).schedule, discoro.RCI(job).register])
def test_a_block_that_is_called_and_left_lying_warns(call: Callable[[], object]) -> None:
    with pytest.warns(RuntimeWarning, match=r"nothing was done: .* is a block; write: async with"):
        call()  # the block that it gives is collected at once


async def test_a_computation_that_was_not_entered_says_so_when_something_is_run() -> None:
    computation = discoro.Computation([job])
    with pytest.raises(RuntimeError, match=r"run it inside 'async with computation\.schedule\(\):'"):
        await computation.run(job, 1)


# --- jobs


STARTS: dict[str, Callable[[Any, Any], Any]] = {
    "run": lambda computation, fn: computation.run(fn, 1),
    "run_at": lambda computation, fn: computation.run_at("127.0.0.1", fn, 1),
    "run_each": lambda computation, fn: computation.run_each("node", fn, 1),
    "run_nodes": lambda computation, fn: computation.run_nodes(fn, 1),
    "run_servers": lambda computation, fn: computation.run_servers(fn, 1),
    "run_node_servers": lambda computation, fn: computation.run_node_servers("127.0.0.1", fn, 1),
    "run_result": lambda computation, fn: computation.run_result(fn, 1),
    "run_results": lambda computation, fn: computation.run_results(fn, [1]),
}
JOBS: dict[Callable[..., Any], str] = {
    generator_job: r"generator_job is a generator function: make it `async def`",
    async_generator_job: r"async_generator_job is an async generator function",
    half_changed_job: r"half_changed_job would stay None; make it keyword-only: `\*, coro`",
}


async def test_generators_and_half_changed_jobs_are_refused_wherever_a_function_is_taken(
    discoro_cluster: discoro.Scheduler,
) -> None:
    async with discoro.Computation([job]).schedule() as computation, computation.open_nursery() as nursery:
        for old, message in JOBS.items():
            for start in STARTS.values():
                with pytest.raises(TypeError, match=message):
                    await start(computation, old)
            with pytest.raises(TypeError, match=message):
                nursery.start_soon(old, 1)
            with pytest.raises(TypeError, match=message):
                computation.map(old, [1])
            async with discoro.ProcScheduler(computation) as jobs:
                with pytest.raises(TypeError, match=message):
                    await jobs.schedule(old, 1)


@pytest.mark.parametrize("old", JOBS)
def test_generators_and_half_changed_jobs_are_refused_as_rci_and_set_up(old: Any) -> None:
    for make in (discoro.RCI, lambda fn: discoro.Computation(node_setup=fn)):
        with pytest.raises(TypeError, match=JOBS[old]):
            make(old)


# --- timeouts


AWAITED: dict[str, Callable[[Any, Any], Any]] = {
    "Coro.receive": lambda coro, _channel: coro.receive(timeout=5),
    "Coro.deliver": lambda coro, _channel: coro.deliver(1, timeout=5),
    "Coro.result": lambda coro, _channel: coro.result(timeout=5),
    "Coro.wait": lambda coro, _channel: coro.wait(timeout=5),
    "Coro.send": lambda coro, _channel: coro.send(1, timeout=5),
    "Channel.deliver": lambda _coro, channel: channel.deliver(1, timeout=5, n=1),
    "locate": lambda *_: discoro.locate("x", timeout=5),  # type: ignore[call-arg]
    "locate_channel": lambda *_: discoro.locate_channel("x", timeout=5),  # type: ignore[call-arg]
    "locate_rci": lambda *_: discoro.locate_rci("x", timeout=5),  # type: ignore[call-arg]
    "send_file": lambda coro, _: discoro.send_file(coro.location, "x", timeout=5),  # type: ignore[call-arg]
    "del_file": lambda coro, _: discoro.del_file(coro.location, "x", timeout=5),  # type: ignore[call-arg]
}
BLOCKS: dict[str, Callable[[Any, Any, Any], object]] = {
    "Channel.subscribe_coro": lambda coro, channel, _computation: channel.subscribe_coro(coro, timeout=5),
    "Computation.schedule": lambda _coro, _channel, computation: computation.schedule(timeout=5),
}


@pytest.mark.parametrize("name", AWAITED)
async def test_a_timeout_is_refused_and_a_note_names_the_scope_to_write_instead(name: str) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'timeout'") as caught:
        async with discoro.open_endpoint(), discoro.open_coro() as me, discoro.open_channel("c") as channel:
            await AWAITED[name](me, channel)
    (note,) = caught.value.__notes__
    assert "with trio.fail_after(seconds):" in note


async def test_a_timeout_in_a_task_is_noted_in_the_group() -> None:
    async def wait(coro: Any) -> None:
        await coro.receive(timeout=5)

    with pytest.raises(ExceptionGroup) as caught:
        async with discoro.open_endpoint(), discoro.open_coro() as me, trio.open_nursery() as nursery:
            nursery.start_soon(wait, me)
    (error,) = caught.value.exceptions
    assert any("trio.fail_after" in note for note in error.__notes__)


@pytest.mark.parametrize("name", BLOCKS)
async def test_a_timeout_of_a_block_is_refused_with_the_scope_to_write_instead(name: str) -> None:
    async with discoro.open_endpoint(), discoro.open_coro() as me, discoro.open_channel("c") as channel:
        with pytest.raises(TypeError, match=rf"^{name}\(\) takes no timeout=; instead: 'with trio\.fail_after\(5\):'"):
            BLOCKS[name](me, channel, discoro.Computation([job]))
