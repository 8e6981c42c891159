"""`discoro top`: its keys, its screen, and itself on a terminal of 80 by 24."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
from rich.console import Console
from trio_websocket import wrap_client_stream

from discoro_trio import AuthenticationError, Location, PeerDisconnected
from discoro_trio._monitor import MonitorSource, Top, _top_sources
from discoro_trio._monitor._model import Model
from discoro_trio._monitor._query import read_query_untrusted
from discoro_trio._monitor._received_view import ReceivedView
from discoro_trio._monitor._screen import COLUMNS, VIEWS, Place, Screen, draw, duration
from discoro_trio._monitor._views import render
from discoro_trio._monitor._watched_view import WatchedView
from discoro_trio.testing import open_fault_proxy

from ..client.clusters import environment
from .made_up import make_model
from .served import serve

if TYPE_CHECKING:
    from pathlib import Path

NOW = 1_000_000.0
HOSTILE = "[red]\x1b[2J[link=x]"


def seen_of(screen: Screen) -> ReceivedView:
    model = make_model(NOW, nodes=30, running=30)
    model.node("10.0.0.11", name=HOSTILE, state=HOSTILE)
    watch = WatchedView(read_query_untrusted(screen.query()))
    watch.change(render(model, watch.query, NOW), NOW)
    seen = ReceivedView()
    assert seen.take(watch.full(NOW))
    return seen


def rows(*keys: str, total: int = 0, **fields: object) -> ReceivedView:
    """Give a page with rows of these ids."""
    return ReceivedView(rows=[{"id": key, **fields} for key in keys], total=total or len(keys))


def drawn(screen: Screen, seen: ReceivedView) -> list[str]:
    file = io.StringIO()
    Console(file=file, width=screen.width, height=screen.height, force_terminal=False).print(
        draw(screen, seen, url="http://x", state="live")
    )
    return file.getvalue().splitlines()


KEYS = {
    "node": "10.0.0.11",
    "server": "10.0.0.11:51350",
    "coroutine": "c000001",
}


@pytest.mark.spec("B23")
@pytest.mark.parametrize("size", [(80, 24), (100, 30), (200, 50)])
@pytest.mark.parametrize("view", list(COLUMNS))
def test_every_view_fits_its_terminal(view: str, size: tuple[int, int]) -> None:
    screen = Screen(Place(view, KEYS.get(view, "")), width=size[0], height=size[1])
    lines = drawn(screen, seen_of(screen))
    assert len(lines) <= size[1]
    assert all(len(line) <= size[0] for line in lines)
    assert "q quit  ? help" in lines[-1]
    assert "page 1/" in lines[-1]


@pytest.mark.spec("B23")
def test_a_large_terminal_shows_more() -> None:
    texts = {}
    for size in ((80, 24), (200, 50)):
        for view in ("cluster", "coroutines", "failures", "servers"):
            screen = Screen(Place(view), width=size[0], height=size[1])
            texts[view, size[0]] = "\n".join(drawn(screen, seen_of(screen)))
    assert "What changed lately" in texts["cluster", 200]
    assert "nightly render of grace@build7" in texts["cluster", 200]
    assert "14 simulate failed in 5 minutes" in texts["cluster", 200]
    assert "data/part-" in texts["coroutines", 200]
    assert "ValueError: no such block" in texts["failures", 200]
    assert 'File "/home/ada/sweep.py", line 31' in texts["failures", 200]
    assert " MiB" in texts["servers", 200]
    for more in ("What changed lately", "data/part-", 'File "/home/ada', "pid"):
        assert not any(more in text for (_, width), text in texts.items() if width == 80)


@pytest.mark.spec("B23", "B39")
def test_free_lines_of_a_small_terminal_show_all_problems_the_latest_changes_and_the_queue() -> None:
    screen = Screen()
    seen = seen_of(screen)
    del seen.rows[3:]
    lines = drawn(screen, seen)
    assert len(lines) <= 24
    text = "\n".join(lines)
    problems = [str(one["text"])[:60] for one in seen.head["verdict"]["problems"]]
    assert len(problems) > 1
    assert all(problem in text for problem in problems)
    assert "node02 " in text
    assert "What changed lately" in text
    assert "nightly render of grace@build7" in text


@pytest.mark.spec("B23")
@pytest.mark.parametrize("view", VIEWS)
def test_large_numbers_hide_neither_sums_nor_keys(view: str) -> None:
    screen = Screen(Place(view), page=5_000)
    seen = seen_of(Screen(Place(view)))
    seen.total = 99_999
    seen.head["summary"] |= {"nodes": 1_000, "servers": 2_000, "running": 999_999, "done": 12_345_678, "failed": 99_999}
    for row in seen.rows:
        large = dict.fromkeys(("submitted", "done", "running"), 12345678)
        row.update({name: value for name, value in {**large, "state": "running"}.items() if name in row})
    lines = drawn(screen, seen)
    assert "run 1000k  done 12.35M  fail 99,999" in lines[1]
    assert re.search(r"mem \d+ %$", lines[1].rstrip())
    assert "page 5000/6250" in lines[-1]
    assert view != "cluster" or any("node02 " in line and "12.35M" in line for line in lines)


def test_names_of_others_are_neither_markup_nor_control() -> None:
    screen = Screen()
    text = "\n".join(drawn(screen, seen_of(screen)))
    assert "\x1b" not in text
    assert "[red]" in text


@pytest.mark.spec("B23")
def test_keys_change_view_order_and_page() -> None:
    screen = Screen(height=18)
    assert screen.rows == 10
    page = rows(*map(str, range(10)), total=25)
    for _ in range(3):
        screen.press("pagedown", page)
    assert screen.query()["page"] == 3
    screen.press("right", page)
    assert (screen.query()["sort"], screen.page) == ("name", 1)
    screen.press("left", page)
    assert screen.query()["sort"] == "-disk"
    screen.press("r", page)
    assert screen.query()["sort"] == "disk"
    screen.press("\t", page)
    assert (screen.view, screen.sort) == ("coroutines", "")
    for key, view in zip("123456", VIEWS, strict=True):
        screen.press(key, page)
        assert screen.view == view
    assert screen.press("q", page) == "quit"
    assert screen.press("\x03", page) == "quit"


def test_the_selection_moves_over_pages_and_opens_what_is_selected() -> None:
    screen = Screen(height=11)  # three rows
    page = rows("a", "b", "c", total=5)
    for _ in range(3):
        screen.press("down", page)
    assert (screen.page, screen.row) == (2, 0)
    screen.press("up", page)
    assert (screen.page, screen.row) == (1, 2)
    screen.press("enter", page)
    assert screen.query() == {"view": "node", "key": "c", "page": 1, "size": 3, "every": 0.5}
    screen.press("enter", rows("c:1"))
    screen.press("enter", rows("coroutine"))
    assert screen.place == Place("coroutine", "coroutine")
    for place in (Place("server", "c:1"), Place("node", "c"), Place()):
        screen.press("escape", page)
        assert screen.place == place


def test_a_filter_is_typed_and_cleared() -> None:
    screen = Screen(Place("coroutines"))
    page = rows("a")
    for key in ("/", "q", "x", "backspace", "1"):
        assert screen.press(key, page) == ""
    assert "text" not in screen.query()
    assert "filter: q1" in drawn(screen, page)[-1]
    screen.press("enter", page)
    assert screen.query()["text"] == "q1"
    screen.press("/", page)
    screen.press("escape", page)
    assert "text" not in screen.query()


def test_terminating_asks_first_and_names_the_neighbours() -> None:
    screen = Screen(Place("coroutines"), width=80)
    page = rows("a", "b", name="invert", server="10.0.0.11:51350", can_end=True, neighbours=3)
    screen.press("down", page)
    screen.press("t", page)
    assert drawn(screen, page)[-1].rstrip() == (
        "y/n: terminate invert (if forced, 3 more at 10.0.0.11:51350 are lost)?"
    ), "all of it fits"
    assert screen.press("n", page) == ""
    screen.press("t", page)
    assert screen.press("y", page) == "terminate b"
    ended = rows("a", name="invert", server="", can_end=False)
    screen.press("t", ended)
    assert screen.press("y", ended) == ""
    screen.press("1", page)
    screen.press("t", page)
    assert screen.question is None


def test_help_names_every_key() -> None:
    screen = Screen()
    screen.press("?", rows())
    text = "\n".join(drawn(screen, rows()))
    for word in ("filter", "terminate", "sort", "quit", "Esc"):
        assert word in text
    screen.press("q", rows())
    assert not screen.help, "the first key closes the help"


@pytest.mark.parametrize("view", list(COLUMNS))
def test_every_order_that_keys_can_choose_is_understood(view: str) -> None:
    screen = Screen(Place(view), width=200, height=50)
    for _ in COLUMNS[view]:
        screen.press("right", rows())
        assert read_query_untrusted(screen.query()).view == view


def test_a_missed_change_is_noticed() -> None:
    seen = ReceivedView()
    assert seen.take({"type": "full", "seq": 4, "now": 1.0, "head": {}, "rows": [{"id": "a", "n": 1}], "total": 1})
    assert seen.take({"type": "change", "seq": 5, "now": 2.0, "rows": {"a": {"n": 2}}})
    assert seen.rows == [{"id": "a", "n": 2}]
    assert seen.take({"type": "beat", "seq": 5, "now": 3.0})
    assert not seen.take({"type": "change", "seq": 7, "now": 4.0})


@pytest.mark.parametrize(("seconds", "text"), [(0.0, "0.0s"), (59.94, "59.9s"), (61, "1m01s"), (7260, "2h01m")])
def test_spans_of_time_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text


async def test_nobody_there_and_a_missing_token_are_said() -> None:
    with pytest.raises(PeerDisconnected, match=r"http://127\.0\.0\.1:1 cannot be reached"):
        await Top(MonitorSource("http://127.0.0.1:1/", ""), Console(file=io.StringIO())).once()
    async with serve(make_model(NOW, nodes=1, running=0), open_to_all=False) as served:
        with pytest.raises(AuthenticationError, match="--token"):
            await Top(MonitorSource(served.url, "wrong-token"), Console(file=io.StringIO())).once()


async def test_a_silent_monitor_is_asked_and_one_that_is_cut_off_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_top_sources, "_SILENCE", 0.3)
    async with (
        serve(Model()) as served,
        open_fault_proxy(Location("127.0.0.1", served.port)) as proxy,
        await trio.open_tcp_stream("127.0.0.1", proxy.location.port) as stream,
        trio.open_nursery() as nursery,
    ):
        socket = await wrap_client_stream(nursery, stream, "127.0.0.1", "/api/v1/stream")
        with trio.move_on_after(1) as waiting:
            await _top_sources._next_message(socket)
        assert waiting.cancelled_caught, "it is there, if silent"
        proxy.stall()
        with trio.fail_after(60), pytest.raises(trio.TooSlowError):
            await _top_sources._next_message(socket)
        nursery.cancel_scope.cancel()


def on_terminal(url: str, folder: Path) -> str:
    """Run it on a terminal, press some keys, and give what it wrote."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [sys.executable, "-m", "discoro_trio", "top", url]
    variables = {**environment(folder), "TERM": "xterm"}
    program = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=variables)
    os.close(slave)
    written = b""
    keys = [b"2", b"\x1b[C", b"q"]
    until = time.monotonic() + 30
    try:
        while time.monotonic() < until:
            try:
                written += os.read(master, 65536)
            except OSError:
                break  # it has ended
            expected = [b"node01", b"coroutines 40", b"\xe2\x96\xb2"][3 - len(keys)] if keys else b""
            if keys and expected in written:
                os.write(master, keys.pop(0))
        status = program.wait(5)
    finally:
        program.kill()
        program.wait()
        os.close(master)
    assert status == 0
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written.decode(errors="replace"))


@pytest.mark.spec("B23")
@pytest.mark.slow
async def test_on_a_terminal_keys_work_and_q_ends_it(tmp_path: Path) -> None:
    async with serve(make_model(time.time(), nodes=3, running=40)) as served:
        text = await trio.to_thread.run_sync(partial(on_terminal, served.url, tmp_path))
    assert "discoro top" in text
    assert "coroutines 40" in text
