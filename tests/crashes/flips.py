"""Flipped bits: single ones, in every kind of file of a store."""

import random
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from tests.crashes.states import kind_of


class Flip(NamedTuple):
    """One bit of one file."""

    name: str
    byte: int
    bit: int

    @property
    def kind(self) -> str:
        return kind_of(self.name)

    def done_to(self, files: Mapping[str, bytes]) -> dict[str, bytes]:
        """The files with this bit flipped."""
        content = bytearray(files[self.name])
        content[self.byte] ^= 1 << self.bit
        return {**files, self.name: bytes(content)}

    def __str__(self) -> str:
        return f"bit {self.bit} of byte {self.byte} of {self.name}"


def draw_flips(files: Mapping[str, bytes], per_kind: int, seed: int) -> Iterator[Flip]:
    """Of each kind of file so many bits: all bytes where there are no more, otherwise some, and among
    them every bit of the first records' headers, on which all that follows depends."""
    chance = random.Random(seed)
    by_kind: dict[str, list[tuple[str, int]]] = {}
    for name in sorted(files):
        places = by_kind.setdefault(kind_of(name), [])
        places += [(name, byte) for byte in range(len(files[name]))]
    for kind, places in sorted(by_kind.items()):
        if kind == "text":
            places = chance.sample(places, min(len(places), per_kind // 8))
        chosen = places if len(places) <= per_kind else sorted(chance.sample(places, per_kind))
        for name, byte in chosen:
            yield Flip(name, byte, chance.randrange(8))
        if kind in ("log", "manifest") and places:
            name = places[-1][0]
            for bit in range(3 * 8):  # length and kind of the first record
                yield Flip(name, 4 + bit // 8, bit % 8)
