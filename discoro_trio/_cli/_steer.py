"""`discoro drain` and `discoro cancel`: an operator's requests to a scheduler."""

from __future__ import annotations

from typing import Any

import click
import trio

from .._cluster import AdminAction, AdminRequest
from .._link import Done
from ._ask import ask_scheduler
from ._common import network_options, security_options
from ._options import GroupedCommand, option

_WAITS = "The scheduler's address:port, or a host. [default: the one on this network]"


@click.command(cls=GroupedCommand)
@click.argument("node")
@option("--scheduler", metavar="PLACE", envvar=None, group="Network", help=_WAITS)
@option(
    "--within",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    envvar=None,
    group="Service",
    help="Seconds after which coroutines there are cancelled and clean up, such as 60. [default: no limit]",
)
@network_options()
@security_options()
def drain(node: str, *, scheduler: str | None, within: float | None, **options: Any) -> None:
    """Free a node of work, and wait until it is free.

    NODE is its address, its name, or address:port. No new coroutine starts there. Running ones may finish; jobs with
    retries move to other nodes at once. The node stays suspended until it is resumed in the monitor.
    """
    question = AdminRequest(AdminAction.DRAIN, node, within)
    trio.run(lambda: ask_scheduler(scheduler, options, question, Done, timeout=None))
    click.echo(f"{node} is free")


@click.command(cls=GroupedCommand)
@click.argument("computation")
@option("--scheduler", metavar="PLACE", envvar=None, group="Network", help=_WAITS)
@network_options()
@security_options()
def cancel(computation: str, *, scheduler: str | None, **options: Any) -> None:
    """End a computation that runs or waits; its client gets ComputationClosed.

    COMPUTATION is its name, or its id, as `discoro status` shows it, or the first digits of the id.
    """
    trio.run(ask_scheduler, scheduler, options, AdminRequest(AdminAction.CLOSE, computation), Done)
    click.echo(f"{computation} is closed")
