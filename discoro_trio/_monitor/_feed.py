"""Turns the status messages of the cluster into facts of the monitor's model.

Synchronous: a message goes in, the model changes. `_source` and `_open` supply the messages.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from .._errors import CoroCancelled, ServerLost
from .._shown import shown
from .._status import CoroInfo, DiscoroStatus, NodeInfo, Status, StatusLagged
from .._values import Location, MonitorException
from ._rows import CoroutineRow
from ._topology_rows import GONE

if TYPE_CHECKING:
    from ._broadcast import Clock
    from ._model import Model

logger = logging.getLogger(__name__)

NODE_STATES = {
    Status.NodeDiscovered: "discovered",
    Status.NodeInitialized: "ready",
    Status.NodeClosed: "closed",
    Status.NodeIgnore: "ignored",
    Status.NodeDisconnected: "disconnected",
}
SERVER_STATES = {
    Status.ServerDiscovered: "discovered",
    Status.ServerInitialized: "ready",
    Status.ServerClosed: "closed",
    Status.ServerIgnore: "ignored",
    Status.ServerDisconnected: "disconnected",
}


class Feed:
    """Applies status messages to a model; it raises nothing, for any message.

    Args:
        model: The model to change.
        clock: Seconds since the epoch.

    Attributes:
        tables_known: Whether tables report nodes and computations; then messages add nothing about them.
    """

    def __init__(self, model: Model, clock: Clock = time.time) -> None:
        self._model = model
        self._clock = clock
        self._computations = 0
        self._current = ""
        self.tables_known = False

    def apply(self, message: object) -> None:
        """Apply one message; an unknown one is only logged."""
        if isinstance(message, DiscoroStatus):
            self._status(message.status, message.info)
        elif isinstance(message, MonitorException):
            self._finished(message)
        elif isinstance(message, NodeInfo):
            for key in self._at(message.addr):
                self.node_info(key, message)
        elif isinstance(message, StatusLagged):
            logger.warning("the monitor fell behind and missed %d status messages", message.missed)
        else:
            logger.info("the monitor does not know messages of the type %s", type(message).__name__)

    def _status(self, status: Status, info: object) -> None:
        if status in NODE_STATES and isinstance(info, str):
            self._node(info, NODE_STATES[status])
        elif status in SERVER_STATES and isinstance(info, Location):
            self._server(info, SERVER_STATES[status])
        elif status is Status.CoroCreated and isinstance(info, CoroInfo):
            self._created(info)
        elif status is Status.ComputationScheduled and isinstance(info, Location):
            self._computation(info, state="running", begin=self._clock())
        elif status is Status.ComputationClosed and isinstance(info, Location):
            self._computation(info, state="closed", end=self._clock(), lease=0)
        else:
            logger.info("the monitor does not understand a %s about a %s", status, type(info).__name__)

    def _computation(self, client: Location, **facts: object) -> None:
        """Note a computation. Messages name only its client: it is the client's last one that is not over."""
        if self.tables_known:
            return
        own = [one for one in self._model.computations.values() if one.owner == str(client) and one.state != "closed"]
        if not own:
            self._computations += 1
        key = own[-1].key if own else f"{client}#{self._computations}"
        self._model.computation(key, owner=str(client), **facts)
        self._current = key

    def _at(self, addr: str) -> list[str]:
        """Return the keys of the nodes that a message means: it has only the address."""
        return [node.key for node in self._model.nodes_at(addr)] or [addr]

    def _node(self, addr: str, state: str) -> None:
        if self.tables_known and self._model.nodes_at(addr):
            return
        for key in self._at(addr):
            if state in GONE:
                self._model.node_left(key, state)
            else:
                self._model.node(key, state=state)

    def _server(self, location: Location, state: str) -> None:
        if state in GONE:
            self._model.server_left(str(location), state)
        else:
            known = self._model.servers.get(str(location))
            node = self._at(location.addr)[0] if known is None else known.node
            if node not in self._model.nodes:
                self._model.node(node, state="ready")
            self._model.server(str(location), node, state=state)

    def _created(self, info: CoroInfo) -> None:
        coro = info.coro
        where = str(coro.location)
        if where not in self._model.servers:
            self._server(coro.location, "ready")
        coroutine = CoroutineRow(coro.id, coro.name, where, info.start_time, handle=coro)
        coroutine.args, coroutine.kwargs = tuple(info.args), dict(info.kwargs)
        coroutine.computation = self._current
        self._model.created(coroutine)

    def _finished(self, message: MonitorException) -> None:
        error = message.error
        text = "" if error is None else f"{type(error).__name__}: {shown(error)}"
        self._model.finished(message.coro.id, ending(error), self._clock(), text)

    def node_info(self, key: str, info: NodeInfo) -> None:
        """Note the figures that a node reported with its last heartbeat."""
        self._model.node(
            key,
            name=info.name,
            platform=info.platform,
            cpus=info.cpus,
            cpu=info.cpu_percent,
            memory=info.memory_total - info.memory_available,
            memory_total=info.memory_total,
            disk=info.disk_total - info.disk_available,
            disk_total=info.disk_total,
        )


def ending(error: BaseException | None) -> str:
    """Return the state of a coroutine with an outcome."""
    if error is None:
        return "done"
    if isinstance(error, CoroCancelled):
        return "cancelled"
    return "lost" if isinstance(error, ServerLost) else "failed"
