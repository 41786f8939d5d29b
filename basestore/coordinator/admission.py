"""Admission: everything that can be refused is refused here, before a write is stamped and before any
replica is asked. So these errors are definite: nothing was done.

Refused are levels, buckets, keys, values, lifetimes, versions and timeouts that make no sense
(InvalidRequest), and work for which there is no room (Overloaded). Whether enough replicas are alive is
asked by `Context.require`, whether the clock may stamp by `Stamper.check_clock`.

What is admitted is returned as the request needs it: a row instead of a bucket and a key, the rule
instead of the bucket's name. Nothing is begun here.
"""

from basestore.cluster.outbox import SMALL_BYTES, Outbox
from basestore.config import BUILT_IN_LATER
from basestore.consistency import Level
from basestore.coordinator.attempts import OTHER_CONTENT, Content, Repeated
from basestore.coordinator.context import TOO_MUCH_ASKED, Context
from basestore.coordinator.stamper import version_of
from basestore.errors import InvalidRequest, Overloaded, Unavailable
from basestore.instant import Instant
from basestore.protocol.client import (
    ADD,
    AS_ASKED,
    IF_ABSENT,
    IF_VALUE,
    IF_VERSION,
    Delete,
    Get,
    Scan,
    Set,
    Watch,
)
from basestore.protocol.limits import (
    KEY_BYTES_MAX,
    PAGE_BYTES_MAX,
    STALE_MS_MAX,
    TTL_MS_MAX,
    VALUE_BYTES_MAX,
    WATCH_SINCE,
    ttl_text,
)
from basestore.protocol.operator import Explain, Survey
from basestore.repair.compare_and_set import number_of
from basestore.repair.rule import Rule
from basestore.repair.version import NO_PROPOSAL, PROPOSAL_BYTES, VERSION_BYTES, Identity
from basestore.replica.group_commit import BEHIND
from basestore.rows import row_partition

SURVEY_BYTES = 1 << 20  # what a page may hold
DEFERRED_SINCE = 9  # version of the wire: an earlier release would take hints of deferred writes for others
CROWDED = "overloaded: too many requests are under way; nothing was done. Try again later"
_LEVELS = {level.value: level for level in Level}
ANY, ONE, SERIAL = (
    Level.ANY,
    Level.ONE,
    Level.SERIAL,
)  # bound once: looking a member up on its enum costs as much as a check


def admit_write(
    context: Context, request: Set | Delete, now: Instant, *, deferred: bool = False
) -> tuple[Level, Content, Repeated | None]:
    """What is to be written, and whether it repeats an earlier attempt. `deferred`: it is kept, not begun, so
    it needs no room beside what is under way."""
    level = _level(context, request)
    rule = rule_of(context, request.bucket)
    _check_serial(level, rule, request.bucket)
    if request.condition or request.expected or rule.serial:
        _check_condition(request, rule)
    if request.defer or deferred:
        _check_deferrable(context, level, rule)
    check_key(request.key)
    if isinstance(request, Set):
        value, ttl_ms, tombstone = request.value, request.ttl_ms, False
    else:
        value, ttl_ms, tombstone = b"", 0, True
    if len(value) > VALUE_BYTES_MAX:
        raise InvalidRequest(f"the value has {len(value)} bytes; at most {VALUE_BYTES_MAX} are allowed")
    if not 0 <= ttl_ms <= TTL_MS_MAX:
        raise InvalidRequest(ttl_text(f"{ttl_ms / 1e3} s"))
    if rule.immutable and (ttl_ms or tombstone):
        raise InvalidRequest(
            f"bucket {request.bucket!r} is {rule}: {'ttl' if ttl_ms else 'delete'} is refused, for a "
            f"record there never changes. Write under another key, or to another bucket"
        )
    if request.after < 0:
        raise InvalidRequest(f"{request.after} is no stamp that a session has seen")
    proposal = request.identity
    identity = None
    if request.repeats or len(proposal) not in (0, PROPOSAL_BYTES):
        identity = _identity_of(request)
        proposal = identity.proposal
    if not deferred:
        check_room(context, len(request.key) + len(value), now)
    # A disk that takes no batch still answers reads: only writes are refused for that.
    if context.group_commit.wary:
        check_disk(context, tombstone=tombstone and not deferred)  # a hint of a delete is a row more
    row = context.row(request.bucket, request.key)
    if context.peers.any_disk_behind and level is not ANY:
        _check_disks(context, row, level)
    if proposal == NO_PROPOSAL:
        proposal = b""
    content = Content(row, value, ttl_ms, tombstone, rule, request.after, proposal)
    if identity is None:
        return level, content, None
    named = content.compared(request.condition, request.expected) if rule.serial else content
    return level, content, _repeated(context, identity, named, now)


