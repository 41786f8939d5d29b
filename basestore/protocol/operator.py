"""What an operator asks: of one node by a client (status, hints), and of all members through one of them.

    client -> node     Explain, Survey                answered by Explained, Surveyed
                       FinishUpgrade                  answered by UpgradeFinished
    node -> members    Trace, Inspect                 answered by Traced, Inspected

These messages are rare, so they hold rows (`registry`). A member is named by its number. Nothing here says
what the answers mean: `results` works that out at the client's.
"""

from typing import Final, NamedTuple

from basestore.protocol.anti_entropy import LossRow, check_losses
from basestore.protocol.registry import ANSWERED, ANYTHING, message
from basestore.protocol.replication import NO_ACCEPTORS, AcceptorRow, check_acceptors
from basestore.repair.version import HEAD_BYTES, RECORD_BYTES_MIN

# What a member is to a row that is traced: its store's state, or `damaged`, or, when it has not said
# anything, `down`. Only the word of one that is `up` counts.
UP: Final = "up"
STARTING: Final = "starting"
FORGETFUL: Final = "forgetful"
DAMAGED: Final = "damaged"
DOWN: Final = "down"
# What a hint that is traced is, as a sum.
ONLY_COPY: Final = 1
LATE: Final = 2
# Whether a hint is of a deferred write: 0 no, 1 yes.
DEFERRED: Final = 1
NOT_TOLD: Final = 2

STORE_STATES: Final = frozenset((UP, STARTING, FORGETFUL))
TRACED_STATES: Final = STORE_STATES | {DAMAGED}

NEVER: Final = -1  # in place of an age
NO_MEMBERS: Final[list[int]] = []
PAGE_PARTITIONS: Final = 256  # that a member is asked for at once
COUNTS: Final = (
    "exchanges", "records_taken", "records_healed", "leaves_corrected", "exchange_bytes_sent",
)  # fmt: skip


@message(14, unchecked=ANYTHING)
class Status(NamedTuple):
    """What the node says of itself. `as_is`: and take its store as it is, if it may be a copy."""

    id: int
    as_is: bool = False


@message(15, unchecked=ANSWERED)
class Explain(NamedTuple):
    """What every member knows of a key. Nothing is repaired, nothing changes."""

    id: int
    bucket: str
    key: bytes
    timeout_ms: int


@message(16, unchecked=ANYTHING)
class HintsOf(NamedTuple):
    """What hints the node keeps."""

    id: int


@message(17, unchecked=ANYTHING)
class Replay(NamedTuple):
    """Deliver the hints now, whatever refusals there were; answered like HintsOf. `late`: and write
    those anew that come too late, unless what is held beats them."""

    id: int
    late: bool = False


@message(19)
class Survey(NamedTuple):
    """What all members say of some partitions: of that of a key, if `key` is not empty, or of
    `partition`, if it is not -1, or else of all, from `first` on, a page at a time. `within_ms`: let
    exchanges run where the last one that was certified was begun longer ago (-1: just look); `full`:
    and scrubs likewise, with a comparison of everything. `accepted`: losses, as they were shown, that are
    accepted."""

    id: int
    bucket: str
    key: bytes
    partition: int
    first: int
    within_ms: int
    full: bool
    accepted: list[LossRow]
    timeout_ms: int

    def check(self) -> str:
        return check_losses(self.accepted)


@message(18, unchecked=ANYTHING)
class Counters(NamedTuple):
    """All that the node has counted since it was started; answered like Status, with further facts."""

    id: int


@message(68, unchecked=ANYTHING)
class FinishUpgrade(NamedTuple):
    """All members are upgraded, for good: let the feature level rise (`cluster/feature_level.py`)."""

    id: int


@message(69, unchecked=ANYTHING)
class UpgradeFinished(NamedTuple):
    """The answer to FinishUpgrade. `level`: what holds here now; `behind`: who hinders that it rises, and
    why; empty when nobody does."""

    id: int
    level: int
    behind: list[str]


