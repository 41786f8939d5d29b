"""Context: what every request at its coordinator uses.

The coordinator of a request is the node that the client has asked (DeCandia et al., "Dynamo", 2007,
section 4.5). Each kind of request has a file of this room. Its function is handed a Context, and
through it reaches the other members, what is under way, the clock and the counters.

A Context begins no request and knows none. It is made once, by the node, and never changes; the little
that requests share and change is in `Load`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from basestore.cluster.feature_level import FeatureLevel
from basestore.cluster.operations import NOBODY, Once, Operations
from basestore.cluster.outbox import Outbox
from basestore.cluster.peers import Peers
from basestore.cluster.placement import Placement
from basestore.config import BucketOptions
from basestore.consistency import Level, Quorum
from basestore.coordinator.stamper import Stamper
from basestore.errors import LOWER_LEVEL, InvalidRequest, Overloaded, RequestFailed, Unavailable
from basestore.instant import Instant
from basestore.intake.figures import Door
from basestore.intake.windows import RETRY_MS
from basestore.metrics import Metrics
from basestore.protocol.client import Failed
from basestore.repair.version import Digester
from basestore.replica.group_commit import GroupCommit
from basestore.topology.buckets import Buckets

ANY = Level.ANY  # bound once: looking a member up on its enum costs as much as a check
TOO_MUCH_ASKED = (
    "overloaded: more was asked for at once than this connection can carry; nothing was done. "
    "Take the answers, and ask for less at a time"
)


@dataclass(slots=True)
class Load:
    """What requests under way weigh upon each other with, besides what `Operations` counts."""

    answer_bytes: int = 64 << 10  # what an answer with a value takes, going by the last
    scan_reads: int = 0  # rows that scans read singly just now
    repairs_waiting: set[bytes] = field(default_factory=set)  # rows of `deferred_repair`
    lot: float = 0.0  # the last that was drawn for read repair
    brownout: int = 0  # 0 to 2: how much this node leaves out, to keep up with what it is asked
    door: Callable[[Outbox], Door] = lambda _: Door()  # how what is being begun has fared at the intake
    retry_ms: Callable[[], int] = lambda: RETRY_MS  # when what is refused now may be done


@dataclass(frozen=True, slots=True)
class Context:
    """`timeout_ms_max`: how long a request may last; `read_repair`: the share of reads at ONE that
    compare all replicas."""

    placement: Placement
    peers: Peers
    operations: Operations
    metrics: Metrics
    digester: Digester
    feature_level: FeatureLevel
    stamper: Stamper
    group_commit: GroupCommit
    buckets: Buckets
    timeout_ms_max: int
    read_repair: float
    load: Load = field(default_factory=Load)

    def row(self, bucket: str, key: bytes) -> bytes:
        """Of a key of a bucket that there is."""
        return self.placement.row_of(self.buckets.stem(bucket) + key)

    @property
    def options(self) -> Mapping[str, BucketOptions]:
        """How this node serves those buckets that have any."""
        return self.buckets.options

    def require(self, partition: int, level: Level, instead: str = LOWER_LEVEL) -> Quorum:
        """Whose confirmations the level requires; Unavailable, with `instead`, unless enough replicas are
        alive."""
        quorum = self.placement.quorums[partition][level]
        # ANY needs no replica alive, for a hint will do.
        if not self.peers.all_alive and level is not ANY:
            alive = [replica for replica in quorum.replicas if self.peers.alive[replica]]
            if not quorum.met(alive):
                me = self.peers.me
                starting = me in quorum.replicas and not self.peers.alive[me]
                raise Unavailable(*quorum.told(alive), starting, instead)
        return quorum


def park(
    context: Context, size: int, ends_s: float, go_on: Callable[[Instant], None],
    late: Callable[[Overloaded, Instant], None],
) -> None:  # fmt: skip
    """Call `go_on` once this clock may stamp, or, if its time is over before that, `late` with why. `size`:
    bytes that it holds meanwhile."""
    operations, stamper = context.operations, context.stamper

    def over(_: Any, now: Instant) -> None:
        late(stamper.timed_out(waiting, now), now)

    def goes_on(now: Instant) -> None:
        if waiting.ids:
            operations.drop(waiting)
            go_on(now)

    waiting = Once(operations, size, NOBODY, over)
    operations.alarm_at(operations.issue(waiting), ends_s)
    stamper.park(waiting, goes_on)


def refuse(context: Context, outbox: Outbox, request: int, error: InvalidRequest | RequestFailed) -> None:
    """Send an error."""
    outbox.put(failure(request, error, context.load.retry_ms()))


def failure(request: int, error: InvalidRequest | RequestFailed, retry_ms: int = RETRY_MS) -> Failed:
    """An error as the message that carries it to the client. Whoever asks for too much is always told when to
    come again: in `retry_ms`, unless the error knows better."""
    if isinstance(error, Overloaded):
        error.come_again(retry_ms / 1e3)
    if isinstance(error, InvalidRequest):
        return Failed(request, error.code, str(error), b"", [])
    identity = error.identity.encode() if error.identity else b""
    return Failed(request, error.code, str(error), identity, list(map(str, error.details())))
