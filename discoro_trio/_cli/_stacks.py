"""`discoro stacks`: the tasks and stacks of a whole cluster, and circular waits. `_tree` draws them."""

from __future__ import annotations

import sys
from typing import Any

import click
import msgspec
import trio

from .._cluster import AskStacks, StacksAre
from .._process import Wanted
from ._ask import ask_scheduler
from ._common import network_options, security_options
from ._options import GroupedCommand, option

_WANTED = "What is shown"
_WIDE = 10_000
"""The width without a terminal, in columns."""


@click.command(cls=GroupedCommand)
@click.argument("scheduler", required=False)
@option(
    "--server",
    default="",
    envvar=None,
    group=_WANTED,
    help="Only servers of this name or location; * and ? match as in file names.",
)
@option(
    "--coroutine",
    default="",
    envvar=None,
    group=_WANTED,
    help="Only coroutines of this name and their tasks; * and ? match as in file names.",
)
@option(
    "--limit",
    type=click.IntRange(0, 100_000),
    default=200,
    show_default=True,
    envvar=None,
    group=_WANTED,
    help="Largest number of tasks shown per process, such as 100.",
)
@option(
    "--full",
    is_flag=True,
    envvar=None,
    group=_WANTED,
    help="Also show tasks and frames of discoro and Trio themselves.",
)
@option("--json", "as_json", is_flag=True, envvar=None, group="Output", help="Print JSON.")
@network_options()
@security_options()
def stacks(scheduler: str | None, *, as_json: bool, **options: Any) -> None:
    """Print the nurseries and tasks of all processes of a cluster: where each task is and what it waits for.

    SCHEDULER is its address:port or a host. Without it, discovery finds the one on this network. Work goes on
    meanwhile. If code blocks a server's thread, the server is shown with the place of that code.
    """
    from rich.console import Console  # noqa: PLC0415 - only this command needs it

    from ._tree import tree_of  # noqa: PLC0415 - as above

    wanted = Wanted(options["coroutine"], options["server"], options["full"], options["limit"])
    reply = trio.run(ask_scheduler, scheduler, options, AskStacks(wanted), StacksAre)
    if as_json:
        plain = [_plain(msgspec.structs.asdict(one)) for one in reply.processes]
        click.echo(msgspec.json.format(msgspec.json.encode(plain)).decode())
    else:
        Console(width=None if sys.stdout.isatty() else _WIDE).print(tree_of(reply.processes))


def _plain(value: Any) -> Any:
    """Return structures with the names of their fields, and ids as digits."""
    if isinstance(value, msgspec.Struct):
        return _plain(msgspec.structs.asdict(value))
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return value.hex() if isinstance(value, bytes) else value
