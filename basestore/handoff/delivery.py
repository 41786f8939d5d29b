"""Delivery: the hints that this node keeps are sent to the members they are for (`hints.py` keeps them).

The term is *hinted handoff* (DeCandia et al., "Dynamo", 2007, section 4.6). Delivery begins when the member
is alive, oldest hints first, and keeps a window of copies under way, which grows by one with every answer
and is halved when the member refuses one; delivery to it then rests a while. While there are requests only
a few copies leave in each tick: client traffic goes first. A hint is deleted once the member has it
durably; one that meets an error stays for the next round. It never gives one up: that is `hints.py`'s to do.
"""

from collections.abc import Callable
from functools import partial

from basestore.cluster.operations import Ack, Once, Operations
from basestore.cluster.outbox import SMALL_BYTES
from basestore.cluster.peers import Peers
from basestore.handoff.hints import Hints
from basestore.handoff.pile import Pile
from basestore.instant import Instant
from basestore.protocol.replication import Hinted, Rejected, Settled
from basestore.repair.version import Record
from basestore.repair.write_repair import Hint
from basestore.storage import keyspace

WINDOW_MIN = 16
WINDOW_MAX = 256
WINDOW_BYTES_MAX = 1 << 20
BESIDE_CLIENTS = 32  # copies in a tick, while and shortly after there were requests
BESIDE_S = 1.0
ROUND_S = 1.0
PATIENCE_S = 10.0
ROUND_S_MAX = 2 * PATIENCE_S
EXPIRY_S = 5.0


class _Round:
    """How far delivery to one member has come: `cursor` in the order of age."""

    __slots__ = ("begun_s", "bytes_under_way", "cursor", "pile", "resume_s", "under_way", "window")

    def __init__(self, pile: Pile) -> None:
        self.pile = pile
        self.cursor = pile.ages
        self.begun_s = 0.0
        self.window = WINDOW_MIN
        self.resume_s = 0.0
        self.under_way = 0
        self.bytes_under_way = 0


class Delivery:
    """Delivers this node's hints."""

    def __init__(
        self, hints: Hints, peers: Peers, operations: Operations, intact: Callable[[bytes, Record], bool]
    ) -> None:
        """`intact`: whether a record's digest fits a row."""
        self._hints = hints
        self._intact = intact
        self._peers = peers
        self._operations = operations
        self._rounds: dict[Pile, _Round] = {}
        self._expire_s = 0.0
        self._issued = operations.issued  # ids so far, and how many of those since are deliveries
        self._sent = 0
        self._beside_until_s = 0.0

    def replay(self, now: Instant) -> None:
        """Begin now, whatever refusals there were."""
        for at in self._rounds.values():
            at.resume_s = 0.0
            if not at.under_way:
                at.cursor = at.pile.ages
        self.tick(now)

    # --- answers -----------------------------------------------------------------------------

    def _ended(self, at: _Round, row: bytes, hint: Hint, size: int, answer: object, now: Instant) -> None:
        """A copy is under way no more: what became of it."""
        at.under_way -= 1
        at.bytes_under_way -= size
        if isinstance(answer, Settled) and answer.late:
            self._hints.too_late(at.pile, row, hint)
        # One that leaves may have taken it after all were compared: the last hint is kept until it has left.
        elif isinstance(answer, Ack) and not self._hints.lasts(at.pile, row, hint):
            at.resume_s = now.monotonic + ROUND_S
        # A better record there is an acknowledgement too: of hints no replica says Superseded.
        elif isinstance(answer, Ack | Settled):
            at.window = min(at.window + 1, WINDOW_MAX)
            if hint.deferred and isinstance(answer, Ack):
                self._hints.taken(at.pile, row, hint)
            self._hints.settle(at.pile, row, hint, "hints_delivered")
        # No answer in time is a refusal too (`Once`). If the link was lost the hint waits for the next round.
        elif isinstance(answer, Rejected):  # the member takes none now: the hint stays, and delivery rests
            at.window = max(at.window // 2, WINDOW_MIN)
            at.resume_s = now.monotonic + ROUND_S

    # --- sending -----------------------------------------------------------------------------

    def tick(self, now: Instant) -> None:
        """Send what fits into each window, to members that are alive; give up what is too old."""
        # By a clock that is ahead all hints would be too old at once.
        if now.monotonic >= self._expire_s and self._peers.clock.sure(now):
            self._expire_s = now.monotonic + EXPIRY_S
            self._hints.expire(now)
        if self._operations.issued - self._issued > self._sent:
            self._beside_until_s = now.monotonic + BESIDE_S
        self._issued, self._sent = self._operations.issued, 0
        for pile in self._hints.piles:
            if pile.count > pile.late_count and self._peers.alive[pile.index]:
                at = self._rounds.setdefault(pile, _Round(pile))
                if now.monotonic >= at.resume_s:
                    self._deliver(at, now)

    @property
    def at_rest(self) -> bool:
        """Whether nothing can be delivered."""
        alive = self._peers.alive
        return not any(pile.count > pile.late_count and alive[pile.index] for pile in self._hints.piles)

    def _deliver(self, at: _Round, now: Instant) -> None:
        if now.monotonic >= at.begun_s + ROUND_S_MAX:  # for those that the cursor has passed by
            at.cursor, at.begun_s = at.pile.ages, now.monotonic
        room = at.window - at.under_way
        if now.monotonic < self._beside_until_s:
            room = min(room, BESIDE_CLIENTS)
        sent = 0
        if room > 0:
            for row, hint in self._hints.by_age(at.pile, at.cursor, room):
                if self._hints.forget_dropped(at.pile, row):
                    continue
                if not self._intact(row, hint.record):
                    self._hints.damaged(at.pile, row, hint, now)
                    continue
                if at.bytes_under_way > WINDOW_BYTES_MAX or not self._send(at, row, hint, now):
                    return
                # Behind what was sent, answered or not: what fails is met again in the next round.
                at.cursor = keyspace.after(at.pile.age_key(hint, row))
                sent += 1
        # All of this round is answered: rest, then begin with the oldest.
        if not sent and not at.under_way:
            at.cursor, at.begun_s = at.pile.ages, now.monotonic
            at.resume_s = now.monotonic + ROUND_S

    def _send(self, at: _Round, row: bytes, hint: Hint, now: Instant) -> bool:
        size = len(row) + len(hint.record.blob)
        member, ended = at.pile.index, partial(self._ended, at, row, hint, size)
        copy = Once(self._operations, size, member, ended)
        request = self._operations.issue(copy)
        self._sent += 1
        message = Hinted(request, row, hint.record.blob, hint.stores)
        if not self._peers.send(member, message, size + SMALL_BYTES):
            self._operations.drop(copy)
            return False
        at.under_way += 1
        at.bytes_under_way += size
        self._operations.alarm_at(request, now.monotonic + PATIENCE_S)
        return True
