"""Stamps: what nodes say of closed, stable and final, and the stamps that they give out.

A stable stamp is told only once it is durable where it is told. What is called final is at or below a
stable stamp, and is just what every replica holds. A write leaves its coordinator at or below the ceiling
that stands on its disk, and above all that an earlier opening of the same disk gave out. No replica takes a
first delivery at or below the stamp that it has closed; and one whose store was lost has closed, by the
time it is whole, at least what each of the others had closed when it began. Every certificate that counts
is at or above the floor.

No hint turns late whose keeper was heard within the lag: the last word that a replica had of the keeper,
before it closed its partition beyond the hint's stamp, was sent while the keeper had the hint, and was not
older than the lag.
"""

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from basestore.protocol.anti_entropy import Roots, Syn
from basestore.protocol.codec import Message
from basestore.protocol.replication import DIRECT, Applied, Apply
from tests.simulation import stored as s
from tests.simulation.seats import DRAINING, MEMBER

if TYPE_CHECKING:
    from tests.simulation.holdings import Holdings
    from tests.simulation.machine import Machine
    from tests.simulation.world import PlannedWorld
    from tests.worlds.disk import Disk

LAG_SLACK_S = 0.1


class Raised(NamedTuple):
    """A closed stamp is raised: when, to what, in which life; whether the store was sound, and not full."""

    at: float
    closed: int
    life: int
    sound: bool


class Word(NamedTuple):
    """A heartbeat: when it came, in which life, and when it had been sent."""

    at: float
    life: int
    sent: float


