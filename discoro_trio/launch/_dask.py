"""Nodes on the workers of a running Dask cluster."""

from __future__ import annotations

import logging
import secrets
import threading
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from .._arguments import integer, number, optional_integer, wrong_type
from .._errors import DiscoroError
from .._scopes import open_background
from ._keeper import NodeKeeper
from ._nodes import NodeLauncher
from ._order import LONGEST_END, Order

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

    from .._cluster import SchedulerAccess
    from ._nodes import NodeRun

logger = logging.getLogger(__name__)

_FETCH = 1.0
"""Seconds for which a worker waits for lines of its node at once."""
_LOOK = 2.0
"""Seconds between two looks for workers that have left the cluster."""
_LONGEST_END = LONGEST_END + 6
"""Seconds after which a node that was to end is given up."""


class Dask(NodeLauncher):
    """Runs nodes as tasks on the workers of a running Dask cluster, one on each worker.

    A node takes one of its worker's threads until it ends, and waits in Dask's queue while all are in use. It ends with
    the block, with its worker, and when this program is killed. The workers need discoro_trio, and the same minor
    version of Python as this program. They must be able to connect to this program's scheduler. The cluster secret
    travels over the connections of Dask: protect them as you protect the secret.

    Args:
        client: A blocking `distributed.Client`.
        nodes: The number of nodes; by default one for each worker that is there when the block begins.
        cpus: Servers of each node; 0 for as many as its worker has threads.
        resources: Dask's resources that each node takes, such as {"GPU": 1}; workers without them get no node.
        timeout: Seconds that a node may take to join the scheduler, from the start of its task.

    Raises:
        TypeError, ValueError: An argument cannot work.
    """

    def __init__(
        self,
        client: Any,
        *,
        nodes: int | None = None,
        cpus: int = 0,
        resources: Mapping[str, float] | None = None,
        timeout: float = 60.0,
    ) -> None:
        if not callable(getattr(client, "scheduler_info", None)):
            wrong_type("client", client, "a distributed.Client, of the package `distributed`")
        if client.asynchronous:
            message = "client must be a blocking distributed.Client, not one with asynchronous=True"
            raise ValueError(message)
        self._client = client
        self._given = optional_integer("nodes", nodes, least=1)
        self._resources = {name: number("resources", value) for name, value in (resources or {}).items()}
        super().__init__(0, cpus=integer("cpus", cpus, least=0), timeout=timeout)

    @property
    def size(self) -> int:
        """The number of nodes that are started by default."""
        return len(self._workers()) if self._given is None else self._given

    def _workers(self) -> dict[str, dict[str, Any]]:
        """Return Dask's facts of the workers that have the resources, by the name of the node there."""
        workers: dict[str, dict[str, Any]] = self._client.scheduler_info(n_workers=-1)["workers"]
        return {
            f"dask-{address.rpartition('//')[2]}": {**worker, "address": address}
            for address, worker in workers.items()
            if all(worker["resources"].get(name, 0) >= amount for name, amount in self._resources.items())
        }

    def _names(self) -> Iterator[str]:
        yield from self._workers()

    @asynccontextmanager
    async def open(self, access: SchedulerAccess, *, count: int | None = None) -> AsyncIterator[None]:
        """Run the nodes while the block lasts; used by `open_scheduler`.

        Args:
            access: What the nodes need to join the scheduler.
            count: The number of nodes to begin with; None for `size`.

        Raises:
            DiscoroError: The Dask cluster has no suitable worker, or no node could join.
            RuntimeError: The launcher is in use.
        """
        if not self._workers():
            needed = f" with the resources {self._resources}" if self._resources else ""
            message = f"the Dask cluster of {self._client!r} has no worker{needed}"
            raise DiscoroError(message)
        self._tasks: dict[str, _Task] = {}
        async with open_background() as nursery:
            nursery.start_soon(self._watch, name="watch for the end of Dask workers")
            async with super().open(access, count=count):
                yield

    async def _watch(self) -> None:
        """Note the nodes whose worker has gone: Dask would wait for a worker with the same address."""
        while True:
            await trio.sleep(_LOOK)
            try:
                known = set(await trio.to_thread.run_sync(self._workers))
            except OSError as error:
                logger.debug("the Dask cluster does not answer: %s", error)
                if self._client.status != "closed":
                    continue  # the client is connecting again
                known = set()
            for name in self._tasks.keys() - known:
                self._tasks[name].finish(f"its worker {self._tasks[name].address} has left the Dask cluster")

    async def _run_node(self, node: NodeRun, access: SchedulerAccess) -> str:
        worker = self._workers().get(node.name)
        if worker is None:
            return "its worker has left the Dask cluster"
        order = Order(
            access.secret, access.location.addr, access.location.port, node.name, self._cpus or worker["nthreads"]
        )
        key = f"discoro-node-{secrets.token_hex(8)}"
        task = self._tasks[node.name] = _Task(worker["address"])
        in_trio = partial(_call_soon, trio.lowlevel.current_trio_token())

        def heard(event: tuple[float, dict[str, Any]]) -> None:  # in the client's thread
            in_trio(self._fetched, node, event[1]["lines"])

        self._client.subscribe_topic(key, heard)
        self._waits(node, f"it waits for a free thread of the Dask worker {task.address}")
        try:
            future = self._client.submit(
                run_node,
                order.encode(),
                key,
                key=key,
                workers=[task.address],
                allow_other_workers=False,
                resources=self._resources or None,
                pure=False,
                retries=0,
            )
            future.add_done_callback(lambda future: in_trio(task.finish, _how(future)))
            await self._until_ended_or_stopped(node, task, future, key)
        finally:
            with suppress(Exception):  # the client is closed
                self._client.unsubscribe_topic(key)
        return task.how or "it has ended"

    async def _until_ended_or_stopped(self, node: NodeRun, task: _Task, future: Any, key: str) -> None:
        async with trio.open_nursery() as nursery:

            async def stop() -> None:
                await node.stop.wait()
                # The task itself cannot be cancelled while it runs; a function outside of Dask's queue ends the node.
                with suppress(Exception):  # the worker or the cluster is gone
                    await trio.to_thread.run_sync(
                        partial(self._client.run, stop_node, key, workers=[task.address], on_error="ignore")
                    )
                if not node.begun.is_set():
                    future.cancel()
                    task.finish("it was cancelled")
                with trio.move_on_after(_LONGEST_END):
                    await task.ended.wait()
                task.finish("it does not answer")

            nursery.start_soon(stop)
            await task.ended.wait()
            nursery.cancel_scope.cancel()


