"""Sound inputs, which the fuzzers change: of a handshake, datagrams, every frame and every control message.

Control messages are made from their types, so that a new one is fuzzed as soon as it exists. The corpus holds what
these do not lead to.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from hypothesis import strategies as st

from discoro_trio._link import control
from discoro_trio._values import Location
from discoro_trio._wire import (
    Answerer,
    Binding,
    ClientHandshake,
    Control,
    Credential,
    Found,
    Identity,
    Kind,
    Role,
    Seeker,
    ServerHandshake,
    encode_header,
    encode_hello,
)
from discoro_trio._wire._batch import encode_batches
from discoro_trio._wire._control import _classes

CORPUS = Path(__file__).parent / "corpus"
KEY = Credential(b"", b"k" * 32)
HERE = Location("127.0.0.1", 9)
# These make the process open connections, which has a test of its own.
NOT_AT_RANDOM = {"AskToDial", "Dial"}


def kept(name: str) -> list[bytes]:
    """Give the inputs of one folder of the corpus."""
    return [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]


def identity(number: int) -> Identity:
    """Give an identity that is the same in every run."""
    return Identity(bytes([number]) * 16, (3, 11), f"process {number}", HERE)


def hellos(key: Credential = KEY) -> list[bytes]:
    """Give what a client with this key sends in a handshake, each message alone and both together."""
    client = ClientHandshake(identity(1), key, Binding())
    server = ServerHandshake(identity(2), {b"": KEY}.get, Binding())
    first = client.start()
    challenge = server.received(first)
    assert challenge is not None
    second = client.received(challenge)
    assert second is not None
    return [encode_hello(first), encode_hello(second), encode_hello(first) + encode_hello(second)]


def datagrams() -> list[bytes]:
    """Give a query, one for a single machine, what it is relayed as, and an answer."""
    seeker = Seeker(KEY, b"s" * 16, Role.NODE)
    queries = [seeker.query(), seeker.query(alone=True)]
    answerer = Answerer(KEY, Found(b"n" * 16, Role.NODE, "node", HERE))
    answers = [answerer.received_untrusted(query, ("10.0.0.1", 5), 0.0, own_machine=False) for query in queries]
    return queries + [one.body for answer in answers for one in answer]


def control_types() -> list[type[Control]]:
    """Give all types of control messages that the package has."""
    return [kind for kind in _classes.values() if kind.__module__.startswith("discoro_trio.")]


def frames() -> list[bytes]:
    """Give a frame of each kind, and of each control message as notice and as request."""
    found = []
    for kind in Kind:
        for body in (b"", bytes(4), bytes(8), bytes(16)):
            found.append(encode_header(kind, 0, 1 << 40 | 1, len(body)) + body)
            found.append(encode_header(kind, 1, 1, len(body), (3, 8)) + body + b"abc" + bytes(8))
    [batch] = encode_batches([1, 2.5, "text", b"bytes", None])
    found.append(encode_header(Kind.BATCH, 0, 1 << 40 | 1, len(batch)) + batch)
    bulk = encode_header(Kind.MESSAGE, 0, 1, 40)
    found.append(
        encode_header(Kind.BULK, 0, 5, len(bulk)) + bulk + 4 * (encode_header(Kind.PART, 0, 5, 10) + bytes(10))
    )
    for kind_of_message in control_types():
        if kind_of_message.__name__ not in NOT_AT_RANDOM:
            body = control.encode(plain(kind_of_message))
            found += [encode_header(Kind.CONTROL, flags, 1, len(body)) + body for flags in (0, 1, 2, 6)]
    return found


def plain(kind: type[Control]) -> Control:
    """Make a message of plain values."""
    made: Control = _plain(msgspec.inspect.type_info(kind))
    return made


def _plain(info: Any) -> Any:
    """Make a plain value of a type."""
    if isinstance(info, msgspec.inspect.UnionType):
        return _plain(info.types[0])
    if isinstance(info, msgspec.inspect.ListType):
        return [_plain(info.item_type)]
    if isinstance(info, msgspec.inspect.VarTupleType):
        return (_plain(info.item_type),)
    if isinstance(info, msgspec.inspect.TupleType):
        return tuple(_plain(item) for item in info.item_types)
    if isinstance(info, msgspec.inspect.StructType):
        return info.cls(**{field.name: _plain(field.type) for field in info.fields})
    if isinstance(info, msgspec.inspect.DictType):
        return {_plain(info.key_type): _plain(info.value_type)}
    if isinstance(info, msgspec.inspect.EnumType):
        return next(iter(info.cls))
    plain_values: dict[type, Any] = {
        msgspec.inspect.IntType: 1,
        msgspec.inspect.FloatType: 1.0,
        msgspec.inspect.StrType: "text",
        msgspec.inspect.BytesType: b"b" * 16,
        msgspec.inspect.ByteArrayType: bytearray(b"b" * 16),
        msgspec.inspect.MemoryViewType: memoryview(b"b" * 16),
        msgspec.inspect.BoolType: True,
        msgspec.inspect.NoneType: None,
    }
    return plain_values[type(info)]


def any_message() -> st.SearchStrategy[Control]:
    """Give control messages with odd values, but of the right types."""
    kinds = [kind for kind in control_types() if kind.__name__ not in NOT_AT_RANDOM]
    return st.sampled_from(kinds).flatmap(_message)


def _message(kind: type[Control]) -> st.SearchStrategy[Control]:
    fields = msgspec.inspect.type_info(kind).fields  # type: ignore[attr-defined]
    return st.builds(kind, **{field.name: _odd(field.type) for field in fields})


def _odd(info: Any) -> st.SearchStrategy[Any]:
    if isinstance(info, msgspec.inspect.UnionType):
        return st.one_of([_odd(one) for one in info.types])
    if isinstance(info, (msgspec.inspect.ListType, msgspec.inspect.VarTupleType)):
        kind = list if isinstance(info, msgspec.inspect.ListType) else tuple
        return st.lists(_odd(info.item_type), max_size=3).map(kind)
    if isinstance(info, msgspec.inspect.TupleType):
        return st.tuples(*[_odd(item) for item in info.item_types])
    if isinstance(info, msgspec.inspect.StructType):
        return st.builds(info.cls, **{field.name: _odd(field.type) for field in info.fields})
    if isinstance(info, msgspec.inspect.DictType):
        return st.dictionaries(_odd(info.key_type), _odd(info.value_type), max_size=3)
    if isinstance(info, msgspec.inspect.EnumType):
        return st.sampled_from(list(info.cls))
    odd_values: dict[type, st.SearchStrategy[Any]] = {
        msgspec.inspect.IntType: st.sampled_from([0, 1, -1, 2, 1 << 31, 1 << 63, (1 << 64) - 1, -(1 << 63)]),
        msgspec.inspect.FloatType: st.sampled_from([0.0, -1.0, 1e-9, 1e300, float("nan"), float("inf"), float("-inf")]),
        msgspec.inspect.StrType: st.sampled_from(["", "text", "\0", "../x", "*", "é" * 300, "NodeClosed", "released"]),
        msgspec.inspect.BytesType: st.sampled_from([b"", b"b" * 16, bytes(32), b"\x80\x05.", b"x" * 5000]),
        msgspec.inspect.ByteArrayType: st.sampled_from([bytearray(), bytearray(b"b" * 16), bytearray(b"\x80\x05.")]),
        msgspec.inspect.MemoryViewType: st.sampled_from([memoryview(b""), memoryview(b"b" * 5000)]),
        msgspec.inspect.BoolType: st.booleans(),
        msgspec.inspect.NoneType: st.none(),
    }
    return odd_values[type(info)]
