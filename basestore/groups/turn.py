"""Turn: the requests that have come since the node's last step, and how they are begun: together, or singly.

A request is *plain* if nothing about it needs a look of its own. Plain requests of a turn that have their
kind, level, timeout and replicas in common become a *group*, whatever connections they came over: one
object with a column for each thing in which they differ.

    n1 has heard   set a, set b, delete c, set d (repeats), set e     over three connections
    groups         {set a, set b}, {delete c}; then set d singly; then {set e}
    or             set many, as a client sends what it asks together: its columns are put behind the others'
    a group        checked, placed, stamped and sealed in one loop; one message to all replicas, one answer to
                   each connection (`write_group.py`)

Special is what repeats an earlier attempt, expires, belongs to a first-write bucket, follows a session that
is ahead of this clock, writes a row that the group before it writes, or makes no sense; and everything while
a member is away, a disk does not keep up, or the clock stamps nothing. It is begun by the coordinator as
ever, and so is a request that comes alone.

Writes keep their order: what comes later has the greater stamp, grouped or not. Owns that order and the plain
case's checks, and decides nothing that the coordinator does not decide as well.
"""

from collections.abc import Iterable
from operator import add
from typing import Any, Final, TypeVar

from basestore.cluster.outbox import Outbox
from basestore.consistency import Level
from basestore.coordinator.context import Context
from basestore.coordinator.coordinator import receive
from basestore.coordinator.get import compares
from basestore.errors import ClockSkew
from basestore.groups.read_group import ReadColumns, ReadGroup
from basestore.groups.write_group import WriteColumns, begin_writes
from basestore.instant import Instant
from basestore.protocol.client import Delete, Get, Set
from basestore.protocol.groups import GetMany, WriteMany, singly
from basestore.protocol.limits import GROUP_BYTES_MAX, KEY_BYTES_MAX
from basestore.repair.clock import NotYet
from basestore.repair.version import NO_PROPOSAL, PROPOSAL_BYTES, VERSION_BYTES, start_of_content

