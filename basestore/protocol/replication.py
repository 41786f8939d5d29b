"""Messages of a record's way to a replica and back: writes, acknowledgements, reads and ranges; and how
replicas agree on one, in a register. That an accept request was taken is said by `Applied`, as of any write.

Owns their fields, and refuses answers whose rows and records are too short to be any. Says nothing of levels:
these are the coordinator's affair. Keep and Kept, which ask a node for a hint, never leave it.
"""

from typing import Final, NamedTuple

from basestore.protocol.limits import BUCKET_BYTES_MAX, SERIAL_SINCE, TRANSACTIONS_SINCE
from basestore.protocol.registry import ANSWERED, ANYTHING, message
from basestore.repair.paxos import BALLOT_BYTES
from basestore.repair.version import (
    HEAD_BYTES,
    IDENTITY_BYTES,
    PROPOSAL_BYTES,
    RECORD_BYTES_MIN,
    VERSION_BYTES,
)
from basestore.repair.write_repair import STORE_BYTES

# The ways in of a record: from the coordinator itself, or a copy of what a replica holds.
DIRECT: Final = 0
COPY: Final = 1
NO_ROWS: Final[list[bytes]] = []


@message(30, unchecked=ANSWERED)
class Apply(NamedTuple):
    """Take this record, which comes `way` in. `deadline_ms` here and in reads: milliseconds since
    1970 by the sender's clock, after which nobody waits and nothing need be done (0: never)."""

    id: int
    row: bytes
    record: bytes
    way: int
    deadline_ms: int


@message(48)
class Hinted(NamedTuple):
    """Take this record out of a hint, which its sender will then forget. `stores`: those known to have
    taken the write, 16 bytes each; if none of them is still in use it is a first delivery."""

    id: int
    row: bytes
    record: bytes
    stores: bytes

    def check(self) -> str:
        return "names stores that are none" if len(self.stores) % STORE_BYTES else ""


@message(31, unchecked=ANYTHING)
class Applied(NamedTuple):
    """These were applied as the winner, or had been before, and are as durable as the durability
    setting asks. For a Hinted: it, or a better record, is durable in any case. `sequence` is how
    far the sender's store is durable, counted since `generation`, its present opening."""

    ids: list[int]
    generation: bytes
    sequence: int


@message(32)
class Superseded(NamedTuple):
    """A better record is held, durably; `head` is its head."""

    id: int
    head: bytes

    def check(self) -> str:
        return "" if len(self.head) == HEAD_BYTES else "names no record"


@message(47, unchecked=ANYTHING)
class Settled(NamedTuple):
    """Not taken, because it comes too late. Every version at or below `stable` is on all replicas, or
    beaten or purged there. `late`: it is a hint, and a first delivery, which is not taken any more, or a
    copy of what may be lost there."""

    id: int
    stable: int
    late: bool


@message(33, unchecked=ANYTHING)
class Rejected(NamedTuple):
    """Not done, and why. `passing`: it may be taken later, so a hint is worth keeping; in answer to a
    Read, False says that the record here is damaged."""

    id: int
    reason: str
    passing: bool


@message(73, since=10, unchecked=ANYTHING)
class Moved(NamedTuple):
    """Not done: who holds the row has changed since the epoch that the asker has told, and it goes by `epoch`
    here. To be asked anew once that is in use there, too."""

    id: int
    epoch: int


@message(34, unchecked=ANSWERED)
class Read(NamedTuple):
    """`healing`: to replace a damaged record, so that a store that is not whole answers too.
    `digest`: a long record's head will do. `stable`: say the stable stamp too."""

    id: int
    row: bytes
    deadline_ms: int
    healing: bool
    digest: bool
    stable: bool


@message(35, added={"accepted": SERIAL_SINCE})
class Held(NamedTuple):
    """The answer to Read; `record` is empty when the row is not held. `stable`: the stamp up to which
    the partition is the same on all replicas, if it was asked for or nothing is held; otherwise 0. Told with
    it: `lossy`, it says nothing of what was lost before, and nobody has accepted that; `lost`, what was
    written up to this stamp may have been lost with a disk, be it that a quorum never had it. `accepted`: for
    healing, the record of a register that was accepted there and is not learned, or nothing."""

    id: int
    record: bytes
    stable: int
    lossy: bool = False
    lost: int = 0
    accepted: bytes = b""

    def check(self) -> str:
        lengths = len(self.record), len(self.accepted)
        return "carries no record" if any(0 < each < RECORD_BYTES_MIN for each in lengths) else ""


