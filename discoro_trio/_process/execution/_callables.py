"""Decides whether and how a callable runs as a coroutine: async or in a thread, with its own `Coro` or without.

The starter and the running process both use this module. `_wire` transports functions.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import reprlib
import weakref
from types import MethodType
from typing import TYPE_CHECKING, Any

from ..._records import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Described(Record, frozen=True):
    """A callable and how to call it."""

    function: Callable[..., Any]
    """The callable itself."""
    name: str
    """Its display name."""
    is_async: bool
    """Whether its return value is awaited; if not, it is called in a thread."""
    wants_coro: bool
    """Whether it has a keyword-only parameter `coro`."""


class _Traits(Record, frozen=True):
    """The properties of a callable, without the callable."""

    name: str
    is_async: bool
    wants_coro: bool
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
    return Described(called, traits.name, traits.is_async, traits.wants_coro)


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
    traits = _Traits(display_name(subject), is_async or hands_on, _wants_coro(subject), hands_on)
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


def display_name(function: object) -> str:
    """Return the display name of a callable."""
    while isinstance(function, functools.partial):
        function = function.func
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


def _wants_coro(function: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # some callables written in C have none
        return False
    parameter = parameters.get("coro")
    if parameter is not None and parameter.kind is parameter.POSITIONAL_OR_KEYWORD and parameter.default is None:
        text = f"the parameter coro=None of {display_name(function)} would stay None; make it keyword-only: `*, coro`"
        raise TypeError(text)
    return parameter is not None and parameter.kind is inspect.Parameter.KEYWORD_ONLY
