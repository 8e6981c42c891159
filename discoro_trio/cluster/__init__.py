"""The programs of a cluster: scheduler, node, template, server.

Who holds which server is decided here; what runs there is with `process`, who wants it with `client`.
"""

from . import _messages as messages
from ._node import FOLDER_PREFIX, Node
from ._open import current_scheduler, open_cluster, open_node, open_scheduler
from ._options import check_period, check_pulse_interval
from ._presence import find_scheduler
from ._scheduler import Scheduler
from ._status import ClusterStatus, ComputationStatus, CoroStatus, NodeStatus, Progress, ServerStatus, ServerVitals
from ._subscriptions import Event, Publisher, Subscription
from ._tables import status_as_json, status_as_table, status_from_json

__all__ = [
    "FOLDER_PREFIX",
    "ClusterStatus",
    "ComputationStatus",
    "CoroStatus",
    "Event",
    "Node",
    "NodeStatus",
    "Progress",
    "Publisher",
    "Scheduler",
    "ServerStatus",
    "ServerVitals",
    "Subscription",
    "check_period",
    "check_pulse_interval",
    "current_scheduler",
    "find_scheduler",
    "messages",
    "open_cluster",
    "open_node",
    "open_scheduler",
    "status_as_json",
    "status_as_table",
    "status_from_json",
]
