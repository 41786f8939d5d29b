"""Batch judge: all of an atomic batch or none of it, in the end.

It sees each part that comes to a disk, and reads by its own eyes what rows of which versions are in it; and
of each row that comes to a disk `holdings.py` knows the versions. So of each batch it knows which of its rows
any replica has ever taken:

    some      then in the end each replica of each row holds that version, or one that beats it, or has
              purged such a one
    none      then its client was not told that it is stored
    any       then its client was not told that nothing was done, and no tombstone says that it was given up

What lies on more disks that are lost than a partition can spare is excused. In the end no part is left, but
for tombstones. What is written alone is held against the disks alike.
"""

import struct
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from basestore.storage.engine import Batch
from tests.simulation import stored as s
from tests.simulation.batch_clients import ALONE, BATCH, BUCKET, PENDING, REFUSED, STORED, Asked

if TYPE_CHECKING:
    from tests.simulation.machine import Machine
    from tests.simulation.world import PlannedWorld

PARTS = b"\1b"
LAID = 16
GIVEN_UP = b"\2"
LAW = "batches"
Rows = dict[bytes, bytes]  # and the version of each


def read_part(value: bytes) -> tuple[list[int], Rows]:
    """The partitions that a batch writes to, and the rows in this part of it."""
    (count,) = struct.unpack_from(">H", value, 8)
    partitions = list(struct.unpack_from(f">{count}H", value, 10))
    at, rows = 10 + 2 * count, Rows()
    while at < len(value):
        row_bytes, record_bytes = struct.unpack_from(">II", value, at)
        row = value[at + 8 : at + 8 + row_bytes]
        rows[row] = value[at + 8 + row_bytes :][: s.VERSION]
        at += 8 + row_bytes + record_bytes
    return partitions, rows


def is_over(row: bytes, stored: bytes) -> bool:
    """Whether this stands in the place of a part: nobody reads it any more."""
    return s.bucket_of(row) == PARTS and s.is_tombstone(stored)


class Seen:
    """A batch of which some part has come to a disk: its partitions, and the rows of those parts."""

    def __init__(self, partitions: list[int]) -> None:
        self.partitions = partitions
        self.parts: dict[int, Rows] = {}


class BatchJudge:
    """Of one world."""

    def __init__(self, world: "PlannedWorld") -> None:
        self._world = world
        self._seen: dict[bytes, Seen] = {}  # by what its client has drawn
        self._part_of: dict[tuple[bytes, bytes], bytes] = {}  # of a row's version: the key of its part
        self._given_up: dict[bytes, bytes] = {}  # and a row of whose tombstone says so
        self._excused: set[int] = set()

    def ruined(self, partitions: Collection[int]) -> None:
        """More stores of these are lost than can be survived."""
        self._excused |= set(partitions)

    # --- what comes to disks -------------------------------------------------------------------

    def replaced(self, machine: "Machine", held: dict[bytes, bytes | None], batch: Batch) -> None:
        """A batch of the engine is about to be applied."""
        for key in held:
            new = batch[key]
            if key[:1] != s.DATA or s.bucket_of(key[1:]) != PARTS or new is None:
                continue
            if new[s.FLAGS_AT] & LAID:
                self._note(key, new)
            elif s.is_tombstone(new) and new[s.RECORD_MIN : s.RECORD_MIN + 1] == GIVEN_UP:
                self._given_up[s.key_of_bytes(key[1:])] = key[1:]

    def _note(self, key: bytes, stored: bytes) -> None:
        row = key[1:]
        partitions, rows = read_part(stored[s.RECORD_MIN : -s.SEQUENCE])
        seen = self._seen.setdefault(s.key_of_bytes(row), Seen(partitions))
        before = seen.parts.setdefault(s.partition_of(row), rows)
        if before != rows or seen.partitions != partitions:
            self._world.blame(LAW, f"two parts of one batch under {row!r}")
        for each, version in rows.items():
            self._part_of[each, version] = key

    def brings(self, machine: "Machine", row: bytes, version: bytes) -> bool:
        """Whether a row comes to this disk out of a part that it holds."""
        key = self._part_of.get((row, version))
        part = machine.disk.get(key) if key is not None else None
        return part is not None and bool(part[s.FLAGS_AT] & LAID)

    # --- in the end ------------------------------------------------------------------------------

    def left(self) -> list[str]:
        """Parts that are not over."""
        return [
            f"n{machine.index + 1} holds a part of {s.key_of_bytes(key[1:]).hex()}"
            for machine in self._world.roster.members
            for key, stored in machine.disk.scan(s.DATA, bytes((s.DATA[0] + 1,)))
            if s.bucket_of(key[1:]) == PARTS and stored[s.FLAGS_AT] & LAID
        ]

    def judge(self, asked: list[Asked]) -> None:
        told = {each.proposal: each for each in asked if each.kind == BATCH}
        for proposal, each in told.items():
            self._judge_batch(each, self._seen.get(proposal))
        for each in asked:
            self._world.counts[f"{each.kind} {each.outcome}"] += 1
            if each.outcome == PENDING and each.requests:
                self._world.blame("answers", f"{each} never ended")
            if each.kind == ALONE and each.outcome == STORED:
                row = self._world.row(BUCKET, next(iter(each.writes)))
                for text in self._lacks(row, each.versions[0]):
                    self._world.blame(LAW, f"{each}: {text}")

    def _judge_batch(self, asked: Asked, seen: Seen | None) -> None:
        if seen is None:
            if asked.outcome == STORED:
                self._world.blame(LAW, f"{asked}, and no disk has ever held a part")
            return
        if self._excused & set(seen.partitions):
            self._world.counts["spared: batches of what was lost"] += 1
            return
        holdings = self._world.witness.holdings
        rows = {row: version for part in seen.parts.values() for row, version in part.items()}
        some = [row for row, version in rows.items() if holdings.taken(row, version)]
        self._world.counts[
            f"batch {asked.outcome}, of which {'some' if some else 'nothing'} was applied"
        ] += 1
        if asked.outcome == REFUSED and some:
            self._world.blame(LAW, f"{asked}: its client was told that nothing is done, and {some[0]!r} was")
        if asked.proposal in self._given_up and some:
            self._world.blame(
                LAW, f"{asked}: a tombstone says that it was given up, and {some[0]!r} was done"
            )
        if asked.outcome == STORED or some:
            lacking = set(seen.partitions) - seen.parts.keys()
            if lacking or len(rows) < len(asked.writes):
                self._world.blame(LAW, f"{asked}: no disk has ever held its parts in {sorted(lacking)}")
            for row, version in rows.items():
                for text in self._lacks(row, version):
                    why = (
                        f"a part was applied, {some[0]!r}"
                        if some
                        else "its client was told that it is stored"
                    )
                    self._world.blame(LAW, f"{asked}: {why}; but {text}")

    def _lacks(self, row: bytes, version: bytes) -> Iterator[str]:
        """Which replicas do not hold it, nor what beats it."""
        world = self._world
        if s.partition_of(row) in self._excused:
            return
        for machine in world.seating.holders(s.partition_of(row)):
            held = machine.disk.get(s.DATA + row)
            if s.DATA + row in machine.spoilt or world.witness.holdings.kept(machine, row, held, version):
                continue
            yield f"n{machine.index + 1} holds {s.short(held)} of {row!r}, not {s.short(version)}"
