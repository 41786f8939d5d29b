"""Feed: what one client watches, at the node that it asks.

Each partition is told by one replica (`source.py`), and what it tells is passed on as it comes: so the
changes of a key keep their order as long as one replica tells them. Where that is lost, has given the
partition up, or lacks something, another goes on from the position up to which all was passed on.

    fed         changes wait here until the client asks, one answer of each source at most; how far a source
                has come without any is taken at once
    Watch       the client asks for more: what waits is its answer, or it waits itself, until there is
                something, or it is time to say how far all has come, or its own time is over
    ended       who told some partitions is lost: another is asked; where there is none, again and again

A position moves only with what is passed on, so a token never speaks of what its client was not sent.
"""

from collections import deque
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Final, NamedTuple

from basestore.cluster.outbox import SMALL_BYTES, Outbox
from basestore.coordinator.context import Context, failure
from basestore.errors import InvalidRequest, RequestFailed
from basestore.feeds.position import BEGUN, NOW, Position
from basestore.feeds.source import Source
from basestore.feeds.token import Subject
from basestore.instant import Instant
from basestore.protocol.client import EXPIRY_BYTES, Watched
from basestore.protocol.feeds import Fed, MarkRow
from basestore.repair.intents import before
from basestore.repair.version import VERSION_BYTES, Record
from basestore.rows import row_key, row_partition

TOKEN_S: Final = 1.0  # between two tokens
AGAIN_S: Final = 0.5  # until who did not tell of a partition is asked once more
IDLE_S_MAX: Final = 30.0  # a client that asks for nothing as long has gone
ANSWER_BYTES_MAX: Final = 1 << 20
TIME_SHARE: Final = 0.9  # of a client's time, after which it is answered


class Poll(NamedTuple):
    """A client that waits for an answer."""

    outbox: Outbox
    id: int
    bytes_max: int
    until_s: float


