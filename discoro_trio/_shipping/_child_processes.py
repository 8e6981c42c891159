"""The client's functions and classes in processes that a job starts with `multiprocessing`.

Such a process, unless it is forked, has none of the client's modules: a server has them only in memory. So in a server,
and in its child processes, the pickler of `multiprocessing` sends them by value.
"""

from __future__ import annotations

from types import FunctionType
from typing import TYPE_CHECKING, Any

from .._import_hooks import when_imported
from ._codec import dumps, loads
from ._module_origins import is_client_module
from ._shipped import NOTHING

if TYPE_CHECKING:
    from collections.abc import Sequence


def serve_child_processes() -> None:
    """Send the client's functions and classes to processes that this one starts with `multiprocessing`."""
    when_imported("multiprocessing.reduction", _enter)


def _enter(module: Any) -> None:
    module.ForkingPickler.reducer_override = _reduce


def _reduce(_pickler: object, obj: Any) -> Any:
    """Reduce functions and classes of the client by value; leave everything else to the pickler."""
    kind = type(obj)
    if kind is FunctionType or issubclass(kind, type):
        module = obj.__module__
        if isinstance(module, str) and is_client_module(module):
            body, buffers = dumps(obj, NOTHING)
            return _opened, (bytes(body), [bytes(buffer) for buffer in buffers])
    return NotImplemented


def _opened(body: bytes, buffers: Sequence[bytes]) -> Any:
    serve_child_processes()  # objects that the process sends back may be of these classes
    return loads(body, buffers)
