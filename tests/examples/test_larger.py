"""The larger examples: pictures, a search in logs, the price of an option."""

from __future__ import annotations

import re
import struct
import sys
import zlib
from typing import TYPE_CHECKING

import pytest

from tests.test_examples import run_example

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.example, pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")]


def pixels_of(path: Path) -> list[bytes]:
    """Give the rows of a PNG file, after its checksums were looked at."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        assert struct.unpack_from(">I", data, at + 8 + size)[0] == zlib.crc32(kind + body)
        chunks[kind] = body
        at += size + 12
    width, height, *rest = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert rest == [8, 2, 0, 0, 0]
    rows = zlib.decompress(chunks[b"IDAT"])
    assert len(rows) == height * (3 * width + 1)
    return [rows[y * (3 * width + 1) + 1 : (y + 1) * (3 * width + 1)] for y in range(height)]


@pytest.mark.spec("B11")
def test_pictures_are_rendered_row_by_row_and_written_as_png(tmp_path: Path) -> None:
    text = run_example("mandelbrot.py", tmp_path, "--frames", "2", "--size", "24", "--depth", "60", "--servers", "2")
    assert re.findall(r"mandelbrot(\d+)\.png shows ([\d.]+)", text) == [("000", "3"), ("001", "1.5")]
    first, second = (pixels_of(tmp_path / f"mandelbrot00{frame}.png") for frame in range(2))
    assert len(first) == len(second) == 24
    # The point 0 is in the set, and black; the corner is far off.
    assert first[13][3 * 17 : 3 * 18] == b"\0\0\0"
    assert first[0][:3] != b"\0\0\0"
    assert first != second


@pytest.mark.spec("B01", "B06")
def test_the_first_hits_end_the_search_in_all_files(tmp_path: Path) -> None:
    text = run_example("log_search.py", tmp_path, "--most", "5", "--servers", "2")
    assert len(re.findall(r"^127\.0\.0\.1:\d+: web\d\.log: \d{4}00 ERROR ", text, re.MULTILINE)) == 5
    assert text.endswith("5 hits, which is enough.\n")


def test_files_that_are_at_the_nodes_are_searched_there_to_their_ends(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.log").write_text("nothing\nhere it is\nnothing\n")
    text = run_example("log_search.py", tmp_path, "it is", "--there", f"{tmp_path}/*.log", "--servers", "2")
    assert re.findall(r": (\w\.log: .*)", text) == ["a.log: here it is", "b.log: here it is"]
    assert text.endswith("2 hits.\n")


@pytest.mark.spec("B11")
def test_the_price_sharpens_until_it_is_good_enough(tmp_path: Path) -> None:
    text = run_example("option_pricing.py", tmp_path, "--tolerance", "0.03", "--batch", "20000", "--servers", "2")
    halves = [float(half) for half in re.findall(r" ± ([\d.]+)$", text, re.MULTILINE)]
    assert halves == sorted(halves, reverse=True)
    found = re.search(r"The price is ([\d.]+) ± ([\d.]+); the formula gives ([\d.]+)\.\n$", text)
    assert found is not None
    price, half, exact = map(float, found.groups())
    assert half <= 0.03
    assert exact == 7.1281
    assert abs(price - exact) < 4 * half
