"""Coroutines in one process: handles, mailboxes, outcomes, and the requests of other processes to them.

Bytes and connections are in `_link`; `_cluster` and `_client` decide which process runs which coroutine.
"""

from typing import TYPE_CHECKING

from .. import _lazy
from . import _output as output
from ._checkpoints import Checkpoints
from ._coro import Coro
from ._current import current_coro, current_process
from ._kept_output import OutputLine
from ._process import Process
from .diagnostics._stuck import stuck
from .diagnostics._task_dump import (
    END,
    MESSAGE,
    ROOM,
    THREAD,
    AskDump,
    ProcessDump,
    TaskDump,
    TaskDumps,
    ThreadDump,
    Wanted,
    is_users,
)
from .execution._callables import Described, describe
from .execution._definitions import Pickled, snapshot
from .execution._endings import MOST_GROUPS, EndedCoro, FailureGroup, described_arguments, merged_failures
from .execution._exit_handlers import run_exit_handlers
from .execution._forked import guard_forks
from .execution._outcome import Ending, LocalOutcome, Outcome
from .execution._outcome_store import OutcomeStore, ended_message
from .execution._submission import Submission
from .execution._submissions import Call, Host, lose_all
from .files._transfers import Files, OfferFile, files_of
from .messaging._forwarded import ForwardedMessage
from .naming._name_registry import names_of
from .sharing._shared import Shared, shared_here
from .sharing._transfers import Blobs, blobs_of

if TYPE_CHECKING:
    from ._open import ensure_endpoint, open_endpoint
    from ._open_coro import open_coro
    from .channels._channel import Channel, locate_channel, open_channel
    from .execution import _signatures as signatures
    from .execution._nursery import Nursery, open_nursery
    from .execution._typed import Typed
    from .files._send_file import del_file, send_file
    from .messaging._split import split_mailbox
    from .naming._locate import locate
    from .rpc._rci import RCI, locate_rci

__all__ = [
    "END",
    "MESSAGE",
    "MOST_GROUPS",
    "RCI",
    "ROOM",
    "THREAD",
    "AskDump",
    "Blobs",
    "Call",
    "Channel",
    "Checkpoints",
    "Coro",
    "Described",
    "EndedCoro",
    "Ending",
    "FailureGroup",
    "Files",
    "ForwardedMessage",
    "Host",
    "LocalOutcome",
    "Nursery",
    "OfferFile",
    "Outcome",
    "OutcomeStore",
    "OutputLine",
    "Pickled",
    "Process",
    "ProcessDump",
    "Shared",
    "Submission",
    "TaskDump",
    "TaskDumps",
    "ThreadDump",
    "Typed",
    "Wanted",
    "blobs_of",
    "current_coro",
    "current_process",
    "del_file",
    "describe",
    "described_arguments",
    "ended_message",
    "ensure_endpoint",
    "files_of",
    "guard_forks",
    "is_users",
    "locate",
    "locate_channel",
    "locate_rci",
    "lose_all",
    "merged_failures",
    "names_of",
    "open_channel",
    "open_coro",
    "open_endpoint",
    "open_nursery",
    "output",
    "run_exit_handlers",
    "send_file",
    "shared_here",
    "signatures",
    "snapshot",
    "split_mailbox",
    "stuck",
]

if not TYPE_CHECKING:  # a type checker takes __getattr__ to mean that any name exists
    __getattr__ = _lazy.importer(
        __name__,
        {
            "channels._channel": ("Channel", "locate_channel", "open_channel"),
            "execution._nursery": ("Nursery", "open_nursery"),
            "rpc._rci": ("RCI", "locate_rci"),
            "execution._typed": ("Typed",),
            "files._send_file": ("del_file", "send_file"),
            "_open": ("ensure_endpoint", "open_endpoint"),
            "naming._locate": ("locate",),
            "_open_coro": ("open_coro",),
            "messaging._split": ("split_mailbox",),
        },
        modules={"signatures": "execution._signatures"},
    )
