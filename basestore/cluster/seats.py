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
from collections.abc import Mapping
from typing import NamedTuple, Self


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

    def named(self, names: Mapping[int, int]) -> Self:
        """The same, with other names for the members."""
        old, new = (tuple(names[each] for each in members) for members in (self.old, self.new))
        return self._replace(old=old, new=new)
