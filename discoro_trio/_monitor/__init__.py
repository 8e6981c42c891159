"""The web monitor: see a cluster in a browser, and act on it.

It owns a model of the cluster made of status messages (`_model`), the views of it (`_views`), and the web server that
shows them. No other part depends on it: if it dies, hangs or is attacked, the cluster is not affected.
"""

import typing

from ._open import HTTPServer, open_http_server
from ._remote import RemoteScheduler

if typing.TYPE_CHECKING:
    from ._top import Top

__all__ = ["HTTPServer", "RemoteScheduler", "Top", "open_http_server"]


def __getattr__(name: str) -> typing.Any:
    """Import `discoro top` on first use: programs that serve pages do not need the terminal library."""
    if name != "Top":
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    from ._top import Top  # noqa: PLC0415 - see above

    return Top
