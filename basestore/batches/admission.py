"""Admission: everything of an atomic batch that can be refused is refused here, before anything is done of it
(as `coordinator/admission.py` does for single keys)."""

from typing import Final, NamedTuple

from basestore.batches.part import Content, Known, check_of
from basestore.cluster.outbox import SMALL_BYTES
from basestore.consistency import Level
from basestore.coordinator.admission import check_disk, check_key, check_room, check_timeout, rule_of
from basestore.coordinator.context import Context
from basestore.errors import InvalidRequest, OutcomeUnknown, Unavailable
from basestore.instant import Instant
from basestore.protocol.client import DELETE, WriteBatch
from basestore.protocol.limits import (
    BATCH_BYTES_MAX,
    BATCH_KEYS_MAX,
    BATCHES_SINCE,
    TTL_MS_MAX,
    VALUE_BYTES_MAX,
    ttl_text,
)
from basestore.repair.version import NO_PROPOSAL, Identity
from basestore.rows import row_bucket, row_partition
from basestore.topology.topology import LABEL_START

NOTHING_DONE: Final = "nothing of the batch was done"
ROW_BYTES: Final = 128  # of a row and a record, beside key and value
IN_MEMORY: Final = (
    "this node holds no part of an atomic batch, for its durability is memory, and it would forget what it "
    f'is to hold; {NOTHING_DONE}. Set durability = "sync" in its file, or ask a node that has it'
)
OTHER_BATCH: Final = (
    f"this is not the batch with that identity: its keys, values or lifetimes differ; {NOTHING_DONE}. Repeat "
    "it with all as it was, or write it as a new one"
)
MADE_ANEW: Final = (
    "unknown: this is not the batch with that identity: its keys, values or lifetimes differ, or one of its "
    f"buckets was dropped and made anew since; {NOTHING_DONE} now, and what became of that one is not known. "
    "Read its keys, or repeat it with all as it was"
)


class Admitted(NamedTuple):
    """`contents`: in the order of rows, each with its place among the keys of the request. `level`: QUORUM or
    ALL. `identity`: that it is known by, of an earlier attempt if it `repeats` that."""

    contents: list[Content]
    places: list[int]
    level: Level
    identity: Identity
    repeats: bool

    @property
    def partitions(self) -> tuple[int, ...]:
        """That it writes to, ascending."""
        return tuple(sorted({row_partition(content.row) for content in self.contents}))

    @property
    def size(self) -> int:
        """About as many bytes as its parts have."""
        return sum(len(each.row) + len(each.value) + ROW_BYTES for each in self.contents)


def admit(context: Context, request: WriteBatch, now: Instant) -> Admitted:
    """What it is to write where."""
    check_timeout(context, request.timeout_ms)
    level = _level_of(request)
    if lacks := context.feature_level.lacks(BATCHES_SINCE):
        raise Unavailable.because(f"there are no atomic batches yet: {lacks}; {NOTHING_DONE}")
    if not context.group_commit.engine.persistent:
        raise InvalidRequest(IN_MEMORY)
    size = sum(map(len, request.keys)) + sum(map(len, request.values))
    if not 0 < len(request.keys) <= BATCH_KEYS_MAX:
        raise InvalidRequest(
            f"an atomic batch of {len(request.keys)} keys; 1 to {BATCH_KEYS_MAX} are allowed; "
            f"{NOTHING_DONE}. Share the work among several"
        )
    if size > BATCH_BYTES_MAX:
        raise InvalidRequest(
            f"an atomic batch whose keys and values have {size} bytes; at most {BATCH_BYTES_MAX} are "
            f"allowed; {NOTHING_DONE}. Share the work among several"
        )
    check_room(context, 2 * size + SMALL_BYTES * len(request.keys), now)
    if context.group_commit.wary:
        check_disk(context, tombstone=False)
    contents = [_content(context, request, at) for at in range(len(request.keys))]
    if len({each.row for each in contents}) < len(contents):
        raise InvalidRequest(f"a key stands twice in the batch; {NOTHING_DONE}. Name each key once")
    places = sorted(range(len(contents)), key=lambda at: contents[at].row)
    admitted = Admitted(
        [contents[at] for at in places], places, level, _identity_of(context, request, now), request.repeats
    )
    if not request.repeats:
        for partition in admitted.partitions:
            context.require(partition, level, "" if level is Level.QUORUM else ", or write at quorum")
    return admitted


def _level_of(request: WriteBatch) -> Level:
    if request.level not in (Level.QUORUM, Level.ALL):
        names = {level.value: level.name.lower() for level in Level}
        raise InvalidRequest(
            f"an atomic batch at level {names.get(request.level, request.level)}: too few replicas would "
            f"hold it for it to be all or nothing; {NOTHING_DONE}. Write it at quorum, or at all"
        )
    return Level(request.level)


def _content(context: Context, request: WriteBatch, at: int) -> Content:
    bucket, key, kind, value = request.buckets[at], request.keys[at], request.kinds[at], request.values[at]
    rule, ttl_ms = rule_of(context, bucket), request.ttls_ms[at]
    if not rule.plain:
        instead = " A transaction writes there" if rule.serial and not rule.immutable else ""
        raise InvalidRequest(
            f"bucket {bucket!r} takes no atomic batches, for its rule is {rule}; {NOTHING_DONE}. Use a "
            f"bucket where the last write wins.{instead}"
        )
    check_key(key)
    if len(value) > VALUE_BYTES_MAX:
        raise InvalidRequest(f"a value of {len(value)} bytes; at most {VALUE_BYTES_MAX} are allowed")
    if not 0 <= ttl_ms <= TTL_MS_MAX:
        raise InvalidRequest(ttl_text(f"{ttl_ms / 1e3} s"))
    if kind == DELETE and (value or ttl_ms):
        raise InvalidRequest(f"key {key[:64]!r} is to be deleted, and has a value; {NOTHING_DONE}")
    return Content(context.row(bucket, key), value, kind == DELETE, ttl_ms)


def _identity_of(context: Context, request: WriteBatch, now: Instant) -> Identity:
    identity = Identity.decode(request.identity)
    if identity.proposal == NO_PROPOSAL:
        raise InvalidRequest(f"the batch has no identity; {NOTHING_DONE}. Draw 8 bytes for it")
    if identity.version is not None:
        if not request.repeats:
            raise InvalidRequest("a new batch has no version: to repeat an earlier one, say so")
        context.stamper.check_repeated(identity.version, now)
    return identity


def known_as(context: Context, admitted: Admitted) -> Known | None:
    """The batch that is repeated, if its client was told its version; `other_batch` if that is another."""
    version = admitted.identity.version
    if version is None:
        return None
    known = Known(admitted.identity.proposal, version.stamp, version.origin, admitted.partitions)
    if check_of(context.digester, known, admitted.contents) != admitted.identity.check:
        raise other_batch(admitted)
    return known


def other_batch(admitted: Admitted) -> InvalidRequest | OutcomeUnknown:
    """The error for another batch than its identity says. It may be the same, but for a bucket that was
    dropped and made anew since: its rows are others then."""
    if any(row_bucket(each.row).startswith(LABEL_START) for each in admitted.contents):
        return OutcomeUnknown(MADE_ANEW, None, admitted.identity)
    return InvalidRequest(OTHER_BATCH)
