"""A node knows which of its servers do not answer, and for how long."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from discoro_trio import PeerDisconnected, config
from discoro_trio._cluster._messages import Blocked
from discoro_trio._cluster.node._unresponsive import Checkups
from discoro_trio._link import Done

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class MadeUpServer:
    """A server whose thread the test blocks and frees."""

    def __init__(self, name: bytes) -> None:
        self.process_id = name
        self.link = SimpleNamespace(peer=SimpleNamespace(name="server"))
        self.free = trio.Event()
        self.free.set()
        self.gone = False

    async def request(self, _message: object) -> Done:
        await self.free.wait()
        if self.gone:
            message = "it is gone"
            raise PeerDisconnected(message)
        return Done()


@pytest.fixture
async def checked(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Checkups, MadeUpServer]]:
    monkeypatch.setattr(config, "MinPulseInterval", 2.0)
    servers: Any = [MadeUpServer(b"one"), MadeUpServer(b"two")]

    async def dump(server: Any) -> list[str]:
        return ["a.py:3 in invert"]

    checkups = Checkups(lambda: servers, dump)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(checkups.run)
        yield checkups, servers[1]
        nursery.cancel_scope.cancel()


async def test_who_does_not_answer_is_told_with_the_time_until_it_answers(
    checked: tuple[Checkups, MadeUpServer], autojump_clock: trio.testing.MockClock
) -> None:
    checkups, server = checked
    await trio.sleep(10.5)
    assert checkups.blocked() == {}
    server.free = trio.Event()
    await trio.sleep(5)
    assert checkups.blocked() == {b"two": Blocked(4.0, ["a.py:3 in invert"])}
    server.free.set()
    await trio.sleep(0.1)
    assert checkups.blocked() == {}


async def test_a_server_that_is_gone_is_told_no_more(
    checked: tuple[Checkups, MadeUpServer], autojump_clock: trio.testing.MockClock
) -> None:
    checkups, server = checked
    server.free = trio.Event()
    await trio.sleep(2.5)
    assert checkups.blocked() == {b"two": Blocked(1.0, ["a.py:3 in invert"])}
    server.gone = True
    server.free.set()
    await trio.sleep(0.1)
    assert checkups.blocked() == {}


async def test_a_node_that_stood_still_does_not_hold_it_against_its_servers(
    checked: tuple[Checkups, MadeUpServer], mock_clock: trio.testing.MockClock
) -> None:
    checkups, server = checked
    server.free = trio.Event()
    await trio.testing.wait_all_tasks_blocked()
    mock_clock.jump(1)
    await trio.testing.wait_all_tasks_blocked()
    mock_clock.jump(3600)
    await trio.testing.wait_all_tasks_blocked()
    assert checkups.blocked() == {b"two": Blocked(1.0, ["a.py:3 in invert"])}
