"""The program `discoronode`: the servers of one machine, for whoever may use them."""

from __future__ import annotations

import logging
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import psutil
import trio

from .._cluster import FOLDER_PREFIX, node_lives, open_node
from ._common import (
    endpoint_options,
    file_options,
    network_options,
    output_options,
    prepare,
    printed_file,
    security_options,
    shows_itself,
    time_options,
)
from ._hours import Hours, now, sleep_until
from ._options import GroupedCommand, NameList, Size, TimeOfDay, option
from ._show import show_node
from ._signals import run_until_signal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .._cluster import Node
    from ._signals import Shutdown

logger = logging.getLogger(__name__)

_SERVERS, _SERVICE = "Servers", "Service"


@click.command(
    cls=GroupedCommand,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Every option may be written with - in place of _, and set as DISCORO_… in the environment.",
)
@option(
    "-c",
    "--cpus",
    type=int,
    default=0,
    show_default=True,
    group=_SERVERS,
    help="Servers: so many; all processors but so many, if negative; one a processor for 0.",
)
@option(
    "--peer",
    multiple=True,
    metavar="HOST[:PORT]",
    group="Network",
    help="Scheduler in another network, or a node of a network that has one; may be repeated.",
)
@network_options()
@security_options()
@file_options()
@time_options()
@option("--max_memory", type=Size(), group=_SERVERS, help="Most memory of one server, such as 2G. [default: any]")
@option("--max_files", type=int, group=_SERVERS, help="Most files and connections of one server.")
@option("--max_processes", type=int, group=_SERVERS, help="Most processes and threads of one server, or of their user.")
@option(
    "--cgroup",
    multiple=True,
    metavar="FOLDER",
    group=_SERVERS,
    help="Control group made for this node, to hold its servers; may be repeated. [default: what systemd delegates]",
)
@option("--user", metavar="NAME", group=_SERVERS, help="User as whom servers run, if this program runs as root.")
@option(
    "--users",
    type=NameList(),
    group=_SERVERS,
    help="Users of whom each computation gets one, such as job1,job2; it waits while all are in use.",
)
@option("--clean", is_flag=True, group="Files", help="Remove first what nodes that were killed left in the folder.")
@option("--serve", type=click.IntRange(min=1), group=_SERVICE, help="End after so many computations.")
@option("--service_start", type=TimeOfDay(), group=_SERVICE, help="Time of the day to begin to serve.")
@option("--service_stop", type=TimeOfDay(), group=_SERVICE, help="Time of the day to take no further computation.")
@option("--service_end", type=TimeOfDay(), group=_SERVICE, help="Time of the day to end computations that still run.")
@printed_file("--print_systemd", "discoronode.service", "a unit for systemd that runs this program")
@printed_file("--print_dockerfile", "Dockerfile", "a Dockerfile whose container runs this program")
@output_options()
@click.pass_context
def node(ctx: click.Context, /, **options: Any) -> None:
    """Run the servers of this machine, on which schedulers run computations.

    Without options it starts a server for each processor, is found by schedulers on its network, and encrypts what
    leaves the machine. It serves those who know the cluster's secret.
    """
    prepare(ctx, options)
    hours = _hours(options)
    if options["clean"]:
        clean(Path(options["dest_path"] or tempfile.gettempdir()))

    async def program(ending: Shutdown) -> None:
        if hours is None:
            await _serve(ending, options)
        else:
            await _serve_in(hours, ending, options)

    trio.run(run_until_signal, program)


def _hours(options: Mapping[str, Any]) -> Hours | None:
    start, stop, end = options["service_start"], options["service_stop"], options["service_end"]
    if start is None and (stop or end):
        message = "--service_stop and --service_end need --service_start"
        raise click.UsageError(message)
    if start is None:
        return None
    hours = Hours(start, stop, end)
    if not hours.are_in_order:
        message = (
            f"--service_end: {end} comes before --service_stop, {stop}, in a service that begins at {start}; "
            "what still runs is ended after no further computation is taken"
        )
        raise click.UsageError(message)
    return hours


async def _serve_in(hours: Hours, ending: Shutdown, options: Mapping[str, Any]) -> None:
    left = options["serve"]
    while left is None or left > 0:
        begins = hours.begins(now())
        if begins > now():
            logger.info("the hours of service begin at %s", hours.start)
        await sleep_until(begins)
        served = await _serve(ending, {**options, "serve": left}, hours)
        left = None if left is None else left - served
        logger.info("the hours of service are over")


async def _serve(ending: Shutdown, options: Mapping[str, Any], hours: Hours | None = None) -> int:
    """Be a node until its work is done; give the number of computations that it has served."""
    block = open_node(
        cpus=options["cpus"],
        nodes=options["peer"],
        discover=not options["no_discover"],
        dest_path=options["dest_path"],
        max_file_size=options["max_file_size"],
        serve=options["serve"],
        max_memory=options["max_memory"],
        max_files=options["max_files"],
        max_processes=options["max_processes"],
        cgroup=options["cgroup"],
        user=options["user"],
        users=options["users"] or (),
        **endpoint_options(options),
    )
    async with block as opened:
        ending.clean_up[:] = [opened.end_now]
        show_node(opened, options, on_terminal=shows_itself(options))
        if hours is None:
            await opened.until_free()
        else:
            await _keep_hours(opened, hours)
        return opened.served


async def _keep_hours(opened: Node, hours: Hours) -> None:
    begun = now()
    async with trio.open_nursery() as nursery:

        async def stop() -> None:
            await sleep_until(hours.stops(begun))
            logger.info("no further computation gets servers from now on")
            opened.rest()

        async def end() -> None:
            await sleep_until(hours.ends(begun))
            nursery.cancel_scope.cancel()

        nursery.start_soon(stop)
        nursery.start_soon(end)
        await opened.until_free()
        nursery.cancel_scope.cancel()


def clean(folder: Path) -> None:
    """Remove the working folders of nodes that do not run any more."""
    for left in folder.glob(f"{FOLDER_PREFIX}*-*"):
        process = left.name.removeprefix(FOLDER_PREFIX).partition("-")[0]
        if not left.is_dir() or left.is_symlink() or not process.isdigit() or psutil.pid_exists(int(process)):
            continue
        if not node_lives(left):  # in a container that shares the folder it may, and have that process id there
            shutil.rmtree(left, ignore_errors=True)
            logger.info("removed %s, which a node left", left)
