"""Reads everything that passes in a network of `tests._network`, as one who listens on the wire would.

async with sniffing(lan, "text that nobody may read") as sniffer:
...
seen = await sniffer.stop()
assert not seen.marked
"""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests._network import Lan, Program

SNIFF = """
    import json, select, socket, sys
    marker = sys.argv[1].encode()
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    sock.setblocking(False)
    print("listening")
    bytes_seen, marked, udp, going = 0, 0, {}, True
    while True:
        if going:
            ready, _, _ = select.select([sock, sys.stdin], [], [])
            going = sys.stdin not in ready
        try:
            packet, source = sock.recvfrom(1 << 16)
        except BlockingIOError:
            if going:
                continue
            break
        if source[0] != "br0" and source[2] != socket.PACKET_OUTGOING:
            bytes_seen += len(packet)
            marked += marker in packet
            if packet[12:14] == b"\\x08\\x00" and packet[23] == 17:
                host = socket.inet_ntoa(packet[26:30])
                udp[host] = udp.get(host, 0) + 1
    print(json.dumps([bytes_seen, marked, udp]))
"""


class Seen:
    """What a sniffer saw.

    Attributes:
        bytes: How much passed.
        marked: The packets that held the marker in plain text.
    """

    def __init__(self, line: str) -> None:
        self.bytes, self.marked, self._udp = json.loads(line)

    def udp_from(self, address: str) -> int:
        """Count the UDP datagrams over IPv4 that came from an address."""
        count: int = self._udp.get(address, 0)
        return count


class Sniffer:
    """Reads everything that passes in a network."""

    def __init__(self, program: Program) -> None:
        self._program = program

    async def stop(self) -> Seen:
        """End it, and give what it saw."""
        await self._program.say("stop")
        return Seen(await self._program.line())


@asynccontextmanager
async def sniffing(lan: Lan, marker: str) -> AsyncIterator[Sniffer]:
    """Listen in a network while the block runs.

    Args:
        lan: The network; everything that is sent in it is heard.
        marker: A text to look for, in every packet.
    """
    async with lan.switch.running(SNIFF, marker) as program:
        assert await program.line() == "listening"
        yield Sniffer(program)
