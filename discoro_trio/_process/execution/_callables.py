"""Decides whether and how a callable runs as a coroutine: async or in a thread, with its own `Coro` or without.

The starter and the running process both use this module. `_wire` transports functions.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import re
import reprlib
import weakref
from types import MethodType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_origin

from ..._records import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

F = TypeVar("F", bound="Callable[..., Any]")

OwnCoro = Literal["keyword", "leading"] | None
"""A keyword-only parameter `coro`, or a first parameter that is annotated `Coro`."""
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_CORO = re.compile(r"(\w+\.)*Coro(\[[^|]*\])?")


class Described(Record, frozen=True):
    """A callable and how to call it."""

    function: Callable[..., Any]
    """The callable itself."""
    name: str
    """Its display name."""
    is_async: bool
    """Whether its return value is awaited; if not, it is called in a thread."""
    own: OwnCoro
    """How it takes the `Coro` of its own coroutine."""

    def bound_to(self, coro: object) -> Callable[..., Any]:
        """Return the callable with the coroutine's own `Coro` supplied, if it takes it."""
        if self.own is None:
            return self.function
        if self.own == "keyword":
            return functools.partial(self.function, coro=coro)
        return functools.partial(_call_with_leading, self.function, coro)


class _Traits(Record, frozen=True):
    """The properties of a callable, without the callable."""

    name: str
    is_async: bool
    own: OwnCoro
    hands_on: bool
    """Whether it is a plain function around an async one, so that its return value has to be checked."""


# By identity, as callables need not be hashable; weak, as lambdas are short-lived.
_known: dict[int, tuple[weakref.ref[Any], _Traits]] = {}


def describe(function: Callable[..., Any]) -> Described:
    """Return how to call a callable.

    Args:
        function: An async function, a plain function, a method, a lambda, a partial, a class, an object with
            `__call__`.

    Raises:
        TypeError: It cannot be run; the message names the replacement.
    """
    traits = _traits_of(function)
    called = _awaiting(function) if traits.hands_on else function
    return Described(called, traits.name, traits.is_async, traits.own)


def checked_traits(function: Callable[..., Any]) -> tuple[str, bool]:
    """Return a callable's display name, and whether it is a plain function. Raises as `describe` does."""
    known = _known.get(id(function))
    traits = known[1] if known is not None and known[0]() is function else _traits_of(function)
    return traits.name, not traits.is_async


def _traits_of(function: Callable[..., Any]) -> _Traits:
    # Each access makes a new bound method; its function lasts.
    subject = function.__func__ if type(function) is MethodType else function
    known = _known.get(id(subject))
    return known[1] if known is not None and known[0]() is subject else _look(subject)


def _look(subject: Callable[..., Any]) -> _Traits:
    called = _checked(subject)
    is_async = inspect.iscoroutinefunction(called)
    hands_on = not is_async and inspect.iscoroutinefunction(inspect.unwrap(called))
    traits = _Traits(display_name(subject), is_async or hands_on, _own_coro(subject), hands_on)
    key = id(subject)
    with contextlib.suppress(TypeError):  # not all objects support weak references
        _known[key] = (weakref.ref(subject, lambda _: _known.pop(key, None)), traits)
    return traits


def _awaiting(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function async that may or may not return an awaitable."""

    async def call(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        return await result if inspect.isawaitable(result) else result

    return call


def reject_coro(kwargs: Mapping[str, object]) -> None:
    """Reject an argument `coro` from the caller: the running process supplies the coroutine's own."""
    if "coro" in kwargs:
        text = "coro= cannot be given: a function with a keyword-only parameter `coro` gets its own Coro there"
        raise TypeError(text)


def named_by_its_first_argument(function: F) -> F:
    """Mark a function that calls its first argument: partials of it have the display name of that argument."""
    function.named_by_its_first_argument = True  # type: ignore[attr-defined]
    return function


def display_name(function: object) -> str:
    """Return the display name of a callable."""
    while isinstance(function, functools.partial):
        named = function.args and getattr(function.func, "named_by_its_first_argument", False)
        function = function.args[0] if named else function.func
    name = getattr(function, "__qualname__", None) or getattr(function, "__name__", None)
    return str(name) if name else type(function).__qualname__


def _checked(function: Any) -> Callable[..., Any]:
    """Return the function that is called in the end; raise TypeError if it cannot be run."""
    if inspect.iscoroutine(function):
        name = function.__qualname__
        function.close()
        text = f"{name}(…) was called; give the function and its arguments: run({name}, …), not run({name}(…))"
        raise TypeError(text)
    if not callable(function):
        text = f"an async function or a plain function is needed, not {reprlib.repr(function)}"
        raise TypeError(text)
    called = _called(function)
    if inspect.isasyncgenfunction(called):
        text = (
            f"{display_name(function)} is an async generator function, which cannot run remotely. Make it an "
            "async function without `yield` that sends each item: `await receiver.send(item)`"
        )
        raise TypeError(text)
    if inspect.isgeneratorfunction(called):
        text = (
            f"{display_name(function)} is a generator function: make it `async def`, with `await` for `yield` and "
            "`return` for its result"
        )
        raise TypeError(text)
    return called


def _called(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function inside partials, methods and objects with `__call__`."""
    while True:
        if isinstance(function, functools.partial):
            function = function.func
        elif inspect.ismethod(function):
            function = function.__func__
        elif inspect.isroutine(function) or isinstance(function, type):
            return function
        else:
            called = getattr(type(function), "__call__", None)  # noqa: B004 - the function itself is needed
            if not inspect.isfunction(called):
                return function
            function = called


def _own_coro(function: Callable[..., Any]) -> OwnCoro:
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # some callables written in C have none
        return None
    parameter = parameters.get("coro")
    if parameter is not None and parameter.kind is parameter.POSITIONAL_OR_KEYWORD and parameter.default is None:
        text = f"the parameter coro=None of {display_name(function)} would stay None; make it keyword-only: `*, coro`"
        raise TypeError(text)
    if parameter is not None and parameter.kind is parameter.KEYWORD_ONLY:
        return "keyword"
    first = next(iter(parameters.values()), None)
    if first is None or first.default is not first.empty or first.kind not in _POSITIONAL:
        return None
    return "leading" if _names_coro(first.annotation) else None


def _names_coro(annotation: object) -> bool:
    """Whether an annotation is `Coro` or `Coro[…]`, evaluated or as text."""
    if isinstance(annotation, str):
        return _CORO.fullmatch(annotation) is not None
    annotated = get_origin(annotation) or annotation
    return getattr(annotated, "__qualname__", "") == "Coro" and str(annotated.__module__).startswith("discoro_trio.")


def _call_with_leading(function: Callable[..., Any], coro: object, /, *args: Any, **kwargs: Any) -> Any:
    """Call a function whose first parameter is annotated `Coro`, with its own `Coro` there unless the caller gave one.

    A caller gives one if the first argument is a `Coro` and the arguments fit the parameters as they are.
    """
    if args:
        given = type(args[0]) is type(coro) and _fit(function, args, kwargs)
    else:
        given = next(iter(inspect.signature(function).parameters)) in kwargs
    return function(*args, **kwargs) if given else function(coro, *args, **kwargs)


def _fit(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether arguments fit the parameters of a function."""
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError:
        return False
    return True
