"""Bytes to frames to messages: framing, handshake, credit windows, control messages.

Nothing here does I/O, reads a clock, or uses Trio: bytes and events go in, bytes and decisions come out. `_link` moves
the bytes.
"""

from typing import TYPE_CHECKING

from .. import _lazy
from ._batch import COST, MOST_VALUES, NOT_SHORT, Batch, decode_batch_untrusted, is_short, pack_short
from ._control import Control, ControlCodec
from ._credit import ReceiveWindow, SendWindow
from ._frames import Buffer, Frame, FrameReader, HelloReader, Kind, encode_header, encode_hello
from ._handshake import (
    PROTOCOL_VERSION,
    Binding,
    ClientHandshake,
    Connected,
    Crossed,
    Identity,
    PeerIdentity,
    ProcessEnded,
    ServerHandshake,
)
from ._keys import Credential, Purpose, fingerprint, handshake_key, key_of_secret
from ._outbox import Outbox

if TYPE_CHECKING:
    from ._beacon import Answerer, Found, Role, Seeker

__all__ = [
    "COST",
    "MOST_VALUES",
    "NOT_SHORT",
    "PROTOCOL_VERSION",
    "Answerer",
    "Batch",
    "Binding",
    "Buffer",
    "ClientHandshake",
    "Connected",
    "Control",
    "ControlCodec",
    "Credential",
    "Crossed",
    "Found",
    "Frame",
    "FrameReader",
    "HelloReader",
    "Identity",
    "Kind",
    "Outbox",
    "PeerIdentity",
    "ProcessEnded",
    "Purpose",
    "ReceiveWindow",
    "Role",
    "Seeker",
    "SendWindow",
    "ServerHandshake",
    "decode_batch_untrusted",
    "encode_header",
    "encode_hello",
    "fingerprint",
    "handshake_key",
    "is_short",
    "key_of_secret",
    "pack_short",
]

if not TYPE_CHECKING:  # a type checker takes __getattr__ to mean that any name exists
    __getattr__ = _lazy.importer(__name__, {"_beacon": ("Answerer", "Found", "Role", "Seeker")})
