"""One process's place on the network: its endpoint, its listener, and one link to each process it talks to.

Bytes become frames in `wire`; what frames mean is decided by the layers above, which register their handlers in
`Services`.
"""

from ._bell import Bell
from ._endpoint import Endpoint, current, current_endpoint, make_identity, serve_endpoint
from ._link import Link
from ._requests import Done
from ._services import ANY, FULL, Services, Trust, control
from ._transport import transport_over

__all__ = [
    "ANY",
    "FULL",
    "Bell",
    "Done",
    "Endpoint",
    "Link",
    "Services",
    "Trust",
    "control",
    "current",
    "current_endpoint",
    "make_identity",
    "serve_endpoint",
    "transport_over",
]
