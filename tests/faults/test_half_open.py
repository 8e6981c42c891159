"""Hosts that vanish without a word, and hosts whose programs just do not answer."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from tests._network import cut, heal, open_network

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests._network import Host, Network, Program

pytestmark = [pytest.mark.network, pytest.mark.slow]


@pytest.fixture
def network() -> Iterator[Network]:
    with open_network() as opened:
        yield opened


ENDPOINT = """
    import sys, time, trio
    from discoro_trio._config import config
    from discoro_trio._values import Location
    from discoro_trio._link import Done, serve_endpoint
    from discoro_trio._wire import Control, Credential

    config.MinPulseInterval = 1.0
    here, *there = sys.argv[1:]

    class Hello(Control, frozen=True):
        text: bytes

    async def main():
        async with serve_endpoint(bind=here, ports=[5000]) as endpoint:
            endpoint.credentials[b""] = Credential(b"", b"k" * 32)
            endpoint.services.on_notice(Hello, lambda link, hello: None)
            made = trio.Event()
            endpoint.services.links_made.append(lambda link: made.set())
            print("listening")
            if there:
                await endpoint.link_at(Location(there[0], 5000))
            await made.wait()
            (link,) = endpoint.links.values()
            print("linked")
            what = await trio.to_thread.run_sync(sys.stdin.readline)
            if what == "send\\n":
                link.notify(Hello(b"x" * 1000))
            if what == "block\\n":
                time.sleep(7)
                link.notify(Hello(b"x"))
                print("unblocked")
                return
            began = trio.current_time()
            await link.ended.wait()
            print(trio.current_time() - began, link.error)

    trio.run(main)
"""


@asynccontextmanager
async def linked(one: Host, two: Host) -> AsyncIterator[tuple[Program, Program]]:
    """Run an endpoint at each host, the second of which dials the first."""
    async with one.running(ENDPOINT, one.address) as first:
        assert await first.line() == "listening"
        async with two.running(ENDPOINT, two.address, one.address) as second:
            assert await second.line() == "listening"
            for program in (first, second):
                assert await program.line() == "linked"
            yield first, second


@pytest.mark.fault("F10")
@pytest.mark.parametrize("word", ["wait", "send"], ids=["idle", "with data under way"])
async def test_a_peer_whose_host_vanishes_is_given_up_after_5_pulses_and_not_before(
    network: Network, word: str
) -> None:
    one, two = network.add_lan().add_hosts(2)
    async with linked(one, two) as (first, second):
        cut(one, two)
        for program in (first, second):
            await program.say(word)
        for program in (first, second):
            seconds, _, reason = (await program.line()).partition(" ")
            # The last acknowledgement may be one idle pulse older than the cut.
            assert 3.5 <= float(seconds) <= 7.0
            assert reason == "the host of the peer has been silent for 5 s"
        heal(one, two)


@pytest.mark.fault("F10", "F26")
async def test_a_peer_whose_thread_is_blocked_for_7_pulses_keeps_its_connection(network: Network) -> None:
    one, two = network.add_lan().add_hosts(2)
    async with linked(one, two) as (first, second):
        await second.say("block")
        await first.say("wait")
        assert await second.line() == "unblocked"
        seconds, _, _ = (await first.line()).partition(" ")
        assert float(seconds) > 6.5
