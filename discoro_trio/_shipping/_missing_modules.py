"""Placeholders for modules that this machine does not have.

A function may name a module that only some of its code paths need. So a missing module is an error when it is used,
not when the function arrives.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import NoReturn

THIS_PROCESS = "this process"

_here = [THIS_PROCESS]


def set_place(place: str) -> None:
    """Set the name of this process, for messages about missing modules."""
    _here[0] = place


def place() -> str:
    """Return the name of this process for messages."""
    return _here[0]


def _raise(module: str, cause: BaseException) -> NoReturn:
    if isinstance(cause, ModuleNotFoundError):
        name = cause.name or module
        text = f"no module named {name!r} at {place()}: install it there, or list it in Computation(components)"
        raise ModuleNotFoundError(text, name=name) from cause
    text = f"module {module!r} could not be imported at {place()}: {type(cause).__name__}: {cause}"
    raise ImportError(text, name=module) from cause


class MissingModule(ModuleType):
    """A module that could not be imported; using it raises the reason."""

    def __init__(self, name: str, cause: BaseException) -> None:
        super().__init__(name, f"Missing at {place()}: {cause}")

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            # It may have been installed since, as a component of the client.
            module = importlib.import_module(self.__name__)
        except Exception as error:  # noqa: BLE001 - its import may raise anything
            _raise(self.__name__, error)
        return getattr(module, name)


class MissingObject:
    """An object of a module that is missing; using it raises the reason."""

    def __init__(self, module: str, qualname: str, cause: BaseException) -> None:
        self._names = (module, qualname)
        self._cause = cause

    def __repr__(self) -> str:
        return f"<{'.'.join(self._names)}, missing at {place()}>"

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        _raise(self._names[0], self._cause)

    def _used(self, *_args: object, **_kwargs: object) -> NoReturn:
        _raise(self._names[0], self._cause)

    __call__ = __iter__ = __enter__ = __getitem__ = __instancecheck__ = __mro_entries__ = __aenter__ = _used
