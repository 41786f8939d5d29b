"""Bugs of stores: rollbacks, wiped stores, recovery."""

from typing import Any
from unittest.mock import patch

from basestore.node import Node
from basestore.outbox import Outbox
from basestore.reconciler import Reconciler
from basestore.recovery import Recovery
from basestore.replica import Replica
from basestore.scrub import Scrub
from basestore.standing import Standing, State
from basestore.writing import Writing
from repair.version import VERSION_BYTES, Record
from tests.simulation.mutations.registry import MUTANTS, STALE, Mutant, Patch, mutant


@mutant("a forgetful replica answers", STALE, Node, "_serves")
def _always_serves(self: Any, member: int, outbox: Outbox, request: int, deadline_ms: int, now: Any) -> bool:
    if self.standing.state is State.FORGETFUL and self.peers.alive != [True] * len(self.peers.alive):
        self.peers.set_alive(self.me, True)
    return True


def _forgetful_counts() -> list[Patch]:
    whole = property(lambda self: True)
    return [patch.object(Standing, "whole", whole), patch.object(Node, "_serves", _always_serves)]


MUTANTS[-1] = Mutant("a forgetful replica answers", STALE, _forgetful_counts)

_hear_remembered = Standing.hear_remembered


@mutant("a rollback goes unnoticed", STALE, Standing, "hear_remembered", "ambushes")
def _never_rolled_back(self: Any, outbox: Outbox, name: str, said: Any, fresh_store: bytes) -> bool:
    fits = said._replace(generation=next(iter(self._generations)), sequence=0)
    return _hear_remembered(self, outbox, name, fits, fresh_store)


@mutant("a wiped store passes for a new one", STALE, Standing, "hear_remembered")
def _never_knew(self: Any, outbox: Outbox, name: str, said: Any, fresh_store: bytes) -> bool:
    return _hear_remembered(self, outbox, name, said._replace(earlier=False), fresh_store)


@mutant("recovery from a single replica", STALE, Recovery, "_recovered")
def _one_will_do(self: Any, partition: int) -> bool:
    return bool(self._done(partition))


@mutant("a session takes over what is older", STALE | {"goes back"}, Replica, "take_over")
def _take_anything(self: Any, row: bytes, record: Record) -> None:
    held = self.mark(row)
    if held[:VERSION_BYTES] != record.head[:VERSION_BYTES]:
        self._store(row, record.blob, held)


_end = Reconciler._end


@mutant(
    "recovery counts sessions that ended without a certificate", STALE, Reconciler, "_end", "wipe", "rollback"
)
def _ended_is_certified(self: Any, session: Any, reason: str = "") -> None:
    _end(self, session, reason)
    self.certified[session.partition, session.member] = (session.begun_s, session.peer_whole)


_finish = Scrub.finish


@mutant("healing miscounts records", {"crash", "counts"}, Scrub, "finish", "spoil")
def _miscount(self: Any) -> int:
    ledger = self._ledgers.of[self.partition]
    count, live = ledger.count, ledger.live
    wrong = _finish(self)
    ledger.count, ledger.live = count, live
    return wrong


_recovery_tick = Recovery.tick


@mutant("recovery that does not wait for earlier requests", STALE, Recovery, "tick", "swaps")
def _begin_at_once(self: Any, now: Any) -> None:
    self._begin_s = 0.0
    _recovery_tick(self, now)


_writing_alarm = Writing.alarm


@mutant("a verdict after the deadline", STALE | {"deadlines"}, Writing, "alarm")
def _go_on(self: Any, now: Any) -> None:
    if now.monotonic < self._deadline + 0.5:
        self._deadline += 0.5
        self._coordinator.operations.alarm_at(self.ids[0], self._deadline)
    else:
        _writing_alarm(self, now)
