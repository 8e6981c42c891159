"""The types of async functions with a keyword-only `coro`, which the running process supplies.

They are only for type checkers; nothing imports them at run time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from .._coro import Coro

R_co = TypeVar("R_co", covariant=True)
A_contra = TypeVar("A_contra", contravariant=True)
B_contra = TypeVar("B_contra", contravariant=True)
C_contra = TypeVar("C_contra", contravariant=True)
D_contra = TypeVar("D_contra", contravariant=True)
E_contra = TypeVar("E_contra", contravariant=True)
F_contra = TypeVar("F_contra", contravariant=True)


class Fn0(Protocol[R_co]):
    """`async def fn(*, coro)`."""

    async def __call__(self, *, coro: Coro[Any]) -> R_co: ...


class Fn1(Protocol[A_contra, R_co]):
    """`async def fn(a, *, coro)`."""

    async def __call__(self, a: A_contra, /, *, coro: Coro[Any]) -> R_co: ...


class Fn2(Protocol[A_contra, B_contra, R_co]):
    """`async def fn(a, b, *, coro)`."""

    async def __call__(self, a: A_contra, b: B_contra, /, *, coro: Coro[Any]) -> R_co: ...


class Fn3(Protocol[A_contra, B_contra, C_contra, R_co]):
    """`async def fn(a, b, c, *, coro)`."""

    async def __call__(self, a: A_contra, b: B_contra, c: C_contra, /, *, coro: Coro[Any]) -> R_co: ...


class Fn4(Protocol[A_contra, B_contra, C_contra, D_contra, R_co]):
    """`async def fn(a, b, c, d, *, coro)`."""

    async def __call__(self, a: A_contra, b: B_contra, c: C_contra, d: D_contra, /, *, coro: Coro[Any]) -> R_co: ...


class Fn5(Protocol[A_contra, B_contra, C_contra, D_contra, E_contra, R_co]):
    """`async def fn(a, b, c, d, e, *, coro)`."""

    async def __call__(
        self, a: A_contra, b: B_contra, c: C_contra, d: D_contra, e: E_contra, /, *, coro: Coro[Any]
    ) -> R_co: ...


class Fn6(Protocol[A_contra, B_contra, C_contra, D_contra, E_contra, F_contra, R_co]):
    """`async def fn(a, b, c, d, e, f, *, coro)`."""

    async def __call__(  # noqa: PLR0917 - as many as it says
        self, a: A_contra, b: B_contra, c: C_contra, d: D_contra, e: E_contra, f: F_contra, /, *, coro: Coro[Any]
    ) -> R_co: ...
