"""The web monitor: see a cluster in a browser, and act on it.

It owns a picture of the cluster made of status messages (`_model`), the views of it (`_views`), and the web server
that shows them. It is on nobody's path: it can die, hang or be attacked, and the cluster does not notice.
"""

from ._open import HTTPServer, open_http_server
from ._remote import RemoteScheduler
from ._top import Top

__all__ = ["HTTPServer", "RemoteScheduler", "Top", "open_http_server"]
