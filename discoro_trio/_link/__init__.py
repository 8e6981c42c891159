"""The network side of a process: its endpoint, its listener, and one link to each peer process.

`_wire` turns bytes into frames. The layers above decide what frames mean; they register their handlers in `Services`.
"""

from typing import TYPE_CHECKING

from .. import _lazy
from ._descriptors import check_descriptors
from ._dial_errors import ConnectionRefused
from ._endpoint import Endpoint, current, current_endpoint, make_identity, peer_host, serve_endpoint
from ._fault_injection import left as losses_left
from ._handshake_limits import HandshakeLimits, host_and_network
from ._link import Link
from ._listening import is_everywhere, main_address
from ._option_error import OptionError
from ._requests import BulkData, Done
from ._services import ANY, FULL, Services, Trust, answered, control
from ._transport import transport_over
from ._wakeup import Wakeup
from .tls._tls import Tls

if TYPE_CHECKING:
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
    from .discovery._discovery import UDP_PORT, Discovery, pauses
    from .secret import _secret_file as secret_file
    from .secret._secret_file import SecretFile, load_secret, private_secret

__all__ = [
    "ANY",
    "FULL",
    "UDP_PORT",
    "BulkData",
    "ConnectionRefused",
    "Discovery",
    "Done",
    "Endpoint",
    "EndpointOptions",
    "HandshakeLimits",
    "Link",
    "OptionError",
    "Peers",
    "Ports",
    "SecretFile",
    "Services",
    "Tls",
    "Trust",
    "Wakeup",
    "answered",
    "check_descriptors",
    "control",
    "current",
    "current_endpoint",
    "fingerprint_of",
    "host_and_network",
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

if not TYPE_CHECKING:  # a type checker takes __getattr__ to mean that any name exists
    __getattr__ = _lazy.importer(
        __name__,
        {
            "discovery._discovery": ("Discovery", "UDP_PORT", "pauses"),
            "_options": (
                "EndpointOptions",
                "Peers",
                "Ports",
                "fingerprint_of",
                "host_and_network",
                "open_with",
                "parse_ports",
                "presence_of",
                "resolve_peers",
            ),
            "secret._secret_file": ("SecretFile", "load_secret", "private_secret"),
        },
        modules={"secret_file": "secret._secret_file"},
    )
