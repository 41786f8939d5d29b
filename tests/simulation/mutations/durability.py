"""Bugs of durability: what is acknowledged, or shown, before it is on the disk."""

from typing import Any

from basestore.cluster.outbox import SMALL_BYTES, Outbox
from basestore.protocol.replication import Applied, Held
from basestore.replica.group_commit import GroupCommit
from basestore.replica.replica import Replica
from basestore.replica.summaries import Summaries
from tests.simulation.mutations.registry import LOST, STALE, mutant


@mutant("ack before fsync", STALE | {"receipts"}, GroupCommit, "ack_staged")
def _ack_at_once(self: Any, outbox: Outbox, request: int) -> None:
    outbox.put(Applied([request], self.generation, self.durable_sequence))


_reply = GroupCommit.reply


@mutant("a read of unsynced data", STALE | {"shown"}, GroupCommit, "reply")
def _reply_at_once(self: Any, outbox: Outbox, message: Any, key: bytes, size: int = SMALL_BYTES) -> None:
    if isinstance(message, Held):
        outbox.put(message, size)
    else:
        _reply(self, outbox, message, key, size)


@mutant("a hint reported before it is durable", {"receipts"}, GroupCommit, "reply_surely")
def _kept_at_once(self: Any, outbox: Outbox, message: Any, key: bytes) -> None:
    outbox.put(message)


_durable = GroupCommit.durable


@mutant("a sync vouches for what came after it began", STALE | {"receipts"}, GroupCommit, "durable")
def _everything_durable(self: Any, barrier: int) -> None:
    _durable(self, self.sequence)


@mutant(
    "a hint taken as durable with an older record of its row",
    {"receipts", "acks", *LOST},
    GroupCommit,
    "ack_surely",
)
def _ack_with_the_oldest(self: Any, outbox: Outbox, request: int, key: bytes) -> None:
    for generation in (self._open, *self._waiting):
        if key in generation.rows:
            generation.sure_acks.setdefault(outbox, []).append(request)
            return
    outbox.put(Applied([request], self.generation, self.durable_sequence))


_reject = GroupCommit._reject


@mutant("a refused batch is acknowledged", STALE | {"receipts"}, GroupCommit, "_reject")
def _ack_the_refused(self: Any, generation: Any, reason: str) -> None:
    self._acknowledge(generation.acks)
    generation.acks = {}
    _reject(self, generation, reason)


@mutant(
    "marks of a refused batch are remembered", STALE | {"receipts", "convergence"}, Replica, "forget_marks"
)
def _keep_marks(self: Any) -> None:
    pass


@mutant("sums of a refused batch are kept", {"counts", "mismatches", "crash"}, Summaries, "undo", "disk full")
def _keep_sums(self: Any) -> None:
    pass
