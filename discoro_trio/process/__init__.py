"""Coroutines in one process: handles, mailboxes, outcomes, and what reaches them from other processes.

Bytes and connections are with `link`; which process runs what is decided by `cluster` and `client`.
"""

from typing import TYPE_CHECKING

from .. import _lazy
from . import _output as output
from ._callables import Described, describe
from ._coro import Coro
from ._current import current_coro, current_process
from ._exit_handlers import run_exit_handlers
from ._files import Files, OfferFile, files_of
from ._forked import guard_forks
from ._installed import holds_files, install_definitions, place_files, write_tree
from ._keeper import Keeper, ended_message
from ._names import names_of
from ._outcome import Ending, Here, Outcome
from ._packed import Packed
from ._pictures import (
    END,
    MESSAGE,
    ROOM,
    THREAD,
    AskPicture,
    Picture,
    Pictures,
    TaskPicture,
    ThreadPicture,
    Wanted,
    is_users,
)
from ._process import Process
from ._started import Started
from ._starts import Call, Host, lose_all
from ._transported import pack_error, unpack_error
from ._turns import Turns

if TYPE_CHECKING:
    from . import _signatures as signatures
    from ._channel import Channel, locate_channel, open_channel
    from ._locate import locate
    from ._nursery import Nursery, open_nursery
    from ._open import ensure_endpoint, open_endpoint
    from ._open_coro import open_coro
    from ._rci import RCI, locate_rci
    from ._send_file import del_file, send_file
    from ._split import split_mailbox
    from ._typed import Typed

__all__ = [
    "END",
    "MESSAGE",
    "RCI",
    "ROOM",
    "THREAD",
    "AskPicture",
    "Call",
    "Channel",
    "Coro",
    "Described",
    "Ending",
    "Files",
    "Here",
    "Host",
    "Keeper",
    "Nursery",
    "OfferFile",
    "Outcome",
    "Packed",
    "Picture",
    "Pictures",
    "Process",
    "Started",
    "TaskPicture",
    "ThreadPicture",
    "Turns",
    "Typed",
    "Wanted",
    "current_coro",
    "current_process",
    "del_file",
    "describe",
    "ended_message",
    "ensure_endpoint",
    "files_of",
    "guard_forks",
    "holds_files",
    "install_definitions",
    "is_users",
    "locate",
    "locate_channel",
    "locate_rci",
    "lose_all",
    "names_of",
    "open_channel",
    "open_coro",
    "open_endpoint",
    "open_nursery",
    "output",
    "pack_error",
    "place_files",
    "run_exit_handlers",
    "send_file",
    "signatures",
    "split_mailbox",
    "unpack_error",
    "write_tree",
]

if not TYPE_CHECKING:  # who sees this takes any name for one of the package
    # What jobs may use, and servers do not need to start.
    __getattr__ = _lazy.importer(
        __name__,
        {
            "_channel": ("Channel", "locate_channel", "open_channel"),
            "_locate": ("locate",),
            "_nursery": ("Nursery", "open_nursery"),
            "_open": ("ensure_endpoint", "open_endpoint"),
            "_open_coro": ("open_coro",),
            "_rci": ("RCI", "locate_rci"),
            "_send_file": ("del_file", "send_file"),
            "_split": ("split_mailbox",),
            "_typed": ("Typed",),
        },
        {"signatures": "_signatures"},
    )
