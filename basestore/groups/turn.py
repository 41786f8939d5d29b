"""Turn: the requests that have come since the node's last step, and how they are begun: together, or singly.

A request is *plain* if nothing about it needs a look of its own. Plain requests of a turn that have their
kind, level, timeout and replicas in common become a *group*, whatever connections they came over: one
object with a column for each thing in which they differ.

    n1 has heard   set a, set b, delete c, set d (repeats), set e     over three connections
    groups         {set a, set b}, {delete c}; then set d singly; then {set e}
    a group        checked, placed, stamped and sealed in one loop; one message to all replicas, one answer to
                   each connection (`write_group.py`)

Special is what repeats an earlier attempt, expires, belongs to a first-write bucket, follows a session that
is ahead of this clock, or makes no sense; and everything while a member is away, a disk does not keep up,
or the clock stamps nothing. It is begun by the coordinator as ever, and so is a request that comes alone.

Writes keep their order: what comes later has the greater stamp, grouped or not. Owns that order and the plain
case's checks, and decides nothing that the coordinator does not decide as well.
"""

from collections.abc import Iterable
from typing import Any, Final

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
from basestore.protocol.limits import GROUP_MAX, KEY_BYTES_MAX
from basestore.repair.clock import NotYet
from basestore.repair.version import NO_PROPOSAL, PROPOSAL_BYTES, VERSION_BYTES, start_of_content

GROUPED: Final = frozenset((Set, Delete, Get))
VALUE_BYTES_MAX: Final = 64 << 10  # of a plain write: a longer one gains nothing in a group
Asked = tuple[Outbox, Any]
_LEVELS: Final = {level.value: level for level in Level}
_READ_LEVELS: Final = frozenset(_LEVELS) - {Level.ANY.value}
_STARTS: Final = {
    (tombstone, proposed): start_of_content(tombstone=tombstone, proposed=proposed)
    for tombstone in (False, True)
    for proposed in (False, True)
}


class _Writes:
    """Plain writes that follow each other, in that order: `asked`, and into which columns each was put."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.partitions: list[int] = []
        self.put_into: list[WriteColumns] = []
        self.all: list[WriteColumns] = []
        self.open: dict[Any, WriteColumns] = {}  # by what those in it have in common


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
        reads = [each for each in asked if type(each[1]) is Get]
        writes = [each for each in asked if type(each[1]) is not Get] if reads else asked
        if len(asked) > 1 and self.calm:
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
            receive(self._context, outbox, request, now)

    # --- writes ------------------------------------------------------------------------------

    def _write(self, asked: Iterable[Asked], now: Instant) -> None:
        writes = _Writes()
        for each in asked:
            if not self._take(writes, each):
                self._begin_writes(writes, now)
                writes = _Writes()
                self._begin_singly((each,), now)
        self._begin_writes(writes, now)

    def _take(self, writes: _Writes, asked: Asked) -> bool:
        """Put a write with those of its kind; False if it is special."""
        if type(asked[1]) is Set:
            _, bucket, key, value, level, timeout_ms, ttl_ms, proposal, repeats, after = asked[1]
            tombstone = False
        else:
            _, bucket, key, level, timeout_ms, proposal, repeats, after = asked[1]
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
        partition = int.from_bytes(row[:2], "big")
        kind = tombstone, level, timeout_ms, context.placement.sets[partition]
        columns = writes.open.get(kind)
        if columns is None or columns.full:
            columns = writes.open[kind] = WriteColumns(tombstone, _LEVELS[level], *kind[2:])
            writes.all.append(columns)
        if proposal == NO_PROPOSAL:
            proposal = b""
        columns.asked.append(asked)
        columns.partitions.append(partition)
        columns.rows.append(row)
        columns.proposals.append(proposal or NO_PROPOSAL)
        columns.contents.append(_STARTS[tombstone, proposal != b""] + proposal + value)
        columns.bytes += len(row) + len(value)
        writes.asked.append(asked)
        writes.partitions.append(partition)
        writes.put_into.append(columns)
        return True

    def _begin_writes(self, writes: _Writes, now: Instant) -> None:
        """All of them, in the order of their stamps."""
        context, count = self._context, len(writes.asked)
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
        for columns, version in zip(writes.put_into, versions, strict=True):
            columns.versions.append(version)
        for columns in writes.all:
            begin_writes(context, columns, now)

    # --- reads -------------------------------------------------------------------------------

    def _read(self, asked: Iterable[Asked], now: Instant) -> None:
        plain: list[Asked] = []
        rows: list[bytes] = []
        for each in asked:
            row = self._plain_row(each[1])
            if row:
                plain.append(each)
                rows.append(row)
            else:
                self._begin_singly((each,), now)
        if not rows:
            return
        operations, load = self._context.operations, self._context.load
        size = sum(map(len, rows)) + len(rows) * load.answer_bytes
        if len(rows) < 2 or not operations.has_room_for_group(len(rows), size):
            self._begin_singly(plain, now)
            return
        for columns in self._columns_of(plain, rows):
            ReadGroup(self._context, columns, now).begin(now)

    def _plain_row(self, request: Get) -> bytes:
        """The row that is asked for; nothing if the request is special."""
        _, bucket, key, level, timeout_ms, floor, repair, tell, stale_ms_max = request
        context, name = self._context, self._names.get(bucket)
        if (
            name is None or tell or stale_ms_max or not repair or level not in _READ_LEVELS
            or len(floor) not in (0, VERSION_BYTES) or not 0 < len(key) <= KEY_BYTES_MAX
            or not 0 < timeout_ms <= context.timeout_ms_max
        ):  # fmt: skip
            return b""
        return context.placement.row_of(name + key)

    def _columns_of(self, asked: Iterable[Asked], rows: Iterable[bytes]) -> list[ReadColumns]:
        """Those that have all but their rows in common, together."""
        context, sets = self._context, self._context.placement.sets
        every: list[ReadColumns] = []
        groups: dict[Any, ReadColumns] = {}
        for each, row in zip(asked, rows, strict=True):
            level = _LEVELS[each[1].level]
            kind = level, each[1].timeout_ms, sets[int.from_bytes(row[:2], "big")], compares(context, level)
            columns = groups.get(kind)
            if columns is None or len(columns.rows) == GROUP_MAX:
                columns = groups[kind] = ReadColumns(*kind[:3], compare=kind[3])
                every.append(columns)
            columns.asked.append(each)
            columns.rows.append(row)
            columns.floors |= each[1].floor != b""
        return every
