"""Changes bytes at random, by a seed: the same seed gives the same inputs."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

INTERESTING = (0, 1, 2, 7, 0x7F, 0x80, 0xC0, 0xC1, 0xDC, 0xDD, 0xFE, 0xFF)
"""Bytes at the ends of ranges, of msgpack too: `nil`, what it never uses, long arrays."""


class Mutator:
    """Makes inputs out of seeds.

    Args:
        seeds: What is changed.
        seed: Of the random numbers.
    """

    def __init__(self, seeds: Sequence[bytes], seed: int) -> None:
        self._seeds = seeds
        self._random = random.Random(seed)
        self._changes: tuple[Callable[[bytearray], None], ...] = (
            self._flip,
            self._set,
            self._insert,
            self._remove,
            self._double,
            self._number,
            self._splice,
            self._cut,
        )

    def __iter__(self) -> Iterator[bytes]:
        """Give inputs without end."""
        while True:
            data = bytearray(self._random.choice(self._seeds))
            for _ in range(self._random.choice((0, 1, 1, 1, 2, 3, 8))):
                self._random.choice(self._changes)(data)
            yield bytes(data)

    def _place(self, data: bytearray) -> int:
        return self._random.randrange(len(data) + 1)

    def _flip(self, data: bytearray) -> None:
        if data:
            data[self._random.randrange(len(data))] ^= 1 << self._random.randrange(8)

    def _set(self, data: bytearray) -> None:
        if data:
            data[self._random.randrange(len(data))] = self._random.choice(INTERESTING)

    def _insert(self, data: bytearray) -> None:
        place = self._place(data)
        data[place:place] = self._random.randbytes(self._random.choice((1, 2, 4, 16)))

    def _remove(self, data: bytearray) -> None:
        place = self._place(data)
        del data[place : place + self._random.choice((1, 2, 4, 16))]

    def _double(self, data: bytearray) -> None:
        place = self._place(data)
        data[place:place] = data[place : place + self._random.choice((1, 8, 20, 64))]

    def _number(self, data: bytearray) -> None:
        """Put a number of 2, 4 or 8 bytes, as lengths are, at some place."""
        size = self._random.choice((2, 4, 8))
        place = self._place(data)
        number = self._random.choice((0, 1, 255, 1 << 16, 1 << 31, (1 << 32) - 1, 1 << 62, (1 << 64) - 1))
        data[place : place + size] = (number & ((1 << 8 * size) - 1)).to_bytes(size, "big")

    def _splice(self, data: bytearray) -> None:
        other = self._random.choice(self._seeds)
        data[self._place(data) :] = other[self._random.randrange(len(other) + 1) :]

    def _cut(self, data: bytearray) -> None:
        del data[self._place(data) :]
