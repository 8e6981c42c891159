"""Errors for programs of the old system, which name the replacement.

This module owns the old names and the replacement of each; `docs/migration.md` lists the same. The checks cost nothing
if no old name is used: a name is looked up only if it is missing, an argument only if a call has keyword arguments.
"""

from __future__ import annotations

import functools
import re
import sys
import warnings
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_SETTINGS = ("MsgTimeout", "MinPulseInterval", "MaxPulseInterval")

PACKAGE: dict[str, str] = {
    **{name: f"discoro.config.{name}" for name in _SETTINGS},
    "AsynCoro": "async with discoro.open_cluster(), open_scheduler() or open_endpoint()",
    "AsynCoroSocket": "trio.SocketStream",
    "AsyncSocket": "trio.SocketStream",
    "AsyncThreadPool": "a plain function, which runs in a thread of the server",
    "AsyncDBCursor": "a plain function, which runs in a thread of the server",
    "Lock": "trio.Lock",
    "RLock": "trio.Lock",
    "Event": "trio.Event",
    "Condition": "trio.Condition",
    "Semaphore": "trio.Semaphore",
    "HotSwapException": "discoro.open_supervisor, which starts coroutines again",
    "CategorizeMessages": "discoro_trio._process.split_mailbox",
    "SysCoro": "discoro.Coro",
    "PeerStatus": "async with scheduler.subscribe()",
    "serialize": "pickle.dumps",
    "deserialize": "pickle.loads",
    "unserialize": "pickle.loads",
    "logger": "logging.getLogger('discoro_trio')",
    "Logger": "logging.getLogger",
    "DiscoroCoroInfo": "discoro.CoroInfo",
    "DiscoroNodeInfo": "discoro.NodeInfo",
    "DiscoroNodeAvailInfo": "discoro.NodeInfo",
    "DiscoroNodeAllocate": "discoro.NodeAllocation",
    "discoro": "import discoro_trio as discoro",
    "discoro_schedulers": "discoro.ProcScheduler",
    "httpd": "async with discoro.open_http_server(computation)",
}
"""Names of the old modules."""

CORO: dict[str, str] = {
    "locate": "await discoro.locate(name)",
    "unregister": "nothing: a name ends with its coroutine",
    "scheduler": "nothing: trio.run runs the program",
    "set_daemon": "computation.run, whose coroutines belong to the computation's block",
    "sleep": "await trio.sleep(seconds)",
    "suspend": "await coro.receive()",
    "resume": "await coro.send(message)",
    "throw": "coro.cancel(reason)",
    "value": "await coro.result()",
    "finish": "await coro.result()",
    "hot_swappable": "discoro.open_supervisor, which starts coroutines again",
    "hot_swap": "discoro.open_supervisor, which starts coroutines again",
    "notify": "await coro.monitor(observer)",
    "is_alive": "await coro.wait()",
}
CHANNEL: dict[str, str] = {
    "locate": "await discoro.locate_channel(name)",
    "register": "async with discoro.open_channel(name, public=True)",
    "unregister": "the end of the block of open_channel",
    "unsubscribe": "the end of the block of subscribe_coro",
    "set_transform": "discoro.open_channel(name, transform=function)",
    "close": "the end of the block of open_channel",
}
RCI: dict[str, str] = {
    "locate": "await discoro.locate_rci(name)",
    "unregister": "the end of the block of rci.register()",
}
COMPUTATION: dict[str, str] = {
    "run_async": "await computation.run(function, ...)",
    "run_async_at": "await computation.run_at(where, function, ...)",
    "run_result_at": "await (await computation.run_at(where, function, ...)).result()",
    "enable_node": "Computation(..., node_setup=function)",
    "enable_server": "Computation(..., server_setup=function)",
}
SCHEDULER: dict[str, str] = {
    "print_status": "print(await scheduler.status())",
    "close": "the end of the block of open_scheduler",
}


