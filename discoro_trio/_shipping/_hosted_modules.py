"""The modules of a client in a process that does not have their files, and the functions that by-value pickles call.

Each client module becomes one real module here, and its functions have that module's dictionary as their globals
(so plain pickles of its classes' instances work). This module owns those modules, and the functions that build
functions and classes in them. Pickles name these functions, so their signatures are part of the wire format.
The other half, the contents of such pickles, is in `_by_value`.
"""

from __future__ import annotations

import builtins
import functools
import importlib
import marshal
import sys
import threading
import typing
from contextvars import ContextVar
from importlib.machinery import PathFinder
from types import CellType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from ._missing_modules import MissingModule, MissingObject
from ._module_origins import forget_modules, hosts_modules_of, is_client_module, origin, resolve
from ._module_sources import add_sources, complete_from_source
from ._shipped import open_everywhere

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import CodeType


class HostedModule(ModuleType):
    """A client's module, made from the parts of it that were received."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        if complete_from_source(self):
            return getattr(self, name)
        text = (
            f"module {self.__name__!r} has no {name!r} here: of a module of the client only the components are, and "
            "what their code names. List it, or the module, in Computation(components)"
        )
        raise AttributeError(text, name=name, obj=self)


class _Hosted:
    """The modules that this process hosts."""

    def __init__(self) -> None:
        self.modules: dict[str, HostedModule] = {}
        self.foreign: dict[tuple[bytes, str], HostedModule] = {}
        self.withheld: dict[str, dict[str, str]] = {}
        self.code_folders: list[str] = []
        self.unfilled: dict[int, Any] = {}
        self.progress = 0


_state = _Hosted()

# --- modules


def add_code_folders(folders: Iterable[str]) -> None:
    """Import client modules from these folders, before all others."""
    for folder in reversed([*folders]):
        _state.code_folders.insert(0, folder)
        sys.path.insert(0, folder)
    importlib.invalidate_caches()


def host_module(name: str, package: str | None = None) -> ModuleType:
    """Make a client's module, empty at first; it replaces an installed one of the same name."""
    known = _state.modules.get(name)
    if known is not None and sys.modules.get(name) is known:
        return known
    module = HostedModule(name, "A module of the client; what is here came as a component or with a call.")
    module.__package__ = name.rpartition(".")[0] if package is None else package
    if module.__package__ == name:
        module.__path__ = _folders_of(name)
    module.__dict__["__builtins__"] = builtins
    sys.modules[name] = _state.modules[name] = module
    _bind_to_parent(name, module)
    forget_modules()
    return module


def _folders_of(package: str) -> list[str]:
    """Return the folders of an installed package of that name: its submodules can still be imported."""
    spec = PathFinder.find_spec(package) if "." not in package else None
    return [] if spec is None else list(spec.submodule_search_locations or ())


def _bind_to_parent(name: str, module: ModuleType) -> None:
    parent, _, child = name.rpartition(".")
    if parent:
        try:
            above = importlib.import_module(parent)
        except ImportError:
            above = host_module(parent, parent)
        setattr(above, child, module)


def client_module(name: str, package: str | None = None) -> ModuleType:
    """Return this process's module for a client module: its own, one from the code folders, or a hosted one."""
    module = sys.modules.get(name)
    if module is not None and is_client_module(name):
        if package is not None and isinstance(module, HostedModule):
            module.__package__ = package
        return module
    if name != "__main__" and _in_code_folders(name):
        return importlib.import_module(name)
    return host_module(name, package)


def _in_code_folders(name: str) -> bool:
    top = name.partition(".")[0]
    return bool(_state.code_folders) and PathFinder.find_spec(top, _state.code_folders) is not None


def forget_installed_namesakes(names: Iterable[str]) -> None:
    """Unload installed modules that a client's modules of the same names replace."""
    for name in names:
        for loaded in [other for other in list(sys.modules) if other == name or other.startswith(f"{name}.")]:
            if not is_client_module(loaded):
                del sys.modules[loaded]
    forget_modules()


def namespace(name: str | None, owner: bytes | None, package: str | None = None) -> dict[str, Any]:
    """Return the dictionary for the globals of a function.

    Args:
        name: The name of the module; None for a separate dictionary, as `exec` makes them.
        owner: The token of the client whose module it is; None for an installed module.
        package: The module's `__package__`.
    """
    if name is None:
        return {"__builtins__": builtins}
    if owner is None:
        return importlib.import_module(name).__dict__
    if owner == origin():
        return client_module(name, package).__dict__
    # Of another client: its modules must not be confused with this client's, nor replace them.
    module = _state.foreign.get((owner, name))
    if module is None:
        module = _state.foreign[owner, name] = HostedModule(name)
        module.__dict__.update({"__builtins__": builtins, "__package__": package, FOREIGN: owner})
    return module.__dict__


