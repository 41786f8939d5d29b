"""Bugs of counting: what makes a quorum, and what a receipt says."""

from typing import Any

from basestore.consistency import APPLIED, HINTED, PENDING, SUPERSEDED, Level, ReplicaState, Tally
from basestore.coordinator.quorum_write import QuorumWrite
from tests.simulation.mutations.registry import STALE, mutant

_record = Tally.record


@mutant("a hint counted for QUORUM", STALE | {"receipts"}, Tally, "record")
def _count_hints(self: Any, place: int, state: ReplicaState) -> bool:
    return _record(self, place, APPLIED if state is HINTED and self.level > Level.ANY else state)


@mutant("superseded counted as applied", STALE | {"receipts"}, Tally, "record")
def _count_superseded(self: Any, place: int, state: ReplicaState) -> bool:
    return _record(self, place, APPLIED if state is SUPERSEDED else state)


@mutant("quorum off by one", STALE, Level, "required")
def _half(self: Any, replicas: int) -> int:
    return max(1, replicas // 2) if self is Level.QUORUM else replicas if self is Level.ALL else 1


@mutant("ALL means all but one", STALE | {"receipts"}, Level, "required")
def _almost_all(self: Any, replicas: int) -> int:
    return max(1, replicas - 1) if self is Level.ALL else replicas // 2 + 1 if self is Level.QUORUM else 1


_answer = QuorumWrite._answer


@mutant("a receipt that rounds up", {"receipts"}, QuorumWrite, "_answer")
def _round_up(self: Any, outcome: int, version: bytes, winner: bytes, now: Any) -> None:
    states = self._tally.states
    self._tally.states = [APPLIED if state is PENDING else state for state in states]
    _answer(self, outcome, version, winner, now)
    self._tally.states = states


@mutant("a write answered twice", {"answers"}, QuorumWrite, "_answer")
def _answer_twice(self: Any, outcome: int, version: bytes, winner: bytes, now: Any) -> None:
    _answer(self, outcome, version, winner, now)
    self._answered = self._tally.applied > self._tally.required
