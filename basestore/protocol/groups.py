"""Messages that stand for many: what a group of plain requests is said with (`basestore/groups`).

Each holds columns, and one field for what all have in common. What it stands for is messages of the other
conversations: `single` makes them, and `singly` does so for whoever would rather not know of groups. The
reverse, for requests, is `together`.
"""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from basestore.protocol.client import OUTCOME_STORED, Commit, Delete, Get, Got, Set, WriteBatch, Written
from basestore.protocol.limits import BATCHES_SINCE, GROUP_MAX
from basestore.protocol.registry import ANSWERED, message
from basestore.protocol.replication import DIRECT, Applied, Apply, Held, HeldDigest, Read
from basestore.repair.paxos import BALLOT_BYTES
from basestore.repair.version import (
    HEAD_BYTES,
    IDENTITY_BYTES,
    PROPOSAL_BYTES,
    RECORD_BYTES_MIN,
    VERSION_BYTES,
)

_new = tuple.__new__  # what `_make` does, less its checks
GROUP_ID_MAX = (1 << 64) - 1 - GROUP_MAX  # no id of what is in a group is a number beyond 64 bits


@message(70)
class WriteMany(NamedTuple):
    """As so many Set, or, with `tombstone` and no values, as so many Delete: of writes that the client has
    drawn something for, that repeat nothing and never expire."""

    ids: list[int]
    bucket: str
    keys: list[bytes]
    values: list[bytes]
    level: int
    timeout_ms: int
    identities: list[bytes]
    after: int
    tombstone: bool

    def check(self) -> str:
        count = len(self.ids)
        if not count == len(self.keys) == len(self.identities) or len(self.values) != count * (
            not self.tombstone
        ):
            return "has columns of different lengths"
        if set(map(len, self.identities)) != {PROPOSAL_BYTES}:
            return "names no writes"
        return "" if count <= GROUP_MAX else "asks too much at once"

    def single(self) -> list[Set | Delete]:
        bucket, level, timeout_ms, after = self.bucket, self.level, self.timeout_ms, self.after
        if self.tombstone:
            deletes = zip(self.ids, self.keys, self.identities, strict=True)
            return [
                Delete(each, bucket, key, level, timeout_ms, identity, False, after)
                for each, key, identity in deletes
            ]
        return [
            Set(each, bucket, key, value, level, timeout_ms, 0, identity, False, after)
            for each, key, value, identity in zip(
                self.ids, self.keys, self.values, self.identities, strict=True
            )
        ]


@message(71)
class GetMany(NamedTuple):
    """As so many Get: of reads that follow no session, repair, and tell nothing besides."""

    ids: list[int]
    bucket: str
    keys: list[bytes]
    level: int
    timeout_ms: int

    def check(self) -> str:
        if len(self.ids) != len(self.keys):
            return "has columns of different lengths"
        return "" if 0 < len(self.ids) <= GROUP_MAX else "asks for nothing, or for too much at once"

    def single(self) -> list[Get]:
        shared = self.level, self.timeout_ms, b"", True
        return [Get(each, self.bucket, key, *shared) for each, key in zip(self.ids, self.keys, strict=True)]


@message(28)
class Stored(NamedTuple):
    """As so many Written, of writes that were stored in a last-write bucket."""

    ids: list[int]
    identities: list[bytes]
    partitions: list[int]
    required: int
    acknowledged: int
    replicas: list[int]

    def check(self) -> str:
        if not len(self.ids) == len(self.identities) == len(self.partitions):
            return "has columns of different lengths"
        if not set(map(len, self.identities)) <= {IDENTITY_BYTES}:
            return "names no write"
        return "names replicas without their states" if len(self.replicas) % 2 else ""

    def single(self) -> list[Written]:
        shared = self.required, self.acknowledged, self.replicas, b""
        columns = zip(self.ids, self.identities, self.partitions, strict=True)
        return [
            _new(Written, (each, OUTCOME_STORED, 0, identity, *shared, at, b"", "", b"", b"", False))
            for each, identity, at in columns
        ]


@message(29)
class Found(NamedTuple):
    """As so many Got, of values that were found, do not expire, and were held by all replicas that
    answered."""

    ids: list[int]
    values: list[bytes]
    versions: list[bytes]
    required: int
    responded: int

    def check(self) -> str:
        if not len(self.ids) == len(self.values) == len(self.versions):
            return "has columns of different lengths"
        return "" if set(map(len, self.versions)) <= {VERSION_BYTES} else "names no version"

    def single(self) -> list[Got]:
        shared = 0, self.required, self.responded, False, 0, 0, 0, -1, False, False, "", b""
        columns = zip(self.ids, self.values, self.versions, strict=True)
        return [_new(Got, (each, True, value, version, *shared)) for each, value, version in columns]


