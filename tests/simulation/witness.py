"""Witness: what can only be judged on the spot, with the disks in view.

A receipt's word on a replica is held against that replica's disk: applied means that its disk holds
the record, or a better one, durably, at the moment the receipt leaves; hinted, that the coordinator's
disk holds the hint, or the replica the record. What a read shows is durable on as many replicas as its level
requires, and is not shown after its life or hidden before its end. And no node answers after the deadline it
was given. Nothing new is asked of a member that has said goodbye, a write that is repeated is found where all
replicas hold it, and a node whose disk has hung for long begins no writes.

What is true of disks and records is watched in `holdings.py`, of stamps in `stamps.py`, what becomes of
receipts in `promises.py`. Disks are read by `stored.py`: nothing of the product that is judged is used to
judge it.
"""

import math
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from basestore.consistency import Level, ReplicaState
from basestore.protocol.anti_entropy import Roots, Syn
from basestore.protocol.client import OUTCOME_DEFERRED, OUTCOME_STORED, Failed, Got, Written
from basestore.protocol.codec import Message
from basestore.protocol.handshake import Goodbye
from basestore.protocol.heartbeats import Ping, Pong, Remembered
from basestore.protocol.replication import DIRECT, Applied, Apply, Held, HeldDigest, Hinted, Read, Settled
from basestore.storage.engine import Batch
from tests.simulation import stored as s
from tests.simulation.history import CLOCK_SKEW, FINAL, FOUND, STORED, Operation
from tests.simulation.holdings import Holdings
from tests.simulation.promises import Promise, Promises
from tests.simulation.proofs import Proofs
from tests.simulation.seats import Seats
from tests.simulation.stamps import Stamps
from tests.simulation.timekeeping import Timekeeping

if TYPE_CHECKING:
    from tests.simulation.machine import Machine
    from tests.simulation.world import PlannedWorld
    from tests.worlds.disk import Disk

DATA, SUMMARY, HINT, DEBT = s.DATA[0], s.SUMMARY[0], s.HINT[0], s.DEBT[0]
SLACK_S = 0.16
WRITE_TIMEOUT, OUTCOME_UNKNOWN = 5, 10  # codes of errors
TURN_S_MAX = 0.05  # what a node had written down for another before it heard it is gone by then
LEVEL_SHARE = 0.6  # of its time that a level has before a read is degraded
BROWNED = 2, "this node is overloaded"
HUNG_S_MAX = 7.5  # for so long a node may take a disk that hangs for one that is slow
APPLIED, SUPERSEDED, HINTED = ReplicaState.APPLIED, ReplicaState.SUPERSEDED, ReplicaState.HINTED


