"""A shared value between hosts: its client sends it once, however many nodes there are."""

from __future__ import annotations

import json

import pytest

from .._network import open_network
from .test_clusters import nodes_at

pytestmark = [pytest.mark.network, pytest.mark.slow, pytest.mark.spec("B28")]

CLIENT = """
    import json, os, pathlib, sys, time, trio
    import numpy as np
    import discoro_trio as discoro

    def total(shared):
        return int(shared.value.sum())

    def sent():
        return int(pathlib.Path("/sys/class/net/eth0/statistics/tx_bytes").read_text())

    async def main():
        async with discoro.open_scheduler(secret="NOBODYMAYREADTHIS"):
            async with discoro.Computation([total]).schedule() as computation:
                with trio.fail_after(60):
                    while len(await computation.nodes()) < 3:
                        await trio.sleep(0.05)
                    array = np.ones(20_000_000, dtype=np.uint8)
                    before = sent()
                    shared = await computation.share(array)
                    used = sent() - before
                    coros = await computation.run_servers(total, shared)
                    assert [await coro.result() for coro in coros] == [array.size] * len(coros)
        print(json.dumps(used / array.size))

    trio.run(main)
"""


async def test_the_client_sends_a_value_once_to_three_hosts() -> None:
    with open_network() as network:
        client, *hosts = network.add_lan().add_hosts(4)
        async with nodes_at(*hosts):
            assert json.loads(await client.run(CLIENT)) < 1.2


OF_A_JOB = """
    import trio
    import numpy as np
    import discoro_trio as discoro

    def total(shared):
        return int(shared.value.sum())

    async def share(computation):
        shared = await computation.share(np.ones(20_000_000, dtype=np.uint8))
        return shared, [await coro.result() for coro in await computation.run_servers(total, shared)]

    async def main():
        async with discoro.open_scheduler(secret="NOBODYMAYREADTHIS"):
            async with discoro.Computation([total, share]).schedule() as computation:
                with trio.fail_after(60):
                    await computation.wait_for_servers(2)
                    shared, found = await computation.run_result(share, computation)
                    assert found == [20_000_000] * 2
                    assert (await shared.get()).sum() == 20_000_000
                    await shared.release()
        print("ok")

    trio.run(main)
"""


async def test_a_job_shares_a_value_with_jobs_at_other_hosts() -> None:
    with open_network() as network:
        client, *hosts = network.add_lan().add_hosts(3)
        async with nodes_at(*hosts):
            assert await client.run(OF_A_JOB) == "ok\n"


ARRAYS = """
    import trio
    import numpy as np
    import discoro_trio as discoro

    def change(array):
        array += 1
        array[::-1].sort()
        return array

    async def main():
        async with discoro.open_scheduler(secret="NOBODYMAYREADTHIS"):
            async with discoro.Computation([change]).schedule() as computation:
                with trio.fail_after(60):
                    for size in (10, 8_000, 40_000, 140_000, 1_000_000):
                        array = np.arange(size)
                        got = await computation.run_result(change, array)
                        got += 1
                        assert (got == np.arange(size)[::-1] + 2).all(), size
                        assert (array == np.arange(size)).all()
        print("ok")

    trio.run(main)
"""


@pytest.mark.spec("B29")
async def test_arrays_from_another_host_can_be_changed_at_every_size() -> None:
    with open_network() as network:
        client, host = network.add_lan().add_hosts(2)
        async with nodes_at(host):
            assert await client.run(ARRAYS) == "ok\n"
