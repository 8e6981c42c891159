"""A network that lets nothing through between client and node for a while, with and without the scheduler's."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests._network import cut, heal, open_network

from .programs import BOTH_WAYS, PULSE, SECRET, Way

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests._network import Network

pytestmark = [
    pytest.mark.network,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="servers are forked"),
]


@pytest.fixture
def network() -> Iterator[Network]:
    with open_network() as opened:
        yield opened


HEAD = f"""
import os, sys, trio
import discoro_trio as discoro

discoro.config.MinPulseInterval = {PULSE}
discoro.config.MsgTimeout = 5.0
OPTIONS = dict(ip_addr=sys.argv[1], secret={SECRET!r})
SCHEDULER = sys.argv[2]  # empty: it is discovered
"""

SCHEDULER = f"""{HEAD}
async def main():
    async with discoro.open_scheduler(shared=True, discover=not SCHEDULER, **OPTIONS) as scheduler:
        print(scheduler.location)
        await trio.sleep_forever()

trio.run(main)
"""

NODE = f"""{HEAD}
async def main():
    nodes = [SCHEDULER] if SCHEDULER else []
    async with discoro.open_node(cpus=1, discover=not SCHEDULER, nodes=nodes, **OPTIONS) as node:
        print(node.location)
        await trio.sleep_forever()

trio.run(main)
"""

CLIENT = f"""{HEAD}
async def record(*, coro):
    got = []
    while (number := await coro.receive()) is not None:
        got.append(number)
    return os.getpid(), got

async def lost(rcoro):
    began = trio.current_time()
    try:
        with trio.fail_after(30):
            while True:
                await rcoro.deliver("while it is cut")
    except (discoro.PeerDisconnected, discoro.MailboxClosed) as error:
        print("sender", trio.current_time() - began, flush=True)
    try:
        with trio.fail_after(30):
            await rcoro.result()
    except discoro.ServerLost:
        print("lost", trio.current_time() - began, flush=True)

async def main():
    async with discoro.open_endpoint(**OPTIONS):
        async with discoro.Computation([record, os]).schedule(SCHEDULER or None) as computation:
            first = await computation.run(record)
            await first.deliver(1)
            print("runs", flush=True)
            await trio.to_thread.run_sync(sys.stdin.readline)
            await lost(first)
            await trio.to_thread.run_sync(sys.stdin.readline)
            with trio.fail_after(30):
                second = await computation.run(record)
                for number in range(100):
                    await second.send(number)
                await second.send(None)
                pid, got = await second.result()
            print("again", got == list(range(100)), flush=True)
            try:
                await first.result()
            except discoro.ServerLost:
                print("still lost", flush=True)

trio.run(main)
"""


@BOTH_WAYS
@pytest.mark.fault("F09")
@pytest.mark.parametrize(
    "reached", [True, False], ids=["the scheduler reaches both", "the scheduler reaches the client"]
)
async def test_a_silent_network_is_known_after_5_pulses_and_the_node_is_used_again_when_it_is_healed(
    network: Network,
    way: Way,
    reached: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    middle, far, near = network.add_lan().add_hosts(3)
    known = way is Way.ADDRESSES
    async with middle.running(SCHEDULER, middle.address, "none yet" if known else "") as scheduler:
        location = await scheduler.line()
        place = location if known else ""
        async with far.running(NODE, far.address, place) as node, near.running(CLIENT, near.address, place) as client:
            await node.line()
            assert await client.line() == "runs"
            cut(near, far)
            if not reached:
                cut(middle, far)
            await client.say("it is cut")
            for what in ("sender", "lost"):
                found, _, seconds = (await client.line()).partition(" ")
                assert found == what
                # The last acknowledgement may be a pulse old; whether the node still speaks is waited for, too.
                assert 3 * PULSE <= float(seconds) <= 13 * PULSE
            heal(near, far)
            if not reached:
                heal(middle, far)
            await client.say("it is healed")
            assert await client.line() == "again True"
            assert await client.line() == "still lost"
