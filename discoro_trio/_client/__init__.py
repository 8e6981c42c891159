"""The client side: computations, their coroutines and the results.

`_cluster` has the servers that run them.
"""

from ._computation import Computation
from ._journal import Begun, Ended, Journal, Look
from ._nursery import ComputationNursery
from ._proc_scheduler import ProcScheduler
from ._statistics import ComputationStatistics
from ._supervisor import Supervisor, open_supervisor

__all__ = [
    "Begun",
    "Computation",
    "ComputationNursery",
    "ComputationStatistics",
    "Ended",
    "Journal",
    "Look",
    "ProcScheduler",
    "Supervisor",
    "open_supervisor",
]
