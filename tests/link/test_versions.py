"""Processes that run different versions of this package."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from discoro_trio._errors import VersionMismatch
from discoro_trio._link import serve_endpoint
from discoro_trio._wire import Credential, Kind

if TYPE_CHECKING:
    from discoro_trio._link import Endpoint

CREDENTIAL = Credential(b"", bytes(32))


def pretend(endpoint: Endpoint, **identity: object) -> None:
    endpoint.identity = msgspec.structs.replace(endpoint.identity, **identity)


async def test_another_version_with_the_same_protocol_works_and_is_reported_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serve_endpoint() as old, serve_endpoint() as new, serve_endpoint() as newer:
        for endpoint in (old, new, newer):
            endpoint.credentials[b""] = CREDENTIAL
        pretend(old, package="7.1")
        for other in (new, newer):
            link = await other.link_to(old.id, old.location, b"")
            link.send(Kind.MESSAGE, 1)
            assert link.peer.package == "7.1"
        said = [record.getMessage() for record in caplog.records if "7.1" in record.getMessage()]
        assert len([text for text in said if "this process 7.1" in text]) == 1  # at the old one, of both others
        assert len([text for text in said if "runs discoro_trio 7.1" in text]) == 2  # at each of these
        assert all("so they work together" in text for text in said)


async def test_another_protocol_is_refused_whatever_the_version_of_the_package() -> None:
    async with serve_endpoint() as one, serve_endpoint() as other:
        one.credentials[b""] = other.credentials[b""] = CREDENTIAL
        pretend(one, protocol=99)
        with pytest.raises(VersionMismatch, match="protocol 99"):
            await other.link_to(one.id, one.location, b"")
