"""Options from a TOML file, and options written to one.

This module owns the format of the file: one key for each option, spelt as on the command line. The command line and
the environment override the file.
"""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from collections.abc import Iterable

_ABOUT_ITSELF = ("config", "save_config")


def read_config(ctx: click.Context, _parameter: click.Parameter, path: str | None) -> str | None:
    """Use the options of a file as defaults.

    Raises:
        click.BadParameter: The file cannot be read, is not TOML, or has an unknown option.
    """
    if path is None or ctx.resilient_parsing:
        return path
    try:
        loaded = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}"
        raise click.BadParameter(message) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        message = f"{path} is not TOML: {error}"
        raise click.BadParameter(message) from error
    found = {key.replace("-", "_"): value for key, value in loaded.items()}
    known = {parameter.name for parameter in ctx.command.get_params(ctx) if isinstance(parameter, click.Option)}
    unknown = sorted(set(found) - {name for name in known if name} | set(_ABOUT_ITSELF) & set(found))
    if unknown:
        message = f"{path} has the unknown option {unknown[0]!r}"
        raise click.BadParameter(message)
    ctx.default_map = {**(ctx.default_map or {}), **found}
    return path


def save_config(ctx: click.Context, path: str) -> None:
    """Write the options that differ from their defaults to a file that only the user can read.

    Raises:
        click.BadParameter: The file cannot be written.
    """
    lines = [f"{name} = {_value(value)}" for name, value in _given(ctx)]
    text = "".join(f"{line}\n" for line in lines)
    if path == "-":
        click.echo(text, nl=False)
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            if os.path.isfile(path):  # noqa: PTH113 - of a pipe or a terminal nothing is kept
                os.fchmod(descriptor, 0o600)  # for an existing file, before the secret is written to it
                os.ftruncate(descriptor, 0)
            file.write(text)
    except OSError as error:
        message = f"{path} cannot be written: {error.strerror}"
        raise click.BadParameter(message, ctx, param_hint="'--save_config'") from error


def _given(ctx: click.Context) -> Iterable[tuple[str, Any]]:
    default = (ParameterSource.DEFAULT, None)
    for name, value in ctx.params.items():
        if name not in _ABOUT_ITSELF and value is not None and ctx.get_parameter_source(name) not in default:
            yield name, value


def _value(value: Any) -> str:
    """Write a value as TOML; strings as JSON does, which TOML reads."""
    if isinstance(value, tuple | list):
        return f"[{', '.join(_value(one) for one in value)}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    return json.dumps(str(value))