class Fact(NamedTuple):
    name: str
    value: str


@message(23, unchecked=ANYTHING)
class NodeStatus(NamedTuple):
    """The answer to Status and Counters."""

    id: int
    facts: list[Fact]


class Unheard(NamedTuple):
    """A member that did not answer, and why."""

    number: int
    reason: str


class Reach(NamedTuple):
    """A replica, up to which stamp there is a proof with it, and up to which it has told that there is one
    of it with all replicas; 0 while there is none."""

    number: int
    proof: int
    claim: int


class TracedHint(NamedTuple):
    """Whom a hint is for; `sort`: ONLY_COPY and LATE, as a sum; the head of its record."""

    target: int
    sort: int
    head: bytes


class ReplicaRow(NamedTuple):
    """A replica of a key. `state` as in Traced, or `down`; `record` without its value, empty when none is
    held; `stable`: the partition's stable stamp there, 0 if it was not told."""

    number: int
    state: str
    record: bytes
    stable: int


class KeptHint(NamedTuple):
    """Who keeps a hint; the rest as in TracedHint."""

    keeper: int
    target: int
    sort: int
    head: bytes


@message(
    25, added={
        "kind": 9, "waited_ms": 9, "window": 9, "brownout": 9, "deferred": 9, "acceptors": 12, "old": 12,
        "new": 12, "since": 12,
    },
)  # fmt: skip
class Explained(NamedTuple):
    """The answer to Explain. `wall_ms`: now, by the node's clock. `reach` is that of the replica with the
    greatest stable stamp; `lost` the greatest that any told. How the request fared: its class, how long it
    waited until it was begun, how many its connection should have under way, and the node's brownout (-1: not
    known). `deferred`: of each hint a byte, as in Traced; empty: not told. Of a row of a register:
    `acceptors`, of replicas that were heard; a quorum of `old` and one of `new` must agree, by the epoch
    `since`."""

    id: int
    rule: str
    wall_ms: int
    replicas: list[ReplicaRow]
    hints: list[KeptHint]
    unheard: list[Unheard]
    reach: list[Reach]
    lost: int
    kind: int = -1
    waited_ms: int = -1
    window: int = -1
    brownout: int = -1
    deferred: bytes = b""
    acceptors: list[AcceptorRow] = NO_ACCEPTORS
    old: list[int] = NO_MEMBERS
    new: list[int] = NO_MEMBERS
    since: int = 0

    def check(self) -> str:
        sound = all(len(hint.head) == HEAD_BYTES for hint in self.hints)
        sound = sound and len(self.deferred) in (0, len(self.hints))
        return check_acceptors(self.acceptors) if sound else "names hints that are none"


class PileRow(NamedTuple):
    """A member for which there is a hint or a debt: whether it is alive, hints, their bytes, how many are
    the only copy, when the oldest was written (ms since 1970, 0: there is none), how many come too late, how
    many are of deferred writes."""

    number: int
    alive: bool
    hints: int
    bytes: int
    only_copies: int
    oldest_ms: int
    late: int
    deferred: int


class DebtRow(NamedTuple):
    """Since when a member may lack writes of a partition (ms since 1970)."""

    number: int
    partition: int
    since_ms: int


@message(26, unchecked=ANYTHING)
class HintPiles(NamedTuple):
    """The answer to HintsOf and Replay of `node`. `wall_ms`: now, by its clock. `rewritten`, `superseded`:
    late hints that were written anew, or dropped because they were beaten, since it was started."""

    id: int
    node: str
    wall_ms: int
    piles: list[PileRow]
    debts: list[DebtRow]
    rewritten: int
    superseded: int


class Told(NamedTuple):
    """What a member says: an Inspected in its encoded form."""

    number: int
    said: bytes


@message(27, unchecked=ANYTHING)
class Surveyed(NamedTuple):
    """The answer to Survey. `total`: partitions that were asked for, `next` where the next page begins
    (-1: there is none)."""

    id: int
    total: int
    next: int
    told: list[Told]
    unheard: list[Unheard]


