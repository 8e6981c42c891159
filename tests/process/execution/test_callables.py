from __future__ import annotations

import functools
import gc
import math
from typing import TYPE_CHECKING, Any, cast

import pytest

import discoro_trio as discoro
from discoro_trio._process.execution import _callables
from discoro_trio._process.execution._callables import describe, display_name, reject_coro
from discoro_trio._process.execution._chunks import run_items

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator


async def job(number: int) -> int:
    return number


async def with_coro(number: int, *, coro: object) -> tuple[int, object]:
    return number, coro


async def coro_anywhere(coro: object, **_more: object) -> object:
    return coro


async def takes_anything(**kwargs: object) -> object:
    return kwargs


def plain(number: int, *, coro: object = None) -> int:
    del coro
    return number


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


class Worker:
    async def run(self, number: int, *, coro: object) -> tuple[int, object]:
        return number, coro

    def plain(self) -> int:
        return 1

    async def __call__(self, number: int) -> int:
        return number

    @classmethod
    async def of_class(cls) -> type:
        return cls

    @staticmethod
    async def static(*, coro: object) -> object:
        return coro


class PlainWorker:
    __slots__ = ()  # takes no weak references

    def __call__(self, *, coro: object) -> object:
        return coro


def passed_on(function: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


@passed_on
async def decorated(*, coro: object) -> object:
    return coro


async def leading(coro: discoro.Coro[Any], a: int) -> int:
    return a


async def of_either(peer: discoro.Coro[Any] | list[int]) -> None: ...


async def with_default(peer: discoro.Coro[Any] | None = None) -> None: ...


async def evaluated(me: object) -> None: ...


evaluated.__annotations__["me"] = discoro.Coro[int]


@pytest.mark.parametrize(
    ("function", "is_async", "own", "name"),
    [
        (job, True, None, "job"),
        (with_coro, True, "keyword", "with_coro"),
        (coro_anywhere, True, None, "coro_anywhere"),
        (takes_anything, True, None, "takes_anything"),
        (plain, False, "keyword", "plain"),
        (lambda: 1, False, None, "<lambda>"),
        (functools.partial(with_coro, 1), True, "keyword", "with_coro"),
        (functools.partial(functools.partial(plain), 1), False, "keyword", "plain"),
        (Worker().run, True, "keyword", "Worker.run"),
        (Worker().plain, False, None, "Worker.plain"),
        (Worker.of_class, True, None, "Worker.of_class"),
        (Worker.static, True, "keyword", "Worker.static"),
        (functools.partial(Worker().run, 1), True, "keyword", "Worker.run"),
        (Worker(), True, None, "Worker"),
        (PlainWorker(), False, "keyword", "PlainWorker"),
        (Worker, False, None, "Worker"),
        (decorated, True, "keyword", "decorated"),
        (leading, True, "leading", "leading"),
        (evaluated, True, "leading", "evaluated"),
        (functools.partial(leading, cast("Any", 1)), True, None, "leading"),
        (of_either, True, None, "of_either"),
        (with_default, True, None, "with_default"),
        (math.sqrt, False, None, "sqrt"),
        (int, False, None, "int"),
        ("x".join, False, None, "str.join"),
    ],
)
def test_callables_of_all_kinds_are_described(
    function: Callable[..., Any], *, is_async: bool, own: str | None, name: str
) -> None:
    for _ in range(2):  # the second time from memory
        found = describe(function)
        assert (found.is_async, found.own, found.name) == (is_async, own, name)


@pytest.mark.parametrize(
    ("thing", "said"),
    [
        (generator, "generator is a generator function: make it `async def`"),
        (functools.partial(generator), "generator function"),
        (async_generator, "async generator function, which cannot run remotely.*`await receiver.send"),
        (42, "an async function or a plain function is needed, not 42"),
        (None, "not None"),
        ("job", "not 'job'"),
    ],
)
def test_what_cannot_be_run_is_refused_with_what_to_write(thing: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        describe(thing)


def test_a_coroutine_object_is_refused_and_closed() -> None:
    with pytest.raises(TypeError, match=r"give the function and its arguments: run\(job, …\), not run\(job\(…\)\)"):
        describe(job(1))  # type: ignore[arg-type]


async def test_a_plain_decorator_around_an_async_function_is_awaited() -> None:
    assert await describe(decorated).function(coro=3) == 3


async def test_a_plain_decorator_that_answers_itself_is_taken_at_its_word() -> None:
    @functools.wraps(job)
    def answers() -> int:
        return 5

    assert await describe(answers).function() == 5


def test_a_method_is_described_with_the_object_it_is_bound_to() -> None:
    first, second = Worker(), Worker()
    assert describe(first.run).function == first.run
    assert describe(second.run).function == second.run


def test_descriptions_keep_no_function_alive() -> None:
    before = len(_callables._known)
    for _ in range(100):
        describe(lambda: 1)
    gc.collect()
    assert len(_callables._known) <= before + 1


def test_the_callers_coro_is_refused() -> None:
    reject_coro({"number": 1})
    with pytest.raises(TypeError, match="coro= cannot be given"):
        reject_coro({"coro": 1})


def test_names_for_people() -> None:
    assert display_name(functools.partial(job)) == "job"
    assert display_name(functools.partial(run_items, job)) == "job"
    assert display_name(Worker()) == "Worker"
