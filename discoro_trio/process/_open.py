"""Opens this process's place on the network, for the blocks that need one.

What options there are is here; what they mean is with the endpoint.
"""

from __future__ import annotations

import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from ..link import current, serve_endpoint
from ..wire import Credential
from ._current import process_var
from ._process import Process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ..link import Endpoint


@asynccontextmanager
async def open_process(
    *, ip_addr: str = "127.0.0.1", ext_ip_addr: str | None = None, name: str | None = None
) -> AsyncIterator[Process]:
    """Open an endpoint for the block and give its process."""
    async with serve_endpoint(bind=ip_addr, ext_addr=ext_ip_addr, name=name) as endpoint:
        endpoint.credentials[b""] = Credential(b"", secrets.token_bytes(32))
        process = Process(endpoint)
        token = current.set(endpoint)
        try:
            with process.entered():
                yield process
        finally:
            current.reset(token)


@asynccontextmanager
async def open_endpoint(
    *, ip_addr: str = "127.0.0.1", ext_ip_addr: str | None = None, name: str | None = None
) -> AsyncIterator[Endpoint]:
    """Open this process's place on the network: its listener and its links.

    Args:
        ip_addr: The address or host name to use on this machine.
        ext_ip_addr: The address that peers are told, where this machine is behind NAT.
        name: A name for people; by default that of the host.

    Yields:
        The endpoint, with its `location`.

    Raises:
        OSError: The address cannot be used.

    Leaving the block says goodbye on every link.
    """
    async with open_process(ip_addr=ip_addr, ext_ip_addr=ext_ip_addr, name=name) as process:
        yield process.endpoint


@asynccontextmanager
async def ensure_endpoint() -> AsyncIterator[Process]:
    """Give the process of the enclosing endpoint, or open one for the block."""
    process = process_var.get()
    if process is not None:
        yield process
        return
    async with open_process() as process:
        yield process
