"""Consistency: how many replicas must answer (Level), and what their answers amount to (Tally, Verdict).

Quorums are Gifford's ("Weighted voting for replicated data", 1979), each replica with one vote: a read and a
write at QUORUM meet in a replica. A tally is fed what became of the write at each replica, and is asked for
a verdict. Of three replicas, at QUORUM, two are required:

    n1 APPLIED                 OPEN: one of two
    n2 FAILED                  OPEN: n3 may still apply it
    n2 HINTED                  OPEN: a hint counts for nothing but ANY
    n3 APPLIED                 STORED

While the replicas of a partition are being changed, from the members S to the members T, a `JointQuorum` has
to be met in both (Ongaro and Ousterhout, "In search of an understandable consensus algorithm", 2014, section
6). With S = n1 n2 n3 and T = n1 n4 n5:

    n1 n2 confirm     two of S, one of T: not met
    n1 n2 n4          two of each: met
    at ONE            n1; or one of n2 and n3, and one of n4 and n5: those that leave give up what they hold
                      once the change has ended, those that come if it is taken back

Pure counting. Refuses to know who sends, waits or gives up: that is the coordinator's business.
"""

import enum
from collections.abc import Collection, Iterable
from collections.abc import Set as AbstractSet
from functools import cache
from typing import ClassVar, Final


class Level(enum.IntEnum):
    """How many replicas must answer before a call returns (N replicas a key)."""

    ANY = 0
    ONE = 1
    QUORUM = 2
    ALL = 3
    SERIAL = 4  # of registers: more than half have agreed, on what and in which order

    def required(self, replicas: int) -> int:
        """ANY and ONE: 1; QUORUM and SERIAL: more than half; ALL: every one."""
        if self is _QUORUM or self is _SERIAL:
            return replicas // 2 + 1
        return replicas if self is _ALL else 1


_QUORUM, _ALL, _SERIAL = Level.QUORUM, Level.ALL, Level.SERIAL
COUNTED: Final = (Level.ANY, Level.ONE, Level.QUORUM, Level.ALL)  # that writes and reads reach by counting


class ReplicaState(enum.IntEnum):
    """What the coordinator knows of one replica of a write."""

    PENDING = 0
    APPLIED = 1
    SUPERSEDED = 2
    HINTED = 3
    FAILED = 4


# Bound once: looking a member up on its enum costs more than the counting below.
PENDING = ReplicaState.PENDING
APPLIED = ReplicaState.APPLIED
SUPERSEDED = ReplicaState.SUPERSEDED
HINTED = ReplicaState.HINTED
FAILED = ReplicaState.FAILED


class Outcome(enum.Enum):
    """What became of a write that a level was reached for; or that was deferred."""

    STORED = "stored"
    SUPERSEDED = "superseded"
    LOST = "lost"
    DEFERRED = "deferred"


class Verdict(enum.Enum):
    OPEN = 0
    STORED = 1
    SUPERSEDED = 2
    FAILED = 3


_STORED, _OPEN = Verdict.STORED, Verdict.OPEN  # bound once: on the way of every acknowledgement


