"""Finds and describes the part of an object that cannot be pickled."""

from __future__ import annotations

import io
from itertools import chain
from types import FunctionType
from typing import TYPE_CHECKING, Any

from ._by_value import pickle_carefully

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._by_value import Registry

_DEPTH = 12
_WIDTH = 100
_TEXT = 300


def explain(obj: object, error: Exception, registry: Registry) -> str:
    """Describe in one sentence which part of an object cannot be pickled, and why.

    Args:
        obj: The object to be sent.
        error: The exception of pickling it.
        registry: The registry that was used for pickling.
    """
    path = ""
    reason = error
    for _ in range(_DEPTH):
        for step, part in _parts(obj):
            failure = _failure(part, registry)
            if failure is not None:
                path, obj, reason = path + step, part, failure
                break
        else:
            break
    where = f" (at {path.lstrip('.')} of what was to be sent)" if path else ""
    text = f"{_named(obj)}{where} cannot be pickled: {type(reason).__name__}: {_short(str(reason))}"
    if isinstance(obj, type):
        text += ". Move it into a module and list that module as a component: servers import it then"
    return text


def _failure(part: object, registry: Registry) -> Exception | None:
    try:
        pickle_carefully(part, registry, io.BytesIO)
    except Exception as error:  # noqa: BLE001 - users' classes may raise anything
        return error
    return None


def _parts(obj: Any) -> Iterator[tuple[str, object]]:
    """Yield the parts of an object, each with the step that leads to it."""
    steps: Iterator[tuple[str, object]]
    if isinstance(obj, dict):
        steps = ((f"[{_short(repr(key))}]", value) for key, value in obj.items())
    elif isinstance(obj, (tuple, list)):
        steps = ((f"[{index}]", value) for index, value in enumerate(obj))
    elif isinstance(obj, FunctionType):
        closure = zip(obj.__code__.co_freevars, obj.__closure__ or (), strict=True)
        steps = ((f".<variable {name}>", cell.cell_contents) for name, cell in closure)
    elif _refuses(obj):
        return
    else:
        attributes = ((f".{name}", value) for name, value in _attributes(obj).items())
        steps = attributes if isinstance(obj, type) else chain([(".__class__", type(obj))], attributes)
    for _, step in zip(range(_WIDTH), steps, strict=False):
        yield step


def _refuses(obj: object) -> bool:
    """Return whether the object itself refuses to be pickled, whatever its parts are."""
    if isinstance(obj, type):
        return False
    try:
        obj.__reduce_ex__(5)
    except Exception:  # noqa: BLE001 - users' classes may raise anything
        return True
    return False


def _attributes(obj: object) -> dict[str, object]:
    # Classes are taken apart elsewhere, and do not fail because of a single attribute.
    found = {} if isinstance(obj, type) else getattr(obj, "__dict__", {})
    return found if isinstance(found, dict) else {}


def _named(obj: object) -> str:
    if isinstance(obj, (type, FunctionType)):
        kind = "class" if isinstance(obj, type) else "function"
        return f"the {kind} {obj.__qualname__}"
    return f"an object of type {type(obj).__module__}.{type(obj).__qualname__}".replace("type builtins.", "type ")


def _short(text: str) -> str:
    return text if len(text) <= _TEXT else f"{text[:_TEXT]}…"
