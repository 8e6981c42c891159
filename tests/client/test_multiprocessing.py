"""`multiprocessing` in jobs, with functions and classes of the client's program."""

from __future__ import annotations

import sys

import pytest

from tests.client.clusters import run_script

pytestmark = [pytest.mark.skipif(sys.platform != "linux", reason="servers are forked"), pytest.mark.slow]

PROGRAM = """
import concurrent.futures, multiprocessing, sys
import trio
import discoro_trio as discoro
from helper import scale

FACTOR = 3

class Point:
    def __init__(self, x): self.x = x

class Wrong(Exception):
    pass

def moved(point, by=1):
    if not isinstance(point, Point): raise TypeError(type(point))
    if point.x < 0: raise Wrong("negative")
    return Point(scale(point.x) * FACTOR + by)

def job(method):
    context = multiprocessing.get_context(method)
    with context.Pool(2) as pool:
        points = pool.map(moved, [Point(1), Point(2)])
        try:
            pool.apply(moved, (Point(-1),))
        except Wrong as error:
            text = str(error)
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as executor:
        points.append(executor.submit(moved, Point(3), by=0).result())
    process = context.Process(target=moved, args=(Point(1),))
    process.start()
    process.join()
    return [point.x for point in points], all(type(point) is Point for point in points), text, process.exitcode

async def main():
    async with discoro.open_cluster(servers=1):
        async with discoro.Computation([job, moved, Point, Wrong, scale]).schedule() as computation:
            found = await computation.run_result(job, sys.argv[1])
            assert found == ([61, 121, 180], True, "negative", 0), found
    print("ok")

if __name__ == "__main__":
    trio.run(main)
"""
HELPER = "def scale(x):\n    return x * 20\n"


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
async def test_child_processes_have_the_functions_and_classes_of_the_client(
    tmp_path_factory: pytest.TempPathFactory, method: str
) -> None:
    folder = tmp_path_factory.mktemp("mp")  # short: multiprocessing's own sockets lie below it
    (folder / "helper.py").write_text(HELPER, encoding="utf-8")
    assert await run_script(PROGRAM, folder, method, seconds=60) == "ok\n"
