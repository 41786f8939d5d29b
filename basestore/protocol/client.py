"""Messages between a client and its node: writes, reads and scans, and what they are answered.

And what that node asks of the replicas for a client that watches (`feeds`), which is asked for in the same
way: a client asks for some changes at a time, and has no answer before there is something; a replica says no
more than one `Fed` for each `Follow` or `More`. So nobody is sent what he does not take. How positions are
meant is said by `feeds/position.py`; that a member serves no feed at all, by `Rejected`.

Owns their fields and the numbers of outcomes. An answer says what became of the request at its level; which
errors `Failed` carries is `errors`' list. Bounds that only a node can judge (of keys, levels, timeouts) are
those of `coordinator/admission.py`.
"""

from typing import Final, NamedTuple

from basestore.protocol.limits import BATCHES_SINCE, TRANSACTIONS_SINCE, WATCH_SINCE
from basestore.protocol.registry import ANSWERED, ANYTHING, message
from basestore.repair.version import IDENTITY_BYTES, PROPOSAL_BYTES, VERSION_BYTES

# What became of a write, and whether a first-write win can still be contested, in `Written`.
OUTCOME_STORED: Final = 0
OUTCOME_SUPERSEDED: Final = 1
OUTCOME_LOST: Final = 2
OUTCOME_DEFERRED: Final = 3
PROVISIONAL: Final = 1
FINAL: Final = 2
UNTAKEN: Final = b"?"  # at the end of a floor
AS_ASKED: Final = -1  # in place of how stale an answer may be that is degraded: it may not be


# What a write in a register depends on: nothing, that the key holds no value, its version, or its value. ADD
# depends on nothing either: it adds to the number that is there.
NO_CONDITION: Final = 0
IF_ABSENT: Final = 1
IF_VERSION: Final = 2
IF_VALUE: Final = 3
ADD: Final = 4


@message(10, unchecked=ANSWERED, added={"defer": 9, "condition": 12, "expected": 12})
class Set(NamedTuple):
    """Write a value. `identity`: what this write is to be known by, 8 bytes that the client has drawn, or
    none. `repeats`: it is an earlier attempt over again; then `identity` is what that one is known by
    (`repair.version.Identity`), with its version if the client was told. `after`: the greatest stamp that a
    session has seen (0: none); that of the write shall be greater. `defer`: a node that is overloaded may
    keep it for its replicas, durably, and answer at once. `condition`, in a bucket of registers: what it
    depends on, with what is `expected`: a version of 24 bytes, or a value. With ADD the value is a decimal
    number, to be added."""

    id: int
    bucket: str
    key: bytes
    value: bytes
    level: int
    timeout_ms: int
    ttl_ms: int
    identity: bytes
    repeats: bool = False
    after: int = 0
    defer: bool = False
    condition: int = NO_CONDITION
    expected: bytes = b""


@message(11, unchecked=ANSWERED, added={"defer": 9, "condition": 12, "expected": 12})
class Delete(NamedTuple):
    """As Set, of no value."""

    id: int
    bucket: str
    key: bytes
    level: int
    timeout_ms: int
    identity: bytes
    repeats: bool = False
    after: int = 0
    defer: bool = False
    condition: int = NO_CONDITION
    expected: bytes = b""


@message(12, unchecked=ANSWERED, added={"degrade_ms": 9})
class Get(NamedTuple):
    """Read a key. `floor` is empty, or the version that a session has seen of it: the answer must
    be that one or one that beats it. It ends with UNTAKEN where no replica is known to have taken it: a hint
    may be all that there is. `repair` false: replicas that differ are left as they are.
    `tell`: say the stable stamp, and how stale the answer may be. `stale_ms_max`: read at QUORUM if
    it may be staler than that (0: it may). `degrade_ms`: read at ONE if the level is not reached, and the
    answer is surely no staler (0: as the node's options of the bucket say; AS_ASKED: not even then)."""

    id: int
    bucket: str
    key: bytes
    level: int
    timeout_ms: int
    floor: bytes
    repair: bool
    tell: bool = False
    stale_ms_max: int = 0
    degrade_ms: int = 0


@message(13, unchecked=ANSWERED)
class Scan(NamedTuple):
    """One page of the keys that start with `prefix`, after the key `after` (empty: from the
    first), at most `limit` of them."""

    id: int
    bucket: str
    prefix: bytes
    after: bytes
    limit: int
    level: int
    timeout_ms: int


