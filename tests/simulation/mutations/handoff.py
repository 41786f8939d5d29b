"""Bugs of handoff: what becomes of hints, late hints and debts, and who is asked to keep them."""

from typing import Any

from basestore.coordinator.quorum_write import QuorumWrite
from basestore.handoff import hints
from basestore.handoff.debts import DebtCheck, Debts
from basestore.handoff.hints import Hints
from basestore.handoff.late_hints import LateHints
from basestore.replica.admission import Admission
from repair.rule import Rule
from repair.write_repair import Hint, given_up, merge_hints
from tests.simulation.mutations.registry import LOST, mutant

OWED = {"debts", "receipts", *LOST}
LATE = {"late hints", "closed", "stable stamps", "receipts", "debts", *LOST}


@mutant("a debt ends at the first write that was owed", OWED, Debts, "end", "hints")
def _end_at_the_first(self: Any, partition: int, stable: int) -> None:
    self._last = dict.fromkeys(self._last, 0)
    _end(self, partition, stable)


_end = Debts.end


@mutant("a debt ends on what nobody knows", OWED, Debts, "mark", "hints")
def _mark_low(self: Any, stamp: int) -> None:
    for member, owed in enumerate(self.of):
        for partition in owed:
            self._last.setdefault((member, partition), 0)


@mutant("a debt is not stored", OWED, Debts, "owe", "hints")
def _owe_in_memory(self: Any, member: int, row: bytes, hint: Any) -> bytes:
    key = _owe(self, member, row, hint)
    self._group_commit.rows.pop(key, None)
    return key


_owe = Debts.owe
_told = DebtCheck._told


@mutant("a debt ends whatever is stable", OWED, DebtCheck, "_told", "hints")
def _end_anyway(self: Any, partition: int, answer: Any, now: Any) -> None:
    self._debts.end(partition, (1 << 64) - 1)


@mutant("a late hint goes before its rewriting is stored", LATE, LateHints, "_write", "haste")
def _settle_first(self: Any, pile: Any, row: bytes, hint: Any, *how: Any) -> None:
    self._hints.settle(pile, row, hint, "hints_late_rewritten")
    _write_late(self, pile, row, hint, *how)


_write_late = LateHints._write


@mutant("a late hint is given up without being looked at", LATE, LateHints, "_look", "haste")
def _give_up_late(self: Any, pile: Any, row: bytes, hint: Any, now: Any) -> None:
    self._under_way += 1
    self._end(pile, row, hint, "hints_late_superseded")


@mutant("a late hint is dropped", LATE, Hints, "too_late", "haste")
def _drop_late(self: Any, pile: Any, row: bytes, hint: Any) -> None:
    self.settle(pile, row, hint, "hints_late")


@mutant("an only copy is given up when it is old", OWED | {"late hints"}, hints, "given_up", "hints")
def _give_up_all(hint: Hint, wall_ms: int, age_ms_max: int) -> bool:
    return given_up(hint._replace(only_copy=False), wall_ms, age_ms_max)


@mutant("a hint forgets the earlier write that it stands for", OWED, hints, "merge_hints", "hints")
def _since_the_latest(rule: Rule, kept: Hint | None, offered: Hint) -> Hint:
    hint = merge_hints(rule, kept, offered)
    return hint if kept is None else hint._replace(since=max(kept.since, offered.since))


@mutant(
    "what takes an only copy's place is a mere copy", OWED | {"late hints"}, hints, "merge_hints", "hints"
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


@mutant("an only copy is kept as if others had it", LATE | OWED, QuorumWrite, "_keep", "hints")
def _never_only(self: Any, replica: int, only_copy: bool, taker: int | None = None) -> None:
    _keep(self, replica, False, taker)


@mutant("a hint names no taker", LATE, QuorumWrite, "_keep", "haste")
def _no_takers(self: Any, replica: int, only_copy: bool, taker: int | None = None) -> None:
    states, self._tally.states = self._tally.states, [type(s)(0) for s in self._tally.states]
    _keep(self, replica, only_copy)
    self._tally.states = states


@mutant("a replica that refuses for now gets no hint", OWED, QuorumWrite, "rejected")
def _no_hint_for_a_refusal(self: Any, member: int, answer: Any, now: Any) -> None:
    _rejected(self, member, answer._replace(passing=False), now)


_rejected = QuorumWrite.rejected


@mutant("a node that stops leaves no hints", OWED, QuorumWrite, "closing", "acks")
def _leave_nothing(self: Any, now: Any) -> None:
    pass


@mutant("who is slow gets no hint", OWED, QuorumWrite, "relieve")
def _drop_the_slow(self: Any, now: Any) -> None:
    self._context.operations.drop(self)


@mutant("no hint at the deadline", OWED, QuorumWrite, "_hint_pending")
def _hint_nobody(self: Any, reason: str) -> None:
    pass
