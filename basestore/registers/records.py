"""Records: what a proposer has accepted under its ballot: its own write's record, or one that it found."""

from basestore.coordinator.context import Context
from basestore.instant import Instant
from basestore.registers.task import Task
from basestore.repair.compare_and_set import Attempt, Condition, added
from basestore.repair.intents import COMMITTED, Intent, settled
from basestore.repair.paxos import Known, is_closed
from basestore.repair.version import Record, Version
from basestore.rows import row_key


def own(
    context: Context, ballot: bytes, task: Task, attempt: Attempt, found: Known, judged_ms: int, now: Instant
) -> tuple[Attempt, Record] | None:
    """Of the write of this task, in the place of what is known, and the attempt that is made with it. What
    expires is judged at `judged_ms`. None: when it is to expire cannot be known, by this clock."""
    assert task.write is not None
    content, expires_ms, version = task.write.content, 0, context.stamper.version(ballot, task.row)
    if content.ttl_ms:
        lives_ms = context.stamper.expiry_of_proposed_ms(version, content.ttl_ms, now)
        if lives_ms is None:
            return None
        expires_ms = lives_ms
    attempt, value = attempt.proposed(version.encode(), found), content.value
    if attempt.condition is Condition.SETTLE:
        assert found.record is not None
        return attempt, _settled(context, version, task.row, found.record, content.value)
    if attempt.condition is Condition.ADD:
        total = added(attempt.by, found.record, judged_ms)
        assert total is not None  # it was weighed by the same
        value = total
    tombstone = content.tombstone
    if attempt.condition is Condition.UNDECIDED and is_closed(found.purged, row_key(task.row)):
        # What was decided may have been deleted and purged: this says nothing but that it is over.
        value, tombstone = b"", True
    if attempt.lays:
        old = found.record.blob if found.record is not None else b""
        value = Intent(attempt.lays, value, tombstone, expires_ms, old).encode()
        tombstone, expires_ms = False, 0
    record = Record.seal(
        context.digester, task.row, version, value, tombstone=tombstone, expires_ms=expires_ms,
        proposal=attempt.proposal, descent=attempt.identity + attempt.meant, intent=attempt.lays != b"",
    )  # fmt: skip
    return attempt, record


def _settled(context: Context, version: Version, row: bytes, found: Record, decided: bytes) -> Record:
    """In the place of an intent, what its transaction has made of the row."""
    left = settled(found, committed=decided == COMMITTED)
    return Record.seal(
        context.digester, row, version, left.value, tombstone=left.tombstone, expires_ms=left.expires_ms,
        proposal=left.proposal, descent=left.descent,
    )  # fmt: skip


def again(context: Context, ballot: bytes, row: bytes, found: Record) -> Record:
    """What was found, as the write that it is."""
    version = context.stamper.version(ballot, row)
    return Record.seal(
        context.digester, row, version, found.value, tombstone=found.tombstone, expires_ms=found.expires_ms,
        proposal=found.proposal, descent=found.descent, intent=found.intent,
    )  # fmt: skip