@message(38)
class HeldDigest(NamedTuple):
    """The answer to a digest read of a long record: its head, which names version and digest."""

    id: int
    head: bytes
    stable: int
    lossy: bool = False
    lost: int = 0

    def check(self) -> str:
        return "" if len(self.head) == HEAD_BYTES else "names no record"


@message(36, added={"serial": SERIAL_SINCE})
class ReadRange(NamedTuple):
    """Rows of some partitions, merged by key: those of `bucket` whose keys start with `prefix`, after
    the key `after`, until `limit` of them live. `now_ms`: when those with an expiry are to live, as
    milliseconds since 1970 by the sender's clock, which alone judges it. `serial`: of registers, as acceptors
    know them."""

    id: int
    partitions: list[int]
    bucket: bytes
    prefix: bytes
    after: bytes
    limit: int
    now_ms: int
    deadline_ms: int
    serial: bool = False

    def check(self) -> str:
        return "names a bucket that is too long" if len(self.bucket) > BUCKET_BYTES_MAX else ""


@message(37, added={"unlearned": SERIAL_SINCE})
class Range(NamedTuple):
    """The answer: rows and records in turn, and whether there are more. Records that do not live come
    without their values. `stables`: the stable stamps of the partitions, in the order of the question.
    `unlearned`: rows of which more is accepted than is here, if that was asked for."""

    id: int
    rows: list[bytes]
    more: bool
    stables: list[int]
    unlearned: list[bytes] = NO_ROWS

    def check(self) -> str:
        rows, records = self.rows[::2], self.rows[1::2]
        if len(rows) != len(records) or (self.more and not rows) or min(map(len, rows), default=4) < 4:
            return "does not hold rows and records in turn"
        if min(map(len, records), default=RECORD_BYTES_MIN) < RECORD_BYTES_MIN:
            return "carries what is no record"
        return "names what is no row" if min(map(len, self.unlearned), default=4) < 4 else ""


# --- registers: the requests of Paxos (`repair/paxos.py`); a ballot is 16 bytes ----------------------

WRITE_BYTES: Final = PROPOSAL_BYTES + VERSION_BYTES


def _no_ballot(ballot: bytes) -> str:
    return "" if len(ballot) == BALLOT_BYTES else "names no ballot"


@message(100, since=SERIAL_SINCE)
class Prepare(NamedTuple):
    """Promise this ballot, and say what is known of the row. `deadline_ms` as in Apply."""

    id: int
    row: bytes
    ballot: bytes
    deadline_ms: int

    def check(self) -> str:
        return _no_ballot(self.ballot)


@message(101, since=SERIAL_SINCE)
class Promised(NamedTuple):
    """The answer to Prepare and to Peek; the fields as in `repair.paxos.Told`."""

    id: int
    record: bytes
    learned: bool
    since: int
    purged: int

    def check(self) -> str:
        return "carries no record" if 0 < len(self.record) < RECORD_BYTES_MIN else ""


@message(102, since=SERIAL_SINCE)
class Accept(NamedTuple):
    """Accept this record, under the ballot with which its version begins. `following`: a ballot of the same
    proposer that is promised by that, or empty."""

    id: int
    row: bytes
    record: bytes
    following: bytes
    deadline_ms: int

    def check(self) -> str:
        if len(self.record) < RECORD_BYTES_MIN:
            return "carries no record"
        return _no_ballot(self.following) if self.following else ""


@message(104, since=SERIAL_SINCE)
class Refused(NamedTuple):
    """Neither promised nor accepted: the ballot is too low. `ballot`: one at or above all that
    stand against it."""

    id: int
    ballot: bytes

    def check(self) -> str:
        return _no_ballot(self.ballot)


@message(105, since=SERIAL_SINCE)
class Learn(NamedTuple):
    """Of these rows what was accepted under these ballots is chosen, each in turn."""

    rows: list[bytes]
    ballots: list[bytes]

    def check(self) -> str:
        if len(self.rows) != len(self.ballots):
            return "does not name a ballot for each row"
        return next((wrong for wrong in map(_no_ballot, self.ballots) if wrong), "")


