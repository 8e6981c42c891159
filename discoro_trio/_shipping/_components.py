"""The components of a computation: checked when it is made, packed when it is scheduled.

This module decides what may be a component, and what is sent along with it. `_package` defines the form in which they
are sent, `_installation` what servers do with them.
"""

from __future__ import annotations

import functools
import inspect
import os
import reprlib
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from .._errors import NotPicklable
from .._records import Record
from ._codec import dumps_components
from ._freshness import watch
from ._module_origins import is_at, is_client_module, origin
from ._package import Package, PackedFile, sealed
from ._shipped import CodeRoot, Shipped

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_WANTED = "a component is a function, a class, a module, or the path of a file or folder"
STREAMED = 1024 * 1024
"""Files of at least this many bytes are not read into memory: each node requests them in parts."""

_NOT_SHIPPED = {"__pycache__", ".git", ".hg", ".svn", ".mypy_cache", ".pytest_cache", ".ruff_cache"}


class Components(Record, frozen=True):
    """The components of a computation, by kind, in the order of the list."""

    definitions: tuple[Any, ...]
    """Functions and classes."""
    modules: tuple[ModuleType, ...]
    """Modules and packages."""
    paths: tuple[Path, ...]
    """Files and folders, absolute."""


class PackedComponents(Record, frozen=True):
    """Components ready to be sent."""

    package: Package
    """The package that is sent to the nodes."""
    shipped: Shipped
    """The registry of every server that has the package: for `dumps`, and for `open_shipped`."""
    streams: tuple[Path, ...]
    """The large files, by their number: nodes request their content."""


def check_components(components: Iterable[object]) -> Components:
    """Check the components of a computation.

    Args:
        components: Functions, classes, modules, packages, and paths of files or folders.

    Raises:
        TypeError: One is something else; the message names it and its fix.
        FileNotFoundError: A path does not exist.
        ValueError: Two files would have the same name in the working folder.
    """
    if isinstance(components, (str, bytes, os.PathLike)) or not isinstance(components, Iterable):
        text = f"the components are a list: Computation([{_short(components)}])"
        raise TypeError(text)
    definitions: list[Any] = []
    modules: list[ModuleType] = []
    paths: list[Path] = []
    for component in components:
        if isinstance(component, ModuleType):
            modules.append(_checked_module(component))
        elif isinstance(component, (str, os.PathLike)):
            paths.append(_checked_path(component))
        else:
            definitions.append(_checked_definition(component))
    _check_names(paths)
    # A component that is listed twice is sent once.
    unique = {id(component): component for component in definitions}
    return Components(tuple(unique.values()), tuple(dict.fromkeys(modules)), tuple(dict.fromkeys(paths)))


def pack(components: Components | Iterable[object], *, automatic: bool = True) -> PackedComponents:
    """Pack components, checked or not; reads the files.

    Args:
        components: The components.
        automatic: Whether objects that functions name are sent with them, listed or not.

    Raises:
        TypeError, FileNotFoundError, ValueError: As `check_components`.
        NotPicklable: A function or class refers to an object that cannot be sent; the message names both.
        OSError: A file cannot be read.
    """
    if not isinstance(components, Components):
        components = check_components(components)
    streams: list[Path] = []
    code = {packed.path: packed for module in components.modules for packed in _code_of(module, streams)}
    modules = tuple(dict.fromkeys(_whole(module.__name__) for module in components.modules))
    shipped = Shipped(modules=frozenset(modules), roots=tuple(_roots(components.paths)), automatic=automatic)
    pickled, along = _pickled(components.definitions, shipped)
    package = sealed(
        Package(
            digest="",
            origin=origin(),
            names=tuple(_name(component) for component in components.definitions),
            definitions=pickled,
            along=tuple((obj.__module__, obj.__qualname__) for obj in along),
            client_modules=_client_modules([*components.definitions, *along], shipped),
            modules=modules,
            imports=tuple(module.__name__ for module in components.modules),
            code=tuple(code.values()),
            files=tuple(packed for path in components.paths for packed in _tree(path, path.name, streams)),
            code_folders=tuple(path.name for path in components.paths if _is_plain_folder(path)),
            automatic=automatic,
        )
    )
    shipped.digest = package.digest
    shipped.add(components.definitions, along)
    if components.definitions or components.modules or components.paths:
        shipped.watch(watch)
    return PackedComponents(package, shipped, tuple(streams))


