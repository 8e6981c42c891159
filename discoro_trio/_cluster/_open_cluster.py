"""Opens a cluster on this machine; starts the node's fork server before it imports the other modules."""

from __future__ import annotations

import importlib
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Unpack

import trio

from .._arguments import flag, not_negative, optional_integer, several
from .._scopes import enter_loop
from .node._startup import check_dest_path, start_node

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Sequence

    from .._values import Location
    from ._open import EndpointKeywords
    from .scheduler._scheduler import Scheduler

_REST = f"{__package__}._open"


@asynccontextmanager
async def open_cluster(
    servers: int | None = None,
    *,
    nodes: Sequence[str | Location] = (),
    discover: bool = False,
    zombie_period: float | None = None,
    pulse_interval: float | None = None,
    dest_path: str | os.PathLike[str] | None = None,
    max_file_size: int | None = None,
    **endpoint_options: Unpack[EndpointKeywords],
) -> AsyncIterator[Scheduler]:
    """Run servers on this machine, and a private scheduler for them, while the block lasts.

    Args:
        servers: The number of servers; by default one per processor.
        nodes: Addresses of further nodes, as for `open_scheduler`.
        discover: Whether nodes on the network are discovered and used, too; not by default.
        zombie_period: Seconds that a server may be idle before it is closed; None for no limit.
        pulse_interval: Seconds between the heartbeats of nodes; `config.MinPulseInterval` by default.
        dest_path: The folder for the working folders; by default the system's for temporary files.
        max_file_size: The most bytes of a file that this program and its servers accept from others; None for no limit.
        endpoint_options: Those of `open_endpoint`. By default the secret exists in this program only, unless nodes of
            the network are used.

    Yields:
        The scheduler; computations in the block use it without being given it.

    Raises:
        ValueError: An option cannot work; the text names it.

    When the block is left, also by an exception or Ctrl-C, all servers have ended and their files are gone.
    """
    await enter_loop()
    servers = optional_integer("servers", servers)
    if servers is not None and servers < 1:
        message = f"servers must be 1 or more, not {servers!r}; leave it out for one per processor"
        raise ValueError(message)
    flag("discover", discover)
    max_file_size = optional_integer("max_file_size", max_file_size, least=0)
    several("nodes", nodes, "addresses")
    for option, seconds in (("zombie_period", zombie_period), ("pulse_interval", pulse_interval)):
        if seconds is not None:
            not_negative(option, seconds)
    folder = check_dest_path(dest_path)
    with start_node(folder) as started:
        if _REST not in sys.modules:
            # In a thread, as other tasks may have connections whose heartbeats must not pause for so long.
            await trio.to_thread.run_sync(importlib.import_module, _REST)
        from ._open import run_cluster  # noqa: PLC0415 - see above

        block = run_cluster(
            started,
            servers,
            nodes=nodes,
            discover=discover,
            zombie_period=zombie_period,
            pulse_interval=pulse_interval,
            dest_path=folder,
            max_file_size=max_file_size,
            endpoint_options=endpoint_options,
        )
        async with block as scheduler:
            yield scheduler
