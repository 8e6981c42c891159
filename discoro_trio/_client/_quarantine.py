"""Runs a job that may crash its server alone, so other jobs are safe: earlier servers that ran it were lost.

Meanwhile the server takes no other coroutines, except those started at its own Location.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .._process import Call, Submission
    from ._server import LeasedServer
    from ._session import Session


async def start_alone(session: Session, call: Call) -> Submission:
    """Reserve a server, wait until the coroutines there have ended, and start a coroutine there.

    Raises:
        ComputationClosed: The computation is closed.
        DiscoroError: No server will come, since the set-up failed at all of them.

    Cancelling it releases the server.
    """
    while True:
        server = await _reserve(session)
        try:
            for other in list(server.host.started.values()):
                await other.until_ended()
            if not server.host.link.lost:
                session.check_open()
                started = session.start_on(server, call)
                started.then(partial(_give_back, session, server))
                return started
        except BaseException:
            _give_back(session, server)
            raise


async def _reserve(session: Session) -> LeasedServer:
    while True:
        session.check_open()
        server_id = session.load_balancer.least()
        if server_id is not None:
            session.load_balancer.reserve(server_id)
            return session.servers[server_id]
        await session.until_changed()


def _give_back(session: Session, server: LeasedServer, _started: Submission | None = None) -> None:
    if server.withdrawn or server.host.link.lost or server.server_id not in session.servers:
        return
    session.load_balancer.release(server.server_id)
    session.changed()
