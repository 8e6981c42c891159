"""`discoro launch`: nodes on other machines, for as long as the command runs."""

from __future__ import annotations

import json
import logging
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import click
import trio

from .._cluster import SchedulerAccess, open_scheduler
from .._errors import DiscoroError
from .._link import EndpointOptions, open_with, resolve_peers
from .._printable import printable
from .._scopes import open_background
from .._values import Location
from ._ask import check_place, link_to_scheduler
from ._common import endpoint_options, network_options, security_options
from ._logs import set_up_logs
from ._options import GroupedCommand, GroupedGroup, option, several
from ._signals import run_until_signal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from .._cluster import LaunchedNode, Launcher
    from ._signals import Shutdown

_NODES, _JOBS = "Nodes", "Jobs"
_LONGEST_END = 75.0
"""Seconds that the end of all nodes may take; a launcher itself waits less than that for a batch system."""


@click.group(cls=GroupedGroup)
def launch() -> None:
    """Start nodes through ssh, a batch system, Kubernetes or on this machine, until Ctrl-C.

    Without --scheduler the command also runs a scheduler, which clients on the network find. All nodes end with the
    command.
    """


def _common() -> Callable[[Any], Any]:
    return several(
        option(
            "--scheduler",
            metavar="PLACE",
            envvar=None,
            group="Network",
            help="Scheduler that the nodes join, as HOST:PORT or HOST. [default: one that this command runs]",
        ),
        option(
            "--adaptive",
            metavar="MIN:MAX",
            envvar=None,
            group=_NODES,
            help="Start nodes while jobs wait and drain idle ones: at least MIN, at most MAX, such as 0:20.",
        ),
        network_options(),
        security_options(),
        option("-d", "--debug", is_flag=True, group="Output", help="Log in detail, and show what the nodes write."),
    )


def _cpus(text: str) -> Callable[[Any], Any]:
    return option("--cpus", type=int, envvar=None, group=_NODES, help=text)


def _python(text: str) -> Callable[[Any], Any]:
    return option("--python", metavar="PATH", envvar=None, group=_NODES, help=text)


@launch.command(cls=GroupedCommand)
@click.argument("hosts", nargs=-1, required=True)
@_cpus("Number of servers of each node. [default: one per processor]")
@_python("Interpreter on the hosts, such as /opt/venv/bin/python. [default: python3]")
@option(
    "--tunnel",
    is_flag=True,
    envvar=None,
    group=_NODES,
    help="All connections go through ssh. Programs on this machine can use the nodes. Needs --cpus.",
)
@option(
    "--ssh_option", multiple=True, metavar="ARGUMENT", envvar=None, group=_NODES, help="Argument of ssh; repeatable."
)
@_common()
def ssh(hosts: tuple[str, ...], **options: Any) -> None:
    """Start one node on each of the HOSTS, through the system's ssh."""

    def make() -> Launcher:
        from ..launch import Ssh  # noqa: PLC0415 - not for the other commands

        given = _given(options, "python", "cpus", "tunnel")
        return Ssh(hosts, ssh_options=options["ssh_option"], **given)

    if options["tunnel"] and options["ip_addr"] is None:
        options["ip_addr"] = "127.0.0.1"
    _run(make, options)


@launch.command(cls=GroupedCommand)
@click.argument("nodes", type=click.IntRange(min=1), default=1)
@_cpus("Number of servers of each node. [default: 1]")
@_common()
def local(nodes: int, **options: Any) -> None:
    """Start a number of NODES as processes of this machine."""

    def make() -> Launcher:
        from ..launch import Local  # noqa: PLC0415

        return Local(nodes, **_given(options, "cpus"))

    _run(make, options)


