"""The interface between a scheduler and what starts nodes for it; the launchers themselves are in `launch`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Literal

import attrs

from .._arguments import wrong_type

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from .._link import Endpoint
    from .._values import Location
    from .scheduler._scheduler import Scheduler


@attrs.frozen(kw_only=True)
class SchedulerAccess:
    """What a node needs to join a scheduler."""

    location: Location
    """Where the scheduler listens."""
    secret: str = attrs.field(repr=False)
    """The key of the cluster, 64 hexadecimal digits. Never put it on a command line, which other users can read."""
    scheduler: Scheduler | None = attrs.field(default=None, repr=False)
    """The scheduler itself; None if the nodes are started for one in another process."""


@attrs.frozen(kw_only=True)
class LaunchedNode:
    """The state of one node that a launcher was given to start."""

    name: str
    """Its name, unique in the launcher."""
    state: Literal["starting", "running", "ended"]
    """"running" since it has joined the scheduler."""
    reason: str = ""
    """Why it has ended, or what it waits for while it is starting."""
    location: Location | None = None
    """Where it listens; None until it has joined the scheduler."""
    taken_back: bool = False
    """Whether its end was requested."""


class Launcher(ABC):
    """Starts nodes for a scheduler, and ends them.

    Pass one as `launch` to `open_scheduler`, `connect` or `Executor`.
    """

    @property
    def size(self) -> int:
        """The number of nodes that `open` starts by default."""
        return 0

    @property
    @abstractmethod
    def nodes(self) -> tuple[LaunchedNode, ...]:
        """The nodes of the current block, or of the last one."""

    @abstractmethod
    async def until_changed(self) -> None:
        """Wait until the state of a node changes; cancelling the wait changes nothing."""

    @abstractmethod
    async def take_back(self, name: str) -> None:
        """End one node, and wait until it has ended.

        Coroutines that run there are cancelled, have their grace period, and end in ServerLost. If the wait is
        cancelled, the node ends all the same.

        Args:
            name: The node's name.

        Raises:
            ValueError: There is no node of this name.
        """

    def start(self, count: int) -> tuple[str, ...]:
        """Start further nodes in the current block, without waiting for them; `Adaptive` calls it.

        Args:
            count: How many.

        Returns:
            Their names; fewer than `count` if the launcher has no place for as many.

        Raises:
            RuntimeError: The launcher is not open, or cannot start further nodes.
        """
        message = f"{type(self).__name__} cannot start further nodes, to which {count} were to be added"
        raise RuntimeError(message)

    @property
    def adapts(self) -> bool:
        """Whether the number of nodes follows the work, so that clients report it to the scheduler."""
        return False

    @property
    def explanation(self) -> str:
        """Why the launcher has as many nodes as it has; empty if the number is fixed."""
        return ""

    @abstractmethod
    def open(self, access: SchedulerAccess, *, count: int | None = None) -> AbstractAsyncContextManager[None]:
        """Run the nodes while the block lasts.

        The block begins when the first node has joined, or at once if no node is to be started. When it is left, also
        by an exception or Ctrl-C, all nodes have ended.

        Args:
            access: What the nodes need to join the scheduler.
            count: The number of nodes to begin with; None for `size`.

        Raises:
            DiscoroError: No node could join.
        """


def check_launcher(launch: Launcher | None) -> Launcher | None:
    """Return a launcher, or None.

    Raises:
        TypeError: It is something else.
    """
    if launch is not None and not isinstance(launch, Launcher):
        wrong_type("launch", launch, "a Launcher, such as discoro.launch.Ssh(['host1', 'host2'])")
    return launch


def access_to(endpoint: Endpoint, scheduler: Scheduler) -> SchedulerAccess:
    """Give what nodes need to join the scheduler at an endpoint."""
    secret = endpoint.credentials[b""].key.hex()
    return SchedulerAccess(location=endpoint.location, secret=secret, scheduler=scheduler)
