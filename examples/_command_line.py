"""What the command lines of the examples share: their options, and a run that Ctrl-C ends quietly."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, NoReturn, TypeVarTuple

import trio

import discoro_trio as discoro

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    Cluster = AbstractAsyncContextManager[discoro.Scheduler]

Ts = TypeVarTuple("Ts")


def make_parser(documentation: str | None) -> argparse.ArgumentParser:
    """Make a parser that has `--servers`, `--nodes` and `--launch`.

    Args:
        documentation: The docstring of the example, for `--help`.
    """
    parser = argparse.ArgumentParser(description=documentation, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", type=int, metavar="N", help="server processes (default: one a processor)")
    parser.add_argument("--nodes", nargs="+", metavar="HOST", help="use these nodes, which run discoronode, instead")
    parser.add_argument(
        "--launch",
        metavar="WHERE",
        type=launcher,
        help="start nodes: ssh:host1,host2 or slurm or slurm:4 (nodes) or local:2; they use this interpreter's path",
    )
    return parser


def launcher(where: str) -> discoro.launch.Launcher:
    """Read `--launch`: a kind of launcher, and its hosts or its number of nodes."""
    kind, _, rest = where.partition(":")
    try:
        if kind == "ssh":
            return discoro.launch.Ssh(rest.split(","), python=sys.executable)
        if kind == "slurm":
            return discoro.launch.Slurm(int(rest or 1))
        if kind == "local":
            return discoro.launch.Local(int(rest or 1))
    except ValueError as error:
        message = f"{where!r} is none of ssh:host1,host2 or slurm:4 or local:2: {error}"
        raise argparse.ArgumentTypeError(message) from error
    message = f"{where!r} is none of ssh:host1,host2 or slurm:4 or local:2"
    raise argparse.ArgumentTypeError(message)


def cluster_of(options: argparse.Namespace) -> Cluster:
    """Make the block that `--servers`, `--nodes` or `--launch` asks for; the example enters it."""
    if options.launch:
        return discoro.open_scheduler(launch=options.launch)
    if options.nodes:
        return discoro.open_scheduler(nodes=options.nodes)
    return discoro.open_cluster(servers=options.servers)


def run(main: Callable[[*Ts], Awaitable[bool | None]], *arguments: *Ts) -> NoReturn:
    """Run an example, and end the program.

    The exit status is 0, or 1 if `main` returns False, or 130 after Ctrl-C.
    """
    status = 1
    try:
        status = int(trio.run(main, *arguments) is False)
    except* discoro.DiscoroError as errors:
        print(*(str(error) for error in errors.exceptions), sep="\n", file=sys.stderr)
    except* KeyboardInterrupt:
        print("\nStopped; nothing is left running.", file=sys.stderr)
        status = 130
    sys.exit(status)