GROUPED: Final = frozenset((Set, Delete, Get, WriteMany, GetMany))
VALUE_BYTES_MAX: Final = 64 << 10  # of a plain write: a longer one gains nothing in a group
Asked = tuple[Outbox, Any]
T = TypeVar("T")
_LEVELS: Final = {level.value: level for level in Level}
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
    """Plain reads: `asked`, and all columns that they were put into."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.asked: list[Asked] = []
        self.all: list[ReadColumns] = []
        self._open: dict[Any, ReadColumns] = {}
        self._compare: dict[int, bool] = {}

    def columns(
        self, level: int, timeout_ms: int, replicas: tuple[int, ...], count: int, size: int
    ) -> ReadColumns:
        """Those that the next reads of this kind, so many, of `size` bytes, are put into."""
        kind = level, timeout_ms, replicas
        columns = self._open.get(kind)
        if columns is None or not columns.has_room(count, size):
            if level not in self._compare:  # a lot for all of a turn: few comparisons of many rows
                self._compare[level] = compares(self._context, _LEVELS[level])
            columns = self._open[kind] = ReadColumns(
                _LEVELS[level], timeout_ms, replicas, compare=self._compare[level]
            )
            self.all.append(columns)
        return columns


class Turn:
    """Of one node."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._asked: list[Asked] = []
        self._names = {  # as they begin the rows of plain buckets
            name: bytes((len(name.encode()),)) + name.encode()
            for name, rule in context.buckets.items()
            if not rule.immutable
        }

    def add(self, outbox: Outbox, request: Any) -> None:
        """A client has asked."""
        self._asked.append((outbox, request))

    def begin(self, now: Instant) -> None:
        """Begin all that was asked, reads behind writes."""
        asked, self._asked = self._asked, []
        if not asked:
            return
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
                receive(self._context, outbox, each, now)

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
            number, bucket, key, value, level, timeout_ms, ttl_ms, proposal, repeats, after = request
            tombstone = False
        else:
            number, bucket, key, level, timeout_ms, proposal, repeats, after = request
            value, ttl_ms, tombstone = b"", 0, True
        context, name = self._context, self._names.get(bucket)
        if (
            name is None or repeats or ttl_ms or not 0 <= after <= context.stamper.last
            or len(proposal) not in (0, PROPOSAL_BYTES) or not 0 < len(key) <= KEY_BYTES_MAX
            or len(value) > VALUE_BYTES_MAX or level not in _LEVELS
            or not 0 < timeout_ms <= context.timeout_ms_max
        ):  # fmt: skip
            return False
        row = context.placement.row_of(name + key)
        if row in writes.rows:
            return False
        partition = int.from_bytes(row[:2], "big")
        if proposal == NO_PROPOSAL:
            proposal = b""
        content = _STARTS[tombstone, proposal != b""] + proposal + value
        replicas, size = context.placement.sets[partition], len(row) + len(content)
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
        rows = list(map(context.placement.row_of, map(name.__add__, keys)))
        seen = writes.rows.union(rows)
        if len(seen) < len(writes.rows) + len(rows):
            return False
        contents = list(map(_STARTS[tombstone, True].__add__, proposals))
        if not tombstone:
            contents = list(map(add, contents, values))
        size = sum(map(len, rows)) + sum(map(len, contents))
        if size > GROUP_BYTES_MAX:
            return False
        partitions = [int.from_bytes(row[:2], "big") for row in rows]
        sets = [context.placement.sets[partition] for partition in partitions]
        into: dict[tuple[int, ...], WriteColumns] = {}
        for replicas in dict.fromkeys(sets):
            at = [place for place, each in enumerate(sets) if each == replicas]
            columns = into[replicas] = writes.columns(tombstone, level, timeout_ms, replicas, len(at), size)
            columns.extend(
                outbox, _picked(ids, at), _picked(partitions, at), _picked(rows, at),
                _picked(proposals, at), _picked(contents, at),
            )  # fmt: skip
        writes.rows = seen
        writes.asked.append((outbox, many))
        writes.partitions += partitions
        writes.put_into += [into[replicas] for replicas in sets]
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
        reads = _Reads(self._context)
        for outbox, request in asked:
            if type(request) is GetMany and self._take_gets(reads, outbox, request):
                continue
            for each in singly((request,)):
                if not self._take_get(reads, outbox, each):
                    self._begin_singly(((outbox, each),), now)
        context = self._context
        rows = [row for columns in reads.all for row in columns.rows]
        size = sum(map(len, rows)) + len(rows) * context.load.answer_bytes
        if len(rows) < 2 or not context.operations.has_room_for_group(len(rows), size):
            self._begin_singly(reads.asked, now)
            return
        for columns in reads.all:
            ReadGroup(context, columns, now).begin(now)

    def _take_get(self, reads: _Reads, outbox: Outbox, request: Get) -> bool:
        """Put a read with those of its kind; False if it is special."""
        number, bucket, key, level, timeout_ms, floor, repair, tell, stale_ms_max = request
        context, name = self._context, self._names.get(bucket)
        if (
            name is None or tell or stale_ms_max or not repair or level not in _READ_LEVELS
            or len(floor) not in (0, VERSION_BYTES) or not 0 < len(key) <= KEY_BYTES_MAX
            or not 0 < timeout_ms <= context.timeout_ms_max
        ):  # fmt: skip
            return False
        row = context.placement.row_of(name + key)
        replicas = context.placement.sets[int.from_bytes(row[:2], "big")]
        reads.columns(level, timeout_ms, replicas, 1, len(row)).extend(outbox, [number], [row], [floor])
        reads.asked.append((outbox, request))
        return True

    def _take_gets(self, reads: _Reads, outbox: Outbox, many: GetMany) -> bool:
        """The same of many; False if any of them is special."""
        ids, bucket, keys, level, timeout_ms = many
        context, name = self._context, self._names.get(bucket)
        lengths = set(map(len, keys))
        if (
            name is None or level not in _READ_LEVELS or not 0 < timeout_ms <= context.timeout_ms_max
            or not 0 < min(lengths) <= max(lengths) <= KEY_BYTES_MAX
        ):  # fmt: skip
            return False
        rows = list(map(context.placement.row_of, map(name.__add__, keys)))
        size = sum(map(len, rows))
        if size > GROUP_BYTES_MAX:
            return False
        sets = [context.placement.sets[int.from_bytes(row[:2], "big")] for row in rows]
        for replicas in dict.fromkeys(sets):
            at = [place for place, each in enumerate(sets) if each == replicas]
            columns = reads.columns(level, timeout_ms, replicas, len(at), size)
            columns.extend(outbox, _picked(ids, at), _picked(rows, at), [b""] * len(at))
        reads.asked.append((outbox, many))
        return True


def _picked(column: list[T], places: list[int]) -> list[T]:
    return column if len(places) == len(column) else [column[place] for place in places]
