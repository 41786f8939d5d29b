"""Coordinator: takes requests, and lets each tell its own story.

What is common to all requests stands here: checks of what was asked, the bounds that refuse work
before anything is done, versions for writes, ids and deadlines. The stories are `quorum_write.py` (set,
delete), `quorum_read.py` (get), `range_scan.py` (scan), `explain.py` (explain) and `survey.py` (survey).

Everything that can be refused is refused before a write is stamped, so these errors are definite.
"""

from collections.abc import Mapping

from basestore.cluster.operations import Operations
from basestore.cluster.outbox import SMALL_BYTES, Outbox
from basestore.cluster.peers import Peers
from basestore.cluster.placement import Placement, row_partition
from basestore.config import REPLICATION_MAX, NodeConfig
from basestore.consistency import Level
from basestore.coordinator.deferred_repair import DeferredRepair
from basestore.coordinator.explain import ExplainGather
from basestore.coordinator.get import ClientGet, stale_ms_of
from basestore.coordinator.quorum_read import Aim, QuorumRead, Report
from basestore.coordinator.quorum_write import Content, QuorumWrite
from basestore.coordinator.range_scan import RangeScan
from basestore.coordinator.survey import SURVEY_BYTES, SurveyGather
from basestore.errors import ClockSkew, InvalidRequest, Overloaded, RequestFailed, Unavailable
from basestore.instant import Instant
from basestore.metrics import Metrics
from basestore.protocol.client import Delete, Failed, Get, Scan, Set
from basestore.protocol.codec import Message
from basestore.protocol.limits import KEY_BYTES_MAX, VALUE_BYTES_MAX
from basestore.protocol.operator import Explain, Survey
from basestore.replica.group_commit import GroupCommit
from repair.clock import HybridClock
from repair.rule import Rule
from repair.version import COUNTER_BITS, Digester, Version

OPERATIONS_MAX = 8192
OPERATION_BYTES_MAX = 256 << 20
ANSWER_BYTES_EXPECTED = 64 << 10
GOLDEN = 0.6180339887498949
STALE_MS_MAX = 365 * 24 * 3600 * 1000
TTL_MS_MAX = 100 * 365 * 24 * 3600 * 1000

# Bound once: looking a member up on its enum costs as much as a check.
ANY, QUORUM = Level.ANY, Level.QUORUM
_OPERATIONS: Mapping[type, str] = {Set: "set", Delete: "delete", Get: "get", Scan: "scan"}
# By the number of replicas, and of those that have confirmed: the levels that are met just then.
_MET_BY = [
    [[level.value for level in Level if level.required(replicas) == count] for count in range(replicas + 1)]
    for replicas in range(REPLICATION_MAX + 1)
]
PLAIN = Aim(0)
_LEVELS = {level.value: level for level in Level}

Request = Set | Delete | Get | Scan | Explain | Survey


