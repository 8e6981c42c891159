"""A launcher that starts nodes as work comes, and drains them when it is done."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from .._arguments import above_zero, integer, not_negative, optional_integer, wrong_type
from .._cluster import Launcher
from .._errors import DiscoroError
from .._scopes import open_background
from ._scaling import Facts, LaunchedFacts, Scale, Scaling, ScalingRules

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .._cluster import LaunchedNode, Scheduler, SchedulerAccess
    from .._cluster.scheduler._observed_state import ClusterLoad

logger = logging.getLogger(__name__)

_INTERVAL = 1.0
"""The most seconds between two decisions."""


class Adaptive(Launcher):
    """Starts nodes through another launcher as jobs wait, and drains them when they are not needed any more.

    The number of nodes is the work that waits, divided by `target`. The work is the number of waiting jobs times the
    time that a job takes, as measured. A node is drained before it ends: it gets no new coroutines, running ones
    finish, and jobs of a `map` with retries move to other nodes. A node where a coroutine has run for longer than
    `target` is kept.

    Args:
        launcher: Starts the nodes, such as `Ssh(hosts)`.
        minimum: The number of nodes to keep without work; the block begins with as many.
        maximum: The most nodes; by default the number that the launcher would start by itself.
        target: Seconds in which the nodes should finish the work that waits. Smaller values start more nodes.
        cool_down: Seconds for which fewer nodes must have been enough before some are drained.

    Raises:
        TypeError, ValueError: An argument cannot work.
    """

    def __init__(
        self,
        launcher: Launcher,
        *,
        minimum: int = 0,
        maximum: int | None = None,
        target: float = 30.0,
        cool_down: float = 60.0,
    ) -> None:
        expected = "a Launcher that starts nodes, such as discoro.launch.Ssh(['host1'])"
        if not isinstance(launcher, Launcher):
            wrong_type("launcher", launcher, expected)
        if launcher.adapts:
            wrong_type("launcher", launcher, expected)
        optional_integer("maximum", maximum, least=1)
        most = launcher.size if maximum is None else maximum
        if not most:
            message = f"maximum must be given, as {type(launcher).__name__} has no number of nodes of its own"
            raise ValueError(message)
        if integer("minimum", minimum, least=0) > most:
            message = f"minimum must be maximum={most} or less, not {minimum}"
            raise ValueError(message)
        self._launcher = launcher
        self._rules = ScalingRules(
            minimum=minimum,
            maximum=most,
            target=above_zero("target", target),
            cool_down=not_negative("cool_down", cool_down),
        )
        self._interval = min(_INTERVAL, max(self._rules.cool_down / 4, 0.1))
        self._draining: dict[str, str] = {}
        self._failed_names: set[str] = set()
        self._failed_before = 0
        self._explanation = ""

    @property
    def size(self) -> int:
        """The most nodes."""
        return self._rules.maximum

    @property
    def adapts(self) -> bool:
        """Whether the number of nodes follows the work. It always does."""
        return True

    @property
    def explanation(self) -> str:
        """The last decision with its reason."""
        return self._explanation

    @property
    def nodes(self) -> tuple[LaunchedNode, ...]:
        """The nodes of the current block, or of the last one."""
        return self._launcher.nodes

    async def until_changed(self) -> None:
        """Wait until the state of a node changes; cancelling the wait changes nothing."""
        await self._launcher.until_changed()

    async def take_back(self, name: str) -> None:
        """End one node, and wait until it has ended; another one may be started for it.

        Args:
            name: The node's name.

        Raises:
            ValueError: There is no node of this name.
        """
        await self._launcher.take_back(name)

    def start(self, count: int) -> tuple[str, ...]:
        """Start further nodes now; they are drained like all others.

        Args:
            count: How many.

        Returns:
            Their names.

        Raises:
            RuntimeError: The launcher is not open.
        """
        return self._launcher.start(count)

    @asynccontextmanager
    async def open(self, access: SchedulerAccess, *, count: int | None = None) -> AsyncIterator[None]:
        """Run the nodes while the block lasts; used by `open_scheduler`.

        Args:
            access: What the nodes need to join the scheduler.
            count: The number of nodes to begin with; None for `minimum`.

        Raises:
            DiscoroError: No node could join.
            RuntimeError: The launcher is in use, or the scheduler is in another process.
        """
        if access.scheduler is None:
            message = "Adaptive needs the scheduler in this process, to see the work that waits"
            raise RuntimeError(message)
        self._draining = {}
        async with (
            self._launcher.open(access, count=self._rules.minimum if count is None else count),
            open_background() as nursery,
        ):
            nursery.start_soon(self._run, access.scheduler, nursery, name="adapt the number of nodes")
            yield

    async def _run(self, scheduler: Scheduler, nursery: trio.Nursery) -> None:
        scaling = Scaling(self._rules)
        while True:
            facts = self._facts(scheduler.load())
            self._carry_out(scaling, facts, scaling.decide(trio.current_time(), facts), scheduler, nursery)
            await trio.sleep(self._interval)

    def _facts(self, load: ClusterLoad) -> Facts:
        nodes = []
        for node in self._launcher.nodes:
            if node.state == "ended" and node.location is None and not node.taken_back:
                self._failed_names.add(node.name)
            if node.state == "ended" or node.name in self._draining:
                continue
            at = load.nodes.get(node.location) if node.location is not None else None
            if at is None:  # it is starting, or its connection to the scheduler is lost
                nodes.append(LaunchedFacts(name=node.name, joined=False))
            else:
                nodes.append(
                    LaunchedFacts(
                        name=node.name,
                        joined=True,
                        servers=at.servers,
                        busy=at.busy,
                        used=at.used,
                        running=at.running,
                        oldest=at.oldest,
                    )
                )
        # Coroutines at nodes that are drained, or that something else has started, are not this launcher's work.
        elsewhere = sum(node.running for node in load.nodes.values()) - sum(node.running for node in nodes)
        return Facts(
            nodes=nodes,
            draining=len(self._draining),
            failed=self._failed_before + len(self._failed_names),
            jobs=max(load.jobs - elsewhere, 0),
            ended=load.ended,
            servers=load.servers,
        )

    def _carry_out(
        self, scaling: Scaling, facts: Facts, scale: Scale, scheduler: Scheduler, nursery: trio.Nursery
    ) -> None:
        self._explanation = scale.reason
        if scale.start:
            started = self._launcher.start(scale.start)
            self._failed_before += len(self._failed_names.intersection(started))  # names are used again
            self._failed_names.difference_update(started)
            if started:
                logger.info("starting %s: %s", ", ".join(started), scale.reason)
            if len(started) < scale.start:
                scaling.refused(len(started), facts)
        if scale.drain:
            logger.info("draining %s: %s", ", ".join(scale.drain), scale.reason)
        for node in self._launcher.nodes:
            if node.name in scale.drain:
                self._draining[node.name] = scale.reason
                nursery.start_soon(self._drain, scheduler, node, name=f"drain the node {node.name}")

    async def _drain(self, scheduler: Scheduler, node: LaunchedNode) -> None:
        try:
            if node.location is not None:
                try:
                    await scheduler.drain(node.location)
                except DiscoroError as error:
                    logger.info("the node %s could not be drained: %s", node.name, error)
            await self._launcher.take_back(node.name)
        finally:
            del self._draining[node.name]