# --- checks


def _checked_definition(component: Any) -> Any:
    if inspect.iscoroutine(component):
        name = component.__qualname__
        component.close()
        text = f"{name}() was called; list the function itself: Computation([{name}])"
        raise TypeError(text)
    if isinstance(component, (type, functools.partial)) or inspect.isroutine(component):
        return component
    if callable(component) and hasattr(component, "__wrapped__"):  # made by decorators in C, such as lru_cache
        return component
    if callable(component):
        kind = type(component).__qualname__
        text = f"{_WANTED}, not the {kind} {_short(component)}: list the class {kind} instead"
        raise TypeError(text)
    text = f"{_WANTED}, not the {type(component).__qualname__} {_short(component)}"
    raise TypeError(text)


def _checked_module(module: ModuleType) -> ModuleType:
    if module.__name__ in {"__main__", "__mp_main__"}:
        text = "the program itself cannot be a component, it would run again: list its functions and classes"
        raise TypeError(text)
    has_source = _file_of(module) is not None or _archive_of(module) is not None or hasattr(module, "__path__")
    if is_client_module(module.__name__) and not has_source:
        text = f"module {module.__name__} has no file that could be sent: list its functions and classes"
        raise TypeError(text)
    return module


def _checked_path(given: str | os.PathLike[Any]) -> Path:
    path = Path(os.path.abspath(os.fsdecode(given)))  # noqa: PTH100 - links keep their names
    if path.is_file() or path.is_dir():
        return path
    if path.exists():
        text = f"component {os.fsdecode(given)!r} is neither a file nor a folder"
        raise TypeError(text)
    text = f"component {os.fsdecode(given)!r}: there is no such file or folder (looked for {path}). A string is a path"
    raise FileNotFoundError(text)


def _check_names(paths: Iterable[Path]) -> None:
    known: dict[str, Path] = {}
    for path in paths:
        other = known.setdefault(path.name, path)
        if other != path:
            text = f"{other} and {path} would both be {path.name!r} in the working folder: rename one of them"
            raise ValueError(text)
        if not path.name:
            text = f"component {str(path)!r} has no name to give it in the working folder"
            raise ValueError(text)


def _short(component: object) -> str:
    try:
        return _name(component) if inspect.isroutine(component) else reprlib.repr(component)
    except Exception:  # noqa: BLE001 - its __repr__ may raise anything
        return f"a {type(component).__qualname__}"


def _name(component: Any) -> str:
    while isinstance(component, functools.partial):
        component = component.func
    return str(getattr(component, "__qualname__", None) or type(component).__qualname__)


# --- functions and classes


def _pickled(definitions: Sequence[Any], shipped: Shipped) -> tuple[bytes, list[Any]]:
    try:
        pickled, bound = dumps_components(definitions, shipped)
    except NotPicklable:
        for component in definitions:
            _check_one(component, shipped)
        raise
    listed = {id(component) for component in definitions}
    # An object without its own name here has none at the server.
    along = [obj for obj in bound if id(obj) not in listed and is_at(obj, obj.__module__, obj.__qualname__)]
    return pickled, along


def _check_one(component: Any, shipped: Shipped) -> None:
    """Raise an error if a component cannot be sent by itself."""
    try:
        dumps_components([component], shipped)
    except NotPicklable as error:
        text = f"component {_name(component)} cannot be sent: {error}"
        raise NotPicklable(text) from error.__cause__