def _batch(*own: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Declare the options that the batch systems share, after those of one."""
    texts = {
        "time": ("H:M:S", "Time limit of a job, such as 2:00:00, or minutes."),
        "account": ("NAME", "Account or project of the jobs."),
        "memory": ("SIZE", "Memory of each node, as the batch system writes it, such as 16G."),
        "folder": ("FOLDER", "Folder that this machine and the nodes share. [default: one in the home folder]"),
    }
    return several(
        option("--nodes", type=click.IntRange(min=1), default=1, envvar=None, group=_NODES, help="Number of nodes."),
        *own,
        *(
            option(f"--{name}", metavar=metavar, envvar=None, group=_JOBS, help=text)
            for name, (metavar, text) in texts.items()
        ),
        _cpus("Processors, and servers, of each node. [default: what the batch system gives a job]"),
        _python("Interpreter on the machines. [default: the one that runs this command]"),
        option(
            "--notice",
            type=click.FloatRange(min=0),
            envvar=None,
            group=_JOBS,
            help="Seconds before its time limit at which a node is drained and replaced. [default: 120]",
        ),
        option(
            "--option",
            "options",
            multiple=True,
            metavar="ARGUMENT",
            envvar=None,
            group=_JOBS,
            help="Argument of the command that submits, such as --option=--exclusive; repeatable.",
        ),
        option(
            "--setup",
            multiple=True,
            metavar="COMMAND",
            envvar=None,
            group=_JOBS,
            help="Shell command to run before the interpreter, such as 'module load python'; repeatable.",
        ),
        _common(),
    )


def _text(name: str, metavar: str, text: str) -> Callable[[Any], Any]:
    return option(f"--{name}", metavar=metavar, envvar=None, group=_JOBS, help=text)


_SHARED = ("nodes", "time", "account", "memory", "folder", "cpus", "python", "notice", "options", "setup")


@launch.command(cls=GroupedCommand)
@_batch(
    option("--one_job", is_flag=True, envvar=None, group=_JOBS, help="One job for all nodes, which start together."),
    _text("partition", "NAME", "Partition of the jobs."),
    _text("qos", "NAME", "Quality of service of the jobs."),
    _text("gres", "LIST", "Generic resources of each node, such as gpu:2."),
)
def slurm(**options: Any) -> None:
    """Start nodes in jobs of Slurm."""

    def make() -> Launcher:
        from ..launch import Slurm  # noqa: PLC0415

        return Slurm(**_given(options, *_SHARED, "one_job", "partition", "qos", "gres"))

    _run(make, options)


@launch.command(cls=GroupedCommand)
@_batch(_text("queue", "NAME", "Queue of the jobs."))
def pbs(**options: Any) -> None:
    """Start nodes in jobs of PBS."""

    def make() -> Launcher:
        from ..launch import Pbs  # noqa: PLC0415

        return Pbs(**_given(options, *_SHARED, "queue"))

    _run(make, options)


@launch.command(cls=GroupedCommand)
@_batch(_text("queue", "NAME", "Queue of the jobs."))
def lsf(**options: Any) -> None:
    """Start nodes in jobs of LSF."""

    def make() -> Launcher:
        from ..launch import Lsf  # noqa: PLC0415

        return Lsf(**_given(options, *_SHARED, "queue"))

    _run(make, options)


@launch.command(cls=GroupedCommand)
@_batch(
    _text("queue", "NAME", "Queue of the jobs."),
    _text("parallel_environment", "NAME", "Parallel environment whose slots are on one machine; --cpus needs it."),
)
def sge(**options: Any) -> None:
    """Start nodes in jobs of Grid Engine."""

    def make() -> Launcher:
        from ..launch import Sge  # noqa: PLC0415

        return Sge(**_given(options, *_SHARED, "queue", "parallel_environment"))

    _run(make, options)


@launch.command(cls=GroupedCommand)
@option("--image", required=True, envvar=None, group=_NODES, help="Container image with Python and discoro_trio.")
@option("--nodes", type=click.IntRange(min=1), default=1, envvar=None, group=_NODES, help="Number of nodes.")
@option("--memory", metavar="SIZE", envvar=None, group=_NODES, help="Memory of each pod, such as 4Gi.")
@option("--namespace", envvar=None, group=_NODES, help="Namespace of the pods. [default: that of the context]")
@option("--context", envvar=None, group=_NODES, help="Context of the kubeconfig file. [default: the current one]")
@_cpus("Servers of each node, and processors of its pod. [default: 1]")
@_python("Interpreter in the image. [default: python3]")
@option(
    "--print",
    "print_only",
    is_flag=True,
    envvar=None,
    group="Output",
    help="Print the objects as JSON, for kubectl apply -f -. They contain the secret. Needs --scheduler HOST:PORT.",
)
@_common()
def kubernetes(**options: Any) -> None:
    """Start nodes in pods of Kubernetes."""
    if options["print_only"]:
        click.echo(_objects(options))
        return

    def make() -> Launcher:
        from ..launch import Kubernetes  # noqa: PLC0415

        return Kubernetes(**_given(options, "image", "nodes", "memory", "namespace", "context", "cpus", "python"))

    if options["scheduler"] is not None:
        message = "--scheduler: with kubernetes it is only used by --print; the pods join the scheduler of this command"
        raise click.UsageError(message)
    _run(make, options)


def _objects(options: Mapping[str, Any]) -> str:
    """Return the objects that run nodes for a scheduler, as a list that kubectl takes."""
    from ..launch import _manifests as manifests  # noqa: PLC0415
    from ..launch._order import Order  # noqa: PLC0415

    try:
        scheduler = Location.parse(options["scheduler"] or "")
    except ValueError as error:
        message = f"--print needs --scheduler HOST:PORT, the place that pods connect to: {error}"
        raise click.UsageError(message) from error
    credential = EndpointOptions(**endpoint_options(options)).credential(private=False)
    pods = manifests.PodOptions(
        image=options["image"],
        memory=options["memory"] or "",
        **_given(options, "cpus", "python"),
    )
    order = Order(credential.key.hex(), scheduler.addr, scheduler.port, "", pods.cpus, kill_wait=pods.grace)
    name = "discoro-nodes"
    items = [
        manifests.secret(name, order),
        manifests.service(name),
        manifests.job(name, name, pods, count=options["nodes"]),
    ]
    if options["namespace"]:
        for item in items:
            item["metadata"]["namespace"] = options["namespace"]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items}, indent=2)


def _given(options: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Return the options that were given; the launcher's own defaults hold for the others."""
    return {name: options[name] for name in names if options[name] not in (None, ())}


# --- the run


def _run(make: Callable[[], Launcher], options: Mapping[str, Any]) -> None:
    """Run a launcher until a signal, or until all its nodes have ended."""
    if options["adaptive"] and options["scheduler"]:
        message = "--adaptive needs the scheduler of this command, to see the work that waits; leave out --scheduler"
        raise click.UsageError(message)
    set_up_logs(debug=options["debug"], log_format="text")
    if not options["debug"]:
        logging.getLogger("discoro_trio.launch").setLevel(logging.WARNING)  # what it reports is printed
    if options["scheduler"] is not None:
        check_place(options["scheduler"], options)
    try:
        launcher = _adapting(make(), options["adaptive"])
    except (TypeError, ValueError) as error:
        raise click.UsageError(str(error)) from error

    async def program(ending: Shutdown) -> None:
        ending.longest = _LONGEST_END
        shown: dict[str, LaunchedNode] = {}
        async with open_background(shielded=True) as nursery:  # it also shows how the nodes end
            nursery.start_soon(_follow, launcher, shown)
            block = _own_scheduler(launcher, options) if options["scheduler"] is None else _joined(launcher, options)
            try:
                async with block as location:
                    click.echo(f'programs use the nodes by schedule("{location}"); Ctrl-C ends them')
                    while launcher.adapts or any(node.state != "ended" for node in launcher.nodes):
                        await launcher.until_changed()
                    message = "all nodes have ended"
                    raise DiscoroError(message)
            finally:
                _show(launcher, shown)

    trio.run(run_until_signal, program)


def _adapting(launcher: Launcher, bounds: str | None) -> Launcher:
    """Return a launcher that adapts the number of its nodes, if bounds are given as MIN:MAX."""
    if bounds is None:
        return launcher
    from ..launch import Adaptive  # noqa: PLC0415

    match = re.fullmatch(r"(\d+):(\d+)", bounds)
    if match is None:
        message = f"--adaptive: expected MIN:MAX, such as 0:20, not {bounds!r}"
        raise ValueError(message)
    return Adaptive(launcher, minimum=int(match[1]), maximum=int(match[2]))


@asynccontextmanager
async def _own_scheduler(launcher: Launcher, options: Mapping[str, Any]) -> AsyncIterator[Location]:
    block = open_scheduler(
        shared=True, settle=False, discover=not options["no_discover"], launch=launcher, **endpoint_options(options)
    )
    async with block as scheduler:
        yield scheduler.location


@asynccontextmanager
async def _joined(launcher: Launcher, options: Mapping[str, Any]) -> AsyncIterator[Location]:
    """Start the nodes for a scheduler in another process."""
    await resolve_peers("scheduler", [options["scheduler"]])
    async with open_with(EndpointOptions(**{"ip_addr": "", **endpoint_options(options)})) as endpoint:
        location = (await link_to_scheduler(endpoint, options["scheduler"])).peer.location
        access = SchedulerAccess(location=location, secret=endpoint.credentials[b""].key.hex())
        async with launcher.open(access):
            yield location


async def _follow(launcher: Launcher, shown: dict[str, LaunchedNode]) -> None:
    while True:
        _show(launcher, shown)
        await launcher.until_changed()


def _show(launcher: Launcher, shown: dict[str, LaunchedNode]) -> None:
    """Print each change of a node in a line.

    Args:
        launcher: The launcher.
        shown: The nodes as they were printed last, by name.
    """
    for node in launcher.nodes:
        if shown.get(node.name) != node and (node.state, node.reason) != ("starting", ""):
            shown[node.name] = node
            state = "ending" if node.taken_back and node.state != "ended" else node.state
            where = f" at {node.location}" if state == "running" and node.location else ""
            reason = f": {node.reason}" if node.reason else ""
            click.echo(printable(f"{node.name} {state}{where}{reason}"))
