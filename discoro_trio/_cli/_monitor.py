"""`discoro monitor`, and the options with which `discoro` serves the same pages itself.

The monitor itself is the package `_monitor`.
"""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import platformdirs
import trio

from .._link import EndpointOptions, OptionError
from .._process import ensure_endpoint
from ._ask import check_place
from ._common import endpoint_options, network_options, security_options
from ._options import SECONDS, GroupedCommand, option, several
from ._signals import run_until_signal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from .._cluster import Scheduler
    from .._monitor import HTTPServer, RemoteScheduler
    from ._signals import Shutdown

_PAGES = "Monitor"
_HTTPS_CERTFILE = "https_certfile"  # an option
_ANY_PORT = click.IntRange(0, 65535)
_OPTIONS = {
    "http_host": "host",
    "http_port": "port",
    "http_token": "token",
    "poll_sec": "poll_sec",
    "document_root": "document_root",
    "https_certfile": "certfile",
    "https_keyfile": "keyfile",
    "read_only": "read_only",
    "event_file": "event_file",
}
"""The options of the programs, mapped to those of `open_http_server`."""


def monitor_options(port: int | None) -> Callable[[Any], Any]:
    """Declare the options for the pages' address and access.

    Args:
        port: The default; None for no pages.
    """
    shown = {} if port is None else {"default": port, "show_default": True}
    file = click.Path(exists=True, dir_okay=False, path_type=Path)
    return several(
        option(
            "--http_port",
            type=_ANY_PORT,
            group=_PAGES,
            help="TCP port of the web monitor, such as 8181; 0: any free port.",
            **shown,
        ),
        option(
            "--http_host", group=_PAGES, help="Address the monitor listens on; anything but loopback requires a token."
        ),
        option(
            "--http_token",
            group=_PAGES,
            help="Token required for actions and for viewing from other machines. [default: a new random one]",
        ),
        option(
            "--poll_sec",
            type=SECONDS,
            group=_PAGES,
            help="Longest time between two updates of a page, in seconds. [default: 10]",
        ),
        option(
            "--document_root",
            type=click.Path(exists=True, file_okay=False, path_type=Path),
            group=_PAGES,
            help="Folder to serve the pages from. [default: the packaged ones]",
        ),
        option(
            "--https_certfile",
            type=file,
            group=_PAGES,
            help="PEM file with the certificate for https; it may include the key.",
        ),
        option("--https_keyfile", type=file, group=_PAGES, help="PEM file with the certificate's private key."),
        option(
            "--event_file",
            type=click.Path(dir_okay=False, path_type=Path),
            group=_PAGES,
            help="File that keeps the latest events across restarts. [default: one per port, in the folder "
            "for the state of programs]",
        ),
        option("--read_only", is_flag=True, group=_PAGES, help="Refuse all actions: viewing only."),
    )


def check_monitor(options: Mapping[str, Any]) -> None:
    """Check the options of the monitor before anything is opened.

    Raises:
        OptionError: One of them cannot work; it has the name that it has in the programs.
    """
    if options["http_port"] is None:
        return
    if options["https_keyfile"] is not None and options["https_certfile"] is None:
        raise OptionError(_HTTPS_CERTFILE, "--https_keyfile is given without its certificate")
    from .._monitor._open import check_options  # noqa: PLC0415 - imported where it is wanted

    host = "127.0.0.1" if options["http_host"] is None else options["http_host"]
    poll_sec = 10 if options["poll_sec"] is None else options["poll_sec"]
    try:
        check_options(host, poll_sec, options["http_token"])
    except OptionError as error:
        raise _named(error) from error


def _named(error: OptionError) -> OptionError:
    """Replace the option name of `open_http_server` in an error by the programs' own."""
    names = {name: option for option, name in _OPTIONS.items()}
    return OptionError(names[error.option], error.problem)


@asynccontextmanager
async def open_monitor(source: Scheduler | RemoteScheduler, options: Mapping[str, Any]) -> AsyncIterator[HTTPServer]:
    """Serve the pages about a scheduler as the options say.

    Raises:
        OptionError: One of them cannot work; it has the name that it has in the programs.
    """
    from .. import open_http_server  # noqa: PLC0415 - the web server is imported where it is wanted

    check_monitor(options)
    given = {_OPTIONS[name]: options[name] for name in _OPTIONS if options[name] is not None}
    if "event_file" not in given and options["http_port"]:
        given["event_file"] = platformdirs.user_state_path("discoro_trio") / f"events-{options['http_port']}.jsonl"
    async with AsyncExitStack() as stack:
        try:
            server = await stack.enter_async_context(open_http_server(source, **given))
        except OptionError as error:
            raise _named(error) from error
        yield server


@click.command("monitor", cls=GroupedCommand)
@click.argument("scheduler", required=False)
@monitor_options(8181)
@network_options()
@security_options()
def monitor(scheduler: str | None, **options: Any) -> None:
    """Serve the web monitor of a scheduler that runs elsewhere.

    SCHEDULER is its address:port or a host. Without it, discovery finds the one on this network.
    """
    check_place(scheduler, options)

    async def program(_ending: Shutdown) -> None:
        from .._monitor import RemoteScheduler  # noqa: PLC0415 - as above

        endpoint = EndpointOptions(**{"ip_addr": "", **endpoint_options(options)})
        async with ensure_endpoint(endpoint, private=False) as process:
            source = RemoteScheduler(process.endpoint, scheduler)
            await source.status()  # if no scheduler answers, fail at once
            async with open_monitor(source, options) as server:
                click.echo(f"look at {server.url}")
                await trio.sleep_forever()

    trio.run(run_until_signal, program)
