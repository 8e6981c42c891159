"""Remote coroutine invocation: a process offers a function by name, and peers start it as coroutines.

This module owns the handle that users hold. `_offered_functions` transports and runs the calls.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, final

from ..._arguments import flag, optional_text, text
from ..._compat import _old_programs as migration
from ..._scopes import open_background
from ..._values import optional_location
from .._current import current_process
from ..execution._callables import describe
from ..naming._addresses import LONGEST_LABEL, Address
from ..naming._name_registry import Entry
from ._offered_functions import KIND, Offer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from ..._values import Location
    from .._coro import Coro
    from .._process import Process


@final
@migration.answers_for(migration.RCI)
class RCI:
    """A function that peers may call by its name.

    Args:
        fn: An async function, or a plain one, which runs in a thread. If it has a keyword-only parameter `coro`, it
            gets its own handle.
        name: The name; by default the name of the function.

    Raises:
        TypeError: `fn` cannot be run.
    """

    __slots__ = ("_address", "_described", "name")

    def __init__(self, fn: Callable[..., Any], *, name: str | None = None) -> None:
        described = describe(fn)
        self.name: str = optional_text("name", name) or described.name
        self._described = described
        self._address: Address | None = None

    def __repr__(self) -> str:
        """Return its name, and where it is registered."""
        where = f" at {self._address.location}" if self._address is not None else ""
        return f"<RCI {self.name}{where}>"

    @migration.to_be_entered
    @asynccontextmanager
    async def register(self, *, public: bool = False) -> AsyncIterator[RCI]:
        """Offer the function while the block lasts.

        Args:
            public: Whether every program on the network finds it, or only this computation.

        Yields:
            The RCI itself, which can be called here too.

        Raises:
            NameTaken: Another RCI has that name.
            RuntimeError: No endpoint encloses the task, or the function is registered already.

        Leaving the block cancels its running coroutines and waits for their clean-up.
        """
        if self._address is not None:
            message = f"{self!r} is registered already"
            raise RuntimeError(message)
        flag("public", public)
        process = current_process()
        async with open_background() as nursery:
            serial = process.offered_functions.add(Offer(self._described, self.name, nursery))
            address = _address(process, serial, self.name)
            registration = process.names.register(Entry((KIND, self.name), address, public))
            try:
                await registration
                self._address = address
                yield self
            finally:
                self._address = None
                registration.free()
                del process.offered_functions.offers[serial]

    async def run(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function where it is registered, and return its value.

        Args:
            args: Its arguments.
            kwargs: Its keyword arguments.

        Returns:
            What it returned.

        Raises:
            Exception: What it raised, with the remote traceback in a note.
            CoroCancelled: The coroutine was cancelled elsewhere, or the block that registered the function was left.
            UnknownCoro: The function is no longer registered.
            PeerDisconnected: Its process cannot be reached.
            NotPicklable: An argument cannot be sent.

        Cancelling it cancels the coroutine and waits for its clean-up.
        """
        coro = await self(*args, **kwargs)
        try:
            return await coro.result()
        except BaseException as error:
            if not isinstance(error, Exception):  # a cancellation, or Ctrl-C
                await current_process().offered_functions.end(coro)
            raise

    async def __call__(self, *args: Any, **kwargs: Any) -> Coro[Any]:
        """Start a coroutine of the function where it is registered.

        The coroutine belongs to the block that registered the function. It is also cancelled if this process is lost.

        Args:
            args: Its arguments.
            kwargs: Its keyword arguments.

        Returns:
            The coroutine's handle, once it has begun.

        Raises:
            UnknownCoro, PeerDisconnected, NotPicklable: As for `run`.

        If cancelled, it leaves no coroutine running.
        """
        address = self._address
        if address is None:
            message = f"{self!r} is not registered: use it inside 'async with rci.register():', or from locate_rci"
            raise RuntimeError(message)
        return await current_process().offered_functions.begin(address, address.serial, self.name, args, kwargs)


async def locate_rci(name: str, *, location: Location | str | None = None) -> RCI:
    """Wait until a function of that name is registered, and return an RCI that calls it.

    Args:
        name: The name, as given to `RCI`.
        location: The program to ask, as a Location or its text: a scheduler, a node, or the program that registered it;
            by default the computation and the cluster that the calling task belongs to.

    Returns:
        The function: `await rci.run(…)` returns its value, `await rci(…)` a handle.

    Raises:
        TypeError, ValueError: An argument has the wrong type or form.
        RuntimeError: No endpoint encloses the task.
        PeerDisconnected: The process that keeps the name cannot be reached.

    Cancelling it ends the search.
    """
    key = (KIND, text("name", name))
    place = optional_location("location", location)
    rci = RCI(locate_rci, name=name)
    rci._address = await current_process().names.locate(key, place)  # noqa: SLF001 - its own class
    return rci


def _address(process: Process, serial: int, name: str) -> Address:
    place = process.endpoint.location
    label = name[:LONGEST_LABEL]
    return Address(process.id, serial, process.id, process.realm, label, place.addr, place.port, 0)
