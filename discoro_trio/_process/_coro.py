"""The handle of a coroutine, which users keep, send to other coroutines, and send messages to.

A handle owns nothing that runs. Its methods use the process in which they are called (`Process`). Its identity is in
`_handle`.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, final

import trio

from .._arguments import flag, not_negative, number, optional_text, wrong_type
from .._arguments import text as checked_text
from .._compat import _old_programs as migration
from .._errors import UnknownCoro
from .._wire import NOT_SHORT, is_short, pack_short
from ._current import current_process, process_var
from .execution._handle import Handle, R_co
from .execution._local_coro import current

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

    from ._process import Process
    from .execution._local_coro import LocalCoro
    from .messaging._mailbox import Mailbox
    from .messaging._message_sender import MessageSender
    from .naming._name_registry import Registration


@final
@migration.made_by("await computation.run(function, ...), or open_coro() for the current task", bytes)
@migration.answers_for(migration.CORO)
class Coro(Handle[R_co]):
    """A handle to a coroutine in this or another process: small, hashable, picklable; equal in every process."""

    __slots__ = ()

    # --- messages

    async def send(self, message: object) -> None:
        """Send a message, in order; it may not have arrived when this returns.

        Waits only while the receiver's window is full. If cancelled, it has not sent the message.

        Args:
            message: Any picklable object; within a process it is passed by reference.

        Raises:
            NotPicklable: The message cannot be sent to another process.
            MailboxClosed: The coroutine is known to have ended.
            PeerDisconnected: The connection is lost, or was lost since the last send.
        """
        process = process_var.get() or current_process()
        route = self._route
        if route is None or route.mail is not process.mail:
            if self.home == process.id:
                await process.turns.take()
                await process.mailbox_of(self).put(message)
                return
            route = self._route_of(process)
        if (short := message if is_short(message) else pack_short(message)) is not NOT_SHORT:
            # Inlined: a further coroutine call would add a tenth to the time of each message.
            turns = process.turns
            if turns.due():
                await turns.rest()
            if not route.gather(short):
                await process.mail.send_short(self, route, short)
        else:
            await process.mail.send(self, route, message)

    def send_nowait(self, message: object) -> None:
        """Send a message, in order, without waiting.

        Args:
            message: As for `send`.

        Raises:
            trio.WouldBlock: The receiver's window is full, or there is no connection to its process yet.
            NotPicklable, MailboxClosed, PeerDisconnected: As for `send`.
        """
        process = current_process()
        if self.home == process.id:
            process.mailbox_of(self).put_nowait(message)
        else:
            process.mail.send_nowait(self, self._route_of(process), message)

    async def deliver(self, message: object) -> None:
        """Send a message and wait until it is in the mailbox. If cancelled, the message may or may not be there.

        Args:
            message: As for `send`.

        Raises:
            NotPicklable, MailboxClosed, PeerDisconnected: As for `send`; the message is not in the mailbox.
        """
        process = current_process()
        if self.home == process.id:
            await trio.lowlevel.checkpoint()
            await process.mailbox_of(self).put(message)
        else:
            await process.mail.deliver(self, self._route_of(process), message)

    async def receive(self) -> Any:
        """Wait for the next message of the coroutine's own mailbox. If cancelled, it takes no message.

        Returns:
            The message.

        Raises:
            RuntimeError: The calling task is not this coroutine.
            Exception: Unpickling the message raised it. That message is lost; the next ones are not.
        """
        # Inlined as in `send`, and short for the many messages that arrive together.
        locals_ = current.get()
        mailbox = locals_[-1].mailbox if locals_ and locals_[-1].shown is self else None
        if mailbox is None:
            mailbox = self._own_mailbox()
        turns = mailbox.turns
        if turns.due():
            await turns.rest()
        run = mailbox.run
        if len(run) > 1:
            return run.pop()
        if not (run or mailbox):
            await mailbox.wait()
            turns.rested()
        return mailbox.get_nowait()

    def receive_nowait(self) -> Any:
        """Take the next message of the coroutine's own mailbox.

        Returns:
            The message.

        Raises:
            trio.WouldBlock: There is no message.
            RuntimeError: The calling task is not this coroutine.
        """
        return self._own_mailbox().get_nowait()

    def __aiter__(self) -> AsyncIterator[Any]:
        """Iterate over the messages of the coroutine's own mailbox."""
        return self

    def __anext__(self) -> Coroutine[Any, Any, Any]:
        """Wait for the next message."""
        return self.receive()

    # --- its end

    async def result(self) -> R_co:
        """Wait for the coroutine's value. Cancelling the wait leaves the coroutine running.

        Returns:
            What the coroutine returned.

        Raises:
            Exception: What the coroutine raised, with the remote traceback in a note.
            CoroCancelled: It was cancelled.
            ServerLost: Its server is gone.
            ComputationClosed: Its computation was closed before it ended.
            UnknownCoro: The process that started it no longer keeps its outcome.
        """
        outcome = await current_process().outcome_store.outcome(self, heard=True)
        value: R_co = outcome.value()  # type: ignore[assignment]
        return value

    async def wait(self) -> None:
        """Wait until the coroutine has ended, in any way. Cancelling the wait leaves it running."""
        with suppress(UnknownCoro):  # the outcome of a running coroutine is always kept, so this one has ended
            await current_process().outcome_store.outcome(self, heard=False)

    def cancel(self, reason: str | None = None) -> None:
        """Request the coroutine's cancellation; returns at once.

        Args:
            reason: The `CoroCancelled.reason` that waiting tasks get.
        """
        current_process().outcome_store.cancel(self, optional_text("reason", reason))

    async def terminate(self, *, grace_period: float | None = None) -> None:
        """Cancel the coroutine and wait for its clean-up; after the grace period, end it by force.

        Force means that its server is replaced, and everything that runs there is lost.

        Args:
            grace_period: Seconds; 0 for force at once, None for the grace period of its computation.

        If this call is cancelled, the coroutine's cancellation continues.
        """
        seconds = None if grace_period is None else not_negative("grace_period", grace_period)
        with suppress(UnknownCoro):  # the outcome of a running coroutine is always kept, so this one has ended
            await current_process().outcome_store.terminate(self, seconds)

    async def monitor(self, observer: Coro[Any]) -> None:
        """Send `observer` a `MonitorException` when the coroutine ends, or at once if it has ended.

        Args:
            observer: The coroutine whose mailbox receives it.

        Raises:
            UnknownCoro: The process that started it no longer keeps its outcome.

        If cancelled, the observer may or may not get it.
        """
        if not isinstance(observer, Coro):
            wrong_type("observer", observer, "a Coro")
        await current_process().outcome_store.monitor(self, observer)

    def register(self, name: str, *, public: bool = False) -> Registration:
        """Register a name for this coroutine of the calling process, until the coroutine ends.

        Args:
            name: The name.
            public: Whether every program on the network finds it, or only this computation.

        Returns:
            An awaitable that returns once the name is registered.

        Raises:
            NameTaken: The name has another owner. If another process keeps the name, awaiting the result raises this.
            RuntimeError: The coroutine does not run in the calling process.
            PeerDisconnected: The process that keeps the names cannot be reached.
        """
        names = current_process().names
        return names.register_coro(self, checked_text("name", name), public=flag("public", public))

    def report(self, done: float, *, total: float | None = None, text: str = "") -> None:
        """Report the calling coroutine's progress, which status, monitor and `discoro top` show.

        Args:
            done: The work done, in units of the caller's choice.
            total: All the work to do, in the same units.
            text: What the coroutine is doing.

        Raises:
            RuntimeError: The calling task is not this coroutine.
        """
        whole = None if total is None else number("total", total)
        self._own().report = (number("done", done), whole, checked_text("text", text))

    # --- the local record of the coroutine

    def _route_of(self, process: Process) -> MessageSender:
        route = self._route
        if route is None or route.mail is not process.mail:
            route = self._route = process.mail.route(self)
        return route

    def _own(self) -> LocalCoro:
        locals_ = current.get()
        if locals_ and locals_[-1].handle is self:
            return locals_[-1]
        for local in reversed(locals_):
            if local.serial == self.serial and local.home == self.home:
                return local
        message = f"{self} is not the calling coroutine; only a coroutine itself can use its mailbox"
        raise RuntimeError(message)

    def _own_mailbox(self) -> Mailbox:
        local = self._own()
        return local.box() if local.mailbox is None else local.mailbox