class Tally:
    """Outcomes of one write, by replica. A replica's later word replaces its earlier one, except
    that an answer (applied, superseded) is final."""

    __slots__ = ("applied", "hinted", "level", "possible", "required", "states", "superseded", "waiting")
    moving: ClassVar = False  # the replicas are just being changed

    def __init__(self, replicas: int, level: Level) -> None:
        self.level = level
        self.required = level.required(replicas)
        self.states = [PENDING] * replicas
        self.applied = 0
        self.superseded = 0
        self.hinted = 0
        self.possible = replicas  # replicas that have applied it or still may
        self.waiting = replicas

    def copy(self) -> "Tally":
        """Another that counts on from here."""
        copied = Tally(len(self.states), self.level)
        copied.states = list(self.states)
        copied.applied, copied.superseded, copied.hinted = self.applied, self.superseded, self.hinted
        copied.possible, copied.waiting = self.possible, self.waiting
        return copied

    def record(self, place: int, state: ReplicaState) -> bool:
        """Note what became of the replica at `place`; False if that was known already."""
        before = self.states[place]
        if before is state or before is APPLIED or before is SUPERSEDED:
            return False
        self.states[place] = state
        if before is PENDING:
            self.waiting -= 1
            self.possible -= 1
        elif before is HINTED:
            self.hinted -= 1
        # A replica that was given up (failed, or has a hint) may apply it all the same, and counts again.
        if state is APPLIED:
            self.applied += 1
            self.possible += 1
        elif state is SUPERSEDED:
            self.superseded += 1
        elif state is HINTED:
            self.hinted += 1
        return True

    @property
    def lasts(self) -> bool:
        """Whether somebody has applied it who holds the row whatever becomes of a change that is under
        way."""
        return self.applied > 0

    def lasts_with(self, member: int) -> bool:
        """The same once this member has applied it, too."""
        return True

    @property
    def told(self) -> tuple[int, int]:
        """How many are required, and how many have applied it: what a receipt says."""
        return self.required, self.applied

    def told_less(self, late: int) -> tuple[int, int]:
        """The same without so many that came too late."""
        required, applied = self.told
        return required, max(0, applied - late)

    @property
    def met(self) -> tuple[Level, ...]:
        """The levels that are met just by what was applied last."""
        return met_by(self.applied, len(self.states))

    @property
    def verdict(self) -> Verdict:
        """STORED when `required` replicas applied the write as the winner. Once that can no longer
        be: SUPERSEDED if a replica is known to hold a better record; at ANY, STORED if a hint is
        durable; FAILED otherwise."""
        if self.applied >= self.required:
            return _STORED
        if self.possible >= self.required:
            return _OPEN
        return self._lapsed

    @property
    def _lapsed(self) -> Verdict:
        """Once too few are left that may apply it."""
        if self.superseded:
            return Verdict.SUPERSEDED
        if self.level is Level.ANY and self.hinted:
            return Verdict.STORED
        return Verdict.FAILED


@cache
def met_by(confirmed: int, replicas: int) -> tuple[Level, ...]:
    """The levels that are met just when so many of the replicas have confirmed, asked for or not."""
    # == and not >=: a level is met once, by the answer that completes it.
    return tuple(level for level in COUNTED if level.required(replicas) == confirmed)


MOVING: Final = " (who holds the key is just being changed, so that two quorums are required)"


class Quorum:
    """Whose confirmations suffice at a level: those of any `required` among the `replicas` of a partition.
    `lasting`: those that hold it however a change of seats ends; they may be named as having what is kept for
    others."""

    __slots__ = ("lasting", "level", "replicas", "required")
    moving: ClassVar = False  # the replicas are just being changed

    def __init__(self, replicas: tuple[int, ...], level: Level) -> None:
        self.level = level
        self.replicas = self.lasting = replicas
        self.required = level.required(len(replicas))

    def met(self, members: Collection[int], less: Collection[int] = ()) -> bool:
        """Whether these replicas suffice, less some of them."""
        return len(members) - len(less) >= self.required

    def choose(self, fresh: list[int], awaited: Collection[int], more: int = 0) -> list[int]:
        """Whom to ask of those that were not asked yet, the best first: so many more, or, at 0, as many as
        suffice with those that are awaited."""
        return fresh[: more or max(0, self.required - len(awaited))]

    def order(
        self, fresh: list[int], asked: Collection[int], missing: Collection[int], more: int
    ) -> tuple[list[int], int]:
        """Those that were not asked yet, in the order in which to ask them, and how many of them: so many
        more, or, at 0, as many as suffice with those that were asked, less those that will not answer."""
        return fresh, more or max(0, self.required - len(asked) + len(missing))

    def told(self, members: Collection[int]) -> tuple[int, int]:
        """How many are required, and how many of these count towards that: what a user is told."""
        return self.required, len(members)

    def met_with(self, members: Collection[int], member: int) -> tuple[Level, ...]:
        """The levels that are met just when this member joins these."""
        return met_by(len(members) + 1, len(self.replicas))

    def tally(self) -> Tally:
        """Of a write that is about to be sent."""
        return Tally(len(self.replicas), self.level)


