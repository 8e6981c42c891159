"""The program `discoro`: the scheduler that several clients share, and commands around a cluster."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import click
import platformdirs
import trio

from .._cluster import Scheduler, open_scheduler
from .._link import current_endpoint
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
from ._doctor import doctor
from ._launch import launch
from ._monitor import check_monitor, monitor, monitor_options, open_monitor
from ._options import SECONDS, SECONDS_OR_NONE, GroupedGroup, option
from ._secret import secret
from ._show import show_scheduler
from ._signals import run_until_signal
from ._stacks import stacks
from ._status import status
from ._steer import cancel, drain
from ._top import top

if TYPE_CHECKING:
    from pathlib import Path

    from ._signals import Shutdown

logger = logging.getLogger(__name__)
_SCHEDULER = "Scheduler"


@click.group(
    cls=GroupedGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Every option can be written with - instead of _, and set as DISCORO_… in the environment.",
)
@option(
    "--node",
    "--peer",
    "node",
    multiple=True,
    metavar="HOST[:PORT]",
    group=_SCHEDULER,
    help="Node in another network; repeatable. One per network is enough; it finds the others there.",
)
@option(
    "--zombie_period",
    type=SECONDS_OR_NONE,
    default=1800.0,
    show_default=True,
    group=_SCHEDULER,
    help="Seconds after which an idle server is taken from its computation; 0: never.",
)
@option(
    "--pulse_interval",
    type=SECONDS,
    group=_SCHEDULER,
    help="Heartbeat interval of nodes in seconds, such as 10; also the shortest one a computation can set.",
)
@option(
    "--settle",
    is_flag=True,
    group=_SCHEDULER,
    help="Wait five heartbeats for nodes to report the leases of a previous scheduler; automatic if it left any.",
)
@network_options()
@security_options()
@file_options()
@time_options()
@monitor_options(None)
@printed_file("--print_systemd", "discoro.service", "a unit for systemd that runs this program")
@output_options()
@click.pass_context
def discoro(ctx: click.Context, /, **options: Any) -> None:
    """Run the scheduler that several clients share.

    Without options it finds the nodes of its network, and clients find it. It queues computations and gives each
    the servers it requests, in turn.
    """
    if ctx.invoked_subcommand is not None:
        return
    prepare(ctx, options)

    mark = running_mark(options["udp_port"])

    async def program(_ending: Shutdown) -> None:
        check_monitor(options)
        block = open_scheduler(
            nodes=options["node"],
            discover=not options["no_discover"],
            shared=True,
            settle=options["settle"] or mark.exists(),
            zombie_period=options["zombie_period"] or None,
            pulse_interval=options["pulse_interval"],
            dest_path=options["dest_path"],
            max_file_size=options["max_file_size"],
            **endpoint_options(options),
        )
        async with block as scheduler:
            write_mark(mark)
            try:
                await show(scheduler)
            finally:
                if scheduler.idle:  # otherwise the next scheduler waits for the existing leases and the old queue
                    mark.unlink(missing_ok=True)

    async def show(scheduler: Scheduler) -> None:
        show_scheduler(scheduler, current_endpoint(), options, on_terminal=shows_itself(options))
        if options["http_port"] is None:
            if options["http_host"] is not None or options["http_token"] is not None:
                logger.warning("there is no monitor: --http_host and --http_token need --http_port")
            await trio.sleep_forever()
        async with open_monitor(scheduler, options) as server:
            logger.info("the monitor is at %s", server.url)
            await trio.sleep_forever()

    trio.run(run_until_signal, program)


def running_mark(udp_port: int) -> Path:
    """Return the path of the file that marks a running scheduler, or one that ended and left computations behind."""
    return platformdirs.user_state_path("discoro_trio") / f"scheduler-{udp_port}"


def write_mark(mark: Path) -> None:
    """Mark that a scheduler runs. If it leaves computations behind, the next one waits for nodes to report leases."""
    try:
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
    except OSError as error:
        logger.warning("%s cannot be written: %s; after a crash, start with --settle", mark, error.strerror)


discoro.add_command(cancel)
discoro.add_command(doctor)
discoro.add_command(drain)
discoro.add_command(launch)
discoro.add_command(monitor)
discoro.add_command(secret)
discoro.add_command(stacks)
discoro.add_command(status)
discoro.add_command(top)
