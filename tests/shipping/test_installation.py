from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from discoro_trio._errors import ProtocolError
from discoro_trio._shipping._installation import place_files, write_tree
from discoro_trio._shipping._package import Package, PackedFile, decode_package_untrusted, encode_package, sealed

if TYPE_CHECKING:
    from pathlib import Path

EMPTY = Package(
    digest="",
    origin=b"o" * 16,
    names=(),
    definitions=b"",
    along=(),
    client_modules=(),
    modules=(),
    imports=(),
    code=(),
    files=(),
    code_folders=(),
)


def with_files(*files: PackedFile, code: tuple[PackedFile, ...] = ()) -> Package:
    return sealed(msgspec.structs.replace(EMPTY, files=files, code=code))


def everything_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.spec("S45")
def test_files_are_written_with_their_folders_and_modes(tmp_path: Path) -> None:
    package = with_files(
        PackedFile("data", 0o755, b"", is_folder=True),
        PackedFile("data/run.sh", 0o755, b"#!"),
        PackedFile("data/in/input.dat", 0o100600, b"input"),
        code=(PackedFile("pkg/__init__.py", 0o644, b"X = 1"),),
    )
    write_tree(package, tmp_path)
    assert everything_in(tmp_path) == [
        "code", "code/pkg", "code/pkg/__init__.py",
        "files", "files/data", "files/data/in", "files/data/in/input.dat", "files/data/run.sh",
    ]  # fmt: skip
    assert (tmp_path / "files/data/run.sh").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "files/data/in/input.dat").read_bytes() == b"input"


@pytest.mark.spec("S45")
def test_each_server_has_files_of_its_own(tmp_path: Path) -> None:
    write_tree(with_files(PackedFile("d/input.dat", 0o640, b"input")), tmp_path)
    servers = [tmp_path / "server-1", tmp_path / "server-2"]
    for server in servers:
        server.mkdir()
        place_files(tmp_path, server)
    (servers[0] / "d" / "input.dat").write_bytes(b"changed")
    assert (servers[1] / "d" / "input.dat").read_bytes() == b"input"
    assert (servers[0] / "d" / "input.dat").stat().st_mode & 0o777 == 0o640


@pytest.mark.fault("F19")
@pytest.mark.parametrize(
    "name", ["../x", "/x", "a/../../x", "a//x", "", ".", "a/.", "a\0b", "..", "a\\..\\x", "x" * 256]
)
def test_nothing_is_written_outside_the_folder(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises((ProtocolError, OSError)):
        write_tree(with_files(PackedFile("ok", 0o644, b""), PackedFile(name, 0o644, b"evil")), folder)
    assert [path for path in everything_in(tmp_path) if not path.startswith("folder")] == []


@pytest.mark.fault("F19")
def test_links_that_are_there_are_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"mine")
    folder = tmp_path / "folder"
    (folder / "files").mkdir(parents=True)
    (folder / "files" / "x").symlink_to(target)
    with pytest.raises(OSError, match="exist"):
        write_tree(with_files(PackedFile("x", 0o644, b"evil")), folder)
    assert target.read_bytes() == b"mine"


def test_a_package_comes_as_it_was_sealed() -> None:
    package = with_files(PackedFile("a", 0o644, b"x"))
    assert decode_package_untrusted(encode_package(package)) == package


@pytest.mark.parametrize(("old", "new"), [(b"xyz", b"xyy"), (b"xyz", b""), (b"a", b"")])
def test_a_damaged_package_is_refused(old: bytes, new: bytes) -> None:
    data = encode_package(with_files(PackedFile("a", 0o644, b"xyz")))
    with pytest.raises(ProtocolError, match="the components of a computation"):
        decode_package_untrusted(data.replace(old, new))
