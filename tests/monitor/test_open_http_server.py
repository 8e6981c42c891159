"""`open_http_server`: what it watches, its options, and that nothing of it disturbs the block."""

from __future__ import annotations

import json
import logging
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec
import psutil
import pytest
import trio
import trustme

import discoro_trio as discoro
from discoro_trio._link import OptionError
from discoro_trio._monitor import _open, _serving, _source
from discoro_trio._monitor._broadcast import Broadcast, Browser
from discoro_trio._monitor._query import Query
from discoro_trio._monitor._received_view import ReceivedView
from discoro_trio._monitor._serving import open_listeners

from ..client.clusters import ROOT, Program, environment
from ..client.test_two_nodes import open_two_nodes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TOKEN = "a-token-for-tests"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")


async def nap(seconds: float, *, coro: discoro.Coro[float]) -> float:
    coro.report(1, total=4, text="napping")
    print("good night")  # noqa: T201 - it is the output that is watched
    await trio.sleep(seconds)
    return seconds


def fetch(url: str, context: ssl.SSLContext | None = None) -> Any:
    with urllib.request.urlopen(url, timeout=60, context=context) as answer:  # noqa: S310 - our own address
        return json.loads(answer.read())


async def get(server: Any, path: str) -> Any:
    return await trio.to_thread.run_sync(fetch, f"{server.url}api/v1/{path}")


async def until(server: Any, path: str, holds: Any) -> Any:
    with trio.fail_after(60):
        while not holds(found := await get(server, path)):  # noqa: ASYNC110 - as a program asks that has no stream
            await trio.sleep(0.05)
    return found


# --- what it watches


@pytest.mark.spec("S89", "S91", "S95", "B18", "B24")
async def test_it_watches_a_computation_with_its_arguments_output_and_ends() -> None:
    async with (
        discoro.open_cluster(servers=2),
        discoro.Computation([nap], name="naps").schedule() as computation,
        discoro.open_http_server(computation, port=0, token=TOKEN) as server,
    ):
        await computation.run_result(nap, 0)
        rcoro = await computation.run(nap, 60)
        running = [("nap", "60")]
        await until(server, "coroutines", lambda page: [(row["name"], row["args"]) for row in page["rows"]] == running)
        rcoro.cancel()
        with pytest.raises(discoro.CoroCancelled):
            await rcoro.result()
        ended = await until(server, "coroutines?state=ended", lambda page: page["total"] == 2)
        assert [row["state"] for row in ended["rows"]] == ["cancelled", "done"]
        output = await until(server, "output", lambda page: page["total"] >= 1)
        assert "good night" in output["rows"][0]["text"]
        for load in ("cpu", "memory", "disk"):
            await until(server, "cluster", lambda page, load=load: page["rows"][0][load] is not None)
        await until(server, "cluster", lambda page: page["rows"][0]["servers"] == 2)
        owners = await until(server, "computations", lambda page: page["total"] == 1)
        assert owners["rows"][0]["name"] == "naps"


async def test_no_coroutine_of_its_block_is_missed_however_short() -> None:
    async with (
        discoro.open_cluster(servers=1),
        discoro.Computation([nap]).schedule() as computation,
        discoro.open_http_server(computation, port=0, token=TOKEN),
    ):
        assert len(computation._journals) == 1, "it takes notes from the first moment on"


@pytest.mark.spec("S89", "B23", "B24")
async def test_it_watches_a_scheduler_with_progress_and_the_queue() -> None:
    async with (
        discoro.open_cluster(servers=1) as scheduler,
        discoro.open_http_server(scheduler, port=0, token=TOKEN) as server,
    ):
        async with discoro.Computation([nap], name="naps").schedule() as computation:
            rcoro = await computation.run(nap, 60)
            found = await until(server, "coroutines", lambda page: page["rows"] and page["rows"][0]["progress"])
            assert found["rows"][0]["progress"] == [1.0, 4.0, "napping"]
            running = await get(server, "computations")
            assert [(row["name"], row["state"]) for row in running["rows"]] == [("naps", "running")]
            rcoro.cancel()
        over = await until(server, "computations", lambda page: page["rows"][0]["state"] == "closed")
        assert over["rows"][0]["submitted"] == 1


@pytest.mark.spec("S05", "S17", "S89")
async def test_its_status_coro_takes_the_messages_of_a_computation() -> None:
    async with discoro.open_cluster(servers=1), discoro.open_http_server(port=0, token=TOKEN) as server:
        async with discoro.Computation([nap], status_coro=server.status_coro).schedule() as computation:
            assert await computation.run_result(nap, 0) == 0
            found = await until(server, "summary", lambda sums: sums["done"] == 1)
            assert (found["submitted"], found["running"]) == (1, 0)
        # After the computation has closed, the tables are still there.
        assert (await get(server, "coroutines?state=ended"))["total"] == 1


