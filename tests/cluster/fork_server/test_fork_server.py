"""The fork server and its node's side, with servers of `forked_programs`. The processes are real."""

from __future__ import annotations

import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import time
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

from discoro_trio._cluster.fork_server import _client
from discoro_trio._cluster.fork_server import _protocol as wire
from discoro_trio._cluster.fork_server._client import Exit, ForkServer, ServerProcess
from discoro_trio._cluster.fork_server._server_output import TAIL_BYTES, TAIL_LINES, Tail
from discoro_trio._config import config
from tests._deadlines import within

from .forked_programs import MODULE, read_pid, read_pids

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

ROOT = Path(__file__).parents[3]
encode = wire.encode


@asynccontextmanager
async def open_fork_server(module: str = MODULE) -> AsyncIterator[ForkServer]:
    with trio.fail_after(30):
        async with _client.open_fork_server(server_module=module) as fork_server:
            yield fork_server


async def fork_ready(fork_server: ForkServer, spec: bytes, folder: Path) -> ServerProcess:
    """Fork a server and wait until it is in its main function."""
    server = await fork_server.fork(spec, folder=folder)
    assert await server.link.receive_some() == b"ready"
    return server


async def read_all(server: ServerProcess) -> bytes:
    async with server.link:
        return b"".join([data async for data in server.link])


class MyError(Exception):
    pass


class Watch:
    """Knows of processes, whoever's children they are, whether they have ended."""

    def __init__(self, *pids: int) -> None:
        self._fds = [os.pidfd_open(pid) for pid in pids]

    async def wait_gone(self, seconds: float) -> None:
        try:
            with within(seconds):
                for fd in self._fds:
                    await trio.lowlevel.wait_readable(fd)
        finally:
            for fd in self._fds:
                os.close(fd)