@message(20, added={"keeper": 9, "because": 9, "order": 12, "value": 12, "held": 12})
class Written(NamedTuple):
    """`outcome` 0 stored, 1 superseded, 2 lost, 3 deferred; `final` 0 in last-write buckets, in first-write
    buckets 1 while the win, this one's or that of `better`, is provisional and 2 once it is final;
    `identity`: of the write, with its version once it has one; `replicas` alternates members' numbers and
    states (`ReplicaState`); `better` is the version that won where this one did not; `partition`: that the
    key is in; `keeper`: where it was deferred, the store that keeps it; `because`: what the node does, if it
    was deferred for a limit ("takes 2 requests a second for ..."), and not for the node is overloaded.

    Of a register `final` is 2 where writes are written once, and 0 elsewhere; `better` is what the write that
    holds the key is known by, empty where it holds no value; `order`: the version of the record that the row
    held when that was decided, for sessions, empty where there was none. `held`: whether `value` tells what
    the key holds: the value to which this write lost, or the number that it has made by adding."""

    id: int
    outcome: int
    final: int
    identity: bytes
    required: int
    acknowledged: int
    replicas: list[int]
    better: bytes
    partition: int
    keeper: bytes = b""
    because: str = ""
    order: bytes = b""
    value: bytes = b""
    held: bool = False

    @property
    def version(self) -> bytes:
        """Empty where it lost before it was stamped."""
        return self.identity[PROPOSAL_BYTES : PROPOSAL_BYTES + VERSION_BYTES]

    def check(self) -> str:
        if len(self.identity) not in (PROPOSAL_BYTES, IDENTITY_BYTES):
            return "names no write"
        if len(self.order) not in (0, VERSION_BYTES):
            return "names no version"
        return "names replicas without their states" if len(self.replicas) % 2 else ""


LOSSY: Final = -2  # in place of how stale an answer is: writes may be lost, and nobody has accepted that


@message(21, unchecked=ANYTHING, added={"degraded": 9, "because": 9, "order": 12})
class Got(NamedTuple):
    """The answer to Get. `version` is that of the winner, found or not (a tombstone has one). `final`
    as in Written. If it was asked for: `stable`, the partition's stable stamp, as far as it was told,
    and `stale_ms`, how stale this may be (-1: not known; LOSSY: nobody can tell). `escalated`: it was
    read at QUORUM. `degraded`: it was read at ONE, for the level was not reached, `because` of what. `order`:
    of a register the version of its record, for sessions; `version` is then what the write is known by."""

    id: int
    found: bool
    value: bytes
    version: bytes
    expires_ms: int
    required: int
    responded: int
    diverged: bool
    repaired: int
    final: int = 0
    stable: int = 0
    stale_ms: int = -1
    escalated: bool = False
    degraded: bool = False
    because: str = ""
    order: bytes = b""


@message(22)
class Page(NamedTuple):
    """`rows` holds keys, values, versions and expiries (8 bytes, as in `Got`) in turn. The next page
    begins after the key `after`; `more` whether there may be one."""

    id: int
    rows: list[bytes]
    after: bytes
    more: bool

    def check(self) -> str:
        return "does not hold keys, values, versions and expiries in turn" if len(self.rows) % 4 else ""


@message(80)
class Shed(NamedTuple):
    """Nothing was done of these requests, for there were too many: first ids and how many follow on each, in
    turn. Not before `retry_ms` is it likely to be otherwise. `window` as in Credit."""

    ranges: list[int]
    retry_ms: int
    window: int

    def check(self) -> str:
        if len(self.ranges) % 2 or min(self.ranges, default=0) < 0:
            return "names ids without their number"
        return ""


@message(81, unchecked=ANYTHING)
class Credit(NamedTuple):
    """How many requests this connection should have under way from now on: more than that wait in vain."""

    window: int


@message(24, unchecked=ANYTHING)
class Failed(NamedTuple):
    """A request that did not succeed; `code` as in `errors`. `identity`: of a write that has a version, as
    in `Written`; otherwise empty."""

    id: int
    code: int
    text: str
    identity: bytes
    details: list[str]

    @property
    def version(self) -> bytes:
        return self.identity[PROPOSAL_BYTES : PROPOSAL_BYTES + VERSION_BYTES]


# --- transactions: several keys of registers at once -------------------------------------------------

# What is done with a key. READ: nothing, but that it must hold what is expected; HELD: nothing, but that it
# is the register of a lock (`basestore/leases.py`), and whoever has it has it under the token that is
# expected.
READ: Final = 0
SET: Final = 1
DELETE: Final = 2
HELD: Final = 3
HOLDS_NOTHING: Final = bytes(VERSION_BYTES)  # in place of the version that is expected


