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
    """Make a parser that has `--servers` and `--nodes`.

    Args:
        documentation: The docstring of the example, for `--help`.
    """
    parser = argparse.ArgumentParser(description=documentation, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", type=int, metavar="N", help="server processes (default: one a processor)")
    parser.add_argument("--nodes", nargs="+", metavar="HOST", help="use these nodes, which run discoronode, instead")
    return parser


def cluster_of(options: argparse.Namespace) -> Cluster:
    """Make the block that `--servers` or `--nodes` asks for; the example enters it."""
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
    except* KeyboardInterrupt:
        print("\nStopped; nothing is left running.", file=sys.stderr)
        status = 130
    sys.exit(status)
