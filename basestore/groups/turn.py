"""Turn: the requests that have come since the node's last step, and how they are begun: together, or singly.

A request is *plain* if nothing about it needs a look of its own. Plain requests of a turn that have their
kind, level, timeout and replicas in common become a *group*, whatever connections they came over: one
object with a column for each thing in which they differ.

    n1 has heard   set a, set b, delete c, set d (repeats), set e     over three connections
    groups         {set a, set b}, {delete c}; then set d singly; then {set e}
    or             set many, as a client sends what it asks together: its columns are put behind the others'
    a group        checked, placed, stamped and sealed in one loop; one message to all replicas, one answer to
                   each connection (`write_group.py`)

Special is what repeats an earlier attempt, expires, may be deferred or degraded, belongs to a first-write
bucket, follows a session that is ahead of this clock, writes a row that the group before it writes, asks two
quorums (its replicas are being changed), or makes no sense; and everything while a member is away, a disk
does not keep up, or the clock stamps nothing. It is begun by the coordinator as ever, and so is a request
that comes alone.

Writes keep their order: what comes later has the greater stamp, grouped or not. Owns that order and the plain
case's checks, and decides nothing that the coordinator does not decide as well.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import add
from typing import Any, Final

from basestore.cluster.outbox import Outbox
from basestore.consistency import COUNTED, Level
from basestore.coordinator.context import Context
from basestore.coordinator.get import compares
from basestore.errors import ClockSkew
from basestore.groups.read_group import ReadColumns, ReadGroup
from basestore.groups.write_group import WriteColumns, begin_writes, picked, places_of
from basestore.instant import Instant
from basestore.protocol.client import AS_ASKED, Delete, Get, Set
from basestore.protocol.groups import GetMany, WriteMany, singly
from basestore.protocol.limits import GROUP_BYTES_MAX, GROUP_MAX, KEY_BYTES_MAX
from basestore.repair.clock import NotYet
from basestore.repair.version import NO_PROPOSAL, PROPOSAL_BYTES, VERSION_BYTES, start_of_content

GROUPED: Final = frozenset((Set, Delete, Get, WriteMany, GetMany))
VALUE_BYTES_MAX: Final = 64 << 10  # of a plain write: a longer one gains nothing in a group
Asked = tuple[Outbox, Any]
Receive = Callable[[Outbox, Any, Instant], None]
_LEVELS: Final = {level.value: level for level in COUNTED}
_READ_LEVELS: Final = frozenset(_LEVELS) - {Level.ANY.value}
_READS: Final = frozenset((Get, GetMany))
_MANY: Final = frozenset((WriteMany, GetMany))
_STARTS: Final = {
    (tombstone, proposed): start_of_content(tombstone=tombstone, proposed=proposed)
    for tombstone in (False, True)
    for proposed in (False, True)
}


class _Writes:
    """Plain writes that follow each other, in that order: `asked`, and into which columns each was put; no
    row is among `rows` twice."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.rows: set[bytes] = set()
        self.partitions: list[int] = []
        self.put_into: list[WriteColumns] = []
        self.all: list[WriteColumns] = []
        self.open: dict[Any, WriteColumns] = {}  # by what those in it have in common

    def columns(
        self, tombstone: bool, level: int, timeout_ms: int, replicas: tuple[int, ...], count: int, size: int
    ) -> WriteColumns:
        """Those that the next writes of this kind, so many, of `size` bytes, are put into."""
        kind = tombstone, level, timeout_ms, replicas
        columns = self.open.get(kind)
        if columns is None or not columns.has_room(count, size):
            columns = self.open[kind] = WriteColumns(tombstone, _LEVELS[level], timeout_ms, replicas)
            self.all.append(columns)
        return columns


