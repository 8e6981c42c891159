"""What a stranger gets of a port where connections are under TLS."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from discoro_trio._link._option_error import OptionError
from discoro_trio._link.tls._certificate import chain_size
from discoro_trio._link.tls._tls import LONGEST_CHAIN, PREFACE, Tls

from .test_tls import Files, attempt

if TYPE_CHECKING:
    from pathlib import Path


async def answer_to(said: bytes, theirs: Tls) -> bytes:
    """Give what a server says to a stranger who says that and no more."""
    client, server = trio.testing.memory_stream_pair()
    await client.send_all(said)
    await client.send_eof()
    refused: list[Exception] = []
    await attempt(refused, lambda: theirs.wrap_server(server))
    assert refused
    await server.aclose()
    return b"".join([part async for part in client])


def first_of_tls() -> bytes:
    """Give the first message of a client, as short as this library makes it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ecdh_curve("prime256v1")
    leaving = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), leaving).do_handshake()
    return leaving.read()


@pytest.mark.fault("F11")
@pytest.mark.parametrize("own", [False, True], ids=["made in memory", "the longest"])
async def test_a_stranger_who_begins_tls_gets_less_than_he_has_sent(tmp_path: Path, *, own: bool) -> None:
    theirs = Tls(always=True)
    if own:
        files = Files(tmp_path)
        certfile, keyfile = files.issue("node")
        more = files.authority.cert_pem.bytes()
        size = chain_size(certfile)
        number = (LONGEST_CHAIN - size) // len(ssl.PEM_cert_to_DER_cert(more.decode()))
        longest = files.put("longest.pem", certfile.read_bytes() + number * more)
        theirs = Tls(always=True, certfile=longest, keyfile=keyfile)
        too_long = files.put("too_long.pem", certfile.read_bytes() + (number + 1) * more)
        with pytest.raises(OptionError, match=r"certfile: .* at most 7000 are sent"):
            Tls(certfile=too_long, keyfile=keyfile)
    first = first_of_tls()
    assert await answer_to(first, theirs) == b""
    assert await answer_to(PREFACE, theirs) == b""
    answer = await answer_to(PREFACE + first, theirs)
    assert len(first) < len(answer) < len(PREFACE)
