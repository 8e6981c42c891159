"""The settings of the whole process: `discoro.config`.

They may be set before anything is opened. This module owns their defaults and reasons; the options of single blocks
(`open_endpoint`, `Computation`) belong to those.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

import msgspec

from ._arguments import above_zero, flag, integer

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

PULSES = 5
"""The number of missed heartbeats after which a process is considered dead."""


class Config(msgspec.Struct):
    """The settings of the process, which may be set before anything is opened.

    The first three keep the names of the old system, because its programs set them.
    """

    MsgTimeout: float = 10.0
    """Seconds for connecting, a handshake, the reply to a request, or a transfer without progress."""
    MinPulseInterval: float = 10.0
    """The shortest `pulse_interval` that a computation may ask for, in seconds, and its default."""
    MaxPulseInterval: float = 100.0
    """The longest `pulse_interval` that a computation may ask for, in seconds."""
    ping_interval: float = 30.0
    """The longest pause between two discovery queries, in seconds."""
    mailbox_messages: int = 1024
    """The window of a mailbox for each sending process, in messages."""
    mailbox_bytes: int = 4 * MIB
    """The window of a mailbox for each sending process, in bytes; a larger message is sent when the window is free."""
    max_message_size: int = 4 * GIB
    """The largest frame that is accepted, in bytes."""
    small_result: int = 64 * KIB
    """Results up to this many bytes are sent at once; larger ones are fetched within `result_budget`."""
    result_budget: int = 256 * MIB
    """The bytes of large results of one computation that may be in flight at once."""
    output_backlog: int = 16 * MIB
    """The bytes of output that a server keeps until the client reads them; beyond that, printing code waits, or its
    lines are dropped."""
    status_backlog: int = 10_000
    """The number of events that a status subscriber may lag behind before it receives `StatusLagged`."""
    opentelemetry: bool = False
    """Whether spans, metrics and trace ids of logs go to OpenTelemetry, which the extra `otel` installs."""

    if not TYPE_CHECKING:  # a type checker would accept any name as a setting

        def __setattr__(self, name: str, value: float) -> None:
            if name == "opentelemetry":
                super().__setattr__(name, _checked_telemetry(value))
                return
            whole = isinstance(getattr(type(self)(), name, 0.0), int)
            checked = integer(f"config.{name}", value, least=1) if whole else above_zero(f"config.{name}", value)
            super().__setattr__(name, checked)


def _checked_telemetry(value: bool) -> bool:  # noqa: FBT001 - the value is what is checked
    if flag("config.opentelemetry", value):
        try:
            importlib.import_module("opentelemetry.trace")
        except ImportError as error:
            message = "config.opentelemetry=True needs OpenTelemetry: pip install 'discoro_trio[otel]'"
            raise ImportError(message) from error
    return value


config: Config = Config()
