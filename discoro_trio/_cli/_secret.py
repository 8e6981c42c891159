"""`discoro secret`: show the secret's fingerprint, and change the secret while the cluster runs."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING

import click

from .._link import secret_file as files
from ._common import warn_of_secret
from ._options import GroupedCommand, option

if TYPE_CHECKING:
    from .._link import SecretFile

_FILE = option("--secret_file", group="Options", help="File with the secret. [default: the one in the config folder]")


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
    help="Print the secret itself, to copy it to another machine.",
)
@option(
    "--staged",
    is_flag=True,
    envvar=None,
    group="Options",
    help="With --reveal: print the staged secret instead of the one in use.",
)
def show(secret_file: str | None, *, reveal: bool, staged: bool) -> None:
    """Print the path and the fingerprint of the secret."""
    held = files.show(secret_file)
    if not reveal:
        _print(held)
    elif not staged:
        click.echo(held.current)
    elif held.next is None:
        message = f"{held.path} holds no staged secret; `discoro secret rotate stage` makes one"
        raise click.UsageError(message)
    else:
        click.echo(held.next)


@secret.command("rotate", cls=GroupedCommand)
@click.argument("step", type=click.Choice(["stage", "switch", "drop"]))
@click.argument("new", required=False)
@_FILE
@click.pass_context
def rotate(ctx: click.Context, step: str, new: str | None, secret_file: str | None) -> None:
    """Change the secret without stopping the cluster, in three steps.

    First `stage` on one machine, and `stage -` with the same secret on all others (`-` reads it from standard input,
    where no other user sees it): now they accept both. Then `switch` on each: now they use the new one. At last
    `drop` on each: now they refuse the old one. Running programs read a changed file within seconds, and log which
    secret they use. Finish a step on all machines before the next. Connections and running work are kept.

    Programs that have the secret from DISCORO_SECRET or --secret do not follow: restart them with the new one after
    the `switch`, before the `drop`.
    """
    if new is not None and step != "stage":
        message = f"{step} takes no secret; it continues with the staged one"
        raise click.UsageError(message)
    if step == "stage":
        if new is not None and new != "-":
            warn_of_secret(ctx, new)
        held = files.stage(_read_secret() if new == "-" else new, secret_file)
        if new is None:
            where = f" --secret_file {shlex.quote(secret_file)}" if secret_file is not None else ""
            command = f"discoro secret show --reveal --staged{where} | ssh HOST discoro secret rotate stage -"
            click.echo(f"for each other machine: {command}")
    elif step == "switch":
        held = files.switch(secret_file)
    else:
        held = files.drop(secret_file)
    _print(held)


def _read_secret() -> str:
    """Read a secret from standard input; a terminal does not show it."""
    if sys.stdin.isatty():
        typed: str = click.prompt("secret", hide_input=True, err=True)
        return typed
    return sys.stdin.readline().strip()


def _print(held: SecretFile) -> None:
    names = ["in use"] + (["accepted, to be used after `switch`"] if held.next else ["accepted until `drop`"])
    click.echo(f"{held.path}")
    for fingerprint, name in zip(held.fingerprints(), names, strict=False):
        click.echo(f"  {fingerprint}  {name}")