async def log() -> None:
    logging.getLogger("work").warning("nearly full")
    print("done", file=sys.stderr)  # noqa: T201 - it is the output that is watched


@pytest.mark.spec("B25")
async def test_output_can_be_filtered_by_the_level_of_log_records() -> None:
    async with (
        discoro.open_cluster(servers=1),
        discoro.Computation([log]).schedule() as computation,
        discoro.open_http_server(computation, port=0, token=TOKEN) as server,
    ):
        await computation.run_result(log)
        found = await until(server, "output?state=warning", lambda page: page["total"] == 1)
        assert found["rows"][0]["text"].endswith("nearly full")
        assert {"stderr", "warning"} <= set(found["head"]["levels"])


@pytest.mark.spec("B18", "S94")
async def test_processes_of_servers_have_their_cpu_and_memory_by_the_pulses_of_their_node(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(discoro.config, "MinPulseInterval", 0.5)
    async with (
        discoro.open_cluster(servers=2) as scheduler,
        discoro.open_http_server(scheduler, port=0, token=TOKEN) as server,
    ):
        nodes = await until(server, "cluster", lambda page: page["total"] == 1)
        path = f"nodes/{quote(nodes['rows'][0]['id'])}"
        found = await until(server, path, lambda page: len([row for row in page["rows"] if row["memory"]]) == 2)
        for row in found["rows"]:
            assert row["memory"] > 2**20
            assert row["cpu"] >= 0
            assert psutil.Process(row["pid"]).ppid() != 0


@pytest.mark.spec("S92")
async def test_two_nodes_at_one_address_have_a_row_each() -> None:
    computation = discoro.Computation([nap])
    async with (
        open_two_nodes(computation) as nodes,
        discoro.open_http_server(computation, port=0, token=TOKEN) as server,
    ):
        await computation.run_servers(nap, 60)
        running = {"north": 2, "south": 1}
        found = await until(
            server, "cluster", lambda page: {row["name"]: row["running"] for row in page["rows"]} == running
        )
        assert {row["name"]: row["servers"] for row in found["rows"]} == {
            name: len(locations) for name, locations in nodes.items()
        }
        await computation.close()


async def test_messages_that_it_does_not_know_change_nothing() -> None:
    async with discoro.open_http_server(port=0, token=TOKEN) as server:
        for message in ("hello", None, 3, discoro.DiscoroStatus(discoro.Status.NodeClosed, "10.0.0.9")):
            await server.status_coro.send(message)
        found = await until(server, "cluster", lambda page: page["total"] == 1)
        assert found["rows"][0]["state"] == "closed"


# --- its options


@pytest.mark.spec("S82", "B14")
@pytest.mark.parametrize(
    ("options", "option"),
    [
        ({"host": ""}, "token"),
        ({"host": "10.1.2.3"}, "token"),
        ({"host": "", "token": "short"}, "token"),
        ({"poll_sec": 0}, "poll_sec"),
        ({"document_root": "/nowhere"}, "document_root"),
        ({"certfile": "/nowhere.pem"}, "certfile"),
    ],
)
async def test_options_that_cannot_work_are_named(options: dict[str, Any], option: str) -> None:
    with pytest.raises(OptionError) as error:
        async with discoro.open_http_server(**{"port": 0, **options}):
            pass
    assert error.value.option == option


@pytest.mark.spec("S81", "B14")
async def test_on_every_interface_looking_needs_the_token() -> None:
    async with discoro.open_http_server(host="", port=0, token=TOKEN) as server:
        with pytest.raises(urllib.error.HTTPError, match="401") as error:
            await get(server, "cluster")
        error.value.close()


@pytest.mark.spec("B14")
async def test_a_token_of_its_own_making_is_shown_once_behind_a_hash_in_a_terminal_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with discoro.open_http_server(port=0) as server:
        shown = capsys.readouterr().err
        assert shown.startswith(f"monitor: {server.url} ")
        assert server.token not in shown
        assert len(server.token) >= 32
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    async with discoro.open_http_server(port=0) as server:
        assert capsys.readouterr().err == f"monitor: {server.url}#token={server.token}\n"
    async with discoro.open_http_server(port=0, token=TOKEN):
        assert not capsys.readouterr().err


@pytest.mark.spec("S84")
async def test_another_folder_may_hold_the_pages(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("{}", encoding="utf-8")
    async with discoro.open_http_server(port=0, token=TOKEN, document_root=tmp_path) as server:
        assert await trio.to_thread.run_sync(fetch, server.url) == {}


@pytest.mark.spec("S81", "S82", "S83")
async def test_without_options_it_listens_at_port_8181_of_loopback_and_says_something_every_10_s(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[str, int]] = []

    async def listen(host: str, port: int) -> Sequence[trio.SocketListener]:
        asked.append((host, port))  # another program of this machine may have that port
        return await open_listeners(host, 0)

    monkeypatch.setattr(_serving, "open_listeners", listen)
    async with discoro.open_http_server(token=TOKEN) as server:
        assert (await get(server, "session"))["poll_sec"] == 10
    async with discoro.open_http_server(port=5000, poll_sec=3, token=TOKEN) as server:
        assert (await get(server, "session"))["poll_sec"] == 3
    assert asked == [("127.0.0.1", 8181), ("127.0.0.1", 5000)]


@pytest.mark.spec("S85")
@pytest.mark.parametrize("files", [1, 2])
async def test_https_with_certificate_and_key_in_one_file_or_in_two(files: int, tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    file, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    if files == 1:
        certificate.private_key_and_cert_chain_pem.write_to_path(file)
    else:
        file.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
        certificate.private_key_pem.write_to_path(key)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    keyfile = key if files == 2 else None
    async with discoro.open_http_server(port=0, token=TOKEN, certfile=file, keyfile=keyfile) as server:
        assert server.url.startswith("https://")
        found = await trio.to_thread.run_sync(fetch, f"{server.url}healthz", context)
        assert found == {"status": "ok"}


# --- its end


@pytest.mark.spec("S87")
@pytest.mark.parametrize("wait", [True, False])
async def test_after_shutdown_nobody_answers_and_the_block_goes_on(wait: bool) -> None:  # noqa: FBT001 - the option's own values
    async with discoro.open_http_server(port=0, token=TOKEN) as server:
        await get(server, "summary")
        await server.shutdown(wait=wait)
        await server.shutdown()
        await server.status_coro.send("still taken")
        with pytest.raises(urllib.error.URLError):
            await get(server, "summary")


async def test_the_bodys_exception_leaves_unchanged() -> None:
    with pytest.raises(KeyError, match="mine"):
        async with discoro.open_http_server(port=0, token=TOKEN):
            raise KeyError("mine")  # noqa: EM101 - nothing but a KeyError


@pytest.mark.fault("F25")
async def test_a_part_that_fails_is_started_again_and_the_block_is_not_disturbed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_open, "_PAUSE", 0.01)
    begun = []

    async def fail_once(hub: Broadcast) -> None:
        begun.append(hub)
        if len(begun) == 1:
            raise RuntimeError
        await trio.sleep_forever()

    monkeypatch.setattr(Broadcast, "run", fail_once)
    async with discoro.open_http_server(port=0, token=TOKEN) as server:
        with trio.fail_after(60):
            while len(begun) < 2:  # noqa: ASYNC110 - the part under test is replaced
                await trio.sleep(0.01)
        assert await get(server, "summary")


OPENED = """
import discoro_trio, trio
async def main():
    async with discoro_trio.open_http_server(port=0):
        pass
trio.run(main)
"""
TICKING = """
import sys
import discoro_trio, trio
longest = 0.0
async def tick(task_status):
    global longest
    task_status.started()
    while True:
        began = trio.current_time()
        await trio.sleep(0)
        longest = max(longest, trio.current_time() - began)
async def main():
    assert "quart" not in sys.modules
    opening = discoro_trio.open_http_server(port=0)
    assert "quart" not in sys.modules, "the name alone imports no web server"
    async with trio.open_nursery() as nursery:
        await nursery.start(tick)
        began = trio.current_time()
        async with opening:
            took = trio.current_time() - began
        nursery.cancel_scope.cancel()
    print(took, longest)
trio.run(main)
"""


def test_the_web_server_is_imported_while_everything_else_goes_on(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TICKING], capture_output=True, text=True, check=True, env=environment(tmp_path)
    )
    took, longest = map(float, done.stdout.split())
    assert longest < took / 2


def test_without_the_extra_the_error_says_what_to_install(tmp_path: Path) -> None:
    program = f"import sys; sys.modules['quart'] = None{OPENED}"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment(tmp_path)
    )
    assert "the monitor needs quart, which is not installed: pip install 'discoro_trio[monitor]'" in done.stderr


