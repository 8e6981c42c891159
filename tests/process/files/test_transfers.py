from __future__ import annotations

import os
import random
import signal
import stat
import subprocess
import sys
import textwrap
import threading
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import pytest
import trio

from discoro_trio import FileTransferError, Location
from discoro_trio._process import Process, del_file, send_file
from discoro_trio._process._parts import PART, WINDOW
from discoro_trio._process.files import _folder
from discoro_trio._process.files import _transfers as files
from discoro_trio._process.files._folder import IncomingFile, OutgoingFile, checksum

from ..worlds import cut, open_processes, settle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator
    from pathlib import Path

CONTENT = random.Random(1).randbytes(3 * PART + 1234)
ESCAPES = ["..", "../x", "a/../../x", "/etc", "//x", "a//b", "a/\0", "a\\b", "x" * 300, "x/" * 2048]


@asynccontextmanager
async def open_pair(root: Path) -> AsyncIterator[tuple[Process, Process]]:
    """Open a sender and a receiver whose working folder is given; the sender's tasks run inside."""
    async with open_processes(2) as (one, two):
        two.files.folder = root
        with one.entered():
            yield one, two


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "receiver" / "working"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "data.bin"
    path.write_bytes(CONTENT)
    path.chmod(0o750)
    return path


@pytest.fixture
def large_source(tmp_path: Path) -> Path:
    """Make a file whose first part is confirmed long before its last one is sent."""
    path = tmp_path / "data.bin"
    path.write_bytes(bytes(3 * WINDOW * PART))
    return path


def checksum_of(content: bytes, key: bytes) -> bytes:
    summed = checksum(key)
    summed.update(content)
    return summed.finalize()


def all_files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root.parent)) for path in root.parent.rglob("*") if not path.is_dir())


@pytest.fixture(params=["without names", "with names"])
def ways_of_files(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let files have no name until they are complete, or a hidden one, as on file systems that know no other."""
    if request.param == "with names":
        monkeypatch.setattr(_folder, "_DESCRIPTORS", "/nowhere")
    way: str = request.param
    return way


@pytest.mark.usefixtures("ways_of_files")
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("there", [False, True])
def test_a_file_gets_its_name_when_it_is_complete(root: Path, *, there: bool, overwrite: bool) -> None:
    incoming = IncomingFile(root, "", "name", 3, overwrite=overwrite)
    incoming.write(memoryview(b"new"))
    if there:
        (root / "name").write_text("other")
    expected = checksum_of(b"new", incoming.key)
    if there and not overwrite:
        with pytest.raises(FileTransferError, match="exists already"):
            incoming.finish(expected, 0o600)
    else:
        incoming.finish(expected, 0o600)
    incoming.close()
    assert all_files(root) == ["working/name"]
    assert (root / "name").read_text() == ("other" if there and not overwrite else "new")


@pytest.mark.fault("F20")
def test_of_a_file_whose_receiver_is_killed_nothing_is_left(root: Path) -> None:
    program = """
        import os, signal, sys
        from pathlib import Path
        from discoro_trio._process.files._folder import IncomingFile

        IncomingFile(Path(sys.argv[1]), "", "name", 100, overwrite=False).write(memoryview(b"begun"))
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program), str(root)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert all_files(root) == []


async def test_a_file_arrives_with_name_content_and_mode(root: Path, source: Path) -> None:
    async with open_pair(root) as (_, two):
        await send_file(two.endpoint.location, source)
    assert all_files(root) == ["working/data.bin"]
    assert (root / "data.bin").read_bytes() == CONTENT
    assert stat.S_IMODE((root / "data.bin").stat().st_mode) == 0o750


