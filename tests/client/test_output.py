"""What remote coroutines print and log, seen at the client."""

# ruff: noqa: T201 - printing is what the jobs are here for

from __future__ import annotations

import logging
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import trio

import discoro_trio as discoro
from discoro_trio._client._output import Display
from discoro_trio._link import Link
from discoro_trio._process import current_process

from .clusters import open_computation

if TYPE_CHECKING:
    from discoro_trio._client._output import Line

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="servers are forked"),
    pytest.mark.spec("B13"),
]

logger = logging.getLogger("tests.of.output")


async def say(text: str) -> str:
    print(text)
    return text


def say_in_thread(text: str) -> None:
    print(text)


async def say_in_pieces() -> None:
    print("one ", end="")
    sys.stderr.write("an error")
    await trio.lowlevel.checkpoint()
    print("line", end="", flush=True)


async def say_junk() -> None:
    sys.stdout.buffer.write(b"\xff\x00junk\r\n")
    print("\udc80")
    await trio.lowlevel.checkpoint()


async def say_beside_python() -> None:
    os.write(1, b"to the descriptor\n\xff half")
    await trio.run_process(["sh", "-c", "echo from a program; echo its errors >&2"])
    await trio.to_thread.run_sync(lambda: subprocess.run(["echo", "by sys.stdout"], stdout=sys.stdout, check=True))
    child = os.fork()
    if child == 0:
        print("from a fork")
        os._exit(0)
    os.waitpid(child, 0)  # noqa: ASYNC222 (it ends at once)


async def say_much(lines: int) -> int:
    for number in range(lines):
        print("line", number)
    return lines


def count_by_program(lines: int) -> None:
    subprocess.run(["seq", str(lines)], check=True)


def say_set_up() -> None:
    print("set up")


async def say_at_the_end() -> None:
    try:
        await trio.sleep_forever()
    finally:
        print("cleaned up")


async def say_to_both_and_die() -> None:
    print("to nobody")
    sys.stderr.write("the last words\n")
    os._exit(1)


async def log_much() -> None:
    logger.debug("details")
    logger.info("%d of %d", 1, 2)
    try:
        int("x")
    except ValueError:
        logger.exception("bad number")
    logging.warning("of the root")  # noqa: LOG015 (users do that)
    await trio.lowlevel.checkpoint()


async def test_lines_show_with_the_names_of_server_and_coroutine_before_the_result_is_there(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with open_computation([say], servers=1) as computation:
        (server,) = await computation.servers()
        for number in range(20):
            await computation.run_result(say, f"text {number}")
            assert capsys.readouterr() == (f"[server {server} say] text {number}\n", "")
        await computation.run_result(say_in_thread, "plain")
        assert capsys.readouterr().out == f"[server {server} say_in_thread] plain\n"


async def test_lines_of_coroutines_that_write_at_once_are_not_mixed(capsys: pytest.CaptureFixture[str]) -> None:
    async with open_computation([say_in_pieces], servers=1) as computation, trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(computation.run_result, say_in_pieces)
    out, err = capsys.readouterr()
    assert [line.partition("] ")[2] for line in out.splitlines()] == ["one line"] * 10
    assert [line.partition("] ")[2] for line in err.splitlines()] == ["an error"] * 10


async def test_bytes_that_are_no_text_show_as_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    async with open_computation([say_junk], servers=1) as computation:
        await computation.run_result(say_junk)
    texts = [line.partition("] ")[2] for line in capsys.readouterr().out.splitlines()]
    assert texts == ["\\xff\0junk", "\\udc80"]


async def test_what_programs_and_descriptors_get_shows_with_the_servers_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with open_computation([say_beside_python], servers=1) as computation:
        (server,) = await computation.servers()
        await computation.run_result(say_beside_python)
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        f"[server {server}] {text}"
        for text in ("to the descriptor", "\\xff halffrom a program", "by sys.stdout", "from a fork")
    ]
    assert err == f"[server {server}] its errors\n"


async def test_a_job_that_prints_100_000_lines_neither_stalls_nor_loses_its_result(
    capsys: pytest.CaptureFixture[str],
) -> None:
    count = 100_000
    async with open_computation([say_much], servers=1) as computation:
        (server,) = await computation.servers()
        assert await computation.run_result(say_much, count) == count
    assert capsys.readouterr().out == "".join(f"[server {server} say_much] line {number}\n" for number in range(count))


