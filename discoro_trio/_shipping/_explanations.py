"""Explains errors of shipped code: a name or module that was not sent with it, or asyncio under Trio.

`_errors_in_transit` sends the errors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._compat._old_programs import timeout_advice
from ._hosted_modules import hosts, withheld_names
from ._missing_modules import THIS_PROCESS, place
from ._module_origins import is_client_module

if TYPE_CHECKING:
    from types import FrameType


_NO_LOOP = "no running event loop"
"""asyncio's error text if no event loop runs."""

_FOREIGN_AWAIT = "like asyncio"
"""A part of Trio's error text for an unknown awaitable."""


def explanation(error: BaseException) -> str | None:
    """Explain an error of a client's code in another process; None if there is no explanation.

    Args:
        error: The error as it was caught, with its traceback.
    """
    if isinstance(error, NameError) and not isinstance(error, UnboundLocalError):
        return _of_name(error)
    if isinstance(error, ModuleNotFoundError) and place() not in str(error):
        return _of_module(error)
    if (isinstance(error, RuntimeError) and str(error) == _NO_LOOP) or (
        isinstance(error, TypeError) and _FOREIGN_AWAIT in str(error)
    ):
        return (
            "This function awaits something of asyncio, and servers run Trio: run discoro.asyncio_job(function) in its "
            "place."
        )
    return timeout_advice(error)


def say_not_opened(error: Exception, what: str) -> None:
    """Add a note to an error: what could not be unpickled, in which process, and what to do.

    Args:
        error: The exception of unpickling.
        what: The unpickled object, as the subject of a sentence.
    """
    if any(what in note for note in getattr(error, "__notes__", ())):
        return
    where = place()
    text = f"{what} cannot be unpickled {'here' if where == THIS_PROCESS else f'at {where}'}"
    if isinstance(error, ModuleNotFoundError) and error.name:
        text += (
            f", which has no module {error.name}: install it there, or, if it is the client's own, list it in "
            "Computation(components)"
        )
    error.add_note(f"{text}.")


def _of_name(error: NameError) -> str | None:
    frame = _last_frame(error)
    module = frame.f_globals.get("__name__") if frame is not None else None
    if not isinstance(module, str) or not hosts(module) or not error.name:
        return None
    withheld = withheld_names(module)
    reason = withheld.get(error.name)
    if reason:
        return f"{error.name} is a global of the client's module {module} that did not travel: {reason}."
    begin = f"{error.name} is a global" if error.name in withheld else f"If {error.name} is a global"
    return (
        f"{begin} of the client's module {module}: it did not travel. List it in Computation(components) if it is "
        "a function or a class, or list the module that defines it; pass anything else as an argument."
    )


def _of_module(error: ModuleNotFoundError) -> str | None:
    frame = _last_frame(error)
    module = frame.f_globals.get("__name__") if frame is not None else None
    if not isinstance(module, str) or not (hosts(module) or is_client_module(module)):
        return None
    return f"There is no module {error.name} at {place()}: install it there, or list it in Computation(components)."


def _last_frame(error: BaseException) -> FrameType | None:
    """Return the frame that raised an error, above those of the import system."""
    trace = error.__traceback__
    found = None
    while trace is not None:
        if not trace.tb_frame.f_code.co_filename.startswith("<frozen importlib"):
            found = trace.tb_frame
        trace = trace.tb_next
    return found
