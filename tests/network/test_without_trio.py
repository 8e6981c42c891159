"""Executor, blocking client, joblib and early blocks on two hosts: each finds the shared scheduler and uses both."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests._network import open_network

from .test_clusters import SCHEDULER, nodes_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests._network import Network

pytestmark = [pytest.mark.network, pytest.mark.slow]

CLIENT = """
    import json, os, socket, sys, time, trio, unittest, importlib
    os.environ["DISCORO_SECRET"] = "NOBODYMAYREADTHIS"
    import discoro_trio as discoro
    from joblib import Parallel, delayed, parallel_config
    from sklearn.datasets import make_classification
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    scheduler = sys.argv[1]

    def place(number):
        time.sleep(0.05)
        return discoro.current_coro().location.addr

    with discoro.Executor(scheduler, servers=2) as executor:
        found = {"executor": sorted(set(executor.map(place, range(20))))}
    with discoro.connect(scheduler, servers=2) as cluster:
        shared = cluster.share(list(range(10_000)))
        found["connect"] = sorted(set(cluster.map(place, range(20))))
        found["shared"] = cluster.gather([cluster.submit(lambda: shared.value[-1]) for _ in range(4)])
    samples, classes = make_classification(n_samples=100, random_state=0)
    search = GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0, 10.0]}, cv=3)
    expected = search.fit(samples, classes).cv_results_["mean_test_score"].tolist()
    with parallel_config(backend="discoro", scheduler=scheduler, servers=2):
        found["joblib"] = sorted(set(Parallel()(delayed(place)(number) for number in range(20))))
        found["same"] = search.fit(samples, classes).cv_results_["mean_test_score"].tolist() == expected

    async def main():
        async with discoro.open_coro() as client, discoro.open_channel("news"):
            async with discoro.Computation([place], status_coro=client).schedule() as computation:
                with trio.fail_after(60):
                    return await computation.run_result(place, 1)

    found["open_coro"] = trio.run(main)
    print(json.dumps(found))
"""


@pytest.fixture
def network() -> Iterator[Network]:
    with open_network() as opened:
        yield opened


async def test_all_ways_into_a_cluster_use_both_hosts(network: Network) -> None:
    one, two, master, client = network.add_lan().add_hosts(4)
    async with nodes_at(one, two), master.running(SCHEDULER):
        found = json.loads(await client.run(CLIENT, master.address))
    both = sorted([one.address, two.address])
    assert found.pop("open_coro") in both
    assert found == {"executor": both, "connect": both, "shared": [9999] * 4, "joblib": both, "same": True}