@message(116, since=TRANSACTIONS_SINCE)
class Commit(NamedTuple):
    """Do all of this to keys of registers at once, if each holds what is expected of it: the version that it
    was read with, HOLDS_NOTHING, or, of a key that was not read, anything (empty). `kinds`: READ, SET with
    its value and its `ttls_ms` (0: for ever), DELETE, or HELD; each key stands here once."""

    id: int
    timeout_ms: int
    buckets: list[str]
    keys: list[bytes]
    kinds: list[int]
    expected: list[bytes]
    values: list[bytes]
    ttls_ms: list[int]

    def check(self) -> str:
        columns = self.buckets, self.kinds, self.expected, self.values, self.ttls_ms
        if any(len(column) != len(self.keys) for column in columns):
            return "has columns of different lengths"
        if not set(self.kinds) <= {READ, SET, DELETE, HELD}:
            return "does what there is not"
        return "" if set(map(len, self.expected)) <= {0, VERSION_BYTES} else "expects what is no version"


@message(117, since=TRANSACTIONS_SINCE)
class Committed(NamedTuple):
    """All of it was done. Of the keys that were written, in their order: `versions`, `partitions`, and how
    many replicas each row `required`."""

    id: int
    versions: list[bytes]
    partitions: list[int]
    required: list[int]

    def check(self) -> str:
        if not len(self.versions) == len(self.partitions) == len(self.required):
            return "has columns of different lengths"
        return "" if set(map(len, self.versions)) <= {VERSION_BYTES} else "names no version"


# --- atomic batches: several keys of last-write buckets, all or nothing in the end --------------------


@message(120, since=BATCHES_SINCE)
class WriteBatch(NamedTuple):
    """Write all of this to keys of last-write buckets, all of it or nothing in the end. `kinds`: SET or
    DELETE; each key stands here once. `identity`: 8 bytes that the client has drawn; or, with `repeats`, what
    an earlier attempt is known by: nothing is written then, but what there is of that one is brought to its
    end."""

    id: int
    level: int
    timeout_ms: int
    identity: bytes
    repeats: bool
    buckets: list[str]
    keys: list[bytes]
    kinds: list[int]
    values: list[bytes]
    ttls_ms: list[int]

    def check(self) -> str:
        columns = self.buckets, self.kinds, self.values, self.ttls_ms
        if any(len(column) != len(self.keys) for column in columns):
            return "has columns of different lengths"
        if len(self.identity) not in (PROPOSAL_BYTES, IDENTITY_BYTES):
            return "names no batch"
        return "" if set(self.kinds) <= {SET, DELETE} else "does what there is not"


@message(121, since=BATCHES_SINCE)
class BatchWritten(NamedTuple):
    """All of it is applied, at `required` replicas of each key. In the order of the keys: `versions`, empty
    where one is not known any more, and `partitions`."""

    id: int
    identity: bytes
    versions: list[bytes]
    partitions: list[int]
    required: list[int]

    def check(self) -> str:
        if not len(self.versions) == len(self.partitions) == len(self.required):
            return "has columns of different lengths"
        if len(self.identity) not in (PROPOSAL_BYTES, IDENTITY_BYTES):
            return "names no batch"
        return "" if set(map(len, self.versions)) <= {0, VERSION_BYTES} else "names no version"


# --- what changes ----------------------------------------------------------------------------------

EXPIRY_BYTES: Final = 8
META_BYTES: Final = 2 * VERSION_BYTES + EXPIRY_BYTES + 1


@message(110, since=WATCH_SINCE, unchecked=ANSWERED)
class Watch(NamedTuple):
    """What has changed of the keys of a bucket that start with `prefix`. `feed`: go on with this one, from
    where its last answer ended; 0, or with a token: begin one, where the token says. Without a token from now
    on, or, with `everything`, with all that is held. About `bytes_max` are wanted, and an answer within
    `timeout_ms`, be it that nothing has changed."""

    id: int
    bucket: str
    prefix: bytes
    token: str
    feed: int
    everything: bool
    bytes_max: int
    timeout_ms: int


@message(111, since=WATCH_SINCE)
class Watched(NamedTuple):
    """The answer. `feed`: to go on with; 0: there is no such feed any more, so begin one, by the last token.
    `rows`: keys, what is known of each record, and values in turn: the version that it is known by and the
    one it is compared by, its expiry, and whether nothing is there now (1) or the value is (0). `gap`: up to
    this stamp deletions may be missing, if not 0. `token`: for all that was told up to here, if it is due;
    with it `stable`: every change up to this stamp was told; `unserved`: so many partitions no replica tells
    of now."""

    id: int
    feed: int
    rows: list[bytes]
    gap: int
    token: str
    stable: int
    unserved: int

    def check(self) -> str:
        metas = self.rows[1::3]
        sound = len(self.rows) % 3 == 0 and all(len(meta) == META_BYTES and meta[-1] < 2 for meta in metas)
        if not sound:
            return "does not hold keys, versions and values in turn"
        return "" if min(self.feed, self.gap, self.stable, self.unserved) >= 0 else "has a number below 0"