@message(106, since=SERIAL_SINCE, unchecked=ANSWERED)
class Peek(NamedTuple):
    """Say what is known of the row, as to Prepare, and promise nothing."""

    id: int
    row: bytes
    deadline_ms: int


@message(107, since=SERIAL_SINCE, added={"lays": TRANSACTIONS_SINCE, "as_is": TRANSACTIONS_SINCE})
class Forward(NamedTuple):
    """From the node that a client has asked: do this with a register, as the one that writes its row.
    `reads`: nothing is written. `condition`, `expected` and `ttl_ms` as in Set; `identity`: the proposal,
    and, of an earlier attempt, the version behind it, if that is known; `again`: there was one. `left_ms`:
    how long its client waits yet. `lays`: the transaction of the intent; `as_is`: one is read as such."""

    id: int
    row: bytes
    value: bytes
    ttl_ms: int
    tombstone: bool
    condition: int
    expected: bytes
    identity: bytes
    again: bool
    reads: bool
    left_ms: int
    lays: bytes = b""
    as_is: bool = False

    def check(self) -> str:
        if len(self.lays) not in (0, BALLOT_BYTES):
            return "lays an intent of no transaction"
        if len(self.identity) not in (PROPOSAL_BYTES, WRITE_BYTES) or len(self.row) < 4:
            return "names no write"
        return "" if self.left_ms >= 0 and self.ttl_ms >= 0 else "has a time below 0"


@message(108, since=SERIAL_SINCE)
class ForwardDone(NamedTuple):
    """The answer. `outcome` as in Written; `version`: that the write is known by. `record`: what the row
    holds, if the write was lost, has added to a number, or was a read; `order`: its version. `required` and
    `replicas` as in Written. Or the error `code`, with its text, details, and the write's identity."""

    id: int
    outcome: int
    version: bytes
    order: bytes
    record: bytes
    required: int
    replicas: list[int]
    code: int
    text: str
    details: list[str]
    identity: bytes

    def check(self) -> str:
        if 0 < len(self.record) < RECORD_BYTES_MIN:
            return "carries no record"
        if not {len(self.order), len(self.version)} <= {0, VERSION_BYTES}:
            return "names no version"
        if len(self.identity) not in (0, PROPOSAL_BYTES, IDENTITY_BYTES):
            return "names no write"
        return "names replicas without their states" if len(self.replicas) % 2 else ""


# What a replica of a register is to its rows: only an acceptor counts. It is barred until it is taken in, for
# its store was lost; unbound, where the topology names another, or none; in memory, where it would forget.
ACCEPTOR: Final = "acceptor"
BARRED: Final = "barred"
UNBOUND: Final = "unbound"
IN_MEMORY: Final = "memory"
ROLES: Final = frozenset((ACCEPTOR, BARRED, UNBOUND, IN_MEMORY))


class AcceptorRow(NamedTuple):
    """What a member tells an operator of a row of a register (`Traced` in `operator.py`). `role`: one of
    ROLES, of the id of its `store`; `promised`: a ballot, or empty. `accepted`: the record that it has
    accepted and not learned, without its value, or empty; under which epoch of the seats; how long ago (ms,
    -1: before this start), and by which version its write is known. `learned_as`: the same of what it has
    learned."""

    number: int
    store: bytes
    role: str
    promised: bytes
    accepted: bytes
    since: int
    age_ms: int
    accepted_as: bytes
    learned_as: bytes


NO_ACCEPTORS: Final[list[AcceptorRow]] = []


def check_acceptors(rows: list[AcceptorRow]) -> str:
    """Why these make no sense, or nothing."""
    sound = all(
        row.role in ROLES
        and len(row.promised) in (0, BALLOT_BYTES)
        and (len(row.accepted), len(row.accepted_as)) in ((0, 0), (RECORD_BYTES_MIN, VERSION_BYTES))
        and len(row.learned_as) in (0, VERSION_BYTES)
        for row in rows
    )
    return "" if sound else "does not say what an acceptor holds"


# --- inside a node ---------------------------------------------------------------------------------


class Keep(NamedTuple):
    """From a coordinator to its own node: keep a hint. `takers`: members known to have taken the write."""

    id: int
    member: int
    row: bytes
    record: bytes
    only_copy: bool
    takers: list[int]


class Kept(NamedTuple):
    """The hint is durable, or could not be stored. Never leaves the node."""

    id: int
    member: int
    stored: bool
