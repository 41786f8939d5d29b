"""Moved: what must hold where partitions move from member to member while they are served.

    ended       when a move ends, or is taken back, a quorum of those that hold the partition from then on
                has all that a quorum was said to hold; and what was stored at any level is with one of
                them, or a hint for one of them is
    fit         who is given a partition counts for it only once it holds what a quorum had when it came
    given up    rows go without further proof only from who holds their partition no more by what its own
                disk knows; and hints for such a one only where they are kept on for those that hold it now,
                or were mere copies
    in the end  all moves have ended; who holds a partition by the log does, and nobody else has any of it

Counts what has happened.
"""

from typing import TYPE_CHECKING

from basestore.storage.engine import Batch
from tests.simulation import stored as s
from tests.simulation.history import STORED
from tests.simulation.seats import DEAD, DRAINING, FILL, JOINING, JOINT, MEMBER, STILL, Held, Seats

if TYPE_CHECKING:
    from tests.simulation.decided import Decided
    from tests.simulation.machine import Machine
    from tests.simulation.world import PlannedWorld
    from tests.worlds.disk import Disk

STAGES = {STILL: "still", FILL: "fill", JOINT: "joint"}
END_S_MAX = 60.0
LATE_S = 3.0  # by then what a mover asked for is decided, or is nowhere
BEHIND_S = 1.0  # for so long a crash counts as one behind the end of a move