def _check_serial(level: Level, rule: Rule, bucket: str) -> None:
    """InvalidRequest where a level is for registers only, or not for them."""
    if level is SERIAL and not rule.serial:
        raise InvalidRequest(
            f"level serial is for registers, and bucket {bucket!r} does not compare: its rule is "
            f"{rule.value}. Use quorum, or a bucket with rule register"
        )
    if level is ANY and rule.serial:
        raise InvalidRequest(
            f"replicas agree on each write to bucket {bucket!r}, so level any is refused, which asks none of "
            f"them. Leave the level out, or use serial"
        )


def _check_condition(request: Set | Delete, rule: Rule) -> None:
    """InvalidRequest unless what the write depends on makes sense."""
    if not rule.serial:
        raise InvalidRequest(
            f"bucket {request.bucket!r} does not compare, for its rule is {rule.value}; use one with rule "
            f"register (built in: {', '.join(BUILT_IN_LATER)})"
        )
    if request.defer:
        raise InvalidRequest(
            f"replicas agree on each write to bucket {request.bucket!r}, so none can be deferred: write "
            f"without defer"
        )
    expects = request.condition in (IF_VERSION, IF_VALUE)
    if not 0 <= request.condition <= ADD or (request.expected and not expects):
        raise InvalidRequest("there is no such condition of a write: compare with a version, or a value")
    if request.condition == IF_VERSION:
        version_of(request.expected)
    if request.condition == ADD and rule.immutable:
        raise InvalidRequest(
            f"in bucket {request.bucket!r} the first write wins, for good, so nothing can be added to it: "
            f"use a bucket with rule register (built in: {', '.join(BUILT_IN_LATER)})"
        )
    if request.condition and rule.immutable and request.condition != IF_ABSENT:
        raise InvalidRequest(
            f"in bucket {request.bucket!r} the first write wins, for good: a write there is made if the key "
            f"is absent, and depends on nothing else. Leave the condition out"
        )
    if request.condition == ADD and (isinstance(request, Delete) or number_of(request.value) is None):
        raise InvalidRequest("what is added must be a whole number in decimal digits, as 1 or -20")


def _check_deferrable(context: Context, level: Level, rule: Rule) -> None:
    """InvalidRequest unless such a write may be deferred: said whether the node is overloaded or not."""
    if level is not ANY:
        raise InvalidRequest(
            f"a write at {level.name.lower()} cannot be deferred, for its level needs replicas to confirm: "
            f"write at any, or without defer"
        )
    if rule.immutable:
        raise InvalidRequest(
            "a write cannot be deferred in a bucket where the first write wins, for whether it has won is to "
            "be known when it is answered: write without defer"
        )
    if not context.group_commit.waits:
        raise InvalidRequest(
            "this node cannot defer writes, for its durability is not sync, and a deferred write is kept "
            'here alone: set durability = "sync" in its file, ask a node that has it, or write without defer'
        )
    if lacks := context.feature_level.lacks(DEFERRED_SINCE):
        raise InvalidRequest(f"writes cannot be deferred yet: {lacks}. Until then write without defer")


def _identity_of(request: Set | Delete) -> Identity:
    """What the write that is repeated is known by; InvalidRequest unless that makes sense."""
    encoded = request.identity or NO_PROPOSAL
    try:
        identity = Identity.decode(encoded)
    except ValueError as error:
        raise InvalidRequest(f"the identity of the write is malformed: {error}") from None
    if encoded == NO_PROPOSAL:
        raise InvalidRequest("a write without an identity cannot be repeated as itself: leave `repeat` out")
    if not request.repeats:
        raise InvalidRequest("a new write has no version: to repeat an earlier one, say so")
    return identity


def _repeated(context: Context, identity: Identity, content: Content, now: Instant) -> Repeated:
    """What is known of the earlier attempt; InvalidRequest when it was of another write. Two rows must never
    have one version, nor two values: lists go by origin and number."""
    version = identity.version
    if version is not None:
        context.stamper.check_repeated(version, now, expires=content.ttl_ms > 0)
        record = content.again(context.digester, version)
        # The check is of a keyed digest: only a node can have made it, and for this very content.
        if Identity.of(content.proposal, record.blob) != identity:
            raise InvalidRequest(OTHER_CONTENT)
        return Repeated(record)
    return Repeated(None)