class Witness:
    """Judges every answer as it leaves its node. `says` and `hears`: by kind of message, what looks at one
    that a node sends to another, or is told."""

    def __init__(self, world: "PlannedWorld") -> None:
        self._world = world
        self._epochs: dict[int, int] = {}  # by request: that its node went by when it came
        self._asked: dict[int, tuple[float, int, int, int, int, int]] = {}  # by request: see `asked`
        self._known: set[tuple[int, int]] = set()  # machines, and whom each has met on the present link
        self._parted: dict[tuple[int, int], float] = {}  # machines, and when who said goodbye to each on it
        self._hung: set[int] = set()  # requests that came to a node whose disk had hung for long
        self._few: set[int] = set()  # that came to a node that took too few replicas for alive
        self._found: set[int] = set()  # requests: repeats of what all replicas held when they came
        self._copies: dict[tuple[int, int, int], tuple[bytes, bytes]] = {}
        self.receipts: list[tuple[Operation, Written]] = []  # of what was stored
        self.holdings = Holdings(world)
        self.stamps = Stamps(world, self.holdings)
        self.promises = Promises(world, self.holdings, self.stamps)
        self.proofs = Proofs(world, self.holdings)
        self.timekeeping = Timekeeping(world)
        self.says: dict[type, Callable[[Machine, int, Any], None]] = {
            Apply: self._gives, Hinted: self._gives, Applied: self._confirms, Read: self._reads,
            Held: self._tells, HeldDigest: self._tells, Settled: self._tells, Syn: self._tells,
            Roots: self.stamps.rooted,
        }  # fmt: skip

    # --- between nodes -----------------------------------------------------------------------

    def heard(self, machine: "Machine", source: int, message: Message) -> None:
        """A node is about to take in what another has sent."""
        if type(message) is Apply:
            self.stamps.heard(machine, source, message)
        elif type(message) is Hinted:
            if message.stores:  # it has been taken elsewhere
                self.stamps.copied(machine, message.row, message.record[: s.VERSION])
        elif type(message) is Remembered:
            self.met(machine, source)
        elif type(message) is Goodbye:
            self._parted[machine.index, source] = self._world.clockwork.now
        elif type(message) is Pong:
            self.stamps.compared(machine, source)
        elif type(message) is Ping:
            sender = self._world.machines[source]
            self.stamps.pinged(machine, source, sender.sent_s(message.sent_us))

    def _gives(self, machine: "Machine", target: int, message: Apply | Hinted) -> None:
        """A first delivery or a copy leaves."""
        version = message.record[: s.VERSION]
        if self._world.plan.requests_max:
            self._world.refusals.sent(message.row, message.record)
        if type(message) is Apply and message.way == DIRECT:
            if self.stamps.sent(machine, message.row, version):
                self.timekeeping.given(machine, version, machine.turned_s)
                self.timekeeping.left(machine, version)
            self._judge_known(machine, target)
            return
        self._world.counts["write-back" if type(message) is Apply else "hint delivered"] += 1
        self.stamps.asked(machine.index, message.id, message.row)
        self._copies[machine.index, target, message.id] = message.row, version

    def met(self, machine: "Machine", other: int) -> None:
        """The other end has said who it is, and what it remembers."""
        self._known.add((machine.index, other))

    def linked(self, machine: "Machine", other: int) -> None:
        """A new link: who is at its other end is yet to be said."""
        self._known.discard((machine.index, other))
        self._parted.pop((machine.index, other), None)

    def _judge_known(self, machine: "Machine", target: int) -> None:
        """Nothing is written to a member before it has said, on this link, which store it runs on, and what
        it remembers."""
        if (machine.index, target) not in self._known:
            self._world.blame(
                "strangers", f"n{machine.index + 1} writes to n{target + 1}, which it has not met"
            )
        if self._parted.get((machine.index, target), math.inf) < self._world.clockwork.now - TURN_S_MAX:
            text = f"n{machine.index + 1} writes to n{target + 1}, which has said goodbye"
            self._world.blame("goodbyes", text)

    def _confirms(self, machine: "Machine", target: int, message: Applied) -> None:
        """A node says that it has taken records: copies are then durable there."""
        self.stamps.applied(machine, target, message)
        if not self._copies or not self._world.history.sync:
            return
        for request in message.ids:
            copy = self._copies.pop((target, machine.index, request), None)
            excused = copy is not None and self._excused(machine, copy[0])
            if copy is not None and not excused and not self.holdings.durable(machine, *copy):
                held = s.short(machine.disk.durable(s.DATA + copy[0]))
                text = f"n{machine.index + 1} confirms a copy of {copy[0]!r} to n{target + 1}"
                self._world.blame("acks", f"{text} and holds {held} durably")

    def _reads(self, machine: "Machine", target: int, message: Read) -> None:
        if len(message.row) > s.SEQUENCE // 2:
            self.stamps.asked(machine.index, message.id, message.row)

    def _tells(self, machine: "Machine", target: int, message: Any) -> None:
        if message.stable:
            self.stamps.told(machine, target, message)

    def replaced(self, machine: "Machine", held: dict[bytes, bytes | None], batch: Batch) -> None:
        """A batch is about to be applied to a disk."""
        if self._world.plan.requests_max:
            self._world.refusals.written(machine, batch)
        if self._world.chains is not None:
            self._world.chains.replaced(machine, held, batch)
        if self._world.batches is not None:
            self._world.batches.replaced(machine, held, batch)
        hinted = False
        for key, old in held.items():
            kind = key[0]
            if kind == DATA:
                self.holdings.replaced(machine, key, old, batch)
            elif kind == SUMMARY:
                self.stamps.replaced(machine, key, batch[key])
            elif kind in (HINT, DEBT):
                hinted = True
            elif key.startswith(s.UNFIT):
                self._world.moved.noted(machine, key, old, batch)
        if hinted:  # behind what is judged of the records of the same batch
            self.promises.replaced(machine, held, batch)

    def returned(self, former: "Disk", disk: "Disk") -> None:
        """All stores come back as they were at one moment, one of them on this disk: nothing was written
        since, and what was closed and stable by then is known no more."""
        self.holdings.returned(former, disk)
        self.stamps.returned(former, disk)

    def lacks(self, operation: Operation, version: bytes) -> bool:
        """Whether some replica lacks what was stored."""
        row = self._row(operation)
        return not all(self.holdings.durable(each, row, version) for each in self.holdings.replicas(row))

    def ruined(self, partitions: Collection[int]) -> None:
        """More stores are lost than can be survived."""
        self.promises.ruined(partitions)
        self.proofs.ruined(partitions)
        for partition in partitions:
            self.holdings.stable.pop(partition, None)
        self.stamps.doubted()

    def copied(self) -> None:
        """The disks are copied: what must be true at any moment is true now."""
        self.holdings.judge_stable()
        for machine in self._world.machines:
            self.stamps.judge_floors(machine)
        self.promises.judge()
        self.proofs.judge()
        self.timekeeping.judge()

    # --- answers -----------------------------------------------------------------------------

    def asked(self, machine: "Machine", operation: Operation, request: int) -> None:
        """A node has taken up a request."""
        place = request << 20 | operation.number
        if self._world.plan.changes:
            self._world.roster.is_asked(machine, place)
        self._epochs[place] = self._world.log_watch.seen[machine.index].epoch
        self._asked[place] = (
            self._world.clockwork.now, machine.pauses, machine.life, machine.offset_ms,
            machine.instant().wall_ms, self.timekeeping.shown(machine),
        )  # fmt: skip
        if self._world.clockwork.now > machine.hung_since + HUNG_S_MAX:
            self._hung.add(place)
        if operation.degrade_ms and self._too_few(machine, operation, request):
            self._few.add(place)
        if len(operation.identity) == s.PROPOSAL and self._held_by_all(operation):
            self._found.add(place)

    def _held_by_all(self, operation: Operation) -> bool:
        """Whether every replica holds, durably, the record of a write that is repeated by its proposal."""
        row, proposal = self._row(operation), operation.identity[: s.PROPOSAL]
        return all(
            not self._excused(each, row) and s.proposal_of(each.disk.durable(s.DATA + row)) == proposal
            for each in self.holdings.replicas(row)
        )

    def answered(self, machine: "Machine", operation: Operation, message: Message) -> None:
        """A node answers."""
        request: int = message.id  # type: ignore[attr-defined]
        if self._world.plan.changes:
            self._world.roster.answers(machine, request << 20 | operation.number, message)
        if self._world.plan.requests_max:
            self._world.refusals.answered(operation, message)
        asked = self._asked.pop(request << 20 | operation.number, None)
        if asked is not None and asked[1] == machine.pauses:
            late = self._world.clockwork.now - asked[0] - operation.timeout_ms / 1e3
            if late > SLACK_S:
                self._world.blame("deadlines", f"{operation} was answered {late:.3f} s after its deadline")
        if self._hung:
            self._judge_hung(machine, operation, message, request)
        if isinstance(message, Written):
            went_by = self._went_by(machine, operation, request)
            self._judge_written(machine, operation, message, asked[0] if asked else 0.0, went_by)
        elif isinstance(message, Failed):
            if message.code == OUTCOME_UNKNOWN:
                self._judge_unknown(operation, request)
            if message.code == CLOCK_SKEW:
                self.timekeeping.refused(machine, operation)
            self._judge_stamped(machine, operation, message.version, asked[0] if asked else 0.0)
        elif isinstance(message, Got):
            self._judge_got(operation, message, self._went_by(machine, operation, request))
            if message.degraded and asked is not None and asked[1] == machine.pauses:
                few = request << 20 | operation.number in self._few
                few = few or self._too_few(machine, operation, request)
                took_s = self._world.clockwork.now - asked[0]
                self._judge_degraded(machine, operation, message, took_s, few=few)
            if asked is not None and asked[3] == machine.offset_ms:
                self._judge_life(machine, operation, message)
                self._judge_bound(operation, message, *asked[4:])
                self.timekeeping.show(machine, message.version, asked[4])

    def _judge_hung(self, machine: "Machine", operation: Operation, message: Message, request: int) -> None:
        """A write that came to a node whose disk had hung for long, and still does, was refused."""
        begun = isinstance(message, Written) or (
            isinstance(message, Failed) and message.code == WRITE_TIMEOUT
        )
        hung = request << 20 | operation.number in self._hung
        if begun and hung and self._world.clockwork.now > machine.hung_since:
            text = f"{operation} was begun at n{machine.index + 1}, whose disk had hung for long"
            self._world.blame("hangs", text)

    def _judge_unknown(self, operation: Operation, request: int) -> None:
        """A write was repeated, and is not found: while it was looked for, some replica did not hold it."""
        self._world.counts["repeated, and unknown"] += 1
        if request << 20 | operation.number in self._found and self._held_by_all(operation):
            self._world.blame("repeats", f"{operation} is not found, and all replicas hold it")

    def silent(self, machine: "Machine", life: int, operation: Operation, request: int) -> None:
        """A client has given up: had its node still the time to answer?"""
        asked = self._asked.pop(request << 20 | operation.number, None)
        if asked is None or asked[1:3] != (machine.pauses, life) or machine.life != life:
            return
        late = self._world.clockwork.now - asked[0] - operation.timeout_ms / 1e3
        self._world.counts["client gave up"] += 1
        if late > SLACK_S:
            self._world.blame("deadlines", f"{operation} was never answered")

    def ended(self, operation: Operation) -> None:
        """What a client was told in the end."""
        stored = operation.outcome == STORED or (operation.outcome == FOUND and operation.shown)
        if stored and operation.strong and operation.version:
            self.promises.fact(self._row(operation), operation.version)

    def _excused(self, machine: "Machine", row: bytes) -> bool:
        return self._world.seating.excused(machine, s.partition_of(row))

    def _went_by(self, machine: "Machine", operation: Operation, request: int) -> list[Seats]:
        """The seats that a node may have gone by while it did what was asked, the last first."""
        last = self._world.log_watch.seen[machine.index].epoch
        first = self._epochs.get(request << 20 | operation.number, last)
        partition = s.partition_of(self._row(operation))
        return self._world.seating.between(max(0, min(first, last)), max(0, last), partition)

    def _judge_by(self, went_by: list[Seats], wrong: Callable[[Seats], tuple[str, str] | None]) -> None:
        """Something is right by some of the seats that a node went by, or that is told by the last."""
        found = [wrong(seats) for seats in went_by]
        if all(found) and found[0] is not None:
            self._world.blame(*found[0])

    def _row(self, operation: Operation) -> bytes:
        return self._world.row(operation.bucket, operation.key)

    # --- reads -------------------------------------------------------------------------------

    def _judge_got(self, operation: Operation, got: Got, went_by: list[Seats]) -> None:
        """What a read shows is durable on as many replicas as its level requires."""
        world, row = self._world, self._row(operation)
        level = Level.QUORUM if got.escalated else Level.ONE if got.degraded else operation.level
        if got.stable:
            self.stamps.judge_answer(operation, row, got.stable)
        self._judge_final(operation, row, got.final, got.version)
        having = {each.index for each in world.machines if self._has(each, row, got.version)}

        def wrong(seats: Seats) -> tuple[str, str] | None:
            # Of two quorums the one is told of which fewer were there beyond what it takes.
            required = {count for _, count in seats.halves(level)}
            if got.required not in required or got.responded < got.required:
                return "receipts", f"{operation}: required {got.required}, responded {got.responded}"
            if got.version and world.history.sync and not seats.met(level, having):
                there = len(having & {*seats.written})
                return "shown", f"{operation} shows what {there} of {got.required} hold durably"
            return None

        self._judge_by(went_by, wrong)

    def _has(self, machine: "Machine", row: bytes, version: bytes) -> bool:
        """Whether a machine holds that durably, or may have lost it; or did until it had no seat any more."""
        seating, partition = self._world.seating, s.partition_of(row)
        if self._excused(machine, row):
            return True
        if seating.came(partition, machine.index) is not None:
            return self.holdings.durable(machine, row, version)
        moves = self._world.plan.moves
        return moves and (machine.impaired or self.holdings.had(machine, row, version))

    def _too_few(self, machine: "Machine", operation: Operation, request: int) -> bool:
        """Whether a node takes fewer replicas for alive than the level of an operation requires."""
        assert machine.node is not None
        places = ((each.index, machine.place(each.index)) for each in self._world.machines)
        alive = {at for at, place in places if place is not None and machine.node.peers.alive[place]}
        return any(
            not seats.met(operation.level, alive) for seats in self._went_by(machine, operation, request)
        )

    def _judge_degraded(
        self, machine: "Machine", operation: Operation, got: Got, took_s: float, *, few: bool
    ) -> None:
        """A read is degraded only after its level had its time, or could not be had from the start."""
        assert machine.node is not None
        soon = took_s < LEVEL_SHARE * operation.timeout_ms / 1e3 - 1e-3
        browned = machine.node.context.load.brownout == BROWNED[0]
        late, dead = got.because.endswith("in time"), "alive" in got.because
        if (late and soon) or (dead and soon and not few) or (got.because == BROWNED[1]) != browned:
            self._world.blame("degraded", f"{operation} after {took_s:.3f} s, for {got.because!r}")

    def _judge_bound(self, operation: Operation, got: Got, wall_ms: int, shown: int) -> None:
        """How stale one replica's answer may be; that of a quorum is not."""
        alone = operation.level is Level.ONE or got.degraded
        if alone and not got.escalated and got.stale_ms >= 0:
            self.timekeeping.judge_bound(operation, got.stale_ms, got.stable, wall_ms, shown)

    def _judge_life(self, machine: "Machine", operation: Operation, got: Got) -> None:
        """A value is shown in its life, by a clock that is no more than the bound from the true time."""
        bound, true_ms = self._world.plan.drift_ms_max, self._world.true_ms
        if not got.expires_ms or abs(machine.offset_ms) > bound or self._world.clocks_misled:
            return
        asked_ms = true_ms - (self._world.clockwork.now - operation.start) * 1e3
        if got.found and got.expires_ms < asked_ms - bound:
            text = f"{operation} shows what expired {asked_ms - got.expires_ms:.0f} ms ago"
            self._world.blame("expiry", text)
        if not got.found and got.expires_ms > true_ms + bound:
            text = f"{operation} hides what lives {got.expires_ms - true_ms:.0f} ms more"
            self._world.blame("expiry", text)

    def _judge_final(self, operation: Operation, row: bytes, final: int, version: bytes) -> None:
        first = s.bucket_of(row) in s.FIRST_WRITE_WINS
        if bool(final) != (first and bool(version)):
            self._world.blame("final", f"{operation} is told {final}")
        if final == FINAL and self._world.history.sync:
            self._world.counts[f"{operation.kind} final"] += 1
            self.stamps.judge_final(operation, row, version)

    # --- writes ------------------------------------------------------------------------------

    def _judge_stamped(
        self, machine: "Machine", operation: Operation, version: bytes, asked_s: float
    ) -> None:
        """A client is told what its write was stamped with, that may not have left this node yet: a repeated
        one is no new stamp when it does."""
        once = version and not operation.attempts > 1
        if once and self.stamps.sent(machine, self._row(operation), version):
            self.timekeeping.given(machine, version, asked_s)

    def _judge_written(
        self, machine: "Machine", operation: Operation, written: Written, asked_s: float,
        went_by: list[Seats],
    ) -> None:  # fmt: skip
        world, row = self._world, self._row(operation)
        self._judge_final(operation, row, written.final, written.better or written.version)
        if not world.history.sync or not written.replicas:
            return
        self._judge_stamped(machine, operation, written.version, asked_s)
        self._world.counts["write deferred"] += written.outcome == OUTCOME_DEFERRED
        if written.outcome in (OUTCOME_STORED, OUTCOME_DEFERRED):
            self.receipts.append((operation, written))
        replicas = [world.index_of[number] for number in written.replicas[::2]]
        operation.promised = []
        states = dict(zip(replicas, written.replicas[1::2], strict=True))
        for replica, state in states.items():
            if state in (APPLIED, SUPERSEDED, HINTED):
                promise = self.promises.promise(machine, operation, row, written.version, replica)
                self._judge_state(machine, promise, state)
        applied = {replica for replica, state in states.items() if state == APPLIED}

        def wrong(seats: Seats) -> tuple[str, str] | None:
            if sorted(replicas) != sorted(seats.written):
                return "receipts", f"{operation}: the receipt names {sorted(replicas)}, not {seats}"
            required, counted = seats.told(operation.level, applied)
            if written.required != required:
                return "receipts", f"{operation}: required {written.required}, not {required}"
            if counted != written.acknowledged:
                return "receipts", f"{operation}: {written.acknowledged} acknowledged, {counted} named"
            return None

        self._judge_by(went_by, wrong)

    def _judge_state(self, machine: "Machine", promise: Promise, state: int) -> None:
        """What a receipt says of a replica."""
        operation, row, version, replica, *_ = promise
        holder = self._world.machines[replica]
        if self._world.seating.came(s.partition_of(row), replica) is None:
            return  # it has no seat any more, and may have given up what it held
        if holder.impaired or self._excused(holder, row) or self.holdings.durable(holder, row, version):
            return
        held = s.short(holder.disk.durable(s.DATA + row))
        if state != HINTED:
            what = "has not applied it" if state == APPLIED else "holds nothing better"
            self._world.blame("receipts", f"{operation}: n{replica + 1} {what}: {held}")
        elif not machine.impaired:
            hint = machine.disk.durable(s.member_key(s.HINT, self._world.names[replica], row))
            kept = None if hint is None else s.hinted_record(hint)
            if hint is not None and not (operation.acknowledged or operation.attempts > 1):
                self._judge_only(operation, row, version, hint)
            if not s.holds(row, kept, version) and not self.promises.owed(replica, row, version):
                text = f"no hint for n{replica + 1} is durable: {s.short(kept)}, it holds {held}"
                self._world.blame("receipts", f"{operation}: {text}")

    def _judge_only(self, operation: Operation, row: bytes, version: bytes, hint: bytes) -> None:
        """What is kept of a write at ANY that nobody has taken is known as its only copy."""
        mere = not s.only_copy(hint) and not s.late(hint) and s.hinted_record(hint).startswith(version)
        # Hints of what is deferred may be delivered before it is answered: a replica that has a better
        # record makes copies of them, too.
        had = self.holdings.known if operation.defer else self.holdings.taken
        if mere and operation.level is Level.ANY and not had(row, version):
            self._world.blame("only copies", f"{operation}: a hint is kept as if others had it")
