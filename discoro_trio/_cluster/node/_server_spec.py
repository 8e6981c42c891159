"""The start parameters of a server, set by its node and passed through the fork server."""

from __future__ import annotations

from typing import Any

import msgspec

from ..isolation._limits import Limits


class ServerSpec(msgspec.Struct, frozen=True):
    """The start parameters of a server."""

    process_id: bytes
    node_id: bytes
    node_name: str
    node_addr: str
    node_port: int
    name: str
    bind: str
    ext_addr: str
    ports: tuple[int, ...]
    """The ports to try; the server listens at the first free one."""
    certfile: str | None
    keyfile: str | None
    cafile: str | None
    max_file_size: int | None
    """The most bytes of a file that it accepts."""
    limits: Limits
    """The limits that the kernel enforces."""
    groups: tuple[str, ...]
    """The folders of the control groups that it enters."""
    stack_file: str
    """The file to which it writes its stack when the node sends the signal for that."""
    settings: dict[str, Any]
    """The node's `config`, by field name."""
