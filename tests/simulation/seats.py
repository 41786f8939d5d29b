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
ADD_MEMBER, SET_MEMBER, SET_SEATS, SET_PLAN = 5, 6, 7, 10  # kinds of changes
DRAIN, REMOVE, REPLACE, REBALANCE, CANCEL, REPLICATION, TAKE_IN, TAKE_BACK = range(11, 19)
JOINING, MEMBER, DRAINING, DEAD, LEFT = "joining", "member", "draining", "dead", "left"
STAYING, GOING = (JOINING, MEMBER), (DRAINING, DEAD)
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
    members, by number; `called`: their names and addresses; `stores`: which they are bound to; `barred`: who
    is no acceptor of a partition, by that."""

    seats: tuple[Seats, ...]
    plan: Mapping[int, tuple[int, ...]]
    unplanned: bool
    replicas: int
    standing: Mapping[int, str]
    called: Mapping[int, tuple[str, str]]
    stores: Mapping[int, bytes]
    barred: Mapping[int, frozenset[int]]

    @classmethod
    def decoded(cls, tables: list[Any]) -> "Held":
        """As an encoded topology has them."""
        _, (facts,), members, seats, *more = tables
        unplanned, plan, *rest = more[4:] or (False, [])
        return cls(
            tuple(
                Seats(since, stage, _numbers(old), _numbers(new or old)) for since, stage, old, new in seats
            ),
            {at: tuple(goal) for at, *goal in plan},
            unplanned,
            facts[2],
            {row[0]: row[5] for row in members},
            {row[0]: (row[1], row[2]) for row in members},
            {row[0]: row[6] for row in members if row[6]},
            {at: frozenset(barred) for at, *barred in (rest[1] if len(rest) > 1 else ())},
        )

    @property
    def is_moving(self) -> bool:
        """Whether anything is being changed yet, or is to be, or a member is to leave."""
        planned = self.unplanned or bool(self.plan) or self.in_motion
        return planned or any(each in GOING for each in self.standing.values())

    @property
    def in_motion(self) -> bool:
        """Whether a partition is being moved."""
        return any(each.stage != STILL for each in self.seats)

    @property
    def present(self) -> set[int]:
        """The members that have not left."""
        return {number for number, standing in self.standing.items() if standing != LEFT}

    def after(self, index: int, kind: int, fields: list[Any]) -> "Held | None":
        """What an entry makes of it, if it has to do with it; None: it makes no sense."""
        held = self._after(index, kind, fields)
        if held is None or held.seats is self.seats:
            return held
        both = {at: of & {*held.seats[at].both} for at, of in held.barred.items()}
        return held._replace(barred={at: of for at, of in both.items() if of})

    def _after(self, index: int, kind: int, fields: list[Any]) -> "Held | None":
        if kind == ADD_MEMBER:
            return self._joined(fields[0], fields[1])
        if kind == SET_MEMBER:
            held = self._with(fields[0], fields[1], fields[4])
            return held if held is None or fields[5] is None else held.bound(index, fields[0], fields[5])
        if kind == TAKE_IN:
            return self._taken_in(index, fields[0])
        if kind in (DRAIN, REMOVE):
            return self._without(fields[0], DRAINING if kind == DRAIN else DEAD)
        if kind == REPLACE:
            return self._replaced(*fields)
        if kind == SET_SEATS:
            return self._stepped(index, fields[0])
        if kind == SET_PLAN:
            return self._planned(index, *fields)
        if kind == REBALANCE:
            return self._replace(unplanned=True)
        if kind == CANCEL:
            return self._cancelled(index, fields[0], at_once=True)
        if kind == TAKE_BACK:
            return self._cancelled(index, fields[0], at_once=False)
        if kind == REPLICATION:
            if fields[0] == self.replicas or not 1 <= fields[0] <= min(len(self.staying), SEATS_MAX):
                return None
            return self._replace(replicas=fields[0], unplanned=True)
        return self

    @property
    def staying(self) -> set[int]:
        """The members that may be given partitions."""
        return {number for number, standing in self.standing.items() if standing in STAYING}

    def _joined(self, name: str, address: str) -> "Held | None":
        called = [self.called[each] for each in self.present]
        if any(name == known or address == at for known, at in called):
            return None
        number = max(self.standing) + 1
        standing, known = {**self.standing, number: JOINING}, {**self.called, number: (name, address)}
        return self._replace(standing=standing, called=known, unplanned=True)

    def _with(self, number: int, address: str | None, standing: str | None) -> "Held | None":
        known = self.standing.get(number, LEFT)
        if known == LEFT or (standing == LEFT and any(number in each.both for each in self.seats)):
            return None
        name, at = self.called[number]
        if any(self.called[each][1] == address for each in self.present - {number}):
            return None
        called = {**self.called, number: (name, address or at)}
        return self._replace(standing={**self.standing, number: standing or known}, called=called)

    def bound(self, index: int, number: int, store: bytes) -> "Held":
        """Whoever was bound to another store is barred in all that it holds."""
        was, bound = self.stores.get(number, b""), self._replace(stores={**self.stores, number: store})
        if was in (b"", store):
            return bound
        theirs = [at for at, each in enumerate(self.seats) if number in each.both]
        barred = {at: self.barred.get(at, frozenset()) | {number} for at in theirs}
        return bound._replace(barred={**self.barred, **barred}).changed_at(index, theirs)

    def _taken_in(self, index: int, rows: list[list[int]]) -> "Held | None":
        for at, *members in rows:
            if not self.barred.get(at, frozenset()) >= {*members}:
                return None
        left = {at: self.barred[at] - {*members} for at, *members in rows}
        barred = {at: of for at, of in {**self.barred, **left}.items() if of}
        return self._replace(barred=barred).changed_at(index, list(left))

    def changed_at(self, index: int, partitions: list[int]) -> "Held":
        """With the same seats of these, since this entry."""
        seats = [e._replace(since=index) if at in partitions else e for at, e in enumerate(self.seats)]
        return self._replace(seats=tuple(seats))

    def _may_go(self, number: int, standing: str) -> bool:
        """Whether it may be on its way out so, from now on, and enough stay."""
        known = self.standing.get(number, LEFT)
        able = known != LEFT and known != DEAD and (known != DRAINING or standing == DEAD)
        return able and len(self.staying - {number}) >= self.replicas

    def _without(self, number: int, standing: str) -> "Held | None":
        if not self._may_go(number, standing):
            return None
        return self._replace(standing={**self.standing, number: standing}, unplanned=True)

    def _replaced(self, number: int, by: int, dead: bool) -> "Held | None":
        """Another takes its place, in what it holds, or is to hold."""
        known = self.standing.get(number, LEFT)
        goes = known != LEFT and (known != DEAD or dead) and len(self.staying - {number}) >= self.replicas
        if not goes or by not in self.staying:
            return None
        goals = {at: self.plan.get(at, seats.new) or seats.old for at, seats in enumerate(self.seats)}
        theirs = {at: goal for at, goal in goals.items() if number in goal}
        if any(by in goal for goal in theirs.values()):
            return None
        plan = {at: tuple(by if each == number else each for each in goal) for at, goal in theirs.items()}
        standing = {**self.standing, number: DEAD if dead else DRAINING, by: MEMBER}
        return self._replace(standing=standing, plan=self.lacking({**self.plan, **plan}))

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
        able = self.present
        for members in (now.old, now.new):
            if not members or len(set(members)) < len(members) or not able >= set(members):
                return False
        if now.stage == FILL:
            begins = was.stage == STILL or now.new != was.new
            return begins and now.old == was.old and now.new != now.old
        if now.stage == JOINT:
            return was.stage == FILL and (now.old, now.new) == (was.old, was.new)
        goals = [was.old, was.new] if was.stage == JOINT else [was.old]
        return was.stage != STILL and now.old == now.new and now.old in goals

    def _planned(self, index: int, made_at: int, rows: list[list[int]]) -> "Held | None":
        able, goals = self.staying, {at: tuple(goal) for at, *goal in rows}
        wrong = any(
            not 0 <= at < len(self.seats) or len({*goal}) != self.replicas or len(goal) != self.replicas
            or not able >= set(goal)
            for at, goal in goals.items()
        )  # fmt: skip
        if wrong or made_at != index - 1:
            return None
        named = {each for goal in goals.values() for each in goal}
        standing = {
            each: MEMBER if of == JOINING and each in named else of for each, of in self.standing.items()
        }
        return self._replace(plan=self.lacking(goals), unplanned=False, standing=standing)

    def _cancelled(self, index: int, named: list[int], *, at_once: bool) -> "Held | None":
        moving = {at for at, each in enumerate(self.seats) if each.stage != STILL} | self.plan.keys()
        asked = set(named) or moving
        kept = [each for each, of in self.standing.items() if of == DRAINING and not named]
        if not asked <= moving or len(set(named)) < len(named) or not (asked or kept or self.unplanned):
            return None
        bound = {at for at in asked if not self._has_left_enough(at)}
        if bound and (named or asked <= bound):
            return None
        asked -= bound
        back = {at: self.seats[at].old for at in asked if self.seats[at].stage != STILL}
        plan = {at: goal for at, goal in self.plan.items() if at not in asked}
        seats = self.seats
        if at_once:
            seats = tuple(
                Seats(index, STILL, each.old, each.old) if at in back else each
                for at, each in enumerate(seats)
            )
        else:
            plan |= dict.fromkeys(back, ())  # until its move ends, either way
        standing = {**self.standing, **dict.fromkeys(kept, MEMBER)}
        unplanned = self.unplanned and bool(named)
        return self._replace(seats=seats, plan=plan, unplanned=unplanned, standing=standing)

    def _has_left_enough(self, at: int) -> bool:
        """Whether of those that held it enough are left, on the stores they held it on, for all that a quorum
        has had."""
        seats = self.seats[at]
        away = {number for number, standing in self.standing.items() if standing == DEAD}
        away |= self.barred.get(at, frozenset())
        return seats.stage == STILL or len({*seats.old} - away) > (len(seats.old) - 1) // 2

    def lacking(self, goals: Mapping[int, tuple[int, ...]]) -> dict[int, tuple[int, ...]]:
        """Those of them that are not reached."""
        return {
            at: goal
            for at, goal in goals.items()
            if self.seats[at].stage != STILL or (goal and set(self.seats[at].old) != set(goal))
        }


def _numbers(packed: bytes) -> tuple[int, ...]:
    return tuple(int.from_bytes(packed[at : at + 2]) for at in range(0, len(packed), 2))
