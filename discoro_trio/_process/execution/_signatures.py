"""The types of the methods that take a function and its arguments: one class for each form of such a method.

Each accepts, in this order: an async function; an async function whose first parameter is its own `Coro`, with any
other parameters; an async function with a keyword-only `coro` and up to six positional parameters, which is the most
that types can describe; a plain function. The classes that have the methods document them.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Collection, Iterable
from contextlib import AbstractAsyncContextManager
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Literal,
    ParamSpec,
    Protocol,
    TypedDict,
    TypeVar,
    TypeVarTuple,
    Unpack,
    overload,
)

if TYPE_CHECKING:
    from ..._values import Location
    from .._coro import Coro
    from ._wanting_coro import Fn0, Fn1, Fn2, Fn3, Fn4, Fn5, Fn6

P = ParamSpec("P")
R = TypeVar("R")
A_co = TypeVar("A_co", covariant=True)
R_co = TypeVar("R_co", covariant=True)
Ts = TypeVarTuple("Ts")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")
F = TypeVar("F")

if TYPE_CHECKING:
    OwnFirst = Callable[Concatenate[Coro[Any], P], Awaitable[R]]


class RunsOne(Protocol):
    """`run(fn, …)`: one coroutine."""

    @overload
    async def __call__(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> Coro[R]: ...

    @overload
    async def __call__(self, fn: OwnFirst[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Coro[R]: ...

    @overload
    async def __call__(self, fn: Fn0[R], /) -> Coro[R]: ...

    @overload
    async def __call__(self, fn: Fn1[A, R], a: A, /) -> Coro[R]: ...

    @overload
    async def __call__(self, fn: Fn2[A, B, R], a: A, b: B, /) -> Coro[R]: ...

    @overload
    async def __call__(self, fn: Fn3[A, B, C, R], a: A, b: B, c: C, /) -> Coro[R]: ...

    @overload
    async def __call__(self, fn: Fn4[A, B, C, D, R], a: A, b: B, c: C, d: D, /) -> Coro[R]: ...

    @overload
    async def __call__(self, fn: Fn5[A, B, C, D, E, R], a: A, b: B, c: C, d: D, e: E, /) -> Coro[R]: ...

    @overload
    async def __call__(self, fn: Fn6[A, B, C, D, E, F, R], a: A, b: B, c: C, d: D, e: E, f: F, /) -> Coro[R]: ...

    @overload
    async def __call__(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Coro[R]: ...


class RunsOneAt(Protocol):
    """`run_at(where, fn, …)`: one coroutine at one location."""

    @overload
    async def __call__(
        self, where: Location | str, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coro[R]: ...

    @overload
    async def __call__(
        self,
        where: Location | str,
        fn: OwnFirst[P, R],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Coro[R]: ...

    @overload
    async def __call__(self, where: Location | str, fn: Fn0[R], /) -> Coro[R]: ...

    @overload
    async def __call__(self, where: Location | str, fn: Fn1[A, R], a: A, /) -> Coro[R]: ...

    @overload
    async def __call__(self, where: Location | str, fn: Fn2[A, B, R], a: A, b: B, /) -> Coro[R]: ...

    @overload
    async def __call__(self, where: Location | str, fn: Fn3[A, B, C, R], a: A, b: B, c: C, /) -> Coro[R]: ...

    @overload
    async def __call__(self, where: Location | str, fn: Fn4[A, B, C, D, R], a: A, b: B, c: C, d: D, /) -> Coro[R]: ...

    @overload
    async def __call__(
        self, where: Location | str, fn: Fn5[A, B, C, D, E, R], a: A, b: B, c: C, d: D, e: E, /
    ) -> Coro[R]: ...

    @overload
    async def __call__(
        self, where: Location | str, fn: Fn6[A, B, C, D, E, F, R], a: A, b: B, c: C, d: D, e: E, f: F, /
    ) -> Coro[R]: ...

    @overload
    async def __call__(
        self, where: Location | str, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coro[R]: ...


class RunsMany(Protocol):
    """`run_nodes(fn, …)`: one coroutine at each of many locations."""

    @overload
    async def __call__(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> list[Coro[R]]: ...

    @overload
    async def __call__(self, fn: OwnFirst[P, R], /, *args: P.args, **kwargs: P.kwargs) -> list[Coro[R]]: ...

    @overload
    async def __call__(self, fn: Fn0[R], /) -> list[Coro[R]]: ...

    @overload
    async def __call__(self, fn: Fn1[A, R], a: A, /) -> list[Coro[R]]: ...

    @overload
    async def __call__(self, fn: Fn2[A, B, R], a: A, b: B, /) -> list[Coro[R]]: ...

    @overload
    async def __call__(self, fn: Fn3[A, B, C, R], a: A, b: B, c: C, /) -> list[Coro[R]]: ...

    @overload
    async def __call__(self, fn: Fn4[A, B, C, D, R], a: A, b: B, c: C, d: D, /) -> list[Coro[R]]: ...

    @overload
    async def __call__(self, fn: Fn5[A, B, C, D, E, R], a: A, b: B, c: C, d: D, e: E, /) -> list[Coro[R]]: ...

    @overload
    async def __call__(self, fn: Fn6[A, B, C, D, E, F, R], a: A, b: B, c: C, d: D, e: E, f: F, /) -> list[Coro[R]]: ...

    @overload
    async def __call__(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> list[Coro[R]]: ...


class RunsManyAt(Protocol):
    """`run_each(where, fn, …)`: one coroutine at each selected location."""

    @overload
    async def __call__(
        self, where: str, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> list[Coro[R]]: ...

    @overload
    async def __call__(self, where: str, fn: OwnFirst[P, R], /, *args: P.args, **kwargs: P.kwargs) -> list[Coro[R]]: ...

    @overload
    async def __call__(self, where: str, fn: Fn0[R], /) -> list[Coro[R]]: ...

    @overload
    async def __call__(self, where: str, fn: Fn1[A, R], a: A, /) -> list[Coro[R]]: ...

    @overload
    async def __call__(self, where: str, fn: Fn2[A, B, R], a: A, b: B, /) -> list[Coro[R]]: ...

    @overload
    async def __call__(self, where: str, fn: Fn3[A, B, C, R], a: A, b: B, c: C, /) -> list[Coro[R]]: ...

    @overload
    async def __call__(self, where: str, fn: Fn4[A, B, C, D, R], a: A, b: B, c: C, d: D, /) -> list[Coro[R]]: ...

    @overload
    async def __call__(
        self, where: str, fn: Fn5[A, B, C, D, E, R], a: A, b: B, c: C, d: D, e: E, /
    ) -> list[Coro[R]]: ...

    @overload
    async def __call__(
        self, where: str, fn: Fn6[A, B, C, D, E, F, R], a: A, b: B, c: C, d: D, e: E, f: F, /
    ) -> list[Coro[R]]: ...

    @overload
    async def __call__(self, where: str, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> list[Coro[R]]: ...


class GivesResult(Protocol):
    """`run_result(fn, …)`: the value that it returns."""

    @overload
    async def __call__(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R: ...

    @overload
    async def __call__(self, fn: OwnFirst[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...

    @overload
    async def __call__(self, fn: Fn0[R], /) -> R: ...

    @overload
    async def __call__(self, fn: Fn1[A, R], a: A, /) -> R: ...

    @overload
    async def __call__(self, fn: Fn2[A, B, R], a: A, b: B, /) -> R: ...

    @overload
    async def __call__(self, fn: Fn3[A, B, C, R], a: A, b: B, c: C, /) -> R: ...

    @overload
    async def __call__(self, fn: Fn4[A, B, C, D, R], a: A, b: B, c: C, d: D, /) -> R: ...

    @overload
    async def __call__(self, fn: Fn5[A, B, C, D, E, R], a: A, b: B, c: C, d: D, e: E, /) -> R: ...

    @overload
    async def __call__(self, fn: Fn6[A, B, C, D, E, F, R], a: A, b: B, c: C, d: D, e: E, f: F, /) -> R: ...

    @overload
    async def __call__(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...


class GivesResultAt(Protocol):
    """`execute_at(where, fn, …)`: the value that it returns."""

    @overload
    async def __call__(
        self, where: Location | str, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R: ...

    @overload
    async def __call__(
        self,
        where: Location | str,
        fn: OwnFirst[P, R],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R: ...

    @overload
    async def __call__(self, where: Location | str, fn: Fn0[R], /) -> R: ...

    @overload
    async def __call__(self, where: Location | str, fn: Fn1[A, R], a: A, /) -> R: ...

    @overload
    async def __call__(self, where: Location | str, fn: Fn2[A, B, R], a: A, b: B, /) -> R: ...

    @overload
    async def __call__(self, where: Location | str, fn: Fn3[A, B, C, R], a: A, b: B, c: C, /) -> R: ...

    @overload
    async def __call__(self, where: Location | str, fn: Fn4[A, B, C, D, R], a: A, b: B, c: C, d: D, /) -> R: ...

    @overload
    async def __call__(
        self, where: Location | str, fn: Fn5[A, B, C, D, E, R], a: A, b: B, c: C, d: D, e: E, /
    ) -> R: ...

    @overload
    async def __call__(
        self, where: Location | str, fn: Fn6[A, B, C, D, E, F, R], a: A, b: B, c: C, d: D, e: E, f: F, /
    ) -> R: ...

    @overload
    async def __call__(self, where: Location | str, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...


class StartsSoon(Protocol):
    """`start_soon(fn, *args)`: returns without waiting."""

    @overload
    def __call__(self, fn: Fn0[object], /, *, name: str | None = None) -> None: ...

    @overload
    def __call__(self, fn: Fn1[A, object], a: A, /, *, name: str | None = None) -> None: ...

    @overload
    def __call__(self, fn: Fn2[A, B, object], a: A, b: B, /, *, name: str | None = None) -> None: ...

    @overload
    def __call__(self, fn: Fn3[A, B, C, object], a: A, b: B, c: C, /, *, name: str | None = None) -> None: ...

    @overload
    def __call__(self, fn: Fn4[A, B, C, D, object], a: A, b: B, c: C, d: D, /, *, name: str | None = None) -> None: ...

    @overload
    def __call__(
        self, fn: Fn5[A, B, C, D, E, object], a: A, b: B, c: C, d: D, e: E, /, *, name: str | None = None
    ) -> None: ...

    @overload
    def __call__(
        self, fn: Fn6[A, B, C, D, E, F, object], a: A, b: B, c: C, d: D, e: E, f: F, /, *, name: str | None = None
    ) -> None: ...

    @overload
    def __call__(self, fn: Callable[[*Ts], object], /, *args: *Ts, name: str | None = None) -> None: ...

    @overload
    def __call__(self, fn: Callable[[Coro[Any], *Ts], object], /, *args: *Ts, name: str | None = None) -> None: ...


class StartsSoonAt(Protocol):
    """`start_soon_at(where, fn, *args)`: returns without waiting."""

    @overload
    def __call__(self, where: Location | str, fn: Fn0[object], /, *, name: str | None = None) -> None: ...

    @overload
    def __call__(self, where: Location | str, fn: Fn1[A, object], a: A, /, *, name: str | None = None) -> None: ...

    @overload
    def __call__(
        self, where: Location | str, fn: Fn2[A, B, object], a: A, b: B, /, *, name: str | None = None
    ) -> None: ...

    @overload
    def __call__(
        self, where: Location | str, fn: Fn3[A, B, C, object], a: A, b: B, c: C, /, *, name: str | None = None
    ) -> None: ...

    @overload
    def __call__(
        self, where: Location | str, fn: Fn4[A, B, C, D, object], a: A, b: B, c: C, d: D, /, *, name: str | None = None
    ) -> None: ...

    @overload
    def __call__(
        self,
        where: Location | str,
        fn: Fn5[A, B, C, D, E, object],
        a: A,
        b: B,
        c: C,
        d: D,
        e: E,
        /,
        *,
        name: str | None = None,
    ) -> None: ...

    @overload
    def __call__(
        self,
        where: Location | str,
        fn: Fn6[A, B, C, D, E, F, object],
        a: A,
        b: B,
        c: C,
        d: D,
        e: E,
        f: F,
        /,
        *,
        name: str | None = None,
    ) -> None: ...

    @overload
    def __call__(
        self, where: Location | str, fn: Callable[[*Ts], object], /, *args: *Ts, name: str | None = None
    ) -> None: ...

    @overload
    def __call__(
        self, where: Location | str, fn: Callable[[Coro[Any], *Ts], object], /, *args: *Ts, name: str | None = None
    ) -> None: ...


class Starts(Protocol):
    """`start(fn, *args)`: the value that the coroutine passes to `task_status.started`."""

    async def __call__(self, fn: Callable[..., object], /, *args: object, name: str | None = None) -> Any: ...


RetryOn = type[BaseException] | Collection[type[BaseException]]


class MapKeywords(TypedDict, total=False):
    """The options of `map` and `starmap`, whose docstrings describe them."""

    ordered: bool
    errors: Literal["raise", "collect", "skip"]
    limit: int | None
    retries: int
    retry_on: RetryOn
    chunksize: int | Literal["auto"]
    progress: bool


class MapResults(Protocol[A_co, R_co]):
    """The results of a map."""

    def __aiter__(self) -> AsyncIterator[R_co]: ...

    async def __anext__(self) -> R_co: ...

    def with_items(self) -> AsyncIterator[tuple[A_co, R_co]]: ...


Results = AbstractAsyncContextManager[MapResults[A, R]]


class Maps(Protocol):
    """`map(fn, iterable)`: the results as they arrive."""

    @overload
    def __call__(
        self,
        fn: Callable[[A], Awaitable[R]],
        iterable: Iterable[A] | AsyncIterable[A],
        **options: Unpack[MapKeywords],
    ) -> Results[A, R]: ...

    @overload
    def __call__(
        self,
        fn: Callable[[Coro[Any], A], Awaitable[R]],
        iterable: Iterable[A] | AsyncIterable[A],
        **options: Unpack[MapKeywords],
    ) -> Results[A, R]: ...

    @overload
    def __call__(
        self,
        fn: Fn1[A, R],
        iterable: Iterable[A] | AsyncIterable[A],
        **options: Unpack[MapKeywords],
    ) -> Results[A, R]: ...

    @overload
    def __call__(
        self,
        fn: Callable[[A], R],
        iterable: Iterable[A] | AsyncIterable[A],
        **options: Unpack[MapKeywords],
    ) -> Results[A, R]: ...


class StarMaps(Protocol):
    """`starmap(fn, iterable)`: the results as they arrive; each item is unpacked into the parameters."""

    @overload
    def __call__(
        self,
        fn: Callable[[*Ts], Awaitable[R]],
        iterable: Iterable[tuple[*Ts]] | AsyncIterable[tuple[*Ts]],
        **options: Unpack[MapKeywords],
    ) -> Results[tuple[*Ts], R]: ...

    @overload
    def __call__(
        self,
        fn: Callable[[Coro[Any], *Ts], Awaitable[R]],
        iterable: Iterable[tuple[*Ts]] | AsyncIterable[tuple[*Ts]],
        **options: Unpack[MapKeywords],
    ) -> Results[tuple[*Ts], R]: ...

    @overload
    def __call__(
        self,
        fn: Fn1[A, R],
        iterable: Iterable[tuple[A]] | AsyncIterable[tuple[A]],
        **options: Unpack[MapKeywords],
    ) -> Results[tuple[A], R]: ...

    @overload
    def __call__(
        self,
        fn: Fn2[A, B, R],
        iterable: Iterable[tuple[A, B]] | AsyncIterable[tuple[A, B]],
        **options: Unpack[MapKeywords],
    ) -> Results[tuple[A, B], R]: ...

    @overload
    def __call__(
        self,
        fn: Fn3[A, B, C, R],
        iterable: Iterable[tuple[A, B, C]] | AsyncIterable[tuple[A, B, C]],
        **options: Unpack[MapKeywords],
    ) -> Results[tuple[A, B, C], R]: ...

    @overload
    def __call__(
        self,
        fn: Fn4[A, B, C, D, R],
        iterable: Iterable[tuple[A, B, C, D]] | AsyncIterable[tuple[A, B, C, D]],
        **options: Unpack[MapKeywords],
    ) -> Results[tuple[A, B, C, D], R]: ...

    @overload
    def __call__(
        self,
        fn: Fn5[A, B, C, D, E, R],
        iterable: Iterable[tuple[A, B, C, D, E]] | AsyncIterable[tuple[A, B, C, D, E]],
        **options: Unpack[MapKeywords],
    ) -> Results[tuple[A, B, C, D, E], R]: ...

    @overload
    def __call__(
        self,
        fn: Fn6[A, B, C, D, E, F, R],
        iterable: Iterable[tuple[A, B, C, D, E, F]] | AsyncIterable[tuple[A, B, C, D, E, F]],
        **options: Unpack[MapKeywords],
    ) -> Results[tuple[A, B, C, D, E, F], R]: ...

    @overload
    def __call__(
        self,
        fn: Callable[[*Ts], R],
        iterable: Iterable[tuple[*Ts]] | AsyncIterable[tuple[*Ts]],
        **options: Unpack[MapKeywords],
    ) -> Results[tuple[*Ts], R]: ...


class GivesResults(Protocol):
    """`run_results(fn, iterable)`: the value of each call, in order."""

    @overload
    async def __call__(self, fn: Callable[[A], Awaitable[R]], iterable: Iterable[A] | AsyncIterable[A]) -> list[R]: ...

    @overload
    async def __call__(
        self, fn: Callable[[Coro[Any], A], Awaitable[R]], iterable: Iterable[A] | AsyncIterable[A]
    ) -> list[R]: ...

    @overload
    async def __call__(self, fn: Fn1[A, R], iterable: Iterable[A] | AsyncIterable[A]) -> list[R]: ...

    @overload
    async def __call__(self, fn: Callable[[A], R], iterable: Iterable[A] | AsyncIterable[A]) -> list[R]: ...
