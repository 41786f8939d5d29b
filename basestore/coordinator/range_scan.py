"""Range scan: one page of the keys of a bucket, in order, out of all partitions.

    begin    choose replicas for every partition, ask each chosen member once for all its share
    ranged   merge: up to the last key that every answer covers, weigh each row as a read would
    ...      a row that is not confirmed by enough replicas is read, and repaired, by `quorum_read`

So a scan promises for each key what a read at its level promises. The page as a whole is no
snapshot: keys written while it is made may be on it or not. A page that would cost too many single
reads ends early, and the next one goes on from there. It repairs nothing by itself.
"""

from basestore.cluster.operations import Operation
from basestore.cluster.outbox import SMALL_BYTES, Outbox
from basestore.cluster.placement import row_key, row_partition
from basestore.consistency import Level
from basestore.coordinator.admission import admit_scan
from basestore.coordinator.context import Context, refuse
from basestore.coordinator.quorum_read import Finding, read
from basestore.errors import ReadTimeout, ReplicaFailure, RequestFailed, Unavailable
from basestore.instant import Instant
from basestore.metrics import FAILURES
from basestore.protocol.client import Page, Scan
from basestore.protocol.limits import PAGE_BYTES_MAX, PAGE_ROWS_MAX, ProtocolError
from basestore.protocol.replication import Range, ReadRange, Rejected
from repair.read_repair import NOTHING, plan
from repair.rule import Rule
from repair.version import VERSION_BYTES, Record

READS_MAX = 64
ALL_READS_MAX = 1024  # of all pages under way


def scan(context: Context, outbox: Outbox, request: Scan, now: Instant) -> None:
    """Begin a page; InvalidRequest or RequestFailed when nothing was begun."""
    level, bucket, rule = admit_scan(context, request, now)
    RangeScan(context, outbox, request, bucket, rule, level).begin(now)


