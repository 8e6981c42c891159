"""The settings that hold for the whole process: `discoro.config`.

They may be set before anything is opened. This module owns their defaults and their reasons; options of single
blocks (`open_endpoint`, `Computation`) stay with those.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ._arguments import above_zero, integer

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

PULSES = 5
"""Pulse intervals without a word after which whoever should give one is taken for dead."""


class Config(msgspec.Struct):
    """What may be set before anything is opened.

    The first three keep the spelling of the old system, whose programs set them.
    """

    MsgTimeout: float = 10.0
    """Seconds for connecting, a handshake, the reply to a request, or a transfer without progress."""
    MinPulseInterval: float = 10.0
    """The shortest `pulse_interval` that a computation may ask for, in seconds, and its default."""
    MaxPulseInterval: float = 100.0
    """The longest `pulse_interval` that a computation may ask for, in seconds."""
    ping_interval: float = 30.0
    """The longest pause between two looks for others on the network, in seconds."""
    mailbox_messages: int = 1024
    """The window of a mailbox for each sending process, in messages."""
    mailbox_bytes: int = 4 * MIB
    """The window of a mailbox for each sending process, in bytes; one larger message goes in when it is empty."""
    max_message_size: int = 4 * GIB
    """The largest frame that is taken, in bytes."""
    small_result: int = 64 * KIB
    """Results up to this many bytes come by themselves; larger ones are fetched within `result_budget`."""
    result_budget: int = 256 * MIB
    """The bytes of large results of one computation that may be under way at once."""
    output_backlog: int = 16 * MIB
    """The bytes of output that a server keeps while the client does not take them; then what prints waits, or its
    lines are left out."""
    status_backlog: int = 10_000
    """The events that a status subscriber may be behind before it gets `StatusLagged`."""

    if not TYPE_CHECKING:  # who sees this method takes any name for a setting

        def __setattr__(self, name: str, value: float) -> None:
            whole = isinstance(getattr(type(self)(), name, 0.0), int)
            checked = integer(f"config.{name}", value, least=1) if whole else above_zero(f"config.{name}", value)
            super().__setattr__(name, checked)


config: Config = Config()
