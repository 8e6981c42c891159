"""Installs components at a server: files into folders, functions and classes into their modules.

This module defines what a server process does with a package before it runs anything. `_cluster` chooses the folders
and writes files once for each node; `_components` makes packages.
"""

from __future__ import annotations

import importlib
import os
import shutil
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from .._errors import DiscoroError, ProtocolError
from ._codec import loads
from ._hosted_modules import add_code_folders, client_module, forget_installed_namesakes, host_module, progress
from ._missing_modules import set_place
from ._module_origins import adopt_origin, resolve
from ._package import masked_untrusted
from ._shipped import CodeRoot, Shipped, open_shipped

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._package import Package, PackedFile

CODE = "code"
FILES = "files"


def write_tree(package: Package, folder: Path) -> None:
    """Write the code and the files of a package, except streamed files, once for each node.

    Args:
        package: The components.
        folder: An empty folder, in which the folders `code` and `files` are made.

    Raises:
        ProtocolError: A name leads out of the folder; nothing was written.
        OSError: A file cannot be written.
    """
    for files in (package.code, package.files):
        _check_paths_untrusted(files)
    for name, files in ((CODE, package.code), (FILES, package.files)):
        (folder / name).mkdir(mode=0o700)  # the working folder gets this mode, too
        for packed in files:
            _write(packed, folder / name)


def streamed_files(package: Package, folder: Path) -> list[tuple[PackedFile, Path]]:
    """Return the files of a package whose content is streamed, each with its folder."""
    both = ((package.code, folder / CODE), (package.files, folder / FILES))
    return [(packed, where) for files, where in both for packed in files if packed.stream is not None]


def create_file(packed: PackedFile, folder: Path) -> int:
    """Create an empty file and return its descriptor. OSError if that is not possible."""
    path = folder.joinpath(*PurePosixPath(packed.path).parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The folder is new and private; as a second protection, the file must be new, so no link is followed.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(path, flags, 0o600)
    os.fchmod(descriptor, masked_untrusted(packed.mode) | 0o400)
    return descriptor


def holds_files(folder: Path) -> bool:
    """Return whether `write_tree` wrote files for the working folders; without files a server starts no thread."""
    return any((folder / FILES).iterdir())


def place_files(folder: Path, working_folder: Path) -> None:
    """Copy the files that `write_tree` wrote into a server's working folder.

    They are copies: changes by a coroutine to its input files must not affect other servers of the node.
    """
    shutil.copytree(folder / FILES, working_folder, dirs_exist_ok=True, symlinks=True)


def install_definitions(package: Package, folder: Path, *, place: str) -> Shipped:
    """Load the functions, classes and modules of a package into this process, a server of only this computation.

    From then on, `__main__` is the client's. The working folder must be the current folder and contain its files.

    Args:
        package: The components.
        folder: The folder of `write_tree`.
        place: The name of this server, for messages.

    Returns:
        The registry of this server's components; it is already open.

    Raises:
        DiscoroError: A component cannot be installed; the message contains its name and the reason.
    """
    set_place(place)
    adopt_origin(package.origin)
    host_module("__main__")
    working = Path.cwd()
    code = [folder / CODE, *(working / below for below in package.code_folders)]
    forget_installed_namesakes(_top_names(code))
    add_code_folders(str(path) for path in code)
    for name, parent in package.client_modules:
        client_module(name, parent)
    objects = _opened(package, place)
    roots = tuple(CodeRoot(f"{path}{os.sep}", "") for path in code)
    shipped = Shipped(package.digest, frozenset(package.modules), roots, automatic=package.automatic)
    along = (resolve(module, name) for module, name in package.along)
    shipped.add(objects, [found for found in along if found is not None])
    open_shipped(shipped)
    _import_listed(package, place)
    return shipped


def _opened(package: Package, place: str) -> list[object]:
    try:
        marked: list[tuple[object, object]] = loads(package.definitions)
    except Exception as error:
        name = package.names[progress()] if package.names else "nothing"
        raise DiscoroError(_failure(name, place, error)) from error
    return [component for _, component in marked]


def _import_listed(package: Package, place: str) -> None:
    for name in package.imports:
        try:
            importlib.import_module(name)
        except Exception as error:
            text = f"module {name} cannot be imported at {place}: {type(error).__name__}: {error}"
            raise DiscoroError(text) from error


def _failure(name: str, place: str, error: Exception) -> str:
    return (
        f"component {name} cannot be installed at {place}: {type(error).__name__}: {error}. Define it in a module of "
        "its own, and list that module in its place: servers then run its source"
    )


def _top_names(folders: Iterable[Path]) -> set[str]:
    """Return the names of modules and packages in folders."""
    found = set[str]()
    for folder in folders:
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.suffix in {".py", ".so", ".pyd"} or (path / "__init__.py").is_file():
                found.add(path.name.partition(".")[0])
    return found


# --- files


def _check_paths_untrusted(files: Iterable[PackedFile]) -> None:
    for packed in files:
        parts = packed.path.split("/")
        if any(part in {"", ".", ".."} or "\0" in part or "\\" in part for part in parts):
            text = f"a component has the file name {packed.path!r}, which does not stay in its folder"
            raise ProtocolError(text)


def _write(packed: PackedFile, folder: Path) -> None:
    if packed.is_folder:
        folder.joinpath(*PurePosixPath(packed.path).parts).mkdir(parents=True, exist_ok=True)
    elif packed.stream is None:
        with os.fdopen(create_file(packed, folder), "wb") as file:
            file.write(packed.content)