class JointQuorum(Quorum):
    """While the replicas are being changed from `old` to `new`. What a user is told is true of the one of the
    two sets that lacks more: so as many as are required count just when the level is met."""

    __slots__ = ("_halves", "_new", "_old")
    moving = True

    def __init__(self, old: tuple[int, ...], new: tuple[int, ...], level: Level) -> None:
        super().__init__(old + tuple(each for each in new if each not in old), level)
        self.lasting = tuple(each for each in new if each in old)
        self._old, self._new = old, new
        self._halves = self._halves_at(level)
        self.required = max(required for _, required in self._halves)

    def _halves_at(self, level: Level) -> tuple[tuple[frozenset[int], int], ...]:
        # A replica of T that does not hold yet what it must refuses by itself.
        counted = (self.replicas,) if level is _ALL else (self._old, self._new)
        return tuple((frozenset(each), level.required(len(each))) for each in counted)

    def lasts(self, members: Iterable[int]) -> bool:
        """Whether one of these holds the row when the change has ended, and one if it is taken back."""
        known = set(members)
        return not (known.isdisjoint(self._old) or known.isdisjoint(self._new))

    def lacking(self, members: Iterable[int]) -> list[tuple[int, int]]:
        """Of each set that counts: how many more it takes than these, and how many are required."""
        known = set(members)
        return [(required - len(half & known), required) for half, required in self._halves]

    def met(self, members: Collection[int], less: Collection[int] = ()) -> bool:
        return all(lacks <= 0 for lacks, _ in self.lacking(set(members).difference(less)))

    def choose(self, fresh: list[int], awaited: Collection[int], more: int = 0) -> list[int]:
        known, rest, chosen = set(awaited), list(fresh), list[int]()
        while rest and (len(chosen) < more if more else not self.met(known)):
            wanted = [half for half, required in self._halves if len(half & known) < required]
            best = max(rest, key=lambda each: sum(each in half for half in wanted))  # of equals the first
            chosen.append(best)
            rest.remove(best)
            known.add(best)
        return chosen

    def order(
        self, fresh: list[int], asked: Collection[int], missing: Collection[int], more: int
    ) -> tuple[list[int], int]:
        chosen = self.choose(fresh, set(asked).difference(missing), more)
        return chosen + [each for each in fresh if each not in chosen], more or len(chosen)

    def told(self, members: Collection[int]) -> tuple[int, int]:
        lacks, required = max(self.lacking(members))
        return required, required - lacks

    def met_with(self, members: Collection[int], member: int) -> tuple[Level, ...]:
        before, after = set(members), {member, *members}
        at = [(level, JointQuorum(self._old, self._new, level)) for level in COUNTED]
        return tuple(level for level, quorum in at if quorum.met(after) and not quorum.met(before))

    def tally(self) -> Tally:
        return JointTally(self)


class SurvivingQuorum(JointQuorum):
    """A quorum, of each of two sets if they differ, where some members are `away` for good: as many as are
    left, if those are fewer. A set of which nobody is left asks for nobody; if both are, it is never met."""

    __slots__ = ()

    def __init__(self, old: tuple[int, ...], new: tuple[int, ...], away: AbstractSet[int]) -> None:
        super().__init__(old, new, Level.SERIAL)
        left = [(half - away, required) for half, required in self._halves if half - away]
        nobody = (frozenset[int](), 1)
        self._halves = tuple((half, min(required, len(half))) for half, required in left) or (nobody,)
        self.required = max(required for _, required in self._halves)


class JointTally(Tally):
    """Outcomes of one write while the replicas of its row are being changed."""

    __slots__ = ("_last", "_quorum")
    moving = True

    def __init__(self, quorum: JointQuorum) -> None:
        super().__init__(len(quorum.replicas), quorum.level)
        self._quorum = quorum
        self._last = -1
        self.required = quorum.required

    def record(self, place: int, state: ReplicaState) -> bool:
        if state is APPLIED:
            self._last = self._quorum.replicas[place]
        return super().record(place, state)

    def _in(self, *states: ReplicaState) -> list[int]:
        return [
            replica
            for replica, state in zip(self._quorum.replicas, self.states, strict=True)
            if state in states
        ]

    @property
    def lasts(self) -> bool:
        return self._quorum.lasts(self._in(APPLIED))

    def lasts_with(self, member: int) -> bool:
        return self._quorum.lasts((*self._in(APPLIED), member))

    @property
    def told(self) -> tuple[int, int]:
        return self._quorum.told(self._in(APPLIED))

    @property
    def met(self) -> tuple[Level, ...]:
        before = [replica for replica in self._in(APPLIED) if replica != self._last]
        return self._quorum.met_with(before, self._last)

    @property
    def verdict(self) -> Verdict:
        if self._quorum.met(self._in(APPLIED)):
            return _STORED
        if self._quorum.met(self._in(APPLIED, PENDING)):
            return _OPEN
        return self._lapsed


def quorums(old: tuple[int, ...], new: tuple[int, ...]) -> tuple[Quorum, ...]:
    """By level: of a partition whose replicas are being changed, or, where both are the same, are not."""
    if old == new:
        return tuple(Quorum(old, level) for level in Level)
    return tuple(JointQuorum(old, new, level) for level in Level)
