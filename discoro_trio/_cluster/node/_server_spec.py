"""What a node tells a server at its start; the way there is with `_client`."""

from __future__ import annotations

from typing import Any

import msgspec

from ..isolation._limits import Limits


class ServerSpec(msgspec.Struct, frozen=True):
    """What a server is told at its start."""

    process_id: bytes
    node_id: bytes
    node_name: str
    node_addr: str
    node_port: int
    name: str
    bind: str
    ext_addr: str
    ports: tuple[int, ...]
    """The ports to listen at: the first that is free."""
    certfile: str | None
    keyfile: str | None
    cafile: str | None
    max_file_size: int | None
    """The most bytes of a file that it takes."""
    limits: Limits
    """What the kernel holds it to."""
    groups: tuple[str, ...]
    """The folders of the control groups that it enters."""
    stack_file: str
    """Where it writes its stack when the node asks for that by a signal."""
    settings: dict[str, Any]
    """The node's `config`, by field name."""
