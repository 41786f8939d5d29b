"""What clients and nodes say to each other, and its CBOR form.

A frame carries an array of messages; a message is an array of its kind and its fields, and those of
one kind that follow each other share an array. Every field has one type, so a message is checked by
comparing types, and nothing is ever missing: absent versions and records are empty strings of bytes,
"never" is 0. Pure: bytes in, messages out.

Decoding is strict (RFC 8949, section 5): no indefinite lengths, no duplicate keys, no tags, no
trailing bytes, nesting up to `DEPTH_MAX`. Whatever fails is a `ProtocolError`; the connection that
said it is closed.
"""

import io
from collections.abc import Iterable
from typing import Any, Final, NamedTuple, TypeAlias, get_args, get_origin, get_type_hints

import cbor2

PROTOCOL: Final = 3
DEPTH_MAX: Final = 4
KEY_BYTES_MAX: Final = 64 * 1024
VALUE_BYTES_MAX: Final = 1024 * 1024
BUCKET_BYTES_MAX: Final = 64
BATCH_MESSAGES_MAX: Final = 8192
PAGE_ROWS_MAX: Final = 1000
PAGE_BYTES_MAX: Final = 1024 * 1024
TIMEOUT_MS_MAX: Final = 600_000

# What became of a write, and whether a first-write win can still be contested, in `Written`.
OUTCOME_STORED: Final = 0
OUTCOME_SUPERSEDED: Final = 1
OUTCOME_LOST: Final = 2
PROVISIONAL: Final = 1
FINAL: Final = 2

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

# The ways in of a record: from the coordinator itself, or a copy of what a replica holds.
DIRECT: Final = 0
COPY: Final = 1


class ProtocolError(Exception):
    """The other side said something that is not of the protocol."""


# --- handshake -----------------------------------------------------------------------------------


class Hello(NamedTuple):
    """First words of whoever connects. A client leaves `sender` empty, and may leave the cluster's
    id and the configuration's digest empty: it then takes what it finds."""

    protocol: int
    cluster: bytes
    digest: bytes
    sender: str


class Welcome(NamedTuple):
    """The answer. `members` alternates names and addresses, in the order that receipts count;
    `first_write` names the buckets in which the first write wins."""

    protocol: int
    cluster: bytes
    sender: str
    members: list[str]
    first_write: list[str]


class Refused(NamedTuple):
    """The connection is not wanted, and why. To a node whose configuration differs, the canonical
    text of the refuser's own comes along."""

    reason: str
    configuration: str


class Differs(NamedTuple):
    """The refused node's configuration in return, so that both sides can say what differs."""

    configuration: str


# --- client to node ------------------------------------------------------------------------------


class Set(NamedTuple):
    """Write a value. `version` is empty, or that of the earlier attempt that this one repeats."""

    id: int
    bucket: str
    key: bytes
    value: bytes
    level: int
    timeout_ms: int
    ttl_ms: int
    version: bytes


class Delete(NamedTuple):
    id: int
    bucket: str
    key: bytes
    level: int
    timeout_ms: int
    version: bytes


class Get(NamedTuple):
    """Read a key. `floor` is empty, or the version that a session has seen of it: the answer must
    be that one or one that beats it. `repair` false: replicas that differ are left as they are.
    `tell`: say the stable stamp, and how stale the answer may be. `stale_ms_max`: read at QUORUM if
    it may be staler than that (0: it may)."""

    id: int
    bucket: str
    key: bytes
    level: int
    timeout_ms: int
    floor: bytes
    repair: bool
    tell: bool = False
    stale_ms_max: int = 0


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


class Status(NamedTuple):
    id: int


class Explain(NamedTuple):
    """What every member knows of a key. Nothing is repaired, nothing changes."""

    id: int
    bucket: str
    key: bytes
    timeout_ms: int


class HintsOf(NamedTuple):
    """What hints the node keeps."""

    id: int