def admit_get(context: Context, request: Get, now: Instant) -> tuple[Level, bytes, Rule]:
    """The level, the row and its rule."""
    level = _read_level(context, request)
    rule = rule_of(context, request.bucket)
    _check_serial(level, rule, request.bucket)
    if rule.serial and (request.stale_ms_max or request.degrade_ms > 0):
        raise InvalidRequest(
            f"replicas agree on each write to bucket {request.bucket!r}, so a read there is either serial, "
            f"and never stale, or at one: leave degrade and max_staleness out (--degrade, --max-staleness)"
        )
    check_key(request.key)
    check_room(context, context.load.answer_bytes, now)
    if request.floor:
        version_of(request.floor[:VERSION_BYTES])
    if not request.repair and level is not ONE:
        raise InvalidRequest("only a read at one can do without repair: other levels are made by it")
    if not 0 <= request.stale_ms_max <= STALE_MS_MAX:
        raise InvalidRequest(f"staleness has a bound of 1 to {STALE_MS_MAX} ms, or 0: none")
    if request.stale_ms_max and not request.repair:
        raise InvalidRequest("a read that is to repair nothing has no bound on its staleness: give up one")
    if request.degrade_ms:
        _check_degrading(request, level)
    return level, context.row(request.bucket, request.key), rule


def _check_degrading(request: Get, level: Level) -> None:
    if not AS_ASKED <= request.degrade_ms <= STALE_MS_MAX:
        raise InvalidRequest(f"a degraded answer is stale by 1 to {STALE_MS_MAX} ms at most, or 0: unasked")
    if request.degrade_ms > 0 and level is ONE:
        raise InvalidRequest(
            "a read at one has nothing to be degraded to: leave degrade out, or read at quorum or all"
        )
    if request.degrade_ms > 0 and request.stale_ms_max:
        raise InvalidRequest(
            "a bound on staleness reads at quorum what is too stale at one, and degrade reads at one what "
            "cannot be had at quorum: give up one of the two"
        )


def admit_scan(context: Context, outbox: Outbox, request: Scan, now: Instant) -> tuple[Level, bytes, Rule]:
    """The level, the bucket and its rule."""
    level = _read_level(context, request)
    rule = rule_of(context, request.bucket)
    _check_serial(level, rule, request.bucket)
    for name, part in (("prefix", request.prefix), ("place to go on from", request.after)):
        if len(part) > KEY_BYTES_MAX:
            raise InvalidRequest(f"the {name} has {len(part)} bytes; keys have at most {KEY_BYTES_MAX}")
    if request.limit < 1:
        raise InvalidRequest(f"a limit of {request.limit}; ask for at least 1 key")
    check_room(context, PAGE_BYTES_MAX, now, outbox)
    bucket = context.buckets.asked_for(request.bucket)
    assert bucket is not None  # else there is no rule
    return level, bucket.label, rule


def admit_watch(context: Context, request: Watch) -> bytes:
    """The bucket's label."""
    check_timeout(context, request.timeout_ms)
    if not context.feature_level.level:  # as of a node that was just founded, or has lost its store
        raise Unavailable.because(
            "this node does not know yet what all members speak, so nothing can be watched here; nothing was "
            "done. Try again, or ask another node"
        )
    if lacks := context.feature_level.lacks(WATCH_SINCE):
        raise InvalidRequest(f"nothing can be watched yet: {lacks}")
    rule_of(context, request.bucket)
    if len(request.prefix) > KEY_BYTES_MAX:
        raise InvalidRequest(f"the prefix has {len(request.prefix)} bytes; keys have at most {KEY_BYTES_MAX}")
    if request.bytes_max < 1:
        raise InvalidRequest(f"at most {request.bytes_max} bytes are wanted; ask for at least 1")
    return context.buckets.by_name[request.bucket].label


def admit_explain(context: Context, outbox: Outbox, request: Explain, now: Instant) -> tuple[bytes, Rule]:
    """The row and its rule."""
    check_timeout(context, request.timeout_ms)
    rule = rule_of(context, request.bucket)
    check_key(request.key)
    check_room(context, len(request.key) + SMALL_BYTES * len(context.peers.all), now, outbox)
    return context.row(request.bucket, request.key), rule