def fd_count(pid: int | str) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@contextmanager
def few_descriptors_left() -> Iterator[None]:
    """Leave descriptors for the sockets of a fork, but not for all of its pipes."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = {int(entry.name) for entry in Path("/proc/self/fd").iterdir()}
    free = [fd for fd in range(max(used) + 10) if fd not in used]
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[4], limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def end_of(spec: bytes, folder: Path) -> Exit:
    async with open_fork_server() as fork_server:
        server = await fork_server.fork(spec, folder=folder)
        async with server.link:
            return await server.wait()


async def test_four_servers_echo_over_their_links(tmp_path: Path) -> None:
    async with open_fork_server() as fork_server:
        servers = [await fork_ready(fork_server, b"echo", tmp_path) for _ in range(4)]
        for server in servers:
            async with server.link:
                text = f"for {server.pid}".encode()
                await server.link.send_all(text)
                assert await server.link.receive_some() == text
        assert [await server.wait() for server in servers] == [Exit(0, None, "")] * 4
    assert fork_server.ended.is_set()
    assert not exists(fork_server.pid)


async def test_a_server_is_a_process_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/the/user's")
    async with open_fork_server() as fork_server:
        bystander = await fork_ready(fork_server, b"echo", tmp_path)
        servers = [await fork_server.fork(b"describe", folder=tmp_path) for _ in range(2)]
        seen: list[dict[str, Any]] = [json.loads(await read_all(server)) for server in servers]
        await bystander.link.aclose()
    first = seen[0]
    fds: dict[str, str] = first.pop("fds")
    assert [fds.pop("0"), fds["1"][:5], fds["2"][:5]] == ["/dev/null", "pipe:", "pipe:"]
    # Standard output and error, the tail and the link: nothing of the fork server, nothing of another server.
    assert sorted(text.partition(":")[0] for text in fds.values()) == ["pipe", "pipe", "pipe", "socket"]
    assert first.pop("random") != seen[1]["random"]
    pid = servers[0].pid
    assert first == {
        "pid": pid,
        "group": pid,
        "session": pid,
        "folder": str(tmp_path),
        "inheritable": [],
        "handlers": ["default_int_handler", "SIG_DFL", "SIG_DFL", "SIG_DFL"],
        "blocked": [],
        "name": "discoro-server",
        "gc": True,
        "faulthandler": True,
        "PYTHONPATH": "/the/user's",
    }


@pytest.mark.parametrize(
    ("spec", "exitcode", "said"),
    [
        ("return", 0, ""),
        ("exit 3", 3, ""),
        ("sys.exit no more", 1, "no more\n"),
        ("raise what", 1, "LookupError: what\n"),
        ("tail", 0, "told to the tail \\xff\n"),
    ],
)
async def test_exit_status_and_tail_of_an_end_by_itself(spec: str, exitcode: int, said: str, tmp_path: Path) -> None:
    end = await end_of(spec.encode(), tmp_path)
    assert (end.exitcode, end.signal) == (exitcode, None)
    assert end.stderr_tail.endswith(said)
    assert bool(end.stderr_tail) == bool(said)


@pytest.mark.fault("F06")
async def test_segfault_is_told_with_signal_and_traceback(tmp_path: Path) -> None:
    end = await end_of(b"segfault", tmp_path)
    assert (end.exitcode, end.signal) == (None, signal.SIGSEGV)
    assert "Fatal Python error: Segmentation fault" in end.stderr_tail
    assert "forked_programs.py" in end.stderr_tail


async def test_abort_is_told_with_the_last_words(tmp_path: Path) -> None:
    end = await end_of(b"abort", tmp_path)
    assert (end.exitcode, end.signal) == (None, signal.SIGABRT)
    assert end.stderr_tail.startswith("the last words\n")


async def test_missing_folder_ends_the_server_with_an_error_that_names_it(tmp_path: Path) -> None:
    end = await end_of(b"return", tmp_path / "missing")
    assert end.exitcode == 1
    assert str(tmp_path / "missing") in end.stderr_tail


async def test_all_output_is_handed_on_and_the_last_lines_are_kept(tmp_path: Path) -> None:
    output = {1: bytearray(), 2: bytearray()}

    def take(_server: ServerProcess, fd: int, data: bytes) -> None:
        output[fd] += data

    async with open_fork_server() as fork_server:
        flood = await fork_server.fork(b"flood 20000", folder=tmp_path, on_output=take)
        plain = await fork_server.fork(b"return", folder=tmp_path, on_output=take)
        async with flood.link, plain.link:
            end = await flood.wait()
            await plain.wait()
    lines = output[2].decode().splitlines(keepends=True)
    assert len(lines) == 20000
    assert end.stderr_tail == "".join(lines[-TAIL_LINES:])
    assert output[1].decode() == "äöü \\udc80\n"


@pytest.mark.fault("F01")
async def test_killing_one_server_leaves_the_others(tmp_path: Path) -> None:
    async with open_fork_server() as fork_server:
        victim = await fork_ready(fork_server, b"echo", tmp_path)
        other = await fork_ready(fork_server, b"echo", tmp_path)
        async with victim.link, other.link:
            os.kill(victim.pid, signal.SIGKILL)
            assert await victim.wait() == Exit(None, signal.SIGKILL, "")
            await other.link.send_all(b"still here")
            assert await other.link.receive_some() == b"still here"
            assert other.exit is None


async def test_kill_takes_the_process_group_and_signal_the_process(tmp_path: Path) -> None:
    async with open_fork_server() as fork_server:
        parent = await fork_server.fork(b"grandchild", folder=tmp_path)
        grandchild = Watch(await read_pid(parent))
        other = await fork_ready(fork_server, b"echo", tmp_path)
        async with parent.link, other.link:
            parent.kill()
            other.signal(signal.SIGTERM)
            assert await parent.wait() == Exit(None, signal.SIGKILL, "")
            assert await other.wait() == Exit(None, signal.SIGTERM, "")
            await grandchild.wait_gone(1)
            parent.kill()
            other.signal(signal.SIGTERM)  # Too late, and no harm.


@pytest.mark.fault("F01")
async def test_what_a_killed_server_started_ends_with_it(tmp_path: Path) -> None:
    async with open_fork_server() as fork_server:
        parent = await fork_server.fork(b"grandchild", folder=tmp_path)
        grandchild = Watch(await read_pid(parent))
        async with parent.link:
            os.kill(parent.pid, signal.SIGKILL)
            await parent.wait()
            await grandchild.wait_gone(1)


@pytest.mark.parametrize("spec", [b"leave-daemon", b"leave-orphans"])
async def test_what_a_server_left_in_sessions_of_its_own_has_ended_when_its_end_is_reported(
    spec: bytes, tmp_path: Path
) -> None:
    async with open_fork_server() as fork_server:
        other = await fork_server.fork(b"orphans", folder=tmp_path)
        others = await read_pids(other)
        server = await fork_server.fork(spec, folder=tmp_path)
        left = await read_pids(server)
        assert await server.wait() == Exit(0, None, "")
        assert [pid for pid in left if exists(pid)] == []
        # Orphans of a server that runs are no less its own.
        assert all(exists(pid) for pid in others)
        watch = Watch(*others)
        await other.link.aclose()
        await other.wait()
        await watch.wait_gone(1)
        await server.link.aclose()


async def test_leaving_the_block_ends_orphans_too(tmp_path: Path) -> None:
    async with open_fork_server() as fork_server:
        server = await fork_server.fork(b"orphans", folder=tmp_path)
        watch = Watch(*await read_pids(server))
    await watch.wait_gone(1)
    await server.link.aclose()


async def test_a_stopped_fork_server_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "MinPulseInterval", 0.1)
    async with open_fork_server() as fork_server:
        await (await fork_ready(fork_server, b"echo", tmp_path)).link.aclose()
        os.kill(fork_server.pid, signal.SIGSTOP)
        await (await fork_ready(fork_server, b"echo", tmp_path)).link.aclose()
        assert not fork_server.ended.is_set()


@pytest.mark.fault("F27")
async def test_a_fork_server_that_does_not_answer_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "MinPulseInterval", 0.1)
    monkeypatch.setattr(_client, "LEAST_SILENCE", 0.5)
    monkeypatch.setattr(wire, "encode", lambda message: b"" if isinstance(message, wire.Ping) else encode(message))
    async with open_fork_server() as fork_server:
        server = await fork_ready(fork_server, b"echo", tmp_path)
        monkeypatch.setattr(_client, "START_SECONDS", 0.5)
        async with server.link:
            await fork_server.wait_ended()
            assert "did not answer" in (await server.wait()).stderr_tail


@pytest.mark.fault("F27")
async def test_killed_fork_server_takes_its_servers_and_their_groups_along(tmp_path: Path) -> None:
    async with open_fork_server() as fork_server:
        servers = [await fork_ready(fork_server, b"echo", tmp_path) for _ in range(2)]
        servers.append(await fork_server.fork(b"grandchild", folder=tmp_path))
        watch = Watch(await read_pid(servers[-1]), *(server.pid for server in servers))
        os.kill(fork_server.pid, signal.SIGKILL)
        with within(1):
            await watch.wait_gone(1)
            await fork_server.wait_ended()
            for server in servers:
                assert await server.wait() == Exit(None, signal.SIGKILL, "")
                await server.link.aclose()
        with pytest.raises(trio.BrokenResourceError, match="has ended"):
            await fork_server.fork(b"echo", folder=tmp_path)


@pytest.mark.fault("F27")
async def test_fork_server_ends_its_servers_on_sigterm(tmp_path: Path) -> None:
    async with open_fork_server() as fork_server:
        server = await fork_server.fork(b"grandchild", folder=tmp_path)
        watch = Watch(server.pid, await read_pid(server))
        os.kill(fork_server.pid, signal.SIGTERM)
        await watch.wait_gone(1)
        await fork_server.wait_ended()
        assert await server.wait() == Exit(None, signal.SIGKILL, "")
        await server.link.aclose()


@pytest.mark.fault("F23")
async def test_fork_server_ignores_sigint_from_its_first_moment(tmp_path: Path) -> None:
    async with open_fork_server() as fork_server:
        os.kill(fork_server.pid, signal.SIGINT)
        async with (await fork_ready(fork_server, b"echo", tmp_path)).link:
            os.kill(fork_server.pid, signal.SIGINT)
            async with (await fork_ready(fork_server, b"echo", tmp_path)).link:
                assert not fork_server.ended.is_set()


@asynccontextmanager
async def node_program(folder: Path) -> AsyncIterator[tuple[trio.Process, list[int]]]:
    """Run a node that finds the package by a path of its own, which its fork server must get from it.

    Gives the node, and the pids of fork server, servers and a server's child.
    """
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import {MODULE} as module; module.main_of_node()"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    node = await trio.lowlevel.open_process(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        cwd=folder,
        env=environment,
        stderr=subprocess.DEVNULL,
    )
    assert node.stdout is not None
    async with node.stdout:
        try:
            with trio.fail_after(45):
                *pids, copy = json.loads(await node.stdout.receive_some())
            try:
                yield node, pids
            finally:
                os.kill(copy, signal.SIGKILL)
        finally:
            node.kill()
            await node.wait()


@pytest.mark.fault("F02")
async def test_killed_node_leaves_no_orphan(tmp_path: Path) -> None:
    async with node_program(tmp_path) as (node, pids):
        watch = Watch(*pids)
        node.kill()
        await watch.wait_gone(2)


@pytest.mark.fault("F23")
async def test_interrupted_node_ends_with_everything_below_it(tmp_path: Path) -> None:
    async with node_program(tmp_path) as (node, pids):
        watch = Watch(*pids)
        node.send_signal(signal.SIGINT)
        await watch.wait_gone(2)
        with within(2):
            assert await node.wait() == -signal.SIGINT


@pytest.mark.fault("F27")
async def test_servers_of_a_killed_fork_server_need_no_node_to_end(tmp_path: Path) -> None:
    async with node_program(tmp_path) as (node, pids):
        fork_server, *servers, grandchild = pids
        watch, watch_grandchild = Watch(*servers), Watch(grandchild)
        node.send_signal(signal.SIGSTOP)
        os.kill(fork_server, signal.SIGKILL)
        await watch.wait_gone(1)
        node.send_signal(signal.SIGCONT)
        await watch_grandchild.wait_gone(1)


async def test_leaving_the_block_kills_a_server_that_ignores_sigterm(tmp_path: Path) -> None:
    async with open_fork_server() as fork_server:
        server = await fork_ready(fork_server, b"stubborn", tmp_path)
        server.signal(signal.SIGTERM)
        watch = Watch(server.pid)
    await watch.wait_gone(1)
    assert server.exit == Exit(None, signal.SIGKILL, "")
    await server.link.aclose()


async def test_leaving_the_block_ends_a_fork_server_that_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_client, "CLOSE_SECONDS", 0.1)
    async with open_fork_server() as fork_server:
        server = await fork_server.fork(b"grandchild", folder=tmp_path)
        watch = Watch(fork_server.pid, server.pid, await read_pid(server))
        os.kill(fork_server.pid, signal.SIGSTOP)
    await watch.wait_gone(1)
    assert server.exit == Exit(None, signal.SIGKILL, "")
    await server.link.aclose()


async def test_cancelling_the_block_leaves_nothing(tmp_path: Path) -> None:
    with trio.CancelScope() as scope:
        async with open_fork_server() as fork_server:
            server = await fork_ready(fork_server, b"echo", tmp_path)
            watch = Watch(fork_server.pid, server.pid)
            scope.cancel()
            await trio.sleep_forever()
    await watch.wait_gone(1)
    assert server.exit == Exit(None, signal.SIGKILL, "")
    await server.link.aclose()


async def test_error_of_the_block_comes_without_a_group() -> None:
    with pytest.raises(MyError):
        async with open_fork_server():
            raise MyError


async def test_cancelling_a_fork_kills_its_server(tmp_path: Path) -> None:
    async with open_fork_server() as fork_server:
        await (await fork_ready(fork_server, b"echo", tmp_path)).link.aclose()
        with trio.CancelScope() as scope:
            scope.cancel()
            await fork_server.fork(b"hang", folder=tmp_path)
        assert scope.cancelled_caught
        children = trio.Path(f"/proc/{fork_server.pid}/task/{fork_server.pid}/children")
        last = await fork_server.fork(b"return", folder=tmp_path)
        async with last.link:
            await last.wait()
        with within(2):
            while await children.read_text():
                pass
        assert not fork_server.ended.is_set()


async def test_fork_without_free_descriptors_is_refused_and_leaks_none(tmp_path: Path) -> None:
    async with open_fork_server() as fork_server:
        count = fd_count("self")
        with few_descriptors_left(), pytest.raises(OSError, match="Too many open files"):
            await fork_server.fork(b"return", folder=tmp_path)
        assert fd_count("self") == count


async def test_fork_server_that_cannot_start_breaks_the_fork(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async with open_fork_server("tests.no_such_module") as fork_server:
        with pytest.raises(trio.BrokenResourceError, match=f"fork server {fork_server.pid} has ended"):
            await fork_server.fork(b"echo", folder=tmp_path)
    assert "No module named 'tests.no_such_module'" in capfd.readouterr().err


async def test_error_of_the_output_callback_ends_the_block(tmp_path: Path) -> None:
    def fail(_server: ServerProcess, _fd: int, _data: bytes) -> None:
        raise MyError

    with pytest.RaisesGroup(MyError, flatten_subgroups=True):
        async with open_fork_server() as fork_server:
            server = await fork_server.fork(b"return", folder=tmp_path, on_output=fail)
            async with server.link:
                await trio.sleep_forever()
    assert not exists(fork_server.pid)


async def test_hundred_forks_leave_no_descriptor_in_node_or_fork_server(tmp_path: Path) -> None:
    durations = []
    async with open_fork_server() as fork_server:
        own, forking = set(), set()
        for _ in range(100):
            begin = time.perf_counter()
            server = await fork_server.fork(b"echo", folder=tmp_path)
            durations.append(time.perf_counter() - begin)
            async with server.link:
                await server.link.receive_some()
            await server.wait()
            own.add(fd_count("self"))
            forking.add(fd_count(fork_server.pid))
        while fd_count(fork_server.pid) > min(forking):  # noqa: ASYNC110 - it may still be closing those of the last one
            await trio.sleep(0.01)
    sys.stdout.write(f"\nfirst fork {durations[0] * 1e3:.0f} ms, then {statistics.median(durations) * 1e3:.2f} ms\n")
    assert len(own) == 1
    assert fd_count("self") == own.pop() - 1  # The fork server's socket is gone too.


async def test_large_spec_and_queued_forks_arrive_whole(tmp_path: Path) -> None:
    async with open_fork_server() as fork_server, trio.open_nursery() as nursery:

        async def fork(size: int) -> None:
            server = await fork_server.fork(b"sys.exit " + b"x" * size, folder=tmp_path)
            async with server.link:
                end = await server.wait()
            assert end.stderr_tail == "x" * min(size, TAIL_BYTES - 1) + "\n"

        for size in (3, 500_000, 5, 100_000):
            nursery.start_soon(fork, size)


async def test_output_that_is_there_when_the_end_is_known_is_read() -> None:
    output: list[tuple[int, bytes]] = []
    server = ServerProcess(1, lambda _request: None, lambda _server, fd, data: output.append((fd, data)))
    async with server.link:
        for fd, text in zip(server.far_fds()[1:], (b"one", b"two", b"three"), strict=True):
            os.write(fd, text)
        server.end(0)
        await server.follow_output()  # Nobody has closed the other ends.
        server.close_far_fds()
    assert output == [(1, b"one"), (2, b"two")]
    assert await server.wait() == Exit(0, None, "twothree")


def test_tail_keeps_the_last_lines_and_no_more_bytes_than_it_may() -> None:
    tail = Tail()
    for number in range(100):
        tail.add(f"{number}\n".encode())
    assert tail.text() == "".join(f"{number}\n" for number in range(60, 100))
    tail.add(b"y" * 20_000)
    assert tail.text() == "y" * TAIL_BYTES


def test_frames_are_read_from_any_pieces() -> None:
    messages: list[wire.Request] = [
        wire.Fork(1, b"\x00" * 300, b"/tmp/\xff", 10.0),
        wire.WatchNode(1, 0.5),
        wire.NodeIsThere(),
        wire.Signal(1, 15),
        wire.Kill(1),
    ]
    data = b"".join(wire.encode(message) for message in messages)
    for size in (1, 7, len(data)):
        reader = wire.request_reader()
        pieces = (data[start : start + size] for start in range(0, len(data), size))
        assert [message for piece in pieces for message in reader.feed(piece)] == messages