def _client_modules(objects: Sequence[Any], shipped: Shipped) -> tuple[tuple[str, str | None], ...]:
    names: set[object] = {getattr(obj, "__module__", None) for obj in objects}
    names |= {getattr(obj, "__globals__", {}).get("__name__") for obj in objects}
    found = (name for name in names if isinstance(name, str) and name in sys.modules and is_client_module(name))
    hosted = sorted(name for name in found if not shipped.has_module(name))
    return tuple((name, getattr(sys.modules[name], "__package__", None)) for name in hosted)


# --- modules and files


def _file_of(module: ModuleType) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file) if file and Path(file).is_file() else None


def _whole(name: str) -> str:
    """Return the name of the package that is sent with a module: the outermost that is not a namespace package."""
    parts = name.split(".")
    for count in range(1, len(parts)):
        above = ".".join(parts[:count])
        module = sys.modules.get(above)
        if module is not None and (_file_of(module) is not None or _archive_of(module) is not None):
            return above
    return name


def _code_of(module: ModuleType, streams: list[Path]) -> Iterator[PackedFile]:
    """Yield the source of a client module; for a module in a package, the whole package."""
    if not is_client_module(module.__name__):
        return
    name = _whole(module.__name__)
    whole = sys.modules[name]
    path = name.replace(".", "/")
    file = _file_of(whole)
    folders = list(getattr(whole, "__path__", ()))
    archive = _archive_of(whole)
    if archive is not None:
        yield from _archived(whole, archive, path)
    elif folders:
        yield from _tree(Path(folders[0]), path, streams)
    elif file is not None:
        yield _packed(file, f"{path}{''.join(file.suffixes)}", streams)


def _archive_of(module: ModuleType) -> Path | None:
    """Return the zip file from which a module was loaded; None if it was not."""
    archive = getattr(getattr(module.__spec__, "loader", None), "archive", None)
    return Path(archive) if isinstance(archive, str) and module.__file__ else None


def _archived(module: ModuleType, archive: Path, path: str) -> Iterator[PackedFile]:
    """Yield the source of a module in a zip file; for a package, all of its files."""
    inner = Path(str(module.__file__)).relative_to(archive)
    with zipfile.ZipFile(archive) as opened:
        if not hasattr(module, "__path__"):
            yield PackedFile(f"{path}.py", 0o600, opened.read(inner.as_posix()))
            return
        folder = f"{inner.parent.as_posix()}/"
        for found in opened.infolist():
            if found.filename.startswith(folder) and not found.is_dir():
                yield PackedFile(f"{path}/{found.filename.removeprefix(folder)}", 0o600, opened.read(found))


def _is_plain_folder(path: Path) -> bool:
    """Return whether modules are imported from a folder, rather than the folder being a package."""
    return path.is_dir() and not (path / "__init__.py").is_file()


def _roots(paths: Iterable[Path]) -> Iterator[CodeRoot]:
    for path in paths:
        if _is_plain_folder(path):
            yield CodeRoot(f"{path}{os.sep}", "")
        elif path.is_dir():
            yield CodeRoot(f"{path}{os.sep}", path.name)


def _tree(path: Path, name: str, streams: list[Path], above: tuple[str, ...] = ()) -> Iterator[PackedFile]:
    """Yield a file, or a folder with its contents; links are followed, but not in circles."""
    if not path.is_dir():
        yield _packed(path, name, streams)
        return
    real = os.path.realpath(path)
    if real in above:
        return
    yield PackedFile(name, path.stat().st_mode, b"", is_folder=True)
    for entry in sorted(path.iterdir()):
        if entry.name not in _NOT_SHIPPED and (entry.is_dir() or entry.is_file()):
            yield from _tree(entry, f"{name}/{entry.name}", streams, (*above, real))


def _packed(path: Path, name: str, streams: list[Path]) -> PackedFile:
    found = path.stat()
    if found.st_size < STREAMED:
        return PackedFile(name, found.st_mode, path.read_bytes())
    with path.open("rb"):  # it can be read
        streams.append(path)
    return PackedFile(name, found.st_mode, b"", stream=len(streams) - 1, streamed=found.st_size)