class RangeScan(Operation):
    """One page at its coordinator."""

    __slots__ = (
        "_after", "_bucket", "_chosen", "_client", "_context", "_deadline", "_ended", "_found",
        "_level", "_limit", "_more", "_request", "_rows", "_rule", "_unread", "_waiting",
    )  # fmt: skip

    def __init__(
        self, context: Context, client: Outbox, request: Scan, bucket: bytes, rule: Rule, level: Level
    ) -> None:
        super().__init__(PAGE_BYTES_MAX)
        self._context = context
        self._client = client
        self._request = request
        self._bucket = bucket
        self._rule = rule
        self._level = level
        self._limit = min(request.limit, PAGE_ROWS_MAX)
        self._chosen: list[tuple[int, ...]] = []
        self._waiting: set[int] = set()
        self._rows: dict[int, dict[bytes, Record]] = {}
        self._after = b""
        self._more = False
        self._found: list[tuple[bytes, Record]] = []
        self._unread = 0
        self._ended = False

    def begin(self, now: Instant) -> None:
        """Ask; Unavailable when a partition has too few replicas alive."""
        context, request = self._context, self._request
        alive, me = context.peers.alive, context.peers.me
        share: dict[int, list[int]] = {}
        for partition, replicas in enumerate(context.placement.replicas):
            required = context.require(replicas, self._level)
            able = sorted((r for r in replicas if alive[r]), key=lambda replica: replica != me)
            self._chosen.append(tuple(able[:required]))
            for replica in able[:required]:
                share.setdefault(replica, []).append(partition)
        self._deadline = now.monotonic + request.timeout_ms / 1e3
        self._waiting = set(share)
        context.operations.alarm_at(context.operations.issue(self), self._deadline)
        for replica, partitions in share.items():
            message = ReadRange(
                context.operations.issue(self), partitions, self._bucket, request.prefix,
                request.after, self._limit, now.wall_ms + request.timeout_ms,
            )  # fmt: skip
            size = SMALL_BYTES + 9 * len(partitions) + len(request.prefix) + len(request.after)
            if not context.peers.send(replica, message, size):
                self._refuse(replica, "too much waits for it", now)
                return

    def ranged(self, member: int, answer: Range, now: Instant) -> None:
        if member not in self._waiting or now.monotonic >= self._deadline:
            return
        self._waiting.discard(member)
        rows = answer.rows
        held = {row: Record(blob) for row, blob in zip(rows[::2], rows[1::2], strict=True)}
        if max(map(row_partition, held), default=0) >= len(self._chosen):
            raise ProtocolError("a Range message holds rows of partitions that this cluster does not have")
        self._rows[member] = held
        if answer.more:
            last = row_key(rows[-2])
            # An answer speaks of keys up to its last one: the page ends where the shortest answer does.
            self._after = min(self._after, last) if self._more else last
            self._more = True
        if not self._waiting:
            self._merge(now)

    def _merge(self, now: Instant) -> None:
        """Every member has answered: weigh the rows that all answers cover, in key order."""
        rows = {row for held in self._rows.values() for row in held}
        keys = sorted((row_key(row), row) for row in rows)
        if self._more:
            keys = [pair for pair in keys if pair[0] <= self._after]
        if len(keys) > self._limit:
            keys = keys[: self._limit]
            self._more = True
            self._after = keys[-1][0]
        # The merge itself counts as one, or a read that ends at once would send the page before its time.
        self._unread, last = 1, b""
        for key, row in keys:
            if self._ended:  # a read has failed, and the page with it
                break
            if self._unread > self._reads_max:  # the rest comes with the next page
                self._more, self._after = True, last
                break
            last = key
            chosen = self._chosen[row_partition(row)]
            held = [self._rows[replica].get(row) for replica in chosen]
            heads = {at: NOTHING if record is None else record.head for at, record in enumerate(held)}
            # Only what all that were asked hold alike needs no read: they are as many as the level requires.
            if held[0] is not None and plan(self._rule, heads).confirmed == len(chosen):
                self._found.append((key, held[0]))
            else:
                self._read(key, row, now)
        self._unread -= 1
        self._finish(now)

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
            elif result.record is not None:
                self._found.append((key, result.record))
            self._finish(now)

        try:
            read(self._context, row, self._rule, self._level, self._deadline, report, now)
        except Unavailable as error:
            self._unread -= 1
            self._context.load.scan_reads -= 1
            self._fail(error, now)

    def _finish(self, now: Instant) -> None:
        """When nothing is left to read: the page."""
        if self._unread or self._ended:
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
            if record.live(now.wall_ms):
                rows += (key, record.value, record.blob[:VERSION_BYTES], record.expires_ms.to_bytes(8))
                size += len(key) + len(record.value) + VERSION_BYTES + 40
        self._context.operations.drop(self)
        self._ended = True
        self._client.put(Page(self._request.id, rows, self._after, self._more), size + len(self._after))
        self._count("page", now)

    def rejected(self, member: int, answer: Rejected, now: Instant) -> None:
        self._refuse(member, answer.reason, now)

    def lost(self, member: int, now: Instant) -> None:
        if member in self._waiting:
            self._refuse(member, "the link was lost", now)

    def _refuse(self, member: int, reason: str, now: Instant) -> None:
        name = self._context.peers.all[member].name
        self._fail(
            ReplicaFailure(f"failed: {name} could not scan ({reason}). Try again", {name: reason}, None), now
        )

    def alarm(self, now: Instant) -> None:
        required = self._level.required(self._context.placement.replication)
        text = "timeout: not all replicas answered the scan in time. Try again, or with a smaller limit"
        self._fail(ReadTimeout(text, len(self._rows), required, None), now)

    def _fail(self, error: RequestFailed, now: Instant) -> None:
        if not self._ended:
            self._ended = True
            self._context.operations.drop(self)
            refuse(self._client, self._request.id, error)
            self._count(FAILURES[error.code], now)

    def _count(self, outcome: str, now: Instant) -> None:
        begun_s = self._deadline - self._request.timeout_ms / 1e3
        self._context.metrics.answered("scan", self._level, outcome, now.monotonic - begun_s)
