"""Promises: what a receipt has promised to bring, followed until it is there.

A receipt's word on a replica is held against that replica's disk (`witness.py`). From then on, at every
copy of the disks: whoever a receipt has named holds the write, or a better one, or a hint for it is kept,
or the replica is marked as owed. Promises end with the disks that they were made on.

What a quorum holds stays held by a quorum: of every version that was stored or shown at QUORUM or ALL,
replicas that hold it, or a better one, and replicas whose store is known to be lost and not yet whole again
are a quorum together. A store that was lost and counts as whole again holds all that a quorum was said to
hold before, and shortly after: what is recovered later may be counted twice. Where partitions move it is a
quorum of those that have held it, until the move has ended; and what a replica was to hold it is to hold no
more once it has no seat (`moved.py` says what becomes of that).

Who gives up a hint marks its member as owed, since the first write that was kept there and that the member
lacks; and the mark stands until the member holds all of these that another replica holds.

A hint is late only if its member may have closed itself to it, and a late one goes only when what it holds,
or something better, is durable on a quorum, or its life is over, or its keeper goes by an epoch at which its
bucket is dropped. What takes the place of an only copy is no mere copy while nobody has taken either of the
two, or what beats it.

What may be gone is known to be: a store that counts as whole again names as lost what its former disk had
taken and nobody has, by its stamp; and so does who finds that the only hint of a write is spoilt.
"""

from collections.abc import Collection
from typing import TYPE_CHECKING, NamedTuple

from basestore.storage.engine import Batch
from tests.simulation import stored as s
from tests.simulation.history import INF, STORED, Operation

if TYPE_CHECKING:
    from tests.simulation.holdings import Holdings
    from tests.simulation.machine import Machine
    from tests.simulation.stamps import Stamps
    from tests.simulation.world import PlannedWorld
    from tests.worlds.disk import Disk


HINT, DEBT = s.HINT[0], s.DEBT[0]
FORMER_S = 0.9  # requests of a store's former life end within their deadline; recovery begins after that


class Promise(NamedTuple):
    """That a replica holds, or will be given, an operation's write; made on these two disks."""

    operation: Operation
    row: bytes
    version: bytes
    replica: int
    disks: tuple["Disk", "Disk"]  # the replica's, and that of who keeps a hint
    epoch: int
    life: int  # of who keeps it


