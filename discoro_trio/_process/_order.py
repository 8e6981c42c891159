"""The keys that keep dependent frames in order, whatever their sizes (`wire.Outbox`).

    frame                       has the keys                comes after
    DEFINE, a function          defined                     taken back
    DEFINE, taken back          taken back                  defined, used
    START                       started, used               defined
    CANCEL, REVOKE                                          started
    CREDIT, requested                                       started
    MESSAGE, BATCH              sender, sender and target   sender and target, started
    STARTED, OUTCOME, READY,    sender                      the same
    OUTPUT
    CONTROL                     `IN_ORDER`, or the number of a request with bulk data

The target of a message is a coroutine's serial number; `sender` is the same number inverted, since frames of both
directions of one coroutine are independent. So a large message delays no message to another target, and no message of
another sender; but what a coroutine reports about itself follows all of its messages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable

TAKEN_BACK = ("taken back",)
"""The key of frames that remove a definition; the new definitions that need its room follow them."""


def defined(function: int) -> tuple[str, int]:
    """Return the key of the frame that defines a function."""
    return "defined", function


def used(function: int) -> tuple[str, int]:
    """Return the key of the starts that use a function."""
    return "used", function


def started(serial: int) -> tuple[str, int]:
    """Return the key of the start of a coroutine.

    Messages to the coroutine have another key, so frames that follow the start do not wait for messages.
    """
    return "started", serial


def message(sender: int, target: int) -> tuple[tuple[Hashable, ...], tuple[Hashable, ...]]:
    """Return the keys of a message, and those that it comes after.

    Args:
        sender: The source number of the sender.
        target: The serial number of the coroutine that it is for.
    """
    pair = sender, target
    return (sender, pair), (pair, ("started", target))
