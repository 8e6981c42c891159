"""The web monitor: see a cluster in a browser, and act on it.

It owns a picture of the cluster made of status messages (`_model`), the views of it (`_views`), and the web server
that shows them. It is on nobody's path: it can die, hang or be attacked, and the cluster does not notice.
"""

import typing

from ._open import HTTPServer, open_http_server
from ._remote import RemoteScheduler

if typing.TYPE_CHECKING:
    from ._top import Top

__all__ = ["HTTPServer", "RemoteScheduler", "Top", "open_http_server"]


def __getattr__(name: str) -> typing.Any:
    """Import `discoro top` when it is first asked for: what draws a terminal is of no use to those who serve pages."""
    if name != "Top":
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    from ._top import Top  # noqa: PLC0415 - see above

    return Top
