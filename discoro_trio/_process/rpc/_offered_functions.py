"""Remote calls of functions that a process has registered: the offered functions, and the running calls.

This module owns both ends of a call. At the offering process, that is the call's coroutine, in the nursery of the
registering block, and its outcome until the caller has it. At the caller, it is the record of the coroutine. Users
hold `RCI`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from ..._errors import DiscoroError, PeerDisconnected, UnknownCoro
from ..._link import ANY, answered
from ..._records import Record
from ..._scopes import finish
from ..._shipping import dumps_message, loads
from ..._wire import Control
from ..execution._callables import reject_coro
from ..execution._local_coro import current
from ..execution._outcome import LocalOutcome, arrived
from ..execution._outcome_store import Told, tell
from ..execution._submission import Submission

if TYPE_CHECKING:
    from ..._link import Link
    from .._coro import Coro
    from .._process import Process
    from ..execution._callables import Described
    from ..execution._local_coro import LocalCoro
    from ..naming._addresses import Placed


KIND = "RCI"
"""The kind of their names."""
MOST_CALLS = 10_000
"""The most calls of one process that run in another, or whose outcome it has not fetched yet."""


class BeginCall(Control, frozen=True):
    """Start a coroutine of a registered function; answered by `CallBegun`."""

    rci: int
    arguments: bytes
    buffers: list[bytearray]


class CallBegun(Control, frozen=True):
    """The coroutine has started."""

    serial: int


class AwaitCall(Control, frozen=True):
    """Ask for the outcome of a call's coroutine, once; answered by `Told` when it has ended."""

    serial: int


class Offer(Record, frozen=True, eq=False):
    """A function that is registered."""

    described: Described
    """The function."""
    name: str
    """The name of its coroutines."""
    nursery: trio.Nursery
    """The nursery of the block that has registered it."""


class _OfferedCall(Record, frozen=True, eq=False):
    """A coroutine that runs here for a caller, or has ended and waits for the caller to fetch its outcome."""

    local: LocalCoro
    started: Submission


class OfferedFunctions:
    """The functions that this process offers, the calls that run here, and the calls that it makes elsewhere."""

    def __init__(self, process: Process) -> None:
        self.offers: dict[int, Offer] = {}
        self._number = 0
        self._process = process
        self._calls: dict[Link, dict[int, _OfferedCall]] = {}
        services = process.endpoint.services
        services.on_request(BeginCall, self._asked_to_begin, trust=ANY)
        services.on_request(AwaitCall, self._asked_for_outcome, trust=ANY)
        services.links_lost.append(self._lost)

    def add(self, offer: Offer) -> int:
        """Offer a function; return its number."""
        self._number += 1
        self.offers[self._number] = offer
        return self._number

    # --- calls of this process

    async def begin(self, rci: Placed, serial: int, name: str, args: tuple[Any, ...], kwargs: Any) -> Coro[Any]:
        """Call a function of any process; return the coroutine once it has begun.

        If cancelled, it cancels the coroutine and waits until that has ended.
        """
        reject_coro(kwargs)
        body, buffers = dumps_message(f"what {name} is given", (args, kwargs))
        await trio.lowlevel.checkpoint()
        link = await self._process.link_to(rci)
        with trio.CancelScope(shield=True):
            reply = await link.request(BeginCall(serial, body, [bytearray(buffer) for buffer in buffers]))
        reply = answered(reply, CallBegun)
        started = Submission(rci.home, reply.serial, name, None)
        coro = self._process.handle_to(started, rci.location, rci.realm)
        self._process.endpoint.nursery.start_soon(self._follow, link, started, name=f"outcome of {name}")
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
        except trio.Cancelled:
            await self.end(coro)
            raise
        return coro

    async def end(self, coro: Coro[Any]) -> None:
        """Cancel a call and wait, shielded, until its clean-up is done."""
        coro.cancel("its caller was cancelled")
        await finish(coro.wait)

    async def _follow(self, link: Link, started: Submission) -> None:
        try:
            told = await link.request(AwaitCall(started.serial), timeout=None)
        except DiscoroError as error:
            started.end(
                LocalOutcome.lost(PeerDisconnected(f"the process of {started.name} cannot be reached: {error}"))
            )
        else:
            told = answered(told, Told)
            started.end(arrived(told.ending, told.body, told.buffers))

    # --- calls of other processes

    def calls(self, link: Link, serial: int) -> bool:
        """Return whether a coroutine of this process is a call that arrived on this link."""
        return serial in self._calls.get(link, {})

    async def _asked_to_begin(self, link: Link, message: BeginCall) -> CallBegun:
        self._process.introductions.check_public(link, KIND, message.rci)
        if len(self._calls.get(link, ())) >= MOST_CALLS:
            text = f"one process has at most {MOST_CALLS} calls at another that run, or whose outcome it did not fetch"
            raise DiscoroError(text)
        offer = self.offers.get(message.rci)
        if offer is None:
            text = "the function is not registered any more"
            raise UnknownCoro(text)
        local, started = self._start(offer, message)
        local.handle.starter = link.peer.process_id
        if link.lost:
            local.cancel("its caller is lost")
        else:
            self._calls.setdefault(link, {})[local.serial] = _OfferedCall(local, started)
        return CallBegun(local.serial)

    def _start(self, offer: Offer, message: BeginCall) -> tuple[LocalCoro, Submission]:
        local, started = self._process.start_here(offer.nursery, self._run, (offer, message), {}, name=offer.name)
        # The reason unless a cancel request gives another one: the block is being left.
        local.reason = "the block that registered its function was left"
        return local, started

    async def _run(self, offer: Offer, message: BeginCall) -> Any:
        args, kwargs = loads(message.arguments, message.buffers)
        return await self._process.runner.called(offer.described, current.get()[-1], args, kwargs)

    async def _asked_for_outcome(self, link: Link, message: AwaitCall) -> Told:
        calls = self._calls.get(link, {})
        call = calls.get(message.serial)
        if call is None:
            text = "this call belongs to another process, or its outcome was fetched before"
            raise UnknownCoro(text)
        await call.started.until_ended()
        calls.pop(message.serial, None)
        assert call.started.outcome is not None  # noqa: S101 - it has ended
        return tell(call.started.outcome, call.started.name)

    def _lost(self, link: Link) -> None:
        for call in self._calls.pop(link, {}).values():
            call.local.cancel("its caller is lost")
