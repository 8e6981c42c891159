"""Distributed communicating processes in Trio's structured concurrency.

The map of the package: every public name is imported here from the private module that owns it.
"""

import typing

from . import _migration
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
    TooManyRestarts,
    UnknownCoro,
    UnknownLocation,
    VersionMismatch,
)
from ._values import (
    CoroInfo,
    DiscoroStatus,
    Failure,
    Location,
    MonitorException,
    NodeAllocation,
    NodeInfo,
    Status,
    StatusLagged,
)
from .client import (
    Computation,
    ComputationNursery,
    ComputationStatistics,
    ProcScheduler,
    Supervisor,
    open_supervisor,
)
from .cluster import Node, Scheduler, open_cluster, open_node, open_scheduler
from .process import (
    RCI,
    Channel,
    Coro,
    Nursery,
    current_coro,
    del_file,
    locate,
    locate_channel,
    locate_rci,
    open_channel,
    open_coro,
    open_endpoint,
    open_nursery,
    send_file,
)

if typing.TYPE_CHECKING:
    from .monitor import HTTPServer, open_http_server

__all__ = [
    "RCI",
    "AuthenticationError",
    "Channel",
    "Computation",
    "ComputationClosed",
    "ComputationNursery",
    "ComputationStatistics",
    "Coro",
    "CoroCancelled",
    "CoroInfo",
    "DiscoroError",
    "DiscoroStatus",
    "Failure",
    "FileTransferError",
    "HTTPServer",
    "Location",
    "MailboxClosed",
    "MonitorException",
    "NameTaken",
    "Node",
    "NodeAllocation",
    "NodeInfo",
    "NotPicklable",
    "Nursery",
    "PeerDisconnected",
    "ProcScheduler",
    "ProtocolError",
    "RemoteError",
    "Scheduler",
    "SchedulerNotFound",
    "ServerLost",
    "Status",
    "StatusLagged",
    "Supervisor",
    "TooManyRestarts",
    "UnknownCoro",
    "UnknownLocation",
    "VersionMismatch",
    "config",
    "current_coro",
    "del_file",
    "locate",
    "locate_channel",
    "locate_rci",
    "open_channel",
    "open_cluster",
    "open_coro",
    "open_endpoint",
    "open_http_server",
    "open_node",
    "open_nursery",
    "open_scheduler",
    "open_supervisor",
    "send_file",
]


def __getattr__(name: str) -> typing.Any:
    """Import the monitor when it is first asked for: it would cost every program a part of its start."""
    if name in _migration.PACKAGE:
        raise AttributeError(_migration.replaced("discoro", name, _migration.PACKAGE[name]))
    if name not in {"HTTPServer", "open_http_server"}:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    from . import monitor  # noqa: PLC0415 - see above

    return getattr(monitor, name)
