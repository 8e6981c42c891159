"""Coroutines in one process: handles, mailboxes, outcomes, and what reaches them from other processes.

Bytes and connections are with `link`; which process runs what is decided by `cluster` and `client`.
"""

from typing import TYPE_CHECKING

from .. import _lazy
from . import _output as output
from . import _signatures as signatures
from ._callables import Described, describe
from ._channel import Channel, locate_channel, open_channel
from ._coro import Coro
from ._current import current_coro, current_process
from ._files import Files, OfferFile, files_of
from ._installed import holds_files, install_definitions, place_files, write_tree
from ._keeper import Keeper, ended_message
from ._locate import locate
from ._names import names_of
from ._nursery import Nursery, open_nursery
from ._open_coro import open_coro
from ._outcome import Ending, Here, Outcome
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
from ._rci import RCI, locate_rci
from ._send_file import del_file, send_file
from ._split import split_mailbox
from ._started import Started
from ._starts import Call, Host, lose_all
from ._transported import pack_error, unpack_error
from ._turns import Turns
from ._typed import Typed

if TYPE_CHECKING:
    from ._open import ensure_endpoint, open_endpoint

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
    "send_file",
    "signatures",
    "split_mailbox",
    "unpack_error",
    "write_tree",
]

if not TYPE_CHECKING:  # who sees this takes any name for one of the package
    __getattr__ = _lazy.importer(__name__, {"_open": ("ensure_endpoint", "open_endpoint")})  # not for servers