FOREIGN = "__discoro_origin__"
"""The key in the dictionary of another client's module that holds that client's token."""

VERSIONS = "__discoro_versions__"
"""The key in the dictionary of a client's module that holds the versions of the received constants, by name, each
with the value."""


def _is_ours_to_fill(names: dict[str, Any]) -> bool:
    """Return whether names may be set in a dictionary: never in a module that this process has by itself."""
    if FOREIGN in names:
        return True
    name = names.get("__name__")
    module: ModuleType | None = _state.modules.get(name) if isinstance(name, str) else None
    if module is None and isinstance(name, str) and hosts_modules_of(origin()) and is_client_module(name):
        module = sys.modules.get(name)  # a module whose source was received
    return module is not None and module.__dict__ is names


# --- functions


def code(marshalled: bytes) -> CodeType:
    """Return a code object; the handshake ensures that peers have the same minor version of Python."""
    made: CodeType = marshal.loads(marshalled)  # noqa: S302 - authenticated, as everything that is unpickled
    return made


def bind(made: object, module: str, owner: bytes, name: str) -> None:
    """Set a name in a client's module, unless that is this process's own."""
    names = namespace(module, owner)
    if _is_ours_to_fill(names):
        names[name] = made


def function(
    made_of: CodeType, names: dict[str, Any], cells: tuple[CellType, ...] | None, bound: tuple[str, bytes, str] | None
) -> FunctionType:
    """Make a function, still without the objects to which it refers: one of them may be the function itself."""
    made = FunctionType(made_of, names, None, None, cells)
    if bound is not None:
        bind(made, *bound)
    return made


def fill_function(made: FunctionType, state: dict[str, Any]) -> None:
    """Set the attributes and the closure of a function, and the globals that came with it."""
    made.__dict__.update(state.pop("__dict__"))
    for one, contents in zip(made.__closure__ or (), state.pop("cells"), strict=True):
        fill_cell(one, contents)
    for found in state.pop("globals"):
        fill_globals(*found)
    for submodule in state.pop("submodules", ()):
        _imports(submodule)
    sources = state.pop("sources", None)
    if sources:
        add_sources(*sources)
    for name, value in state.items():
        setattr(made, name, value)


