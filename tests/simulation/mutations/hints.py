"""Bugs of hints: what is kept for a member that missed it."""

from typing import Any

from basestore import handoff
from basestore.handoff import Handoff
from basestore.messages import Kept
from basestore.outbox import Outbox
from basestore.writing import Writing
from repair.rule import Rule
from repair.write_repair import Hint
from tests.simulation.mutations.registry import LOST, mutant

_keep = Handoff.keep


@mutant("a hint that has no room is reported as kept", {"receipts"}, Handoff, "keep", "hints")
def _never_full(self: Any, outbox: Outbox, message: Any) -> None:
    pile = self._piles[message.member]
    if pile.bytes + len(message.record) > self._bytes_max:
        outbox.put(Kept(message.id, message.member, True))
    else:
        _keep(self, outbox, message)


@mutant("hints are never delivered", {"recovery"}, Handoff, "tick")
def _keep_all(self: Any, now: Any) -> None:
    pass


@mutant("the latest hint is kept, not the winner", {"receipts", *LOST}, handoff, "merge_hints")
def _latest_hint(rule: Rule, kept: Hint | None, offered: Hint) -> Hint:
    return offered


@mutant("a hint refused is a hint delivered", {"receipts", *LOST}, handoff._Delivery, "rejected")
def _give_up_hint(self: Any, member: int, request: int, answer: Any, now: Any) -> None:
    self._handoff.settle(self, self._member, self._key, self._value)


_lost = Writing.lost


@mutant("a first write that loses a link while it reads", {"crash"}, Writing, "lost")
def _hint_unsent(self: Any, member: int, now: Any) -> None:
    sent, self._sent = self._sent, True
    _lost(self, member, now)
    self._sent = sent
