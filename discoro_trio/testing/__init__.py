"""Tools for testing programs that use the package: fixtures, fault injection, and leak checks.

They work with pytest-trio.
"""

from ._killer import ProcessKiller, open_process_killer, server_pids
from ._leaks import check_leaks
from ._loss import lose_messages
from ._module_cluster import ModuleCluster
from ._proxy import Damage, Direction, FaultProxy, open_fault_proxy

__all__ = [
    "Damage",
    "Direction",
    "FaultProxy",
    "ModuleCluster",
    "ProcessKiller",
    "check_leaks",
    "lose_messages",
    "open_fault_proxy",
    "open_process_killer",
    "server_pids",
]
