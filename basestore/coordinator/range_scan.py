"""Range scan: one page of the keys of a bucket, in order, out of all partitions.

    begin    for every partition choose as many replicas as the level requires, and ask each chosen
             member once for all its share
    ranged   once all partitions were answered often enough, merge: up to the last key that every
             answer covers, weigh each row as a read would
    ...      a row that is not confirmed by enough replicas is read, and repaired, by `quorum_read`; of a
             bucket of registers, unless at ONE, by the row's home (`registers/registers.py`)
    alarm    slower than usual: ask one more replica of what is not answered; slower still: all of them
    rejected, lost   ask another replica for that share instead
    moved    who holds some partition has changed before all have answered: ask anew

So a scan promises for each key what a read at its level promises, and outlives a slow or lost replica
as a read does. The page as a whole is no snapshot: keys written while it is made may be on it or not.

A page has two bounds. It shows at most `limit` keys that live; and each replica looks at PAGE_ROWS_MAX
rows for it at most, dead ones included, so that few requests lead through many dead rows:

    limit 2, rows a b- c- d e f (- deleted)   each answers a b- c- d; the page is a d, and goes on behind d
    limit 1, 2,500 deleted rows before z      two pages without a key, then z

It ends early also where it would cost too many single reads. It repairs nothing by itself.
"""

from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from basestore.cluster.operations import Operation
from basestore.cluster.outbox import SMALL_BYTES, Outbox
from basestore.consistency import Level, Quorum
from basestore.coordinator.admission import admit_scan
from basestore.coordinator.context import TOO_MUCH_ASKED, Context, refuse
from basestore.coordinator.finding import Finding
from basestore.coordinator.quorum_read import read
from basestore.errors import Overloaded, ReadTimeout, ReplicaFailure, RequestFailed, Unavailable
from basestore.instant import Instant
from basestore.metrics import FAILURES
from basestore.protocol.client import Page, Scan
from basestore.protocol.limits import PAGE_BYTES_MAX, PAGE_ROWS_MAX, ProtocolError
from basestore.protocol.replication import Moved, Range, ReadRange, Rejected
from basestore.repair.digest_tree import due_of
from basestore.repair.intents import before
from basestore.repair.read_repair import NOTHING, plan
from basestore.repair.rule import Rule
from basestore.repair.version import VERSION_BYTES, Record
from basestore.rows import row_key, row_partition

READS_MAX = 64
ALL_READS_MAX = 1024  # of all pages under way
WIDEN_S_MAX = 0.5


Report = Callable[[Finding | RequestFailed, Instant], None]
ReadRow = Callable[[Context, bytes, Rule, Level, float, Report, Instant], object]


def scan(context: Context, outbox: Outbox, request: Scan, now: Instant, read_row: ReadRow = read) -> None:
    """Begin a page; InvalidRequest or RequestFailed when nothing was begun. `read_row`: reads one of which
    replicas do not agree; of registers at any level but ONE it is another than `quorum_read`'s."""
    level, bucket, rule = admit_scan(context, outbox, request, now)
    if rule.serial and level is not Level.ONE:
        level = Level.SERIAL
    RangeScan(context, outbox, request, bucket, rule, level, read_row).begin(now)


class _Share(NamedTuple):
    """What one member was asked for in one message."""

    member: int
    partitions: list[int]
    asked_s: float


class _Slice:
    """One partition: who was asked, which of them may yet answer, and who has, each with its stable stamp."""

    __slots__ = ("asked", "awaited", "heard", "quorum")

    def __init__(self, quorum: Quorum) -> None:
        self.quorum = quorum
        self.asked: list[int] = []
        self.awaited: set[int] = set()
        self.heard: dict[int, int] = {}