@message(45)
class Trace(NamedTuple):
    """Say what is held and what hints are kept of this row."""

    id: int
    row: bytes

    def check(self) -> str:
        return "" if len(self.row) > 3 else "names no row"


@message(46, added={"deferred": 9, "hints_upto": 11, "acceptor": 12})
class Traced(NamedTuple):
    """The answer to Trace. `state`: up, starting or forgetful, as the store is, or damaged, as the
    record is. `record`: without its value, empty when none is held. `stable`: the partition's stable stamp, 0
    at a member that does not hold it; `reach`: of each other replica; `lost`: up to which stamp what was
    written to it may be lost, and nobody has accepted that, or 0. `deferred`: of each hint a byte, DEFERRED
    if it is of a deferred write, or 0; empty: not told. `hints_upto`: hints that were kept up to this stamp,
    there or by members that are dead, may be gone. `acceptor`: of a row of a register that it holds, one."""

    id: int
    state: str
    record: bytes
    hints: list[TracedHint]
    stable: int
    reach: list[Reach]
    lost: int
    deferred: bytes = b""
    hints_upto: int = 0
    acceptor: list[AcceptorRow] = NO_ACCEPTORS

    def check(self) -> str:
        if self.state not in TRACED_STATES or len(self.record) not in (0, RECORD_BYTES_MIN):
            return "does not say what is held"
        sound = all(len(hint.head) == HEAD_BYTES and 0 <= hint.sort < 4 for hint in self.hints)
        sound = sound and len(self.deferred) in (0, len(self.hints))
        return check_acceptors(self.acceptor) if sound else "names hints that are none"


@message(49)
class Inspect(NamedTuple):
    """Say how you stand, and of those among `most` partitions from `first` on that you hold, what is
    proven. `within_ms`, `full`, `accepted` as in Survey."""

    id: int
    first: int
    most: int
    within_ms: int
    full: bool
    accepted: list[LossRow]

    def check(self) -> str:
        return check_losses(self.accepted)


class PartitionRow(NamedTuple):
    """A partition: its records, its stable stamp, how long ago its last scrub was begun and was ended (ms,
    -1: before this start), and 8 bytes of its root."""

    partition: int
    records: int
    stable: int
    begun_ms: int
    ended_ms: int
    root: bytes


class PairRow(NamedTuple):
    """Another replica of a partition: the closed stamp in the certificate with it, when that was made (ms
    since 1970, 0: there is none), and how long ago its exchange was begun (ms, -1: before this start)."""

    partition: int
    number: int
    closed: int
    made_ms: int
    begun_ms: int


@message(39)
class Inspected(NamedTuple):
    """The answer to Inspect. `state` up, starting or forgetful, and why; `clock`: what is wrong with
    the sender's clock, or nothing; `wall_ms` now and `stamp`: the greatest of its clock, `lag_ms`: how
    far its closed stamps stay behind. `counts`: COUNTS, since it was started. `only_copies` as in Ping;
    `late_hints` the same of those that their members take no more; `damaged`: partitions in which a record
    is, or a sum may be wrong; `losses` that the sender knows of, accepted ones too; `birth`: the stamp up to
    which its store knows nothing, for there was none; `store`: its id."""

    id: int
    state: str
    reason: str
    durability: str
    clock: str
    wall_ms: int
    stamp: int
    lag_ms: int
    counts: list[int]
    partitions: list[PartitionRow]
    pairs: list[PairRow]
    only_copies: list[int]
    late_hints: list[int]
    damaged: list[int]
    losses: list[LossRow]
    birth: int
    store: bytes = b""

    def check(self) -> str:
        if loss := check_losses(self.losses):
            return loss
        if self.state not in STORE_STATES or len(self.partitions) > PAGE_PARTITIONS:
            return "does not say what is held"
        if len(self.only_copies) % 2 or len(self.late_hints) % 2:
            return "names hints that are none"
        return "" if len(self.counts) == len(COUNTS) else "does not count what it should"
