"""One process's place on the network: its endpoint, its listener, and one link to each process it talks to.

Bytes become frames in `wire`; what frames mean is decided by the layers above, which register their handlers in
`Services`.
"""

from typing import TYPE_CHECKING

from .. import _lazy
from ._bell import Bell
from ._dial_errors import ConnectionRefused
from ._endpoint import Endpoint, current, current_endpoint, make_identity, peer_host, serve_endpoint
from ._link import Link
from ._listening import is_everywhere, main_address
from ._losses import left as losses_left
from ._option_error import OptionError
from ._requests import Done
from ._services import ANY, FULL, Services, Trust, answered, control
from ._strangers import Strangers
from ._tls import Tls
from ._transport import transport_over

if TYPE_CHECKING:
    from . import _secret as secret_file
    from ._discovery import UDP_PORT, Discovery, pauses
    from ._options import (
        EndpointOptions,
        Peers,
        Ports,
        fingerprint_of,
        open_with,
        parse_ports,
        presence_of,
        resolve_peers,
    )
    from ._secret import SecretFile, load_secret, private_secret

__all__ = [
    "ANY",
    "FULL",
    "UDP_PORT",
    "Bell",
    "ConnectionRefused",
    "Discovery",
    "Done",
    "Endpoint",
    "EndpointOptions",
    "Link",
    "OptionError",
    "Peers",
    "Ports",
    "SecretFile",
    "Services",
    "Strangers",
    "Tls",
    "Trust",
    "answered",
    "control",
    "current",
    "current_endpoint",
    "fingerprint_of",
    "is_everywhere",
    "load_secret",
    "losses_left",
    "main_address",
    "make_identity",
    "open_with",
    "parse_ports",
    "pauses",
    "peer_host",
    "presence_of",
    "private_secret",
    "resolve_peers",
    "secret_file",
    "serve_endpoint",
    "transport_over",
]

if not TYPE_CHECKING:  # who sees this takes any name for one of the package
    # Servers are opened without options, know no secret, and are found by nobody.
    __getattr__ = _lazy.importer(
        __name__,
        {
            "_discovery": ("UDP_PORT", "Discovery", "pauses"),
            "_options": (
                "EndpointOptions",
                "Peers",
                "Ports",
                "fingerprint_of",
                "open_with",
                "parse_ports",
                "presence_of",
                "resolve_peers",
            ),
            "_secret": ("SecretFile", "load_secret", "private_secret"),
        },
        modules={"secret_file": "_secret"},
    )