def fill_globals(
    names: dict[str, Any],
    modules: dict[str, tuple[str, Sequence[str]]],
    imports: dict[str, tuple[str, str]],
    values: Iterable[tuple[Any, ...]],
    withheld: dict[str, str],
) -> None:
    """Set the globals that were sent: modules and objects of installed modules by name, all others by value.

    Args:
        names: The dictionary to set them in.
        modules: For each name the module and its submodules.
        imports: For each name the module and the name in that module.
        values: Names, versions and values; values that the sender might withhold are between two marks.
        withheld: For each name that was not sent the reason.
    """
    private = "__name__" not in names
    if not (private or _is_ours_to_fill(names)):
        return
    for name, (module, submodules) in modules.items():
        names[name] = module_named(module, *submodules)
    for name, (module, qualname) in imports.items():
        names[name] = object_named(module, qualname)
    for name, version, *value in values:
        if version is None:
            names[name] = value[0]
        else:
            _set_version(names, name, version, value[len(value) // 2])
    if withheld and not private:
        _state.withheld.setdefault(names["__name__"], {}).update(withheld)


def _set_version(names: dict[str, Any], name: str, version: int, value: object) -> None:
    """Set a constant, unless this version was already received: jobs may have set another value since."""
    versions = names.setdefault(VERSIONS, {})
    known, _ = versions.get(name, (-1 if name not in names or callable(value) else 0, None))
    if version > known:
        versions[name] = (version, value)
        names[name] = value


def withheld_names(module: str) -> dict[str, str]:
    """Return the globals of a client's module that functions here name but that were not sent, with the reasons."""
    return _state.withheld.get(module, {})


def hosts(module: str) -> bool:
    """Return whether this process has made a client's module from the received parts."""
    return module in _state.modules or any(name == module for _, name in _state.foreign)


def cell() -> CellType:
    """Make an empty cell; functions that share a variable share its cell."""
    return CellType()


def fill_cell(made: CellType, contents: object) -> None:
    """Set the contents of a cell."""
    if contents is not NO_VALUE:
        made.cell_contents = contents


class _NoValue:
    """Represents the contents of an empty cell."""

    def __reduce__(self) -> str:
        return "NO_VALUE"


NO_VALUE = _NoValue()


def module_named(name: str, *submodules: str) -> ModuleType:
    """Import a module, or return one that raises an error when it is used."""
    try:
        module = importlib.import_module(name)
    except Exception as error:  # noqa: BLE001 - its import may raise anything
        return MissingModule(name, error)
    for submodule in submodules:
        # A submodule that cannot be imported is a missing attribute, which is a clear error.
        _imports(submodule)
    return module


def _imports(name: str) -> bool:
    try:
        importlib.import_module(name)
    except Exception:  # noqa: BLE001 - its import may raise anything
        return False
    return True


def object_named(module: str, qualname: str) -> object:
    """Return the object with a name in an installed module, or an object that raises an error when it is used."""
    try:
        importlib.import_module(module)
    except Exception as error:  # noqa: BLE001 - whatever it does while it is imported
        return MissingObject(module, qualname, error)
    found = resolve(module, qualname)
    if found is None:
        return MissingObject(module, qualname, AttributeError(f"module {module!r} has no {qualname!r}"))
    return found


# --- objects that pickle cannot take apart


def lru_cached(
    wrapped: Callable[..., object],
    maxsize: int | None,
    typed: bool,  # noqa: FBT001 - as functools names it
    bound: tuple[str, bytes, str] | None,
) -> object:
    """Make a function with an empty cache."""
    made = functools.lru_cache(maxsize, typed)(wrapped)
    if bound is not None:
        bind(made, *bound)
    return made


def cached_property(getter: Callable[[Any], object], name: str | None) -> functools.cached_property[object]:
    """Make a cached property of a class that is being made."""
    made = functools.cached_property(getter)
    made.attrname = name
    return made


def new_type(name: str, module: str, supertype: Any) -> object:
    """Make a `typing.NewType`."""
    make: Any = typing.NewType
    made = make(name, supertype)
    made.__module__ = module
    return made


def bytes_of(buffer: Any) -> bytes:
    """Return the contents of a buffer as bytes: the buffer itself if it is bytes, otherwise a copy."""
    return buffer if isinstance(buffer, bytes) else bytes(buffer)


def whole(obj: object, *_tail: object) -> object:
    """Return the pickled object, after its functions and classes are completed."""
    return obj


def process_own(kind: str) -> object:
    """Make an object that belongs to one process: a lock, or thread-local data."""
    return {"lock": threading.Lock, "rlock": threading.RLock, "local": threading.local}[kind]()


def context_variable(name: str, *default: object) -> ContextVar[Any]:
    """Make a context variable."""
    return ContextVar(name, default=default[0]) if default else ContextVar(name)


def module_made(name: str) -> ModuleType:
    """Make a module that is not in `sys.modules`."""
    return ModuleType(name)


def validated_call(kind: Any, function: Any, hints: dict[str, Any], config: Any, validate_return: bool) -> object:  # noqa: FBT001
    """Wrap a function as pydantic.validate_call does."""
    function.__annotations__ = hints
    return kind(function, config, validate_return, None)


def singleton(kind: type, module: str, owner: bytes, name: str) -> object:
    """Return the single object with a name; make it at its first use in this process."""
    names = namespace(module, owner)
    found = names.get(name)
    if type(found) is kind:
        return found
    made: object = object.__new__(kind)
    bind(made, module, owner, name)
    _state.unfilled[id(made)] = made
    return made


def fill_singleton(made: object, state: Any) -> None:
    """Set the attributes of a new object; an existing one has them."""
    if _state.unfilled.pop(id(made), None) is None or state is None:
        return
    attributes, slots = state if isinstance(state, tuple) else (state, None)
    for name, value in {**(attributes or {}), **(slots or {})}.items():
        object.__setattr__(made, name, value)


def type_alias(
    name: str, module: str | None, parameters: tuple[Any, ...], bound: tuple[str, bytes, str] | None, *value: object
) -> object:
    """Make a type alias; without parameters its value is set later, and may refer to the alias."""
    if bound is not None:
        names = namespace(*bound[:2])
        if not _is_ours_to_fill(names) and name in names:
            return names[name]
    made: object
    space: dict[str, Any] = {"__name__": module, "typing": typing, "parameters": parameters, "value": value}
    if value:
        made = eval(f"typing.TypeAliasType({name!r}, value[0], type_params=parameters)", space)  # noqa: S307
    else:
        exec(f"type {name} = value[0]", space)  # noqa: S102
        made = space[name]
        _state.unfilled[id(made)] = space
    if bound is not None:
        bind(made, *bound)
    return made


def fill_type_alias(made: object, value: object) -> None:
    """Set the value of a new alias."""
    space = _state.unfilled.pop(id(made), None)
    if space is not None:
        space["value"] = (value,)


# --- components


class InstallProgress:
    """Precedes each component in a pickle of several; unpickling it records the progress."""

    def __init__(self, index: int) -> None:
        self.index = index

    def __reduce__(self) -> tuple[object, ...]:
        return note_progress, (self.index,)


def note_progress(index: int) -> None:
    """Record which component is being unpickled."""
    _state.progress = index


def progress() -> int:
    """Return the number of the component that was unpickled last."""
    return _state.progress


def component(digest: bytes, index: int) -> object:
    """Return a component by its position in its package."""
    return open_everywhere.component(digest.hex(), index)
