"""Keyspace: what the keys of a store look like, so that nobody else builds one.

A key begins with a letter that says what it is. Rows begin with the two bytes of their partition, so what
is held of a partition lies together:

    r row                         a record, and its sequence
    q row                         what was promised and accepted of it (`registers/acceptors.py`)
    i row                         that it holds an intent (`registers/laid_intents.py`, `batches/parts.py`)
    q partition                   the ballot up to which none is taken there
    s partition                   the sums and stamps of what is held of it (`replica/summaries.py`)
    n partition, node             the sums of its leaves
    l partition, sequence         what was stored then
    t partition, stamp, row       what may be purged once that stamp is stable
    k commit                      what a commit has changed in s, n and l, until a checkpoint writes it there
    c partition, member           a certificate (`anti_entropy/certificates.py`)
    h member, row                 a hint (`handoff/hints.py`); a member, stamp, row: the same by age; e ...:
                                  those that come too late
    g index                       an entry of the cluster's log (`membership/group_log.py`)
    d member, partition           a debt: writes that a member may lack, and no hint is kept of
    x partition, member, sources  up to when writes may be lost (`replica/losses.py`); the member's number
    m name                        a fact about the store itself

Integers are big-endian, so that keys sort as numbers do. In h, a, e and d a member is its name with its
length in front, so that no name begins with another; in c and m it is the bare name, for nothing follows
it. A *span* is (first key, first key behind it), as `Engine.scan` takes it. Decides and stores nothing.
"""

from collections.abc import Iterable
from typing import TypeAlias

Span: TypeAlias = tuple[bytes, bytes]

DATA = b"r"
ACCEPTOR = b"q"
INTENT = b"i"
SUMMARY = b"s"
NODE = b"n"
LOG = b"l"
DUE = b"t"
LOG_RECORD = b"k"
CERTIFICATE = b"c"
HINT = b"h"
AGE = b"a"
LATE_AGE = b"e"
DEBT = b"d"
ENTRY = b"g"
LOSS = b"x"
META = b"m"

PARTITION_BYTES = 2
SEQUENCE_BYTES = 8
STAMP_BYTES = 8
COMMIT_BYTES = 8
NUMBER_BYTES = 2
INDEX_BYTES = 8
_LENGTH_BYTES = 2
_LETTER = 1
_PEER = META + b"peer/"
_HEARD = META + b"heard/"
_SCRUBBED = META + b"scrubbed/"
_SUSPECT = META + b"suspect/"
_DROPPED = META + b"dropped/"
_UNFIT = META + b"unfit/"
_DEPARTED = META + b"departed/"
_REFUSED = META + b"refused/"


def whole(prefix: bytes) -> Span:
    """All keys that begin so."""
    stem = prefix.rstrip(b"\xff")
    return prefix, stem[:-1] + bytes((stem[-1] + 1,))


def after(key: bytes) -> bytes:
    """The first key behind this one."""
    return key + b"\0"


def partition_prefix(partition: int) -> bytes:
    """What the rows of a partition begin with."""
    return partition.to_bytes(PARTITION_BYTES)


# --- records -------------------------------------------------------------------------------------


def each_record(rows: Iterable[bytes]) -> list[bytes]:
    """As `record`, of each."""
    return [DATA + row for row in rows]


def record(row: bytes) -> bytes:
    return DATA + row


def row_of(key: bytes) -> bytes:
    """The row of the key of a record, or of an acceptor."""
    return key[_LETTER:]


def records() -> Span:
    return whole(DATA)


def records_of(partition: int) -> Span:
    return records_from(partition_prefix(partition), partition)


def records_from(row: bytes, partition: int) -> Span:
    """The records of a partition from this row on."""
    return DATA + row, DATA + partition_prefix(partition + 1)


def records_beginning(stem: bytes) -> Span:
    """The records whose rows begin so."""
    return whole(DATA + stem)


def records_between(first: bytes, end: bytes) -> Span:
    """Records from one row to another, without that."""
    return DATA + first, DATA + end