class Stamps:
    """Watches what is said between nodes, and what they close."""

    def __init__(self, world: "PlannedWorld", holdings: "Holdings") -> None:
        self._world = world
        self._holdings = holdings
        self._too_far: dict[tuple[int, int, int, int], tuple[int, float]] = {}  # stamps, and when they came
        # By machine, in its present life: since when it corrects its clock by so much.
        self._off_ms: dict[int, list[tuple[float, int]]] = defaultdict(list)
        self._too_late: set[tuple[int, int, int, int]] = set()  # machine and life, sender, request
        self._copied: set[tuple[int, int, bytes, bytes]] = set()  # machine and life, row, version
        self._rows: dict[tuple[int, int], bytes] = {}  # by reader and request
        self._numbers: dict[bytes, bytes] = {}  # stamps, by origin, number and partition
        self._given: dict[object, tuple[int, int, int]] = {}  # by disk: a life, its first and last stamp
        self._raised: dict[tuple[int, int], list[Raised]] = defaultdict(list)  # by machine and partition
        self._compared: dict[int, set[int]] = defaultdict(set)  # by machine: whose clocks it has met since
        self._begun_s: dict[int, float] = {}  # by machine: its present life
        self._words: dict[tuple[int, int], list[Word]] = defaultdict(list)  # by machine and keeper
        self._recovering: dict[int, dict[int, int]] = {}  # by machine and partition: what others had closed
        self._lost_at: dict[int, int] = {}  # by machine: at which epoch that was

    # --- what is told ------------------------------------------------------------------------

    def asked(self, reader: int, request: int, row: bytes) -> None:
        """A node reads a row of another, or gives it one."""
        self._rows[reader, request] = row

    def told(self, machine: "Machine", target: int, message: Message) -> None:
        """A node says how far a partition is stable."""
        stable: int = message.stable  # type: ignore[attr-defined]
        if isinstance(message, Syn):
            self._judge_told(machine, message.partition, stable)
        else:
            row = self._rows.get((target, message.id))  # type: ignore[attr-defined]
            if row is not None:
                self._judge_told(machine, s.partition_of(row), stable)

    def rooted(self, machine: "Machine", target: int, message: Roots) -> None:
        """A node names partitions, and says how far each is stable."""
        count = len(message.partitions)
        stable = message.stable * count if len(message.stable) == 1 else message.stable
        for partition, stamp in zip(message.partitions, stable, strict=True):
            self._judge_told(machine, partition, stamp)

    def _judge_told(self, machine: "Machine", partition: int, stable: int) -> None:
        durable = s.stable_in(machine.disk.durable(s.SUMMARY + partition.to_bytes(2)))
        # Now, for its disk may be gone by the time that somebody is told of it.
        self._holdings.stable[partition] = max(self._holdings.stable.get(partition, 0), durable)
        if stable > durable:
            text = f"n{machine.index + 1} says that {partition} is stable up to {stable:x}"
            self._world.blame("told", f"{text}, and {durable:x} is durable there")

    def judge_answer(self, what: object, row: bytes, stable: int) -> None:
        """A node tells a client how far a partition is stable: some replica must hold that durably."""
        partition, world = s.partition_of(row), self._world
        greatest = self._holdings.note_stable(partition)
        if stable > greatest:  # one that does not know yet that it holds it no more may have said so
            holders = (each for each in world.machines if world.moved.holds(each, each.index, partition))
            greatest = max(
                [greatest, *(s.stable_in(each.disk.durable(s.SUMMARY + row[:2])) for each in holders)]
            )
        if stable > greatest:
            self._world.blame("told", f"{what} is told {stable:x}, and {greatest:x} is durable anywhere")

    def judge_final(self, what: object, row: bytes, version: bytes) -> None:
        """What is final is settled, and nothing else is held anywhere."""
        world, greatest = self._world, self._holdings.note_stable(s.partition_of(row))
        if s.stamp_of(version) > greatest:
            world.blame("final", f"{what} is final, and only {greatest:x} is stable")
        for machine in self._holdings.replicas(row):
            held = machine.disk.durable(s.DATA + row)
            excused = world.seating.excused(machine, s.partition_of(row))
            if not excused and (held is None or not held.startswith(version)):
                text = f"{what} is told that {s.short(version)} is final"
                world.blame("final", f"{text}, and n{machine.index + 1} holds {s.short(held)}")

    # --- what is closed ----------------------------------------------------------------------

    def replaced(self, machine: "Machine", key: bytes, new: bytes | None) -> None:
        """A summary is about to be stored: stamps that are closed by it."""
        if new is not None:
            closed, stable, partition = s.closed_in(new), s.stable_in(new), int.from_bytes(key[1:])
            if stable > closed:
                text = f"n{machine.index + 1} says that {partition} is stable up to {stable:x}"
                self._world.blame("closed", f"{text}, and has closed it up to {closed:x} only")
            raised = self._raised[machine.index, partition]
            if not raised or raised[-1].closed < closed:
                now = self._world.clockwork.now
                sound = not machine.impaired and not machine.in_doubt
                # Who does not count for a partition takes over what others have closed.
                sound = sound and self._world.seating.fit(machine, partition)
                # What a disk takes at last that was full was raised at some moment before.
                sound = sound and not (machine.node is not None and machine.node.group_commit.stalled)
                raised.append(Raised(now, closed, machine.life, sound))
                self._judge_raised(machine, partition, key, closed)

    def started(self, machine: "Machine") -> None:
        """A life begins."""
        self._begun_s[machine.index] = self._world.clockwork.now
        self._compared[machine.index].clear()
        self._off_ms[machine.index].clear()

    def compared(self, machine: "Machine", other: int) -> None:
        """Another member tells what its clock shows."""
        self._compared[machine.index].add(other)
        self._note_clock(machine)

    def _judge_raised(self, machine: "Machine", partition: int, key: bytes, closed: int) -> None:
        """Who closes more than all others had closed does so by its own clock: not before it has heard all
        others in this life, or has waited for them, nor before it has met a majority."""
        world, index, name = self._world, machine.index, f"n{machine.index + 1}"
        replicas = [world.machines[at] for at in world.seating.lately(partition) if at != index]
        others = [each for each in world.moved.members(machine) if each != index]
        known = max(s.closed_in(each.disk.get(key)) for each in (machine, *replicas))
        if closed <= known or index not in self._begun_s:
            return
        life_s = world.clockwork.now - self._begun_s[index]
        heard = sum(any(word.life == machine.life for word in self._words[index, each]) for each in others)
        if heard < len(others) and life_s < machine.listen_s - LAG_SLACK_S:
            text = f"{name} closes {partition} {life_s:.2f} s after its start"
            world.blame("closed", f"{text}, and has heard {heard} of {len(others)}")
        counted = [each for each in world.moved.members(machine, MEMBER, DRAINING) if each != index]
        compared = len(self._compared[index] & {*counted})
        if 2 * (compared + 1) <= len(counted) + 1 and not machine.config.clock_is_right:
            text = f"{name} closes {partition} by a clock"
            world.blame("closed", f"{text} that only {compared} others can have agreed with")

    def heard(self, machine: "Machine", source: int, apply: Apply) -> None:
        """A first delivery arrives. At or below the closed stamp it is not to be taken, unless it was
        before."""
        version, key = apply.record[: s.VERSION], s.SUMMARY + apply.row[:2]
        if apply.way != DIRECT:
            self.copied(machine, apply.row, version)
            return
        now = self._world.clockwork.now
        if self._waits(machine, source):
            self._world.counts["spared: what is told under an epoch that is not known yet waits"] += 1
            return
        if self._ahead(machine, s.stamp_of(version), now):
            self._too_far[machine.index, machine.life, source, apply.id] = s.stamp_of(version), now
        if (
            s.stamp_of(version) <= s.closed_in(machine.disk.get(key))
            and (machine.index, machine.life, apply.row, version) not in self._copied
            and not s.holds(apply.row, machine.disk.get(s.DATA + apply.row), version)
        ):
            self._too_late.add((machine.index, machine.life, source, apply.id))

    def copied(self, machine: "Machine", row: bytes, version: bytes) -> None:
        """A copy arrives: it may be held before it is on the disk, where a node takes much at once."""
        if s.stamp_of(version) > s.stable_in(machine.disk.get(s.SUMMARY + row[:2])):
            self._copied.add((machine.index, machine.life, row, version))

    def _waits(self, machine: "Machine", source: int) -> bool:
        """Whether what a member sends now may have to wait until its epoch is in use: until then what it
        sends may have come another way."""
        peers = machine.node.peers if machine.node is not None else None
        place = machine.place(source) if peers is not None else None
        told = peers.all[place].told_epoch if peers is not None and place is not None else 0
        return peers is not None and told > peers.epoch

    def _note_clock(self, machine: "Machine") -> None:
        """By how much it corrects its clock, which changes with what it is told."""
        noted = self._off_ms[machine.index]
        off_ms = 0 if machine.node is None else machine.node.peers.clock.off_ms
        if not noted or noted[-1][1] != off_ms:
            noted.append((self._world.clockwork.now, off_ms))

    def _ahead(self, machine: "Machine", stamp: int, since: float) -> bool:
        """Whether a stamp is too far ahead of its clock, as that was corrected at any moment since."""
        self._note_clock(machine)
        noted = self._off_ms[machine.index]
        first = max((place for place, (at, _) in enumerate(noted) if at <= since), default=0)
        off_ms = max(0, *(each for _, each in noted[first:]))
        limit_ms = machine.instant().wall_ms + off_ms + self._world.plan.drift_ms_max
        return (stamp >> 16) > limit_ms and not machine.config.clock_is_right

    def applied(self, machine: "Machine", target: int, message: Applied) -> None:
        """A node says what it has taken."""
        for request in message.ids if self._too_far else ():
            came = self._too_far.get((machine.index, machine.life, target, request))
            if came is not None and self._ahead(machine, *came):  # and not only until it knew that it was off
                text = f"n{machine.index + 1} took what n{target + 1} sent it, too far ahead of its clock"
                self._world.blame("ahead", text)
        for request in message.ids if self._too_late else ():
            if (machine.index, machine.life, target, request) in self._too_late:
                text = f"n{machine.index + 1} took what n{target + 1} sent it at or below its closed stamp"
                self._world.blame("closed", text)

    def lost(self, machine: "Machine") -> None:
        """A machine comes back with another disk: what the others have closed it must close too."""
        world = self._world
        least: dict[int, int] = {}
        for partition in world.seating.held_by(machine.index):
            key = s.SUMMARY + partition.to_bytes(2)
            least[partition] = min(
                (
                    s.closed_in(world.machines[replica].disk.durable(key))
                    for replica in world.seating.now(partition).old
                    if replica != machine.index
                ),
                default=0,
            )
        self._recovering[machine.index] = least
        self._lost_at[machine.index] = world.seating.last

    def doubted(self) -> None:
        """All stores are in doubt at once: nobody's word counts of what was closed, beyond what is stable."""
        for least in self._recovering.values():
            for partition in least:
                least[partition] = min(least[partition], self._holdings.note_stable(partition))

    def whole(self, machine: "Machine") -> None:
        """Its store is whole again. Of one that nobody had to doubt nothing was lost that had counted: it
        has closed what it had, as any other."""
        if machine.node is not None and not machine.node.identity.recovered:
            self._recovering.pop(machine.index, None)
        seating, lost_at = self._world.seating, self._lost_at.get(machine.index, 0)
        for partition, least in self._recovering.pop(machine.index, {}).items():
            if seating.now(partition).since > lost_at or not seating.fit(machine, partition):
                self._world.counts["spared: a store recovers from others than those that there were"] += 1
                continue
            closed = s.closed_in(machine.disk.get(s.SUMMARY + partition.to_bytes(2)))
            if closed < least and self._world.history.sync:
                text = f"n{machine.index + 1} is whole, and has closed {partition} up to {closed:x}"
                self._world.blame("closed", f"{text}; when it began all others had up to {least:x}")

    def judge_floors(self, machine: "Machine") -> None:
        """What was stored after a certificate is all in the log."""
        if machine.node is None:
            return
        for partition, summary in machine.node.summaries.of.items():
            for member, certificate in machine.node.certificates.certificates(partition).items():
                if certificate.mine < summary.floor:
                    text = f"{partition} is certified with n{member + 1} at {certificate.mine}"
                    self._world.blame(
                        "floors", f"n{machine.index + 1}: {text}, and its floor is {summary.floor}"
                    )

    def returned(self, former: "Disk", disk: "Disk") -> None:
        """A store is as it was once; it gives out what it had not given out by then."""
        self._raised.clear()
        self._words.clear()
        if former in self._given:
            self._given[disk] = self._given[former]

    # --- what is given out -------------------------------------------------------------------

    def sent(self, machine: "Machine", row: bytes, version: bytes) -> bool:
        """A write leaves its coordinator: only stamps that a restart will not give out again. Whether it is a
        new one."""
        if int.from_bytes(version[8:10]) != machine.config.member.number + 1:
            return False  # it repeats what another gave out
        if self._holdings.taken_s(row, version) < self._begun_s.get(machine.index, 0.0):
            return False  # or what it gave out in an earlier life
        stamp, disk = s.stamp_of(version), machine.disk
        number = version[8:] + row[:2]
        known = self._numbers.get(number)
        new = known is None
        if known == version[:8]:
            return False  # even one that nobody has taken
        if new:
            self._numbers[number] = version[:8]
        else:
            text = f"n{machine.index + 1} gives {s.short(version)} a number that was given before"
            self._world.blame("numbers", text)
        ceiling = int.from_bytes(disk.durable(s.CEILING) or b"")
        if stamp > ceiling:
            text = f"n{machine.index + 1} gives out {stamp:x}, and its ceiling is {ceiling:x}"
            self._world.blame("ceiling", text)
        life, first, newest = self._given.get(disk, (machine.life, stamp, 0))
        if life != machine.life:
            life, first = machine.life, stamp
            if stamp <= newest:
                text = f"n{machine.index + 1} has started, and gives out {stamp:x} after {newest:x}"
                self._world.blame("ceiling", text)
        self._given[disk] = life, first, max(newest, stamp)
        return new

    # --- hints that come too late ------------------------------------------------------------

    def pinged(self, machine: "Machine", keeper: int, sent_s: float) -> None:
        """A word of another member arrives, which it sent then."""
        now = self._world.clockwork.now
        self._words[machine.index, keeper].append(Word(now, machine.life, sent_s))

    def unheard(self, machine: "Machine", other: "Machine") -> bool:
        """Whether a machine has not heard another since that began its present life."""
        words = self._words[machine.index, other.index]
        return not words or words[-1].sent < self._begun_s.get(other.index, 0.0)

    def judge_late(self, machine: "Machine", keeper: int, row: bytes, stamp: int, kept_s: float) -> None:
        """A replica does not take a hint any more, the only copy of a write, kept since `kept_s`."""
        raised = next(
            (r for r in self._raised[machine.index, s.partition_of(row)] if r.closed >= stamp), None
        )
        if raised is None or not raised.sound:
            return
        words = [w for w in self._words[machine.index, keeper] if w.at < raised.at and w.life == raised.life]
        if words and words[-1].sent > kept_s and raised.at - words[-1].at < machine.lag_s - LAG_SLACK_S:
            text = f"n{machine.index + 1} has closed {row[:2].hex()} beyond the only copy of {row!r}"
            self._world.blame("late hints", f"{text}, whose keeper n{keeper + 1} it had just heard")
