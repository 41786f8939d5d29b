"""Intents: what a transaction lays on each row that it is to write, until it is decided. Pure.

A *write intent* (CockroachDB's word) is a record of a register like any other: agreed on by the replicas of
the row, learned, exchanged. It holds what the row becomes if the transaction commits, and the record whose
place it took, which the row goes back to if it does not. So whoever meets one needs nothing but the decision:

    k: "old", known as A      transaction t lays its intent on k, if k holds A still
    k: intent, known as I     of t: "new"; it stands in the place of the record of A
    t is committed            k: "new", known as I: the same write, in its final form
    or rolled back            k: "old", known as A, accepted once more: who compares with A finds it again

Who reads at SERIAL, or writes, has the intent *settled* first; who reads at ONE is shown the old record, for
a read at ONE may be behind. A transaction is known by a ballot (`paxos.py`): that under which its coordinator
may have it committed, in a register of its own, and under no other:

    nothing      nobody has decided; who finds it so for too long writes ABORTED, under a later ballot
    COMMITTED    and the rows with its intents, all of which were laid before; it goes once all are settled
    ABORTED      it will not be committed any more
    deleted      all intents of what was committed are settled; so one that is met after that is to be undone.
                 What was decided is told by what the deletion has replaced (`proven`), as long as it is there

Owns these forms. Decides nothing, and knows nobody who is asked.
"""

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple, Self

from basestore.repair.version import DESCENT_BYTES, VERSION_BYTES, Record

COMMITTED: Final = b"C"
ABORTED: Final = b"A"
_FORM: Final = struct.Struct(">16sBQI")
_LENGTH: Final = struct.Struct(">I")


class Intent(NamedTuple):
    """`transaction`: by what it is known, 16 bytes. What the row becomes: `value`, or a tombstone; `old`: the
    record whose place the intent took, encoded, or nothing."""

    transaction: bytes
    value: bytes
    tombstone: bool
    expires_ms: int
    old: bytes

    def encode(self) -> bytes:
        """The value of its record."""
        form = _FORM.pack(self.transaction, self.tombstone, self.expires_ms, len(self.old))
        return form + self.old + self.value

    @classmethod
    def of(cls, record: Record) -> Self:
        """That which this record holds."""
        value = record.value
        transaction, tombstone, expires_ms, length = _FORM.unpack_from(value)
        start = _FORM.size + length
        return cls(transaction, value[start:], bool(tombstone), expires_ms, value[_FORM.size : start])


class Settled(NamedTuple):
    """What a row holds once the transaction is decided, as `Record.seal` takes it."""

    value: bytes
    tombstone: bool
    expires_ms: int
    proposal: bytes
    descent: bytes


def settled(record: Record, *, committed: bool) -> Settled:
    """What comes in the place of an intent."""
    intent = Intent.of(record)
    if committed:
        return Settled(intent.value, intent.tombstone, intent.expires_ms, record.proposal, record.descent)
    if intent.old:
        old = Record(intent.old)
        return Settled(old.value, old.tombstone, old.expires_ms, old.proposal, old.descent)
    # Nothing stood there, and a record cannot be taken back: it is as if something had been deleted.
    return Settled(b"", True, 0, b"", record.known_as + bytes(DESCENT_BYTES - VERSION_BYTES))


def before(record: Record | None) -> Record | None:
    """What a row held before an intent was laid on it, if one was."""
    if record is None or not record.intent:
        return record
    old = Intent.of(record).old
    return Record(old) if old else None


def decided(record: Record | None) -> bytes:
    """What becomes of an intent of a transaction, by what its register holds: COMMITTED, ABORTED, or nothing
    yet. Of one that was deleted no intent of what was committed is left."""
    if record is None:
        return b""
    return ABORTED if record.tombstone else record.value[:1]


def proven(record: Record | None, transaction: bytes) -> bytes:
    """What was decided of the transaction itself: COMMITTED, ABORTED, or nothing, where nobody can tell."""
    if record is None or not record.tombstone:
        return decided(record)
    replaced = record.descent[VERSION_BYTES:]
    if not any(replaced):  # it was deleted before anything was known to be decided
        return b""
    return COMMITTED if replaced.startswith(transaction) else ABORTED


def commitment(rows: Sequence[bytes]) -> bytes:
    """The value of the register of a transaction that is committed, which has laid intents on these rows."""
    return COMMITTED + b"".join(_LENGTH.pack(len(row)) + row for row in rows)


def committed_rows(value: bytes) -> list[bytes]:
    """Inverse of `commitment`."""
    rows, at = list[bytes](), 1
    while at < len(value):
        (length,) = _LENGTH.unpack_from(value, at)
        at += _LENGTH.size + length
        rows.append(value[at - length : at])
    return rows
