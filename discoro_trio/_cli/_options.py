"""How the programs read their options: names, groups, types, and the same options from the environment and a file.

This module owns how options are written. The program that has an option applies it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from .._link import OptionError, parse_ports

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
_SIZE = re.compile(r"(\d+)\s*([KMGT]?)(?:I?B)?", re.IGNORECASE)
_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")


class GroupedOption(click.Option):
    """An option that is accepted with `_` and with `-`, is also read from DISCORO_…, and is shown in its group."""

    def __init__(
        self, declarations: Sequence[str], *, group: str = "Other", envvar: str | None = "", **kwargs: Any
    ) -> None:
        spelt = [name for declared in declarations for name in _spellings(declared)]
        long = next(name for name in declarations if name.startswith("--"))
        self.shown = [name for name in declarations if name.startswith("-")]
        self.group = group
        variable = f"DISCORO_{long.strip('-').partition('/')[0].replace('-', '_').upper()}" if envvar == "" else envvar
        super().__init__(spelt, envvar=variable, **kwargs)

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Show one spelling."""
        record = super().get_help_record(ctx)
        if record is None:
            return None
        metavar = self.make_metavar(ctx) if not self.is_flag else ""
        return ", ".join(self.shown) + (f" {metavar}" if metavar else ""), record[1]


def _spellings(declared: str) -> list[str]:
    if not declared.startswith("--") or "_" not in declared:
        return [declared]
    return [declared, declared.replace("_", "-")]


class GroupedCommand(click.Command):
    """A command whose help shows its options in groups."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, group by group, in the order of their definition."""
        write_options(self, ctx, formatter)


class GroupedGroup(click.Group):
    """A group of commands, with options of its own in groups."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, group by group, and then the commands."""
        write_options(self, ctx, formatter)
        self.format_commands(ctx, formatter)


def write_options(command: click.Command, ctx: click.Context, formatter: click.HelpFormatter) -> None:
    """Write the options of a command, group by group."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.get_params(ctx):
        record = parameter.get_help_record(ctx)
        if record is not None:
            groups.setdefault(getattr(parameter, "group", "Other"), []).append(record)
    for name, records in groups.items():
        with formatter.section(name):
            formatter.write_dl(records)


class Size(click.ParamType[int]):
    """A number of bytes, such as 500K, 100M or 2G."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse the value; the error names the expected form."""
        if isinstance(value, int):
            return value
        match = _SIZE.fullmatch(str(value).strip())
        if match is None:
            self.fail(
                f"{value!r} is no size; expected a number of bytes, or one with K, M or G, such as 100M", param, ctx
            )
        return int(match[1]) * _UNITS[match[2].upper()]


class Ports(click.ParamType[str]):
    """TCP ports and ranges, such as 51351-51360,52000."""

    name = "PORTS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check them; fail with what is expected."""
        text = ",".join(str(part) for part in value) if isinstance(value, list | tuple) else str(value)
        try:
            parse_ports(text)
        except OptionError as error:
            self.fail(error.problem, param, ctx)
        return text


class NameList(click.ParamType[list[str]]):
    """Names, such as job1,job2; a list in a file."""

    name = "A,B,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:  # noqa: ARG002
        """Split the names."""
        given = [str(part) for part in value] if isinstance(value, list | tuple) else str(value).split(",")
        return [name.strip() for name in given if name.strip()]


class TimeOfDay(click.ParamType[str]):
    """A time of the day, such as 08:30."""

    name = "HH:MM"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check it; fail with what is expected."""
        if _TIME.fullmatch(str(value)) is None:
            self.fail(f"{value!r} is no time of the day; expected hours and minutes, such as 08:30", param, ctx)
        return str(value)


SECONDS = click.FloatRange(min=0, min_open=True)
SECONDS_OR_NONE = click.FloatRange(min=0)
PORT = click.IntRange(1, 65535)


def option(*declarations: str, group: str, **kwargs: Any) -> Callable[[Any], Any]:
    """Declare an option in a group."""
    return click.option(*declarations, cls=GroupedOption, group=group, **kwargs)


def several(*decorators: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Join decorators; the option of the first is shown first."""

    def decorate(function: Any) -> Any:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate
