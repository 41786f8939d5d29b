"""Holdings: what the replicas of a row hold, and that nothing goes from a disk or comes to it that should
not.

On no disk does a record give way to one that it beats, and no write has two versions on a last-write key. A
record is gone from a disk only when it was due at or below the stable stamp that stands on that disk, its
life was over by the true time, and every other replica holds it, or one that beats it, or has purged it:
nothing that it beats comes back.

And what comes to a disk, whichever way it came in, is no new version at or below the stamp that this disk
has closed, or at or below any stable stamp that any replica of its partition has ever held: *new* is what
no other replica holds or has taken on the disk that it runs on.
"""

import math
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from basestore.replica.identity import State
from basestore.storage.engine import Batch
from tests.simulation import stored as s

if TYPE_CHECKING:
    from tests.simulation.machine import Machine
    from tests.simulation.world import PlannedWorld
    from tests.worlds.disk import Disk


class Holdings:
    """Watches every disk. `stable`: by partition, the greatest stable stamp that was ever durable."""

    def __init__(self, world: "PlannedWorld") -> None:
        self._world = world
        self._dues: dict[bytes, dict[bytes, int]] = {}  # by row and version: from when it may be purged
        self._takers: dict[tuple[bytes, bytes], list[object]] = {}  # of a row's version: disks
        self._versions: dict[bytes, list[bytes]] = {}  # the same, by row
        self._proposed: dict[tuple[bytes, bytes], bytes] = {}  # versions, by row and what was proposed
        self._taken_s: dict[tuple[bytes, bytes], float] = {}  # the same: when it was first taken
        self.stable: dict[int, int] = {}

    # --- who holds what ----------------------------------------------------------------------

    def replicas(self, row: bytes) -> Iterator["Machine"]:
        """The machines that hold a row, and count for it."""
        return self._world.seating.holders(s.partition_of(row))

    def gone(self, machine: "Machine", row: bytes, version: bytes) -> bool:
        """Whether the machine may have purged that version, or one that beats it."""
        return row in self._dues and any(self._purged(machine, row, version))

    def _purged(self, machine: "Machine", row: bytes, version: bytes) -> Iterator[bytes]:
        """Which versions those are."""
        stable = s.stable_in(machine.disk.get(s.SUMMARY + row[:2]))
        for known, due in self._dues[row].items():
            if due <= stable and (known == version or s.beats(row, known, version)):
                yield known

    def _comes_back(self, machine: "Machine", row: bytes, version: bytes) -> bool:
        """The same, but for a tombstone that was lost with all stores that had taken it: nobody has purged
        that, and what it beat is there yet."""
        if not self.gone(machine, row, version):
            return False
        there = [each.disk for each in self._world.machines if not each.away]
        purged = self._purged(machine, row, version)
        return any(disk in there for known in purged for disk in self._takers.get((row, known), ()))

    def kept(self, machine: "Machine", row: bytes, held: bytes | None, version: bytes) -> bool:
        """Whether what a machine holds is that version or beats it, or it has purged such a one."""
        return s.holds(row, held, version) or (held is None and self.gone(machine, row, version))

    def durable(self, machine: "Machine", row: bytes, version: bytes) -> bool:
        """The same of what would outlive a power cut."""
        held = machine.disk.durable(s.DATA + row)
        return (held is not None and held.startswith(version)) or self.kept(machine, row, held, version)

    def had(self, machine: "Machine", row: bytes, version: bytes) -> bool:
        """Whether a machine has ever taken that version on its disk, or one that beats it."""
        return any(
            machine.disk in self._takers[row, known]
            for known in self._versions.get(row, ())
            if known == version or s.beats(row, known, version)
        )

    def taken(self, row: bytes, version: bytes) -> bool:
        """Whether any replica has ever taken that version."""
        return bool(self._takers.get((row, version)))

    def rows(self) -> Collection[bytes]:
        """Of which anything was ever taken."""
        return self._versions.keys()

    def newest(self, row: bytes, upto: int = s.STAMP_MAX) -> bytes:
        """The version that beats all others of a row, with stamps up to this one, that were ever taken by a
        disk that is there yet; nothing if none was."""
        newest = b""
        there = [machine.disk for machine in self._world.machines if not machine.away]
        for version in self._versions.get(row, ()):
            better = s.stamp_of(version) <= upto and (not newest or s.beats(row, version, newest))
            if better and any(disk in there for disk in self._takers[row, version]):
                newest = version
        return newest

    def ends(self, row: bytes, version: bytes) -> bool:
        """Whether it is a tombstone, or has an expiry."""
        return version in self._dues.get(row, ())

    def died(self, row: bytes, version: bytes) -> bool:
        """Whether all stores that ever took that version are those of machines that have died."""
        there = [machine.disk for machine in self._world.machines if not machine.ended]
        return self.taken(row, version) and not any(disk in there for disk in self._takers[row, version])

    def taken_s(self, row: bytes, version: bytes) -> float:
        """When a replica first took that version."""
        return self._taken_s.get((row, version), math.inf)

    def known(self, row: bytes, version: bytes) -> bool:
        """Whether any replica has ever taken that version, or holds what beats it."""
        held = (machine.disk.get(s.DATA + row) for machine in self.replicas(row))
        return self.taken(row, version) or any(s.holds(row, record, version) for record in held)

    def purged(self, row: bytes) -> bytes:
        """The greatest version of a row that some replica may have purged: who finds nothing finds that."""
        stable = max(
            (s.stable_in(each.disk.get(s.SUMMARY + row[:2])) for each in self.replicas(row)), default=0
        )
        return max((known for known, due in self._dues.get(row, {}).items() if due <= stable), default=b"")

    def taken_by(self, disks: list["Disk"], partition: int) -> Iterator[tuple[bytes, bytes]]:
        """Rows of a partition, and versions of them that were taken on some of these disks."""
        for (row, version), takers in self._takers.items():
            if s.partition_of(row) == partition and any(disk in takers for disk in disks):
                yield row, version

    # --- what changes ------------------------------------------------------------------------

    def replaced(self, machine: "Machine", key: bytes, old: bytes | None, batch: Batch) -> None:
        """A batch is about to be applied, with this record in it: no sound one gives way to one that it
        beats, goes before its time, or comes after its own."""
        row, new = key[1:], batch[key]
        if new is not None:
            if new[s.FLAGS_AT] & s.MARKED:
                self._dues.setdefault(row, {})[new[: s.VERSION]] = s.due_of(new)
            if old is None or not old.startswith(new[: s.VERSION]):
                self._judge_new(machine, row, new)
        if key in machine.spoilt or (old is None and new is None):
            return
        if old is None:
            version = (new or b"")[: s.VERSION]
            # Who fills a partition has purged nothing of it yet: what beats this may have gone with a store.
            purges = not machine.impaired and self._counted(machine, s.partition_of(row))
            again = self._world.seating.takes_anew(machine, row, new or b"")
            if purges and self._comes_back(machine, row, version) and not again:
                self._world.blame("purges", f"n{machine.index + 1}, {key!r}: {s.short(new)} comes back")
        elif new is None and self._world.log_watch.dropped(row):
            self._world.counts["log: row purged"] += 1
        elif new is None and self._world.moved.gives_up(machine, row):
            self._world.counts["moves: row given up"] += 1
        elif new is None:
            self._judge_purge(machine, row, old, batch)
        elif not s.holds(row, new, old[: s.VERSION]):
            text = f"{s.short(old)} gives way to {s.short(new)}"
            self._world.blame("goes back", f"n{machine.index + 1}, {key!r}: {text}")

    def _judge_new(self, machine: "Machine", row: bytes, new: bytes) -> None:
        version, disk, partition = new[: s.VERSION], machine.disk, s.partition_of(row)
        takers = self._takers.get((row, version))
        if takers is None:
            takers = self._takers[row, version] = []
            self._versions.setdefault(row, []).append(version)
            self._taken_s[row, version] = self._world.clockwork.now
            self._judge_twice(row, new)
        limit, batches = s.closed_in(disk.get(s.SUMMARY + row[:2])), self._world.batches
        if batches is not None and batches.brings(machine, row, version):
            limit = 0  # its part has come in time, or as a copy
        if not machine.impaired:
            limit = max(limit, self.stable.get(partition, 0))
        # One that has just left may be comparing itself yet with those that stay, under the joint seats.
        lately = [self._world.machines[at] for at in self._world.seating.lately(partition)]
        known = any(
            each.disk in takers or s.holds(row, each.disk.get(s.DATA + row), version)
            for each in lately
            if self._counted(each, partition)
        )
        # Who was given it by one that has died since holds it yet, and may not count before others have it.
        # And whoever has not heard yet that a store was lost takes what that had had.
        gone = (each for each in lately if each.former and each.former[-1] in takers)
        known = known or any(each.ended or self._world.witness.stamps.unheard(machine, each) for each in gone)
        if s.stamp_of(version) <= limit and not known:
            text = f"takes {s.short(version)}, which nobody has, and {limit:x} is closed"
            self._world.blame("closed", f"n{machine.index + 1}, {row!r}: {text}")
        takers.append(disk)

    def _counted(self, machine: "Machine", partition: int) -> bool:
        """Whether a store counts, or did until it left: what it held of an earlier time does not."""
        seating = self._world.seating
        left = seating.came(partition, machine.index) is None
        return left or seating.fit(machine, partition) or seating.has_kept(machine, partition)

    def _judge_twice(self, row: bytes, new: bytes) -> None:
        """However often a write is repeated, on a last-write key it has one version; but for one whose hint
        came too late, which an operator has had written anew. Of registers `chains.py` judges."""
        chains = self._world.chains
        if chains is not None and chains.concern(row):
            return
        proposal, version = s.proposal_of(new), new[: s.VERSION]
        if proposal and s.bucket_of(row) not in s.FIRST_WRITE_WINS:
            first = self._proposed.setdefault((row, proposal), version)
            if first != version and s.key_of(row) not in self._world.history.late:
                text = f"{s.short(version)} is of the write that {s.short(first)} is of"
                self._world.blame("twice", f"{row!r}: {text}")

    def _judge_purge(self, machine: "Machine", row: bytes, old: bytes, batch: Batch) -> None:
        """A record goes: it was due, and all replicas had it; or its store is forgetful, and drops what the
        others have purged."""
        world, version = self._world, old[: s.VERSION]
        name = f"n{machine.index + 1}, {row!r}: {s.short(version)}"
        if machine.node is not None and machine.node.identity.state is State.FORGETFUL:
            return
        if self._world.plan.moves and machine.disk.get(s.unfit_key(s.partition_of(row))) is not None:
            self._world.counts["spared: a newcomer drops what it held once"] += 1
            return
        key = s.SUMMARY + row[:2]
        stable = s.stable_in(batch.get(key) or machine.disk.get(key))
        if not 0 < self._dues.get(row, {}).get(version, 0) <= stable:
            world.blame("purges", f"{name} goes, and is not due")
        expires_ms = 0 if s.is_tombstone(old) else s.expiry_of(old)
        if expires_ms > world.true_ms + world.plan.drift_ms_max:
            world.blame("purges", f"{name} goes {expires_ms - world.true_ms:.0f} ms before it expires")
        world.counts["record purged"] += 1
        for other in self.replicas(row):
            held = other.disk.durable(s.DATA + row)
            if other is machine or other.impaired or s.DATA + row in other.spoilt:
                continue
            if not self.kept(other, row, held, version):
                world.blame("purges", f"{name} goes, and n{other.index + 1} holds {s.short(held)}")

    def returned(self, former: "Disk", disk: "Disk") -> None:
        """A store is as it was once: what it had taken since may come again."""
        self.stable.clear()
        for takers in self._takers.values():
            if former in takers:
                takers.append(disk)

    # --- now and then --------------------------------------------------------------------------

    def note_stable(self, partition: int) -> int:
        """The greatest stable stamp of a partition that is, or ever was, durable anywhere."""
        key = s.SUMMARY + partition.to_bytes(2)
        stamps = (s.stable_in(each.disk.durable(key)) for each in self._world.seating.holders(partition))
        greatest = self.stable[partition] = max([self.stable.get(partition, 0), *stamps])
        return greatest

    def judge_stable(self) -> None:
        """What is at or below a partition's stable stamp is on all its replicas, or was beaten there."""
        world = self._world
        for partition in range(world.plan.partitions):
            stable = self.note_stable(partition)
            if not stable:
                continue
            start, end = s.DATA + partition.to_bytes(2), s.DATA + (partition + 1).to_bytes(2)
            sound = [each for each in world.seating.holders(partition) if not each.impaired]
            known = {
                (key[1:], stored[: s.VERSION])
                for machine in sound
                for key, stored in machine.disk.scan(start, end)
                if s.stamp_of(stored) <= stable
                and key not in machine.spoilt
                and not world.log_watch.dropped(key[1:])
            }
            for row, version in sorted(known):
                for machine in sound:
                    key = s.DATA + row
                    if key not in machine.spoilt and not self.durable(machine, row, version):
                        text = f"{s.short(version)} is at or below {stable:x}, n{machine.index + 1} holds"
                        world.blame("stable stamps", f"{row!r}: {text} {s.short(machine.disk.durable(key))}")
