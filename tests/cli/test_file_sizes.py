"""`--max_file_size`: what is larger is refused before it is sent, by `send_file` and among the components."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

import discoro_trio as discoro
from discoro_trio._client._session import SetUp
from tests._ports import free_udp_port
from tests.cli.programs import SECRET, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from discoro_trio._cluster import messages
    from tests.cli.programs import Program

pytestmark = pytest.mark.program

LIMIT, LARGE = 100 * 1024, 64 * 1024**2


def size_of(name: str) -> int:
    return Path(name).stat().st_size


@pytest.fixture
async def node() -> AsyncIterator[Program]:
    """Run a node that takes files of up to 100 KiB, and a scheduler here."""
    udp_port = free_udp_port()
    async with (
        running("node", "--udp_port", str(udp_port), "-c", "1", "--max_file_size", "100K") as program,
        discoro.open_scheduler(ip_addr="127.0.0.1", secret=SECRET, udp_port=udp_port),
    ):
        with trio.fail_after(30):
            yield program


def file_of(folder: Path, name: str, size: int) -> Path:
    path = folder / name
    with path.open("wb") as file:
        file.truncate(size)
    return path


@pytest.mark.spec("S25")
@pytest.mark.fault("F20")
@pytest.mark.option("discoronode --max_file_size")
async def test_a_component_that_is_too_large_is_refused_before_its_bytes_are_sent(
    node: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[SetUp] = []
    prepare = SetUp.prepare

    def note(self: SetUp) -> messages.Prepare:
        sent.append(self)
        return prepare(self)

    monkeypatch.setattr(SetUp, "prepare", note)
    folder = tmp_path / "folder"
    folder.mkdir()
    file_of(folder, "small", LIMIT)
    file_of(folder, "large", LARGE)
    computation = discoro.Computation([size_of, folder])
    async with computation.schedule():
        with pytest.raises(discoro.DiscoroError, match=r"'folder/large' has 67108864 bytes.*max_file_size") as raised:
            await computation.run(size_of, "folder/small")
        assert not sent
    assert isinstance(raised.value.__cause__, discoro.FileTransferError)


@pytest.mark.spec("S25")
async def test_components_up_to_the_size_are_taken_and_a_node_that_refused_serves_the_next_computation(
    node: Program, tmp_path: Path
) -> None:
    large, small = file_of(tmp_path, "large", LIMIT + 1), file_of(tmp_path, "small", LIMIT)
    async with discoro.Computation([size_of, large]).schedule() as refused:
        with pytest.raises(discoro.DiscoroError, match="max_file_size"):
            await refused.run(size_of, "large")
    async with discoro.Computation([size_of, small]).schedule() as computation:
        assert await computation.run_result(size_of, "small") == LIMIT


@pytest.mark.spec("S25")
async def test_a_client_that_does_not_ask_is_refused_too(
    node: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    large = file_of(tmp_path, "large", LIMIT + 1)
    make = SetUp.__init__
    monkeypatch.setattr(SetUp, "__init__", lambda self, **given: make(self, **{**given, "largest": ("", 0)}))
    async with discoro.Computation([size_of, large]).schedule() as computation:
        while "max_file_size" not in caplog.text:  # noqa: ASYNC110 - nobody tells of it
            await trio.sleep(0.01)
        with pytest.raises(discoro.DiscoroError, match=r"no server can be used: .*max_file_size"):
            await computation.servers()


@pytest.mark.spec("S25")
async def test_a_file_that_is_sent_is_held_to_the_same_size(node: Program, tmp_path: Path) -> None:
    async with discoro.Computation([size_of]).schedule() as computation:
        (await computation.run(size_of, "/proc/self/comm"))
        (server,) = await computation.servers()
        await discoro.send_file(server, file_of(tmp_path, "small", LIMIT))
        assert await computation.run_result(size_of, "small") == LIMIT
        with pytest.raises(discoro.FileTransferError, match="max_file_size"):
            await discoro.send_file(server, file_of(tmp_path, "large", LIMIT + 1))