@message(62)
class ApplyGroup(NamedTuple):
    """As so many Apply with way DIRECT: the first under the id `id` + 1, the next under the one after that.
    What becomes of one that is not applied is said under its own id."""

    id: int
    deadline_ms: int
    rows: list[bytes]
    records: list[bytes]

    def check(self) -> str:
        if not (0 < len(self.rows) == len(self.records) <= GROUP_MAX and self.id <= GROUP_ID_MAX):
            return "is no group of records"
        return "" if min(map(len, self.records)) >= RECORD_BYTES_MIN else "carries what is no record"

    def single(self) -> list[Apply]:
        columns = enumerate(zip(self.rows, self.records, strict=True), self.id + 1)
        return [Apply(each, row, record, DIRECT, self.deadline_ms) for each, (row, record) in columns]


@message(63)
class AppliedGroups(NamedTuple):
    """As Applied. `groups` holds ids and sizes in turn: all that is in them was applied, but for the ids in
    `skipped`, of which each has an answer of its own."""

    groups: list[int]
    skipped: list[int]
    generation: bytes
    sequence: int

    def check(self) -> str:
        if len(self.groups) % 2 or not all(0 < count <= GROUP_MAX for count in self.groups[1::2]):
            return "names no groups"
        return ""

    def single(self) -> list[Applied]:
        groups = zip(self.groups[::2], self.groups[1::2], strict=True)
        ids = [each for group, count in groups for each in range(group + 1, group + 1 + count)]
        skipped = set(self.skipped)
        return [Applied([each for each in ids if each not in skipped], self.generation, self.sequence)]


@message(64)
class ReadGroup(NamedTuple):
    """As so many Read: the first under the id `id` + 1, the next under the one after that. `digests`: heads
    will do. `marks`: as they are known, without a look at the disk: nothing is confirmed by them."""

    id: int
    deadline_ms: int
    rows: list[bytes]
    digests: bool
    marks: bool

    def check(self) -> str:
        sound = 0 < len(self.rows) <= GROUP_MAX and self.id <= GROUP_ID_MAX
        return "" if sound else "is no group of reads"

    def single(self) -> list[Read]:
        shared = self.deadline_ms, False, self.digests, False
        return [Read(each, row, *shared) for each, row in enumerate(self.rows, self.id + 1)]


@message(65)
class HeldGroup(NamedTuple):
    """The answer to ReadGroup: of each row the record that is held, or its head; nothing where an answer to
    that read alone says what there is to say."""

    id: int
    held: list[bytes]

    def check(self) -> str:
        lengths = {min(length, RECORD_BYTES_MIN) for length in set(map(len, self.held))}
        return "" if lengths <= {0, HEAD_BYTES, RECORD_BYTES_MIN} else "carries what is no record"

    def single(self) -> list[Held | HeldDigest]:
        return [
            HeldDigest(each, held, 0) if len(held) == HEAD_BYTES else Held(each, held, 0)
            for each, held in enumerate(self.held, self.id + 1)
            if held
        ]


# --- parts of atomic batches (`basestore/batches`): rows that come to a partition together -----------

NONE, NEVER, HELD, COMMITTED, DONE = range(5)  # what becomes of one at a replica: each beats those before
LOOK, COMMIT, REFUSE = range(3)  # what is done before that is told


@message(122, since=BATCHES_SINCE, unchecked=ANSWERED)
class HoldPart(NamedTuple):
    """Hold this part, durably, and apply nothing of it. `store`: that holds it, if this is a copy; empty: it
    comes from its coordinator. Answered by PartTold."""

    id: int
    row: bytes
    record: bytes
    store: bytes
    deadline_ms: int


@message(123, since=BATCHES_SINCE)
class AskPart(NamedTuple):
    """Say what there is of a part: stamp and origin of its record are its `ballot`, empty where that is not
    known. What is done first: nothing (LOOK); as all are held, what is held here is applied (COMMIT); or, as
    it is old, it is refused from now on if it is not held here (REFUSE). Answered by PartTold."""

    id: int
    row: bytes
    ballot: bytes
    first: int
    deadline_ms: int

    def check(self) -> str:
        if not LOOK <= self.first <= REFUSE:
            return "asks for what there is not"
        return "" if len(self.ballot) in (0, BALLOT_BYTES) else "names no part"


@message(124, since=BATCHES_SINCE)
class PartTold(NamedTuple):
    """`state`: as above; `stable`: of its partition; `store`: this one. `record`: that is held, to who only
    asks; or nothing."""

    id: int
    state: int
    stable: int
    store: bytes
    record: bytes

    def check(self) -> str:
        if not NONE <= self.state <= DONE:
            return "says what there is not"
        return "carries no record" if 0 < len(self.record) < RECORD_BYTES_MIN else ""


