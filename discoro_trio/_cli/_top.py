"""`discoro top`: a cluster in the terminal. What it shows is with the package `_monitor`."""

from __future__ import annotations

import sys

import click
import trio

from ._options import GroupedCommand, option


@click.command("top", cls=GroupedCommand)
@click.argument("url", default="http://127.0.0.1:8181/")
@option("--token", envvar="DISCORO_HTTP_TOKEN", group="Monitor", help="The monitor's token, where looking needs it.")
@option("--once", is_flag=True, envvar=None, group="Output", help="Print it once, as without a terminal.")
def top(url: str, *, token: str | None, once: bool) -> None:
    """Show a cluster in the terminal, live.

    URL is the address of a web monitor: that of `discoro monitor`, `discoro --http_port` or `open_http_server`.
    """
    from rich.console import Console  # noqa: PLC0415 - only this command needs it

    from .._monitor import Top  # noqa: PLC0415 - as above

    if not url.startswith(("http://", "https://")):
        url = f"http://{url}"
    address, _, secret = url.partition("#token=")
    on_terminal = sys.stdin.isatty() and sys.stdout.isatty() and not once
    viewer = Top(address, token or secret, Console())
    trio.run(viewer.run if on_terminal else viewer.once)