def admit_survey(context: Context, outbox: Outbox, request: Survey, now: Instant) -> tuple[int, int]:
    """The first partition to ask about, and how many are asked about in all."""
    partitions = context.placement.partitions
    first, total = request.first, partitions
    if request.key:
        rule_of(context, request.bucket)
        check_key(request.key)
        first, total = row_partition(context.row(request.bucket, request.key)), 1
    elif request.partition >= 0:
        first, total = request.partition, 1
    if not 0 <= first < partitions:
        raise InvalidRequest(f"there is no partition {first}; this cluster has {partitions}, counted from 0")
    check_room(context, SURVEY_BYTES, now, outbox)
    return first, total


def _level(context: Context, request: Set | Delete | Get | Scan) -> Level:
    """The level of a request whose level and deadline make sense."""
    level = _LEVELS.get(request.level)
    if level is None:
        raise InvalidRequest(f"there is no level {request.level}; use any, one, quorum, all or serial")
    check_timeout(context, request.timeout_ms)
    return level


def _read_level(context: Context, request: Get | Scan) -> Level:
    level = _level(context, request)
    if level is ANY:
        raise InvalidRequest("level any is for writes; read at one, quorum or all")
    return level


def check_timeout(context: Context, timeout_ms: int) -> None:
    """Of any request of a client; InvalidRequest."""
    if not 0 < timeout_ms <= context.timeout_ms_max:
        raise InvalidRequest(
            f"a timeout of {timeout_ms} ms; it must lie between 1 ms and this cluster's timeout_ms_max, "
            f"{context.timeout_ms_max} ms: ask for less"
        )


def rule_of(context: Context, bucket: str) -> Rule:
    held = context.buckets.asked_for(bucket)
    if held is None:
        if context.peers.unknowing():
            raise Unavailable.because(
                f"bucket {bucket[:64]!r} is not known to this node, which does not know yet what the cluster "
                f"is; nothing was done. Try again, or ask another node"
            )
        names, gone = ", ".join(sorted(context.buckets)), context.buckets.gone(bucket)
        if bucket in BUILT_IN_LATER and not gone:
            raise Unavailable.because(
                f"bucket {bucket!r} is built in, and is made some seconds after the cluster is founded, or, "
                f"in a cluster of before, once `basestore upgrade finish` was said; nothing was done. Try "
                f"again"
            )
        if context.peers.behind:
            raise InvalidRequest(
                f"bucket {bucket[:64]!r} is not known to this node{gone}, which is behind what is "
                f"decided of the cluster: try again, or ask another node"
            )
        raise InvalidRequest(
            f"there is no bucket {bucket[:64]!r}{gone}; this cluster has {names}. Use one of these, or make "
            f"it: `basestore bucket create`"
        )
    return held.rule


def check_key(key: bytes) -> None:
    if not 0 < len(key) <= KEY_BYTES_MAX:
        raise InvalidRequest(f"the key has {len(key)} bytes; 1 to {KEY_BYTES_MAX} are allowed")


def check_room(context: Context, size: int, now: Instant, outbox: Outbox | None = None) -> None:
    """Overloaded unless there is room for one more operation of `size` bytes, and for its answer in
    `outbox`, if that is given: an answer that may be large is not begun for a client that takes none."""
    if not context.operations.has_room(size, now):
        raise Overloaded(CROWDED)
    if context.group_commit.behind:
        raise disk_behind()
    if outbox is not None and not outbox.roomy:
        raise Overloaded(TOO_MUCH_ASKED)


def _check_disks(context: Context, row: bytes, level: Level) -> None:
    """Overloaded when too few replicas have a disk that keeps up, as far as they have told."""
    peers, quorum = context.peers, context.placement.quorums[row_partition(row)][level]
    late = [replica for replica in quorum.replicas if peers.disk_behind[replica] and replica != peers.me]
    if not quorum.met(quorum.replicas, late):
        names = ", ".join(peers.all[replica].name for replica in late)
        raise Overloaded(
            f"overloaded: {quorum.required} replicas are required, and the disks of some are full or do not "
            f"keep up ({names}); nothing was done. Look at them (`basestore status`), or ask for a lower "
            f"level"
        )


def check_disk(context: Context, *, tombstone: bool) -> None:
    """Overloaded, naming the disk, unless it allows such a write: one that is nearly full takes deletes."""
    group_commit = context.group_commit
    reason = group_commit.refusal if tombstone else group_commit.wary
    if reason == BEHIND:
        raise disk_behind()
    if reason:
        raise Overloaded(
            f"overloaded: {reason}; nothing was done. Reads go on. Make room there, or ask another node"
        )


def disk_behind() -> Overloaded:
    """The error for what cannot be taken while the disk does not keep up."""
    return Overloaded(
        "overloaded: the disk does not keep up; nothing was done. Try again later, or at another node"
    )
