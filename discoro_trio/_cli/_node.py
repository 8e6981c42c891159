"""The program `discoronode`: manages the servers of one machine."""

from __future__ import annotations

import logging
import shutil
import tempfile
from functools import partial
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
    epilog="Every option can be written with - instead of _, and set as DISCORO_… in the environment.",
)
@option(
    "-c",
    "--cpus",
    type=int,
    default=0,
    show_default=True,
    group=_SERVERS,
    help="Number of servers. Negative: leave that many processors unused. 0: one per processor.",
)
@option(
    "--peer",
    multiple=True,
    metavar="HOST[:PORT]",
    group="Network",
    help="Scheduler in another network, or a node of a network that has one; repeatable.",
)
@network_options()
@security_options()
@file_options()
@time_options()
@option(
    "--max_memory",
    type=Size(),
    group=_SERVERS,
    help="Memory limit of one server, in bytes or as 2G. [default: no limit]",
)
@option(
    "--max_files", type=int, group=_SERVERS, help="Limit of open files and connections of one server, such as 1024."
)
@option(
    "--max_processes",
    type=int,
    group=_SERVERS,
    help="Limit of processes and threads of one server, or of their user, such as 100.",
)
@option(
    "--cgroup",
    multiple=True,
    metavar="FOLDER",
    group=_SERVERS,
    help="Control group created for this node, to limit its servers; repeatable. [default: the one systemd delegates]",
)
@option("--user", metavar="NAME", group=_SERVERS, help="User that runs the servers, if this program runs as root.")
@option(
    "--users",
    type=NameList(),
    group=_SERVERS,
    help="Users, such as job1,job2: each computation gets one, and waits while all are in use.",
)
@option(
    "--clean", is_flag=True, group="Files", help="At the start, remove working folders that killed nodes left behind."
)
@option(
    "--serve",
    type=click.IntRange(min=1),
    group=_SERVICE,
    help="Number of computations after which the node ends, such as 1.",
)
@option(
    "--drain",
    type=click.FloatRange(min=0),
    default=0,
    show_default=True,
    metavar="SECONDS",
    group=_SERVICE,
    help="Seconds for which running coroutines may finish after SIGTERM, such as 60.",
)
@option("--service_start", type=TimeOfDay(), group=_SERVICE, help="Time of day to start service, such as 08:30.")
@option(
    "--service_stop",
    type=TimeOfDay(),
    group=_SERVICE,
    help="Time of day to stop accepting computations, such as 17:00.",
)
@option(
    "--service_end",
    type=TimeOfDay(),
    group=_SERVICE,
    help="Time of day to end computations that still run, such as 18:00.",
)
@printed_file("--print_systemd", "discoronode.service", "a unit for systemd that runs this program")
@printed_file("--print_dockerfile", "Dockerfile", "a Dockerfile whose container runs this program")
@output_options()
@click.pass_context
def node(ctx: click.Context, /, **options: Any) -> None:
    """Run the servers of this machine, which run computations.

    Without options it starts one server per processor, schedulers on its network find it, and all traffic that leaves
    the machine is encrypted. Only processes with the cluster secret can use it.
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
            "computations are ended after the node stops accepting them"
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
    """Run a node until its work is done; return the number of computations that it has served."""
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
        if options["drain"]:
            ending.drain = partial(opened.drain, options["drain"])
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
            logger.info("no further computation is accepted from now on")
            opened.rest()

        async def end() -> None:
            await sleep_until(hours.ends(begun))
            nursery.cancel_scope.cancel()

        nursery.start_soon(stop)
        nursery.start_soon(end)
        await opened.until_free()
        nursery.cancel_scope.cancel()


def clean(folder: Path) -> None:
    """Remove the working folders of nodes that no longer run."""
    for left in folder.glob(f"{FOLDER_PREFIX}*-*"):
        process = left.name.removeprefix(FOLDER_PREFIX).partition("-")[0]
        if not left.is_dir() or left.is_symlink() or not process.isdigit() or psutil.pid_exists(int(process)):
            continue
        if not node_lives(
            left
        ):  # the node may run in a container that shares the folder, where that process id is its own
            shutil.rmtree(left, ignore_errors=True)
            logger.info("removed %s, which a node left", left)
