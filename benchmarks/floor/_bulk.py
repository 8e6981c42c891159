"""Receiving many bytes into memory that is there already. Owns nothing else of the floor."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import trio


async def receive_exactly(stream: trio.SocketStream, memory: memoryview) -> bool:
    """Fill the memory from the stream; False if the stream ended first."""
    receive = stream.socket.recv_into
    filled, size = 0, len(memory)
    while filled < size:
        received = await receive(memory[filled:])
        if not received:
            return False
        filled += received
    return True
