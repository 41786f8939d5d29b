"""Witness: what can only be judged on the spot, with the disks in view.

A receipt's word on a replica is held against that replica's disk: applied means that its disk holds
the record, or a better one, durably, at the moment the receipt leaves; hinted, that the coordinator's
disk holds the hint, or the replica the record. On no disk does a record give way to one that it beats.
And no node answers after the deadline it was given.

A record is gone from a disk only when it was due at or below the stable stamp that stands on that disk,
and then every other replica holds it, or one that beats it, or has purged it: nothing that it beats
comes back. What is at or below a stable stamp is on all replicas. And no list is ever to be made of what
the log may lack: every certificate that counts is at or above the floor. No replica takes a first delivery
at or below the stamp that it has closed.
"""

from typing import TYPE_CHECKING

from basestore.cluster.placement import row_bucket, row_partition
from basestore.consistency import Level, ReplicaState
from basestore.handoff.pile import decode_hint
from basestore.protocol.client import Got, Written
from basestore.protocol.codec import Message
from basestore.protocol.replication import DIRECT, Applied, Apply, Hinted
from basestore.replica.identity import State
from basestore.storage.engine import Batch
from basestore.storage.keyspace import DATA, DEBT, HINT, SEQUENCE_BYTES, SUMMARY
from repair.digest_tree import Summary, due_of
from repair.rule import Rule
from repair.version import VERSION_BYTES, Record
from tests.simulation.history import INF, STORED, Operation

if TYPE_CHECKING:
    from tests.simulation.machine import Machine
    from tests.simulation.world import PlannedWorld

SLACK_S = 0.16
APPLIED, SUPERSEDED, HINTED = ReplicaState.APPLIED, ReplicaState.SUPERSEDED, ReplicaState.HINTED


