"""`discoro status`: the nodes, servers and computations of a scheduler, for people and for programs."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import click
import trio

from .._config import config
from .._errors import PeerDisconnected, SchedulerNotFound
from .._values import Location
from ..cluster import find_scheduler, messages, status_as_json, status_as_table, status_from_json
from ..link import EndpointOptions, open_with
from ._common import endpoint_options, network_options, security_options
from ._options import GroupedCommand, option


@click.command(cls=GroupedCommand)
@click.argument("scheduler", required=False)
@option("--json", "as_json", is_flag=True, envvar=None, group="Output", help="Print JSON.")
@network_options()
@security_options()
def status(scheduler: str | None, *, as_json: bool, **options: Any) -> None:
    """Print what a scheduler has: nodes, servers, computations and the queue.

    SCHEDULER is where it is: address:port, or a host; without it, the one on this network.
    """

    async def ask() -> str:
        async with open_with(EndpointOptions(**{"ip_addr": "", **endpoint_options(options)})) as endpoint:
            place = None
            with suppress(ValueError):  # it is a host, which is asked
                place = Location.parse(scheduler) if scheduler else None
            try:
                if place is not None:
                    link = await endpoint.link_at(place)
                else:
                    link = await find_scheduler(endpoint, config.MsgTimeout, host=scheduler)
            except PeerDisconnected as error:
                raise SchedulerNotFound(str(error)) from error
            reply = await link.request(messages.AskStatus())
            assert isinstance(reply, messages.StatusIs)  # noqa: S101 - the only reply there is
            found = status_from_json(reply.tables)
            return status_as_json(found, indent=2) if as_json else status_as_table(found)

    click.echo(trio.run(ask))
