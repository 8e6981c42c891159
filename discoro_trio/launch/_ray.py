"""Nodes on the machines of a running Ray cluster."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from .._arguments import integer, number, optional_integer, text
from .._errors import DiscoroError
from ._keeper import NodeKeeper
from ._nodes import NodeLauncher
from ._order import LONGEST_END, Order

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from concurrent.futures import Future

    from .._cluster import SchedulerAccess
    from ._nodes import NodeRun

_FETCH = 1.0
"""Seconds for which an actor waits for lines of its node at once."""
_LONGEST_END = LONGEST_END + 6
"""Seconds after which a node that was to end is given up."""
_CPU, _GPU = "CPU", "GPU"


class Ray(NodeLauncher):
    """Runs nodes as actors on the machines of a running Ray cluster, one on each machine.

    A node takes the processors of its machine until it ends, and waits in Ray's queue while they are in use. It ends
    with the block, with its machine, and when this program is killed. The machines need discoro_trio, and the same
    version of Python and Ray as this program. They must be able to connect to this program's scheduler. The cluster
    secret travels over the connections of Ray: protect them as you protect the secret.

    Args:
        address: The cluster, as for `ray.init`: "auto" for the one that runs on this machine, or "host:6379". A program
            that has called `ray.init` already uses its own cluster.
        nodes: The number of nodes; by default one for each machine that is there when the block begins.
        cpus: Servers of each node, and processors that it takes; 0 for all processors of its machine.
        resources: Further resources of Ray that each node takes, such as {"GPU": 1}; machines without them get no node.
        timeout: Seconds that a node may take to join the scheduler, from the start of its actor.

    Raises:
        TypeError, ValueError: An argument cannot work.
    """

    def __init__(
        self,
        address: str = "auto",
        *,
        nodes: int | None = None,
        cpus: int = 0,
        resources: Mapping[str, float] | None = None,
        timeout: float = 60.0,
    ) -> None:
        self._address = text("address", address)
        self._given = optional_integer("nodes", nodes, least=1)
        self._resources = {name: number("resources", value) for name, value in (resources or {}).items()}
        super().__init__(self._given or 0, cpus=integer("cpus", cpus, least=0), timeout=timeout)
        self._machines: dict[str, dict[str, Any]] = {}

    @property
    def size(self) -> int:
        """The number of nodes that are started by default; before the block begins, 0 if it is not given."""
        return len(self._machines) if self._given is None else self._given

    def _names(self) -> Iterator[str]:
        self._machines = self._look()
        yield from self._machines

    def _look(self) -> dict[str, dict[str, Any]]:
        """Return Ray's facts of the machines that have the resources, by the name of the node there."""
        import ray  # noqa: PLC0415 - only this launcher needs it

        needed = {**self._resources, _CPU: max(self._cpus, 1)}
        return {
            f"ray-{machine['NodeManagerAddress']}-{machine['NodeID'][:8]}": machine
            for machine in ray.nodes()
            if machine["Alive"] and all(machine["Resources"].get(name, 0) >= amount for name, amount in needed.items())
        }

    @asynccontextmanager
    async def open(self, access: SchedulerAccess, *, count: int | None = None) -> AsyncIterator[None]:
        """Run the nodes while the block lasts; used by `open_scheduler`.

        Args:
            access: What the nodes need to join the scheduler.
            count: The number of nodes to begin with; None for `size`.

        Raises:
            DiscoroError: Ray is not installed, the cluster cannot be reached or has no suitable machine, or no node
                could join.
            RuntimeError: The launcher is in use.
        """
        try:
            import ray  # noqa: PLC0415 - only this launcher needs it
        except ImportError as error:
            message = "launch.Ray needs the package ray; install it with: pip install 'discoro_trio[ray]'"
            raise DiscoroError(message) from error
        own = not ray.is_initialized()
        if own:
            connect = partial(ray.init, address=self._address, log_to_driver=False, configure_logging=False)
            try:
                await trio.to_thread.run_sync(connect)
            except (ConnectionError, RuntimeError, ValueError) as error:
                message = f"the Ray cluster at {self._address} cannot be reached: {error}"
                raise DiscoroError(message) from error
        try:
            self._machines = self._look()
            if not self._machines:
                message = f"the Ray cluster at {self._address} has no machine with {self._cpus or 1} processors"
                raise DiscoroError(f"{message} and {self._resources}" if self._resources else message)
            async with super().open(access, count=count):
                yield
        finally:
            if own:
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(ray.shutdown)

    async def _run_node(self, node: NodeRun, access: SchedulerAccess) -> str:
        import ray  # noqa: PLC0415 - only this launcher needs it
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: PLC0415 - as above

        machine = self._machines[node.name]
        cpus = self._cpus or int(machine["Resources"][_CPU])
        order = Order(access.secret, access.location.addr, access.location.port, node.name, cpus)
        others = {name: amount for name, amount in self._resources.items() if name not in {_CPU, _GPU}}
        options = {
            "num_cpus": cpus,
            "num_gpus": self._resources.get(_GPU, 0),
            "resources": others,
            "max_concurrency": 2,  # it is stopped while it waits for lines
            "max_restarts": 0,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(machine["NodeID"], soft=False),
        }
        self._waits(node, f"it waits for {cpus} free processors of the machine {machine['NodeManagerAddress']}")
        keeper = ray.remote(NodeKeeper).options(**options).remote(order.encode())
        try:
            return await self._follow(node, keeper, ray.exceptions.RayError)
        finally:
            ray.kill(keeper)

    async def _follow(self, node: NodeRun, keeper: Any, failure: type[Exception]) -> str:
        """Log what a node writes until it has ended; return how it has. `failure` is the base of Ray's errors."""
        how = "it was cancelled"
        async with trio.open_nursery() as nursery:

            async def stop() -> None:
                await node.stop.wait()
                if node.begun.is_set():
                    with trio.move_on_after(_LONGEST_END), suppress(failure):
                        await _result(keeper.stop.remote())
                        await trio.sleep(_LONGEST_END)  # until `follow` has the last lines
                nursery.cancel_scope.cancel()

            nursery.start_soon(stop)
            status = None
            while status is None:
                try:
                    lines, status = await _result(keeper.fetch.remote(_FETCH))
                except failure as error:
                    how = f"Ray could not run it: {' '.join(str(error).split())}"
                    break
                self._fetched(node, lines)
            else:
                how = f"its process ended with status {status}"
            nursery.cancel_scope.cancel()
        return how


async def _result(reference: Any) -> Any:
    """Wait for the result of an actor's method; cancelling the wait leaves the method running."""
    token, done = trio.lowlevel.current_trio_token(), trio.Event()

    def note(_: Future[Any]) -> None:  # in a thread of Ray
        with suppress(trio.RunFinishedError):
            token.run_sync_soon(done.set)

    future: Future[Any] = reference.future()
    future.add_done_callback(note)
    await done.wait()
    return future.result()
