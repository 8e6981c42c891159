"""Runs a program, and reports a wrong option in one line.

This module owns the exit status: 0 after an orderly end, 1 after a failure, 2 for an option that cannot work.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from .._errors import DiscoroError
from .._link import OptionError

if TYPE_CHECKING:
    from collections.abc import Sequence


def run(command: click.Command, name: str, arguments: Sequence[str] | None) -> None:
    """Run a program, and exit with its status.

    Args:
        command: The program.
        name: Its name, for messages.
        arguments: The command line after the name; None for this process's own.
    """
    try:
        status = command.main(None if arguments is None else list(arguments), prog_name=name, standalone_mode=False)
    except click.UsageError as error:
        _fail(name, _one_line(error.format_message()), 2)
    except OptionError as error:
        option = "peer" if (name, error.option) == ("discoronode", "node") else error.option
        _fail(name, f"--{option}: {_one_line(error.problem)}", 2)
    except click.ClickException as error:
        _fail(name, _one_line(error.format_message()), error.exit_code)
    except DiscoroError as error:
        _fail(name, _one_line(str(error)), 1)
    except (KeyboardInterrupt, click.Abort):
        sys.exit(130)
    else:
        sys.exit(status if isinstance(status, int) else 0)


def _fail(name: str, message: str, status: int) -> None:
    click.echo(f"{name}: {message}", err=True)
    sys.exit(status)


def _one_line(text: str) -> str:
    return " ".join(text.split())
