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
    NEVER,
    ONLY_COPY,
    UP,
    Reach,
    Trace,
    Traced,
    TracedHint,
)
from basestore.protocol.replication import (
    ACCEPTOR,
    BARRED,
    IN_MEMORY,
    UNBOUND,
    AcceptorRow,
    Rejected,
)
from basestore.registers.acceptors import Acceptors
from basestore.repair.digest_tree import STAMP_MAX
from basestore.repair.version import RECORD_BYTES_MIN, Record
from basestore.repair.write_repair import Hint
from basestore.replica.identity import State
from basestore.replica.replica import STORED_BYTES_MIN, Replica
from basestore.rows import row_bucket, row_partition
from basestore.storage import keyspace
from basestore.storage.keyspace import SEQUENCE_BYTES


def trace(message: Trace, here: Inspector, acceptors: Acceptors, now: Instant) -> Traced:
    """What this node knows of a row."""
    peers, replica, certificates = here.peers, here.replica, here.certificates
    said = state(here.identity)
    record, damaged = _held(replica, here.group_commit.get(keyspace.record(message.row)), message.row)
    if damaged and said == UP:
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
    blob = _without_value(record.blob) if record is not None else b""
    acceptor = _acceptor(message.row, record, here, acceptors, now)
    return Traced(message.id, said, blob, told, stable, reach, lost, deferred, hints_upto, acceptor)


def _acceptor(
    row: bytes, learned: Record | None, here: Inspector, acceptors: Acceptors, now: Instant
) -> list[AcceptorRow]:
    """One, of a row of a register that this node holds."""
    partition, rule = row_partition(row), here.replica.buckets.rules.get(row_bucket(row))
    if rule is None or not rule.serial or partition not in here.replica.summaries.of:
        return []
    standing, since_s = acceptors.standing(row)
    accepted, known_as, age_ms = b"", b"", NEVER
    if standing.accepted:
        accepted, known_as = _without_value(standing.accepted), Record(standing.accepted).known_as
        age_ms = max(0, int((now.monotonic - since_s) * 1e3)) if since_s else NEVER
    return [
        AcceptorRow(
            here.peers.number_of[here.peers.me], acceptors.accepts(), _role(here, acceptors, partition),
            standing.promised, accepted, standing.since, age_ms, known_as,
            learned.known_as if learned is not None else b"",
        )
    ]  # fmt: skip


def _role(here: Inspector, acceptors: Acceptors, partition: int) -> str:
    """What this node's store is to rows of registers there."""
    seating, store = here.certificates.seating, acceptors.accepts()
    if not here.group_commit.engine.persistent:
        return IN_MEMORY
    if seating.votes(partition, store):
        return ACCEPTOR
    return BARRED if seating.is_bound(store) else UNBOUND


def _without_value(record: bytes) -> bytes:
    return record[:RECORD_BYTES_MIN]


def _sort_of(hint: Hint) -> int:
    return ONLY_COPY * hint.only_copy + LATE * hint.late


def _held(replica: Replica, stored: bytes | None, row: bytes) -> tuple[Record | None, bool]:
    """What is held, and whether it is damaged, which is not even noted."""
    if stored is None or row in replica.damaged:
        return None, row in replica.damaged
    if len(stored) < STORED_BYTES_MIN:
        return None, True
    record = Record(stored[:-SEQUENCE_BYTES])
    return (record, False) if replica.intact(row, record) else (None, True)


def answer_trace(
    inspector: Inspector, acceptors: Acceptors, member: int, outbox: Outbox, message: Trace, now: Instant
) -> None:
    """What a member is told that asks for it."""
    group_commit = inspector.group_commit
    if inspector.identity.retired:
        outbox.put(Rejected(message.id, RETIRED, False))
    elif group_commit.full:  # the answer would wait behind what is not stored, or not durable
        outbox.put(Rejected(message.id, group_commit.refusal, True))
    else:
        answer = trace(message, inspector, acceptors, now)
        group_commit.reply(outbox, answer, None, weight(answer))
