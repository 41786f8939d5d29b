"""Log watch: what must hold of the log of what the cluster is, looked at after each turn of each node.

    leaders      one leader a term, of stores, and a new one has all that is known to be decided before
    decided      what is decided at an index is the same everywhere, for good: over crashes, and on each
                 disk. When it is first known, a majority of the voters has it durably, or had it on a store
                 that is lost
    in use       a node goes by an entry once that is decided, and its own disk says so, durably; it never
                 goes back behind it. Two nodes' topologies at an epoch are the same bytes, and what they say
                 of settings and buckets is what the entries say
    voters       one more or one less at a time

A cluster whose stores are kept in memory promises nothing of this; nor one of whose stores more are lost, or
return to what they were at an earlier moment, than can be survived. Counts what has happened.
"""

import math
from typing import TYPE_CHECKING

import cbor2

from tests.simulation.decided import CHANGE, Decided, Form, Said, topology, voters

if TYPE_CHECKING:
    from basestore.consensus.raft import Raft
    from basestore.membership.metadata_group import MetadataGroup
    from tests.simulation.machine import Machine
    from tests.simulation.world import PlannedWorld
    from tests.worlds.disk import Disk

GROUP, BASE, ENTRY = b"mgroup", b"mgroup base", b"g"
LABEL_START = b"\0"


class Seen:
    """Of one machine: what was looked at last. `raft`: whose that was; `life`: of the machine."""

    def __init__(self) -> None:
        self.raft: Raft | None = None
        self.life = -1
        self.commit = self.epoch = -1
        self.leads = False
        self.before = -1  # the epoch in use before this one


