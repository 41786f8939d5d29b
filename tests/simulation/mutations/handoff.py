"""Bugs of handoff: what becomes of hints, late hints and debts, and who is asked to keep them."""

from typing import Any
from unittest.mock import patch

from basestore.coordinator.quorum_write import QuorumWrite
from basestore.handoff import hints
from basestore.handoff.debts import DebtCheck, Debts
from basestore.handoff.deferred_writes import DeferredWrites
from basestore.handoff.hints import Hints
from basestore.handoff.late_hints import LateHints
from basestore.repair.rule import Rule
from basestore.repair.write_repair import Hint, given_up, merge_hints
from basestore.replica.admission import Admission
from tests.simulation.mutations.registry import LOST, mutant

OWED = {"debts", "receipts", "only copies", *LOST}
LATE = {"late hints", "closed", "stable stamps", "receipts", "debts", "only copies", *LOST}


@mutant("a debt ends at the first write that was owed", OWED, Debts, "end", "owing")
def _end_at_the_first(self: Any, partition: int, stable: int) -> None:
    self._last = dict.fromkeys(self._last, 0)
    _end(self, partition, stable)


_end = Debts.end


@mutant("a debt ends on what nobody knows", OWED, Debts, "mark", "owing")
def _mark_low(self: Any, stamp: int) -> None:
    for member, owed in enumerate(self.of):
        for partition in owed:
            self._last.setdefault((member, partition), 0)


@mutant("a debt is not stored", OWED, Debts, "owe", "owing")
def _owe_in_memory(self: Any, member: int, row: bytes, hint: Any) -> bytes:
    key = _owe(self, member, row, hint)
    self._group_commit.rows.pop(key, None)
    return key


_owe = Debts.owe
_told = DebtCheck._told


@mutant("a debt ends whatever is stable", OWED, DebtCheck, "_told", "owing")
def _end_anyway(self: Any, partition: int, answer: Any, now: Any) -> None:
    self._debts.end(partition, (1 << 64) - 1)


@mutant("a late hint goes before its rewriting is stored", LATE, LateHints, "_write", "exiled")
def _settle_first(self: Any, pile: Any, row: bytes, hint: Any, *how: Any) -> None:
    self._hints.settle(pile, row, hint, "hints_late_rewritten")
    _write_late(self, pile, row, hint, *how)


_write_late = LateHints._write


@mutant("a late hint is given up without being looked at", LATE, LateHints, "_look", "exiled")
def _give_up_late(self: Any, pile: Any, row: bytes, hint: Any, now: Any) -> None:
    self._under_way += 1
    self._end(pile, row, hint, "hints_late_superseded")


@mutant("a late hint is dropped", LATE, Hints, "too_late", "haste")
def _drop_late(self: Any, pile: Any, row: bytes, hint: Any) -> None:
    self.settle(pile, row, hint, "hints_late")


@mutant("an only copy is given up when it is old", OWED | {"late hints"}, hints, "given_up", "exiled")
def _give_up_all(hint: Hint, wall_ms: int, age_ms_max: int) -> bool:
    return given_up(hint._replace(only_copy=False), wall_ms, age_ms_max)


@mutant(
    "what takes an only copy's place is a mere copy", OWED | {"late hints"}, hints, "merge_hints", "exiled"
)
def _less_precious(rule: Rule, kept: Hint | None, offered: Hint) -> Hint:
    return merge_hints(rule, kept, offered)._replace(only_copy=offered.only_copy)


@mutant("a hint goes though another took its place", OWED, Hints, "settle", "hints")
def _settle_any(self: Any, pile: Any, row: bytes, hint: Any, outcome: str) -> None:
    kept = self.kept(pile, row)
    if kept is not None:
        self._remove(pile, kept, row)
        self._metrics.count(outcome)


@mutant("a hint is a copy though its takers are gone", LATE, Admission, "hinted", "haste", "stores")
def _always_a_copy(self: Any, member: int, outbox: Any, message: Any, now: Any) -> None:
    in_use, self._in_use = self._in_use, lambda partition, stores: True
    _hinted(self, member, outbox, message, now)
    self._in_use = in_use


_hinted = Admission.hinted
_keep = QuorumWrite._keep


@mutant("an only copy is kept as if others had it", LATE | OWED, QuorumWrite, "_keep", "exiled")
def _never_only(self: Any, replica: int, only_copy: bool, taker: int | None = None) -> None:
    _keep(self, replica, False, taker)


@mutant("a replica that refuses for now gets no hint", OWED, QuorumWrite, "rejected", "leftovers")
def _no_hint_for_a_refusal(self: Any, member: int, answer: Any, now: Any) -> None:
    _rejected(self, member, answer._replace(passing=False), now)


_rejected = QuorumWrite.rejected


@mutant("a node that stops leaves no hints", OWED, QuorumWrite, "closing", "leftovers")
def _leave_nothing(self: Any, now: Any) -> None:
    pass


@mutant("who is slow gets no hint", OWED, QuorumWrite, "relieve", "leftovers")
def _drop_the_slow(self: Any, now: Any) -> None:
    self._context.operations.drop(self)


@mutant("no hint at the deadline", OWED, QuorumWrite, "_hint_pending", "leftovers")
def _hint_nobody(self: Any, reason: str) -> None:
    pass


@mutant(
    "what takes an only copy's place is one only if it was one", OWED | {"late hints"}, hints, "merge_hints",
    "exiled",
)  # fmt: skip
def _precious_if_both(rule: Rule, kept: Hint | None, offered: Hint) -> Hint:
    merged = merge_hints(rule, kept, offered)
    return merged._replace(only_copy=merged.only_copy and offered.only_copy and (kept or offered).only_copy)


_defer = Hints.defer


@mutant("deferred writes do not count as only copies", LATE | OWED, Hints, "defer")
def _deferred_as_mere_copies(self: Any, row: bytes, record: Any, replicas: Any) -> None:
    of = Hint.of

    def mere(record: Any, only_copy: bool, stores: bytes = b"", *, deferred: bool = False) -> Hint:
        return of(record, False, stores, deferred=deferred)

    with patch.object(Hint, "of", mere):
        _defer(self, row, record, replicas)


@mutant("a deferred write is answered before it is durable", {"receipts", *LOST}, DeferredWrites, "keep")
def _answer_at_once(self: Any, request: Any, *what: Any) -> Any:
    told = _keep_deferred(self, request, *what)
    self._context.group_commit.when_durable = _at_once
    return told


def _at_once(action: Any) -> None:
    del action.__self__._context.group_commit.when_durable
    action()


_keep_deferred = DeferredWrites.keep
