"""The programs of a cluster: scheduler, node, fork server, server.

This package decides which computation holds which server. Coroutines are run by `_process`, and computations are
opened by `_client`.
"""

from typing import TYPE_CHECKING

from .. import _lazy

if TYPE_CHECKING:
    from . import _messages as messages
    from ._details import AskDetails, DetailsAre, WantedOf
    from ._history import MOST_ANSWERS, Recent
    from ._launcher import LaunchedNode, Launcher, SchedulerAccess, check_launcher
    from ._open import current_scheduler, open_node, open_scheduler
    from ._open_cluster import open_cluster
    from ._options import check_period, check_pulse_interval
    from ._presence import SILENT_STRANGERS, find_scheduler
    from ._status import ClusterStatus, ComputationStatus, CoroStatus, NodeStatus, Progress, ServerStatus, ServerVitals
    from ._status_events import Event, Publisher, StatusSubscription
    from ._tables import status_as_json, status_as_table, status_from_json
    from .isolation._control_groups import find_groups
    from .node._node import Node
    from .node._stale_folders import node_lives
    from .node._startup import FOLDER_PREFIX
    from .scheduler._admin_requests import AdminAction, AdminReply, AdminRequest, NodeRests
    from .scheduler._scheduler import Scheduler
    from .scheduler._stacks import AskStacks, ProcessStacks, StacksAre

__all__ = [
    "FOLDER_PREFIX",
    "MOST_ANSWERS",
    "SILENT_STRANGERS",
    "AdminAction",
    "AdminReply",
    "AdminRequest",
    "AskDetails",
    "AskStacks",
    "ClusterStatus",
    "ComputationStatus",
    "CoroStatus",
    "DetailsAre",
    "Event",
    "LaunchedNode",
    "Launcher",
    "Node",
    "NodeRests",
    "NodeStatus",
    "ProcessStacks",
    "Progress",
    "Publisher",
    "Recent",
    "Scheduler",
    "SchedulerAccess",
    "ServerStatus",
    "ServerVitals",
    "StacksAre",
    "StatusSubscription",
    "WantedOf",
    "check_launcher",
    "check_period",
    "check_pulse_interval",
    "current_scheduler",
    "find_groups",
    "find_scheduler",
    "messages",
    "node_lives",
    "open_cluster",
    "open_node",
    "open_scheduler",
    "status_as_json",
    "status_as_table",
    "status_from_json",
]

if not TYPE_CHECKING:  # a type checker takes __getattr__ to mean that any name exists
    __getattr__ = _lazy.importer(
        __name__,
        {
            "scheduler._admin_requests": ("AdminAction", "AdminReply", "AdminRequest", "NodeRests"),
            "scheduler._stacks": ("AskStacks", "ProcessStacks", "StacksAre"),
            "_details": ("AskDetails", "DetailsAre", "WantedOf"),
            "_history": ("MOST_ANSWERS", "Recent"),
            "_launcher": ("LaunchedNode", "Launcher", "SchedulerAccess", "check_launcher"),
            "_status": (
                "ClusterStatus",
                "ComputationStatus",
                "CoroStatus",
                "NodeStatus",
                "Progress",
                "ServerStatus",
                "ServerVitals",
            ),
            "_status_events": ("Event", "Publisher", "StatusSubscription"),
            "node._startup": ("FOLDER_PREFIX",),
            "node._node": ("Node",),
            "scheduler._scheduler": ("Scheduler",),
            "_options": ("check_period", "check_pulse_interval"),
            "_open": ("current_scheduler", "open_node", "open_scheduler"),
            "isolation._control_groups": ("find_groups",),
            "_presence": ("SILENT_STRANGERS", "find_scheduler"),
            "node._stale_folders": ("node_lives",),
            "_open_cluster": ("open_cluster",),
            "_tables": ("status_as_json", "status_as_table", "status_from_json"),
        },
        modules={"messages": "_messages"},
    )
