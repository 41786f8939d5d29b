"""Admission: everything of a transaction that can be refused is refused here, before anything is done of it
(as `coordinator/admission.py` does for single keys). What is admitted comes as parts, a row each."""

from typing import Final

from basestore.cluster.outbox import SMALL_BYTES
from basestore.coordinator.admission import (
    check_disk,
    check_key,
    check_room,
    check_timeout,
    rule_of,
)
from basestore.coordinator.attempts import Content
from basestore.coordinator.context import Context
from basestore.coordinator.stamper import version_of
from basestore.errors import InvalidRequest, Unavailable
from basestore.instant import Instant
from basestore.leases import LOCKS
from basestore.protocol.client import DELETE, HELD, HOLDS_NOTHING, READ, SET, Commit
from basestore.protocol.limits import (
    TRANSACTION_BYTES_MAX,
    TRANSACTION_KEYS_MAX,
    TRANSACTIONS_SINCE,
    TTL_MS_MAX,
    ttl_text,
)
from basestore.registers.registers import IN_MEMORY
from basestore.repair.rule import Rule
from basestore.transactions.transaction import Part

NOTHING_DONE: Final = "nothing of the transaction was done"


def admit(context: Context, request: Commit, now: Instant) -> list[Part]:
    """What it does to each row."""
    check_timeout(context, request.timeout_ms)
    if lacks := context.feature_level.lacks(TRANSACTIONS_SINCE):
        raise Unavailable.because(f"there are no transactions yet: {lacks}; {NOTHING_DONE}")
    if not context.group_commit.engine.persistent:
        raise InvalidRequest(IN_MEMORY)
    size = sum(map(len, request.keys)) + sum(map(len, request.values))
    if not 0 < len(request.keys) <= TRANSACTION_KEYS_MAX:
        raise InvalidRequest(
            f"a transaction of {len(request.keys)} keys; 1 to {TRANSACTION_KEYS_MAX} are allowed; "
            f"{NOTHING_DONE}. Share the work among several"
        )
    if size > TRANSACTION_BYTES_MAX:
        raise InvalidRequest(
            f"a transaction whose keys and values have {size} bytes; at most {TRANSACTION_BYTES_MAX} are "
            f"allowed; {NOTHING_DONE}. Share the work among several"
        )
    check_room(context, size + SMALL_BYTES * len(request.keys), now)
    if context.group_commit.wary:
        check_disk(context, tombstone=False)
    parts = [
        _part(context, request, at)
        for at in range(len(request.keys))
        if not _went_with_its_bucket(context, request, at)
    ]
    if len({part.row for part in parts}) < len(parts):
        raise InvalidRequest(f"a key stands twice in the transaction; {NOTHING_DONE}. Name each key once")
    return parts


def _went_with_its_bucket(context: Context, request: Commit, at: int) -> bool:
    """Whether this deletes an ephemeral key that is there no more, with the row of the lock that names it:
    else such a lock could neither be given back nor taken."""
    return (
        request.kinds[at] == DELETE
        and not request.expected[at]
        and holds_registers(context, request.buckets[at]) is False
        and (LOCKS, SET) in zip(request.buckets, request.kinds, strict=True)
    )


def holds_registers(context: Context, bucket: str) -> bool | None:
    """Whether there is a bucket of this name that transactions write to; None where it may be that this node
    has not heard of it yet."""
    named = context.buckets.asked_for(bucket)
    if named is None:
        return None if context.peers.unknowing() or context.peers.behind else False
    return named.rule.serial and not named.rule.immutable


def _part(context: Context, request: Commit, at: int) -> Part:
    bucket, key, kind, value = request.buckets[at], request.keys[at], request.kinds[at], request.values[at]
    rule, expected, ttl_ms = rule_of(context, bucket), request.expected[at], request.ttls_ms[at]
    _check_rule(bucket, rule)
    check_key(key)
    if not 0 <= ttl_ms <= TTL_MS_MAX:
        raise InvalidRequest(ttl_text(f"{ttl_ms / 1e3} s"))
    if expected not in (b"", HOLDS_NOTHING):
        version_of(expected)
    reads = kind in (READ, HELD)
    senseless = (reads and not expected) or ((reads or kind == DELETE) and (value or ttl_ms))
    if senseless or (kind == HELD and (bucket != LOCKS or expected == HOLDS_NOTHING)):
        raise InvalidRequest(f"what is to be done with key {key[:64]!r} makes no sense; {NOTHING_DONE}")
    row = context.row(bucket, key)
    absent = kind == READ and expected == HOLDS_NOTHING
    name, content = context.buckets.row_name(row), None
    if absent or not reads:
        content = Content(row, value, ttl_ms, kind != SET, rule)
    return Part(row, name, expected, content, kind == HELD, absent)


def _check_rule(bucket: str, rule: Rule) -> None:
    if not rule.serial:
        raise InvalidRequest(
            f"bucket {bucket!r} does not compare, for its rule is {rule}: there is no order there that "
            f"transactions could keep; {NOTHING_DONE}. Use a bucket with rule register (built in: cas)"
        )
    if rule.immutable:
        raise InvalidRequest(
            f"in bucket {bucket!r} the first write wins, for good, so none can be rolled back; "
            f"{NOTHING_DONE}. Use a bucket with rule register (built in: cas)"
        )
