"""Bugs in what is done with many requests at once (`basestore/groups`, `replica/many_rows.py`)."""

from collections.abc import Sequence
from typing import Any

from basestore.cluster.outbox import SMALL_BYTES
from basestore.groups.read_group import ReadGroup
from basestore.groups.turn import Turn
from basestore.groups.write_group import WriteGroup
from basestore.protocol.client import Delete, Set
from basestore.protocol.groups import AppliedGroups
from basestore.replica.group_commit import GroupCommit
from basestore.replica.many_rows import ManyRows
from tests.simulation.mutations.registry import STALE, mutant

GROUPS = {*STALE, "receipts", "answers", "promises", "durability", "acks", "crash"}
_take = Turn._take
_take_many = Turn._take_many
_columns = Turn._columns
_weigh = ManyRows.weigh
_answer = WriteGroup._answer


@mutant("one ack stands for a group of which one was refused", GROUPS, ManyRows, "apply")
def _ack_all(self: Any, outbox: Any, message: Any, wall_ms: int, *, sealed: bool) -> None:
    group, _, rows, records = message
    special, helds = self.weigh(rows, records, wall_ms, sealed=sealed)
    plain = [place for place in range(len(rows)) if place not in special]
    if plain:
        self.store(*([column[place] for place in plain] for column in (rows, records, helds)), wall_ms)
    self._group_commit.ack_group(outbox, group, len(rows), ())


@mutant("a special write is put with plain ones", GROUPS, Turn, "_take")
def _take_repeats(self: Any, writes: Any, asked: Any) -> bool:
    outbox, request = asked
    if isinstance(request, Set | Delete) and request.repeats:
        asked = outbox, request._replace(repeats=False, identity=b"")
    return bool(_take(self, writes, asked))


@mutant("a group is acknowledged before its batch is durable", GROUPS, GroupCommit, "ack_group")
def _ack_at_once(self: Any, outbox: Any, group: int, count: int, skipped: Any) -> None:
    outbox.put(
        AppliedGroups([group, count], list(skipped), self.generation, self.durable_sequence), SMALL_BYTES
    )


@mutant("a column of a group is out of step", GROUPS, ManyRows, "weigh")
def _marks_out_of_step(self: Any, rows: Sequence[bytes], *more: Any, **named: Any) -> Any:
    special, helds = _weigh(self, rows, *more, **named)
    return special, [*helds[1:], *helds[:1]]


@mutant("an answer to a group goes to another connection", GROUPS, WriteGroup, "_answer")
def _answer_the_first(self: Any, now: Any) -> None:
    columns = self._columns
    columns.outboxes = columns.outboxes[:1] * len(columns.outboxes)
    _answer(self, now)


@mutant("a group of reads shows what is not durable", GROUPS, GroupCommit, "reply_group")
def _show_at_once(self: Any, outbox: Any, message: Any, keys: Any, size: int) -> None:
    outbox.put(message, size)


@mutant("a group of reads believes the first reply", GROUPS, ReadGroup, "_part")
def _part_never(self: Any, now: Any) -> None:
    for request in self.ids[1:]:
        if not self._held[self._whole][request - self._first]:
            self._leave(request, now).consider(now)


@mutant("a group takes what is beaten", GROUPS, ManyRows, "weigh")
def _take_all(self: Any, rows: Sequence[bytes], *more: Any, **named: Any) -> Any:
    _, helds = _weigh(self, rows, *more, **named)
    return set(), helds


@mutant("columns of writes that came together are out of step", GROUPS, Turn, "_take_many")
def _ids_out_of_step(self: Any, writes: Any, outbox: Any, many: Any) -> bool:
    return bool(_take_many(self, writes, outbox, many._replace(ids=many.ids[1:] + many.ids[:1])))


@mutant("columns of reads that came together are out of step", GROUPS, Turn, "_columns")
def _keys_out_of_step(self: Any, *kind: Any, compare: bool) -> Any:
    *_, reads = kind
    reads.keys = reads.keys[1:] + reads.keys[:1]
    return _columns(self, *kind, compare=compare)
