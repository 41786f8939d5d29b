"""What writers of registers were told, and whether all of it is true.

Every value of a *chain* is written in the place of one that its writer knows, or of nothing, and no value is
written by two writes. So what a key has held can be followed back from what it holds at the end, by what its
writers say that they replaced. A *counter* is added to, one by one.

    stored       it stands in the chain, once; its number is no other's
    not made     it does not: it was lost, or nothing was done
    unknown      it may
    shown        by a read, or to a write that was lost: it stands in the chain

What was there when one call had ended is there, or has been, for all that begin later.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from basestore.repair.version import Version

STORED, NOT_MADE, UNKNOWN = "stored", "not made", "unknown"
NOTHING = b""  # the value of what is absent
SHOWN_MAX = 300  # characters of a complaint


@dataclass(slots=True)
class Write:
    """One write, however often it was repeated as itself. `over`: the value that it replaces, of a chain;
    `value` of a counter: the number that it has made, or nothing. `ended`: never, if that is unknown.
    `lost_to`: what it was told to be there in place of what it was to replace."""

    writer: str
    key: str
    value: bytes
    over: bytes
    begun: float
    ended: float = math.inf
    outcome: str = UNKNOWN
    version: Version | None = None
    lost_to: bytes | None = None

    def __str__(self) -> str:
        return (
            f"{self.key}: {self.value!r} over {self.over!r} by {self.writer}, {self.outcome} ({self.version})"
        )


class Shown(NamedTuple):
    """What a key was told to hold, between two moments. `mine`: to the write itself that has put it there."""

    key: str
    value: bytes
    version: Version | None
    begun: float
    ended: float
    mine: bool = False


@dataclass
class Ledger:
    """All of it, by key. A counter's key begins with `counter`."""

    writes: dict[str, list[Write]] = field(default_factory=dict)
    shown: dict[str, list[Shown]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def keys(self) -> list[str]:
        return sorted(self.writes.keys() | self.shown.keys())

    def begin(self, write: Write) -> None:
        self.writes.setdefault(write.key, []).append(write)

    def show(self, shown: Shown) -> None:
        self.shown.setdefault(shown.key, []).append(shown)

    def complaints(self, final: dict[str, bytes]) -> list[str]:
        """What is wrong, by what each key holds at the end."""
        found = (complaint for key in self.keys for complaint in self._of(key, final[key]))
        return [complaint[:SHOWN_MAX] for complaint in found]

    def _of(self, key: str, final: bytes) -> Iterator[str]:
        writes, shown = self.writes.get(key, []), self.shown.get(key, [])
        if is_counter(key):
            return counted(key, writes, shown, int(final or b"0"))
        return chained(key, writes, shown, final)


def is_counter(key: str) -> bool:
    return key.startswith("counter")


def counted(key: str, writes: Sequence[Write], shown: Iterable[Shown], final: int) -> Iterator[str]:
    """What is wrong with a counter."""
    outcomes = Counter(write.outcome for write in writes)
    least, most = outcomes[STORED], outcomes[STORED] + outcomes[UNKNOWN]
    if not least <= final <= most:
        yield f"{key}: {final} at the end; {least} were added, and perhaps {most - least} more"
    made = Counter(write.value for write in writes if write.outcome == STORED and write.value)
    yield from (f"{key}: {times} have made {value!r}" for value, times in made.items() if times > 1)
    looks = [*shown, *(mine(write) for write in writes if write.outcome == STORED and write.value)]
    yield from disordered([(look, int(look.value or b"0")) for look in looks])


def chained(key: str, writes: Sequence[Write], shown: Sequence[Shown], final: bytes) -> Iterator[str]:
    """What is wrong with a chain."""
    by_value = {write.value: write for write in writes}
    chain = [final]
    while chain[-1] != NOTHING:
        write = by_value.get(chain[-1])
        if write is None:
            yield f"{key}: {chain[-1]!r} is there, and nobody wrote it"
            return
        if write.over in chain:
            yield f"{key}: {write.over!r} was there twice"
            return
        chain.append(write.over)
    place = {value: number for number, value in enumerate(reversed(chain))}
    for write in writes:
        if write.outcome == STORED and write.value not in place:
            yield f"acknowledged, and it is not in the chain: {write}"
        if write.outcome == NOT_MADE and write.value in place:
            yield f"it was said not to be made, and it was: {write}"
        if write.lost_to == write.over:
            yield f"lost to what it was to replace: {write}"
    looks = [*shown, *(mine(write) for write in writes if write.outcome == STORED)]
    yield from (
        f"{key}: {look.value!r} was shown, and was never there" for look in looks if look.value not in place
    )
    yield from twice_named(looks)
    yield from disordered([(look, place[look.value]) for look in looks if look.value in place])


def mine(write: Write) -> Shown:
    """What a write that was stored has shown."""
    return Shown(write.key, write.value, write.version, write.begun, write.ended, mine=True)


def twice_named(looks: Iterable[Shown]) -> Iterator[str]:
    """A value keeps the version by which it is known, whoever has it accepted again."""
    known: dict[bytes, Version] = {}
    for look in looks:
        if look.version is not None and look.value:
            first = known.setdefault(look.value, look.version)
            if first != look.version:
                yield f"{look.key}: {look.value!r} is known by {first} and by {look.version}"


def disordered(looks: Sequence[tuple[Shown, int]]) -> Iterator[str]:
    """Whether somebody was shown less than was there before he asked; or has put something there which was
    shown before."""
    ended = sorted(looks, key=lambda look: look[0].ended)
    at, greatest = 0, -1
    for look, place in sorted(looks, key=lambda look: look[0].begun):
        while at < len(ended) and ended[at][0].ended < look.begun:
            greatest = max(greatest, ended[at][1])
            at += 1
        if place < greatest or (look.mine and place == greatest):
            yield f"{look.key}: {look.value!r}, place {place}, after place {greatest} had been shown: {look}"