class Moved:
    """Of one world."""

    def __init__(self, world: "PlannedWorld") -> None:
        self._world = world
        self._noted: dict[tuple[Disk, int], float] = {}  # when a disk was told last that it lacks a partition
        self._ended: dict[int, tuple[float, Seats]] = {}  # by partition, the last move that has
        self._few: dict[int, int] = {}  # by partition, how many acceptors are left, where too few

    # --- what is decided ---------------------------------------------------------------------

    def decided(self, log: "Decided") -> None:
        """Another entry."""
        world = self._world
        was, now = log.held(log.last - 1), log.held(log.last)
        world.counts["moves: plan"] += was.unplanned and not now.unplanned and bool(now.plan)
        barred = [sum(map(len, held.barred.values())) for held in (was, now)]
        world.counts["acceptors: barred"] += max(0, barred[1] - barred[0])
        world.counts["acceptors: barred no more"] += max(0, barred[0] - barred[1])
        self._note_few(now)
        for partition, before, after in world.seating.take(log):
            if before._replace(since=after.since) == after:  # others are its acceptors, and nothing moves
                continue
            self._count(partition, before, after)
            if after.stage == STILL and before.stage == JOINT and not world.log_watch.blind:
                self._judge_ended(partition, back=after.old == before.old)
            world.ambushes.decided(partition, before, after)

    def _note_few(self, held: "Held") -> None:
        """What was agreed on is lost with the acceptors, where fewer are left of a partition than before, and
        not one of each quorum."""
        dead = {number for number, standing in held.standing.items() if standing == DEAD}
        few = {}
        for at, barred in held.barred.items():
            seats = held.seats[at].old
            left = len(set(seats) - barred - dead)
            if left <= len(seats) - (len(seats) // 2 + 1):
                few[at] = left
        if less := {at for at, left in few.items() if left < self._few.get(at, left + 1)}:
            self._world.bereft(less)
        self._few = few

    def _count(self, partition: int, before: Seats, after: Seats) -> None:
        counts = self._world.counts
        if before.stage == STILL:
            counts["moves: begun"] += 1
            counts["moves: of more than one seat"] += len(set(after.new) - set(after.old)) > 1
            counts["moves: to nobody who held it"] += not set(after.old) & set(after.new)
            counts["moves: to another number of replicas"] += len(after.old) != len(after.new)
        elif after.stage == JOINT:
            counts["moves: joint"] += 1
        elif after.stage == FILL:
            counts["moves: turned to others"] += 1
        elif before.stage == JOINT and after.old == before.new:
            counts["moves: ended"] += 1
            self._ended[partition] = self._world.clockwork.now, before
        else:
            counts[f"moves: cancelled in {STAGES[before.stage]}"] += 1

    def _judge_ended(self, partition: int, *, back: bool) -> None:
        world = self._world
        if not world.history.sync:
            return
        world.witness.promises.judge_quorums(partition)
        for operation in world.history.operations:
            if operation.writes and operation.outcome == STORED and operation.version:
                row = world.row(operation.bucket, operation.key)
                if s.partition_of(row) == partition and not self._is_somewhere(row, operation.version):
                    how = "is taken back" if back else "has ended"
                    world.blame("moved", f"{operation} is nowhere, now that a move of {partition} {how}")

    def _is_somewhere(self, row: bytes, version: bytes, but: "tuple[Machine, str] | None" = None) -> bool:
        """Whether somebody who holds it now has that version, or a better one, or is to be given it; or may
        have lost it with its store. `but`: the hint that this one keeps, for that name, is about to go."""
        world, partition = self._world, s.partition_of(row)
        if world.history.stores_lost or s.key_of(row) in world.history.late:
            return True
        holdings, seating = world.witness.holdings, world.seating
        for each in map(world.machines.__getitem__, seating.now(partition).both):
            counts = seating.fit(each, partition) or seating.has_kept(each, partition)
            if counts and holdings.durable(each, row, version):
                return True
        hints = (
            machine.disk.durable(s.member_key(s.HINT, name, row))
            for machine in world.machines
            for name in dict.fromkeys(world.names)
            if (machine, name) != but and not machine.gone
        )
        return any(hint is not None and s.holds(row, s.hinted_record(hint), version) for hint in hints)

    # --- what goes, and comes ----------------------------------------------------------------

    def _epochs(self, machine: "Machine") -> set[int]:
        """That a node may go by: what its disk knows, or what it says itself."""
        epochs = {self._world.seating.used(machine)}
        if machine.node is not None:
            epochs.add(machine.node.membership.group.epoch)
        return epochs

    def members(self, machine: "Machine", *standing: str) -> list[int]:
        """Machines of those that are members by all that a machine can go by, and stand so, if that is
        said."""
        wanted = standing or (JOINING, MEMBER, DRAINING, DEAD)
        known = [self._world.seating.known_at(epoch) for epoch in self._epochs(machine)]
        index_of = self._world.index_of
        return [index_of[each] for each in known[0] if all(of.get(each) in wanted for of in known)]

    def holds(self, machine: "Machine", member: int, partition: int) -> bool:
        """Whether a member holds a partition by all that a machine can go by."""
        seating = self._world.seating
        return all(member in seating.at(epoch, partition).both for epoch in self._epochs(machine))

    def gives_up(self, machine: "Machine", row: bytes) -> bool:
        """Whether a row may go, for the machine has no seat in its partition any more."""
        moves = self._world.plan.moves
        return moves and not self.holds(machine, machine.index, s.partition_of(row))

    def epoch(self, machine: "Machine") -> int:
        """The last that a node may go by."""
        return max(self._epochs(machine))

    def forgives(
        self, machine: "Machine", member: "Machine", partition: int, since: int | None = None
    ) -> bool:
        """Whether a debt may end, for its member has no seat any more; or had none under an epoch since."""
        epochs, seating = self._epochs(machine), self._world.seating
        passed = epochs if since is None else range(since, max(epochs) + 1)
        if not self._world.plan.moves or all(member.index in seating.at(e, partition).both for e in passed):
            return False
        self._world.counts["moves: debt forgiven"] += 1
        return True

    def hands_on(self, machine: "Machine", name: str, row: bytes, old: bytes, batch: Batch) -> bool:
        """Whether a hint goes, for its member has no seat any more: then it is kept for those that have one,
        or was a mere copy of what one of these has. Or the member has taken it, and given it up since, as its
        keeper does not know yet."""
        world, member = self._world, self._world.member_called(name, machine)
        partition, version = s.partition_of(row), s.hinted_record(old)[: s.VERSION]
        if not world.plan.moves:
            return False
        if self.holds(machine, member, partition):
            taker = world.machines[member]
            # Or it has come again by now, and is given anew all that a quorum has.
            left = world.seating.came(partition, member) is None or not world.seating.fit(taker, partition)
            return left and world.witness.holdings.had(taker, row, version)
        world.counts["moves: hint moved"] += 1
        if world.log_watch.dropped(row) or not world.history.sync:
            return True
        # By the epoch that it uses, or the one that it is about to: then what is kept is gone through again.
        holding = max(
            (self._holding(machine, epoch, row, version, batch) for epoch in self._epochs(machine)),
            key=lambda each: (all(each), any(each)),
        )
        if s.only_copy(old) or s.late(old):
            world.counts["moves: only copy moved"] += 1
            if not all(holding):
                text = f"n{machine.index + 1} drops the only copy of {s.short(version)} of {row!r} for {name}"
                world.blame("moved hints", f"{text}, and keeps it for {sum(holding)} of {len(holding)}")
        elif not any(holding) and not self._is_somewhere(row, version, (machine, name)):
            text = f"n{machine.index + 1} drops a hint of {s.short(version)} of {row!r} for {name}"
            world.blame("moved hints", f"{text}, and nobody has it who holds its partition now")
        return True

    def _holding(
        self, machine: "Machine", epoch: int, row: bytes, version: bytes, batch: Batch
    ) -> list[bool]:
        """Of each that holds a row at an epoch whether a machine keeps that version for it, or it has it, or
        is owed it, while another has it."""
        world, durable = self._world, self._world.witness.holdings.durable

        def stored(kind: bytes, member: int, of: bytes) -> bytes | None:
            key = s.member_key(kind, world.names[member], of)
            return batch[key] if key in batch else machine.disk.get(key)

        holders = world.seating.at(epoch, s.partition_of(row)).both
        has = [durable(world.machines[each], row, version) for each in holders]  # it was delivered by now
        hints = [stored(s.HINT, each, row) for each in holders]
        kept = [hint is not None and s.holds(row, s.hinted_record(hint), version) for hint in hints]
        debts = [stored(s.DEBT, each, row[:2]) if any(has) else None for each in holders]
        owed = [debt is not None and debt <= version[:8] for debt in debts]
        return [any(each) for each in zip(has, kept, owed, strict=True)]

    def noted(self, machine: "Machine", key: bytes, old: bytes | None, batch: Batch) -> None:
        """That a store lacks a partition is noted, or is no more."""
        world, partition = self._world, int.from_bytes(key[-2:])
        if batch[key] is not None:
            world.seating.doubts(machine, partition)
            self._noted[machine.disk, partition] = world.clockwork.now
        elif old is not None and self.holds(machine, machine.index, partition):
            world.counts["moves: fit"] += 1
            if world.history.sync and not world.log_watch.blind:
                until_s = self._noted.get((machine.disk, partition), 0.0)
                world.witness.promises.judge_whole(machine, partition, until_s, batch)

    def crashed(self, machine: "Machine") -> None:
        """A machine has crashed: in which stages of which moves?"""
        world, now = self._world, self._world.clockwork.now
        if not world.plan.moves:
            return
        stages = {seats.stage for seats in world.seating.all() if machine.index in seats.both}
        for stage in stages - {STILL}:
            world.counts[f"moves: crash in {STAGES[stage]}"] += 1
        behind = [
            was for at, was in self._ended.values() if at + BEHIND_S > now and machine.index in was.both
        ]
        world.counts["moves: crash behind the end"] += bool(behind)

    # --- in the end --------------------------------------------------------------------------

    def await_end(self) -> None:
        """All moves end, and are all that has come of them."""
        world, watch = self._world, self._world.log_watch
        if not world.plan.moves:
            return
        world.clockwork.run(world.clockwork.now + LATE_S)
        if not self._ends() and world.clocks_misled and not world.vouched:
            world.clocks_are_right()  # until then stamps that lie far ahead are taken by nobody
            world.await_health()
            self._ends()
        if not self._has_ended() and world.give_up():
            world.await_health()
            self._ends()
        if watch.blind or self._has_ended():
            return
        if watch.majority_lost:
            world.counts["spared: moves do not end, for a majority of the voters is lost"] += 1
        else:
            world.blame(
                "moves end", f"moves have not ended {END_S_MAX} s after all is healed: {self._state()}"
            )

    def _ends(self) -> bool:
        """Whether they have, after some time at most."""
        until = self._world.clockwork.now + END_S_MAX
        while self._world.clockwork.now < until and not self._has_ended():
            self._world.clockwork.run(self._world.clockwork.now + 0.5)
        return self._has_ended()

    def _has_ended(self) -> bool:
        world, log = self._world, self._world.log_watch.log
        if log is None:
            return True
        if log.held(log.last).is_moving:
            return False
        return all(self._is_settled(machine) for machine in world.roster.members)

    def _is_settled(self, machine: "Machine") -> bool:
        """Whether it holds what it is to, and counts for it, and nothing else."""
        world, node = self._world, machine.node
        if node is None or node.membership.group.epoch != world.log_watch.last:
            return False
        held = world.seating.held_by(machine.index)
        strange = [at for at in range(world.plan.partitions) if at not in held]
        return (
            sorted(node.summaries.of) == held
            and all(world.seating.fit(machine, partition) for partition in held)
            and not any(self._has_rows(machine, partition) for partition in strange)
        )

    @staticmethod
    def _has_rows(machine: "Machine", partition: int) -> bool:
        start, end = s.DATA + partition.to_bytes(2), s.DATA + (partition + 1).to_bytes(2)
        return next(iter(machine.disk.scan(start, end)), None) is not None

    def _state(self) -> str:
        world = self._world
        log = world.log_watch.log
        assert log is not None
        held = log.held(log.last)
        moving = {at: seats for at, seats in enumerate(held.seats) if seats.stage != STILL}
        unsettled = [f"n{each.index + 1}" for each in world.roster.members if not self._is_settled(each)]
        epochs = [seen.epoch for seen in world.log_watch.seen]
        return f"{epochs} of {log.last}, unplanned {held.unplanned}, {held.plan}, {moving}, not {unsettled}"