class Replay(NamedTuple):
    """Deliver the hints now, whatever refusals there were; answered like HintsOf. `late`: and write
    those anew that come too late, unless what is held beats them."""

    id: int
    late: bool = False


class Survey(NamedTuple):
    """What all members say of some partitions: of that of a key, if `key` is not empty, or of
    `partition`, if it is not -1, or else of all, from `first` on, a page at a time. `within_ms`: let
    sessions run where the last one that was certified was begun longer ago (-1: just look); `full`:
    and scrubs likewise, with a comparison of everything."""

    id: int
    bucket: str
    key: bytes
    partition: int
    first: int
    within_ms: int
    full: bool
    timeout_ms: int


class Counters(NamedTuple):
    """All that the node has counted since it was started; answered like Status, with further facts."""

    id: int


# --- node to client ------------------------------------------------------------------------------


class Written(NamedTuple):
    """`outcome` 0 stored, 1 superseded, 2 lost; `final` 0 in last-write buckets, in first-write
    buckets 1 while the win, this one's or that of `better`, is provisional and 2 once it is final;
    `replicas` alternates member
    indices and states (`ReplicaState`); `better` is the version that won where this one did not;
    `partition`: that the key is in."""

    id: int
    outcome: int
    final: int
    version: bytes
    required: int
    acknowledged: int
    replicas: list[int]
    better: bytes
    partition: int


class Got(NamedTuple):
    """The answer to Get. `version` is that of the winner, found or not (a tombstone has one). `final`
    as in Written. If it was asked for: `stable`, the partition's stable stamp, as far as it was told,
    and `stale_ms`, how stale this may be (-1: not known). `escalated`: it was read at QUORUM."""

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


class Page(NamedTuple):
    """`rows` holds keys, values, versions and expiries (8 bytes, as in `Got`) in turn. The next page
    begins after the key `after`; `more` whether there may be one."""

    id: int
    rows: list[bytes]
    after: bytes
    more: bool


class NodeStatus(NamedTuple):
    """`facts` alternates names and values."""

    id: int
    facts: list[str]


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


class Failed(NamedTuple):
    """A request that did not succeed; `code` as in `errors`."""

    id: int
    code: int
    text: str
    version: bytes
    details: list[Any]


# --- node to node --------------------------------------------------------------------------------


class Apply(NamedTuple):
    """Take this record, which comes `way` in. `deadline_ms` here and in reads: milliseconds since
    1970 by the sender's clock, after which nobody waits and nothing need be done (0: never)."""

    id: int
    row: bytes
    record: bytes
    way: int
    deadline_ms: int


class Hinted(NamedTuple):
    """Take this record out of a hint, which its sender will then forget. `stores`: those known to have
    taken the write, 16 bytes each; if none of them is still in use it is a first delivery."""

    id: int
    row: bytes
    record: bytes
    stores: bytes


class Applied(NamedTuple):
    """These were applied as the winner, or had been before, and are as durable as the durability
    setting asks. For a Hinted: it, or a better record, is durable in any case. `sequence` is how
    far the sender's store is durable, counted since `generation`, its present opening."""

    ids: list[int]
    generation: bytes
    sequence: int


class Superseded(NamedTuple):
    """A better record is held, durably; `head` is its head."""

    id: int
    head: bytes


class Settled(NamedTuple):
    """Not taken, because it comes too late. Every version at or below `stable` is on all replicas, or
    beaten or purged there. `late`: it is a hint, and a first delivery, which is not taken any more."""

    id: int
    stable: int
    late: bool


class Rejected(NamedTuple):
    """Not done, and why. `passing`: it may be taken later, so a hint is worth keeping; in answer to a
    Read, False says that the record here is damaged."""

    id: int
    reason: str
    passing: bool


class Read(NamedTuple):
    """`healing`: to replace a damaged record, so that a store that is not whole answers too.
    `digest`: a long record's head will do. `stable`: say the stable stamp too."""

    id: int
    row: bytes
    deadline_ms: int
    healing: bool
    digest: bool
    stable: bool


