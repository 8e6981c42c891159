"""`discoro top`: a cluster in the terminal. The package `_monitor` owns its contents."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click
import trio

from .._link import EndpointOptions, resolve_peers
from ._ask import check_place, not_found
from ._common import endpoint_options, network_options, security_options
from ._options import GroupedCommand, option

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from .._monitor import MonitorSource, SchedulerSource


@click.command("top", cls=GroupedCommand)
@click.argument("source", required=False)
@option(
    "--token",
    envvar="DISCORO_HTTP_TOKEN",
    group="Monitor",
    help="The token of a web monitor: for actions, and for viewing if the monitor requires it.",
)
@option("--once", is_flag=True, envvar=None, group="Output", help="Print once and exit, as without a terminal.")
@network_options()
@security_options()
def top(source: str | None, *, token: str | None, once: bool, **options: Any) -> None:
    """Show a cluster in the terminal, live; the key ? shows all keys.

    SOURCE is a scheduler's address:port or host, or the address of a web monitor, http://… or https://….
    Without it, discovery finds the scheduler on this network.
    """
    from rich.console import Console  # noqa: PLC0415 - only this command needs it

    from .._monitor import Top  # noqa: PLC0415 - as above

    on_terminal = sys.stdin.isatty() and sys.stdout.isatty() and not once
    viewer = Top(_source(source, token, options), Console())
    trio.run(_run, viewer.run if on_terminal else viewer.once, source)


def _source(source: str | None, token: str | None, options: Mapping[str, Any]) -> MonitorSource | SchedulerSource:
    from .._monitor import MonitorSource, SchedulerSource  # noqa: PLC0415 - only this command needs them

    if source is not None and source.startswith(("http://", "https://")):
        address, _, secret = source.partition("#token=")
        return MonitorSource(address, token or secret)
    check_place(source, options)
    return SchedulerSource(source, EndpointOptions(**{"ip_addr": "", **endpoint_options(options)}))


async def _run(run: Callable[[], Awaitable[None]], source: str | None) -> None:
    web = source is not None and "://" in source
    with not_found(None if web else source):
        await resolve_peers("source", [] if web or source is None else [source])
        await run()