async def test_a_program_that_writes_100_000_lines_loses_none(capsys: pytest.CaptureFixture[str]) -> None:
    count = 100_000
    async with open_computation([count_by_program], servers=1) as computation:
        (server,) = await computation.servers()
        await computation.run_result(count_by_program, count)
    assert capsys.readouterr().out == "".join(f"[server {server}] {number + 1}\n" for number in range(count))


async def test_the_output_of_a_program_is_held_while_the_link_to_the_client_is_full(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = 0

    def seems_full(_link: Link) -> bool:
        nonlocal held
        held += 1
        return True

    # In this process the node asks, and then waits for room, of which there is enough.
    monkeypatch.setattr(Link, "full", property(seems_full))
    async with open_computation([count_by_program], servers=1) as computation:
        await computation.run_result(count_by_program, 20_000)
    assert held > 1
    assert [line.rpartition(" ")[2] for line in capsys.readouterr().out.splitlines()] == [
        str(number + 1) for number in range(20_000)
    ]


async def test_what_a_set_up_prints_shows_too(capsys: pytest.CaptureFixture[str]) -> None:
    async with open_computation(servers=1, server_setup=say_set_up) as computation:
        (server,) = await computation.servers()
        await computation.run_result(say, "ready")
    assert capsys.readouterr().out == f"[server {server} server_setup] set up\n[server {server} say] ready\n"


async def test_clean_up_at_the_close_shows_before_the_block_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    async with open_computation([say_at_the_end], servers=1) as computation:
        await computation.run(say_at_the_end)
    assert capsys.readouterr().out.endswith(" say_at_the_end] cleaned up\n")


async def test_without_forwarding_nothing_shows_and_the_last_lines_are_kept(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with open_computation([say], servers=1, forward_output=False) as computation:
        await computation.run_result(say, "to nobody")
        await computation.run_result(say_beside_python)
        with pytest.raises(discoro.ServerLost) as caught:
            await computation.run_result(say_to_both_and_die)
    assert caught.value.stderr_tail == "its errors\nthe last words\n"
    assert capsys.readouterr() == ("", "")


async def test_log_records_go_to_the_clients_loggers_as_far_as_they_want_them(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="tests.of.output")
    async with open_computation([log_much], servers=1) as computation:
        (server,) = await computation.servers()
        await computation.run_result(log_much)
    prefix = f"[server {server} log_much]"
    records = [record for record in caplog.records if prefix in record.getMessage()]
    assert [(record.name, record.levelname, record.getMessage()) for record in records] == [
        ("tests.of.output", "INFO", f"{prefix} 1 of 2"),
        ("tests.of.output", "ERROR", f"{prefix} bad number"),
        ("root", "WARNING", f"{prefix} of the root"),
    ]
    assert {(record.__dict__["server"], record.__dict__["coro"]) for record in records} == {(str(server), "log_much")}
    assert records[1].exc_text is not None
    assert "ValueError: invalid literal" in records[1].exc_text


async def test_a_stream_that_cannot_take_a_character_gets_an_escape_and_a_broken_one_costs_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    read, write = os.pipe()
    async with open_computation([say], servers=1) as computation:
        with os.fdopen(write, "w", encoding="ascii", buffering=1) as stream:
            monkeypatch.setattr(sys, "stdout", stream)
            await computation.run_result(say, "ä")
            assert os.read(read, 1000).endswith(b" say] \\xe4\n")
        os.close(read)
        assert await computation.run_result(say, "lost") == "lost"
        assert await computation.run_result(say, "lost") == "lost"
        monkeypatch.undo()
    assert [record.getMessage() for record in caplog.records if "cannot be shown" in record.getMessage()] == [
        "output of servers cannot be shown any more: I/O operation on closed file."
    ]


async def test_watchers_get_every_line(capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[Line] = []
    async with open_computation([say, log_much], servers=1) as computation:
        Display.of(current_process().endpoint).watchers.append(seen.append)
        await computation.run_result(say, "text")
        await computation.run_result(log_much)
    assert [(line.coro, line.text) for line in seen] == [
        ("say", "text"),
        ("log_much", "bad number"),
        ("log_much", "of the root"),
    ]
