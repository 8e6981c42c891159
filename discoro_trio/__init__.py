"""Distributed communicating processes in Trio's structured concurrency.

This module lists every public name, and the module from which it is imported at its first use.
"""

import sys
import typing

from . import _joblib_hook, _lazy
from ._compat import _old_programs

if typing.TYPE_CHECKING:
    from . import launch as launch
    from ._client import (
        Computation,
        ComputationNursery,
        ComputationStatistics,
        ProcScheduler,
        Supervisor,
        open_supervisor,
    )
    from ._client._connect import Cluster, connect
    from ._client._executor import Executor
    from ._cluster import Node, Scheduler, open_cluster, open_node, open_scheduler
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
    from ._monitor import HTTPServer, open_http_server
    from ._process import (
        RCI,
        Channel,
        Coro,
        Nursery,
        Shared,
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
    from ._process.execution._asyncio_job import asyncio_job
    from ._status import CoroInfo, DiscoroStatus, Failure, NodeAllocation, NodeInfo, Status, StatusLagged
    from ._values import Location, MonitorException

__all__ = [
    "RCI",
    "AuthenticationError",
    "Channel",
    "Cluster",
    "Computation",
    "ComputationClosed",
    "ComputationNursery",
    "ComputationStatistics",
    "Coro",
    "CoroCancelled",
    "CoroInfo",
    "DiscoroError",
    "DiscoroStatus",
    "Executor",
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
    "Shared",
    "Status",
    "StatusLagged",
    "Supervisor",
    "TooManyRestarts",
    "UnknownCoro",
    "UnknownLocation",
    "VersionMismatch",
    "asyncio_job",
    "config",
    "connect",
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


_find = _lazy.importer(
    __name__,
    {
        "_config": ("config",),
        "_errors": (
            "AuthenticationError",
            "ComputationClosed",
            "CoroCancelled",
            "DiscoroError",
            "FileTransferError",
            "MailboxClosed",
            "NameTaken",
            "NotPicklable",
            "PeerDisconnected",
            "ProtocolError",
            "RemoteError",
            "SchedulerNotFound",
            "ServerLost",
            "TooManyRestarts",
            "UnknownCoro",
            "UnknownLocation",
            "VersionMismatch",
        ),
        "_process.execution._asyncio_job": ("asyncio_job",),
        "_status": ("CoroInfo", "DiscoroStatus", "Failure", "NodeAllocation", "NodeInfo", "Status", "StatusLagged"),
        "_values": ("Location", "MonitorException"),
        "_client": (
            "Computation",
            "ComputationNursery",
            "ComputationStatistics",
            "ProcScheduler",
            "Supervisor",
            "open_supervisor",
        ),
        "_client._connect": ("Cluster", "connect"),
        "_client._executor": ("Executor",),
        "_cluster": ("Node", "Scheduler", "open_cluster", "open_node", "open_scheduler"),
        "_monitor": ("HTTPServer", "open_http_server"),
        "_process": (
            "RCI",
            "Channel",
            "Coro",
            "Nursery",
            "Shared",
            "current_coro",
            "del_file",
            "locate",
            "locate_channel",
            "locate_rci",
            "open_channel",
            "open_coro",
            "open_endpoint",
            "open_nursery",
            "send_file",
        ),
    },
    modules={"launch": "launch"},
)


_joblib_hook.install()

if "IPython.core.getipython" in sys.modules:
    from . import _cells

    _cells.install()


def __getattr__(name: str) -> typing.Any:
    """Import a name at its first use; for a name of the old system, raise an error that gives its replacement."""
    if name in _old_programs.PACKAGE:
        raise AttributeError(_old_programs.replaced("discoro", name, _old_programs.PACKAGE[name]))
    return _find(name)


def __dir__() -> list[str]:
    """List the public names, including those that are not yet imported."""
    return sorted({*globals(), *__all__})