@pytest.mark.example
@pytest.mark.spec("S17")
async def test_the_example_relays_messages_and_uses_them(tmp_path: Path) -> None:
    command = ["-W", "error", str(ROOT / "examples" / "watch_in_browser.py")]
    options = ["--jobs", "6", "--longest", "1", "--port", "0", "--servers", "2"]
    lines: list[str] = []

    def keep(line: str) -> bool:
        lines.append(line)
        return line.startswith("6 jobs took")

    with Program([*command, *options], tmp_path) as program, trio.fail_after(60):
        url = (await program.until_line(lambda line: line.startswith("Look at "))).split()[-1]
        while not (await trio.to_thread.run_sync(fetch, f"{url}api/v1/summary"))["submitted"]:  # noqa: ASYNC110
            await trio.sleep(0.02)  # as a program asks that has no stream
        await program.until_line(keep)
        status, errors = await program.ended()
    assert (status, errors.startswith("monitor: http://127.0.0.1:")) == (0, True), errors
    assert sum("takes jobs" in line for line in lines) == 2


# --- the last update


class Remembers:
    """A browser's connection that takes nothing at once; a task sends to it."""

    has_begun = False

    def send_now(self, _message: bytes) -> bool:
        return False


async def follow(server: discoro.HTTPServer, view: ReceivedView) -> None:
    """Look at the first page as a browser does."""
    hub, browser = server._parts.hub, Browser(Remembers())
    hub.look(browser, Query())
    while True:
        view.take(msgspec.json.decode(await hub.next_message(browser)))


