"""Trace: what a member says of one row, for `basestore explain`.

Everything is as it is at this moment. Nothing is changed: a damaged record is said to be damaged, and not
even noted.
"""

from basestore.cluster.outbox import Outbox, weight
from basestore.instant import Instant
from basestore.observe.inspect import Inspector
from basestore.observe.status import RETIRED, state
from basestore.protocol.operator import (
    DAMAGED,
    DEFERRED,
    LATE,
    ONLY_COPY,
    UP,
    Reach,
    Trace,
    Traced,
    TracedHint,
)
from basestore.protocol.replication import Rejected
from basestore.repair.digest_tree import STAMP_MAX
from basestore.repair.version import RECORD_BYTES_MIN, Record
from basestore.repair.write_repair import Hint
from basestore.replica.identity import State
from basestore.replica.replica import STORED_BYTES_MIN, Replica
from basestore.rows import row_partition
from basestore.storage.keyspace import SEQUENCE_BYTES


def trace(message: Trace, here: Inspector) -> Traced:
    """What this node knows of a row."""
    peers, replica, certificates = here.peers, here.replica, here.certificates
    record, said = _record(replica, message.row), state(here.identity)
    if record is None and said == UP:
        said = DAMAGED
    kept = here.hints.of_row(message.row)
    told = [TracedHint(peers.number_of[member], _sort_of(hint), hint.record.head) for member, hint in kept]
    partition, stable = row_partition(message.row), 0
    reach: list[Reach] = []
    if partition in certificates.compared:
        stable = replica.summaries.of[partition].shown
        known = certificates.reach(partition)
        reach = [Reach(peers.number_of[member], proof, claim) for member, proof, claim in known]
    lost = max((row.upto for row in here.losses.open(partition)), default=0)
    deferred = bytes(DEFERRED * hint.deferred for _, hint in kept)
    whole = here.identity.state is State.WHOLE  # else hints may be gone of which it does not know yet
    hints_upto = here.losses.hints_upto if whole else STAMP_MAX
    return Traced(message.id, said, record or b"", told, stable, reach, lost, deferred, hints_upto)


def _sort_of(hint: Hint) -> int:
    return ONLY_COPY * hint.only_copy + LATE * hint.late


def _record(replica: Replica, row: bytes) -> bytes | None:
    """What is held, without the value: empty when nothing is, None when it is damaged, which is not even
    noted."""
    stored = replica.peek(row)
    if row in replica.damaged:
        return None
    if stored is None:
        return b""
    if len(stored) < STORED_BYTES_MIN or not replica.intact(row, Record(stored[:-SEQUENCE_BYTES])):
        return None
    return stored[:RECORD_BYTES_MIN]


def answer_trace(inspector: Inspector, member: int, outbox: Outbox, message: Trace, now: Instant) -> None:
    """What a member is told that asks for it."""
    group_commit = inspector.group_commit
    if inspector.identity.retired:
        outbox.put(Rejected(message.id, RETIRED, False))
    elif group_commit.full:  # the answer would wait behind what is not stored, or not durable
        outbox.put(Rejected(message.id, group_commit.refusal, True))
    else:
        answer = trace(message, inspector)
        group_commit.reply(outbox, answer, None, weight(answer))