class Promises:
    """Of one world."""

    def __init__(self, world: "PlannedWorld", holdings: "Holdings", stamps: "Stamps") -> None:
        self._world = world
        self._holdings = holdings
        self._stamps = stamps
        self._open: list[Promise] = []
        self._facts: dict[bytes, bytes] = {}  # by row, the best version that a quorum is known to hold
        self._known: list[tuple[float, bytes, bytes]] = []  # when each of these was first known
        self._kept_s: dict[tuple[Disk, bytes], float] = {}  # by disk and key: one that comes back is as new
        self._stands_for: dict[bytes, dict[bytes, bytes]] = {}  # by row, of late hints: see `_judge_gone`
        self._stood: dict[tuple[Disk, bytes], list[bytes]] = {}  # the same: versions that were kept there
        self._torn: set[tuple[Disk, bytes]] = set()  # disks, and rows of which a hint was spoilt there
        self._given_up: dict[
            tuple[Disk, bytes], list[tuple[bytes, bytes, int]]
        ] = {}  # by disk and key of a debt
        self._promised: dict[int, int] = {}  # by operation: at which epoch
        self._over: set[tuple[bytes, bytes]] = set()  # rows, and versions of late hints that had expired

    # --- what was promised -------------------------------------------------------------------

    def promise(
        self, keeper: "Machine", operation: Operation, row: bytes, version: bytes, replica: int
    ) -> Promise:
        """A receipt says that this replica holds the write, or will be given it."""
        operation.promised.append(replica)
        disks = self._world.machines[replica].disk, keeper.disk
        epoch = max(0, self._world.moved.epoch(keeper))  # by which it says so
        self._promised[operation.number] = epoch
        promise = Promise(operation, row, version, replica, disks, epoch, keeper.life)
        if not self._world.machines[replica].impaired:  # or it may have said so before it lost its store
            self._open.append(promise)
        return promise

    def _seated(self, replica: int, row: bytes, epoch: int) -> bool:
        """Whether it has kept its seat since then."""
        stayed = self._world.seating.stayed(s.partition_of(row), replica, epoch)
        self._world.counts["spared: what was promised to who has no seat any more"] += not stayed
        return stayed

    @property
    def _there(self) -> list["Machine"]:
        """The machines that may deliver what they keep: who has left does not."""
        return [each for each in self._world.machines if not each.gone]

    def tear(self, machine: "Machine", row: bytes) -> None:
        """A hint of this row is spoilt there: what rested on it is no promise any more."""
        self._torn.add((machine.disk, row))

    def fact(self, row: bytes, version: bytes) -> None:
        """A quorum was said to hold this version."""
        if row not in self._facts or s.beats(row, version, self._facts[row]):
            self._facts[row] = version
            self._known.append((self._world.clockwork.now, row, version))

    def whole(self, machine: "Machine", since_s: float) -> None:
        """A store that lost something then counts as whole again."""
        if not self._world.history.sync:
            return
        seating = self._world.seating
        for partition in seating.held_by(machine.index):
            if seating.fit(machine, partition):  # or that is judged once it is
                self.judge_whole(machine, partition, since_s + FORMER_S)
                self._judge_covered(machine, partition)
                seating.recovered(machine, partition)

    def judge_whole(
        self, machine: "Machine", partition: int, until_s: float, batch: Batch | None = None
    ) -> None:
        """It counts for a partition, perhaps with this batch: it holds what a quorum was said to hold by
        then."""
        best: dict[bytes, bytes] = {}
        for known_s, row, version in self._known:
            if known_s < until_s and s.partition_of(row) == partition:
                best[row] = version  # a better one each time
        for row, version in best.items():
            key = s.DATA + row
            held = batch[key] if batch and key in batch else machine.disk.get(key)
            if not self._holdings.kept(machine, row, held, version) and key not in machine.spoilt:
                text = f"n{machine.index + 1} is whole again, and holds {s.short(held)} of {row!r}"
                self._world.blame("whole", f"{text}, of which a quorum had {s.short(version)}")

    def judge_quorums(self, partition: int) -> None:
        """What a quorum was said to hold is held by one, of those that hold the partition now."""
        seating = self._world.seating
        members = seating.now(partition).old
        needed = len(members) // 2 + 1
        for row, version in self._facts.items():
            if s.partition_of(row) == partition:
                having = 0
                for machine in map(self._world.machines.__getitem__, members):
                    spoilt = seating.excused(machine, partition) or s.DATA + row in machine.spoilt
                    fit = seating.fit(machine, partition) or seating.has_kept(machine, partition)
                    having += spoilt or (fit and self._holdings.durable(machine, row, version))
                if having < needed:
                    text = f"{row!r}: {s.short(version)} is held by {having}, of {needed}"
                    self._world.blame("quorums", text)

    def _judge_covered(self, machine: "Machine", partition: int) -> None:
        """What went with a lost store is no later than what it is known to have lost."""
        upto = s.lost_upto(machine.disk, partition)
        for row, version in self._holdings.taken_by(machine.former, partition):
            if self._world.log_watch.dropped(row):  # what is of no bucket any more is not missed
                continue
            if s.stamp_of(version) > upto and not self.anywhere(row, version):
                text = (
                    f"n{machine.index + 1} is whole again: {s.short(version)} of {row!r} went with its disk"
                )
                self._world.blame("losses", f"{text}, and it is known to lack what was up to {upto:x}")

    def anywhere(self, row: bytes, version: bytes) -> bool:
        """Whether that version, or a better one, is on any disk, or was there and is due to be purged."""
        if any(self._holdings.kept(m, row, m.disk.get(s.DATA + row), version) for m in self._there):
            return True
        keys = [s.member_key(s.HINT, name, row) for name in dict.fromkeys(self._world.names)]
        hints = (machine.disk.get(key) for machine in self._there for key in keys)
        return any(hint is not None and s.holds(row, s.hinted_record(hint), version) for hint in hints)

    def ruined(self, partitions: Collection[int]) -> None:
        """Nothing that was promised of these holds any more; but what is lost must be known to be."""

        def stands(row: bytes) -> bool:
            return s.partition_of(row) not in partitions

        self._open = [each for each in self._open if stands(each.row)]
        self._facts = {row: version for row, version in self._facts.items() if stands(row)}
        self._known = [each for each in self._known if stands(each[1])]
        self._given_up = {at: kept for at, kept in self._given_up.items() if stands(s.hinted_row(at[1])[1])}
        self._stood = {at: kept for at, kept in self._stood.items() if stands(s.hinted_row(at[1])[1])}

    def judge(self) -> None:
        """At a copy of the disks."""
        if not self._world.history.sync:
            return
        self._open = [promise for promise in self._open if self._stands(promise)]
        for partition in range(self._world.plan.partitions):
            self.judge_quorums(partition)

    def _stands(self, promise: Promise) -> bool:
        """Whether a promise is still to be watched; it is kept in any case, or that is wrong."""
        operation, row, version, replica, (disk, keeper), epoch, life = promise
        if not self._seated(replica, row, epoch):
            return False
        version = self._instead(row, version)
        machine = self._world.machines[replica]
        if machine.disk is not disk or s.DATA + row in machine.spoilt:
            return False
        if (keeper, row) in self._torn or (row, version) in self._over:
            return False
        if self._holdings.durable(machine, row, version):
            return False
        keepers = [each for each in self._world.machines if each.disk is keeper]
        if all(each.gone and (each.away or each.buried) for each in keepers):
            return False
        if self._left_with(keeper) and self.anywhere(row, version):
            return False
        crashed = all(each.life > life for each in self._world.machines if each.disk is keeper)
        if crashed and not operation.strong and self._holdings.died(row, version):
            self._world.counts[
                "spared: who died alone had taken it, and who was to bring it had crashed"
            ] += 1
            return False
        if not self._coming(replica, row, version):
            text = f"{operation} is not on n{replica + 1}, no hint is kept and nothing is owed"
            self._world.blame("debts", text)
            return False
        return True

    def _left_with(self, keeper: "Disk") -> bool:
        """Whether who kept a hint has left. It gives away those that are only copies before that; what else
        it kept exchanges bring, for others have it."""
        left = any(each.disk is keeper and each.gone for each in self._world.machines)
        self._world.counts["spared: a hint that is a copy has gone with who kept it"] += left
        return left

    def _instead(self, row: bytes, version: bytes) -> bytes:
        """That version, or what stands for it: a late hint stood for all that it beats, too."""
        decided = self._stands_for.get(row, {})
        return max([version, *(instead for late, instead in decided.items() if late <= version)])

    def _coming(self, replica: int, row: bytes, version: bytes) -> bool:
        """Whether some member keeps a hint of that version for the replica, or has marked it as owed."""
        key = s.member_key(s.HINT, self._world.names[replica], row)
        found = (machine.disk.get(key) for machine in self._there)
        return self.owed(replica, row, version) or any(
            hint is not None and s.holds(row, s.hinted_record(hint), version) for hint in found
        )

    def kept_in_the_end(self) -> None:
        """All hints are delivered, or a debt was left: whoever a receipt named holds the write, or a
        better one. Where no coordinator crashed that holds for every replica of what was stored."""
        world = self._world
        if not world.history.sync or world.history.stores_lost:
            return
        for operation in world.history.operations:
            if not operation.promised or not operation.version:
                continue
            row = world.row(operation.bucket, operation.key)
            keeper = world.machines[operation.node].disk
            if self._left_with(keeper) and self.anywhere(row, operation.version):
                continue
            for replica in operation.promised:
                if not self._seated(replica, row, self._promised[operation.number]):
                    continue
                if not self._has(replica, row, operation):
                    world.blame("receipts", f"{operation} has not come to n{replica + 1}, and is not owed")
            if world.history.crash_s == INF and operation.outcome == STORED:
                partition = s.partition_of(row)
                for replica in world.seating.now(partition).both:
                    if world.seating.came(partition, replica):  # what one lacks that has come exchanges bring
                        world.counts["spared: what is owed to who has come"] += 1
                    elif self.owed(replica, row, operation.version):
                        world.counts["owed"] += 1
                    elif not self._has(replica, row, operation):
                        world.blame("debts", f"{operation} is missing on n{replica + 1}, and is not owed")

    def _has(self, replica: int, row: bytes, operation: Operation) -> bool:
        """Whether a replica holds a write, or is owed it, or will not take it but by an operator's word."""
        machine = self._world.machines[replica]
        version = self._instead(row, operation.version)
        return (
            self._holdings.kept(machine, row, machine.disk.get(s.DATA + row), version)
            or self.owed(replica, row, version)
            or self._late(replica, row, version)
        )

    def _late(self, replica: int, row: bytes, version: bytes) -> bool:
        """Whether some member still keeps a hint for the replica that came too late, for an operator."""
        key = s.member_key(s.HINT, self._world.names[replica], row)
        hints = (machine.disk.get(key) for machine in self._there)
        return any(
            hint is not None and s.late(hint) and s.holds(row, s.hinted_record(hint), version)
            for hint in hints
        )

    def owed(self, replica: int, row: bytes, version: bytes) -> bool:
        """Whether some member has marked that the replica may lack it, or the record that beats it."""
        key = s.member_key(s.DEBT, self._world.names[replica], row[:2])
        disks = [machine.disk for machine in self._there]
        debts = [debt for disk in disks if (debt := disk.get(key)) is not None]
        winner = version
        for blob in (disk.get(s.DATA + row) for disk in disks) if debts else ():
            if blob is not None and s.beats(row, blob[: s.VERSION], winner):
                winner = blob[: s.VERSION]
        return any(debt <= max(winner, version)[:8] for debt in debts)

    # --- hints -------------------------------------------------------------------------------

    def replaced(self, machine: "Machine", held: dict[bytes, bytes | None], batch: Batch) -> None:
        """A batch is about to be applied: hints that are kept, become late, or go."""
        for key, old in held.items():
            if key[0] == DEBT and old is not None and batch[key] is None:
                self._judge_ended(machine, key)
            if key[0] != HINT:
                continue
            new, at = batch[key], (machine.disk, key)
            same = old is not None and new is not None and s.hinted_record(old) == s.hinted_record(new)
            if new is not None and not same:
                self._kept_s[at] = self._world.clockwork.now
                stood = self._stood.setdefault(at, []) if old is not None else []
                self._stood[at] = [*stood, s.hinted_record(new)[: s.VERSION]]
            if key in machine.torn and not same:
                machine.torn.discard(key)
                self._judge_torn(machine, key, old or b"", batch)
                continue
            if old is not None and new is None and not s.late(old):
                self._judge_given_up(machine, key, old, batch)
            if old is not None and new is not None and not same and s.only_copy(old) and not s.late(new):
                self._judge_copy(key, old, new)
            if old is not None and s.late(old):
                if new is None:
                    self._judge_gone(machine, key, old, batch)
            elif same and new is not None and s.late(new):
                assert old is not None
                self._world.counts["hint late"] += 1
                late = self._world.history.late.setdefault(s.key_of(s.hinted_row(key)[1]), [])
                late.append(s.hinted_record(new)[: s.VERSION])
                if s.only_copy(old):
                    name, row = s.hinted_row(key)
                    member = self._world.machines[self._world.member_called(name, machine)]
                    stamp = s.stamp_of(s.hinted_record(old))
                    self._stamps.judge_late(member, machine.index, row, stamp, self._kept_s.get(at, INF))

    def _judge_given_up(self, machine: "Machine", key: bytes, old: bytes, batch: Batch) -> None:
        """A hint goes: its member holds all that was kept there, or is owed it from now on."""
        (name, row), stood = s.hinted_row(key), self._stood.pop((machine.disk, key), [])
        member = self._world.machines[self._world.member_called(name, machine)]
        record = s.hinted_record(old)
        if self._world.moved.hands_on(machine, name, row, old, batch):
            return
        # A better one was lost again, as its keeper crashed.
        versions = [version for version in [*stood, record[: s.VERSION]] if s.holds(row, record, version)]
        lacking = [version for version in versions if not self._holdings.durable(member, row, version)]
        excused = self._world.seating.excused(member, s.partition_of(row))
        if not lacking or excused or not self._world.history.sync or s.DATA + row in member.spoilt:
            return
        if self._world.log_watch.dropped(row):  # nobody is owed it any more
            return
        self._world.counts["hint given up"] += 1
        owed = s.member_key(s.DEBT, name, row[:2])
        since, first = batch.get(owed, machine.disk.get(owed)), min(lacking)
        epoch = self._world.moved.epoch(machine)
        self._given_up.setdefault((machine.disk, owed), []).extend((row, each, epoch) for each in lacking)
        if since is None or since > first[:8]:
            text = f"n{machine.index + 1} gives up hints of {row!r} for {name} since {s.short(first)}"
            self._world.blame("debts", f"{text}, which is owed since {since and since.hex()}")

    def _judge_torn(self, machine: "Machine", key: bytes, old: bytes, batch: Batch) -> None:
        """A spoilt hint goes: where nobody else has its write that is a loss."""
        row, record = s.hinted_row(key)[1], s.hinted_record(old)
        self._world.counts["spoilt hint found"] += 1
        others = [s.member_key(s.HINT, name, row) for name in dict.fromkeys(self._world.names)]
        hinted = (
            each.disk.get(other)
            for each in self._world.machines
            for other in others
            if other not in each.torn and (each, other) != (machine, key)
        )
        known = self._holdings.known(row, record[: s.VERSION]) or any(
            hint is not None and s.hinted_record(hint).startswith(record[: s.VERSION]) for hint in hinted
        )
        if not known and s.lost_upto(machine.disk, s.partition_of(row), batch) < s.stamp_of(record):
            text = f"n{machine.index + 1} drops a spoilt hint of {row!r}, {s.short(record)}"
            self._world.blame("losses", f"{text}, which nobody has, and nothing is known to be lost")

    def _judge_ended(self, machine: "Machine", key: bytes) -> None:
        """A debt ends: its member holds what hints were given up for, as far as any other replica does."""
        name, prefix = s.hinted_row(key)
        member = self._world.machines[self._world.member_called(name, machine)]
        given_up = self._given_up.pop((machine.disk, key), [])
        if self._world.moved.forgives(machine, member, s.partition_of(prefix)):
            return
        self._world.counts["debt ended"] += 1
        for row, version, epoch in given_up:
            if self._world.log_watch.dropped(row):  # nobody is owed it any more
                continue
            if self._world.moved.forgives(machine, member, s.partition_of(row), epoch):
                continue
            if self._world.seating.excused(member, s.partition_of(row)) or s.DATA + row in member.spoilt:
                continue
            others = [each for each in self._holdings.replicas(row) if each is not member]
            elsewhere = any(s.holds(row, each.disk.get(s.DATA + row), version) for each in others)
            if elsewhere and not self._holdings.durable(member, row, version):
                text = (
                    f"n{machine.index + 1} ends the debt to {name}, which lacks {s.short(version)} of {row!r}"
                )
                self._world.blame("debts", text)

    def _judge_copy(self, key: bytes, old: bytes, new: bytes) -> None:
        """A hint takes the place of an only copy: while nobody has taken either, or what beats it, it is one
        itself."""
        row, version = s.hinted_row(key)[1], s.hinted_record(new)[: s.VERSION]
        versions = version, s.hinted_record(old)[: s.VERSION]
        if not s.only_copy(new) and not any(self._holdings.known(row, each) for each in versions):
            text = f"what takes an only copy's place of {row!r}, {s.short(version)}, is kept as a mere copy"
            self._world.blame("only copies", text)

    def _judge_gone(self, machine: "Machine", key: bytes, old: bytes, batch: Batch) -> None:
        """A late hint goes: by then its value is written anew, or beaten, or expired, or its keeper
        knows that its bucket is dropped. On a first-write key nothing that comes later beats it: there what a
        quorum holds stands for it from now on."""
        world, (_, row), record = self._world, s.hinted_row(key), s.hinted_record(old)
        expires_ms = 0 if s.is_tombstone(record) else s.expiry_of(record)
        if machine.instant().wall_ms >= expires_ms > 0:
            self._over.add((row, record[: s.VERSION]))
            return
        first = s.bucket_of(row) in s.FIRST_WRITE_WINS
        seating, partition = world.seating, s.partition_of(row)
        seats, having = seating.now(partition), set[int]()
        for index in seats.both:
            each = world.machines[index]
            disk = each.disk  # with durability `interval` what is written anew is stored as any other write
            held = disk.durable(s.DATA + row) if world.history.sync else disk.get(s.DATA + row)
            better = held is not None and (first or s.stamp_of(held) >= s.stamp_of(record))
            better = better or self._holdings.gone(each, row, record[: s.VERSION])
            if (better and seating.fit(each, partition)) or seating.excused(each, partition):
                having.add(index)
            if held is not None and first:
                stands_for, late = self._stands_for.setdefault(row, {}), record[: s.VERSION]
                stands_for[late] = max(stands_for.get(late, b""), held[: s.VERSION])
        needed = len(seats.old) // 2 + 1
        decided = len(having & {*seats.old}) >= needed
        world.counts["late hint decided"] += decided
        if decided or world.moved.hands_on(machine, s.hinted_row(key)[0], row, old, batch):
            return
        if world.log_watch.dropped(row, world.moved.epoch(machine)):
            world.counts["spared: a late hint goes with its bucket, which is dropped"] += 1
            return
        text = f"n{machine.index + 1} drops the late hint of {row!r}, {s.short(record)}"
        world.blame("late hints", f"{text}, and {having} of {needed} hold it or what beats it")