async def fail_or_return(number: int) -> int:
    await trio.lowlevel.checkpoint()
    if number % 2:
        raise ValueError(number)
    return number


@pytest.mark.spec("S87")
@pytest.mark.parametrize("of_the_scheduler", [False, True])
async def test_a_browser_has_what_happened_right_before_the_shutdown(
    monkeypatch: pytest.MonkeyPatch, *, of_the_scheduler: bool
) -> None:
    monkeypatch.setattr(_source, "OFTEN", 3600)  # it looks at the beginning, and at the end
    computation = discoro.Computation([fail_or_return])
    with trio.fail_after(60):
        async with discoro.open_cluster(servers=2) as scheduler:
            source = scheduler if of_the_scheduler else computation
            view = ReceivedView()
            async with (
                discoro.open_http_server(source, port=0, token=TOKEN) as server,
                trio.open_nursery() as nursery,
            ):
                nursery.start_soon(follow, server, view)
                async with computation.schedule():
                    for number in range(6):
                        try:
                            await computation.run_result(fail_or_return, number)
                        except ValueError:
                            continue
                await server.shutdown(wait=True)
                nursery.cancel_scope.cancel()
    sums = view.head["summary"]
    assert (sums["submitted"], sums["done"], sums["failed"]) == (6, 6, 3)


@pytest.mark.spec("S87", "B24")
async def test_a_program_that_asks_again_and_again_has_the_last_state_before_the_shutdown() -> None:
    seen: list[int] = []

    async def ask(server: discoro.HTTPServer) -> None:
        while True:
            try:
                seen.append((await get(server, "summary"))["submitted"])
            except OSError:  # it does not listen any more, or closes the connection
                return
            await trio.sleep(0.02)

    computation = discoro.Computation([fail_or_return])
    with trio.fail_after(60):
        async with (
            discoro.open_cluster(servers=1),
            discoro.open_http_server(computation, port=0, token=TOKEN) as server,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(ask, server)
            while not seen:  # noqa: ASYNC110 - another task fills it
                await trio.sleep(0.01)
            async with computation.schedule():
                assert await computation.run_result(fail_or_return, 2) == 2
            await server.shutdown(wait=True)
    assert seen[-1] == 1


async def test_a_monitor_that_is_only_read_refuses_actions_and_keeps_its_events(tmp_path: Path) -> None:
    events = tmp_path / "events"
    async with (
        discoro.open_cluster(servers=1),
        discoro.Computation([nap]).schedule() as computation,
        discoro.open_http_server(computation, port=0, token=TOKEN, read_only=True, event_file=events) as server,
    ):
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        action = urllib.request.Request(f"{server.url}api/v1/actions/suspend", b'{"ids": []}', headers)  # noqa: S310 - our own address
        with pytest.raises(urllib.error.HTTPError, match="403"):
            await trio.to_thread.run_sync(urllib.request.urlopen, action)
    assert "The monitor was started" in events.read_text(encoding="utf-8")
