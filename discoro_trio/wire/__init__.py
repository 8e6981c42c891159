"""Bytes to frames to messages: framing, handshake, credit windows, control messages.

Nothing here reads or writes, knows the time, or knows Trio: bytes and events go in, bytes and decisions come
out. Moving the bytes is with `link`.
"""

from ._codec import dumps, loads
from ._control import Control, ControlCodec
from ._credit import ReceiveWindow, SendWindow
from ._frames import Frame, FrameReader, HelloReader, Kind, encode_header, encode_hello
from ._handshake import (
    PROTOCOL_VERSION,
    Binding,
    ClientHandshake,
    Crossed,
    Identity,
    PeerIdentity,
    ServerHandshake,
)
from ._keys import Credential, Purpose, fingerprint, handshake_key, key_of_secret
from ._outbox import Outbox
from ._shipped import Shipped

__all__ = [
    "PROTOCOL_VERSION",
    "Binding",
    "ClientHandshake",
    "Control",
    "ControlCodec",
    "Credential",
    "Crossed",
    "Frame",
    "FrameReader",
    "HelloReader",
    "Identity",
    "Kind",
    "Outbox",
    "PeerIdentity",
    "Purpose",
    "ReceiveWindow",
    "SendWindow",
    "ServerHandshake",
    "Shipped",
    "dumps",
    "encode_header",
    "encode_hello",
    "fingerprint",
    "handshake_key",
    "key_of_secret",
    "loads",
]
