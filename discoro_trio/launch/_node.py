"""The process of a launched node: `python -m discoro_trio.launch._node`.

It reads its `Order` from standard input, which must stay open: the node ends when it is closed, by SIGTERM, SIGINT or
SIGHUP, or when the connection to the scheduler is lost. So it ends with the launcher, also if that is killed, and with
the ssh connection that it was started over.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from typing import TYPE_CHECKING

import trio

from .._cluster import open_node
from .._errors import DiscoroError
from .._link.tls._tls import is_loopback
from .._values import Location
from ._order import JOINED, LONGEST_END, Order, decode

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

_LONGEST_ORDER = 65536
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class _Ending:
    """Ends the node in order, and by force when that takes too long."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.end_now: Callable[[], None] | None = None
        self._asked = trio.Event()

    def begin(self) -> None:
        self.scope.cancel()
        self._asked.set()

    async def limit(self) -> None:
        await self._asked.wait()
        await trio.sleep(LONGEST_END)
        logger.warning("the orderly end took more than %g s; ending at once", LONGEST_END)
        if self.end_now is not None:
            self.end_now()
        os._exit(1)


async def _run() -> None:
    async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as stdin:
        order = await _receive_order(stdin)
        if order is None:
            return
        ending = _Ending()
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


async def _until_closed(stdin: trio.abc.ReceiveStream, ending: _Ending) -> None:
    while await stdin.receive_some():
        pass
    ending.begin()


async def _until_signal(ending: _Ending) -> None:
    with trio.open_signal_receiver(*_SIGNALS) as arriving:
        async for _ in arriving:
            ending.begin()


async def _serve(order: Order, ending: _Ending) -> None:
    scheduler = Location(order.addr, order.port)
    ip_addr = order.addr if _is_loopback(order.addr) else ""  # else all addresses, so that clients can reach it
    async with open_node(
        cpus=order.cpus, discover=False, secret=order.secret, name=order.name, ip_addr=ip_addr
    ) as node:
        ending.end_now = node.end_now
        link = await node.endpoint.link_at(scheduler)
        await node.join(link)
        sys.stdout.write(f"{JOINED}{node.location}\n")
        sys.stdout.flush()
        await link.ended.wait()
        logger.warning("the connection to the scheduler at %s is lost; the node ends", scheduler)


def _is_loopback(addr: str) -> bool:
    try:
        return is_loopback(addr)
    except ValueError:  # a host name
        return addr == "localhost"


def main() -> None:
    """Run the node until it is to end."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(message)s")
    try:
        trio.run(_run)
    except* (DiscoroError, OSError, ValueError) as errors:
        for error in errors.exceptions:
            logger.error("%s", error)  # noqa: TRY400 - one line, for the launcher's log
        sys.exit(1)


if __name__ == "__main__":
    main()
