"""Consistency: how many replicas must answer (Level), and what their answers amount to (Tally, Verdict).

Quorums are Gifford's ("Weighted voting for replicated data", 1979), each replica with one vote: a read and a
write at QUORUM meet in a replica. A tally is fed what became of the write at each replica, and is asked for
a verdict. Of three replicas, at QUORUM, two are required:

    n1 APPLIED                 OPEN: one of two
    n2 FAILED                  OPEN: n3 may still apply it
    n2 HINTED                  OPEN: a hint counts for nothing but ANY
    n3 APPLIED                 STORED

Pure counting. Refuses to know who sends, waits or gives up: that is the coordinator's business.
"""

import enum
from functools import cache


class Level(enum.IntEnum):
    """How many replicas must answer before a call returns (N replicas a key)."""

    ANY = 0
    ONE = 1
    QUORUM = 2
    ALL = 3

    def required(self, replicas: int) -> int:
        """ANY and ONE: 1; QUORUM: more than half; ALL: every one."""
        if self is _QUORUM:
            return replicas // 2 + 1
        return replicas if self is _ALL else 1


_QUORUM, _ALL = Level.QUORUM, Level.ALL


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
    def verdict(self) -> Verdict:
        """STORED when `required` replicas applied the write as the winner. Once that can no longer
        be: SUPERSEDED if a replica is known to hold a better record; at ANY, STORED if a hint is
        durable; FAILED otherwise."""
        if self.applied >= self.required:
            return _STORED
        if self.possible >= self.required:
            return _OPEN
        if self.superseded:
            return Verdict.SUPERSEDED
        if self.level is Level.ANY and self.hinted:
            return Verdict.STORED
        return Verdict.FAILED


@cache
def met_by(confirmed: int, replicas: int) -> tuple[Level, ...]:
    """The levels that are met just when so many of the replicas have confirmed, asked for or not."""
    # == and not >=: a level is met once, by the answer that completes it.
    return tuple(level for level in Level if level.required(replicas) == confirmed)