_OF_CLIENTS = frozenset((WriteMany, GetMany, Stored, Found))
_MANY = frozenset((WriteMany, GetMany, Stored, Found, ApplyGroup, AppliedGroups, ReadGroup, HeldGroup))


def requests_in(messages: Sequence[Any]) -> int:
    """How many messages these are, from or to a client, without groups."""
    count = len(messages)
    for each in messages:
        if type(each) in _OF_CLIENTS:
            count += len(each.ids) - 1
    return count


def asked_in(messages: Iterable[Any]) -> int:
    """How many requests these ask together."""
    return sum(len(each.ids) for each in messages if type(each) is WriteMany or type(each) is GetMany)


def requested(message: Any) -> tuple[int, int]:
    """How many requests this is, and the bytes of their keys and values, with those that are expected."""
    kind = type(message)
    if kind is Get:
        return 1, len(message.key)
    if kind is Set:
        return 1, len(message.key) + len(message.value) + len(message.expected)
    if kind is Delete:
        return 1, len(message.key) + len(message.expected)
    if kind is WriteMany:
        return len(message.ids), sum(map(len, message.keys)) + sum(map(len, message.values))
    if kind is GetMany:
        return len(message.ids), sum(map(len, message.keys))
    if kind is Commit or kind is WriteBatch:
        return 1, sum(map(len, message.keys)) + sum(map(len, message.values))
    return 1, len(getattr(message, "key", b""))


def first(messages: list[Any], room: int) -> tuple[list[Any], list[Any]]:
    """Those that make so many without groups, and the rest; one group may be in both."""
    for at, each in enumerate(messages):
        count = len(each.ids) if type(each) in _OF_CLIENTS else 1
        if count > room:
            taken, rest = messages[:at], messages[at:]
            if count > 1 and room:
                taken.append(_part(each, slice(room)))
                rest[0] = _part(each, slice(room, count))
            return taken, rest
        room -= count
    return messages, []


def _part(many: Any, places: slice) -> Any:
    """A part of its columns."""
    return many._make(field[places] if isinstance(field, list) else field for field in many)


def chosen(many: Any, places: Sequence[int]) -> Any:
    """What stands at these places of its columns."""
    return many._make(
        [field[place] for place in places] if isinstance(field, list) and field else field for field in many
    )


def singly(messages: Iterable[Any]) -> list[Any]:
    """The same messages, without groups."""
    single: list[Any] = []
    for each in messages:
        if type(each) in _MANY:
            single += each.single()
        else:
            single.append(each)
    return single


def together(requests: Sequence[Any]) -> list[Any]:
    """The same requests, at most GROUP_MAX of them; plain ones that follow each other and have all but their
    keys and values in common as one."""
    if len(requests) == 1:
        return list(requests)
    packed: list[Any] = []
    for kind, run in groupby(requests, _kind):
        alike = list(run)
        if kind is None or len(alike) == 1:
            packed += alike
        elif kind[0] is Get:
            ids, _, keys, *_ = zip(*alike, strict=True)
            packed.append(GetMany(list(ids), kind[1], list(keys), *kind[2:]))
        else:
            packed.append(_write_many(alike, *kind))
    return packed


def _kind(request: Any) -> tuple[Any, ...] | None:
    """What a plain request has in common with others; None if it is not plain."""
    kind = type(request)
    if kind is Get:
        _, bucket, _, level, timeout_ms, floor, repair, *rest = request
        return None if floor or not repair or any(rest) else (kind, bucket, level, timeout_ms)
    if kind is not Set and kind is not Delete:
        return None
    if request.repeats or request.defer or len(request.identity) != PROPOSAL_BYTES:
        return None
    if request.condition or request.expected or (kind is Set and request.ttl_ms):
        return None
    return kind, request.bucket, request.level, request.timeout_ms, request.after


def _write_many(
    alike: list[Any], kind: type[Any], bucket: str, level: int, timeout_ms: int, after: int
) -> WriteMany:
    columns = zip(*alike, strict=True)
    if kind is Set:
        ids, _, keys, values, _, _, _, identities, *_ = columns
    else:
        (ids, _, keys, _, _, identities, *_), values = columns, ()
    lists = [list(each) for each in (ids, keys, values, identities)]
    return WriteMany(lists[0], bucket, lists[1], lists[2], level, timeout_ms, lists[3], after, kind is Delete)


def with_less(request: Any, waited_ms: int) -> Any:
    """A request, or a group of them, with less time."""
    timeout_ms = getattr(request, "timeout_ms", 0)
    return request._replace(timeout_ms=timeout_ms - waited_ms) if timeout_ms > waited_ms else request
