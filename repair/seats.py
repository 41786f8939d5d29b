"""Seats: which members hold a partition, and how far a change of that has come.

A partition whose replicas are not being changed is *still*. A change from the members S to the members T has
two stages in between (TOPOLOGY: a reconfiguration by joint quorums, as in Ongaro and Ousterhout, "In search
of an understandable consensus algorithm", 2014, section 6):

    still(S)      S holds it, and answers
    fill(S, T)    S answers as ever; those of T that are new compare themselves with all of S and T, and fill
    joint(S, T)   what counts needs a quorum of S and one of T
    still(T)      T holds it, and answers

Pure. Says nothing of how members are named: in a topology they are numbers, in a node places in its arrays.
"""

import enum
import hashlib
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Final, NamedTuple, Self

_NUMBER_BYTES: Final = 2

SEATS_MAX: Final = 15  # of a partition


class Stage(enum.IntEnum):
    """How far a change of seats has come."""

    STILL = 0
    FILL = 1
    JOINT = 2


class Seats(NamedTuple):
    """Of one partition. `since`: the epoch of the entry that last changed them; `old`: S, in the order of
    placement, `new`: T, the same as S while they are still."""

    since: int
    stage: Stage
    old: tuple[int, ...]
    new: tuple[int, ...]

    @classmethod
    def still(cls, members: tuple[int, ...], since: int = 0) -> Self:
        return cls(since, Stage.STILL, members, members)

    @property
    def written(self) -> tuple[int, ...]:
        """Who is sent what is written: S, in joint T as well."""
        return self.both if self.stage is Stage.JOINT else self.old

    @property
    def both(self) -> tuple[int, ...]:
        """Who compares what it holds: S, then those of T that are not in S."""
        return self.old + tuple(each for each in self.new if each not in self.old)

    def wrong_step(self, after: "Seats") -> str:
        """Why these cannot become those now; empty if they can: from still to fill, from fill to joint, from
        joint to still; back from fill and joint, to what they were; and from these to fill for others."""
        if self.stage is Stage.STILL:
            if after.stage is not Stage.FILL:
                return "its seats are not being changed: the first stage of a change is to fill"
            if after.old != self.old:
                return "others hold it than are to hand it over: plan the change anew"
            return "" if after.new != after.old else "the same members hold it already: nothing is to be done"
        if after.stage is Stage.STILL:
            back = after.old == after.new == self.old
            done = self.stage is Stage.JOINT and after.old == after.new == self.new
            ends = "become still as they were, or, from joint, as they are to be"
            return "" if back or done else f"its seats are being changed: they can {ends}"
        if after.old == self.old != after.new != self.new and after.stage is Stage.FILL:
            return ""
        if (after.old, after.new) != (self.old, self.new):
            return "another change of its seats is under way: wait until it has ended, or cancel it"
        if (self.stage, after.stage) != (Stage.FILL, Stage.JOINT):
            return f"its seats are at {self.stage.name.lower()} already: wait for the next, or cancel it"
        return ""

    def wrong(self, members: AbstractSet[int]) -> str:
        """Why these cannot be its seats among these members; empty if they can."""
        for holding in (self.old, self.new):
            if not 1 <= len(holding) <= SEATS_MAX:
                return f"{len(holding)} members are to hold it, and 1 to {SEATS_MAX} can: plan it anew"
            if len(set(holding)) < len(holding):
                return "a member is to hold it twice: name each once"
            if not members >= set(holding):
                return "who is to hold it is no member, or has left: see `basestore topology`"
        return ""

    def row(self, partition: int) -> list[int]:
        """As an entry has them that gives a partition these seats. `since` is none of it: that is where the
        entry comes to stand."""
        return [partition, int(self.stage), len(self.old), *self.old, *self.new]

    @classmethod
    def of_row(cls, row: list[int], since: int) -> tuple[int, Self]:
        """Inverse of `row`; ValueError."""
        partition, stage, count, *members = row
        if not 0 <= count <= len(members):
            raise ValueError("a row of seats is too short")
        return partition, cls(since, Stage(stage), tuple(members[:count]), tuple(members[count:]))

    def encoded(self) -> list[int | bytes]:
        """As a topology has them: two bytes a member, and T only where it is not S."""
        new = b"" if self.new == self.old else packed(self.new)
        return [self.since, int(self.stage), packed(self.old), new]

    @classmethod
    def decoded(cls, since: int, stage: int, old: bytes, new: bytes) -> Self:
        """Inverse of `encoded`; ValueError."""
        return cls(since, Stage(stage), unpacked(old), unpacked(new or old))

    def named(self, names: Mapping[int, int]) -> Self:
        """The same, with other names for the members."""
        old, new = (tuple(names[each] for each in members) for members in (self.old, self.new))
        return self._replace(old=old, new=new)


def score(partition: int, name: str) -> bytes:
    """What a member draws for a partition: the lower, the sooner it is chosen to hold it (rendezvous hashing:
    Thaler and Ravishankar, 1998)."""
    return hashlib.blake2b(b"%d/" % partition + name.encode(), digest_size=8).digest()


def packed(numbers: Iterable[int]) -> bytes:
    """Numbers of members, two bytes each."""
    return b"".join([number.to_bytes(_NUMBER_BYTES) for number in numbers])


def unpacked(packed: bytes) -> tuple[int, ...]:
    """Inverse of `packed`."""
    starts = range(0, len(packed), _NUMBER_BYTES)
    return tuple([int.from_bytes(packed[at : at + _NUMBER_BYTES]) for at in starts])
