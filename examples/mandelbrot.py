"""Render a zoom into the Mandelbrot set: rows are computed on servers, each picture becomes a PNG and a preview.

The rows of all pictures are one lazy `map`: servers are busy all the time, and rows come back in order, so that a
picture is written as soon as its last row is there. Terminals with colours show it, two rows of it in each line.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import trio
from rich.console import Console
from rich.live import Live
from rich.text import Text

import discoro_trio as discoro
from _command_line import cluster_of, make_parser, run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _command_line import Cluster


CENTRE = complex(-0.743643887, 0.131825904)
COLUMNS = 64
Row = tuple[float, float, float, int, int]
"""What a server needs for a row: where it begins, its step, its pixels, the most iterations."""


def row(left: float, imaginary: float, step: float, width: int, depth: int) -> bytes:
    """Give the colours of a row, three bytes a pixel. This runs in a thread of a server."""
    pixels = bytearray()
    for x in range(width):
        c = complex(left + step * x, imaginary)
        z, count = 0j, 0
        while count < depth and z.real * z.real + z.imag * z.imag <= 4:  # noqa: PLR2004 - farther off it never comes back
            z, count = z * z + c, count + 1
        shade = 0 if count == depth else 255 * count // depth
        pixels += bytes((min(255, 3 * shade), shade, 255 - shade if shade else 0))
    return bytes(pixels)


def rows_of(frames: int, size: int, depth: int) -> Iterator[Row]:
    """Give the rows of all pictures; each picture shows half of what the one before does."""
    for frame in range(frames):
        step = 3.0 / 2**frame / size
        for y in range(size):
            yield CENTRE.real - step * size / 2, CENTRE.imag + step * (size / 2 - y), step, size, depth


def png(rows: list[bytes]) -> bytes:
    """Make a PNG file of rows of RGB pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", len(rows[0]) // 3, len(rows), 8, 2, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def preview(rows: list[bytes], size: int) -> Text:
    """Draw what is there of a picture: the upper and the lower half of a character are two pixels."""
    text, every = Text(), max(1, size // COLUMNS)
    for y in range(0, len(rows) - every, 2 * every):
        for x in range(0, 3 * size, 3 * every):
            upper, lower = rows[y][x : x + 3].hex(), rows[y + every][x : x + 3].hex()
            text.append("▀", style=f"#{upper} on #{lower}")
        text.append("\n")
    return text


async def main(frames: int, size: int, depth: int, folder: Path, cluster: Cluster) -> None:
    """Render all pictures."""
    console, rows, frame = Console(), list[bytes](), 0
    async with cluster, discoro.Computation([row]).schedule() as computation:
        with Live(console=console, auto_refresh=False, transient=True) as live:
            async with computation.starmap(row, rows_of(frames, size, depth)) as results:
                async for pixels in results:
                    rows.append(pixels)
                    if console.is_terminal and len(rows) % (size // 16 or 1) == 0:
                        live.update(preview(rows, size), refresh=True)
                    if len(rows) == size:
                        path = folder / f"mandelbrot{frame:03d}.png"
                        await trio.Path(path).write_bytes(png(rows))
                        console.print(f"{path} shows {3 / 2**frame:.6g} of the plane", soft_wrap=True, highlight=False)
                        rows, frame = [], frame + 1


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--frames", type=int, default=4, metavar="N", help="pictures (default: 4)")
    parser.add_argument("--size", type=int, default=256, metavar="N", help="pixels each way (default: 256)")
    parser.add_argument("--depth", type=int, default=200, metavar="N", help="most iterations of a pixel (default: 200)")
    parser.add_argument("--folder", type=Path, default=Path(), help="where pictures are written (default: here)")
    options = parser.parse_args()
    run(main, options.frames, options.size, options.depth, options.folder, cluster_of(options))
