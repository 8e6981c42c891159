"""`discoro status`: the nodes, servers and computations of a scheduler, for people and for programs."""

from __future__ import annotations

from typing import Any

import click
import trio

from .._cluster import messages, status_as_json, status_as_table, status_from_json
from ._ask import ask_scheduler
from ._common import network_options, security_options
from ._options import GroupedCommand, option


@click.command(cls=GroupedCommand)
@click.argument("scheduler", required=False)
@option("--json", "as_json", is_flag=True, envvar=None, group="Output", help="Print JSON.")
@network_options()
@security_options()
def status(scheduler: str | None, *, as_json: bool, **options: Any) -> None:
    """Print the nodes, servers, computations and queue of a scheduler.

    SCHEDULER is its address:port or a host. Without it, discovery finds the one on this network.
    """
    reply = trio.run(ask_scheduler, scheduler, options, messages.AskStatus(), messages.StatusIs)
    found = status_from_json(reply.tables)
    click.echo(status_as_json(found, indent=2) if as_json else status_as_table(found))
