"""A job that runs alone on its server, as servers that ran it were lost: if it is the cause, no other goes with it.

The server takes no other coroutines meanwhile but those that are started at its very Location.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .._process import Call, Submission
    from ._server import LeasedServer
    from ._session import Session


async def start_alone(session: Session, call: Call) -> Submission:
    """Reserve a server, wait until what runs there has ended, and start a coroutine there.

    Raises:
        ComputationClosed: The computation is closed.
        DiscoroError: No server will come, since the set-up failed at all of them.

    Cancelling it gives the server back.
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
