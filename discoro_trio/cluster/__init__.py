"""The programs of a cluster: scheduler, node, template, server.

Who holds which server is decided here; what runs there is with `process`, who wants it with `client`.
"""

from . import _messages as messages
from ._control_groups import find_groups
from ._node import FOLDER_PREFIX, Node
from ._open import current_scheduler, open_cluster, open_node, open_scheduler
from ._options import check_period, check_pulse_interval
from ._presence import find_scheduler
from ._scheduler import Scheduler
from ._stacks import AskStacks, ProcessStacks, StacksAre
from ._status import ClusterStatus, ComputationStatus, CoroStatus, NodeStatus, Progress, ServerStatus, ServerVitals
from ._steering import NodeRests, Steer, Steered, Wish
from ._subscriptions import Event, Publisher, Subscription
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
    "open_cluster",
    "open_node",
    "open_scheduler",
    "printable",
    "status_as_json",
    "status_as_table",
    "status_from_json",
]
