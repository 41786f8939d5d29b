"""What an operator asks, at a client and between nodes: status, explain, hints, survey."""

from typing import Final, NamedTuple

from basestore.protocol.registry import ANSWERED, ANYTHING, message
from repair.version import HEAD_BYTES, RECORD_BYTES_MIN

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

STORE_STATES: Final = frozenset((UP, STARTING, FORGETFUL))
TRACED_STATES: Final = STORE_STATES | {DAMAGED}

NEVER: Final = -1  # in place of an age
PAGE_PARTITIONS: Final = 256  # that a member is asked for at once
NUMBERS: Final = 5  # for each partition in `Inspected`
PAIR: Final = 5
PILE: Final = 7
COUNTS: Final = (
    "exchanges", "records_taken", "records_healed", "leaves_corrected", "exchange_bytes_sent",
)  # fmt: skip


@message(14, unchecked=ANYTHING)
class Status(NamedTuple):
    id: int


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


@message(19, unchecked=ANSWERED)
class Survey(NamedTuple):
    """What all members say of some partitions: of that of a key, if `key` is not empty, or of
    `partition`, if it is not -1, or else of all, from `first` on, a page at a time. `within_ms`: let
    exchanges run where the last one that was certified was begun longer ago (-1: just look); `full`:
    and scrubs likewise, with a comparison of everything."""

    id: int
    bucket: str
    key: bytes
    partition: int
    first: int
    within_ms: int
    full: bool
    timeout_ms: int


@message(18, unchecked=ANYTHING)
class Counters(NamedTuple):
    """All that the node has counted since it was started; answered like Status, with further facts."""

    id: int


@message(23)
class NodeStatus(NamedTuple):
    """`facts` alternates names and values."""

    id: int
    facts: list[str]

    def check(self) -> str:
        return "names facts without their values" if len(self.facts) % 2 else ""


@message(25)
class Explained(NamedTuple):
    """The answer to Explain. `wall_ms`: now, by the node's clock. Of each of the `replicas` (member
    indices) the state, as in `Traced` or `down`, and the record without its value. `hints` holds who
    keeps it, for whom, and what it is, as in `Traced`, in turn; `heads` a head for each.
    `unheard`: members that did not answer, and `reasons`: why. `stables`: of each replica its stable
    stamp, 0 if it did not answer; `reach` as in `Traced`, of the one with the greatest."""

    id: int
    rule: str
    wall_ms: int
    replicas: list[int]
    states: list[str]
    records: list[bytes]
    hints: list[int]
    heads: list[bytes]
    unheard: list[int]
    reasons: list[str]
    stables: list[int]
    reach: list[int]

    def check(self) -> str:
        told = {len(self.replicas), len(self.states), len(self.records), len(self.stables)}
        if len(told) != 1 or len(self.unheard) != len(self.reasons):
            return "does not say of whom it speaks"
        if len(self.hints) != 3 * len(self.heads) or any(len(head) != HEAD_BYTES for head in self.heads):
            return "names hints that are none"
        return "does not say of whom its proofs are" if len(self.reach) % 3 else ""


@message(26)
class HintPiles(NamedTuple):
    """The answer to HintsOf and Replay of `node`. `wall_ms`: now, by its clock. `piles` holds, for each
    member for which there is a hint or a debt: its index, whether it is alive (1) or not (0), hints,
    their bytes, how many are the only copy, when the oldest was written (ms since 1970, 0: there is
    none), and how many come too late. `debts`: member, partition, and since when it may lack writes
    there (ms since 1970), in turn. `decided`: how many late hints were written anew, and how many dropped
    because they were beaten, since it was started."""

    id: int
    node: str
    wall_ms: int
    piles: list[int]
    debts: list[int]
    decided: list[int]

    def check(self) -> str:
        sound = not (len(self.piles) % PILE or len(self.debts) % 3) and len(self.decided) == 2
        return "" if sound else "does not say what is kept"


