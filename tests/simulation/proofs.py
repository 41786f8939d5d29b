"""Proofs: what `converged` has proven, and `explain` called settled, held against the disks.

A proof is about all that had been written when it was asked for: no write that had ended by then has a
greater stamp, and each of them, or what beats it, is durable on all replicas. It stays so: at every later
copy of the disks each replica that has not lost its store since still holds it. A hint of a write at ANY
that nobody holds would deny it, too.
"""

from collections.abc import Collection
from typing import TYPE_CHECKING

from tests.simulation import stored as s
from tests.simulation.history import STORED, Operation

if TYPE_CHECKING:
    from tests.simulation.holdings import Holdings
    from tests.simulation.world import PlannedWorld


class Proofs:
    """Of one world."""

    def __init__(self, world: "PlannedWorld", holdings: "Holdings") -> None:
        self._world = world
        self._holdings = holdings
        self._may_be_gone: list[tuple[float, Operation]] = []  # since when
        self._proven: dict[bytes, bytes] = {}  # by row, the best version that is proven to be everywhere

    def proven(self, stamp: int, asked_s: float, unheard: bool) -> None:
        """All that was written before that moment is said to be everywhere. `unheard`: but for hints of
        members that did not answer."""
        if not self._world.history.sync:
            return
        self._judge_gone(asked_s)
        for operation in self._world.history.operations:
            if not operation.writes or operation.outcome != STORED or operation.end >= asked_s:
                continue
            if not operation.acknowledged and (unheard or self._world.history.stores_lost):
                continue  # only a hint was kept, of which nobody that was heard knows
            if self._world.history.stores_lost and not operation.strong:
                continue  # it may have been lost with the store that had it
            self._judge(operation, stamp)

    def _judge(self, operation: Operation, stamp: int) -> None:
        row = self._world.row(operation.bucket, operation.key)
        version = operation.version
        if s.stamp_of(version) > stamp:
            self._world.blame("converged", f"{operation} had ended, and is proven up to {stamp:x}")
        known = self._proven.get(row)
        if known is None or s.beats(row, version, known):
            self._proven[row] = version
            self._judge_row(row, version)

    def receipted(self, operation: Operation, version: bytes) -> None:
        """A write is said to be everywhere, for good."""
        if self._world.history.sync:
            row = self._world.row(operation.bucket, operation.key)
            self._judge_row(row, version)

    def explained(self, bucket: str, key: str, settled: bool, winner: bytes) -> None:
        """What is settled is on all replicas."""
        if settled and winner and self._world.history.sync:
            row = self._world.row(bucket, key)
            self._judge_row(row, winner)

    def ruined(self, partitions: Collection[int]) -> None:
        """What was proven of these is gone; so may be what was acknowledged, which nobody has accepted
        yet."""
        self._proven = {row: of for row, of in self._proven.items() if s.partition_of(row) not in partitions}
        operations = [
            each
            for each in self._world.history.operations
            if s.partition_of(self._world.row(each.bucket, each.key)) in partitions
        ]
        # Beside what may be gone already: of that the history does not ask any more. Where members die, what
        # fewer than a quorum had may go with them, and nobody need accept that.
        self._may_be_gone += [
            (self._world.clockwork.now, op)
            for op in operations
            if op.writes and op.outcome == STORED and op.acknowledged
            if op.strong or not self._world.plan.changes
        ]

    def accepted(self) -> None:
        """An operator has accepted that."""
        self._may_be_gone = []

    def _judge_gone(self, asked_s: float) -> None:
        """What went with a disk by then, after stores came to be, was accepted before anything is proven."""
        for since_s, operation in self._may_be_gone:
            if since_s >= asked_s:
                continue
            row, version = self._world.row(operation.bucket, operation.key), operation.version
            replicas = list(self._holdings.replicas(row))
            born = max((int.from_bytes(each.disk.get(s.BIRTH) or b"") for each in replicas), default=0)
            if s.stamp_of(version) > born and not any(
                self._holdings.durable(each, row, version) for each in replicas
            ):
                text = f"{s.short(version)} of {row!r} went with a disk, which nobody has accepted"
                self._world.blame("converged", f"all is proven to be everywhere, and {text}")

    def judge(self) -> None:
        """At a copy of the disks."""
        for row, version in self._proven.items():
            self._judge_row(row, version)

    def _judge_row(self, row: bytes, version: bytes) -> None:
        late = self._world.history.late.get(s.key_of(row), ())
        # An operator may have had it written anew, as another version; or a first write that beat it.
        if version in late or any(each < version and s.beats(row, each, version) for each in late):
            return
        for machine in self._holdings.replicas(row):
            excused = self._world.seating.excused(machine, s.partition_of(row))
            if excused or s.DATA + row in machine.spoilt:
                continue
            if not self._holdings.durable(machine, row, version):
                held = s.short(machine.disk.durable(s.DATA + row))
                text = f"{s.short(version)} of {row!r} is proven to be everywhere"
                self._world.blame("converged", f"{text}, and n{machine.index + 1} holds {held}")
