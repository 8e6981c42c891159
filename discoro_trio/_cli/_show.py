"""The text at a program's start: its name, its address and its resources."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import click

from .._link import fingerprint_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .._cluster import Node, Scheduler
    from .._link import Endpoint

logger = logging.getLogger(__name__)


def show_node(node: Node, options: Mapping[str, Any], *, on_terminal: bool) -> None:
    """Print the node's name, address and resources."""
    if not on_terminal:
        logger.info("the node %s listens at %s, with %d servers", node.name, node.location, node.size)
        return
    rows = [*_place(node.endpoint, options), ("servers", f"{node.size}, working in {node.folder}")]
    _show(f"discoronode {node.name}", rows)


def show_scheduler(scheduler: Scheduler, endpoint: Endpoint, options: Mapping[str, Any], *, on_terminal: bool) -> None:
    """Print the scheduler's name, address and nodes."""
    name = endpoint.identity.name
    if not on_terminal:
        logger.info("the scheduler %s listens at %s", name, scheduler.location)
        return
    nodes = ", ".join(options["node"]) or "those that are found"
    rows = [*_place(endpoint, options), ("nodes", nodes), ("clients", f"schedule({str(scheduler.location)!r})")]
    _show(f"discoro {name}", rows)


def _place(endpoint: Endpoint, options: Mapping[str, Any]) -> list[tuple[str, str]]:
    found = ", not to be found by broadcast" if options["no_discover"] else f", found at UDP port {options['udp_port']}"
    return [
        ("listens at", f"{endpoint.location}{found}"),
        ("secret", f"fingerprint {fingerprint_of(endpoint)}"),
    ]


def _show(title: str, rows: Iterable[tuple[str, str]]) -> None:
    click.secho(title, bold=True)
    for name, text in rows:
        click.echo(f"  {name:<12}{text}")
    click.echo("  Ctrl-C ends it")