class Coordinator:
    """One node's side of all requests that clients sent to it."""

    def __init__(
        self,
        config: NodeConfig,
        placement: Placement,
        peers: Peers,
        operations: Operations,
        group_commit: GroupCommit,
        clock: HybridClock,
        digester: Digester,
        metrics: Metrics,
        origin: int,
    ) -> None:
        cluster = config.cluster
        self.placement = placement
        self.peers = peers
        self.operations = operations
        self.digester = digester
        self.metrics = metrics
        self.names = [member.name for member in cluster.members]
        self._drift_ms_max = cluster.drift_ms_max
        self.timeout_ms_max = cluster.timeout_ms_max
        self._buckets: Mapping[str, tuple[bytes, Rule]] = {
            name: (name.encode(), rule) for name, rule in cluster.buckets.items()
        }
        self._group_commit = group_commit
        self._clock = clock
        self._origin = origin
        self._read_repair = config.read_repair
        self._lot = 0.0
        self.deferred_repair = DeferredRepair(self)
        self._numbers = [0] * cluster.partitions
        self.scan_reads = 0  # rows that scans read singly just now
        self.answer_bytes = ANSWER_BYTES_EXPECTED  # what an answer with a value takes, going by the last

    def receive(self, outbox: Outbox, request: Request, now: Instant) -> None:
        """Begin a client's request; the answer goes to `outbox`, at the latest at its deadline."""
        try:
            if isinstance(request, Set | Delete):
                self._write(outbox, request, now)
            elif isinstance(request, Get):
                self._read(outbox, request, now)
            elif isinstance(request, Scan):
                self._scan(outbox, request, now)
            elif isinstance(request, Explain):
                self._explain(outbox, request, now)
            else:
                self._survey(outbox, request, now)
        except (InvalidRequest, RequestFailed) as error:
            if not isinstance(request, Explain | Survey):
                self.metrics.refused(_OPERATIONS[type(request)], request.level, error.code)
            outbox.put(failure(request.id, error))

    def _bucket(self, name: str) -> tuple[bytes, Rule]:
        bucket = self._buckets.get(name)
        if bucket is None:
            names = ", ".join(sorted(self._buckets))
            raise InvalidRequest(f"there is no bucket {name[:64]!r}; this cluster has {names}")
        return bucket

    def rule_of(self, bucket: bytes) -> Rule:
        """The rule of a bucket; one that is configured no more is kept as last-write-wins."""
        return self._buckets.get(bucket.decode(), (bucket, Rule.LAST_WRITE_WINS))[1]

    def _check(self, request: Set | Delete | Get | Scan) -> Level:
        """The level of a request whose level and deadline make sense."""
        level = _LEVELS.get(request.level)
        if level is None:
            raise InvalidRequest(f"there is no level {request.level}; use any, one, quorum or all")
        self._check_timeout(request.timeout_ms)
        return level

    def _check_timeout(self, timeout_ms: int) -> None:
        if not 0 < timeout_ms <= self.timeout_ms_max:
            raise InvalidRequest(
                f"a timeout of {timeout_ms} ms; it must lie between 1 ms and this cluster's "
                f"timeout_ms_max, {self.timeout_ms_max} ms: ask for less, or raise that in every node's file"
            )

    def _admit(self, size: int, now: Instant) -> None:
        """Overloaded unless there is room for one more operation of `size` bytes."""
        operations = self.operations
        if operations.count >= OPERATIONS_MAX // 2 or operations.bytes > OPERATION_BYTES_MAX // 2:
            operations.relieve(now)
        if operations.count >= OPERATIONS_MAX or operations.bytes + size > OPERATION_BYTES_MAX:
            raise Overloaded("overloaded: too many requests are under way; nothing was done. Try again later")
        if self._group_commit.full:
            raise Overloaded("overloaded: the disk does not keep up; nothing was done. Try again later")

    @property
    def idle(self) -> bool:
        """Whether there is room for work that nobody waits for."""
        return self.operations.count < OPERATIONS_MAX // 2

    def milestone(self, operation: str, confirmed: int, replicas: int, seconds: float) -> None:
        """So many replicas have confirmed: note the levels that this would have met, asked for or not."""
        for level in _MET_BY[replicas][confirmed]:
            self.metrics.reached(operation, level, seconds)

    def require(self, replicas: tuple[int, ...], level: Level) -> int:
        """How many replicas the level requires; Unavailable unless so many are alive."""
        required = level.required(len(replicas))
        if not self.peers.all_alive and level is not ANY:
            alive = sum(map(self.peers.alive.__getitem__, replicas))
            if alive < required:
                raise Unavailable(required, alive)
        return required

    def _write(self, outbox: Outbox, request: Set | Delete, now: Instant) -> None:
        level = self._check(request)
        bucket, rule = self._bucket(request.bucket)
        _check_key(request.key)
        value, ttl_ms = (request.value, request.ttl_ms) if isinstance(request, Set) else (b"", 0)
        if len(value) > VALUE_BYTES_MAX:
            raise InvalidRequest(f"the value has {len(value)} bytes; at most {VALUE_BYTES_MAX} are allowed")
        if not 0 <= ttl_ms <= TTL_MS_MAX:
            raise InvalidRequest(f"a ttl of {ttl_ms} ms; it must lie between 0 (never) and {TTL_MS_MAX} ms")
        if rule.immutable and (ttl_ms or isinstance(request, Delete)):
            what = "ttl" if ttl_ms else "delete"
            raise InvalidRequest(
                f"bucket {request.bucket!r} is {rule.value}: {what} is refused, for a record there never "
                f"changes. Write under another key, or to another bucket"
            )
        repeated = self._repeated(request.version, now) if request.version else None
        size = len(request.key) + len(value)
        self._admit(size, now)
        row = self.placement.row(bucket, request.key)
        replicas = self.placement.replicas[row_partition(row)]
        self.require(replicas, level)
        content = Content(row, value, ttl_ms, isinstance(request, Delete))
        begun_s = now.monotonic
        deadline = begun_s + request.timeout_ms / 1e3
        writing = QuorumWrite(self, outbox, request.id, content, rule, replicas, level, begun_s, deadline)
        if rule.reads_first and level >= QUORUM:
            writing.read_first(repeated, now)
        else:
            writing.begin(repeated, now)

    def _repeated(self, encoded: bytes, now: Instant) -> Version:
        """The version of an earlier attempt; InvalidRequest when no node can have given it out."""
        version = _version(encoded)
        if version.wall_ms > now.wall_ms + self._drift_ms_max:
            raise InvalidRequest(
                f"the version {version} lies in the future; pass the one that the error named"
            )
        return version

    def _check_clock(self, now: Instant) -> None:
        """ClockSkew or Overloaded while this node must not stamp."""
        if self.peers.clock_jumped:
            raise ClockSkew(
                "this node's clock has jumped and is being compared with the others'; nothing was done. "
                "Try again in a few seconds, or use another node"
            )
        if self._clock.last > (now.wall_ms + self._drift_ms_max) << COUNTER_BITS:
            raise ClockSkew(
                f"this node's clock is {self._clock.lead_ms(now.wall_ms)} ms behind the stamps that it has "
                f"given out; nothing was done. Set its clock right, or use another node"
            )
        skew_ms = self.peers.skew_ms
        if skew_ms is not None:
            raise ClockSkew(
                f"this node's clock is {abs(skew_ms)} ms {'behind' if skew_ms > 0 else 'ahead of'} the "
                f"majority's; nothing was done. Set its clock right, or use another node"
            )
        if not self._clock.ready:
            raise Overloaded(
                "overloaded: the clock's ceiling is not durable yet; nothing was done. Try again"
            )

    def stamp(self, row: bytes, now: Instant) -> Version:
        """The version of a new write; ClockSkew or Overloaded as `_check_clock`."""
        self._check_clock(now)
        stamp = self._clock.tick(now.wall_ms)
        partition = row_partition(row)
        self._numbers[partition] += 1
        return Version(stamp, self._origin, self._numbers[partition])

    def observe(self, head: bytes, now: Instant) -> None:
        """A record with this head was met: later stamps of this node shall be greater,
        unless it is beyond the drift bound."""
        self._clock.observe(int.from_bytes(head[:8]), now.wall_ms)

    def _read(self, outbox: Outbox, request: Get, now: Instant) -> None:
        level = self._read_level(request)
        bucket, rule = self._bucket(request.bucket)
        _check_key(request.key)
        self._admit(self.answer_bytes, now)
        if request.floor:
            _version(request.floor)
        if not request.repair and level is not Level.ONE:
            raise InvalidRequest("only a read at one can do without repair: other levels are made by it")
        if not 0 <= request.stale_ms_max <= STALE_MS_MAX:
            raise InvalidRequest(f"staleness has a bound of 1 to {STALE_MS_MAX} ms, or 0: none")
        if request.stale_ms_max and not request.repair:
            raise InvalidRequest(
                "a read that is to repair nothing has no bound on its staleness: give up one"
            )
        compare = request.repair and (level is not Level.ONE or self._draw_lot() < self._read_repair)
        row = self.placement.row(bucket, request.key)
        ClientGet(self, outbox, request, level, row, rule, now).begin(compare, now)

    def stale_ms(self, stable: int, now: Instant) -> int:
        """As `getting.stale_ms_of`."""
        return stale_ms_of(stable, self._clock, self.peers, now)

    def hand_over(self, outbox: Outbox, answer: Message, size: int) -> None:
        """Send an answer with a value, if there is room for it."""
        if outbox.roomy:
            outbox.put(answer, size)
        else:
            outbox.put(failure(answer.id, _too_much_asked()))  # type: ignore[attr-defined]

    def refuse(self, outbox: Outbox, request: int, error: InvalidRequest | RequestFailed) -> None:
        """Send an error."""
        outbox.put(failure(request, error))

    def _draw_lot(self) -> float:
        """A number between 0 and 1: multiples of the golden ratio, spread so evenly that no rhythm of
        the callers falls in with them."""
        self._lot = (self._lot + GOLDEN) % 1.0
        return self._lot

    def read(
        self,
        row: bytes,
        rule: Rule,
        level: Level,
        deadline: float,
        report: Report,
        now: Instant,
        aim: Aim = PLAIN,
    ) -> None:
        """Read one row at a level, for a client or as part of a larger request; Unavailable."""
        replicas = self.placement.replicas[row_partition(row)]
        aim = aim._replace(required=self.require(replicas, level))
        QuorumRead(self, row, rule, replicas, aim, report).begin(deadline, now)

    def _scan(self, outbox: Outbox, request: Scan, now: Instant) -> None:
        level = self._read_level(request)
        bucket, rule = self._bucket(request.bucket)
        for name, part in (("prefix", request.prefix), ("place to go on from", request.after)):
            if len(part) > KEY_BYTES_MAX:
                raise InvalidRequest(f"the {name} has {len(part)} bytes; keys have at most {KEY_BYTES_MAX}")
        if request.limit < 1:
            raise InvalidRequest(f"a limit of {request.limit}; ask for at least 1 key")
        self._admit(0, now)
        RangeScan(self, outbox, request, bucket, rule, level).begin(now)

    def _explain(self, outbox: Outbox, request: Explain, now: Instant) -> None:
        self._check_timeout(request.timeout_ms)
        bucket, rule = self._bucket(request.bucket)
        _check_key(request.key)
        self._admit(len(request.key) + SMALL_BYTES * len(self.names), now)
        if not outbox.roomy:
            raise _too_much_asked()
        ExplainGather(self, outbox, request, self.placement.row(bucket, request.key), rule).begin(now)

    def _survey(self, outbox: Outbox, request: Survey, now: Instant) -> None:
        partitions = self.placement.partitions
        first, total = request.first, partitions
        if request.key:
            bucket, _ = self._bucket(request.bucket)
            _check_key(request.key)
            first, total = row_partition(self.placement.row(bucket, request.key)), 1
        elif request.partition >= 0:
            first, total = request.partition, 1
        if not 0 <= first < partitions:
            raise InvalidRequest(
                f"there is no partition {first}; this cluster has {partitions}, counted from 0"
            )
        self._admit(SURVEY_BYTES, now)
        if not outbox.roomy:
            raise _too_much_asked()
        SurveyGather(self, outbox, request, first, total).begin(now)

    def _read_level(self, request: Get | Scan) -> Level:
        level = self._check(request)
        if level is Level.ANY:
            raise InvalidRequest("level any is for writes; read at one, quorum or all")
        return level


def _version(encoded: bytes) -> Version:
    """InvalidRequest unless it is a version."""
    try:
        return Version.decode(encoded)
    except ValueError as error:
        raise InvalidRequest(f"the version is malformed: {error}") from None


def _check_key(key: bytes) -> None:
    """InvalidRequest unless the key has 1 byte to 64 KiB."""
    if not 0 < len(key) <= KEY_BYTES_MAX:
        raise InvalidRequest(f"the key has {len(key)} bytes; 1 to {KEY_BYTES_MAX} are allowed")


def _too_much_asked() -> Overloaded:
    """For a reader whose answers, if they were sent, would fill its connection."""
    return Overloaded(
        "overloaded: more was asked for at once than this connection can carry; nothing was done. "
        "Take the answers, and ask for less at a time"
    )


def failure(request: int, error: InvalidRequest | RequestFailed) -> Failed:
    """An error as the message that carries it to the client."""
    if isinstance(error, InvalidRequest):
        return Failed(request, error.code, str(error), b"", [])
    version = error.version.encode() if error.version else b""
    return Failed(request, error.code, str(error), version, error.details())