class _Gone:
    """An old name of a class; accessing it raises an error that names the replacement."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __get__(self, instance: object, owner: type) -> NoReturn:
        raise AttributeError(self._text)


def replaced(owner: str, name: str, instead: str) -> str:
    """Return the error text that names the replacement of an old name."""
    return f"{owner}.{name} is gone; instead: {instead}"


def answers_for(old: Mapping[str, str]) -> Callable[[type[T]], type[T]]:
    """Make a class raise errors that name the replacements of its old names."""

    def with_errors(kind: type[T]) -> type[T]:
        for name, instead in old.items():
            setattr(kind, name, _Gone(replaced(kind.__name__, name, instead)))
        return kind

    return with_errors


def made_by(instead: str, first: type) -> Callable[[type[T]], type[T]]:
    """Make a class that users once instantiated themselves raise an error if they do.

    Args:
        instead: The call that returns its objects.
        first: The type of the first argument when the package makes one.
    """

    def with_error(kind: type[T]) -> type[T]:
        def new(cls: type[T], *args: object, **_kwargs: object) -> T:
            if not args or not isinstance(args[0], first):
                message = f"{kind.__name__}(...) is not for programs; instead: {instead}"
                raise TypeError(message)
            return object.__new__(cls)

        kind.__new__ = new  # type: ignore[method-assign,assignment]
        return kind

    return with_error


def without_timeout(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function that returns a block raise a TypeError that names the replacement for `timeout=`."""

    @functools.wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        if kwargs:
            _reject_timeout(function.__qualname__, kwargs)
        return function(*args, **kwargs)

    return called


def _reject_timeout(name: str, kwargs: Mapping[str, object]) -> None:
    if "timeout" in kwargs:
        message = f"{name}() takes no timeout=; instead: 'with trio.fail_after({kwargs['timeout']!r}):' around it"
        raise TypeError(message)


_TIMEOUT = re.compile(r"\) got an unexpected keyword argument 'timeout'")


def timeout_advice(error: BaseException) -> str | None:
    """Return the replacement for `timeout=`, if an error says that a function has no such argument.

    Awaited functions do not check for `timeout=` themselves, as that would slow down every call.
    """
    if isinstance(error, TypeError) and _TIMEOUT.search(str(error)):
        return "no call takes timeout=; instead: 'with trio.fail_after(seconds):' around the call"
    return None


def add_advice(error: BaseException) -> None:
    """Add a note to an error, and to each error of a group, if it is a known mistake of old programs."""
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            add_advice(one)
    elif (advice := timeout_advice(error)) is not None and advice not in getattr(error, "__notes__", ()):
        error.add_note(advice)


class _Block(AbstractAsyncContextManager[T]):
    """A context manager that reports how to enter it if it is awaited, as old programs do, or never entered."""

    def __init__(self, name: str, inner: AbstractAsyncContextManager[T]) -> None:
        self._how = f"{name}() is a block; write: async with {name}(...):"
        self._inner = inner
        self._entered = False

    def __await__(self) -> NoReturn:
        self._entered = True
        raise TypeError(self._how)

    def __del__(self) -> None:
        if not self._entered:
            warnings.warn(f"nothing was done: {self._how}", RuntimeWarning, source=self, stacklevel=2)

    async def __aenter__(self) -> T:
        self._entered = True
        return await self._inner.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return await self._inner.__aexit__(kind, error, traceback)


def to_be_entered(
    function: Callable[P, AbstractAsyncContextManager[T]],
) -> Callable[P, AbstractAsyncContextManager[T]]:
    """Make a function that now returns a block report an error if its caller does not enter the block."""

    @functools.wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> AbstractAsyncContextManager[T]:
        return _Block(function.__qualname__, function(*args, **kwargs))

    return called


def check_settings() -> None:
    """Raise an error for settings that were set where the old system had them, as they have no effect there.

    Raises:
        AttributeError: `discoro.MsgTimeout = …` or one of the others.
    """
    package: Any = sys.modules["discoro_trio"]
    for name in _SETTINGS:
        if name in vars(package):
            raise AttributeError(replaced("discoro", name, PACKAGE[name]))