async def test_an_empty_file_arrives(root: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    async with open_pair(root) as (_, two):
        await send_file(two.endpoint.location, tmp_path / "empty")
    assert (root / "empty").read_bytes() == b""


async def test_folders_below_the_working_folder_are_made(root: Path, source: Path) -> None:
    async with open_pair(root) as (_, two):
        await send_file(two.endpoint.location, source, dir="a/b")
        await send_file(two.endpoint.location, source, dir="a/c/")
        await del_file(two.endpoint.location, "data.bin", dir="a/b")
    assert all_files(root) == ["working/a/c/data.bin"]


async def test_progress_is_told_in_bytes_up_to_the_end(root: Path, source: Path) -> None:
    told: list[tuple[int, int]] = []
    async with open_pair(root) as (_, two):
        await send_file(two.endpoint.location, source, on_progress=lambda done, total: told.append((done, total)))
    assert [total for _, total in told] == [len(CONTENT)] * 4
    assert sorted(told) == told
    assert told[-1][0] == len(CONTENT)


async def test_a_file_that_is_there_is_replaced_only_when_asked_for(root: Path, source: Path) -> None:
    (root / "data.bin").write_text("old")
    async with open_pair(root) as (_, two):
        with pytest.raises(FileTransferError, match="exists already; overwrite=True"):
            await send_file(two.endpoint.location, source)
        assert (root / "data.bin").read_text() == "old"
        await send_file(two.endpoint.location, source, overwrite=True)
    assert (root / "data.bin").read_bytes() == CONTENT
    assert all_files(root) == ["working/data.bin"]


def test_a_file_that_is_there_is_refused_before_anything_is_written(root: Path) -> None:
    (root / "name").write_text("old")
    with pytest.raises(FileTransferError, match="exists already"):
        IncomingFile(root, "", "name", 3, overwrite=False)
    assert all_files(root) == ["working/name"]


def test_a_file_that_appears_during_the_transfer_is_not_replaced(root: Path) -> None:
    incoming = IncomingFile(root, "", "name", 3, overwrite=False)
    incoming.write(memoryview(b"new"))
    (root / "name").write_text("other")
    with pytest.raises(FileTransferError, match="exists already"):
        incoming.finish(checksum_of(b"new", incoming.key), 0o600)
    incoming.close()
    assert (root / "name").read_text() == "other"
    assert all_files(root) == ["working/name"]


async def test_files_are_deleted(root: Path) -> None:
    (root / "old").touch()
    (root / "folder").mkdir()
    (root / "link").symlink_to("folder")
    async with open_pair(root) as (_, two):
        await del_file(two.endpoint.location, "old")
        with pytest.raises(FileTransferError, match="there is no file 'old'"):
            await del_file(two.endpoint.location, "old")
        for name in ("folder", "link"):
            with pytest.raises(FileTransferError, match="is not a file"):
                await del_file(two.endpoint.location, name)
    assert not (root / "old").exists()


@pytest.mark.fault("F19")
@pytest.mark.parametrize("escape", ESCAPES, ids=range(len(ESCAPES)))
async def test_nothing_is_written_or_deleted_outside_of_the_folder(root: Path, source: Path, escape: str) -> None:
    (root.parent / "x").write_text("outside")
    before = all_files(root)
    async with open_pair(root) as (one, two):
        place = two.endpoint.location
        with pytest.raises(FileTransferError):
            await send_file(place, source, dir=escape)
        with pytest.raises(FileTransferError):
            await del_file(place, escape)
        with pytest.raises(FileTransferError):
            await del_file(place, "x", dir=escape)
        link = await one.endpoint.link_at(place)
        with pytest.raises(FileTransferError):
            await link.request(files.BeginFile("", escape, 1, overwrite=True))
    assert all_files(root) == before


@pytest.mark.fault("F19")
@pytest.mark.parametrize("target", ["..", "/tmp", "inside"])  # noqa: S108 - nothing is written there
async def test_no_link_is_followed_on_the_way_nor_replaced_through(root: Path, source: Path, target: str) -> None:
    outside = root.parent / "data.bin"
    outside.write_text("outside")
    (root / "inside").mkdir()
    (root / "way").symlink_to(target)
    async with open_pair(root) as (_, two):
        with pytest.raises(FileTransferError, match="a part of the path"):
            await send_file(two.endpoint.location, source, dir="way", overwrite=True)
        with pytest.raises(FileTransferError, match="a part of the path"):
            await del_file(two.endpoint.location, "data.bin", dir="way")
        (root / "data.bin").symlink_to(outside)
        await send_file(two.endpoint.location, source, overwrite=True)
    assert outside.read_text() == "outside"
    assert not (root / "data.bin").is_symlink()


@pytest.mark.fault("F19")
async def test_a_link_that_is_swapped_in_during_the_transfer_leads_nowhere(root: Path) -> None:
    incoming = IncomingFile(root, "folder", "name", 3, overwrite=True)
    incoming.write(memoryview(b"new"))
    (root / "folder").rename(root / "moved")
    (root / "folder").symlink_to(root.parent)
    incoming.finish(checksum_of(b"new", incoming.key), 0o600)
    incoming.close()
    assert all_files(root) == ["working/moved/name"]


@pytest.mark.fault("F19")
def test_a_folder_that_is_swapped_for_a_link_all_the_time_leads_nowhere(root: Path) -> None:
    outside = root.parent / "outside"
    outside.mkdir()
    over = threading.Event()

    def swap() -> None:
        number = 0
        while not over.is_set():
            with suppress(FileExistsError):  # the receiver was quicker, and has made a folder
                (root / "way").symlink_to(outside)
            number += 1
            (root / "way").rename(root / f"away {number}")

    swapping = threading.Thread(target=swap)
    swapping.start()
    arrived = refused = 0
    try:
        while swapping.is_alive() and (arrived < 50 or refused < 50):
            try:
                incoming = IncomingFile(root, "way", "name", 3, overwrite=True)
            except FileTransferError:
                refused += 1
                continue
            incoming.write(memoryview(b"new"))
            incoming.finish(checksum_of(b"new", incoming.key), 0o600)
            incoming.close()
            arrived += 1
    finally:
        over.set()
        swapping.join()
    assert (arrived, refused) >= (50, 50)
    assert list(outside.iterdir()) == []


@pytest.mark.fault("F19")
@pytest.mark.parametrize(("given", "here"), [(0o6777, 0o755), (0o400, 0o600)])
async def test_a_mode_lets_nobody_else_write_the_file_and_makes_nobody_somebody_else(
    root: Path, source: Path, given: int, here: int
) -> None:
    os.chmod(source, given)  # noqa: PTH101 - one call that does not wait
    async with open_pair(root) as (_, two):
        await send_file(two.endpoint.location, source)
    assert stat.S_IMODE((root / "data.bin").stat().st_mode) == here


@pytest.mark.fault("F20")
async def test_one_peer_has_so_many_files_on_the_way_and_no_more(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MOST_INCOMING", 3)
    async with open_pair(root) as (one, two):
        link = await one.endpoint.link_at(two.endpoint.location)
        begun = [await link.request(files.BeginFile("", f"file {number}", 1, overwrite=False)) for number in range(3)]
        with pytest.raises(FileTransferError, match="is sending 3 files already"):
            await link.request(files.BeginFile("", "one more", 1, overwrite=False))
        assert isinstance(begun[0], files.FileBegun)
        link.notify(files.DropFile(begun[0].transfer))
        await link.request(files.BeginFile("", "one more", 1, overwrite=False))
    assert not all_files(root)


@pytest.mark.fault("F20")
async def test_a_file_over_the_limit_is_refused_before_anything_is_written(root: Path, source: Path) -> None:
    async with open_pair(root) as (_, two):
        two.files.max_file_size = 1000
        with pytest.raises(FileTransferError, match=r"at most 1000 \(max_file_size\)"):
            await send_file(two.endpoint.location, source)
        assert not all_files(root)
        two.files.max_file_size = len(CONTENT)
        await send_file(two.endpoint.location, source)


@pytest.mark.fault("F20")
async def test_more_bytes_than_announced_are_refused_and_nothing_is_left(root: Path) -> None:
    async with open_pair(root) as (one, two):
        link = await one.endpoint.link_at(two.endpoint.location)
        begun = await link.request(files.BeginFile("", "name", 10, overwrite=False))
        assert isinstance(begun, files.FileBegun)
        await link.request(files.FilePart(memoryview(b"12345678"), begun.transfer, 0))
        with pytest.raises(FileTransferError, match="longer than the 10 bytes"):
            await link.request(files.FilePart(memoryview(b"12345678"), begun.transfer, 8))
        with pytest.raises(FileTransferError, match="not in progress"):
            await link.request(files.FilePart(memoryview(b"12"), begun.transfer, 8))
    assert not all_files(root)


@pytest.mark.fault("F20")
@pytest.mark.parametrize("change", [-1, 1])
def test_a_file_that_changes_its_length_while_it_is_read_is_an_error(source: Path, change: int) -> None:
    outgoing = OutgoingFile(source)
    outgoing.read(1000)
    os.truncate(source, len(CONTENT) + change)
    with pytest.raises(FileTransferError, match="changed while it was sent"):
        while outgoing.read(PART):
            pass
    outgoing.close()


@pytest.mark.parametrize("other", [b"abd", b"abc\0", b"ab", b""])
async def test_other_bytes_than_were_sent_are_refused(root: Path, other: bytes) -> None:
    async with open_pair(root) as (one, two):
        link = await one.endpoint.link_at(two.endpoint.location)
        begun = await link.request(files.BeginFile("", "name", 3, overwrite=False))
        assert isinstance(begun, files.FileBegun)
        await link.request(files.FilePart(memoryview(b"abc"), begun.transfer, 0))
        with pytest.raises(FileTransferError, match="did not arrive as it was sent"):
            await link.request(files.EndFile(begun.transfer, checksum_of(other, begun.key), 0o600))
    assert not all_files(root)


async def test_a_file_ends_once_and_after_all_of_its_parts(root: Path) -> None:
    async with open_pair(root) as (one, two):
        link = await one.endpoint.link_at(two.endpoint.location)
        begun = await link.request(files.BeginFile("", "early", 6, overwrite=False))
        assert isinstance(begun, files.FileBegun)
        end = files.EndFile(begun.transfer, checksum_of(b"abcdef", begun.key), 0o600)
        errors: list[FileTransferError] = []

        async def refused(message: files.FilePart | files.EndFile) -> None:
            with pytest.raises(FileTransferError) as raised:
                await link.request(message)
            errors.append(raised.value)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(refused, files.FilePart(memoryview(b"def"), begun.transfer, 3))
            await settle()
            nursery.start_soon(refused, end)
            await settle()
            nursery.start_soon(refused, end)
        assert sorted(str(error).partition("; ")[0] for error in errors) == [
            "'early' ended before all of its parts were written",
            "this transfer is no longer in progress",
            "this transfer is not in progress",
        ]
    assert not all_files(root)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "mounted" / "disk"
    folder.mkdir(parents=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=False)
    if done.returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.fault("F20")
async def test_a_full_disk_is_a_clear_error_and_nothing_is_left(small_disk: Path, tmp_path: Path) -> None:
    large, small = tmp_path / "large", tmp_path / "small"
    large.write_bytes(bytes(3 * 1024 * 1024))
    small.write_bytes(CONTENT[:1000])
    async with open_pair(small_disk) as (_, two):
        with pytest.raises(FileTransferError, match="'large': No space left on device"):
            await send_file(two.endpoint.location, large)
        assert not all_files(small_disk)
        await send_file(two.endpoint.location, small)
        assert (small_disk / "small").read_bytes() == CONTENT[:1000]
        (small_disk / "small").unlink()


async def test_a_transfer_that_is_cancelled_leaves_nothing(root: Path, source: Path) -> None:
    async with open_pair(root) as (_, two):
        for parts in range(3):
            with trio.CancelScope() as scope:

                def stop(done: int, _total: int, parts: int = parts, scope: trio.CancelScope = scope) -> None:
                    if done >= parts * PART:
                        scope.cancel()

                if not parts:
                    scope.cancel()
                await send_file(two.endpoint.location, source, on_progress=stop)
            assert scope.cancelled_caught
            await settle()
            assert not all_files(root)


async def test_an_error_of_the_progress_callback_is_raised_bare_and_leaves_nothing(root: Path, source: Path) -> None:
    async with open_pair(root) as (_, two):

        def fail(done: int, _total: int) -> None:
            raise KeyError(done)

        with pytest.raises(KeyError):
            await send_file(two.endpoint.location, source, on_progress=fail)
        await settle()
        assert not all_files(root)


async def test_a_transfer_whose_link_is_lost_leaves_nothing(root: Path, large_source: Path) -> None:
    async with open_pair(root) as (one, two):
        with pytest.raises(FileTransferError, match="was not sent to"):
            await send_file(two.endpoint.location, large_source, on_progress=lambda *_: cut(one, two))
        await settle()
        assert not all_files(root)


async def test_what_is_no_file_is_not_sent(root: Path, tmp_path: Path) -> None:
    async with open_pair(root) as (_, two):
        with pytest.raises(FileTransferError, match="No such file"):
            await send_file(two.endpoint.location, tmp_path / "missing")
        with pytest.raises(FileTransferError, match="is not a file"):
            await send_file(two.endpoint.location, tmp_path)
    assert not all_files(root)


async def test_a_place_where_nobody_listens_is_a_clear_error(root: Path, source: Path) -> None:
    async with open_pair(root):
        with pytest.raises(FileTransferError, match="cannot be reached"):
            await send_file(Location("127.0.0.1", 1), source)
        with pytest.raises(FileTransferError, match="cannot be reached"):
            await del_file(Location("127.0.0.1", 1), "name")


async def test_messages_do_not_wait_behind_a_file(root: Path, tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(bytes(32 * PART))
    async with open_pair(root) as (one, two), trio.open_nursery() as nursery:
        finished = trio.Event()

        async def send() -> None:
            await send_file(two.endpoint.location, large)
            finished.set()

        nursery.start_soon(send)
        link = await one.endpoint.link_at(two.endpoint.location)
        with pytest.raises(FileTransferError, match="no file"):
            await link.request(files.DeleteFile("", "another"))
        assert not finished.is_set()


@pytest.mark.fault("F16")
@pytest.mark.parametrize(
    ("size", "offsets"),
    [
        (PART, [2 * PART] * 500),  # for a place that is never reached
        (PART, range(PART, 500 * PART, PART)),  # all but the first
        (PART + 1, [0]),
    ],
)
async def test_parts_that_only_wait_are_few_and_end_their_transfer(
    root: Path, size: int, offsets: Iterable[int]
) -> None:
    async with open_pair(root) as (one, two):
        link = await one.endpoint.link_to(two.id, two.endpoint.location, b"")
        begun = await link.request(files.BeginFile("", "data.bin", 1000 * PART, overwrite=False))
        assert isinstance(begun, files.FileBegun)
        refused: list[str] = []

        async def send(offset: int) -> None:
            try:
                await link.request(files.FilePart(memoryview(bytes(size)), begun.transfer, offset), timeout=None)
            except FileTransferError as error:
                refused.append(str(error))

        async with trio.open_nursery() as nursery:
            for offset in offsets:
                nursery.start_soon(send, offset)
        assert sum("may be in flight" in text for text in refused) >= 1
        assert len(refused) == len(list(offsets))
        assert all_files(root) == []
