"""The process of a launched node: `python -m discoro_trio.launch._node`.

Without arguments it reads its `Order` from standard input, which must stay open: the node ends when it is closed, by
SIGTERM, SIGINT or SIGHUP, or when the connection to the scheduler is lost. So it ends with the launcher, also if that
is killed, and with the ssh connection that it was started over.

In a job of a batch system its arguments are FOLDER NAME CPUS JOB, and it reads its order from a file. SIGTERM, which
announces the end of the job, drains it; a later one ends it in order. It also drains or ends on marker files.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import trio

from .._cluster import open_node
from .._cluster._processors import processors
from .._cluster.node._startup import SIGNALS_REACH_ALL
from .._errors import DiscoroError
from .._link.tls._tls import is_loopback
from .._scopes import flatten
from .._values import Location
from ._order import (
    DRAINING_FOR_SIGNAL,
    DRAINING_FOR_TIME,
    END_ALL,
    JOINED,
    LONGEST_END,
    ORDER_FILE,
    Order,
    decode,
    drain_marker,
    end_marker,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._cluster import Node

logger = logging.getLogger(__name__)

_LONGEST_ORDER = 65536
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_REPEATED = 5.0
"""Seconds in which another signal is the same announcement: of Slurm, and of `srun`, which passes its own on."""
_LOOK = 2.0
"""Seconds between two looks for marker files."""


class _NodeEnd:
    """Ends the node in order, and by force when that takes too long."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.end_now: Callable[[], None] | None = None
        self.drain_within: float | None = None
        self.drain_asked = trio.Event()
        self._asked = trio.Event()

    def begin(self) -> None:
        self.scope.cancel()
        self._asked.set()

    def drain(self, within: float, line: str) -> None:
        """End the node once its coroutines have ended, or so many seconds later."""
        if not self.drain_asked.is_set():
            self.drain_within = max(0.0, within)
            self.drain_asked.set()
            _write(line)

    async def limit(self) -> None:
        await self._asked.wait()
        await trio.sleep(LONGEST_END)
        logger.warning("the orderly end took more than %g s; ending at once", LONGEST_END)
        if self.end_now is not None:
            self.end_now()
        os._exit(1)


def _write(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


# --- a child process of the launcher


async def _run() -> None:
    async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as stdin:
        order = await _receive_order(stdin)
        if order is None:
            return
        ending = _NodeEnd()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_until_closed, stdin, ending)
            nursery.start_soon(_until_signal, ending)
            nursery.start_soon(ending.limit)
            with ending.scope:
                await _serve(order, ending)
            nursery.cancel_scope.cancel()


async def _receive_order(stdin: trio.abc.ReceiveStream) -> Order | None:
    """Return the order; None if standard input is closed before it is complete."""
    line = bytearray()
    while not line.endswith(b"\n"):
        data = await stdin.receive_some()
        if not data or len(line) > _LONGEST_ORDER:
            return None
        line += data
    return decode(bytes(line))


async def _until_closed(stdin: trio.abc.ReceiveStream, ending: _NodeEnd) -> None:
    while await stdin.receive_some():
        pass
    ending.begin()


async def _until_signal(ending: _NodeEnd) -> None:
    with trio.open_signal_receiver(*_SIGNALS) as arriving:
        async for _ in arriving:
            ending.begin()


# --- a job of a batch system


async def _run_in_job(folder: Path, name: str, cpus: str, job: str) -> None:
    try:
        order = decode((folder / ORDER_FILE).read_bytes())
    except FileNotFoundError:
        message = "the program that submitted this job has ended"
        raise DiscoroError(message) from None
    if not order.cpus and cpus.isdigit():  # what the batch system has allocated
        order = msgspec.structs.replace(order, cpus=min(int(cpus), processors()))
    order = msgspec.structs.replace(order, name=name)
    os.environ[SIGNALS_REACH_ALL] = "1"  # batch systems send them to all processes of a job
    ending = _NodeEnd()
    async with trio.open_nursery() as nursery:
        await nursery.start(_until_signal_in_job, folder, order, ending)
        nursery.start_soon(_watch_folder, folder, order, job, ending)
        nursery.start_soon(ending.limit)
        with ending.scope:
            await _serve(order, ending)
        nursery.cancel_scope.cancel()


