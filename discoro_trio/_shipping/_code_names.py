"""Facts about a code object: the globals it names, and its marshalled form; both are cached while it exists."""

from __future__ import annotations

import dis
import marshal
import weakref
from types import CodeType
from typing import TYPE_CHECKING

from .._records import Record

if TYPE_CHECKING:
    from collections.abc import Iterator

# LOAD_NAME, in the body of a class inside a function, falls back to the globals.
_OF_GLOBALS = frozenset({"LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})


class Known(Record, frozen=True):
    """The facts about one code object."""

    code: weakref.ref[CodeType]
    globals: tuple[str, ...]
    """The names that may be globals, in the order of their first use."""
    all: frozenset[str]
    """All names, including attributes."""
    imports: tuple[tuple[int, str, tuple[str, ...]], ...]
    """Its import statements: the level, the module, the names imported from it."""
    marshalled: bytes
    """The output of `marshal`. The bytes depend on the reference counts of the parts, so they are made once."""


# By identity: code objects that compare equal may come from different files.
_known: dict[int, Known] = {}


def known_of(code: CodeType) -> Known:
    """Return the facts about a code object, including nested ones."""
    known = _known.get(id(code))
    if known is None or known.code() is not code:
        key = id(code)
        reference = weakref.ref(code, lambda _: _known.pop(key, None))
        nested = [code, *_nested(code)]
        used = dict.fromkeys(name for part in nested for name in _global_names(part))
        names = frozenset(name for part in nested for name in part.co_names)
        imports = dict.fromkeys(found for part in nested for found in _imports(part))
        known = _known[key] = Known(reference, tuple(used), names, tuple(imports), marshal.dumps(code))
    return known


def _nested(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _nested(constant)


def _global_names(code: CodeType) -> Iterator[str]:
    for instruction in dis.get_instructions(code):
        if instruction.opname in _OF_GLOBALS:
            yield instruction.argval


def _imports(code: CodeType) -> Iterator[tuple[int, str, tuple[str, ...]]]:
    if not code.co_names:
        return
    before: list[object] = [0, None]
    for instruction in dis.get_instructions(code):
        if instruction.opname == "IMPORT_NAME":
            level, names = before
            if isinstance(level, int):
                yield level, instruction.argval, names if isinstance(names, tuple) else ()
        before = [before[1], instruction.argval]
