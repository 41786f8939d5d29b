"""Topology: who the acceptors of the partition are, entry by entry.

A seat is moved in three steps, as TOPOLOGY says: fill, joint, still. A store is bound to each member. Where
another is bound than was, its member is *barred*: it keeps its seat, so that quorums are no smaller, and
counts for no round until it is *taken in*. An entry that changes the seats, or who is barred, is the one
*since* which all is proven anew; one that was judged by what members told says under which, and does nothing
under another.
"""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from enum import Enum
from typing import NamedTuple

Members = frozenset[int]


class Stage(Enum):
    STILL = "still"
    FILL = "fill"
    JOINT = "joint"


def quorum(members: AbstractSet[int]) -> int:
    return len(members) // 2 + 1


def needed(members: AbstractSet[int]) -> int:
    """So many of them meet every quorum."""
    return len(members) - quorum(members) + 1


class Entry(NamedTuple):
    """`tenure`: since which epoch each member has had its seat, with the store that is bound to it."""

    epoch: int
    stage: Stage
    old: Members
    new: Members
    stores: Mapping[int, int]
    barred: Members
    since: int
    tenure: Mapping[int, int]

    @property
    def members(self) -> Members:
        """All that compare the partition."""
        return self.old | self.new

    @property
    def sets(self) -> tuple[Members, ...]:
        """Of each of these a quorum is needed."""
        return (self.old, self.new) if self.stage is Stage.JOINT else (self.old,)

    @property
    def acceptors(self) -> Members:
        return frozenset().union(*self.sets)

    def enough(self, have: AbstractSet[int]) -> bool:
        return all(len(have & each) >= quorum(each) for each in self.sets)

    def enough_to_finish(self, have: AbstractSet[int]) -> bool:
        """Where too many are barred for a quorum, all others: nobody else can have anything chosen
        meanwhile, and who is taken in has to meet all of them."""
        return all(len(have & each) >= min(quorum(each), len(each - self.barred)) for each in self.sets)

    def covered(self, met: AbstractSet[int]) -> bool:
        """Whether these hold all that a quorum of the old members has ever accepted; or all that is left,
        which may be with one that comes."""
        known = met & (self.old - self.barred)
        return len(known) >= needed(self.old) or (self.loses and met >= self.members - self.barred)

    @property
    def loses(self) -> bool:
        """Whether so many stores are gone that what a quorum accepted may be on none that is left."""
        return len(self.old - self.barred) < needed(self.old)


class Bind(NamedTuple):
    """This store is the member's now."""

    member: int
    store: int


class TakeIn(NamedTuple):
    members: Members
    since: int


class Seat(NamedTuple):
    stage: Stage
    old: Members
    new: Members
    since: int


Change = Bind | TakeIn | Seat


def founded(members: Iterable[int]) -> Entry:
    seats = frozenset(members)
    return Entry(0, Stage.STILL, seats, seats, {}, frozenset(), 0, dict.fromkeys(seats, 0))


def apply(entry: Entry, change: Change) -> Entry | None:
    """The next entry; None: the change comes too late, or changes nothing."""
    epoch = entry.epoch + 1
    if isinstance(change, Bind):
        return bound(entry, change, epoch)
    if is_outdated(entry, change):
        return None
    if isinstance(change, TakeIn):
        return entry._replace(epoch=epoch, since=epoch, barred=entry.barred - change.members)
    seats = change.old | change.new
    return entry._replace(
        epoch=epoch, since=epoch, stage=change.stage, old=change.old, new=change.new,
        barred=entry.barred & seats, tenure={each: entry.tenure.get(each, epoch) for each in seats},
    )  # fmt: skip


def is_outdated(entry: Entry, change: TakeIn | Seat) -> bool:
    return change.since != entry.since


def bound(entry: Entry, change: Bind, epoch: int) -> Entry | None:
    was = entry.stores.get(change.member)
    if was == change.store:
        return None
    now = entry._replace(epoch=epoch, stores={**entry.stores, change.member: change.store})
    return now if was is None or change.member not in entry.members else barring(now, change.member)


def barring(entry: Entry, member: int) -> Entry:
    """Its store has voted in nothing, but the one before may have."""
    return entry._replace(
        since=entry.epoch, barred=entry.barred | {member}, tenure={**entry.tenure, member: entry.epoch}
    )
