"""What notebooks show of clusters, computations, executors and futures, while they run and afterwards."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import pytest
import trio

import discoro_trio as discoro

from .notebooks import execute, html, texts

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")

CELLS = [
    """
import time
import IPython.display
import discoro_trio as discoro

shown = []
display_once, update = IPython.display.display, IPython.display.DisplayHandle.update

def noting_first(bundle, **options):
    shown.append(bundle["text/html"])
    return display_once(bundle, **options)

def noting(self, bundle, **options):
    shown.append(bundle["text/html"])
    update(self, bundle, **options)

IPython.display.display, IPython.display.DisplayHandle.update = noting_first, noting

def until(text):  # which may be there from the start
    while not any(text in one for one in shown):
        time.sleep(0.05)

def invert(number):
    time.sleep(0.02)
    return 1 / number

cluster = discoro.connect(servers=1)
cluster
""",
    "lasting = cluster.submit(time.sleep, 600)\nlasting",
    "futures = [cluster.submit(invert, number) for number in (4, 0)]\nfutures[0]",
    "futures[1]",
    "until('>running</td>')\nuntil('0/3 jobs')\nlasting.cancel()\nuntil('3/3 jobs')\nuntil('0.25')",
    "cluster.close()\nuntil('closed')",
    """
async with discoro.open_cluster(servers=1), discoro.Computation([invert], name="inversion").schedule() as computation:
    display(computation)
    await computation.run_result(invert, 1)
    until("1/1 jobs")
""",
]


def text(shown: str) -> str:
    """Give what people read."""
    return re.sub("<[^>]*>", "", shown)


def cells(shown: str) -> dict[str, str]:
    """Give the table of a display."""
    return dict(re.findall(r"<tr><th[^>]*>(.*?)</th><td[^>]*>(.*?)</td></tr>", shown))


@pytest.mark.spec("B35")
def test_a_notebook_shows_the_state_and_follows_it_until_it_is_final(tmp_path: Path) -> None:
    outputs = execute(CELLS, tmp_path)
    cluster, lasting, good, bad = (html(outputs[index][0]) for index in range(4))
    assert "<b>discoro cluster</b>" in cluster
    assert '<progress max="3" value="3">' in cluster
    assert cells(cluster) == {"state": "closed"}
    assert cells(lasting) == {"state": "cancelled"}
    assert cells(good) == {"state": "finished", "value": "0.25"}
    assert "3/3 jobs, 1 failed" in text(cluster)
    assert cells(bad)["ZeroDivisionError"] == "division by zero"
    assert "<b>discoro inversion</b>" in html(outputs[6][0])
    assert texts(outputs[5]) == []


async def test_the_html_of_a_computation_and_an_executor_has_their_counts_and_no_markup_of_the_user() -> None:
    computation = discoro.Computation(name="<script>")
    assert "not scheduled" in computation._repr_html_()
    async with discoro.open_cluster(servers=1), computation.schedule():
        await computation.run_result(abs, -1)
        shown = computation._repr_html_()
        assert "&lt;script&gt;" in shown
        assert cells(shown)["servers"] == "1"
        assert "1/1 jobs" in shown
        with pytest.raises(ValueError, match="invalid literal"):
            await computation.run_result(int, "x")
        assert "2/2 jobs, 1 failed" in text(computation._repr_html_())
        assert computation.statistics().failed == 1
        with pytest.raises(NotImplementedError):
            computation._ipython_display_()

    def executor() -> None:
        with discoro.Executor(servers=1) as opened:
            error = opened.submit(int, "<b>")
            assert "&lt;b&gt;" in (str(error.exception()) and error._repr_html_())
            assert "1/1 jobs, 1 failed" in text(opened._repr_html_())
        assert cells(opened._repr_html_()) == {"state": "closed"}
        assert "1/1 jobs, 1 failed" in text(opened._repr_html_())

    await trio.to_thread.run_sync(executor)