class Held(NamedTuple):
    """The answer to Read; `record` is empty when the row is not held. `stable`: the stamp up to which
    the partition is the same on all replicas, if it was asked for or nothing is held; otherwise 0."""

    id: int
    record: bytes
    stable: int


class HeldDigest(NamedTuple):
    """The answer to a digest read of a long record: its head, which names version and digest."""

    id: int
    head: bytes
    stable: int


class ReadRange(NamedTuple):
    """Rows of some partitions, merged by key: those of `bucket` whose keys start with
    `prefix`, after the key `after`."""

    id: int
    partitions: list[int]
    bucket: bytes
    prefix: bytes
    after: bytes
    limit: int
    deadline_ms: int


class Range(NamedTuple):
    """The answer: rows and records in turn, and whether there are more."""

    id: int
    rows: list[bytes]
    more: bool


class Trace(NamedTuple):
    """Say what is held and what hints are kept of this row."""

    id: int
    row: bytes


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


class Inspect(NamedTuple):
    """Say how you stand, and of those among `most` partitions from `first` on that you hold, what is
    proven. `within_ms`, `full` as in Survey."""

    id: int
    first: int
    most: int
    within_ms: int
    full: bool


class Inspected(NamedTuple):
    """The answer to Inspect. `state` up, starting or forgetful, and why; `clock`: what is wrong with
    the sender's clock, or nothing; `wall_ms` now and `stamp`: the greatest of its clock, `lag_ms`: how
    far its closed stamps stay behind. `counts`: sessions certified, records taken, records healed, sums
    corrected, bytes sent by sessions, since it was started. For each partition: `numbers` itself, its
    records, its stable stamp, and how long ago its last scrub was begun and was
    ended (ms, -1: before this start); `roots` 8 bytes of its root; and in `pairs`, for each other
    replica, partition, member, closed stamp in the certificate with it, when that was made (ms since
    1970, 0: there is none), and how long ago its session was begun (ms, -1: before this start).
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


class Ping(NamedTuple):
    """A heartbeat: the sender's clocks, whether its store answers, and its durable sequence.
    `only_copies`: partitions of which it keeps hints that are the only copy of a write, and the least
    stamp of these, in turn."""

    sent_us: int
    wall_ms: int
    whole: bool
    generation: bytes
    sequence: int
    only_copies: list[int]


class Pong(NamedTuple):
    sent_us: int
    wall_ms: int


class Identity(NamedTuple):
    """Which store the sender runs on: the first message on a new link. `again` asks for the
    receiver's own once more, for something was lost."""

    store: bytes
    generation: bytes
    sequence: int
    whole: bool
    again: bool


class Remembered(NamedTuple):
    """What the sender remembers of the receiver's store, durably, the present one included:
    the last store (with generation and sequence) and whether there was an earlier one. `forgetful`: the
    sender may have forgotten something itself, this too."""

    store: bytes
    generation: bytes
    sequence: int
    earlier: bool
    forgetful: bool


class Confirmed(NamedTuple):
    """What the receiver remembers of the sender's store is still there. Only now does the receiver
    count on the sender, and remember its present generation instead."""

    store: bytes
    generation: bytes
    sequence: int


# --- anti-entropy: one session of two replicas of a partition ---------------------------------------
#
# The one who opens it says Syn; all that follows carries the session's number and counts, on either
# side, from 1. Sequences are those of the partition's ledger, stamps those of versions. Stamps but for
# the Syn's `stable` count from that; a `closed` of -1: this store's word does not count. `tag`: which
# stores all replicas run on, as far as the sender knows (0 with fewer than 4). `claims`: what is known
# of the claims of replicas, each with member, stamp and tag (`repair.certificate`).


class Syn(NamedTuple):
    """A replica opens a session. `root`: its root, sealed with both stores. `mine` and `theirs`: the
    newest certificate, and `ahead` the changes since then; without one, `mine` is -1, `theirs` the
    sequence here."""

    session: int
    partition: int
    root: bytes
    mine: int
    theirs: int
    ahead: int
    stable: int
    closed: int
    whole: bool
    tag: int
    claims: list[int]


