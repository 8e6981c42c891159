"""The components that the other side already has: they are sent by reference, not by value.

This module owns the registry of them that both sides keep. `_components` packs components, `_installation` installs
them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from .._records import MutableRecord, Record
from ._module_origins import is_at, resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ._freshness import Watch

NATURAL: Final = ("", -1)
"""The reference of an object that is found under its own name in its own module."""

Reference = tuple[str, int]
"""A package's digest and a position in its definitions, or NATURAL."""


class CodeRoot(Record, frozen=True):
    """A folder whose modules the other side has, too."""

    folder: str
    """The folder in this process, ending in the path separator."""
    name: str
    """The dotted name of the package if the folder is one; empty for a folder that contains packages."""


class Shipped(MutableRecord):
    """The components that every peer of a computation has.

    It holds the objects themselves: a function that is defined again after it was shipped is another object, and is
    sent by value.
    """

    digest: str = ""
    """The digest of their package."""
    modules: frozenset[str] = frozenset()
    """Names of modules and packages, including everything below them."""
    roots: tuple[CodeRoot, ...] = ()
    """Folders of code."""
    components: tuple[object, ...] = ()
    """The listed functions and classes."""
    automatic: bool = True
    """Whether objects that listed and called functions name are sent with them."""
    _objects: dict[int, tuple[object, Reference]] = msgspec.field(default_factory=dict)
    _watches: dict[int, Watch] = msgspec.field(default_factory=dict)
    _specs: dict[str, object] = msgspec.field(default_factory=dict)

    def add(self, objects: Sequence[object], along: Iterable[object] = ()) -> None:
        """Record the listed objects, in their order, and those that were sent along under their own names."""
        self.components = tuple(objects)
        for found in along:
            self._objects[id(found)] = (found, NATURAL)
        for index, listed in enumerate(objects):
            self._objects[id(listed)] = (listed, (self.digest, index))

    def watch(self, watch: Callable[[object], Watch]) -> None:
        """Detect edited code from now on: an object that has changed since it was shipped has no reference any more."""
        self._watches = {key: watch(found) for key, (found, _) in self._objects.items()}
        self._specs = {
            name: getattr(module, "__spec__", None)
            for name, module in list(sys.modules.items())
            if (self.modules or self.roots) and self.has_module(name)
        }

    def reference(self, obj: object) -> Reference | None:
        """Return the reference by which the peers find an object; None if they do not have it."""
        module: object = getattr(obj, "__module__", None)
        qualname: str = getattr(obj, "__qualname__", "<locals>")
        found_here = is_at(obj, module, qualname)
        known = self._objects.get(id(obj))
        if known is None:
            outer = id(resolve(module, qualname.partition(".")[0]))
            with_outer = outer in self._objects and not self._is_stale(outer)
            with_outer = with_outer or (isinstance(module, str) and self.has_module(module))
            return NATURAL if found_here and with_outer else None
        if self._is_stale(id(obj)):
            return None
        if found_here and "." not in qualname:
            return NATURAL
        # It was a listed object; or it was sent along with others, under a name that is now bound to something else.
        return known[1] if known[1] != NATURAL else None

    def _is_stale(self, key: int) -> bool:
        watch = self._watches.get(key)
        return watch is not None and watch.changed()

    def has_module(self, name: str) -> bool:
        """Return whether the peers have a complete module in its current form."""
        if name in self._specs and getattr(sys.modules.get(name), "__spec__", None) is not self._specs[name]:
            return False  # it was loaded again
        if any(name == listed or name.startswith(f"{listed}.") for listed in self.modules):
            return True
        return bool(self.roots) and self._under_root(name)

    def _under_root(self, name: str) -> bool:
        path = getattr(sys.modules.get(name), "__file__", None) or ""
        for root in self.roots:
            if path.startswith(root.folder):
                parts = Path(path[len(root.folder) :].partition(".")[0]).parts
                dotted = ".".join([*filter(None, [root.name]), *parts]).removesuffix(".__init__")
                if dotted == name:
                    return True
        return False


class _OpenRegistries:
    """The registries of all computations that are open in this process."""

    def __init__(self) -> None:
        self._all: list[Shipped] = []

    def add(self, shipped: Shipped) -> None:
        self._all.append(shipped)

    def remove(self, shipped: Shipped) -> None:
        self._all = [other for other in self._all if other is not shipped]

    def reference(self, obj: object) -> Reference | None:
        # A message may go to a peer of any computation: an object is sent by name only if all of them have that name.
        found = {shipped.reference(obj) for shipped in self._all}
        return found.pop() if len(found) == 1 else None

    def has_module(self, name: str) -> bool:
        return bool(self._all) and all(shipped.has_module(name) for shipped in self._all)

    @property
    def automatic(self) -> bool:
        return all(shipped.automatic for shipped in self._all)

    def component(self, digest: str, index: int) -> object:
        for shipped in self._all:
            if shipped.digest == digest:
                return shipped.components[index]
        text = "the computation of a component is closed, or does not belong to this process"
        raise LookupError(text)


open_everywhere = _OpenRegistries()

NOTHING: Final = Shipped()
"""The registry for peers without components, outside the computation."""


def open_shipped(shipped: Shipped) -> None:
    """Let messages without their own registry refer to these components."""
    open_everywhere.add(shipped)


def close_shipped(shipped: Shipped) -> None:
    """Undo `open_shipped`."""
    open_everywhere.remove(shipped)