class _Reads:
    """Plain reads of one kind: a column each of who asks, under which ids, for which keys, and what the
    sessions of theirs have seen."""

    __slots__ = ("floors", "ids", "keys", "outboxes")

    def __init__(self) -> None:
        self.outboxes: list[Outbox] = []
        self.ids: list[int] = []
        self.keys: list[bytes] = []
        self.floors: list[bytes] = []

    def single(self, bucket: str, level: int, timeout_ms: int) -> Iterable[Asked]:
        gets = zip(self.ids, self.keys, self.floors, strict=True)
        asked = [Get(each, bucket, key, level, timeout_ms, floor, True) for each, key, floor in gets]
        return zip(self.outboxes, asked, strict=True)


class Turn:
    """Of one node."""

    def __init__(self, context: Context, receive: Receive) -> None:
        """`receive`: begins a request that is begun singly."""
        self._context, self._receive = context, receive
        self._asked: list[Asked] = []
        self._changes = -1
        self._see_to_buckets()

    def _see_to_buckets(self) -> None:
        """Those that there are now."""
        buckets = self._context.buckets
        self._changes = buckets.changes
        self._names = {  # as they begin the rows of plain buckets
            name: buckets.stem(name) for name, bucket in buckets.by_name.items() if bucket.rule.plain
        }
        self._degrading = {name for name, options in buckets.options.items() if options.degrade_s}

    def add(self, outbox: Outbox, request: Any) -> None:
        """A client has asked."""
        self._asked.append((outbox, request))

    def begin(self, now: Instant) -> None:
        """Begin all that was asked, reads behind writes."""
        asked, self._asked = self._asked, []
        if not asked:
            return
        if self._changes != self._context.buckets.changes:
            self._see_to_buckets()
        reads = [each for each in asked if type(each[1]) in _READS]
        writes = [each for each in asked if type(each[1]) not in _READS] if reads else asked
        if self.calm and (len(asked) > 1 or type(asked[0][1]) in _MANY):
            self._write(writes, now)
            self._read(reads, now)
        else:
            self._begin_singly(writes, now)
            self._begin_singly(reads, now)

    @property
    def calm(self) -> bool:
        """Whether nothing stands against plain requests just now."""
        context, peers = self._context, self._context.peers
        disks = peers.any_disk_behind or context.group_commit.wary
        return peers.all_alive and not disks and not context.stamper.parked

    def _begin_singly(self, asked: Iterable[Asked], now: Instant) -> None:
        for outbox, request in asked:
            for each in singly((request,)):
                self._receive(outbox, each, now)

    # --- writes ------------------------------------------------------------------------------

    def _write(self, asked: Iterable[Asked], now: Instant) -> None:
        writes = _Writes()
        for outbox, request in asked:
            if type(request) is WriteMany and self._take_many(writes, outbox, request):
                continue
            # One by one: it may be just one of them that is special.
            for each in singly((request,)):
                if not self._take(writes, (outbox, each)):
                    self._begin_writes(writes, now)
                    writes = _Writes()
                    self._begin_singly(((outbox, each),), now)
        self._begin_writes(writes, now)

    def _take(self, writes: _Writes, asked: Asked) -> bool:
        """Put a write with those of its kind; False if it is special."""
        outbox, request = asked
        if type(request) is Set:
            number, bucket, key, value, level, timeout_ms, ttl_ms = request[:7]
        else:
            number, bucket, key, level, timeout_ms = request[:5]
            value, ttl_ms = b"", 0
        tombstone, (proposal, repeats, after, defer, *compared) = type(request) is Delete, request[-6:]
        context, name = self._context, self._names.get(bucket)
        if (
            name is None or repeats or ttl_ms or defer or not 0 <= after <= context.stamper.last
            or len(proposal) not in (0, PROPOSAL_BYTES) or not 0 < len(key) <= KEY_BYTES_MAX
            or len(value) > VALUE_BYTES_MAX or level not in _LEVELS
            or not 0 < timeout_ms <= context.timeout_ms_max or any(compared)
        ):  # fmt: skip
            return False
        row = context.placement.row_of(name + key)
        if row in writes.rows:
            return False
        partition = int.from_bytes(row[:2], "big")
        if proposal == NO_PROPOSAL:
            proposal = b""
        content = _STARTS[tombstone, proposal != b""] + proposal + value
        replicas, size = context.placement.grouped[partition], len(row) + len(content)
        if not replicas:
            return False
        columns = writes.columns(tombstone, level, timeout_ms, replicas, 1, size)
        columns.outboxes.append(outbox)
        columns.ids.append(number)
        columns.partitions.append(partition)
        columns.rows.append(row)
        columns.proposals.append(proposal or NO_PROPOSAL)
        columns.contents.append(content)
        columns.bytes += size
        writes.rows.add(row)
        writes.asked.append(asked)
        writes.partitions.append(partition)
        writes.put_into.append(columns)
        return True

    def _take_many(self, writes: _Writes, outbox: Outbox, many: WriteMany) -> bool:
        """The same of many; False if any of them is special."""
        ids, bucket, keys, values, level, timeout_ms, proposals, after, tombstone = many
        context, name = self._context, self._names.get(bucket)
        lengths = set(map(len, keys))
        if (
            name is None or not 0 <= after <= context.stamper.last or NO_PROPOSAL in proposals
            or not 0 < min(lengths) <= max(lengths) <= KEY_BYTES_MAX
            or max(map(len, values), default=0) > VALUE_BYTES_MAX or level not in _LEVELS
            or not 0 < timeout_ms <= context.timeout_ms_max
        ):  # fmt: skip
            return False
        partitions, rows = context.placement.place_all(list(map(name.__add__, keys)))
        seen = writes.rows.union(rows)
        if len(seen) < len(writes.rows) + len(rows):
            return False
        contents = list(map(_STARTS[tombstone, True].__add__, proposals))
        if not tombstone:
            contents = list(map(add, contents, values))
        size = sum(map(len, rows)) + sum(map(len, contents))
        if size > GROUP_BYTES_MAX:
            return False
        sets = list(map(context.placement.grouped.__getitem__, partitions))
        into: dict[tuple[int, ...], WriteColumns] = {}
        placed = places_of(sets)
        if () in placed:
            return False
        for replicas, at in placed.items():
            columns = into[replicas] = writes.columns(tombstone, level, timeout_ms, replicas, len(at), size)
            columns.extend(
                outbox, picked(ids, at), picked(partitions, at), picked(rows, at),
                picked(proposals, at), picked(contents, at),
            )  # fmt: skip
        writes.rows = seen
        writes.asked.append((outbox, many))
        writes.partitions += partitions
        writes.put_into += map(into.__getitem__, sets)
        return True

    def _begin_writes(self, writes: _Writes, now: Instant) -> None:
        """All of them, in the order of their stamps."""
        context, count = self._context, len(writes.partitions)
        if not count:
            return
        size = sum(columns.bytes for columns in writes.all)
        try:
            if count < 2 or not context.operations.has_room_for_group(count, size):
                raise NotYet
            versions = context.stamper.stamps(writes.partitions, now)
        except (NotYet, ClockSkew):  # each is told, or waits, for itself
            self._begin_singly(writes.asked, now)
            return
        if len(writes.all) == 1:
            writes.all[0].versions = versions
        else:
            for columns, version in zip(writes.put_into, versions, strict=True):
                columns.versions.append(version)
        for columns in writes.all:
            begin_writes(context, columns, now)

    # --- reads -------------------------------------------------------------------------------

    def _read(self, asked: Iterable[Asked], now: Instant) -> None:
        kinds: dict[tuple[str, int, int], _Reads] = {}
        for outbox, request in asked:
            if type(request) is GetMany:
                ids, bucket, keys, level, timeout_ms = request
                if not 0 < min(map(len, keys)) <= max(map(len, keys)) <= KEY_BYTES_MAX:
                    self._begin_singly(((outbox, request),), now)
                    continue
                reads = kinds.setdefault((bucket, level, timeout_ms), _Reads())
                reads.outboxes += [outbox] * len(ids)
                reads.ids += ids
                reads.keys += keys
                reads.floors += [b""] * len(ids)
                continue
            number, bucket, key, level, timeout_ms, floor, repair, tell, stale_ms_max, degrade_ms = request
            if (
                tell or stale_ms_max or not repair or not 0 < len(key) <= KEY_BYTES_MAX
                or len(floor) not in (0, VERSION_BYTES)
                or (degrade_ms and (degrade_ms != AS_ASKED or bucket in self._degrading))
            ):  # fmt: skip
                self._begin_singly(((outbox, request),), now)
                continue
            kind = bucket, level, timeout_ms
            if kind not in kinds:
                kinds[kind] = _Reads()
            reads = kinds[kind]
            reads.outboxes.append(outbox)
            reads.ids.append(number)
            reads.keys.append(key)
            reads.floors.append(floor)
        self._begin_reads(kinds, now)

    def _begin_reads(self, kinds: dict[tuple[str, int, int], _Reads], now: Instant) -> None:
        context, groups, compare = self._context, list[ReadColumns](), dict[int, bool]()
        alone: list[Asked] = []
        for kind, reads in list(kinds.items()):
            _, level, _ = kind
            if not self._plain(*kind):
                self._begin_singly(kinds.pop(kind).single(*kind), now)
                continue
            if level not in compare:  # a lot for all of a turn: few comparisons of many rows
                compare[level] = compares(context, _LEVELS[level])
            groups += self._columns(*kind, reads, alone, compare=compare[level])
        count = sum(len(columns.rows) for columns in groups)
        size = sum(columns.bytes for columns in groups) + count * context.load.answer_bytes
        if count < 2 or not context.operations.has_room_for_group(count, size):
            for kind, reads in kinds.items():
                self._begin_singly(reads.single(*kind), now)
            return
        self._begin_singly(alone, now)
        for columns in groups:
            ReadGroup(context, columns, now).begin(now)

    def _plain(self, bucket: str, level: int, timeout_ms: int) -> bool:
        """Whether nothing that reads of a kind have in common is special."""
        in_time = 0 < timeout_ms <= self._context.timeout_ms_max
        whole = bucket not in self._degrading or level == Level.ONE.value
        return bucket in self._names and level in _READ_LEVELS and in_time and whole

    def _columns(
        self, bucket: str, level: int, timeout_ms: int, reads: _Reads, alone: list[Asked], *, compare: bool
    ) -> Iterator[ReadColumns]:
        """Those that each group of them is made of; `alone` is given those that ask two quorums."""
        placement = self._context.placement
        partitions, rows = placement.place_all(list(map(self._names[bucket].__add__, reads.keys)))
        for replicas, at in places_of(list(map(placement.grouped.__getitem__, partitions))).items():
            if not replicas:
                alone += picked(list(reads.single(bucket, level, timeout_ms)), at)
                continue
            for places in _in_groups(at, rows):
                columns = (picked(each, places) for each in (reads.outboxes, reads.ids, rows, reads.floors))
                yield ReadColumns(_LEVELS[level], timeout_ms, replicas, compare, *columns)


def _in_groups(places: Sequence[int], rows: Sequence[bytes]) -> Iterator[Sequence[int]]:
    """These places, so many at a time that their rows fit into a group."""
    if len(places) <= GROUP_MAX and sum(map(len, rows)) <= GROUP_BYTES_MAX:
        yield places
        return
    taken: list[int] = []
    size = 0
    for place in places:
        size += len(rows[place])
        if len(taken) == GROUP_MAX or size > GROUP_BYTES_MAX:
            yield taken
            taken, size = [], len(rows[place])
        taken.append(place)
    yield taken
