"""A planned world: a whole cluster of real nodes, its clients and its misfortunes, out of one plan.

    born       the machines start, find each other, and are whole
    troubled   the clients ask, the faults strike, until the plan's time is over
    healed     every fault ends; within a bound all nodes must be whole and all hints delivered
    examined   every node must take a write; every key is read at QUORUM and at ALL
    judged     all replicas must be equal, and the checkers must find nothing wrong

The history is the same wherever it is played: its digest covers every message and every answer.
"""

import hashlib
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

from basestore.cluster.operations import OPERATIONS_MAX
from basestore.cluster.placement import Placement
from basestore.config import BUILT_IN, REQUESTS_MAX_DEFAULT, ClusterConfig, Member, NodeConfig
from basestore.membership import metadata_group
from basestore.moves import conductor
from basestore.protocol.codec import Message
from basestore.repair.rule import Rule
from basestore.topology import balance
from tests.simulation import checkers
from tests.simulation import history as h
from tests.simulation import stored as s
from tests.simulation.batch_judge import BatchJudge
from tests.simulation.chains import Chains
from tests.simulation.changers import Changer
from tests.simulation.clients import Client
from tests.simulation.clockwork import Clockwork, Stream
from tests.simulation.examination import Examination
from tests.simulation.faults import Faults, Triggers
from tests.simulation.governors import Governor
from tests.simulation.log_watch import LogWatch
from tests.simulation.machine import WALL_MS, Machine
from tests.simulation.marches import March
from tests.simulation.moved import Moved
from tests.simulation.movers import Ambushes, Mover, drawn_goals
from tests.simulation.network import Network
from tests.simulation.operators import Operator
from tests.simulation.overloads import Overload
from tests.simulation.plan import BEGIN_S, Fault, Plan
from tests.simulation.refusals import Refusals
from tests.simulation.roster import Roster
from tests.simulation.seating import Seating
from tests.simulation.witness import Witness

KEY = bytes(range(32))
HEAL_S_MAX = 40.0
EXAMINE_S_MAX = 15.0
ROUNDS_MAX = 6
COPY_S = 0.5
SYNC_S_MAX = 0.02  # of disks that are well
VIOLATIONS_MAX = 5  # of each check
NOTED_MAX = 1000


