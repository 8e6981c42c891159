"""The options that `discoronode` and `discoro` share, and the steps before either program opens anything.

This module owns their names and groups. `_link` applies the endpoint's options.
"""

from __future__ import annotations

import importlib.resources
import os
import sys
import sysconfig
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from click.shell_completion import get_completion_class

from .._config import config
from .._link import UDP_PORT, secret_file
from ._config_file import read_config, save_config
from ._logs import set_up_logs
from ._options import PORT, SECONDS, Ports, Size, option, several

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_NETWORK, _SECURITY, _FILES, _TIMES = "Network", "Security", "Files", "Times"
_OUTPUT, _CONFIGURATION = "Output", "Configuration"

ENDPOINT = (
    "ip_addr",
    "ext_ip_addr",
    "tcp_ports",
    "udp_port",
    "name",
    "secret",
    "secret_file",
    "certfile",
    "keyfile",
    "cafile",
)
"""The options that `open_endpoint` has too."""


def network_options() -> Callable[[Any], Any]:
    """Declare the options for addresses, ports and discovery."""
    return several(
        option(
            "-i",
            "--ip_addr",
            group=_NETWORK,
            help="Address or host name of this machine to listen on, such as 10.0.0.5. [default: all]",
        ),
        option("--ext_ip_addr", group=_NETWORK, help="Address that peers connect to if this machine is behind NAT."),
        option(
            "--tcp_ports",
            type=Ports(),
            group=_NETWORK,
            help="TCP ports to try in order, such as 51351-51360,52000; the first free one is used. [default: any]",
        ),
        option(
            "-u",
            "--udp_port",
            type=PORT,
            default=UDP_PORT,
            show_default=True,
            group=_NETWORK,
            help="UDP port for discovery; it must be the same in the whole cluster.",
        ),
        option(
            "--no_discover",
            is_flag=True,
            group=_NETWORK,
            help="Switch discovery off: only addresses given as options are used.",
        ),
        option("-n", "--name", group=_NETWORK, help="Name to display. [default: the host name]"),
    )


def security_options() -> Callable[[Any], Any]:
    """Declare the options for authentication."""
    return several(
        option(
            "-s",
            "--secret",
            envvar=None,
            group=_SECURITY,
            help="The cluster secret: a passphrase or 64 hexadecimal digits. Other users can read a "
            "command line; use the environment variable DISCORO_SECRET or --secret_file instead.",
        ),
        option("--secret_file", group=_SECURITY, help="File with the secret. [default: created in the config folder]"),
        option("--certfile", group=_SECURITY, help="PEM file with the TLS certificate; it may include the key."),
        option("--keyfile", group=_SECURITY, help="PEM file with the certificate's private key."),
        option(
            "--cafile", group=_SECURITY, help="PEM file with the authorities that must have signed peers' certificates."
        ),
    )


def file_options() -> Callable[[Any], Any]:
    """Declare the options for working folders and file sizes."""
    return several(
        option(
            "--dest_path",
            group=_FILES,
            help="Folder in which working folders are created. [default: the system's temporary folder]",
        ),
        option(
            "--max_file_size",
            type=Size(),
            group=_FILES,
            help="Largest file accepted, in bytes or as 100M. [default: no limit]",
        ),
    )


def time_options() -> Callable[[Any], Any]:
    """Declare the options for intervals and timeouts."""
    return several(
        option(
            "--ping_interval",
            type=SECONDS,
            group=_TIMES,
            help="Longest time between two discovery broadcasts, in seconds. [default: 30]",
        ),
        option(
            "--min_pulse_interval",
            type=SECONDS,
            group=_TIMES,
            help=f"Shortest heartbeat interval accepted, in seconds. [default: {config.MinPulseInterval:g}]",
        ),
        option(
            "--max_pulse_interval",
            type=SECONDS,
            group=_TIMES,
            help=f"Longest heartbeat interval accepted, in seconds. [default: {config.MaxPulseInterval:g}]",
        ),
        option(
            "--msg_timeout",
            type=SECONDS,
            group=_TIMES,
            help=f"Timeout for connecting and for each reply, in seconds. [default: {config.MsgTimeout:g}]",
        ),
    )


def output_options() -> Callable[[Any], Any]:
    """Declare the options for output and for option files."""
    return several(
        option("-d", "--debug", is_flag=True, group=_OUTPUT, help="Log in detail."),
        option(
            "--log_format",
            type=click.Choice(["text", "json"]),
            default="text",
            show_default=True,
            group=_OUTPUT,
            help="Log as text, or as one JSON object per line.",
        ),
        option("--daemon", is_flag=True, group=_OUTPUT, help="Show only the log, also in a terminal."),
        option(
            "--config",
            is_eager=True,
            expose_value=False,
            callback=read_config,
            envvar="DISCORO_CONFIG",
            group=_CONFIGURATION,
            help="TOML file with options, spelt as in this help.",
        ),
        option(
            "--save_config",
            envvar=None,
            group=_CONFIGURATION,
            help="Write the given options to a TOML file (- for standard output) and exit.",
        ),
        option(
            "--version",
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_show_version,
            envvar=None,
            group=_OUTPUT,
            help="Print the version, and exit.",
        ),
        option(
            "--show_completion",
            type=click.Choice(["bash", "zsh", "fish"]),
            is_eager=True,
            expose_value=False,
            callback=_show_completion,
            envvar=None,
            group=_CONFIGURATION,
            help="Print the script that makes this shell complete the options, and exit.",
        ),
    )


