"""`discoro secret`: what the secret is called, and changing it while the cluster runs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from .._link import secret_file as files
from ._options import GroupedCommand, option

if TYPE_CHECKING:
    from .._link import SecretFile

_FILE = option("--secret_file", group="Options", help="The file. [default: the one in the config folder]")


@click.group()
def secret() -> None:
    """Show the cluster's secret by its fingerprint, or change it."""


@secret.command("show", cls=GroupedCommand)
@_FILE
@option(
    "--reveal",
    is_flag=True,
    envvar=None,
    group="Options",
    help="Print the secret itself, to give it to another machine.",
)
def show(secret_file: str | None, *, reveal: bool) -> None:
    """Print where the secret is and its fingerprint."""
    held = files.show(secret_file)
    if reveal:
        click.echo(held.current)
    else:
        _print(held)


@secret.command("rotate", cls=GroupedCommand)
@click.argument("step", type=click.Choice(["stage", "switch", "drop"]))
@click.argument("new", required=False)
@_FILE
def rotate(step: str, new: str | None, secret_file: str | None) -> None:
    """Change the secret without stopping the cluster, in three steps.

    First `stage` on one machine, and `stage` with the secret that it prints on all others (`-` reads it from standard
    input, where no other user sees it): now they accept both. Then `switch` on each: now they use the new one. At last
    `drop` on each: the old one opens nothing any more. Programs that run follow their file within seconds, and log
    what they use; end a step on all machines before the next. Connections stay, and so does what runs.

    Programs that have the secret from DISCORO_SECRET or --secret follow nothing: start them again with the new one
    after the `switch`, before the `drop`.
    """
    if new is not None and step != "stage":
        message = f"{step} takes no secret; it goes on with the one that was staged"
        raise click.UsageError(message)
    if step == "stage":
        held = files.stage(sys.stdin.readline().strip() if new == "-" else new, secret_file)
        if new is None:
            click.echo(f"on the other machines: discoro secret rotate stage {held.next}")
    elif step == "switch":
        held = files.switch(secret_file)
    else:
        held = files.drop(secret_file)
    _print(held)


def _print(held: SecretFile) -> None:
    names = ["in use"] + (["accepted, to be used after `switch`"] if held.next else ["accepted until `drop`"])
    click.echo(f"{held.path}")
    for fingerprint, name in zip(held.fingerprints(), names, strict=False):
        click.echo(f"  {fingerprint}  {name}")