class PlannedWorld:
    """`recording` keeps readable lines of all that happens; it changes nothing else."""

    buckets: Mapping[str, Rule] = BUILT_IN
    chains: Chains | None = None  # what was chosen of registers, where any are asked for
    batches: BatchJudge | None = None  # what becomes of atomic batches, likewise

    def __init__(self, plan: Plan, *, recording: bool = False) -> None:
        self.plan = plan
        self.operations_max = plan.operations_max or OPERATIONS_MAX  # of a node, at once
        self.requests_max = plan.requests_max or REQUESTS_MAX_DEFAULT  # the same, of clients
        self.recording = recording
        self.lines: list[str] = []
        self.clockwork = Clockwork()
        self.counts: Counter[str] = Counter()
        self.sent: defaultdict[type, int] = defaultdict(int)  # messages between machines, by kind
        self.violations: list[h.Violation] = []
        durability = plan.durability
        self.history = h.History(
            sync=durability == "sync", interval=durability == "interval", clock=lambda: self.clockwork.now
        )
        self.names = [f"n{i + 1}" for i in range(len(plan.machines))]
        members = tuple(Member(3 * i + 2, name, f"127.0.0.1:{7400 + i}") for i, name in enumerate(self.names))
        self.numbers = [member.number for member in members]
        self.index_of = {number: index for index, number in enumerate(self.numbers)}  # never the same
        cluster = self.cluster = ClusterConfig(
            bytes(16), KEY, members, plan.replication, plan.partitions, self.buckets,
            plan.drift_ms_max, plan.timeout_ms_max,
        )  # fmt: skip
        self.placement = Placement.of(cluster)  # as it was founded
        self.seating = Seating(self)
        self.moved, self.ambushes = Moved(self), Ambushes(self)
        self._digest = hashlib.sha256()
        self.clocks_misled = False  # no majority of right clocks stood against wrong ones at some time
        self.doubted = False  # a store, of which nothing was lost, may have said that something was
        self._noted: list[str] = []  # for the digest, later
        self._numbers = 0
        self._rows: dict[tuple[str, str], bytes] = {}  # by bucket and key
        self._chance = Stream(plan.seed, "client network")
        self.network = Network(self.clockwork, plan.network, plan.seed, self.counts)
        self.triggers = Triggers(self)
        self.log_watch = LogWatch(self)
        self.witness = Witness(self)
        self.refusals = Refusals(self)
        self.overload = Overload(self)
        self.machines: list[Machine] = []
        self.roster = Roster(self)
        self._ruins: list[Callable[[], None]] = []  # who else knows what was stored
        marks_bytes_max = Stream(plan.seed, "marks").pick((1 << 20, 1 << 20, 3000, 200))
        hint_age_s_max = plan.hint_age_s_max or Stream(plan.seed, "hints").pick((10_000, 10_000, 1))
        for index, member in enumerate(members):
            config = NodeConfig(
                cluster,
                member.name,
                Path("/nowhere"),
                plan.durability,
                plan.hint_bytes_max,
                hint_age_s_max,
                marks_bytes_max=marks_bytes_max,
            )
            self.machines.append(Machine(self, index, config, plan.machines[index]))
        self.config = self.machines[0].config  # but for its name: of those that come, too

    # --- what machines and clients use -------------------------------------------------------

    def row(self, bucket: str, key: str) -> bytes:
        """Of a key."""
        row = self._rows.get((bucket, key))
        if row is None:
            row = self._rows[bucket, key] = self.placement.row(bucket.encode(), key.encode())
        return row

    def number(self) -> int:
        self._numbers += 1
        return self._numbers

    @property
    def true_ms(self) -> float:
        """What a clock that is right shows."""
        return WALL_MS + self.clockwork.now * 1e3

    @property
    def resting(self) -> bool:
        """The clients ask nothing just now."""
        rest = self.plan.rest
        return rest is not None and rest[0] + 1.0 < self.clockwork.now < rest[1]

    def compare_clocks(self) -> None:
        """Some have been set."""
        members = self.roster.members
        wrong = sum(abs(machine.offset_ms) > self.plan.drift_ms_max for machine in members)
        self.clocks_misled |= 2 * wrong >= len(members)

    def bereft(self, partitions: Collection[int]) -> None:
        """So few acceptors are left of these that what was agreed on may be lost."""
        self.counts["acceptors: too few are left"] += len(partitions)

    def ruined(self, partitions: Collection[int]) -> None:
        """More stores are lost than can be survived: what was acknowledged of these partitions may be there,
        or not."""
        self.witness.ruined(partitions)

        def touches(each: h.Operation) -> bool:
            return each.kind == h.SCAN or s.partition_of(self.row(each.bucket, each.key)) in partitions

        self.history.ruined(touches)
        for ruined in self._ruins:
            ruined()

    @property
    def called(self) -> dict[int, str]:
        """The names of all that are members, or were, by number."""
        return dict(zip(self.numbers, self.names, strict=True))

    def member_called(self, name: str, machine: Machine) -> int:
        """Who is meant by a name on a machine's disk: of several that had it the last that has come, by what
        that disk knows to be decided."""
        if self.names.count(name) == 1:
            return self.names.index(name)
        known = self.seating.known_at(self.seating.used(machine))
        return max(at for at, each in enumerate(self.names) if each == name and self.numbers[at] in known)

    def client_delay(self) -> float:
        return 5e-5 + self._chance.exponential(0.0003)

    def blame(self, check: str, text: str) -> None:
        """A law is broken."""
        if sum(each.check == check for each in self.violations) < VIOLATIONS_MAX:
            self.violations.append(h.Violation(check, f"{text} (at {self.clockwork.now:.4f})"))
        if self.recording:
            self.lines.append(f"{self.clockwork.now:9.4f}  VIOLATION of {check}: {text}")

    def _note(self, line: str) -> None:
        self._noted.append(line)
        if len(self._noted) >= NOTED_MAX:
            self._digest_noted()

    def _digest_noted(self) -> None:
        self._digest.update("".join(self._noted).encode())
        self._noted.clear()

    def say(self, machine: int, what: str, more: str) -> None:
        """Something other than a message, for the trace."""
        self._note(f"{self.clockwork.now!r} {machine} {what} {more}\n")
        if self.recording:
            self.lines.append(f"{self.clockwork.now:9.4f}  n{machine + 1} {what} {more}")

    def strikes(self, fault: Fault, more: str = "") -> None:
        """A fault happens now."""
        self.say(fault.machine, "fault", f"{fault.kind}{more}")
        self.counts[f"fault: {fault.kind}"] += 1

    def trace(self, source: int, target: int, messages: list[Message]) -> None:
        """A frame leaves. Clients are numbered from -1 down."""
        noted, kind = self._noted, type(messages[0]).__name__
        noted.append(f"{int(self.clockwork.now * 1e9)} {source} {target} {len(messages)} {kind}\n")
        if len(noted) >= NOTED_MAX:
            self._digest_noted()
        if self.recording:
            to = f"n{target + 1}" if target >= 0 else f"c{-1 - target}"
            for message in messages:
                self.lines.append(f"{self.clockwork.now:9.4f}  n{source + 1} > {to}  {message}")

    def ended(self, operation: h.Operation) -> None:
        """A client knows what became of its request."""
        self.witness.ended(operation)
        version = operation.version.hex()
        self._noted.append(f"{operation.number} {operation.outcome} {version} {operation.value!r}\n")
        if self.recording:
            self.lines.append(f"{self.clockwork.now:9.4f}  c{operation.client} ended {operation}")

    # --- the acts ----------------------------------------------------------------------------

    def run(self) -> None:
        """Play it all. What goes wrong is in `violations`."""
        try:
            self._play()
        except Exception:  # noqa: BLE001  whatever a node raises is a finding of this seed
            self.blame("crash", traceback.format_exc(limit=-6))
        self.counts.update({kind.__name__: count for kind, count in self.sent.items()})
        ended = Counter((each.kind, each.level, each.outcome) for each in self.history.operations)
        self.counts.update(
            {f"{kind} {level.name} {end}": n for (kind, level, end), n in ended.items() if end != h.PENDING}
        )

    def _play(self) -> None:
        compact_at = Stream(self.plan.seed, "compaction").pick((1000, 20, 5))
        own = self.plan.changes and Stream(self.plan.seed, "plans").chance(0.5)  # the product's plans
        drawn = self.plan.moves and not (own or self.plan.march)
        goals = partial(drawn_goals, self.plan.seed) if drawn else balance.plan
        with (
            patch.object(metadata_group, "COMPACT_AT", compact_at),
            patch.object(conductor, "plan", goals),
        ):
            self.play_all()

    def play_all(self) -> None:
        faults = Faults(self)
        faults.begin()
        for machine in self.machines:
            machine.start()
        self.clockwork.run(BEGIN_S)
        clients = self.begin_clients()
        self.overload.begin()
        faults.plan()
        for index in range(self.plan.operators):
            Operator(self, len(self.plan.clients) + 1 + index).begin()
        governor = Governor(self, len(self.plan.clients) + 20)
        self._ruins.append(governor.ruined)
        governor.begin()
        changer: Changer | None = None
        if self.plan.march:
            changer = March(self, len(self.plan.clients) + 21)
        elif self.plan.changes:
            changer = Changer(self, len(self.plan.clients) + 21)
            changer.begin()
            changer.falls.plan()
        elif self.plan.moves:
            Mover(self, len(self.plan.clients) + 21).begin()
        self.clockwork.after(COPY_S, self._copy_disks)
        if isinstance(changer, March):
            changer.run()
            self.plan = replace(self.plan, seconds=self.clockwork.now)
        self.clockwork.run(self.plan.seconds)
        self.overload.judge()
        self.heal()
        if (changer is None or changer.settle()) and self.await_health():
            self.refusals.judge_quiet()
            governor.end()
            self.moved.await_end()
            self.roster.judge()
            if changer is not None:
                changer.falls.judge()
            self.witness.promises.kept_in_the_end()
            self.examine(clients)
        self.refusals.judge()
        for machine in self.machines:
            machine.count()
        if self.counts["mismatches"] and not self.counts["record spoilt"]:
            self.blame("mismatches", "exchanges found something altered that nobody had altered")
        for violation in checkers.judge(self.history):
            self.blame(violation.check, violation.text)

    def hopeless_rows(self) -> set[bytes]:
        """What is damaged wherever it is held: an operator has to give it up."""
        nodes = [machine.node for machine in self.roster.members if machine.node is not None]
        told = {row for node in nodes for row in node.healing.hopeless}
        return {row for row in told if not any(self._is_sound(row, each) for each in self.roster.members)}

    def _is_sound(self, row: bytes, machine: Machine) -> bool:
        """Whether it holds the row, as it must, and soundly."""
        key, held = s.DATA + row, machine.index in self.seating.now(s.partition_of(row)).both
        blob = machine.disk.durable(key) if held else None
        return blob is not None and self.intact(key, blob)

    def is_asked(self) -> bool:
        """Whether what was asked in time is being repeated yet: of plain clients hardly for long."""
        return False

    def begin_clients(self) -> list[Client]:
        clients = [Client(self, plan) for plan in self.plan.clients]
        for client in clients:
            self.clockwork.after(client.stream.random() * 0.05, client.begin)
        return clients

    def examine(self, clients: list[Client]) -> None:
        Examination(self, clients).examine()

    def _copy_disks(self) -> None:
        """Backups, for faults to come back with."""
        for machine in self.machines:
            if not machine.ended:
                machine.copies.append(machine.disk.copy())
            for key in list(machine.spoilt):
                if self.intact(key, machine.disk.durable(key)):
                    machine.spoilt.discard(key)
                    self.counts["record healed"] += 1
        self.witness.copied()
        if self.clockwork.now < self.plan.seconds:
            self.clockwork.after(COPY_S, self._copy_disks)

    def intact(self, key: bytes, blob: bytes | None) -> bool:
        return blob is None or s.intact(KEY, key[1:], blob[: -s.SEQUENCE])

    def heal(self) -> None:
        """Every fault ends."""
        self.say(-1, "heal", "")
        self.operations_max, self.requests_max = OPERATIONS_MAX, REQUESTS_MAX_DEFAULT
        self.triggers.clear()
        network = self.network
        network.calm = True
        network.cuts.clear()
        network.slow.clear()
        for a, b in list(network.links):
            network.mend(a, b)
        for machine in self.machines:
            if machine.node is not None:
                machine.node.operations.operations_max = OPERATIONS_MAX
                machine.node.intake.room.requests_max = REQUESTS_MAX_DEFAULT
            machine.disk.full = machine.failing = False
            if machine.room is not None:
                machine.room.others = 0
            machine.slow_s = machine.stalls = 0.0
            machine.go_on(wholly=True)
            machine.sync_s = min(machine.sync_s, SYNC_S_MAX)
            machine.offset_ms = machine.plan.offset_ms
            if machine.paused:
                machine.resume()
            self.roster.come_back(machine)
            if not machine.gone:
                machine.start()

    def clocks_are_right(self) -> None:
        """Stamps were given out far ahead of the clocks, which are right now: an operator says so to each
        node, with a start."""
        self.counts["an operator said that clocks are right"] += 1
        for machine in self.roster.members:
            machine.stop()
            machine.config = replace(machine.config, clock_is_right=True)
        for machine in self.roster.members:
            machine.start()

    def say_of_jumps(self) -> bool:
        """Whether an operator had to say that clocks are right, where one saw most others jump, in turn, or
        jumped itself: until then that closes nothing which expires meanwhile, and says so."""
        nodes = [machine.node for machine in self.roster.members if machine.node is not None]
        if self.vouched or not any(node.peers.clock.ahead_ms for node in nodes):
            return False
        self.clocks_are_right()
        self.await_health()
        return True

    @property
    def vouched(self) -> bool:
        """Whether an operator has said so to all."""
        return all(machine.config.clock_is_right for machine in self.roster.members)

    def await_health(self) -> bool:
        """Whether all becomes well in time, without anybody's help; where most clocks were wrong perhaps only
        with an operator's."""
        if self._becomes_well():
            return True
        if self.clocks_misled and not self.vouched:
            self.clocks_are_right()
            if self._becomes_well():
                return True
        if self._tell_old() and self._becomes_well():
            return True
        if self.give_up() and self._becomes_well():
            return True
        for machine in self.roster.members:
            if not self._well(machine):
                node = machine.node
                facts = "not running" if node is None else str(node.report.facts())
                self.blame("recovery", f"n{machine.index + 1} is not well {HEAL_S_MAX} s after: {facts}")
        return False

    def give_up(self) -> bool:
        """A row that is damaged wherever it is held waits for an operator, who accepts that it is lost.
        Whether there was any."""
        rows = self.hopeless_rows()
        if not rows:
            return False
        self.counts["an operator gave up what nobody could heal"] += 1
        self.ruined(set(map(s.partition_of, rows)))
        operator = Operator(self, len(self.plan.clients) + 7)
        self.await_answer(partial(operator.accept, self.roster.members[0]))
        return True

    def await_answer(self, begin: Callable[..., None]) -> None:
        """What is begun calls `after` once it has ended."""
        ended: list[bool] = []
        begin(after=lambda: ended.append(True))
        while not ended:
            self.clockwork.run(self.clockwork.now + 0.25)

    def _tell_old(self) -> bool:
        """Stores that were set back wait for an operator's word, where others are not whole either: they are
        told that they are old. Whether any was."""
        nodes = {each: each.node.identity for each in self.roster.members if each.node is not None}
        copies = [each for each, identity in nodes.items() if identity.copied and not each.in_doubt]
        others = [each for each, identity in nodes.items() if not (identity.counts or identity.copied)]
        for machine in copies if others else ():
            self.counts["an operator said that a store is old, where others are not whole"] += 1
            machine.stop()
            machine.announced = True
            machine.start()
        return bool(copies and others)

    def _becomes_well(self) -> bool:
        end = self.clockwork.now + HEAL_S_MAX
        while self.clockwork.now < end:
            self.clockwork.run(self.clockwork.now + 0.25)
            for machine in self.roster.members:
                machine.start()  # a fault planned earlier may still end a machine
            if all(self._well(machine) for machine in self.roster.members):
                self.clockwork.run(self.clockwork.now + 0.5)
                if all(machine.node is not None for machine in self.roster.members):
                    return True
        return False

    def _well(self, machine: Machine) -> bool:
        """Whether it runs, counts, and has no hint to deliver, nor a request under way that may yet leave
        one: a write waits for the silent for some time after its deadline."""
        node = machine.node
        return (
            node is not None
            and node.linked
            and not node.replica.damaged
            and (not node.operations.count or self.log_watch.majority_lost)  # it goes on trying to finish
            and all(pile.count == pile.late for pile in node.hints.summary())
        )

    # --- the outcome -------------------------------------------------------------------------

    @property
    def operations(self) -> int:
        """How many clients have asked for."""
        return len(self.history.operations)

    @property
    def places(self) -> list[tuple[int, int]]:
        """The same, by client, and by place among the client's own."""
        return sorted((op.client, op.place) for op in self.history.operations if op.place >= 0)

    @property
    def digest(self) -> str:
        self._digest_noted()
        return self._digest.hexdigest()
