"""The programs of a cluster: scheduler, node, template, server.

Who holds which server is decided here; what runs there is with `process`, who wants it with `client`.
"""

from . import _messages as messages
from ._node import Node
from ._open import current_scheduler, open_cluster, open_node, open_scheduler
from ._presence import find_scheduler
from ._scheduler import Scheduler

__all__ = [
    "Node",
    "Scheduler",
    "current_scheduler",
    "find_scheduler",
    "messages",
    "open_cluster",
    "open_node",
    "open_scheduler",
]