# --- acceptors -----------------------------------------------------------------------------------


def acceptor(row: bytes) -> bytes:
    """What was promised and accepted of a row; `row_of` as of a record."""
    return ACCEPTOR + row


def floor(partition: int) -> bytes:
    """The ballot up to which an acceptor takes none of a partition: in front of its rows."""
    return ACCEPTOR + partition_prefix(partition)


def acceptors(after: bytes = b"") -> Span:
    """What `acceptor` and `floor` keep of all rows and partitions behind this row."""
    return ACCEPTOR + after + (b"\0" if after else b""), whole(ACCEPTOR)[1]


def intent(row: bytes) -> bytes:
    """That a row holds an intent; `row_of` as of a record."""
    return INTENT + row


def intents() -> Span:
    return whole(INTENT)


# --- summaries; `prefix` is that of their partition ----------------------------------------------


def summary(prefix: bytes) -> bytes:
    return SUMMARY + prefix


def node(prefix: bytes, number: int) -> bytes:
    return NODE + prefix + bytes((number,))


def nodes_of(prefix: bytes) -> Span:
    return whole(NODE + prefix)


def node_of(key: bytes) -> tuple[bytes, int]:
    """The partition's prefix, and the node."""
    return key[_LETTER:-1], key[-1]


def line(prefix: bytes, sequence: bytes) -> bytes:
    """A line of the apply log; its sequence as it is stored with the record."""
    return LOG + prefix + sequence


def lines(prefix: bytes, first: int, last: int) -> Span:
    return line(prefix, first.to_bytes(SEQUENCE_BYTES)), line(prefix, (last + 1).to_bytes(SEQUENCE_BYTES))


def sequence_of(key: bytes) -> int:
    """Of a line's key."""
    return int.from_bytes(key[-SEQUENCE_BYTES:])


def log_record(commit: int) -> bytes:
    return LOG_RECORD + commit.to_bytes(COMMIT_BYTES)


def commit_of(key: bytes) -> int:
    """Of a log record's key."""
    return int.from_bytes(key[_LETTER:])


def due(row: bytes, stamp: int) -> bytes:
    return DUE + row[:PARTITION_BYTES] + stamp.to_bytes(STAMP_BYTES) + row


def dues(partition: int, upto: int, after: int = -1) -> Span:
    """What may be purged once `upto` is stable, but not yet when `after` is."""
    start = DUE + partition_prefix(partition)
    return start + (after + 1).to_bytes(STAMP_BYTES), start + (upto + 1).to_bytes(STAMP_BYTES)


def due_of(key: bytes) -> tuple[int, bytes]:
    """Since which stamp, and the row."""
    behind = _LETTER + PARTITION_BYTES + STAMP_BYTES
    return int.from_bytes(key[behind - STAMP_BYTES : behind]), key[behind:]


# --- certificates --------------------------------------------------------------------------------


def certificate(partition: int, name: str) -> bytes:
    return CERTIFICATE + partition_prefix(partition) + name.encode()


def certificates() -> Span:
    return whole(CERTIFICATE)


def certificate_of(key: bytes) -> tuple[int, str]:
    """The partition, and the member's name."""
    behind = _LETTER + PARTITION_BYTES
    return int.from_bytes(key[_LETTER:behind]), key[behind:].decode()


# --- hints and debts; `member` as `member_prefix` makes it ---------------------------------------


def member_prefix(name: str) -> bytes:
    encoded = name.encode()
    return len(encoded).to_bytes(_LENGTH_BYTES) + encoded


def hint(member: bytes, row: bytes) -> bytes:
    return HINT + member + row


def hints_for(member: bytes) -> Span:
    return whole(HINT + member)


def hints_of(member: bytes, partition: int) -> Span:
    """Those for a member of rows of a partition."""
    return whole(HINT + member + partition_prefix(partition))


def hints() -> Span:
    """Those for all members."""
    return whole(HINT)


def row_of_hint(key: bytes) -> bytes:
    """The row of a hint's key, whomever it is for."""
    behind = _LETTER + _LENGTH_BYTES
    return key[behind + int.from_bytes(key[_LETTER:behind]) :]