class Same(NamedTuple):
    """The roots are equal: both hold the same, at the Syn's sequence there and `sequence` here."""

    session: int
    number: int
    sequence: int
    stable: int
    closed: int
    whole: bool
    tag: int
    claims: list[int]


class Sums(NamedTuple):
    """Without a certificate: sums of the nodes listed, or, when none is listed, of all 64; the answer
    lists the nodes that differ with the sums of their leaves. A sum is 8 bytes."""

    session: int
    number: int
    stable: int
    whole: bool
    nodes: bytes
    sums: bytes


class Ask(NamedTuple):
    """List what you have: since the certificate (`mine` here, `theirs` there), or, when they are -1, in
    these `leaves` (2 bytes each; 65535 stands for all)."""

    session: int
    number: int
    mine: int
    theirs: int
    stable: int
    whole: bool
    leaves: bytes


class Listing(NamedTuple):
    """A part of a list: of runs since a certificate, or of digests in `leaves`, as in Ask."""

    session: int
    number: int
    mine: int
    theirs: int
    stable: int
    whole: bool
    leaves: bytes
    part: bytes
    more: bool


class Want(NamedTuple):
    """A part of what the receiver of a list lacks of it: runs of numbers, or of places in the list."""

    session: int
    number: int
    part: bytes
    more: bool


class Entries(NamedTuple):
    """Rows, records, and heads that the snapshot had of the row (empty: this record's), in turn."""

    session: int
    number: int
    rows: list[bytes]
    last: bool


class Taken(NamedTuple):
    """Entries are durable; the next may come."""

    session: int
    number: int


class Certify(NamedTuple):
    """All entries of the other side are durable here. `root`: the virtual root, sealed with both
    stores; `sequence` and `closed`: those of the snapshot."""

    session: int
    number: int
    root: bytes
    sequence: int
    closed: int
    tag: int
    claims: list[int]


class Going(NamedTuple):
    """The session goes on: its side has much to look at before it says more."""

    session: int


class Abort(NamedTuple):
    """The session is over; nothing came of it."""

    session: int
    reason: str


class Keep(NamedTuple):
    """From a coordinator to its own node: keep a hint for a member. `takers`: members known to have
    taken the write. Never leaves the node."""

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


Message: TypeAlias = (
    Hello | Welcome | Refused | Differs | Set | Delete | Get | Scan | Status | Written | Got | Page
    | NodeStatus | Failed | Apply | Applied | Superseded | Rejected | Read | Held | HeldDigest | ReadRange
    | Range | Explain | HintsOf | Replay | Counters | Explained | HintPiles | Trace | Traced
    | Ping | Pong | Identity | Remembered | Confirmed | Keep | Kept | Settled | Syn | Same | Sums | Ask
    | Listing | Want | Entries | Taken | Certify | Abort | Going | Hinted | Survey | Surveyed | Inspect
    | Inspected
)  # fmt: skip


# What may travel, by the number that says so on the wire.
KINDS: Final[dict[int, type[Any]]] = {
    1: Hello,
    2: Welcome,
    3: Refused,
    4: Differs,
    10: Set,
    11: Delete,
    12: Get,
    13: Scan,
    14: Status,
    15: Explain,
    16: HintsOf,
    17: Replay,
    18: Counters,
    19: Survey,
    20: Written,
    21: Got,
    22: Page,
    23: NodeStatus,
    24: Failed,
    25: Explained,
    26: HintPiles,
    27: Surveyed,
    30: Apply,
    31: Applied,
    32: Superseded,
    33: Rejected,
    34: Read,
    35: Held,
    36: ReadRange,
    37: Range,
    38: HeldDigest,
    40: Ping,
    41: Pong,
    42: Identity,
    43: Remembered,
    44: Confirmed,
    45: Trace,
    46: Traced,
    47: Settled,
    48: Hinted,
    49: Inspect,
    39: Inspected,
    50: Syn,
    51: Same,
    52: Sums,
    53: Ask,
    54: Listing,
    55: Want,
    56: Entries,
    57: Taken,
    58: Certify,
    59: Abort,
    60: Going,
}


