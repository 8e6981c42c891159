"""Assigns the types in `_signatures` to the methods that take a function and its arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

S = TypeVar("S")


class Typed(Generic[S]):
    """Gives a method the type of a callable class; at run time the method is unchanged."""

    if TYPE_CHECKING:

        def __init__(self, method: Callable[..., Any]) -> None: ...

        def __get__(self, instance: object, owner: type) -> S: ...

    else:

        def __new__(cls, method):  # noqa: ANN001, ANN204 - typed above
            return method
