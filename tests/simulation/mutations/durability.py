"""Bugs of durability: what is acknowledged, or shown, before it is on the disk."""

from typing import Any

from basestore.cluster.outbox import SMALL_BYTES, Outbox
from basestore.protocol.replication import Applied, Held
from basestore.replica.group_commit import GroupCommit
from basestore.replica.sync_watch import SyncWatch
from tests.simulation.mutations.registry import LOST, STALE, mutant

_ack = GroupCommit.ack


@mutant("ack before fsync", STALE | {"receipts"}, GroupCommit, "ack")
def _ack_at_once(
    self: Any, outbox: Outbox, request: int, key: bytes | None = None, *, surely: bool = False
) -> None:
    if key is None:
        outbox.put(Applied([request], self.generation, self.durable_sequence))
    else:
        _ack(self, outbox, request, key, surely=surely)


_reply = GroupCommit.reply


@mutant("a read of unsynced data", STALE | {"shown"}, GroupCommit, "reply")
def _reply_at_once(
    self: Any, outbox: Outbox, message: Any, key: Any = None, size: int = SMALL_BYTES, *, surely: bool = False
) -> None:
    if isinstance(message, Held):
        outbox.put(message, size)
    else:
        _reply(self, outbox, message, key, size, surely=surely)


@mutant("a hint reported before it is durable", {"receipts"}, GroupCommit, "reply")
def _kept_at_once(
    self: Any, outbox: Outbox, message: Any, key: Any = None, size: int = SMALL_BYTES, *, surely: bool = False
) -> None:
    if surely:
        outbox.put(message)
    else:
        _reply(self, outbox, message, key, size)


_durable = GroupCommit.durable


@mutant("a sync vouches for what came after it began", STALE | {"receipts"}, GroupCommit, "durable")
def _everything_durable(self: Any, barrier: int) -> None:
    _durable(self, self.sequence)


@mutant(
    "a hint taken as durable with an older record of its row",
    {"receipts", "acks", *LOST},
    GroupCommit,
    "ack",
)
def _ack_with_the_oldest(
    self: Any, outbox: Outbox, request: int, key: bytes | None = None, *, surely: bool = False
) -> None:
    if not surely:
        _ack(self, outbox, request, key)
        return
    for batch in (self._open, *self._waiting):
        if key in batch.rows:
            batch.sure_acks.setdefault(outbox, []).append(request)
            return
    outbox.put(Applied([request], self.generation, self.durable_sequence))


_commit = GroupCommit.commit


@mutant("a refused batch is acknowledged", STALE | {"receipts", "acks"}, GroupCommit, "commit", "disk full")
def _ack_the_refused(self: Any) -> None:
    _commit(self)
    if self.stalled:
        self._acknowledge(self._open.acks)
        self._open.acks = {}


@mutant("a read of a refused batch is answered", STALE | {"shown"}, GroupCommit, "commit", "stalls")
def _show_the_refused(self: Any) -> None:
    _commit(self)
    if self.stalled:
        for outbox, message, size in self._open.replies:
            outbox.put(message, size)
        self._open.replies = []


@mutant("a hint of a refused batch is reported", {"receipts"}, GroupCommit, "commit", "disk full")
def _report_the_refused(self: Any) -> None:
    _commit(self)
    if self.stalled:
        for outbox, message, size in self._open.sure_replies:
            outbox.put(message, size)
        self._open.sure_replies = []


@mutant(
    "a refused batch is dropped", STALE | {"receipts", "counts", "mismatches", "crash", "convergence", "log"},
    GroupCommit, "commit", "disk full",
)  # fmt: skip
def _drop_the_refused(self: Any) -> None:
    _commit(self)
    if self.stalled:
        self._open = type(self._open)(self._open.number)
        self.stalled = False
        self.weigh()


@mutant("writes are taken while a batch is refused", {"stalls"}, GroupCommit, "weigh", "disk full", "stalls")
def _never_full(self: Any) -> None:
    self.behind = self.full = False
    self.refusal = self.wary = ""


@mutant("a disk that hangs is not noticed", {"hangs", "recovery"}, SyncWatch, "tick", "disk hangs")
def _wait_on(self: Any, now: Any) -> None:
    pass