class _Task:
    """The Dask task of one node."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.how = ""
        self.ended = trio.Event()

    def finish(self, how: str) -> None:
        """Note that it has ended; the first reason is kept."""
        if not self.ended.is_set():
            self.how = how
            self.ended.set()


def _how(future: Any) -> str:
    if future.status == "error":
        return f"Dask could not run it: {future.exception(timeout=_FETCH)!r}"
    if future.status == "finished":
        return f"its process ended with status {future.result(timeout=_FETCH)}"
    return f"its Dask task is {future.status}"


def _call_soon(token: trio.lowlevel.TrioToken, call: Callable[..., object], *args: object) -> None:
    with suppress(trio.RunFinishedError):
        token.run_sync_soon(call, *args)


# --- at the worker

_keepers: dict[str, NodeKeeper] = {}
_stopped: set[str] = set()


def run_node(order: bytes, key: str) -> int | None:
    """Run a node in a thread of a Dask worker until it has ended; return its exit status."""
    from distributed import get_worker  # noqa: PLC0415 - only workers need it

    worker = get_worker()
    if key in _stopped:
        return None
    keeper = _keepers[key] = NodeKeeper(order)
    try:
        lines: list[tuple[int, str]] = []
        status = None
        while status is None:
            worker.log_event(key, {"lines": lines})
            lines, status = keeper.fetch(_FETCH)
        worker.log_event(key, {"lines": lines})
        return status
    finally:
        del _keepers[key]


def stop_node(key: str) -> None:
    """End the node of a task; called in the event loop of its worker, so it must not wait."""
    _stopped.add(key)
    keeper = _keepers.get(key)
    if keeper is not None:
        threading.Thread(target=keeper.stop, daemon=True).start()
