"""The programs of a cluster: scheduler, node, template, server.

Who holds which server is decided here; what runs there is with `process`, who wants it with `client`.
"""

from typing import TYPE_CHECKING

from .. import _lazy

if TYPE_CHECKING:
    from . import _messages as messages
    from ._control_groups import find_groups
    from ._node import Node
    from ._open import current_scheduler, open_node, open_scheduler
    from ._open_cluster import open_cluster
    from ._options import check_period, check_pulse_interval
    from ._presence import find_scheduler
    from ._scheduler import Scheduler
    from ._stacks import AskStacks, ProcessStacks, StacksAre
    from ._starting import FOLDER_PREFIX
    from ._status import ClusterStatus, ComputationStatus, CoroStatus, NodeStatus, Progress, ServerStatus, ServerVitals
    from ._steering import NodeRests, Steer, Steered, Wish
    from ._subscriptions import Event, Publisher, Subscription
    from ._sweeping import node_lives
    from ._tables import printable, status_as_json, status_as_table, status_from_json

__all__ = [
    "FOLDER_PREFIX",
    "AskStacks",
    "ClusterStatus",
    "ComputationStatus",
    "CoroStatus",
    "Event",
    "Node",
    "NodeRests",
    "NodeStatus",
    "ProcessStacks",
    "Progress",
    "Publisher",
    "Scheduler",
    "ServerStatus",
    "ServerVitals",
    "StacksAre",
    "Steer",
    "Steered",
    "Subscription",
    "Wish",
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
    "printable",
    "status_as_json",
    "status_as_table",
    "status_from_json",
]

if not TYPE_CHECKING:  # who sees this takes any name for one of the package
    __getattr__ = _lazy.importer(
        __name__,
        {
            "_control_groups": ("find_groups",),
            "_node": ("Node",),
            "_open": ("current_scheduler", "open_node", "open_scheduler"),
            "_open_cluster": ("open_cluster",),
            "_options": ("check_period", "check_pulse_interval"),
            "_presence": ("find_scheduler",),
            "_scheduler": ("Scheduler",),
            "_stacks": ("AskStacks", "ProcessStacks", "StacksAre"),
            "_starting": ("FOLDER_PREFIX",),
            "_status": (
                "ClusterStatus",
                "ComputationStatus",
                "CoroStatus",
                "NodeStatus",
                "Progress",
                "ServerStatus",
                "ServerVitals",
            ),
            "_steering": ("NodeRests", "Steer", "Steered", "Wish"),
            "_subscriptions": ("Event", "Publisher", "Subscription"),
            "_sweeping": ("node_lives",),
            "_tables": ("printable", "status_as_json", "status_as_table", "status_from_json"),
        },
        modules={"messages": "_messages"},
    )