@message(27)
class Surveyed(NamedTuple):
    """The answer to Survey. `total`: partitions that were asked for, `next` where the next page begins
    (-1: there is none). `told`: what each of `members` says, an Inspected in its encoded form.
    `unheard`: members that did not answer, and `reasons`: why."""

    id: int
    total: int
    next: int
    members: list[int]
    told: list[bytes]
    unheard: list[int]
    reasons: list[str]

    def check(self) -> str:
        sound = len(self.members) == len(self.told) and len(self.unheard) == len(self.reasons)
        return "" if sound else "does not say who told what"


@message(45)
class Trace(NamedTuple):
    """Say what is held and what hints are kept of this row."""

    id: int
    row: bytes

    def check(self) -> str:
        return "" if len(self.row) > 3 else "names no row"


@message(46)
class Traced(NamedTuple):
    """The answer to Trace. `state`: up, starting or forgetful, as the store is, or damaged, as the
    record is. `record`: without its value, empty when none is held. For each hint, `hints` holds the
    member it is for and the sum of 1 if it is the only copy and 2 if it is late; `heads` its head.
    `stable`: the partition's stable stamp, 0 at a member that does not hold it; `reach`: each other
    replica, up to which stamp there is a proof with it, and up to which with all replicas, as it has
    told, in turn."""

    id: int
    state: str
    record: bytes
    hints: list[int]
    heads: list[bytes]
    stable: int
    reach: list[int]

    def check(self) -> str:
        if self.state not in TRACED_STATES or len(self.record) not in (0, RECORD_BYTES_MIN):
            return "does not say what is held"
        if len(self.hints) != 2 * len(self.heads):
            return "does not say for whom its hints are"
        if any(len(head) != HEAD_BYTES for head in self.heads) or not {*self.hints[1::2]} <= {*range(4)}:
            return "names hints that are none"
        return "does not say of whom its proofs are" if len(self.reach) % 3 else ""


@message(49, unchecked=ANYTHING)
class Inspect(NamedTuple):
    """Say how you stand, and of those among `most` partitions from `first` on that you hold, what is
    proven. `within_ms`, `full` as in Survey."""

    id: int
    first: int
    most: int
    within_ms: int
    full: bool


@message(39)
class Inspected(NamedTuple):
    """The answer to Inspect. `state` up, starting or forgetful, and why; `clock`: what is wrong with
    the sender's clock, or nothing; `wall_ms` now and `stamp`: the greatest of its clock, `lag_ms`: how
    far its closed stamps stay behind. `counts`: exchanges certified, records taken, records healed, sums
    corrected, bytes sent by exchanges, since it was started. For each partition: `numbers` itself, its
    records, its stable stamp, and how long ago its last scrub was begun and was
    ended (ms, -1: before this start); `roots` 8 bytes of its root; and in `pairs`, for each other
    replica, partition, member, closed stamp in the certificate with it, when that was made (ms since
    1970, 0: there is none), and how long ago its exchange was begun (ms, -1: before this start).
    `only_copies` as in Ping; `late_hints` the same of those that their members take no more; `damaged`:
    partitions in which a record is, or a sum may be wrong."""

    id: int
    state: str
    reason: str
    durability: str
    clock: str
    wall_ms: int
    stamp: int
    lag_ms: int
    counts: list[int]
    numbers: list[int]
    roots: list[bytes]
    pairs: list[int]
    only_copies: list[int]
    late_hints: list[int]
    damaged: list[int]

    def check(self) -> str:
        count, rest = divmod(len(self.numbers), NUMBERS)
        if self.state not in STORE_STATES or rest or len(self.roots) != count or count > PAGE_PARTITIONS:
            return "does not say what is held"
        if len(self.pairs) % PAIR:
            return "names pairs that are none"
        if len(self.only_copies) % 2 or len(self.late_hints) % 2:
            return "names hints that are none"
        return "" if len(self.counts) == len(COUNTS) else "does not count what it should"
