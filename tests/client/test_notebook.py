"""A cluster in a notebook: what its cells define, cells that await, and blocks that stay open from cell to cell."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from .notebooks import execute, texts

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")


@pytest.mark.spec("S42", "S44", "S46")
def test_functions_and_classes_of_a_notebook_are_shipped(tmp_path: Path) -> None:
    cells = [
        """
import trio
import discoro_trio as discoro
""",
        """
class Point:
    def __init__(self, x):
        self.x = x

async def move(point, *, coro):
    assert isinstance(point, Point)
    return Point(point.x + 1)

def double(number):
    return 2 * number
""",
        """
async def main():
    async with discoro.open_cluster(servers=1):
        async with discoro.Computation([Point, move, double]).schedule() as computation:
            moved = await computation.run_result(move, Point(1))
            listed = await computation.run_result(double, 21)
            unlisted = await computation.run_result(lambda: "from a lambda")
            return isinstance(moved, Point), moved.x, listed, unlisted

print(trio.run(main))
""",
    ]
    assert texts(execute(cells, tmp_path)[-1]) == ["(True, 2, 42, 'from a lambda')\n"]


ONE_CELL = """
import trio
import discoro_trio as discoro

def double(number):
    return 2 * number

async with discoro.open_cluster(servers=1), discoro.Computation([double]).schedule() as computation:
    await trio.sleep(0.01)
    print(await computation.run_result(double, 4))
    async with computation.map(double, range(3)) as results:
        print([value async for value in results])
"""


@pytest.mark.spec("B35")
def test_a_cell_of_an_asyncio_kernel_opens_a_cluster_at_top_level_and_the_next_uses_asyncio(tmp_path: Path) -> None:
    mailbox = "async with discoro.open_coro() as coro:\n    await coro.send(3)\n    print(await coro.receive())"
    asyncio = "import asyncio\nprint(await asyncio.sleep(0.01, 'asyncio'))"
    outputs = execute([ONE_CELL, ONE_CELL, mailbox, asyncio], tmp_path)
    printed = ["".join(texts(output)) for output in outputs]
    assert printed == ["8\n[0, 2, 4]\n", "8\n[0, 2, 4]\n", "3\n", "asyncio\n"]


OPEN = """
import os, signal, threading, time
import trio
import discoro_trio as discoro

def double(number):
    return 2 * number

async def wait(*, coro):
    try:
        await trio.sleep_forever()
    finally:
        print("cleaned up")

def interrupt():
    threading.Timer(1, os.kill, [os.getpid(), signal.SIGINT]).start()

cluster = discoro.open_cluster(servers=2)
scheduler = await cluster.__aenter__()
"""

SCHEDULE = """
block = discoro.Computation([double, wait]).schedule()
computation = await block.__aenter__()
lasting = await computation.run(wait)
"""

OVER_CELLS = [
    "time.sleep(0.5)",
    "interrupt()\nawait computation.run_result(wait)",
    """
interrupt()
async with computation.open_nursery() as nursery:
    nursery.start_soon(wait)
""",
    """
while computation.statistics().running > 1:
    await trio.sleep(0.01)
async with computation.map(double, range(3)) as results:
    print([value async for value in results], computation.statistics().servers_lost)
""",
]

CLOSE = """
await block.__aexit__(None, None, None)
await cluster.__aexit__(None, None, None)
print("closed")
"""


@pytest.mark.spec("B20", "B35")
@pytest.mark.parametrize("kernel", ["asyncio", "trio"])
def test_a_cluster_lives_over_cells_and_ctrl_c_cancels_the_jobs_of_one_cell(kernel: str, tmp_path: Path) -> None:
    before = [] if kernel == "asyncio" else ["%autoawait trio", "import discoro_trio"]
    cells = [*before, OPEN, SCHEDULE, *OVER_CELLS]
    if kernel == "trio":
        cells.append(CLOSE)
    first = len(before)
    outputs = execute(cells, tmp_path, failing={first + 3, first + 4})
    assert ("run in Trio from now on" in "".join(texts(outputs[first]))) == (kernel == "asyncio")
    assert texts(outputs[first + 3])[-1] == "KeyboardInterrupt"
    assert "KeyboardInterrupt" in "".join(texts(outputs[first + 4]))
    assert texts(outputs[first + 5]) == ["[0, 2, 4] 0\n"]
    if kernel == "trio":
        assert texts(outputs[-1])[-1] == "closed\n"
    # A cluster that is left open is closed with the kernel.
    assert not [name for name in os.listdir(tmp_path / "tmp") if name.startswith("discoro")]  # noqa: PTH208


def test_a_cell_of_ipython_in_a_terminal_opens_a_cluster_at_top_level(tmp_path: Path) -> None:
    script = tmp_path / "cell.ipy"
    script.write_text(ONE_CELL, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "IPython", "--no-banner", "--colors=NoColor", script],
        capture_output=True,
        text=True,
        env={**os.environ, "IPYTHONDIR": str(tmp_path), "HOME": str(tmp_path)},
        check=False,
        timeout=200,
    )
    assert done.stdout == "8\n[0, 2, 4]\n", done.stderr


def test_without_a_notebook_the_error_says_which_loop_is_needed(tmp_path: Path) -> None:
    script = "import asyncio\nimport discoro_trio\nasyncio.run(discoro_trio.open_cluster().__aenter__())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert "RuntimeError: this needs Trio's loop, and none runs here" in done.stderr


PROGRESS = """
import trio
import discoro_trio as discoro

def job(number):
    print("printed", number)
    return 1 // number

async with discoro.open_cluster(servers=1), discoro.Computation([job]).schedule() as computation:
    async with computation.map(job, range(4), progress=True, errors="skip") as results:
        print([value async for value in results])
"""


@pytest.mark.spec("B32", "B35")
def test_progress_is_one_line_of_its_cell_beside_the_output(tmp_path: Path) -> None:
    cell = execute([PROGRESS], tmp_path)[-1]
    lines = ["".join(one["data"]["text/plain"]) for one in cell if one["output_type"] == "display_data"]
    assert len(lines) == 1, "the line is updated, not repeated"
    assert lines[0].startswith("job: 4/4 (100%) done, 1 failed, ")
    text = "".join(texts(cell))
    for number in range(4):
        assert f"job] printed {number}\n" in text
    assert "[1, 0, 0]\n" in text
