"""The web monitor: see a cluster in a browser, and act on it.

It owns a model of the cluster made of status messages (`_model`), the views of it (`_views`), and the web server that
shows them. No other part depends on it: if it dies, hangs or is attacked, the cluster is not affected.
"""

import importlib
import typing

from ._open import HTTPServer, open_http_server
from ._remote import RemoteScheduler

if typing.TYPE_CHECKING:
    from ._top import Top
    from ._top_sources import MonitorSource, SchedulerSource

__all__ = ["HTTPServer", "MonitorSource", "RemoteScheduler", "SchedulerSource", "Top", "open_http_server"]

_OF_TOP = {"Top": "_top", "MonitorSource": "_top_sources", "SchedulerSource": "_top_sources"}


def __getattr__(name: str) -> typing.Any:
    """Import `discoro top` on first use: programs that serve pages do not need the terminal library."""
    if name not in _OF_TOP:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(importlib.import_module(f".{_OF_TOP[name]}", __name__), name)
