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
    NameTaken,
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
from .client import Computation
from .cluster import Node, Scheduler, open_cluster
from .process import (
    Channel,
    Coro,
    current_coro,
    locate,
    locate_channel,
    open_channel,
    open_coro,
    open_endpoint,
    open_nursery,
)

__all__ = [
    "AuthenticationError",
    "Channel",
    "Computation",
    "ComputationClosed",
    "Coro",
    "CoroCancelled",
    "CoroInfo",
    "DiscoroError",
    "DiscoroStatus",
    "FileTransferError",
    "Location",
    "MailboxClosed",
    "MonitorException",
    "NameTaken",
    "Node",
    "NodeAllocation",
    "NodeInfo",
    "NotPicklable",
    "PeerDisconnected",
    "ProtocolError",
    "RemoteError",
    "Scheduler",
    "SchedulerNotFound",
    "ServerLost",
    "Status",
    "StatusLagged",
    "UnknownCoro",
    "UnknownLocation",
    "VersionMismatch",
    "config",
    "current_coro",
    "locate",
    "locate_channel",
    "open_channel",
    "open_cluster",
    "open_coro",
    "open_endpoint",
    "open_nursery",
]
