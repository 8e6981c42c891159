"""Modules of a client whose source was sent with the functions that import them.

This module owns those sources and their import.
"""

from __future__ import annotations

import linecache
import sys
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.util import spec_from_loader
from typing import TYPE_CHECKING

from ._module_origins import hosts_modules_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from importlib.machinery import ModuleSpec
    from types import ModuleType

    from ._helper_modules import Source


class _Sources(MetaPathFinder):
    """Finds the modules whose source was received."""

    def __init__(self) -> None:
        self.known: dict[str, Source] = {}

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:  # noqa: ARG002
        source = self.known.get(fullname)
        if source is None:
            return None
        text, file, is_package = source
        linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
        spec = spec_from_loader(fullname, _SourceLoader(source), origin=file, is_package=is_package)
        if spec is not None:
            spec.has_location = True
        return spec


class _SourceLoader(InspectLoader):
    """Loads a module from its source."""

    def __init__(self, source: Source) -> None:
        self._text, self._file, self._is_package = source

    def get_source(self, fullname: str) -> str:  # noqa: ARG002
        return self._text

    def is_package(self, fullname: str) -> bool:  # noqa: ARG002
        return self._is_package

    def get_filename(self, fullname: str) -> str:  # noqa: ARG002
        return self._file


_sources = _Sources()


def add_sources(owner: bytes, sources: Mapping[str, Source]) -> None:
    """Make modules importable, if this process hosts the modules of that client."""
    if not hosts_modules_of(owner):
        return
    _sources.known.update(sources)
    if _sources not in sys.meta_path:
        sys.meta_path.insert(0, _sources)


def complete_from_source(module: ModuleType) -> bool:
    """Run the source of a module that has only received parts; these stay. Return False if there is no source."""
    source = _sources.known.pop(module.__name__, None)
    if source is None:
        return False
    came = dict(module.__dict__)
    exec(compile(source[0], source[1], "exec", dont_inherit=True), module.__dict__)  # noqa: S102
    module.__dict__.update(came)
    return True