# --- CBOR ----------------------------------------------------------------------------------------


class _Form(NamedTuple):
    """How a kind of message is checked: the types of its fields, and of its lists' elements."""

    make: type[Any]
    types: tuple[type, ...]
    lists: tuple[tuple[int, type], ...]


def _form(kind: type[Any]) -> _Form:
    hints = get_type_hints(kind)
    fields = [hints[name] for name in kind._fields]
    lists = tuple((at, get_args(hint)[0]) for at, hint in enumerate(fields) if get_origin(hint))
    return _Form(kind, tuple(get_origin(hint) or hint for hint in fields), lists)


_FORMS: Final = {number: _form(kind) for number, kind in KINDS.items()}
_NUMBERS: Final = {kind: number for number, kind in KINDS.items()}


def _refuse(*_: object) -> None:
    raise ProtocolError("a message contains a CBOR tag; the protocol uses none")


# Tags that cbor2 would decode by itself; all others reach the hook.
_SEMANTIC: Final = dict.fromkeys(
    (*range(6), *range(25, 38), 100, *range(256, 262), 1004, 43000, 55799), _refuse
)


def encode(messages: Iterable[Message]) -> bytes:
    """One frame's payload. Neighbours of one kind share an array: [kind, fields, fields, ...]."""
    runs: list[list[Any]] = []
    kind: type[Any] | None = None
    for message in messages:
        if type(message) is not kind:
            kind = type(message)
            run: list[Any] = [_NUMBERS[kind]]
            runs.append(run)
        run += message
    return cbor2.dumps(runs)


def decode(payload: bytes) -> list[Message]:
    """The messages of a frame's payload, each checked; ProtocolError on anything else."""
    source = io.BytesIO(payload)
    try:
        runs = cbor2.CBORDecoder(
            source,
            tag_hook=_refuse,
            semantic_decoders=_SEMANTIC,
            max_depth=DEPTH_MAX,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            strict_hashable_types=True,
        ).decode()
    except (cbor2.CBORError, ValueError, TypeError, RecursionError) as error:
        raise ProtocolError(f"a frame is not valid CBOR: {error}") from error
    if source.tell() != len(payload):
        raise ProtocolError(f"{len(payload) - source.tell()} bytes follow the end of a frame's CBOR")
    if type(runs) is not list:
        raise ProtocolError("a frame is an array of messages")
    messages: list[Message] = []
    for run in runs:
        messages += _messages(run, BATCH_MESSAGES_MAX - len(messages))
    return messages


def _messages(run: Any, room: int) -> Iterable[Message]:
    """The messages of one array; ProtocolError unless their fields have the types of their kind."""
    if type(run) is not list or not run or type(run[0]) is not int:
        raise ProtocolError("a message is an array that starts with its kind")
    form = _FORMS.get(run[0])
    if form is None:
        raise ProtocolError(f"there is no message of kind {run[0]}; the other side may be newer")
    make, types, lists = form
    del run[0]
    count, rest = divmod(len(run), len(types))
    if count > room:
        raise ProtocolError(f"a frame has more than {BATCH_MESSAGES_MAX} messages")
    if rest or not count or tuple(map(type, run)) != types * count:
        raise ProtocolError(f"the fields of a {make.__name__} have the wrong number or types")
    new = tuple.__new__  # what _make does, less the checks just made
    messages = [new(make, fields) for fields in zip(*[iter(run)] * len(types), strict=True)]
    for at, element in lists:
        for message in messages:
            if element is not Any and not set(map(type, message[at])) <= {element}:
                raise ProtocolError(f"a list in a {make.__name__} has elements of the wrong type")
    return messages
