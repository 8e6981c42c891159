"""Distributed communicating processes in Trio's structured concurrency.

The map of the package: every public name is imported here from the private module that owns it.
"""

from ._config import config
from ._errors import (
    AuthenticationError,
    ComputationClosed,
    CoroCancelled,
    DiscoroError,
    FileTransferError,
    MailboxClosed,
    NotPicklable,
    PeerDisconnected,
    ProtocolError,
    RemoteError,
    SchedulerNotFound,
    ServerLost,
    UnknownCoro,
    UnknownLocation,
    VersionMismatch,
)
from ._values import (
    CoroInfo,
    DiscoroStatus,
    Location,
    MonitorException,
    NodeAllocation,
    NodeInfo,
    Status,
    StatusLagged,
)

__all__ = [
    "AuthenticationError",
    "ComputationClosed",
    "CoroCancelled",
    "CoroInfo",
    "DiscoroError",
    "DiscoroStatus",
    "FileTransferError",
    "Location",
    "MailboxClosed",
    "MonitorException",
    "NodeAllocation",
    "NodeInfo",
    "NotPicklable",
    "PeerDisconnected",
    "ProtocolError",
    "RemoteError",
    "SchedulerNotFound",
    "ServerLost",
    "Status",
    "StatusLagged",
    "UnknownCoro",
    "UnknownLocation",
    "VersionMismatch",
    "config",
]