async def _until_signal_in_job(
    folder: Path, order: Order, ending: _NodeEnd, *, task_status: trio.TaskStatus[None]
) -> None:
    with trio.open_signal_receiver(*_SIGNALS, signal.SIGUSR1, signal.SIGUSR2) as arriving:
        task_status.started()
        last = -math.inf
        async for number in arriving:
            last, before = trio.current_time(), last
            if last - before < _REPEATED:
                continue
            logger.info("received %s", signal.Signals(number).name)
            if ending.drain_asked.is_set() or await trio.to_thread.run_sync(_is_to_end, folder, order.name):
                ending.begin()
            else:
                ending.drain(order.kill_wait - LONGEST_END, DRAINING_FOR_SIGNAL)


async def _watch_folder(folder: Path, order: Order, job: str, ending: _NodeEnd) -> None:
    """Follow the marker files. They are looked at in a thread: the folder may be on another machine."""
    begun = trio.current_time()
    drain = folder / drain_marker(job)
    while True:
        if await trio.to_thread.run_sync(_is_to_end, folder, order.name, abandon_on_cancel=True):
            ending.begin()
            return
        if order.lasts is not None:  # more exact than Slurm, which may announce the end of time a minute early
            time_ends = trio.current_time() - begun >= order.lasts
        else:
            time_ends = await trio.to_thread.run_sync(drain.exists, abandon_on_cancel=True)
        if time_ends:
            ending.drain(order.notice - LONGEST_END - _LOOK, DRAINING_FOR_TIME)
        await trio.sleep(_LOOK)


def _is_to_end(folder: Path, name: str) -> bool:
    """Whether the launcher has asked for the end of this node, or the program's files are gone with it."""
    asked = (folder / END_ALL).exists() or (folder / end_marker(name)).exists()
    return asked or not (folder / ORDER_FILE).exists()


# --- both


async def _serve(order: Order, ending: _NodeEnd) -> None:
    scheduler = Location(order.addr, order.port)
    ip_addr = order.addr if _is_loopback(order.addr) else ""  # else all addresses, so that clients can reach it
    async with open_node(
        cpus=order.cpus,
        discover=False,
        secret=order.secret,
        name=order.name,
        ip_addr=ip_addr,
        tcp_ports=order.tcp_ports,
    ) as node:
        ending.end_now = node.end_now
        link = await node.endpoint.link_at(scheduler)
        await node.join(link)
        _write(f"{JOINED}{node.location}")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_drain_when_asked, node, ending)
            await link.ended.wait()
            logger.warning("the connection to the scheduler at %s is lost; the node ends", scheduler)
            nursery.cancel_scope.cancel()


async def _drain_when_asked(node: Node, ending: _NodeEnd) -> None:
    await ending.drain_asked.wait()
    await node.drain(ending.drain_within)
    logger.info("the node is drained")
    ending.begin()


def _is_loopback(addr: str) -> bool:
    try:
        return is_loopback(addr)
    except ValueError:  # a host name
        return addr == "localhost"


def main() -> None:
    """Run the node until it is to end."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(message)s")
    arguments = sys.argv[1:]
    try:
        if arguments:
            folder, name, cpus, job = arguments
            trio.run(_run_in_job, Path(folder), name, cpus, job)
        else:
            trio.run(_run)
    except* (DiscoroError, OSError, ValueError) as errors:
        for error in flatten(errors):
            logger.error("%s", error)  # noqa: TRY400 - one line, for the launcher's log
        sys.exit(1)


if __name__ == "__main__":
    main()