class Feed:
    """Of one client. `positions`, by partition: up to where all was passed on; `bucket`: its name."""

    def __init__(
        self, context: Context, outbox: Outbox, number: int, bucket: str, subject: Subject,
        positions: list[Position], store_of: Callable[[int], bytes],
    ) -> None:  # fmt: skip
        """`store_of`: on which store a member runs, as far as is known."""
        self._context, self.outbox, self.number = context, outbox, number
        self.bucket, self.subject, self.positions = bucket, subject, positions
        self._store_of = store_of
        self._sources: dict[int, Source] = {}  # by partition
        self._untold = set(range(len(positions)))  # partitions without one
        self._refused: dict[tuple[int, int], float] = {}  # who does not tell of a partition, until when
        self._waiting: deque[tuple[Source, Fed]] = deque()
        self._poll: Poll | None = None
        self._gap = 0
        self._moved = False  # since the last token
        self._token_due_s = self.asked_s = 0.0

    # --- the client --------------------------------------------------------------------------

    def ask(self, poll: Poll, now: Instant) -> None:
        """The client takes more. What it asked before, if it still waits, is answered with nothing."""
        if self._poll is not None:
            self._say([], now)
        self._poll, self.asked_s = poll, now.monotonic
        self._ask_sources(now)
        self._answer(now)

    def idle(self, now: Instant) -> bool:
        """Whether the client has gone."""
        return self._poll is None and now.monotonic - self.asked_s > IDLE_S_MAX

    def fail(self, error: InvalidRequest | RequestFailed) -> None:
        """It ends with an error; if nobody waits for that, the client is told when it asks again."""
        self.end()
        if self._poll is not None:
            self._poll.outbox.put(failure(self._poll.id, error), SMALL_BYTES, 0)
            self._poll = None

    def end(self) -> None:
        for source in {*self._sources.values()}:
            source.end()
        self._sources, self._untold = {}, set()

    def tick(self, now: Instant) -> None:
        if self._untold:
            self._ask_sources(now)
        if self._poll is not None:
            self._answer(now)

    def _answer(self, now: Instant) -> None:
        """If there is something to say, or it is time."""
        poll = self._poll
        if poll is None or not poll.outbox.roomy:
            return
        rows: list[bytes] = []
        size, now_ms = 0, self._context.peers.clock.now_ms(now)
        while self._waiting and size < min(poll.bytes_max, ANSWER_BYTES_MAX):
            source, told = self._waiting.popleft()
            if source.over:  # another has begun where it was, and tells that again
                continue
            rows += _shown(told, now_ms)
            size += sum(map(len, told.rows))
            self._pass_on(source, told, now)
        if rows or self._gap or self._token_due(now) or now.monotonic >= poll.until_s:
            self._say(rows, now)

    def _token_due(self, now: Instant) -> bool:
        return self._moved and now.monotonic >= self._token_due_s and NOW not in self.positions

    def _say(self, rows: list[bytes], now: Instant) -> None:
        poll, self._poll = self._poll, None
        assert poll is not None
        token, stable = "", 0
        if self._token_due(now):
            token, stable = self.subject.token(self.positions), min(each.stable for each in self.positions)
            self._moved, self._token_due_s = False, now.monotonic + TOKEN_S
        gap, self._gap = self._gap, 0
        answer = Watched(poll.id, self.number, rows, gap, token, stable, len(self._untold))
        metrics = self._context.metrics
        metrics.count("watch_events", len(rows) // 3)
        metrics.count("watch_gaps", bool(gap))
        poll.outbox.put(answer, SMALL_BYTES + sum(map(len, rows)) + 9 * len(rows) + len(token), 0)

    # --- those who tell ----------------------------------------------------------------------

    def _ask_sources(self, now: Instant) -> None:
        """Of each partition that nobody tells, who may."""
        shares: dict[int, list[int]] = {}
        for partition in sorted(self._untold):
            member = self._choose(partition, now)
            if member is not None:
                shares.setdefault(member, []).append(partition)
        for member, partitions in shares.items():
            source = Source(self._context, self, member, partitions)
            if not source.begin(self.subject.label, self.subject.prefix, self.positions):
                self._refuse(member, partitions, now)
                continue
            self._untold.difference_update(partitions)
            self._sources.update(dict.fromkeys(partitions, source))

    def _choose(self, partition: int, now: Instant) -> int | None:
        """Who has told of it before, or else the nearest."""
        peers, store = self._context.peers, self.positions[partition].store
        may = [
            each
            for each in self._context.placement.compared[partition]
            if peers.alive[each] and self._refused.get((partition, each), 0.0) <= now.monotonic
        ]
        return min(may, key=lambda each: (self._store_of(each) != store, peers.distance[each]), default=None)

    def _refuse(self, member: int, partitions: AbstractSet[int] | list[int], now: Instant) -> None:
        until_s = now.monotonic + AGAIN_S
        self._refused = {pair: due_s for pair, due_s in self._refused.items() if due_s > now.monotonic}
        self._refused.update({(partition, member): until_s for partition in partitions})

    def fed(self, source: Source, answer: Fed, now: Instant) -> None:
        """As in `source.Told`."""
        if answer.rows:
            self._waiting.append((source, answer))
        else:
            self._pass_on(source, answer, now)
        self._answer(now)

    def _pass_on(self, source: Source, answer: Fed, now: Instant) -> None:
        """Its changes are in the client's answer: so far it has come."""
        held = {row_partition(row) for row in answer.rows[::2]}
        for mark in answer.marks:
            self._move(answer.store, mark, begun=mark.partition in held)
        left = {row.partition for row in answer.unserved}
        if left:
            source.partitions -= left
            self._leave(source, left, now)
        if source.partitions:
            source.go_on()
        else:  # nobody else would end it
            source.end()

    def _move(self, store: bytes, mark: MarkRow, *, begun: bool) -> None:
        position, partition = self.positions[mark.partition], mark.partition
        self._gap = max(self._gap, mark.gap)
        if not mark.looks:
            self.positions[partition] = Position(store, mark.sequence, max(position.stable, mark.stable))
            self._moved = True
        elif begun and position.blank:
            self.positions[partition] = Position(b"", BEGUN, 0)
            self._moved = True

    def ended(self, source: Source, reason: str, now: Instant) -> None:
        """As in `source.Told`."""
        self._leave(source, source.partitions, now)
        self._ask_sources(now)

    def seats_changed(self, source: Source, partitions: AbstractSet[int], now: Instant) -> None:
        """As in `source.Told`."""
        compared = self._context.placement.compared
        if any(source.member not in compared[each] for each in partitions):
            source.end()
            self.ended(source, "", now)

    def _leave(self, source: Source, partitions: AbstractSet[int], now: Instant) -> None:
        self._refuse(source.member, partitions, now)
        for partition in partitions:
            if self._sources.get(partition) is source:
                del self._sources[partition]
                self._untold.add(partition)


def _shown(told: Fed, now_ms: int | None) -> list[bytes]:
    """The changes as clients are told of them. Where a transaction has laid an intent, what was there before
    is told once more: what it makes of the row comes as a record of its own."""
    shown: list[bytes] = []
    for row, blob in zip(told.rows[::2], told.rows[1::2], strict=True):
        record = before(Record(blob))
        if record is None:
            continue
        expired = now_ms is not None and 0 < record.expires_ms <= now_ms
        absent = record.tombstone or expired
        expiry = record.expires_ms.to_bytes(EXPIRY_BYTES)
        meta = record.known_as + record.blob[:VERSION_BYTES] + expiry + bytes((absent,))
        shown += (row_key(row), meta, b"" if absent else record.value)
    return shown
