"""Bugs of verdicts: that a replica is not alive is taken for a truth about what it holds.

A wrong verdict itself is no bug that a checker could find: `test_verdicts` plays worlds whose
detectors lie at random, and nothing may come of it.
"""

from typing import Any

from basestore.consistency import APPLIED, Level, Quorum
from basestore.coordinator import attempts
from basestore.coordinator.context import Context
from basestore.coordinator.quorum_read import QuorumRead
from basestore.coordinator.quorum_write import QuorumWrite
from basestore.errors import Unavailable
from basestore.repair.read_repair import NOTHING
from tests.simulation.mutations.registry import STALE, mutant


@mutant("a quorum of those that are alive", STALE, Context, "require")
def _of_the_living(self: Any, partition: int, level: Level, instead: str = "") -> Quorum:
    quorum = Quorum(self.placement.quorums[partition][level].replicas, level)
    alive = sum(map(self.peers.alive.__getitem__, quorum.replicas))
    quorum.required = level.required(alive) if alive else len(quorum.replicas)
    if alive < quorum.required:
        raise Unavailable(quorum.required, alive, instead=instead)
    return quorum


_hint = QuorumWrite._hint


@mutant("a replica that is not alive need not confirm", STALE | {"receipts"}, QuorumWrite, "_hint")
def _waive(self: Any, replica: int, reason: str) -> None:
    _hint(self, replica, reason)
    if reason == "not alive":
        self._tally.record(self._replicas.index(replica), APPLIED)


_lost = QuorumRead.lost


@mutant("a replica that was lost holds nothing", STALE, QuorumRead, "lost")
def _holds_nothing(self: Any, member: int, now: Any) -> None:
    if member in self._asked and member not in self._heads:
        self._learn(member, NOTHING, now)
    if self.ids:
        _lost(self, member, now)


@mutant("a write whose replicas were lost was not done", {"phantoms"}, attempts, "refused")
def _not_done(told: tuple[int, int], reasons: Any, identity: Any) -> Unavailable:
    return Unavailable(*told)
