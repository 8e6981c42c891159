"""Frames that depend on each other arrive in order whatever their sizes and routes: over the connection or shared."""

from __future__ import annotations

import pickle
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from discoro_trio._link.shared_memory import _pool, _sharing
from discoro_trio._link.shared_memory._pool import LEAST
from discoro_trio._process import Call, Ending
from discoro_trio._process.execution import _definitions
from discoro_trio._wire import Control
from discoro_trio._wire._frames import LARGE
from discoro_trio._wire._outbox import PART_SIZE

from .worlds import open_processes

if TYPE_CHECKING:
    from discoro_trio._process import Coro, Process, Submission
    from discoro_trio._process.execution._submissions import Host


class Noted(Control, frozen=True):
    """A notice of some size."""

    number: int
    data: bytes


class Buffer:
    """Data that leaves the pickle if it is large."""

    def __init__(self, data: Any) -> None:
        self.data = bytes(data)

    def __len__(self) -> int:
        return len(self.data)

    def __reduce_ex__(self, _protocol: Any) -> tuple[object, ...]:
        return Buffer, (pickle.PickleBuffer(self.data),)


async def sizes_of(state: Any, argument: Any, result: int) -> tuple[int, int, bytes]:
    return len(state), len(argument), bytes(result)


async def wait(_state: Any, _argument: Any) -> None:
    await trio.sleep_forever()


async def collect(count: int, *, coro: Coro[Any]) -> list[tuple[int, int]]:
    messages = [await coro.receive() for _ in range(count)]
    return [(number, len(data)) for number, data in messages]


THRESHOLDS = (LARGE, PART_SIZE, LEAST)
sizes = st.one_of(
    st.integers(0, 300),
    st.builds(lambda size, more: size + more, st.sampled_from(THRESHOLDS), st.integers(-300, 300)),
    st.just(3 * LEAST),
)
data = st.tuples(st.sampled_from([bytes, bytearray, Buffer]), sizes)  # made later: examples must be short to print
steps = st.one_of(
    st.tuples(st.just("run"), data, data, sizes),
    st.tuples(st.just("cancel"), data, data),
    st.tuples(st.just("notice"), sizes),
    st.tuples(st.just("talk"), st.lists(data, max_size=4)),
)


def made(kind_and_size: tuple[type[Any], int]) -> Any:
    kind, size = kind_and_size
    return kind(bytes(size))


class Scenario:
    """What one process does at another, all at once."""

    def __init__(self, client: Process, host: Host, nursery: trio.Nursery) -> None:
        self.client = client
        self.host = host
        self.nursery = nursery
        self.expected: list[tuple[Submission, object]] = []
        self.noted: list[int] = []

    def take(self, step: tuple[Any, ...]) -> None:
        kind, *rest = step
        if kind == "run":
            state, argument, result = made(rest[0]), made(rest[1]), rest[2]
            call = Call(partial(sizes_of, state), (argument, result), {}, None)
            self.expected.append((self.host.start(call), (len(state), len(argument), bytes(result))))
        elif kind == "cancel":
            state, argument = map(made, rest)
            started = self.host.start(Call(partial(wait, state), (argument,), {}, None))
            self.host.cancel(started, "not wanted")
            self.expected.append((started, Ending.CANCELLED))
        elif kind == "notice":
            (size,) = rest
            self.host.link.notify(Noted(len(self.noted), bytes(size)))
            self.noted.append(len(self.noted))
        else:
            messages = [made(one) for one in rest[0]]
            started = self.host.start(Call(collect, (len(messages),), {}, None))
            self.expected.append((started, [(number, len(one)) for number, one in enumerate(messages)]))
            coro = self.client.handle_to(started, self.host.link.peer.location, self.client.realm)
            self.nursery.start_soon(self.talk, coro, messages)

    @staticmethod
    async def talk(coro: Coro[Any], messages: list[Any]) -> None:
        for numbered in enumerate(messages):
            await coro.send(numbered)


async def play(script: list[tuple[Any, ...]]) -> None:
    async with open_processes(2) as (client, server), trio.open_nursery() as nursery:
        server.runner.open, server.runner.nursery = True, nursery
        arrived: list[int] = []
        server.endpoint.services.on_notice(Noted, lambda _link, noted: arrived.append(noted.number))
        link = await client.endpoint.link_at(server.endpoint.location, client.realm)
        with client.entered():
            scenario = Scenario(client, await client.starts.host(link), nursery)
            for step in script:
                scenario.take(step)
            for started, expected in scenario.expected:
                await started.until_ended()
                assert started.outcome is not None
                if expected is Ending.CANCELLED:
                    assert started.outcome.ending is Ending.CANCELLED
                else:
                    assert started.outcome.value() == expected
        peer = server.endpoint.links[client.id]
        link.notify(Noted(len(scenario.noted), bytes(3 * LEAST)))
        link.close("all is sent")
        await peer.ended.wait()
        assert arrived == [*scenario.noted, len(scenario.noted)]
        assert peer.error is None
        nursery.cancel_scope.cancel()


@pytest.mark.fault("F34")
@pytest.mark.parametrize("route", ["connection", "shared memory", "both"])
@given(script=st.lists(steps, min_size=1, max_size=12))
@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_what_depends_on_each_other_arrives_in_order(route: str, script: list[tuple[Any, ...]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_definitions, "MOST_DEFINITIONS", 2)  # so that definitions are taken back, too
        if route == "connection":
            patch.setattr(_pool, "AVAILABLE", False)
        elif route == "both":  # what finds no room in shared memory goes over the connection
            patch.setattr(_pool, "POOL_SIZE", 2 * LEAST)
            pool = partial(_pool.Pool, size=2 * LEAST)
            patch.setattr(_sharing, "Pool", pool)
        trio.run(play, script)
