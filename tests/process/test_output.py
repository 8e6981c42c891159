"""The buffer of what a server prints: its bound, who waits for it, and what is left out."""

# ruff: noqa: T201 - printing is what this is about

from __future__ import annotations

import logging
import os
import sys
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest
import trio
import trio.testing

from discoro_trio import config
from discoro_trio._process import output

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from discoro_trio._link import Link
    from discoro_trio._process import Process

CLIENT = b"c" * 16


class FakeLink:
    """Takes frames, unless the test says that it is full."""

    def __init__(self) -> None:
        self.peer = self
        self.process_id = CLIENT
        self.lost = False
        self.full = False
        self.has_room = trio.Event()
        self.frames: list[tuple[int, int, bytes]] = []
        self.ended: list[object] = []

    async def room(self) -> None:
        while self.full:
            await self.has_room.wait()

    def send(self, _kind: int, target: int, body: bytes, flags: int, *, keys: tuple[int, ...]) -> None:
        assert keys == (~target,)
        self.frames.append((flags, target, body))

    async def request(self, message: object) -> None:
        self.ended.append(message)

    def text(self) -> str:
        decoder = msgspec.msgpack.Decoder(output.Written)
        return b"".join(decoder.decode(body).data for flags, _, body in self.frames if flags != output.LOG).decode()


class FakeProcess:
    """Has only what an `Output` asks for."""

    def __init__(self) -> None:
        self.endpoint = self.services = self
        self.show: Any = None

    def on_notice(self, _message: object, handler: object, **_options: object) -> None:
        self.show = handler


@asynccontextmanager
async def open_output(limit: int = 1000) -> AsyncIterator[tuple[output.Output, FakeLink]]:
    """Give the output of this process, with a link that wants it."""
    before, config.output_backlog = config.output_backlog, limit
    process, link = FakeProcess(), FakeLink()
    read, write = os.pipe()
    try:
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                here = output.Output(cast("Process", process), CLIENT, write)
                nursery.start_soon(here.run)
                process.show(link, output.ShowOutput({}))
                yield here, link
                nursery.cancel_scope.cancel()
    finally:
        config.output_backlog = before
        os.close(read)
        os.close(write)


async def test_what_is_printed_goes_out_when_the_task_gives_way_in_one_piece() -> None:
    async with open_output() as (_, link):
        print("one", 2)
        print("three")
        assert not link.frames
        await trio.testing.wait_all_tasks_blocked()
        assert len(link.frames) == 1
    assert link.text() == "one 2\nthree\n"


async def test_afterwards_the_streams_are_what_they_were() -> None:
    before = sys.stdout, sys.stderr, list(logging.getLogger().handlers)
    async with open_output():
        assert sys.stdout is not before[0]
    assert (sys.stdout, sys.stderr, logging.getLogger().handlers) == before


@pytest.mark.spec("B13")
async def test_what_trios_thread_prints_beyond_the_bound_is_left_out_and_counted() -> None:
    async with open_output(limit=1000) as (_, link):
        link.full = True
        for number in range(300):
            print(f"{number:9d}")
        assert not link.frames
        link.full = False
        link.has_room.set()
        await trio.testing.wait_all_tasks_blocked()
        print("the end")
        await trio.testing.wait_all_tasks_blocked()
    lines = link.text().splitlines()
    kept = len(lines) - 2
    assert 50 < kept < 100
    assert lines[:kept] == [f"{number:9d}" for number in range(kept)]
    text = "lines of output were left out: the client was too far behind"
    assert lines[kept:] == [f"[{300 - kept} {text}]", "the end"]


@pytest.mark.spec("B13")
async def test_what_another_thread_prints_beyond_the_bound_waits_and_nothing_is_left_out() -> None:
    def print_lines() -> None:
        for number in range(1000):
            print(f"{number:9d}")

    async with open_output(limit=1000) as (_, link):
        link.full = True
        thread = threading.Thread(target=print_lines)
        thread.start()
        while not link.text():
            await trio.lowlevel.checkpoint()
            link.full = False
            link.has_room.set()
        await trio.to_thread.run_sync(thread.join)
        await trio.testing.wait_all_tasks_blocked()
    assert link.text() == "".join(f"{number:9d}\n" for number in range(1000))


async def test_a_thread_that_waits_goes_on_when_nobody_is_there_any_more() -> None:
    async with open_output(limit=10) as (_, link):
        link.full = True
        thread = threading.Thread(target=lambda: [print("line", number) for number in range(10)])
        thread.start()
        await trio.testing.wait_all_tasks_blocked()
    await trio.to_thread.run_sync(thread.join)


async def test_one_piece_that_is_larger_than_the_bound_is_taken() -> None:
    async with open_output(limit=10) as (here, link):
        print("x" * 1000, end="")
        await here.finish()
        assert link.text() == "x" * 1000
        assert link.ended == [output.OutputEnds()]


async def test_standard_error_goes_to_the_tail_at_once_even_when_that_is_full() -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    async with trio.open_nursery() as nursery:
        here = output.Output(cast("Process", FakeProcess()), CLIENT, write)
        nursery.start_soon(here.run)
        sys.stderr.write("half a line")
        assert os.read(read, 100) == b"half a line"
        for _ in range(20):
            sys.stderr.write("x" * 10_000)
        nursery.cancel_scope.cancel()
    os.close(read)
    os.close(write)


async def test_a_record_whose_arguments_do_not_fit_breaks_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    async with open_output() as (_, link):
        (handler,) = [one for one in logging.getLogger().handlers if isinstance(one, output._Handler)]
        handler.handle(logging.makeLogRecord({"msg": "%d", "args": ("no number",)}))
        await trio.testing.wait_all_tasks_blocked()
        assert "Logging error" in link.text()


async def test_streams_have_what_programs_ask_of_them() -> None:
    async with open_output():
        found = [(stream.fileno(), stream.isatty(), stream.encoding) for stream in (sys.stdout, sys.stderr)]
        names = [sys.stdout.name, sys.stderr.name]
        sys.stdout.reconfigure(encoding="latin-1")  # type: ignore[union-attr]
    assert found == [(1, False, "utf-8"), (2, False, "utf-8")]
    assert names == ["<stdout>", "<stderr>"]


async def test_a_stranger_who_wants_the_output_does_not_get_it() -> None:
    process, stranger = FakeProcess(), FakeLink()
    stranger.process_id = b"s" * 16
    async with trio.open_nursery() as nursery:
        here = output.Output(cast("Process", process), CLIENT, 2)
        nursery.start_soon(here.run)
        process.show(cast("Link", stranger), output.ShowOutput({}))
        print("secret")
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert not stranger.frames
