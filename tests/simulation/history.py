"""History: what the clients asked and were told, and when. What the checkers judge.

Times are the world's own. A version is its 24 encoded bytes, empty when it is not known.
"""

from collections.abc import Callable

from basestore.consistency import Level

INF = float("inf")

# What became of a request.
PENDING = "pending"
STORED = "stored"
SUPERSEDED = "superseded"
LOST = "lost"  # a first-write key was taken
FOUND = "found"  # a read or scan was answered
REFUSED = "refused"  # certainly nothing was done
TIMEOUT = "timeout"
FAILED = "failed"
GONE = "gone"  # the connection broke, or the node fell silent

FINAL = 2  # of a receipt or a read
CLOCK_SKEW = 4  # the code of an error

SET, DELETE, GET, SCAN = "set", "delete", "get", "scan"


class Operation:
    """One request of a client with all its repetitions. `end` is infinite until it is answered."""

    __slots__ = (
        "acknowledged",
        "after",
        "anew",
        "attempts",
        "bucket",
        "client",
        "code",
        "cursor",
        "defer",
        "degrade_ms",
        "degraded",
        "end",
        "escalated",
        "expires_ms",
        "final",
        "floor",
        "found",
        "identity",
        "key",
        "kind",
        "level",
        "limit",
        "node",
        "number",
        "outcome",
        "page",
        "place",
        "promised",
        "repair",
        "requests",
        "session",
        "shown",
        "stale_ms",
        "stale_ms_max",
        "stamped",
        "start",
        "strong",
        "tell",
        "timeout_ms",
        "ttl_ms",
        "untaken",
        "value",
        "version",
        "winner",
        "writes",
    )  # fmt: skip

    def __init__(self, number: int, client: int, kind: str, bucket: str, key: str, level: Level) -> None:
        self.number = number
        self.client = client
        self.kind = kind
        self.bucket = bucket
        self.key = key
        self.level = level
        self.writes = kind in (SET, DELETE)
        self.defer = False  # of a write: a busy node may keep it for later
        self.strong = level >= Level.QUORUM
        self.value = b""
        self.ttl_ms = 0
        self.timeout_ms = 0
        self.limit = 0
        self.start = 0.0
        self.end = INF
        self.outcome = PENDING
        self.version = b""
        self.identity = b""  # of a write that was told it: what it is repeated by
        self.winner = b""  # of a write that lost: what won
        self.session = False  # it is part of its client's session, which had seen `floor`
        self.floor = b""
        self.untaken = False  # of the floor: no replica is known to have taken it
        self.repair = True
        self.tell = False  # of a read: it asks how stale the answer may be, and may ask for a bound (ms)
        self.stale_ms_max = 0
        self.stale_ms = -1  # what it was told; -1: nothing
        self.escalated = False
        self.degrade_ms = (
            0  # of a read: how stale it takes one replica's answer where its level is not reached
        )
        self.degraded = False  # it was answered so, and is one at ONE since
        self.code = 0  # of the error that a read got
        self.found = False
        self.shown = False  # of a read: a version, be it a tombstone's
        self.acknowledged = 0  # of a write: replicas that had applied it
        self.final = 0  # as a receipt says it: 2 once the win cannot be contested
        self.expires_ms = 0
        self.after = b""  # of a scan: where its page begins, and where the next one does
        self.cursor: bytes | None = None
        self.page: list[tuple[str, bytes, bytes]] = []
        self.place = -1  # among its client's own
        self.anew = False  # on a first-write key it was repeated without a version: it may have two
        self.stamped = False  # a write that may exist: it was sent, and not refused before
        self.attempts = 0
        self.node = -1
        self.requests: list[int] = []
        self.promised: list[int] = []  # members that hold it or will be given it, says the receipt

    def __repr__(self) -> str:
        words = [f"#{self.number}", f"c{self.client}@n{self.node + 1}", self.kind, self.bucket, self.key]
        words += [self.level.name, f"{self.start:.4f}..{self.end:.4f}", self.outcome]
        words += [self.version.hex("-", 8)] if self.version else []
        return " ".join([*words, *([self.value[:24].decode()] if self.value else [])])


def told(operation: Operation) -> list[bytes]:
    """The versions that a client knows of by what it was told in the end."""
    if operation.outcome in (STORED, FOUND):
        return [operation.version] if operation.version else []
    if operation.outcome in (SUPERSEDED, LOST):
        return [operation.winner] if operation.winner else []
    return []


class Violation:
    """Something that must never be. `check` names the checker."""

    __slots__ = ("check", "text")

    def __init__(self, check: str, text: str) -> None:
        self.check = check
        self.text = text

    def __repr__(self) -> str:
        return f"{self.check}: {self.text}"


class History:
    """All operations of one world, in the order they began. `stores_lost`: a disk was replaced or
    spoilt, so what only one replica held may be gone; `sync`: promises rest on fsync; otherwise they
    hold until `crash_s`, when a machine first lost what was not synced (all of it, unless `interval`)."""

    def __init__(
        self, *, sync: bool = True, interval: bool = False, clock: Callable[[], float] = float
    ) -> None:
        self.operations: list[Operation] = []
        self.sync = sync
        self.interval = interval
        self.end_s = 0.0  # since when a read at ALL may be one in the end, of which each key has one
        self.stores_lost = False
        self.late: dict[tuple[str, str], list[bytes]] = {}  # by key: versions of hints that came too late
        self.crash_s = INF
        self._clock = clock

    def crashed(self) -> None:
        """A machine has lost what it had not synced."""
        self.crash_s = min(self.crash_s, self._clock())

    def ruined(self, touches: Callable[[Operation], bool]) -> None:
        """What was written may be there or not, and what was shown says nothing any more; of those operations
        that it touches."""
        ended = [each for each in self.operations if each.outcome != PENDING and touches(each)]
        for operation in ended:
            if operation.writes and operation.outcome in (STORED, SUPERSEDED, LOST, TIMEOUT, FAILED):
                operation.outcome, operation.final, operation.winner = GONE, 0, b""
                operation.promised, operation.acknowledged = [], 0
            elif not operation.writes:
                operation.outcome, operation.version, operation.value, operation.page = FAILED, b"", b"", []
                operation.final, operation.found, operation.shown = 0, False, False

    def begin(self, client: int, kind: str, bucket: str, key: str, level: Level) -> Operation:
        operation = Operation(len(self.operations), client, kind, bucket, key, level)
        self.operations.append(operation)
        return operation
