"""The handle of a coroutine: what users hold, send to each other, and talk to.

A handle owns nothing that runs. What its methods do is with the process they are called in (`Process`); what names
it is with `_handle`.
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
    """A handle to a coroutine, here or elsewhere: small, hashable, picklable, the same wherever it is sent."""

    __slots__ = ()

    # --- messages

    async def send(self, message: object) -> None:
        """Hand a message over, in order; it may not have arrived when this returns.

        Waits only while the receiver's window is full. A cancelled send was not sent.

        Args:
            message: Anything that can be pickled; within a process it goes by reference.

        Raises:
            NotPicklable: The message cannot be sent to another process.
            MailboxClosed: The coroutine is known to have ended.
            PeerDisconnected: The connection is lost, or was since the last send.
        """
        process = process_var.get() or current_process()
        if self.home == process.id:
            await process.turns.take()
            await process.mailbox_of(self).put(message)
        elif (short := message if is_short(message) else pack_short(message)) is not NOT_SHORT:
            # Written out here, as one more coroutine a message takes a tenth of its time.
            turns = process.turns
            if turns.due():
                await turns.rest()
            route = self._route
            if route is None or route.mail is not process.mail:
                route = self._route_of(process)
            if not route.gather(short):
                await process.mail.send_short(self, route, short)
        else:
            await process.mail.send(self, self._route_of(process), message)

    def send_nowait(self, message: object) -> None:
        """Hand a message over, in order, without waiting.

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
        """Send a message and wait until it is in the mailbox. When cancelled, it may be there or not.

        Args:
            message: As for `send`.

        Raises:
            NotPicklable, MailboxClosed, PeerDisconnected: As for `send`; it is not in the mailbox.
        """
        process = current_process()
        if self.home == process.id:
            await trio.lowlevel.checkpoint()
            await process.mailbox_of(self).put(message)
        else:
            await process.mail.deliver(self, self._route_of(process), message)

    async def receive(self) -> Any:
        """Wait for the next message of the coroutine's own mailbox. A cancelled receive takes none.

        Returns:
            The message.

        Raises:
            RuntimeError: The calling task is not this coroutine.
            Exception: Whatever opening the message raised; the message is gone, the next ones are not.
        """
        # As `send`, with little for the many messages that come together.
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
            trio.WouldBlock: There is none.
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
        """Wait for its value. A cancelled wait leaves the coroutine running.

        Returns:
            What the coroutine returned.

        Raises:
            Exception: What the coroutine raised, with the remote traceback in a note.
            CoroCancelled: It was cancelled.
            ServerLost: Its server is gone.
            ComputationClosed: Its computation was closed before.
            UnknownCoro: The process that started it keeps no outcome any more.
        """
        outcome = await current_process().outcome_store.outcome(self, heard=True)
        value: R_co = outcome.value()  # type: ignore[assignment]
        return value

    async def wait(self) -> None:
        """Wait for its end, whatever that is. A cancelled wait leaves it running."""
        with suppress(UnknownCoro):  # of what runs, an outcome is kept: it has ended
            await current_process().outcome_store.outcome(self, heard=False)

    def cancel(self, reason: str | None = None) -> None:
        """Ask for its cancellation; returns at once.

        Args:
            reason: What `CoroCancelled.reason` says to those who wait for it.
        """
        current_process().outcome_store.cancel(self, optional_text("reason", reason))

    async def terminate(self, *, grace_period: float | None = None) -> None:
        """Cancel it and wait until its clean-up is done; when the grace period is over, end it by force.

        Force means that its server is replaced, with all that runs there.

        Args:
            grace_period: Seconds; 0 for force at once, None for its computation's.

        When cancelled, the coroutine's cancellation goes on.
        """
        seconds = None if grace_period is None else not_negative("grace_period", grace_period)
        with suppress(UnknownCoro):  # of what runs, an outcome is kept: it has ended
            await current_process().outcome_store.terminate(self, seconds)

    async def monitor(self, observer: Coro[Any]) -> None:
        """Let `observer` get a `MonitorException` when it ends, at once if it has.

        Args:
            observer: The coroutine whose mailbox gets it.

        Raises:
            UnknownCoro: The process that started it keeps no outcome any more.

        When cancelled, the observer may get it or not.
        """
        if not isinstance(observer, Coro):
            wrong_type("observer", observer, "a Coro")
        await current_process().outcome_store.monitor(self, observer)

    def register(self, name: str, *, public: bool = False) -> Registration:
        """Let others find this coroutine, of the calling process, by a name until it ends.

        Args:
            name: The name.
            public: Whether every program on the network finds it, and not just this computation.

        Returns:
            What can be awaited to be sure that it is registered.

        Raises:
            NameTaken: It has another owner already; from elsewhere, this is raised where it is awaited.
            RuntimeError: The coroutine is not one of the calling process.
            PeerDisconnected: The process that keeps the names cannot be reached.
        """
        names = current_process().names
        return names.register_coro(self, checked_text("name", name), public=flag("public", public))

    def report(self, done: float, *, total: float | None = None, text: str = "") -> None:
        """Say how far the coroutine itself is; shown in status, monitor and `discoro top`.

        Args:
            done: What is done, in units of the caller's choice.
            total: What there is to do, in the same units.
            text: What it is doing.

        Raises:
            RuntimeError: The calling task is not this coroutine.
        """
        whole = None if total is None else number("total", total)
        self._own().report = (number("done", done), whole, checked_text("text", text))

    # --- what this process knows of it

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
        message = f"{self} is not the coroutine that calls; only a coroutine itself can use its mailbox"
        raise RuntimeError(message)

    def _own_mailbox(self) -> Mailbox:
        local = self._own()
        return local.box() if local.mailbox is None else local.mailbox
