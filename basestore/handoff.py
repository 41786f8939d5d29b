"""Handoff: hints kept for members that missed a write, and their delivery.

A hint is a row of its own, named after the member and the row it is for, so that of several hints
for one row the rule's winner is what stays. It counts, and is reported, only once it is durable.
Delivery begins when the member is alive, keeps a window of copies under way and deletes a hint when
its copy was answered; a hint that meets an error stays for the next round. Nothing expires here.
"""

from collections.abc import Mapping

from basestore.journal import Journal
from basestore.messages import HINTED_COPY, Apply, Keep, Kept, Rejected
from basestore.operation import Operation, Operations
from basestore.outbox import SMALL_BYTES, Outbox
from basestore.peers import Instant, Peers
from basestore.placement import row_bucket
from basestore.storage.engine import HINT
from repair.rule import Rule
from repair.version import Record
from repair.write_repair import Hint, merge_hints

WINDOW = 256
ROUND_S = 1.0
PATIENCE_S = 10.0
_ONLY_COPY = b"\1"
_COPY = b"\0"


class _Pile:
    """The hints for one member: how many, how big, and how far delivery has come."""

    __slots__ = ("bytes", "count", "cursor", "prefix", "resume_s", "under_way")

    def __init__(self, name: str) -> None:
        encoded = name.encode()
        self.prefix = HINT + len(encoded).to_bytes(2) + encoded
        self.count = 0
        self.bytes = 0
        self.cursor = self.prefix
        self.resume_s = 0.0
        self.under_way = 0

    @property
    def end(self) -> bytes:
        return self.prefix + b"\xff"  # rows begin with a partition below 0xff00


class _Delivery(Operation):
    """One copy under way to the member the hint is for."""

    __slots__ = ("_handoff", "_key", "_member", "_value")

    def __init__(self, handoff: "Handoff", member: int, key: bytes, value: bytes) -> None:
        super().__init__(0)
        self._handoff = handoff
        self._member = member
        self._key = key
        self._value = value

    def applied(self, member: int, request: int, now: Instant) -> None:
        self._handoff.settle(self, self._member, self._key, self._value)

    def rejected(self, member: int, request: int, answer: Rejected, now: Instant) -> None:
        self._handoff.give_back(self, self._member)

    def lost(self, member: int, now: Instant) -> None:
        if member == self._member:
            self._handoff.give_back(self, self._member)

    def alarm(self, now: Instant) -> None:
        self._handoff.give_back(self, self._member)


class Handoff:
    """Keeps and delivers this node's hints."""

    def __init__(
        self,
        journal: Journal,
        rules: Mapping[bytes, Rule],
        peers: Peers,
        operations: Operations,
        bytes_max: int,
    ) -> None:
        self._journal = journal
        self._rules = rules
        self._peers = peers
        self._operations = operations
        self._bytes_max = bytes_max
        self._piles = {peer.index: _Pile(peer.name) for peer in peers.all}
        self.recount()

    def recount(self) -> None:
        """Count what is stored: at open, and after a batch was not taken."""
        for pile in self._piles.values():
            pile.count = pile.bytes = 0
            for key, value in self._journal.engine.scan(pile.prefix, pile.end):
                pile.count += 1
                pile.bytes += len(key) + len(value)

    def count(self, member: int) -> int:
        """Hints kept for a member."""
        return self._piles[member].count

    def keep(self, outbox: Outbox, message: Keep) -> None:
        """Store a hint, and say when it is durable, or that there is no room for it."""
        pile = self._piles[message.member]
        key = pile.prefix + message.row
        stored = self._journal.get(key)
        kept = None if stored is None else Hint(Record(stored[1:]), stored[:1] == _ONLY_COPY)
        offered = Hint(Record(message.record), message.only_copy)
        hint = merge_hints(self._rules[row_bucket(message.row)], kept, offered)
        value = (_ONLY_COPY if hint.only_copy else _COPY) + hint.record.blob
        grown = len(value) - len(stored) if stored is not None else len(key) + len(value)
        if pile.bytes + grown > self._bytes_max or self._journal.full:
            outbox.put(Kept(message.id, message.member, False))
            return
        if value != stored:
            pile.count += stored is None
            pile.bytes += grown
            self._journal.stage(key, value)
        self._journal.reply_surely(outbox, Kept(message.id, message.member, True), key)

    def settle(self, delivery: _Delivery, member: int, key: bytes, value: bytes) -> None:
        """A copy was taken: delete its hint, unless another took its place meanwhile."""
        self.give_back(delivery, member)
        if self._journal.get(key) == value:
            self._journal.stage(key, None)
            pile = self._piles[member]
            pile.count -= 1
            pile.bytes -= len(key) + len(value)

    def give_back(self, delivery: _Delivery, member: int) -> None:
        """A copy is under way no more. If it was not taken, its hint stays."""
        self._operations.drop(delivery)
        self._piles[member].under_way -= 1

    def tick(self, now: Instant) -> None:
        """Send what fits into each window, to members that are alive."""
        for member, pile in self._piles.items():
            if pile.count and self._peers.alive[member] and now.monotonic >= pile.resume_s:
                self._deliver(member, pile, now)

    def _deliver(self, member: int, pile: _Pile, now: Instant) -> None:
        for key, value in self._journal.engine.scan(pile.cursor, pile.end):
            if pile.under_way >= WINDOW:
                return
            row = key[len(pile.prefix) :]
            delivery = _Delivery(self, member, key, value)
            request = self._operations.issue(delivery)
            self._operations.alarm_at(request, now.monotonic + PATIENCE_S)
            pile.under_way += 1
            message = Apply(request, row, value[1:], HINTED_COPY, 0)
            if not self._peers.send(member, message, len(row) + len(value) + SMALL_BYTES):
                self.give_back(delivery, member)
                return
            pile.cursor = key + b"\0"
        if pile.under_way == 0:
            pile.cursor = pile.prefix
            pile.resume_s = now.monotonic + ROUND_S