def printed_file(name: str, file: str, what: str) -> Callable[[Any], Any]:
    """Declare an option that prints a file of the package and ends the program."""

    def show(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:  # noqa: FBT001 - as click calls it
        if wanted and not ctx.resilient_parsing:
            text = (importlib.resources.files(__package__) / "files" / file).read_text(encoding="utf-8")
            for placeholder, value in _installation(file.removesuffix(".service")).items():
                text = text.replace(placeholder, value)
            click.echo(text, nl=False)
            ctx.exit()

    return option(
        name,
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=show,
        envvar=None,
        group="Service",
        help=f"Print {what}, and exit.",
    )


def _installation(program: str) -> dict[str, str]:
    """Return what printed files say of this installation, by their placeholders."""
    script = Path(sysconfig.get_path("scripts"), program)
    command = [str(script)] if script.exists() else [sys.executable, "-m", "discoro_trio"]
    if not script.exists() and program == "discoronode":
        command.append("node")
    quoted = " ".join(f'"{word}"' if " " in word else word for word in command)
    return {
        "@PROGRAM@": quoted.replace("%", "%%"),  # systemd replaces what follows a single one
        "@PYTHON@": f"{sys.version_info.major}.{sys.version_info.minor}",
    }


def _show_completion(ctx: click.Context, _parameter: click.Parameter, shell: str | None) -> None:
    if shell is None or ctx.resilient_parsing:
        return
    name = ctx.find_root().info_name or ""
    variable = f"_{name.replace('-', '_').upper()}_COMPLETE"
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - it is one of the choices
    click.echo(kind(ctx.command, {}, name, variable).source())
    ctx.exit()


def _show_version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:  # noqa: FBT001 - as above
    if wanted and not ctx.resilient_parsing:
        click.echo(f"{ctx.find_root().info_name} {version_of('discoro_trio')}")
        ctx.exit()


def version_of(distribution: str) -> str:
    """Return the installed version."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "(not installed)"


def prepare(ctx: click.Context, options: Mapping[str, Any]) -> None:
    """Prepare a program before it opens anything: save the options, or set up logs, settings and warnings.

    Raises:
        click.UsageError: Two options do not fit together.
    """
    if options["save_config"] is not None:
        save_config(ctx, options["save_config"])
        ctx.exit()
    set_up_logs(debug=options["debug"], log_format=options["log_format"])
    if ctx.get_parameter_source("secret") is ParameterSource.COMMANDLINE:
        warn_of_secret(ctx, options["secret"])
    _check_dest_path(options["dest_path"])
    _set_times(options)


def warn_of_secret(ctx: click.Context, given: str) -> None:
    """Warn about a secret on the command line."""
    text = "every user of this machine can read the secret on the command line; use --secret_file or DISCORO_SECRET"
    weakness = secret_file.weakness_of(given)
    if weakness:
        secret_file.warned_of.add(given)
        text = f"{text}; {weakness}"
    click.echo(f"{ctx.find_root().info_name}: warning: {text}", err=True)


def _check_dest_path(path: str | None) -> None:
    if path is not None and not os.path.isdir(path):  # noqa: PTH112 - the path is the user's text
        problem = "is not a folder" if os.path.exists(path) else "does not exist; make it first"  # noqa: PTH110
        message = f"--dest_path: {path} {problem}, for the user that runs this program"
        raise click.UsageError(message)


def _set_times(options: Mapping[str, Any]) -> None:
    low = options["min_pulse_interval"] or config.MinPulseInterval
    high = options["max_pulse_interval"] or config.MaxPulseInterval
    if low > high:
        message = f"--min_pulse_interval: {low:g} s is more than --max_pulse_interval, {high:g} s"
        raise click.UsageError(message)
    config.MinPulseInterval, config.MaxPulseInterval = low, high
    config.MsgTimeout = options["msg_timeout"] or config.MsgTimeout
    config.ping_interval = options["ping_interval"] or config.ping_interval


def endpoint_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the given options that belong to the endpoint."""
    return {name: options[name] for name in ENDPOINT if options[name] is not None}


def shows_itself(options: Mapping[str, Any]) -> bool:
    """Return whether the output is shown to a person."""
    return sys.stdout.isatty() and not options["daemon"] and os.environ.get("TERM") != "dumb"
