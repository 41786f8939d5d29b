"""Seats: who holds what, and how far a change of that has come, as decided entries say it.

Read from the entries themselves, and worked out here anew: nothing of the product that is judged says what
an entry means. An entry that makes no sense when it comes changes nothing.

    still(S)       S holds it: a quorum of S counts
    fill(S, T)     the same; T compares itself with S, and fills
    joint(S, T)    a quorum of S and one of T count; at ONE one of each, at ALL everyone
    still(T)       only joint(S, T) becomes that, and nothing takes it back
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

from basestore.consistency import Level

STILL, FILL, JOINT = 0, 1, 2
SET_MEMBER, SET_SEATS, SET_PLAN, REBALANCE, CANCEL, REPLICATION = 6, 7, 10, 14, 15, 16  # kinds of changes
ADD_MEMBER = 5
LEFT = "left"
STAYING = ("joining", "member")
SEATS_MAX = 15


def needed(level: Level, replicas: int) -> int:
    """How many replicas a level requires: said once more, for the product's own word is on trial."""
    return {Level.QUORUM: replicas // 2 + 1, Level.ALL: replicas}.get(level, 1)


class Seats(NamedTuple):
    """Of a partition, since that epoch: from `old` to `new`, which are the same while they are still."""

    since: int
    stage: int
    old: tuple[int, ...]
    new: tuple[int, ...]

    @property
    def both(self) -> tuple[int, ...]:
        """Who compares what it holds."""
        return self.old + tuple(each for each in self.new if each not in self.old)

    @property
    def written(self) -> tuple[int, ...]:
        """To whom its rows are written."""
        return self.both if self.stage == JOINT else self.old

    def halves(self, level: Level) -> list[tuple[frozenset[int], int]]:
        """Of whom how many are required."""
        if self.stage != JOINT:
            counted = [self.old]
        else:
            counted = [self.both] if level is Level.ALL else [self.old, self.new]
        return [(frozenset(each), needed(level, len(each))) for each in counted]

    def told(self, level: Level, members: AbstractSet[int]) -> tuple[int, int]:
        """What a user is told: of the half that lacks most, how many are required, and how many are there."""
        if self.stage != JOINT:
            return needed(level, len(self.old)), len(members)
        lacks, required = max((count - len(half & members), count) for half, count in self.halves(level))
        return required, required - lacks

    def met(self, level: Level, members: AbstractSet[int]) -> bool:
        """Whether these suffice."""
        return all(len(half & members) >= count for half, count in self.halves(level))

    def named(self, names: Mapping[int, int]) -> "Seats":
        """The same, with other names for the members."""
        old, new = (tuple(names[each] for each in members) for members in (self.old, self.new))
        return self._replace(old=old, new=new)


class Held(NamedTuple):
    """Who holds what at an epoch, in members' numbers. `plan`: who is to, by partition; `standing`: of the
    members, by number."""

    seats: tuple[Seats, ...]
    plan: Mapping[int, tuple[int, ...]]
    unplanned: bool
    replicas: int
    standing: Mapping[int, str]

    @classmethod
    def decoded(cls, tables: list[Any]) -> "Held":
        """As an encoded topology has them."""
        _, (facts,), members, seats, *more = tables
        unplanned, plan = more[4:] or (False, [])
        return cls(
            tuple(
                Seats(since, stage, _numbers(old), _numbers(new or old)) for since, stage, old, new in seats
            ),
            {at: tuple(goal) for at, *goal in plan},
            unplanned,
            facts[2],
            {row[0]: row[5] for row in members},
        )

    @property
    def is_moving(self) -> bool:
        """Whether anything is being changed yet, or is to be."""
        return self.unplanned or bool(self.plan) or any(each.stage != STILL for each in self.seats)

    def after(self, index: int, kind: int, fields: list[Any]) -> "Held | None":
        """What an entry makes of it, if it has to do with it; None: it makes no sense. Members that are to
        leave (kinds 11, 12 and 13) nobody asks for yet."""
        if kind == ADD_MEMBER:
            return self._replace(standing={**self.standing, max(self.standing) + 1: "joining"})
        if kind == SET_MEMBER:
            return self._with(fields[0], fields[4])
        if kind == SET_SEATS:
            return self._stepped(index, fields[0])
        if kind == SET_PLAN:
            return self._planned(index, *fields)
        if kind == REBALANCE:
            return self._replace(unplanned=True)
        if kind == CANCEL:
            return self._cancelled(index, fields[0])
        if kind == REPLICATION:
            staying = sum(each in STAYING for each in self.standing.values())
            if fields[0] == self.replicas or not 1 <= fields[0] <= min(staying, SEATS_MAX):
                return None
            return self._replace(replicas=fields[0], unplanned=True)
        return self

    def _with(self, number: int, standing: str | None) -> "Held | None":
        known = self.standing.get(number, LEFT)
        if known == LEFT or (standing == LEFT and any(number in each.both for each in self.seats)):
            return None
        return self._replace(standing={**self.standing, number: standing or known})

    def _stepped(self, index: int, rows: list[list[int]]) -> "Held | None":
        seats = list(self.seats)
        for at, stage, count, *members in rows:
            now = Seats(index, stage, tuple(members[:count]), tuple(members[count:]))
            if not 0 <= at < len(seats) or not self._may_step(seats[at], now):
                return None
            seats[at] = now
        held = self._replace(seats=tuple(seats))
        return held._replace(plan=held.lacking(self.plan))

    def _may_step(self, was: Seats, now: Seats) -> bool:
        able = {number for number, standing in self.standing.items() if standing != LEFT}
        for members in (now.old, now.new):
            if not members or len(set(members)) < len(members) or not able >= set(members):
                return False
        if now.stage == FILL:
            return was.stage == STILL and now.old == was.old and now.new != now.old
        if now.stage == JOINT:
            return was.stage == FILL and (now.old, now.new) == (was.old, was.new)
        goals = [was.old, was.new] if was.stage == JOINT else [was.old]
        return was.stage != STILL and now.old == now.new and now.old in goals

    def _planned(self, index: int, made_at: int, rows: list[list[int]]) -> "Held | None":
        able = {number for number, standing in self.standing.items() if standing in STAYING}
        goals = {at: tuple(goal) for at, *goal in rows}
        wrong = any(
            not 0 <= at < len(self.seats) or len({*goal}) != self.replicas or len(goal) != self.replicas
            or not able >= set(goal)
            for at, goal in goals.items()
        )  # fmt: skip
        if wrong or made_at != index - 1:
            return None
        standing = {each: "member" if of == "joining" else of for each, of in self.standing.items()}
        return self._replace(plan=self.lacking(goals), unplanned=False, standing=standing)

    def _cancelled(self, index: int, named: list[int]) -> "Held | None":
        moving = {at for at, each in enumerate(self.seats) if each.stage != STILL} | self.plan.keys()
        asked = set(named) or moving
        if not asked <= moving or len(set(named)) < len(named) or not (asked or self.unplanned):
            return None
        seats = tuple(
            Seats(index, STILL, each.old, each.old) if at in asked and each.stage != STILL else each
            for at, each in enumerate(self.seats)
        )
        plan = {at: goal for at, goal in self.plan.items() if at not in asked}
        return self._replace(seats=seats, plan=plan, unplanned=self.unplanned and bool(named))

    def lacking(self, goals: Mapping[int, tuple[int, ...]]) -> dict[int, tuple[int, ...]]:
        """Those of them that are not reached."""
        return {
            at: goal
            for at, goal in goals.items()
            if self.seats[at].stage != STILL or set(self.seats[at].old) != set(goal)
        }


def _numbers(packed: bytes) -> tuple[int, ...]:
    return tuple(int.from_bytes(packed[at : at + 2]) for at in range(0, len(packed), 2))