class LogWatch:
    """Of one world. `logs`: by group; `blind`: nothing is promised any more; `led_s`: when somebody was last
    seen to lead."""

    def __init__(self, world: "PlannedWorld") -> None:
        self._world = world
        self.blind = world.plan.durability == "memory"
        self._lost = set[tuple[int, bytes] | None]()  # voters
        self.logs: dict[bytes, Decided] = {}
        self.group = b""  # that was seen last
        self.seen = [Seen() for _ in world.plan.machines]
        self._used: dict[Disk, int] = {}  # up to which epoch the topology was in use on a disk
        self.led_s = -math.inf

    # --- what others ask -------------------------------------------------------------------------

    def come(self) -> None:
        """Another machine."""
        self.seen.append(Seen())

    @property
    def log(self) -> Decided | None:
        return self.logs.get(self.group)

    @property
    def last(self) -> int:
        """The last entry that is known to be decided."""
        log = self.log
        return log.last if log is not None else 0

    @property
    def leader(self) -> "Machine | None":
        """Of those that lead the one of the latest term."""
        found = [
            (raft.term, -machine.index)
            for machine in self._world.machines
            if (raft := raft_of(machine)) is not None and raft.leads
        ]
        return self._world.machines[-max(found)[1]] if found else None

    def voting(self) -> set[tuple[int, bytes]]:
        """The voters as the newest leader has them; or, without one, the longest log."""
        rafts = [raft for machine in self._world.machines if (raft := raft_of(machine)) is not None]
        best = max(rafts, key=lambda raft: (raft.leads, raft.term, raft.log.last), default=None)
        return set(best.voters) if best is not None else set()

    def votes(self, machine: "Machine") -> bool:
        return any(machine.config.member.number == number for number, _ in self.voting())

    def may_lose(self, *machines: "Machine") -> bool:
        """Whether a majority of the voters is left without these machines' stores: of every configuration
        that may count."""
        if self.blind:
            return True
        left = {voter_of(each) for each in self._world.machines if not (each in machines or each.away)}
        configurations = [
            set(raft.log.voters_at(index))
            for each in self._world.machines
            if (raft := raft_of(each)) is not None
            for index in {raft.log.last, raft.commit}
        ]
        return all(2 * len(left & each) > len(each) for each in configurations)

    def losing(self, machine: "Machine") -> None:
        """Its store is about to be lost, or to be doubted."""
        if (voter := voter_of(machine)) is not None:
            self._lost.add(voter)

    def vouched(self, machine: "Machine") -> None:
        """An operator takes its store as it is: nothing is lost, unless it has recovered from others."""
        if machine.node is not None and not machine.node.identity.recovered:
            self._lost -= {voter_of(machine)}

    @property
    def majority_lost(self) -> bool:
        """Whether so many of the voters' stores are: then nothing is decided any more."""
        voting = self.voting()
        return bool(voting) and 2 * len(voting - self._lost) <= len(voting)

    @property
    def majority_speaks(self) -> bool:
        """Whether most voters may vote. One whose store was killed under `interval` does so once it has
        recovered, and that may take one that is dead, until that is decided."""
        speaking = [
            voter_of(each)
            for each in self._world.machines
            if each.node is not None and each.node.membership.group.confirmed
        ]
        voting = self.voting()
        return 2 * len(voting.intersection(speaking)) > len(voting)

    def dropped(self, row: bytes, upto: float = math.inf) -> bool:
        """Whether a row is of a bucket that was dropped, as far as that is decided, up to this epoch. Where
        the log is not followed any more, by what nodes say."""
        label, log = row[3 : 3 + row[2]], self.log
        if log is None or not label.startswith(LABEL_START):
            return False
        if self.blind:
            nodes = [machine.node for machine in self._world.machines if machine.node is not None]
            return any(node.replica.buckets.is_gone(label) for node in nodes)
        number = int.from_bytes(label[1:])
        return number in log.dropped and log.dropped[number] <= upto

    def returned(self) -> None:
        """More is lost than can be survived, or all stores are as they were at an earlier moment."""
        self.blind = True

    # --- after a turn ----------------------------------------------------------------------------

    def look(self, machine: "Machine") -> None:
        """A node has taken a step; what it says has not left yet."""
        assert machine.node is not None
        group, seen = machine.node.membership.group, self.seen[machine.index]
        raft = group.raft
        if raft is None or (
            raft is seen.raft
            and raft.commit == seen.commit
            and raft.leads == seen.leads
            and group.epoch == seen.epoch
        ):
            return
        if not self.blind:
            log = self._log_of(machine, group, raft)
            if seen.raft is not raft:
                self._opened(machine, group, seen)
            self._examine_leader(machine, raft, seen, log)
            self._examine_decided(machine, raft, seen, log)
            self._examine_used(machine, group, seen, log)
        if seen.leads and not raft.leads:
            self.led_s = self._world.clockwork.now
        seen.before = seen.epoch if seen.life == machine.life else group.epoch
        seen.raft, seen.life = raft, machine.life
        seen.commit, seen.leads, seen.epoch = raft.commit, raft.leads, group.epoch

    def left(self, machine: "Machine") -> None:
        """Its life is over."""
        seen = self.seen[machine.index]
        if seen.leads:
            self.led_s = self._world.clockwork.now
        seen.raft, seen.leads = None, False

    def _log_of(self, machine: "Machine", group: "MetadataGroup", raft: "Raft") -> Decided:
        log = self.logs.get(group.group)
        if log is None:
            # Of one in which nothing was decided yet all may have gone with the power, before it was synced.
            if any(former.last for former in self.logs.values()):
                text = f"n{machine.index + 1} follows another group than was founded before"
                self._world.blame("one log", text)
            log = self.logs[group.group] = Decided(raft.log.base.state)
            self.group = group.group
        return log

    def _opened(self, machine: "Machine", group: "MetadataGroup", seen: Seen) -> None:
        """Another life, or it votes by another id: what its disk knows to be decided it still knows."""
        used = self._used.get(machine.disk, -1)
        if group.epoch < used and not machine.impaired and not machine.in_doubt:
            text = f"n{machine.index + 1} goes by epoch {group.epoch}, and had gone by {used} on this disk"
            self._world.blame("log goes back", text)
        seen.commit, seen.leads = -1, False
        if seen.life != machine.life:
            seen.epoch = -1

    # --- leaders ---------------------------------------------------------------------------------

    def _examine_leader(self, machine: "Machine", raft: "Raft", seen: Seen, log: Decided) -> None:
        if raft.leads:
            self._world.roster.leads(machine)
        if not raft.leads or (seen.leads and seen.raft is raft and log.leaders.get(raft.term) == raft.me):
            return
        world, name = self._world, f"n{machine.index + 1}"
        world.counts["log: election"] += 1
        if log.leaders.setdefault(raft.term, raft.me) != raft.me:
            world.blame("leaders", f"{name} leads term {raft.term}, and so does {log.leaders[raft.term]}")
        for index, (entry, under) in enumerate(zip(log.entries, log.under, strict=True), 1):
            if under < raft.term and raft.log.base.last < index and raft.log.term_at(index) != entry.term:
                world.blame("leaders", f"{name} leads term {raft.term}, and lacks {index}, which is decided")
                break

    # --- what is decided -------------------------------------------------------------------------

    def _examine_decided(self, machine: "Machine", raft: "Raft", seen: Seen, log: Decided) -> None:
        name = f"n{machine.index + 1}"
        if seen.raft is raft and raft.commit < seen.commit:
            self._world.blame("log goes back", f"{name} knows less to be decided than before")
        base = raft.log.base
        if base.last > max(seen.commit, 0):
            self._world.counts["log: snapshot"] += 1
        if base.last > log.last:
            self._world.blame("decided", f"{name} has a snapshot at {base.last}: {log.last} are decided")
            return
        for index in range(max(seen.commit, base.last) + 1, raft.commit + 1):
            entry = Said(*raft.log.entry(index))
            if index <= log.last:
                if log.entries[index - 1] != entry:
                    text = f"at {index} {name} takes {entry} for decided, and it is {log.entries[index - 1]}"
                    self._world.blame("decided", text)
            else:
                self._take(machine, raft, log, index, entry)

    def _take(self, machine: "Machine", raft: "Raft", log: Decided, index: int, entry: Said) -> None:
        """It is the first that takes this entry for decided."""
        world, name = self._world, f"n{machine.index + 1}"
        if raft.leads:
            # Once it was decided another change of voters may have followed at once, in the same step.
            known = {frozenset(raft.log.voters_at(at)) for at in range(index, raft.log.last + 1)}
            holding = [[self._holds(voter, index, entry.term) for voter in each] for each in known]
            if all(2 * sum(each) <= len(each) for each in holding):
                held = " or ".join(f"{sum(each)} of {len(each)}" for each in holding)
                world.blame("decided", f"{name} takes {index} for decided, and {held} hold it")
        log.take(entry, raft.term)
        world.counts["log: entry"] += 1
        world.roster.decided(log)
        world.moved.decided(log)
        if entry.kind == CHANGE:
            world.counts["log: change of voters"] += 1
            before = next(
                (voters(each.data) for each in reversed(log.entries[:-1]) if each.kind == CHANGE), None
            )
            if before is not None and len(before ^ voters(entry.data)) != 1:
                world.blame("voters", f"at {index} more than one voter comes or goes")

    def _holds(self, voter: tuple[int, bytes], index: int, term: int) -> bool:
        """Whether a voter has an entry durably; what was on a store that is gone it may have had."""
        machine = self._world.machines[self._world.index_of[voter[0]]]
        if voter_of(machine) != voter or voter in self._lost:  # or comes back without it, and has told of it
            return True
        stored = machine.disk.durable(ENTRY + index.to_bytes(8))
        if stored is not None and cbor2.loads(stored)[0] == term:
            return True
        base = machine.disk.durable(BASE)
        return base is not None and cbor2.loads(base)[0] >= index

    # --- what is in use --------------------------------------------------------------------------

    def _examine_used(self, machine: "Machine", group: "MetadataGroup", seen: Seen, log: Decided) -> None:
        epoch, name, world = group.epoch, f"n{machine.index + 1}", self._world
        if epoch < 0 or epoch == seen.epoch:
            return
        if epoch < seen.epoch:
            world.blame("log goes back", f"{name} went by epoch {seen.epoch}, and goes by {epoch}")
        if epoch > log.last:
            world.blame("in use", f"{name} goes by epoch {epoch}, and {log.last} are decided")
            return
        stored = machine.disk.durable(GROUP)
        durable = cbor2.loads(stored)[8] if stored is not None else -1
        if durable < epoch:
            world.blame("in use", f"{name} goes by epoch {epoch}, and its disk knows {durable} to be decided")
        self._used[machine.disk] = max(epoch, self._used.get(machine.disk, -1))
        assert group.topology is not None
        encoded = group.topology.encode()
        form = Form.of(encoded)
        if log.forms.setdefault(epoch, form) != form:
            world.blame("topologies", f"{name} has another topology at epoch {epoch} than others have")
        told = topology(encoded)
        if (told.epoch, told.settings, told.buckets) != (epoch, log.settings(epoch), log.buckets(epoch)):
            text = f"{name} has at epoch {epoch} {told.settings} and {told.buckets}"
            world.blame("topologies", f"{text}: decided {log.settings(epoch)} and {log.buckets(epoch)}")
        if told.held != log.held(epoch):
            text = f"{name} has at epoch {epoch} {told.held}"
            world.blame("topologies", f"{text}: decided {log.held(epoch)}")


def barred(machine: "Machine") -> bool:
    """Whether it is to found no group, for it may have forgotten one."""
    stored = machine.disk.get(GROUP)
    return stored is not None and bool(cbor2.loads(stored)[9])


def is_later(row: bytes) -> bool:
    """Whether a row is of a bucket that the cluster was not founded with."""
    return row[3 : 3 + row[2]].startswith(LABEL_START)


def raft_of(machine: "Machine") -> "Raft | None":
    return machine.node.membership.group.raft if machine.node is not None else None


def voter_of(machine: "Machine") -> tuple[int, bytes] | None:
    """By what its store votes, as its disk has it; None: by nothing yet."""
    stored = machine.disk.get(GROUP)
    return (machine.config.member.number, cbor2.loads(stored)[6]) if stored is not None else None
