"""A server that is asked to close because it is idle: it decides, and then takes no more coroutines."""

from __future__ import annotations

import os
from typing import Any, cast

import pytest
import trio

from discoro_trio._cluster import messages
from discoro_trio._cluster.server._server import ServerProgram
from discoro_trio._link import Done

from ...process.worlds import open_process


@pytest.mark.spec("S39", "B26")
async def test_a_server_where_a_coroutine_runs_stays_open_and_an_idle_one_takes_nothing_more() -> None:
    async with open_process() as process, trio.open_nursery() as nursery:
        with open(os.devnull, "wb") as tail:  # noqa: ASYNC230, PTH123 - nothing waits for it
            server = ServerProgram(process.endpoint, process, nursery, tail.fileno())
            runner = process.runner
            runner.open = True
            link: Any = object()
            guest: Any = type("Guest", (), {"running": {1: object()}, "ready": {}})()
            runner._guests[link] = guest
            assert isinstance(await server._close_if_idle(link, messages.CloseIfIdle()), messages.StillBusy)
            assert (runner.open, runner.closing) == (True, False)
            guest.running.clear()
            guest.ready[1] = object()  # an outcome that its starter has not fetched
            assert isinstance(await server._close_if_idle(link, messages.CloseIfIdle()), messages.StillBusy)
            guest.ready.clear()
            assert isinstance(await server._close_if_idle(link, messages.CloseIfIdle()), Done)
            assert (runner.open, runner.closing) == (False, True)
            cast("dict[Any, Any]", runner._guests).clear()
