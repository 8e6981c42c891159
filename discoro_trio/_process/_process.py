"""The services that coroutines of one process need: the table of local coroutines, and access to remote ones.

This module joins the parts: `Runner` runs the coroutines that other processes start here, `Submissions` keeps the
records of those that this process starts elsewhere, `Mail` carries messages, and `OutcomeStore` answers how coroutines
ended. Users hold the handle `Coro`.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from .._config import config
from .._errors import MailboxClosed
from .._shipping import NOTHING
from .._wire import is_short
from ._checkpoints import Checkpoints
from ._coro import Coro
from ._current import process_var
from .channels._open_channels import OpenChannels
from .diagnostics._task_dump import TaskDumps
from .execution._callables import describe
from .execution._local_coro import LocalCoro, current
from .execution._outcome import LocalOutcome
from .execution._outcome_store import OutcomeStore
from .execution._runner import Runner
from .execution._submission import Submission
from .execution._submissions import Submissions
from .files._transfers import Files
from .messaging._mail import Mail, tell_ended
from .naming._introductions import Introductions
from .naming._name_registry import NameRegistry
from .rpc._offered_functions import OfferedFunctions
from .sharing._transfers import Blobs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .._link import Endpoint, Link
    from .._shipping import Shipped
    from .execution._outcome import Outcome
    from .messaging._mailbox import Mailbox
    from .naming._addresses import Placed


class Process:
    """The coroutines of one endpoint, and their communication with other processes.

    Attributes:
        id: The id of the process.
        realm: The key that other processes use to connect to it.
        locals: The coroutines of this process, by serial number.
        shipped: At a server, what its computation has shipped; pickles for its other servers refer to it by name.
    """

    def __init__(self, endpoint: Endpoint, *, realm: bytes = b"") -> None:
        self.endpoint = endpoint
        self.id: bytes = endpoint.id
        self.realm = realm
        self.shipped: Shipped = NOTHING
        self.turns: Checkpoints = Checkpoints()
        self.locals: dict[int, LocalCoro] = {}
        self.mail: Mail = Mail(self)
        self.runner: Runner = Runner(self, small=config.small_result)
        self.starts: Submissions = Submissions(self)
        self.outcome_store: OutcomeStore = OutcomeStore(self)
        self.names: NameRegistry = NameRegistry(self)
        self.open_channels: OpenChannels = OpenChannels(self)
        self.offered_functions: OfferedFunctions = OfferedFunctions(self)
        self.files: Files = Files(self)
        self.blobs: Blobs = Blobs(self)
        self.introductions: Introductions = Introductions(self)
        self.task_dumps: TaskDumps = TaskDumps(self)
        self._serial = 0

    # --- local coroutines

    def handle_of(self, local: LocalCoro) -> Coro[Any]:
        """Make the handle of a coroutine of this process."""
        starter = local.link.peer.process_id if local.link is not None else self.id
        return Coro(self.id, local.serial, starter, self.realm, local.name, self.endpoint.location)

    def handle_to(self, started: Submission, location: Any, realm: bytes) -> Coro[Any]:
        """Make the handle of a coroutine that this process started elsewhere."""
        self.outcome_store.keep(started)
        return Coro(started.home, started.serial, self.id, realm, started.name, location, started=started)

    def mailbox_of(self, coro: Coro[Any]) -> Mailbox:
        """Return the mailbox of a coroutine of this process.

        Raises:
            MailboxClosed: It has ended.
        """
        local = self.locals.get(coro.serial)
        if local is None:
            message = f"{coro} has ended; it takes no more messages"
            raise MailboxClosed(message)
        return local.box()

    def end_local(self, local: LocalCoro) -> None:
        """Remove a coroutine that has ended, and notify its senders."""
        self.locals.pop(local.serial, None)
        if local.mailbox is not None:
            tell_ended(local.mailbox.close(), local.serial)
        if local.endings is not None:
            local.ended()

    def end_here(self, local: LocalCoro, started: Submission, outcome: LocalOutcome) -> None:
        """Store the outcome of a coroutine that this process has started here."""
        self.end_local(local)
        if local.shown is not None and local.shown.sent and (outcome.raised or is_short(outcome.result)):
            self.outcome_store.keep(started, recent=True)
        started.end(outcome)

    def new_local(self, name: str) -> tuple[LocalCoro, Submission]:
        """Make a coroutine that this process starts and runs; its handle keeps its outcome."""
        self._serial += 1
        local = LocalCoro(self._serial, name, None, self, trio.CancelScope())
        self.locals[local.serial] = local
        started = Submission(self.id, local.serial, name, None)
        local.handle.started = started
        self.outcome_store.keep(started)
        return local, started

    @contextmanager
    def enclosing(self, name: str, mailbox_size: int) -> Iterator[LocalCoro]:
        """Make the calling task a coroutine while the block lasts."""
        local, started = self.new_local(name)
        local.open_mailbox(mailbox_size)
        local.handle.mailbox_size = mailbox_size
        token = current.set((*current.get(), local))
        outcome: Outcome = LocalOutcome.returned(None)
        try:
            yield local
        except BaseException as error:
            outcome = LocalOutcome.failed(error) if isinstance(error, Exception) else LocalOutcome.cancelled(None)
            raise
        finally:
            current.reset(token)
            self.end_local(local)
            started.end(outcome)

    @contextmanager
    def opened_mailbox(self, name: str, mailbox_size: int) -> Iterator[LocalCoro]:
        """Open a mailbox that belongs to no task, while the block lasts."""
        local, started = self.new_local(name)
        local.open_mailbox(mailbox_size)
        local.handle.mailbox_size = mailbox_size
        try:
            yield local
        finally:
            self.end_local(local)
            started.end(LocalOutcome.returned(None))

    def start_here(
        self,
        nursery: trio.Nursery,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        name: str | None,
    ) -> tuple[LocalCoro, Submission]:
        """Start a coroutine in this process, as a task of `nursery`."""
        described = describe(function)
        local, started = self.new_local(name or described.name)

        async def run() -> None:
            outcome = await self.runner.outcome(local, partial(self.runner.called, described, local, args, kwargs))
            self.end_here(local, started, outcome)

        nursery.start_soon(run, name=local.name)
        return local, started

    # --- links to other processes

    async def link_to(self, coro: Placed) -> Link:
        """Return the link to the process of `coro`; open it if needed. Raises as `Introductions.link_to` does."""
        return await self.introductions.link_to(coro)

    @contextmanager
    def entered(self) -> Iterator[Process]:
        """Make this the process of the calling task while the block lasts."""
        token = process_var.set(self)
        try:
            yield self
        finally:
            process_var.reset(token)
