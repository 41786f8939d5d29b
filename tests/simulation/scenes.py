"""Scenes: small ones for the tests of the witness, of machines that do not run."""

from basestore.consistency import Level, ReplicaState
from basestore.protocol.client import Written
from tests.simulation import history as h
from tests.simulation import stored as s
from tests.simulation.drawing import draw
from tests.simulation.machine import WALL_MS
from tests.simulation.world import PlannedWorld


def version(ms: int, member: int = 2, number: int = 1) -> bytes:
    """Of a write so many ms after the world began."""
    return ((WALL_MS + ms) << 16).to_bytes(8) + (member + 1 << 48 | 7).to_bytes(8) + number.to_bytes(8)


def record(ms: int, *, tombstone: bool = False, expires_ms: int = 0, proposal: bytes = b"") -> bytes:
    """As it is stored: with a sequence."""
    flags = bytes((tombstone | (2 if expires_ms else 0) | (4 if proposal else 0),))
    return version(ms) + bytes(16) + flags + expires_ms.to_bytes(8) + proposal + b"v" + bytes(8)


def summary(*, closed_ms: int | None = None, stable_ms: int = -WALL_MS) -> bytes:
    """What is stable is closed, unless that is said."""
    closed_ms = stable_ms if closed_ms is None else closed_ms
    stamps = [((WALL_MS + ms) << 16).to_bytes(8) for ms in (closed_ms, stable_ms)]
    return bytes(s.CLOSED_AT) + b"".join(stamps) + bytes(24)


class Scene:
    """Three machines that do not run, whose disks are written by hand."""

    def __init__(self) -> None:
        plans = (plan for plan in map(draw, range(999)) if plan.partitions == 1 and plan.durability == "sync")
        plan = next(plan for plan in plans if len(plan.machines) == plan.replication == 3)
        self.world = PlannedWorld(plan)
        self.witness = self.world.witness
        for machine in self.world.machines:
            for other in self.world.machines:
                self.witness.met(machine, other.index)

    def row(self, key: str = "k") -> bytes:
        return self.world.placement.row(b"once" if key.startswith("once") else b"default", key.encode())

    def put(self, machine: int, stored: bytes | None, key: str = "k") -> None:
        self.write(machine, s.DATA + self.row(key), stored)

    def write(self, machine: int, key: bytes, value: bytes | None, *, synced: bool = True) -> None:
        disk = self.world.machines[machine].disk
        disk.apply({key: value})
        if synced:
            disk.sync()

    def stand(self, machine: int, summary: bytes, key: str = "k", *, synced: bool = True) -> None:
        self.write(machine, s.SUMMARY + self.row(key)[:2], summary, synced=synced)

    def operation(self, kind: str = h.SET, level: Level = Level.QUORUM, key: str = "k") -> h.Operation:
        bucket = "once" if key.startswith("once") else "default"
        operation = self.world.history.begin(0, kind, bucket, key, level)
        operation.requests, operation.attempts, operation.timeout_ms = [1], 1, 1000
        return operation

    def write_ends(
        self, version: bytes, states: tuple[ReplicaState, ...], key: str = "k", level: Level = Level.QUORUM
    ) -> h.Operation:
        """The coordinator, machine 0, sends a receipt."""
        operation = self.operation(level=level, key=key)
        self.write(0, s.CEILING, b"\xff" * 8)
        numbers = [self.world.machines[i].config.member.number for i in self.replicas(key)]
        words = [word for number, state in zip(numbers, states, strict=True) for word in (number, int(state))]
        applied, needed = states.count(ReplicaState.APPLIED), 1 if level is Level.ANY else 2
        final = int(operation.bucket == "once")  # not yet
        self.witness.answered(
            self.world.machines[0],
            operation,
            Written(1, 0, final, bytes(8) + version, needed, applied, words, b"", 0),
        )
        operation.outcome, operation.version = h.STORED, version
        return operation

    def replicas(self, key: str = "k") -> tuple[int, ...]:
        return self.world.placement.replicas[s.partition_of(self.row(key))]

    def wrong(self) -> set[str]:
        return {violation.check for violation in self.world.violations}
