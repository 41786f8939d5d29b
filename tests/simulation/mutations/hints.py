"""Bugs of hints: what is kept for a member that missed it."""

from typing import Any
from unittest.mock import patch

from basestore.cluster.operations import NO_ANSWER
from basestore.cluster.outbox import Outbox
from basestore.coordinator.quorum_write import QuorumWrite
from basestore.handoff import hints
from basestore.handoff.debts import Debts
from basestore.handoff.delivery import Delivery
from basestore.handoff.hints import Hints
from basestore.protocol.replication import COPY, Applied, Kept, Rejected
from basestore.repair.rule import Rule
from basestore.repair.write_repair import Hint, merge_hints
from basestore.replica.replica import Replica
from basestore.rows import row_partition
from tests.simulation.mutations.registry import LOST, mutant

_keep = Hints.keep


@mutant("a hint that has no room is reported as kept", {"receipts"}, Hints, "keep", "hints")
def _never_full(self: Any, outbox: Outbox, message: Any) -> None:
    if self.piles[self._peers.index_of[message.member]].bytes + len(message.record) > self._bytes_max:
        outbox.put(Kept(message.id, message.member, True))
    else:
        _keep(self, outbox, message)


@mutant("hints are never delivered", {"recovery"}, Delivery, "tick")
def _keep_all(self: Any, now: Any) -> None:
    pass


@mutant("the latest hint is kept, not the winner", {"receipts", *LOST}, hints, "merge_hints")
def _latest_hint(rule: Rule, kept: Hint | None, offered: Hint) -> Hint:
    return offered


_delivery_ended = Delivery._ended


@mutant("a hint refused is a hint delivered", {"receipts", *LOST}, Delivery, "_ended")
def _give_up_hint(self: Any, at: Any, row: bytes, hint: Hint, size: int, answer: Any, now: Any) -> None:
    taken = answer.id if isinstance(answer, Rejected) and answer.reason != NO_ANSWER else answer
    _delivery_ended(self, at, row, hint, size, taken, now)


_lost = QuorumWrite.lost


@mutant("a first write that loses a link while it reads", {"crash"}, QuorumWrite, "lost")
def _hint_unsent(self: Any, member: int, now: Any) -> None:
    sent, self._sent = self._sent, True
    _lost(self, member, now)
    self._sent = sent


@mutant("a hint without room leaves no debt", {"debts", "receipts"}, Debts, "owe")
def _owe_nothing(self: Any, member: int, row: bytes, hint: Any) -> bytes:
    return b""


_expire = Hints.expire


@mutant("a hint that is too old leaves no debt", {"debts", "receipts"}, Hints, "expire")
def _drop_silently(self: Any, now: Any) -> None:
    with patch.object(Debts, "owe", _owe_nothing):
        _expire(self, now)


@mutant("a debt since the latest write that is missing", {"debts", "receipts"}, Debts, "owe")
def _owe_the_latest(self: Any, member: int, row: bytes, hint: Any) -> bytes:
    partition, stamp = row_partition(row), hint.record.version.stamp
    key: bytes = self._key(member, partition)
    if stamp > self.of[member].get(partition, 0):
        self.of[member][partition] = stamp
        self._group_commit.stage(key, stamp.to_bytes(8))
    return key


@mutant(
    "a hint stands for its own write alone", {"debts", "receipts"}, hints, "merge_hints", "races", "hints"
)
def _stand_alone(rule: Rule, kept: Hint | None, offered: Hint) -> Hint:
    hint = merge_hints(rule, kept, offered)
    return hint._replace(since=hint.record.version.stamp)


_apply = Replica.apply


@mutant("a hint is confirmed before it is durable where it went", {"acks", *LOST}, Replica, "apply")
def _confirm_at_once(self: Any, outbox: Any, message: Any, wall_ms: int) -> None:
    _apply(self, outbox, message, wall_ms)
    if message.way > COPY:
        outbox.put(Applied([message.id], self._group_commit.generation, self._group_commit.durable_sequence))
