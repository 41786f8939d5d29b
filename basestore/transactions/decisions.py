"""Decisions: what is asked of registers for a transaction, as tasks (`registers/task.py`).

    lay       on each row that is to be written: an intent, if the row holds what is expected
    commit    the transaction's own register: COMMITTED, under the ballot that it is known by, once
    abort     the same register, for whoever ends it: ABORTED, if nothing was decided, and what was is not
              purged; in that case that it is over, which proves nothing
    settle    each row with an intent of it: what was decided, if that intent is there still
    forget    the register goes, once all that was committed is settled

That these can be done by anybody, in any order, as often as he likes, is what makes help possible: whoever
is in the way of a coordinator that has died does what it would have done. Only `commit` is its alone.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

from basestore.coordinator.attempts import Content
from basestore.coordinator.context import Context
from basestore.registers.task import Task, Write
from basestore.repair.compare_and_set import Attempt, Condition
from basestore.repair.intents import ABORTED, commitment
from basestore.repair.rule import Rule
from basestore.repair.version import COUNTER_BITS, PROPOSAL_BYTES, member_of
from basestore.rows import row_bucket
from basestore.topology.buckets import DECISIONS

_STAMP_BYTES: Final = 8


def decision_row(context: Context, transaction: bytes) -> bytes:
    """Of the register in which it is decided."""
    return context.placement.row(DECISIONS, transaction)


def begun_ms(transaction: bytes) -> int:
    """When it was begun, as milliseconds since 1970 by its coordinator's clock."""
    return int.from_bytes(transaction[:_STAMP_BYTES]) >> COUNTER_BITS


def lay(content: Content, condition: Condition, expected: bytes, transaction: bytes, deadline: float) -> Task:
    """`content`: what the row is to become."""
    task = write(content, condition, expected, transaction, deadline)
    assert task.write is not None
    return task._replace(write=task.write._replace(attempt=task.write.attempt._replace(lays=transaction)))


def coordinator_of(transaction: bytes) -> int:
    """The number of the member that coordinates it."""
    return member_of(int.from_bytes(transaction[_STAMP_BYTES:]))


def write(
    content: Content, condition: Condition, expected: bytes, transaction: bytes, deadline: float
) -> Task:
    """What is done without an intent, for it stands alone."""
    proposal = _drawn(transaction, content.row)
    attempt = Attempt(condition, expected, proposal)
    return Task(content.row, deadline, Write(content._replace(proposal=proposal), attempt))


def commit(context: Context, transaction: bytes, rows: Sequence[bytes], deadline: float) -> Task:
    """`rows`: all that it has laid intents on."""
    row = decision_row(context, transaction)
    task = _write(context, row, commitment(rows), Condition.UNCONDITIONAL, b"", deadline, b"commit")
    return task._replace(ballot=transaction)


def abort(context: Context, transaction: bytes, deadline: float) -> Task:
    row = decision_row(context, transaction)
    return _write(context, row, ABORTED, Condition.UNDECIDED, b"", deadline, b"abort")


def look(context: Context, transaction: bytes, deadline: float) -> Task:
    """What was decided."""
    return Task(decision_row(context, transaction), deadline)


def settle(context: Context, row: bytes, transaction: bytes, decided: bytes, deadline: float) -> Task:
    return _write(context, row, decided, Condition.SETTLE, transaction, deadline, transaction)


def forget(context: Context, row: bytes, version: bytes, deadline: float) -> Task:
    """`row`: of the register; `version`: that it holds."""
    task = _write(context, row, b"", Condition.IF_VERSION, version, deadline, b"forget")
    assert task.write is not None
    content = task.write.content._replace(tombstone=True)
    return task._replace(write=task.write._replace(content=content))


def _write(
    context: Context, row: bytes, value: bytes, condition: Condition, expected: bytes, deadline: float,
    what: bytes,
) -> Task:  # fmt: skip
    proposal = _drawn(what + value[:1], row)
    rule = context.buckets.rules.get(row_bucket(row), Rule.OF_REMOVED_BUCKET)
    content = Content(row, value, 0, False, rule, 0, proposal)
    return Task(row, deadline, Write(content, Attempt(condition, expected, proposal)))


def _drawn(what: bytes, row: bytes) -> bytes:
    """What such a write is known by: the same for all who make it, where they all mean the same."""
    return blake2b(what + row, digest_size=PROPOSAL_BYTES).digest()