class Witness:
    """Judges every answer as it leaves its node."""

    def __init__(self, world: "PlannedWorld") -> None:
        self._world = world
        self._asked: dict[int, tuple[float, int, int]] = {}
        self._copies: dict[tuple[int, int, int], tuple[bytes, bytes, str]] = {}
        self._too_late: set[tuple[int, int, int, int]] = set()  # machine and life, sender, request
        self._dues: dict[bytes, dict[bytes, int]] = {}  # by row and version: from when it may be purged

    def heard(self, machine: "Machine", source: int, apply: Apply) -> None:
        """A first delivery arrives. At or below the closed stamp it is not to be taken, unless it was
        before."""
        summary = (
            machine.node.summaries.of.get(row_partition(apply.row)) if machine.node is not None else None
        )
        version = apply.record[:VERSION_BYTES]
        if summary is not None and apply.way == DIRECT and int.from_bytes(version[:8]) <= summary.closed:
            rule = self._world.rules[row_bucket(apply.row).decode()]
            if not self._holds(rule, machine.disk.get(DATA + apply.row), version):
                self._too_late.add((machine.index, machine.life, source, apply.id))

    def said(self, machine: "Machine", target: int, message: Message) -> None:
        """A node sends a copy, or says that it has taken some: they are then durable there."""
        if isinstance(message, Apply | Hinted):
            if isinstance(message, Hinted) or message.way != DIRECT:
                row, version = message.row, message.record[:VERSION_BYTES]
                bucket = row_bucket(row).decode()
                self._copies[machine.index, target, message.id] = row, version, bucket
        elif self._too_late and isinstance(message, Applied):
            for request in message.ids:
                if (machine.index, machine.life, target, request) in self._too_late:
                    text = (
                        f"n{machine.index + 1} took what n{target + 1} sent it at or below its closed stamp"
                    )
                    self._world.blame("closed", text)
        if isinstance(message, Applied) and self._copies and self._world.history.sync:
            for request in message.ids:
                copy = self._copies.pop((target, machine.index, request), None)
                if copy is None or machine.impaired:
                    continue
                row, version, bucket = copy
                held = machine.disk.durable(DATA + row)
                if not self._kept(machine, row, self._world.rules[bucket], held, version):
                    text = f"n{machine.index + 1} confirms a copy of {row!r} to n{target + 1}"
                    self._world.blame("acks", f"{text} and holds {_short(held)} durably")

    def replaced(self, machine: "Machine", held: dict[bytes, bytes | None], batch: Batch) -> None:
        """A batch is applied: no sound record gives way to one that it beats, or goes before its time."""
        for key, old in held.items():
            if key[:1] != DATA:
                continue
            row, new = key[len(DATA) :], batch[key]
            if new is not None:
                self._note_due(row, new)
            if key in machine.spoilt or (old is None and new is None):
                continue
            rule = self._world.rules[row_bucket(row).decode()]
            if old is None:
                version = (new or b"")[:VERSION_BYTES]
                if self.gone(machine, row, rule, version) and not machine.impaired:
                    self._world.blame("purges", f"n{machine.index + 1}, {key!r}: {_short(new)} comes back")
            elif new is None:
                self._judge_purge(machine, row, rule, old[:VERSION_BYTES], batch)
            elif not self._holds(rule, new, old[:VERSION_BYTES]):
                text = f"{_short(old)} gives way to {_short(new)}"
                self._world.blame("goes back", f"n{machine.index + 1}, {key!r}: {text}")

    def _note_due(self, row: bytes, stored: bytes) -> None:
        record = Record(stored[:-SEQUENCE_BYTES])
        due = due_of(record.head, record.expires_ms)
        if due:
            self._dues.setdefault(row, {})[stored[:VERSION_BYTES]] = due

    def _judge_purge(self, machine: "Machine", row: bytes, rule: Rule, version: bytes, batch: Batch) -> None:
        """A record goes: it was due, and all replicas had it; or its store is forgetful, and drops what the
        others have purged."""
        world, name = self._world, f"n{machine.index + 1}, {row!r}: {version.hex('-', 8)}"
        if machine.node is not None and machine.node.identity.state is State.FORGETFUL:
            return
        stable = _stable(batch.get(SUMMARY + row[:2]) or machine.disk.get(SUMMARY + row[:2]))
        if not 0 < self._dues.get(row, {}).get(version, 0) <= stable:
            world.blame("purges", f"{name} goes, and is not due")
        world.counts["record purged"] += 1
        for replica in world.placement.replicas[row_partition(row)]:
            other = world.machines[replica]
            held = other.disk.durable(DATA + row)
            if other is machine or other.impaired or DATA + row in other.spoilt:
                continue
            if not self._kept(other, row, rule, held, version):
                world.blame("purges", f"{name} goes, and n{replica + 1} holds {_short(held)}")

    def gone(self, machine: "Machine", row: bytes, rule: Rule, version: bytes) -> bool:
        """Whether the machine may have purged that version, or one that beats it."""
        dues = self._dues.get(row)
        if not dues:
            return False
        stable = _stable(machine.disk.get(SUMMARY + row[:2]))
        return any(
            due <= stable and (known == version or rule.beats(known, version)) for known, due in dues.items()
        )

    def _kept(self, machine: "Machine", row: bytes, rule: Rule, held: bytes | None, version: bytes) -> bool:
        """Whether what a machine holds is that version or beats it, or it has purged such a one."""
        return self._holds(rule, held, version) or (held is None and self.gone(machine, row, rule, version))

    def purged(self, row: bytes) -> bytes:
        """The greatest version of a row that some replica may have purged: who finds nothing finds that."""
        machines = [self._world.machines[r] for r in self._world.placement.replicas[row_partition(row)]]
        stable = max(_stable(machine.disk.get(SUMMARY + row[:2])) for machine in machines)
        return max((known for known, due in self._dues.get(row, {}).items() if due <= stable), default=b"")

    def judge_floors(self, machine: "Machine") -> None:
        """What was stored after a certificate is all in the log."""
        assert machine.node is not None
        for partition, summary in machine.node.summaries.of.items():
            for member, certificate in machine.node.certificates.certificates(partition).items():
                if certificate.mine < summary.floor:
                    text = f"{partition} is certified with n{member + 1} at {certificate.mine}"
                    self._world.blame(
                        "floors", f"n{machine.index + 1}: {text}, and its floor is {summary.floor}"
                    )

    def judge_stable(self) -> None:
        """What is at or below a partition's stable stamp is on all its replicas, or was beaten there."""
        world = self._world
        for partition, replicas in enumerate(world.placement.replicas):
            prefix, end = partition.to_bytes(2), DATA + (partition + 1).to_bytes(2)
            machines = [world.machines[replica] for replica in replicas]
            stable = max(_stable(machine.disk.durable(SUMMARY + prefix)) for machine in machines)
            sound = [machine for machine in machines if not machine.impaired]
            known = {
                (key[len(DATA) :], stored[:VERSION_BYTES])
                for machine in sound
                for key, stored in (machine.disk.scan(DATA + prefix, end) if stable else ())
                if int.from_bytes(stored[:8]) <= stable and key not in machine.spoilt
            }
            for row, version in sorted(known):
                rule = world.rules[row_bucket(row).decode()]
                for machine in sound:
                    held = machine.disk.durable(DATA + row)
                    if DATA + row not in machine.spoilt and not self._kept(machine, row, rule, held, version):
                        text = f"{version.hex('-', 8)} is at or below {stable:x}, n{machine.index + 1} holds"
                        world.blame("stable stamps", f"{row!r}: {text} {_short(held)}")

    def asked(self, machine: "Machine", operation: Operation) -> None:
        """A node has taken up a request."""
        self._asked[operation.requests[-1] << 20 | operation.number] = (
            self._world.clockwork.now, machine.pauses, machine.life
        )  # fmt: skip

    def answered(self, machine: "Machine", operation: Operation, message: Message) -> None:
        """A node answers."""
        request: int = message.id  # type: ignore[attr-defined]
        asked = self._asked.pop(request << 20 | operation.number, None)
        if asked is not None and asked[1] == machine.pauses:
            late = self._world.clockwork.now - asked[0] - operation.timeout_ms / 1e3
            if late > SLACK_S:
                self._world.blame("deadlines", f"{operation} was answered {late:.3f} s after its deadline")
        if not self._world.history.sync:
            return
        if isinstance(message, Written) and message.replicas:
            self._judge(machine, operation, message)
        elif isinstance(message, Got):
            self._judge_shown(operation, message)

    def _judge_shown(self, operation: Operation, got: Got) -> None:
        """What a read shows is durable on as many replicas as its level requires."""
        world = self._world
        required = _needed(operation.level, world.plan.replication)
        if got.required != required or got.responded < required:
            world.blame("receipts", f"{operation}: required {got.required}, responded {got.responded}")
        if not got.version:
            return
        row = world.placement.row(operation.bucket.encode(), operation.key.encode())
        rule = world.rules[operation.bucket]
        holders = [world.machines[replica] for replica in world.placement.replicas[row_partition(row)]]
        holding = sum(
            each.impaired or self._kept(each, row, rule, each.disk.durable(DATA + row), got.version)
            for each in holders
        )
        if holding < required:
            world.blame("shown", f"{operation} shows what {holding} of {required} hold durably")

    def silent(self, machine: "Machine", life: int, operation: Operation, request: int) -> None:
        """A client has given up: had its node still the time to answer?"""
        asked = self._asked.pop(request << 20 | operation.number, None)
        if asked is None or asked[1:] != (machine.pauses, life) or machine.life != life:
            return
        late = self._world.clockwork.now - asked[0] - operation.timeout_ms / 1e3
        self._world.counts["client gave up"] += 1
        if late > SLACK_S:
            self._world.blame("deadlines", f"{operation} was never answered")

    def _judge(self, machine: "Machine", operation: Operation, written: Written) -> None:
        world = self._world
        row = world.placement.row(operation.bucket.encode(), operation.key.encode())
        rule = world.rules[operation.bucket]
        replicas = [world.index_of[number] for number in written.replicas[::2]]
        if tuple(replicas) != world.placement.replicas[row_partition(row)]:
            world.blame("receipts", f"{operation}: the receipt names the wrong replicas")
        counted = 0
        operation.promised = []
        for replica, state in zip(replicas, written.replicas[1::2], strict=True):
            counted += state == APPLIED
            if state in (APPLIED, SUPERSEDED, HINTED):
                operation.promised.append(replica)
            holder = world.machines[replica]
            if holder.impaired:
                continue
            held = holder.disk.durable(DATA + row)
            if state == APPLIED and not self._kept(holder, row, rule, held, written.version):
                world.blame("receipts", f"{operation}: n{replica + 1} has not applied it: {_short(held)}")
            elif state == SUPERSEDED and not self._kept(holder, row, rule, held, written.version):
                world.blame("receipts", f"{operation}: n{replica + 1} holds nothing better: {_short(held)}")
            elif state == HINTED and not machine.impaired:
                name = world.names[replica].encode()
                hint = machine.disk.durable(HINT + len(name).to_bytes(2) + name + row)
                kept = None if hint is None else decode_hint(hint).record.blob
                if not (
                    self._holds(rule, kept, written.version)
                    or self._kept(holder, row, rule, held, written.version)
                    or self._owed(replica, row, rule, written.version)
                ):
                    text = f"no hint for n{replica + 1} is durable: {_short(kept)}, it holds {_short(held)}"
                    world.blame("receipts", f"{operation}: {text}")
        required = _needed(operation.level, world.plan.replication)
        if written.required != required:
            world.blame("receipts", f"{operation}: required {written.required}, not {required}")
        if counted != written.acknowledged:
            world.blame("receipts", f"{operation}: {written.acknowledged} acknowledged, {counted} named")

    def keep_promises(self) -> None:
        """All hints are delivered, or a debt was left: whoever a receipt named holds the write, or a
        better one. Where no coordinator crashed that holds for every replica of what was stored."""
        world = self._world
        if not world.history.sync or world.history.stores_lost:
            return
        for operation in world.history.operations:
            if not operation.promised or not operation.version:
                continue
            row = world.placement.row(operation.bucket.encode(), operation.key.encode())
            rule = world.rules[operation.bucket]
            for replica in operation.promised:
                if not (
                    self._has(replica, row, rule, operation)
                    or self._owed(replica, row, rule, operation.version)
                    or self._late(replica, row, rule, operation.version)
                ):
                    world.blame("receipts", f"{operation} has not come to n{replica + 1}, and is not owed")
            if world.history.crash_s == INF and operation.outcome == STORED:
                for replica in world.placement.replicas[row_partition(row)]:
                    if self._owed(replica, row, rule, operation.version):
                        world.counts["owed"] += 1
                    elif not self._has(replica, row, rule, operation) and not self._late(
                        replica, row, rule, operation.version
                    ):
                        world.blame("debts", f"{operation} is missing on n{replica + 1}, and is not owed")

    def _has(self, replica: int, row: bytes, rule: Rule, operation: Operation) -> bool:
        machine = self._world.machines[replica]
        return self._kept(machine, row, rule, machine.disk.get(DATA + row), operation.version)

    def _late(self, replica: int, row: bytes, rule: Rule, version: bytes) -> bool:
        """Whether some member still keeps a hint for the replica that came too late, for an operator."""
        name = self._world.names[replica].encode()
        found = (
            machine.disk.get(HINT + len(name).to_bytes(2) + name + row) for machine in self._world.machines
        )
        hints = [decode_hint(stored) for stored in found if stored is not None]
        return any(hint.late and self._holds(rule, hint.record.blob, version) for hint in hints)

    def _owed(self, replica: int, row: bytes, rule: Rule, version: bytes) -> bool:
        """Whether some member has marked that the replica may lack it, or the record that beats it."""
        name = self._world.names[replica].encode()
        disks = [machine.disk for machine in self._world.machines]
        debts = [disk.get(DEBT + len(name).to_bytes(2) + name + row[:2]) for disk in disks]
        winner = version
        for blob in (disk.get(DATA + row) for disk in disks):
            if blob is not None and rule.beats(blob[:VERSION_BYTES], winner):
                winner = blob[:VERSION_BYTES]
        latest = max(winner, version)[:8]
        return any(debt is not None and debt <= latest for debt in debts)

    @staticmethod
    def _holds(rule: Rule, blob: bytes | None, version: bytes) -> bool:
        """Whether a record is that version or beats it."""
        if blob is None:
            return False
        held = blob[:VERSION_BYTES]
        return held == version or rule.beats(held, version)


def _needed(level: Level, replicas: int) -> int:
    """How many replicas a level requires: said once more, for the product's own word is on trial."""
    return {Level.QUORUM: replicas // 2 + 1, Level.ALL: replicas}.get(level, 1)


def _stable(stored: bytes | None) -> int:
    """The stable stamp of a summary as it stands on a disk."""
    return 0 if stored is None else Summary.decode(stored).stable


def _short(blob: bytes | None) -> str:
    return "nothing" if blob is None else blob[:VERSION_BYTES].hex("-", 8)