def hinted_row(member: bytes, key: bytes) -> bytes:
    return key[_LETTER + len(member) :]


def age(member: bytes, stamp: int, row: bytes, *, late: bool) -> bytes:
    """A hint's place in the order of age. Late ones have an order of their own."""
    return (LATE_AGE if late else AGE) + member + stamp.to_bytes(STAMP_BYTES) + row


def ages(member: bytes, *, late: bool) -> Span:
    return whole((LATE_AGE if late else AGE) + member)


def ages_before(member: bytes, stamp: int) -> Span:
    """Hints older than this, late ones aside."""
    return AGE + member, AGE + member + stamp.to_bytes(STAMP_BYTES)


def aged_row(member: bytes, key: bytes) -> bytes:
    return key[_LETTER + len(member) + STAMP_BYTES :]


def debt(member: bytes, prefix: bytes) -> bytes:
    """What is owed of the partition with this prefix."""
    return DEBT + member + prefix


def debts_of(member: bytes) -> Span:
    return whole(DEBT + member)


def indebted_partition(key: bytes) -> int:
    return int.from_bytes(key[-PARTITION_BYTES:])


# --- the cluster's log ---------------------------------------------------------------------------


def entry(index: int) -> bytes:
    return ENTRY + index.to_bytes(INDEX_BYTES)


def entries() -> Span:
    return whole(ENTRY)


def index_of_entry(key: bytes) -> int:
    return int.from_bytes(key[_LETTER:])


# --- losses --------------------------------------------------------------------------------------


def loss(partition: int, number: int, sources: int) -> bytes:
    return LOSS + partition_prefix(partition) + number.to_bytes(NUMBER_BYTES) + bytes((sources,))


def losses() -> Span:
    return whole(LOSS)


def loss_of(key: bytes) -> tuple[int, int, int]:
    """The partition, the member's number, and how many sources it had."""
    behind = _LETTER + PARTITION_BYTES
    return int.from_bytes(key[_LETTER:behind]), int.from_bytes(key[behind:-1]), key[-1]


# --- facts ---------------------------------------------------------------------------------------


def fact(name: str) -> bytes:
    """A fact about the store itself."""
    return META + name.encode()


def peer(name: str) -> bytes:
    """What is remembered of a member's store."""
    return _PEER + name.encode()


def heard(name: str) -> bytes:
    """The openings of a member's store that are only heard of."""
    return _HEARD + name.encode()


def peers() -> Span:
    return whole(_PEER)


def peer_of(key: bytes) -> str:
    return key[len(_PEER) :].decode()


def scrubbed(partition: int) -> bytes:
    """When a partition was scrubbed."""
    return _SCRUBBED + partition_prefix(partition)


def dropped(partition: int) -> bytes:
    """Up to which drop of a bucket all has gone from a partition."""
    return _DROPPED + partition_prefix(partition)


def all_dropped() -> Span:
    return whole(_DROPPED)


def suspect(partition: int) -> bytes:
    """That the sums of a partition are to be counted anew."""
    return _SUSPECT + partition_prefix(partition)


def suspects() -> Span:
    return whole(_SUSPECT)


def unfit(partition: int) -> bytes:
    """That this store has been given a partition, and does not yet hold all that it must."""
    return _UNFIT + partition_prefix(partition)


def unfits() -> Span:
    return whole(_UNFIT)


def refused(partition: int) -> bytes:
    """Up to which stamp no part of a batch is taken there as a first delivery."""
    return _REFUSED + partition_prefix(partition)


def all_refused() -> Span:
    return whole(_REFUSED)


def partition_of(key: bytes) -> int:
    """Of one of those that end with it: `suspect`, `unfit`, `refused`."""
    return int.from_bytes(key[-PARTITION_BYTES:])


def departed(partition: int) -> bytes:
    """The stores that have left a partition once the others had all that they held."""
    return _DEPARTED + partition_prefix(partition)
