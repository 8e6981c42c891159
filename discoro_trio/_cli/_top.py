"""`discoro top`: a cluster in the terminal. The package `_monitor` owns its contents."""

from __future__ import annotations

import sys

import click
import trio

from ._options import GroupedCommand, option


@click.command("top", cls=GroupedCommand)
@click.argument("url", default="http://127.0.0.1:8181/")
@option(
    "--token",
    envvar="DISCORO_HTTP_TOKEN",
    group="Monitor",
    help="The monitor's token, if the monitor requires it for viewing.",
)
@option("--once", is_flag=True, envvar=None, group="Output", help="Print once and exit, as without a terminal.")
def top(url: str, *, token: str | None, once: bool) -> None:
    """Show a cluster in the terminal, live.

    URL is the address of a web monitor, which `discoro monitor`, `discoro --http_port` or `open_http_server` serves.
    """
    from rich.console import Console  # noqa: PLC0415 - only this command needs it

    from .._monitor import Top  # noqa: PLC0415 - as above

    if not url.startswith(("http://", "https://")):
        url = f"http://{url}"
    address, _, secret = url.partition("#token=")
    on_terminal = sys.stdin.isatty() and sys.stdout.isatty() and not once
    viewer = Top(address, token or secret, Console())
    trio.run(viewer.run if on_terminal else viewer.once)