class RangeScan(Operation):
    """One page at its coordinator."""

    __slots__ = (
        "_after", "_begun", "_bucket", "_client", "_context", "_deadline", "_ended", "_found", "_level",
        "_limit", "_more", "_read_row", "_reasons", "_request", "_rows", "_rule", "_shares", "_slices",
        "_time_ms", "_unanswered", "_unlearned", "_unread", "_widen_s",
    )  # fmt: skip

    def __init__(
        self, context: Context, client: Outbox, request: Scan, bucket: bytes, rule: Rule, level: Level,
        read_row: ReadRow,
    ) -> None:  # fmt: skip
        super().__init__(PAGE_BYTES_MAX)
        self._read_row = read_row
        self._context = context
        self._client = client
        self._request = request
        self._bucket = bucket
        self._rule = rule
        self._level = level
        self._limit = min(request.limit, PAGE_ROWS_MAX)
        self._seat()
        self._found: list[tuple[bytes, Record]] = []
        self._unread = 0
        self._ended = False

    def _seat(self) -> None:
        """Nobody was asked yet."""
        self._slices = [_Slice(quorums[self._level]) for quorums in self._context.placement.quorums]
        self._unanswered = len(self._slices)
        self._shares: dict[int, _Share] = {}  # by request, those that wait for an answer
        self._reasons: dict[int, str] = {}  # of members that will not answer
        self._rows: dict[int, dict[bytes, Record]] = {}
        self._unlearned: set[bytes] = set()  # of registers: rows of which more may be chosen
        self._after = b""
        self._more = False

    def begin(self, now: Instant) -> None:
        """Ask; Unavailable when a partition has too few replicas alive."""
        context = self._context
        for partition in range(context.placement.partitions):
            context.require(partition, self._level)
        self._begun = now
        self._time_ms = context.peers.clock.now_ms(now)
        self._deadline = now.monotonic + self._request.timeout_ms / 1e3
        self._begin(now)

    def _begin(self, now: Instant) -> None:
        context = self._context
        self._widen_s = min(context.peers.usual_scan_s, WIDEN_S_MAX)
        alarm_s = min(self._deadline, now.monotonic + self._widen_s)
        context.operations.alarm_at(context.operations.issue(self), alarm_s)
        self._ask(range(len(self._slices)), 0, now)

    # --- asking ------------------------------------------------------------------------------

    def _ask(self, partitions: Iterable[int], count: int, now: Instant) -> int:
        """Ask up to `count` more replicas of each of these, or, at 0, as many as the level requires. Returns
        how many members were asked."""
        peers = self._context.peers
        share: dict[int, list[int]] = {}
        for partition in partitions:
            slice = self._slices[partition]
            asked, replicas = slice.asked, slice.quorum.replicas
            fresh = [replica for replica in replicas if replica not in asked and peers.alive[replica]]
            fresh.sort(key=peers.distance.__getitem__)
            for replica in slice.quorum.choose(fresh, {*slice.awaited, *slice.heard}, count):
                asked.append(replica)
                share.setdefault(replica, []).append(partition)
        sent = {replica: self._send(replica, wanted, now) for replica, wanted in share.items()}
        # Not before all are sent: until then too few are awaited.
        self._ask_instead([p for replica, wanted in share.items() if not sent[replica] for p in wanted], now)
        return len(share)

    def _send(self, replica: int, partitions: list[int], now: Instant) -> bool:
        context, request = self._context, self._request
        deadline_ms = now.wall_ms + int((self._deadline - now.monotonic) * 1e3)
        message = ReadRange(
            context.operations.issue(self), partitions, self._bucket, request.prefix, request.after,
            self._limit, self._time_ms or 0, deadline_ms, self._level is Level.SERIAL,
        )  # fmt: skip
        size = SMALL_BYTES + 9 * len(partitions) + len(request.prefix) + len(request.after)
        if not context.peers.send(replica, message, size):
            self._reasons[replica] = "too much waits for it"
            return False
        self._shares[message.id] = _Share(replica, partitions, now.monotonic)
        for partition in partitions:
            self._slices[partition].awaited.add(replica)
        return True

    def _ask_instead(self, partitions: list[int], now: Instant) -> None:
        """Somebody will not answer for these: where too few others are heard or awaited, ask one more. Where
        nobody is left, the page has failed."""
        short = [p for p in partitions if self._is_short(self._slices[p])]
        if short:
            self._ask(short, 1, now)
            if any(self._is_short(self._slices[p]) for p in short):
                self._refuse(now)

    def _is_short(self, slice: _Slice) -> bool:
        return not slice.quorum.met({*slice.heard, *slice.awaited})

    # --- answers -----------------------------------------------------------------------------

    def ranged(self, member: int, answer: Range, now: Instant) -> None:
        share = self._shares.get(answer.id)
        if share is None or share.member != member or not self._unanswered or now.monotonic >= self._deadline:
            return
        del self._shares[answer.id]
        self._context.peers.all[member].scan_latency.add(now.monotonic - share.asked_s)
        rows = answer.rows
        held = {row: Record(blob) for row, blob in zip(rows[::2], rows[1::2], strict=True)}
        if not set(map(row_partition, (*held, *answer.unlearned))) <= set(share.partitions):
            raise ProtocolError("a Range message holds rows of partitions that it was not asked for")
        if len(answer.stables) != len(share.partitions):
            raise ProtocolError("a Range message tells other stable stamps than it was asked for")
        self._rows.setdefault(member, {}).update(held)
        self._unlearned.update(answer.unlearned)
        for partition, stable in zip(share.partitions, answer.stables, strict=True):
            slice = self._slices[partition]
            slice.awaited.discard(member)
            waited = not slice.quorum.met(slice.heard)
            slice.heard[member] = stable
            self._unanswered -= waited and slice.quorum.met(slice.heard)
        if answer.more:
            last = row_key(rows[-2])
            # An answer speaks of keys up to its last one: the page ends where the shortest answer does.
            self._after = min(self._after, last) if self._more else last
            self._more = True
        if not self._unanswered:
            self._merge(now)

    def _merge(self, now: Instant) -> None:
        """Enough replicas of each partition have answered: weigh the rows that all answers cover, in key
        order."""
        rows = self._unlearned.union(*self._rows.values())
        keys = sorted((row_key(row), row) for row in rows)
        if self._more:
            keys = [pair for pair in keys if pair[0] <= self._after]
        # The merge itself counts as one, or a read that ends at once would send the page before its time.
        self._unread, living, last = 1, 0, b""
        for key, row in keys:
            if self._ended:  # a read has failed, and the page with it
                break
            if living >= self._limit or self._unread > self._reads_max:  # the rest comes with the next page
                self._more, self._after = True, last
                break
            last = key
            confirmed, record = self._weigh(row)
            if record is not None and record.intent:  # at ONE what was there before it will do
                confirmed, record = self._level is Level.ONE, before(record)
            if not confirmed:
                self._read(key, row, now)
                living += 1  # or so it may be found
            elif record is not None:
                self._found.append((key, record))
                living += record.live(self._time_ms or 0)
        self._unread -= 1
        self._finish(now)

    def _weigh(self, row: bytes) -> tuple[bool, Record | None]:
        """Whether all that count hold this row alike, and what they hold; they are as many as the level
        requires, so that it needs no read."""
        if row in self._unlearned:
            return False, None
        slice = self._slices[row_partition(row)]
        heard, quorum = slice.heard, slice.quorum
        counted = quorum.choose(list(heard), ())
        held = {replica: self._rows[replica].get(row) for replica in counted}
        first, *others = held.values()
        if first is not None and all(other is not None and other.head == first.head for other in others):
            return True, first  # as with most rows, and soon said
        heads = {at: NOTHING if record is None else record.head for at, record in held.items()}
        records = {record.head: record for record in held.values() if record is not None}

        def due(head: bytes) -> int:
            return due_of(head, records[head].expires_ms) if head else 0

        weighed = plan(self._rule, heads, heard, due)
        return weighed.confirmed == len(heads), records.get(weighed.winner)

    @property
    def _reads_max(self) -> int:
        """How many rows of one page may be read singly; one at least, for every page must go on."""
        return max(1, min(READS_MAX, ALL_READS_MAX - self._context.load.scan_reads))

    def _read(self, key: bytes, row: bytes, now: Instant) -> None:
        """Replicas differ on this row: read it as a get would, which repairs it."""
        self._unread += 1
        self._context.load.scan_reads += 1

        def report(result: Finding | RequestFailed, now: Instant) -> None:
            self._unread -= 1
            self._context.load.scan_reads -= 1
            if isinstance(result, RequestFailed):
                self._fail(result, now)
            elif (record := before(result.record)) is not None:
                self._found.append((key, record))
            self._finish(now)

        try:
            self._read_row(self._context, row, self._rule, self._level, self._deadline, report, now)
        except Unavailable as error:
            self._unread -= 1
            self._context.load.scan_reads -= 1
            self._fail(error, now)

    def _finish(self, now: Instant) -> None:
        """When nothing is left to read: the page."""
        if self._unread or self._ended:
            return
        if self._time_ms is None and any(record.expires_ms for _, record in self._found):
            self._fail(self._context.stamper.expiry_unknown(now), now)
            return
        rows: list[bytes] = []
        size = SMALL_BYTES
        last = b""
        for key, record in sorted(self._found, key=lambda pair: pair[0]):
            # Before an item is added: so there is one at least on the page, and the next begins behind it.
            if size > PAGE_BYTES_MAX:  # the rest comes with the next page
                self._more, self._after = True, last
                break
            last = key
            if record.live(self._time_ms or 0):
                rows += (key, record.value, record.known_as, record.expires_ms.to_bytes(8))
                size += len(key) + len(record.value) + VERSION_BYTES + 40
        if not self._client.roomy:
            self._fail(Overloaded(TOO_MUCH_ASKED), now)
            return
        self._context.operations.drop(self)
        self._ended = True
        self._client.put(Page(self._request.id, rows, self._after, self._more), size + len(self._after))
        self._count("page", now)

    # --- what goes wrong ---------------------------------------------------------------------

    def rejected(self, member: int, answer: Rejected, now: Instant) -> None:
        if answer.id in self._shares:
            self._miss(answer.id, answer.reason, now)

    def lost(self, member: int, now: Instant) -> None:
        for request in [request for request, share in self._shares.items() if share.member == member]:
            self._miss(request, "the link was lost", now)

    def overtaken(self, member: int, answer: Moved, now: Instant) -> None:
        """It begins anew, or nobody waits for that share."""

    def moved(self, partitions: AbstractSet[int], now: Instant) -> None:
        # Once all have answered, rows that are read singly begin anew by themselves; others are confirmed.
        if self._unanswered and not self._ended:
            self._context.operations.drop(self)
            self._seat()
            self._begin(now)
            if not self._ended:  # too few may be alive of those that are to be asked now
                self._ask_instead(list(range(len(self._slices))), now)

    def _miss(self, request: int, reason: str, now: Instant) -> None:
        """A share is not answered: others take its place."""
        share = self._shares.pop(request)
        self._reasons[share.member] = reason
        for partition in share.partitions:
            self._slices[partition].awaited.discard(share.member)
        if not self._ended:
            self._ask_instead(share.partitions, now)

    def _refuse(self, now: Instant) -> None:
        members = self._context.peers.all
        reasons = {members[replica].name: reason for replica, reason in self._reasons.items()}
        listed = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        self._fail(
            ReplicaFailure(f"failed: too many replicas could not scan ({listed}). Try again", reasons, None),
            now,
        )

    def alarm(self, now: Instant) -> None:
        """Slow: ask one more replica of each partition that waits, then the remaining ones too. At the
        deadline: give up."""
        operations = self._context.operations
        if now.monotonic >= self._deadline:
            text = "timeout: not all replicas answered the scan in time. Try again, or with a smaller limit"
            told = (slice.quorum.told(slice.heard) for slice in self._slices)
            required, received = max(told, key=lambda each: each[0] - each[1])
            self._fail(ReadTimeout(text, received, required, None), now)
            return
        widen_s = self._begun.monotonic + 2 * self._widen_s
        early = now.monotonic < widen_s
        operations.alarm_at(self.ids[0], min(widen_s, self._deadline) if early else self._deadline)
        waiting = [p for p, slice in enumerate(self._slices) if not slice.quorum.met(slice.heard)]
        count = 1 if early else len(self._context.peers.all)
        if self._unanswered and self._ask(waiting, count, now):
            self._context.metrics.count("speculative_retries")

    def _fail(self, error: RequestFailed, now: Instant) -> None:
        if not self._ended:
            self._ended = True
            self._context.operations.drop(self)
            refuse(self._context, self._client, self._request.id, error)
            self._count(FAILURES[error.code], now)

    def _count(self, outcome: str, now: Instant) -> None:
        seconds = now.monotonic - self._begun.monotonic
        self._context.metrics.answered("scan", self._level, outcome, seconds)
