"""World: a simulated group of up to nine machines, and what must hold of it.

    one leader a term
    what is decided at an index is the same everywhere, for good; a new leader has all of it
    a read, of either kind, sees all that was known to be decided anywhere when it began
    after calm there is a leader within LEADER_S, it decides what is asked of it, and within CALM_S all logs
    are equal

Events are ordered by time; equal seeds play alike. Delays are drawn a message, so messages overtake each
other; links lose and repeat some.
"""

import heapq
import random
from collections import Counter
from collections.abc import Callable
from functools import partial

from basestore.consensus.log import Entry, Kind, Snapshot
from basestore.consensus.messages import RaftMessage
from basestore.consensus.raft import Raft
from basestore.consensus.voters import Voter, Voters, decode_voters, majority
from tests.consensus.machines import Batch, Disk, Failure, Machine, voter_of

LEADER_S = 20.0
CALM_S = 60.0
LAST = b"the last"


class World:
    """Of one seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.counts: Counter[str] = Counter()
        self.machines: dict[int, Machine] = {}  # by number
        self.cut: set[tuple[int, int]] = set()  # from, to
        self.committed: list[Entry] = []
        self.configurations: list[Voters] = []  # behind the founding and each committed entry
        self.decided_in: list[int] = []  # under which leader, where that was seen; else 0
        self.proposed: dict[Voters, int] = {}  # and the last index at which it was
        self.leaders: dict[int, Voter] = {}
        self.elected: Callable[[Machine], None] = lambda machine: None
        self._stores = 0
        self._events: list[tuple[float, int, Callable[[], None], Machine | None, int]] = []
        self._count = 0
        self._draw()

    def _draw(self) -> None:
        r = self.random
        self.loss, self.repeat = r.choice((0.0, 0.02, 0.1)), r.choice((0.0, 0.02))
        self.delay_s, self.tail = r.choice((0.002, 0.01)), r.choice((0.0, 0.05))
        self.sync_s = r.choice((0.003, 0.03, 0.06, 0.2))
        self.lazy = r.choice((0.0, 0.3))
        self.spread = r.choice((1.0, 1.1, 1.3))  # the fastest clock by the slowest
        self.keep = r.choice((6, 30, 1000))  # entries before a snapshot
        count = r.choice((1, 2, 3, 3, 3, 4, 5, 5, 7, 9))
        founding = r.choice((1, count, min(count, 3), min(count, 5)))
        voters = frozenset(voter_of(number, number) for number in range(founding))
        self.first = Snapshot(0, 0, voters, b"")
        self.configurations.append(voters)
        for number in range(count):
            self.born(number)

    # --- time ------------------------------------------------------------------------------------

    def at(
        self, when: float, act: Callable[[], None], machine: Machine | None = None, birth: int = -1
    ) -> None:
        """`machine`: it does this, so it must be up, and not paused, and not started anew since `birth`."""
        self._count += 1
        heapq.heappush(self._events, (when, self._count, act, machine, birth))

    def run(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            when, _, act, machine, birth = heapq.heappop(self._events)
            self.now = max(self.now, when)
            if machine is None:
                act()
            elif not machine.up or birth not in (-1, machine.birth):
                continue
            elif self.now < machine.paused_until:
                machine.held.append((act, birth))
            else:
                act()
                self.step(machine)
        self.now = until

    def clock(self, machine: Machine) -> float:
        return 1000.0 + self.now * machine.rate

    # --- machines --------------------------------------------------------------------------------

    def born(self, number: int) -> Machine:
        """A machine with an empty store."""
        r, store = self.random, self._stores
        self._stores += 1
        me, disk = voter_of(number, store), Disk(self.first)
        rate, sync_s = r.uniform(1.0, self.spread), self.sync_s * r.choice((0.5, 1.0, 2.0))
        raft = self._raft(me, disk, 1000.0 + self.now * rate)
        machine = self.machines[number] = Machine(me, raft, disk, rate, sync_s)
        self.start(machine)
        return machine

    def _raft(self, me: Voter, disk: Disk, now_s: float) -> Raft:
        return Raft(me, disk.stored(), now_s, self.random.random)

    def start(self, machine: Machine) -> None:
        machine.birth += 1
        machine.up, machine.paused_until, machine.held = True, 0.0, []
        machine.queue, machine.syncing, machine.timer, machine.stepping = [], 0, -1.0, False
        machine.asked = {}
        machine.raft = self._raft(machine.me, machine.disk, self.clock(machine))
        machine.used = machine.staged = machine.checked = machine.raft.commit
        machine.led = 0
        self._set_timer(machine)

    def crash(self, machine: Machine) -> None:
        """What was not synced is lost, but perhaps for the first of it."""
        if self.random.random() < 0.3:
            for batch in machine.queue[: self.random.randint(0, len(machine.queue))]:
                machine.disk.write(batch)
        machine.up = False
        machine.birth += 1
        self.counts["crashes"] += 1

    def pause(self, machine: Machine, seconds: float) -> None:
        """It does nothing; what comes to it meanwhile it finds afterwards."""
        machine.paused_until = self.now + seconds
        self.at(machine.paused_until, partial(self.resume, machine, machine.birth))
        self.counts["pauses"] += 1

    def resume(self, machine: Machine, birth: int) -> None:
        if machine.birth == birth:
            machine.paused_until = 0.0
            held, machine.held = machine.held, []
            for act, born in held:
                self.at(self.now, act, machine, born)

    def alive(self, voter: Voter) -> bool:
        """Whether its store is there, if only on a disk."""
        machine = self.machines.get(voter.number)
        return machine is not None and machine.me == voter

    # --- a machine's step ------------------------------------------------------------------------

    def step(self, machine: Machine) -> None:
        """After something has happened to it: at once, or with what happens next."""
        self.examine(machine)
        if self.lazy and self.random.random() < self.lazy:
            if not machine.stepping:
                machine.stepping = True
                self.at(
                    self.now + self.random.random() * 0.01,
                    partial(self._late, machine),
                    machine,
                    machine.birth,
                )
            return
        self._take(machine)

    def _late(self, machine: Machine) -> None:
        machine.stepping = False
        self._take(machine)

    def _take(self, machine: Machine) -> None:
        raft = machine.raft
        output = raft.take(self.clock(machine))
        if output is not None:
            for voter, message in output.messages:
                self.send(machine, voter, message)
            if output.stores or output.promises:
                self._queue(machine, Batch(output, raft.commit, output.mark.term, output.mark.vote))
            for ticket, index in output.reads:
                self._answer(machine, ticket, index)
        if machine.used - raft.log.base.last > self.keep:
            raft.compact(machine.used, self._state(machine.used))
            self.counts["snapshots"] += 1
            self._queue(machine, Batch(None, raft.commit, raft.term, raft.vote, raft.log.base))
        if raft.commit > machine.staged:
            self._queue(machine, Batch(None, raft.commit, raft.term, raft.vote))
        if not machine.syncing:
            self._sync(machine)
        self._set_timer(machine)

    def _queue(self, machine: Machine, batch: Batch) -> None:
        machine.queue.append(batch)
        machine.staged = batch.commit

    def _sync(self, machine: Machine) -> None:
        machine.syncing = len(machine.queue)
        if not machine.syncing:
            return
        stores = any(batch.base or (batch.output and batch.output.stores) for batch in machine.queue)
        slow = self.random.expovariate(1 / machine.sync_s) + (self.random.random() < 0.01) if stores else 0.0
        self.at(self.now + slow, partial(self._synced, machine), machine, machine.birth)

    def _synced(self, machine: Machine) -> None:
        done, machine.queue = machine.queue[: machine.syncing], machine.queue[machine.syncing :]
        machine.syncing = 0
        for batch in done:
            machine.disk.write(batch)
            machine.used = max(machine.used, batch.commit)
            if batch.output is not None:
                for voter, message in batch.output.promises:
                    self.send(machine, voter, message)
                machine.raft.durable(batch.output.mark, self.clock(machine))

    def _set_timer(self, machine: Machine) -> None:
        due_s = machine.raft.due_s
        when = max(self.now, (due_s - 1000.0) / machine.rate) + 1e-6
        if due_s != float("inf") and not self.now <= machine.timer <= when:
            machine.timer = when
            self.at(when, partial(self._tick, machine, when), machine, machine.birth)

    def _tick(self, machine: Machine, when: float) -> None:
        if machine.timer == when:
            machine.timer = -1.0
            machine.raft.tick(self.clock(machine))

    # --- links -----------------------------------------------------------------------------------

    def send(self, machine: Machine, voter: Voter, message: RaftMessage) -> None:
        target = self.machines.get(voter.number)
        if target is None or target.me != voter:
            return
        problem = message.check()
        if problem:
            raise Failure(f"{message} {problem}")
        self.deliver(machine, target, lambda: target.raft.hear(machine.me, message, self.clock(target)))

    def deliver(self, machine: Machine, target: Machine, act: Callable[[], None]) -> None:
        r = self.random
        if (machine.me.number, target.me.number) in self.cut or r.random() < self.loss:
            return
        delay_s = r.expovariate(1 / self.delay_s)
        if r.random() < self.tail:
            delay_s += r.expovariate(1 / r.choice((0.1, 2.0)))
        self.at(self.now + delay_s, act, target)
        if r.random() < self.repeat:
            self.at(self.now + delay_s + r.expovariate(1.0), act, target)

    # --- what must hold --------------------------------------------------------------------------

    def examine(self, machine: Machine) -> None:
        raft = machine.raft
        if raft.leads and machine.led != raft.term:
            machine.led = raft.term
            self._examine_leader(machine)
            self.elected(machine)
        if raft.commit < machine.checked:
            raise Failure("what was decided is so no more")
        if raft.commit == machine.checked:
            return
        base = raft.log.base
        if base.last > machine.checked:
            self._examine_snapshot(base)
            machine.checked = base.last
        for index, entry in raft.decided(machine.checked):
            self._examine_decided(index, entry, raft.term if raft.leads else 0)
        machine.checked = raft.commit

    def _examine_leader(self, machine: Machine) -> None:
        raft, term = machine.raft, machine.raft.term
        self.counts["elections"] += 1
        if self.leaders.setdefault(term, machine.me) != machine.me:
            raise Failure(f"two leaders in term {term}")
        for index, (entry, under) in enumerate(zip(self.committed, self.decided_in, strict=True), 1):
            if 0 < under < term and raft.log.base.last < index and raft.log.term_at(index) != entry.term:
                raise Failure(f"a new leader lacks the entry {index}, which is decided")

    def _examine_decided(self, index: int, entry: Entry, under: int) -> None:
        if index <= len(self.committed):
            if self.committed[index - 1] != entry:
                raise Failure(f"two entries are decided at {index}")
            return
        if index > len(self.committed) + 1:
            raise Failure(f"{index} is decided, and what is before it is nowhere")
        self.committed.append(entry)
        self.decided_in.append(under)
        voters = decode_voters(entry.data) if entry.kind is Kind.CHANGE else self.configurations[-1]
        self.configurations.append(voters)
        self.counts["decided"] += 1
        self.counts["changes"] += entry.kind is Kind.CHANGE

    def _examine_snapshot(self, base: Snapshot) -> None:
        if base.last > len(self.committed) or base.state != self._state(base.last):
            raise Failure(f"a snapshot at {base.last} is not what was decided")
        if base.term != self.committed[base.last - 1].term or base.voters != self.configurations[base.last]:
            raise Failure(f"a snapshot at {base.last} has another term, or other voters")
        self.counts["installed"] += 1

    def _state(self, index: int) -> bytes:
        return b"".join(entry.data for entry in self.committed[:index] if entry.kind is Kind.DATA)[-64:]

    def read(self, machine: Machine, *, lease: bool) -> None:
        ticket = machine.raft.read(self.clock(machine), lease=lease)
        if ticket is not None:
            machine.asked[ticket] = len(self.committed), lease

    def _answer(self, machine: Machine, ticket: int, index: int) -> None:
        known, lease = machine.asked.pop(ticket)
        if index < 0:
            return
        self.counts["default reads" if lease else "consistent reads"] += 1
        if index < known:
            raise Failure(
                f"a {'default' if lease else 'consistent'} read sees {index}, and {known} was decided"
            )

    # --- calm ------------------------------------------------------------------------------------

    def calm(self) -> None:
        """Everything is up and linked: a leader comes, decides, and all follow."""
        self.cut, self.loss, self.repeat, self.tail = set(), 0.0, 0.0, 0.0
        for machine in self.machines.values():
            self.resume(machine, machine.birth)
            if not machine.up:
                self.start(machine)
        began, led = self.now, False
        while self.now < began + CALM_S:
            self.run(self.now + 1.0)
            ready = [machine for machine in self.machines.values() if machine.raft.ready]
            if ready and not any(entry.data == LAST for entry in self.committed):
                led = True
                leader = max(ready, key=lambda machine: machine.raft.term)
                leader.raft.propose(LAST)
                self.step(leader)
            elif any(machine.raft.votes for machine in ready) and all(
                m.raft.commit == len(self.committed) for m in self.machines.values()
            ):
                self.counts["seconds to the end"] += round(self.now - began)
                return
            if not led and self.now > began + LEADER_S:
                raise Failure(f"{LEADER_S:.0f} s after calm nobody leads")
        raise Failure(f"{CALM_S:.0f} s after calm not all is decided everywhere")

    def change(self, machine: Machine, voters: Voters) -> None:
        """If that leaves enough that are not lost for good."""
        if sum(map(self.alive, voters)) >= majority(voters):
            index = machine.raft.change(voters, self.clock(machine))
            if index is not None:
                self.proposed[voters] = max(index, self.proposed.get(voters, 0))
