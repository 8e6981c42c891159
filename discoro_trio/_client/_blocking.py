"""The asynchronous interface for callers that are not async: every call blocks until it has its result.

This module owns the proxies. The loop in which the calls run is in `_background`.
"""

from __future__ import annotations

import functools
import inspect
import operator
from typing import TYPE_CHECKING, Any, Self

import trio

from .._errors import ComputationClosed

if TYPE_CHECKING:
    from types import TracebackType

    from ._background import Background


class Blocking:
    """A proxy for an object of a client's loop: async methods block, async context managers are plain ones.

    It is sent to servers as the original object.
    """

    def __init__(self, background: Background, subject: Any) -> None:
        self._background = background
        self._subject = subject

    def __getattr__(self, name: str) -> Any:
        """Return an attribute; a method is called in the loop."""
        value = getattr(self._subject, name)
        if not callable(value):
            return value

        @functools.wraps(value)
        def call(*args: Any, **kwargs: Any) -> Any:
            given = {key: plain(arg) for key, arg in kwargs.items()}
            result = self._background.call(_called, value, [plain(arg) for arg in args], given)
            return blocking(self._background, result)

        return call

    def __iter__(self) -> Self:
        """Iterate over the original object."""
        self._subject = aiter(self._subject)
        return self

    def __next__(self) -> Any:
        """Wait for the next item."""
        try:
            return blocking(self._background, self._background.call(_next, self._subject))
        except StopAsyncIteration:
            raise StopIteration from None

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the original object as the first item of a tuple, so that servers need no function of this module."""
        return operator.getitem, ((self._subject,), 0)

    def __dir__(self) -> list[str]:
        """List the attributes of the original object."""
        return dir(self._subject)

    def __repr__(self) -> str:
        """Return the original object's representation."""
        return f"<blocking {self._subject!r}>"

    def __eq__(self, other: object) -> bool:
        """Compare the original objects."""
        return bool(self._subject == plain(other))

    def __hash__(self) -> int:
        """Hash the original object."""
        return hash(self._subject)


class BlockingContext:
    """An async context manager of a client's loop, as a plain one. A task of the loop holds it open."""

    def __init__(self, background: Background, subject: Any) -> None:
        self._background = background
        self._subject = subject
        self._leave = trio.Event()
        self._left = trio.Event()
        self._error: BaseException | None = None
        self._raised: BaseException | None = None

    def __enter__(self) -> Any:
        """Enter it in the loop."""
        value = self._background.call(self._begin)
        return blocking(self._background, value)

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> bool:
        """Leave it in the loop, with the error of the body."""
        self._error = error
        self._background.call(self._end)
        raised = self._raised
        if raised is not None and raised is not error:
            raise raised
        return error is not None and raised is None

    async def _begin(self) -> Any:
        return await self._background.nursery.start(self._hold)

    async def _hold(self, *, task_status: trio.TaskStatus[Any]) -> None:
        started = False
        try:
            async with self._subject as value:
                started = True
                task_status.started(value)
                await self._until_left()
        except trio.Cancelled:
            self._raised = ComputationClosed("the cluster was closed in the block")
            raise
        except BaseException as error:
            if not started:
                raise
            self._raised = error
        finally:
            self._left.set()

    async def _until_left(self) -> None:
        await self._leave.wait()
        if self._error is not None:
            raise self._error

    async def _end(self) -> None:
        self._leave.set()
        await self._left.wait()


def blocking(background: Background, value: Any) -> Any:
    """Return a proxy for an object with async methods; any other value is returned as it is."""
    if hasattr(value, "__aenter__"):
        return BlockingContext(background, value)
    if type(value) in {list, tuple}:
        return type(value)(blocking(background, one) for one in value)
    if type(value).__module__.startswith("discoro_trio.") and _has_async_methods(type(value)):
        return Blocking(background, value)
    return value


def plain(value: Any) -> Any:
    """Return the original object of a proxy; any other value is returned as it is."""
    return value._subject if isinstance(value, Blocking) else value  # noqa: SLF001 - of the class above


def _has_async_methods(kind: type) -> bool:
    if hasattr(kind, "__aiter__"):
        return True
    public = (name for name in dir(kind) if not name.startswith("_"))
    return any(inspect.iscoroutinefunction(getattr(kind, name, None)) for name in public)


async def _called(function: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    result = function(*args, **kwargs)
    # Blocks raise an error if they are awaited.
    return await result if inspect.isawaitable(result) and not hasattr(result, "__aenter__") else result


async def _next(iterator: Any) -> Any:
    return await anext(iterator)
