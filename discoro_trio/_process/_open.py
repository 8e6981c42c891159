"""Opens this process's endpoint on the network, for the blocks that need one.

The options are listed here; the endpoint implements them.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from .._compat import _old_programs
from .._file_limit import raise_limit
from .._link import UDP_PORT, EndpointOptions, current, open_with
from .._scopes import enter_loop
from ._current import opened, process_var
from ._process import Process

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from .._link import Endpoint, Ports


@asynccontextmanager
async def open_process(options: EndpointOptions, *, private: bool) -> AsyncIterator[Process]:
    """Open an endpoint for the block and yield its process.

    Args:
        options: Its options.
        private: Whether its cluster exists in this program alone, and needs no shared secret.
    """
    await enter_loop()
    raise_limit()
    async with open_with(options, private=private) as endpoint:
        process = Process(endpoint)
        token = current.set(endpoint)
        opened[process] = trio.lowlevel.current_trio_token()
        try:
            with process.entered():
                yield process
        except BaseException as error:
            _old_programs.add_advice(error)
            raise
        finally:
            del opened[process]
            current.reset(token)


@asynccontextmanager
async def open_endpoint(
    *,
    ip_addr: str = "127.0.0.1",
    ext_ip_addr: str | None = None,
    tcp_ports: Ports = None,
    udp_port: int = UDP_PORT,
    name: str | None = None,
    secret: str | bytes | None = None,
    secret_file: str | os.PathLike[str] | None = None,
    certfile: str | os.PathLike[str] | None = None,
    keyfile: str | os.PathLike[str] | None = None,
    cafile: str | os.PathLike[str] | None = None,
) -> AsyncIterator[Endpoint]:
    """Open this process's endpoint on the network: its listener and its links.

    Args:
        ip_addr: The address or host name of this machine to listen at; "" for all its addresses.
        ext_ip_addr: The address to announce to peers, if this machine is behind NAT.
        tcp_ports: The ports to listen at, such as "51351-51360,52000": the first that is free; None for any.
        udp_port: The port of discovery, the same for the whole cluster.
        name: A display name; by default the name of the host.
        secret: The cluster's secret: 64 hexadecimal digits, 32 bytes, or a passphrase.
        secret_file: A file that holds the secret. Without both options, the secret is the environment variable
            DISCORO_SECRET, or the one in the user's config folder, which is made at first use.
        certfile: The certificate for TLS, in PEM form; by default one that is made in memory.
        keyfile: The key of the certificate, unless `certfile` also holds the key.
        cafile: The authorities that must have signed the certificates of peers; by default only the handshake binds
            certificates to the secret.

    Yields:
        The endpoint, with its `location`.

    Raises:
        ValueError: An option is invalid; the text names it.

    Leaving the block says goodbye on every link.
    """
    options = EndpointOptions(
        ip_addr=ip_addr,
        ext_ip_addr=ext_ip_addr,
        tcp_ports=tcp_ports,
        udp_port=udp_port,
        name=name,
        secret=secret,
        secret_file=secret_file,
        certfile=certfile,
        keyfile=keyfile,
        cafile=cafile,
    )
    async with open_process(options, private=False) as process:
        yield process.endpoint


def open_place() -> AbstractAsyncContextManager[Process]:
    """Open an endpoint with default options, at all addresses of this machine."""
    return open_process(EndpointOptions(ip_addr=""), private=False)


@asynccontextmanager
async def ensure_endpoint(options: EndpointOptions | None = None, *, private: bool = True) -> AsyncIterator[Process]:
    """Yield the process of the enclosing endpoint, or open an endpoint for the block.

    Args:
        options: The options of a new endpoint.
        private: Whether the cluster of a new endpoint exists in this program alone, and needs no shared secret.
    """
    process = process_var.get()
    if process is not None:
        yield process
        return
    async with open_process(options or EndpointOptions(), private=private) as process:
        yield process
