"""Register worlds: clusters of real nodes whose clients ask for registers alone, few of them, so that many
operations meet.

Machines, links, disks, clocks and all that befalls them are those of any planned world; partitions move, and
members come and go, in some. Left out is what costs time and does not look at registers: there is no trace,
and records of registers are watched by `chains.py` alone. A seed draws from streams of its own: plans of
other worlds know nothing of these.
"""

import hashlib
import math
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import replace
from unittest.mock import patch

from basestore.config import BUILT_IN, Durability
from basestore.protocol.codec import Message
from basestore.repair.rule import Rule
from basestore.replica.group_commit import GroupCommit
from tests.simulation import stored as s
from tests.simulation.chains import ACCEPTOR, Chains
from tests.simulation.changers import changing
from tests.simulation.clients import Client
from tests.simulation.clockwork import Stream
from tests.simulation.drawing import CLOCKS, CRASHES, DISKS, NETWORK, PAUSES, STORES
from tests.simulation.fillings import filling
from tests.simulation.hangs import hanging
from tests.simulation.machine import Machine
from tests.simulation.movers import moving
from tests.simulation.plan import ClientPlan, MachinePlan, NetworkPlan, Plan, RegisterClientPlan
from tests.simulation.promised import Judge
from tests.simulation.register_clients import (
    AGREED,
    CAS,
    FOUND,
    GET,
    PENDING,
    Operation,
    RegisterClient,
)
from tests.simulation.restores import restoring
from tests.simulation.upheavals import upheaval
from tests.simulation.widening import draw_faults
from tests.simulation.world import PlannedWorld

QUIET_S_MAX = 30.0
EXAMINER = 10_000
READ_S = 1.2
THEMES = [
    ("acks", CRASHES + DISKS, 4.0),
    ("links", NETWORK + PAUSES, 4.0),
    ("clocks", CLOCKS * 3 + CRASHES + NETWORK, 2.0),
    ("stores", STORES + CRASHES + NETWORK, 4.0),
    ("everything", CRASHES + NETWORK + DISKS + STORES + CLOCKS + PAUSES, 5.0),
    ("nothing", [], 1.0),
]  # fmt: skip
SIZES = [
    ((3, 3), 10.0),
    ((4, 3), 2.0),
    ((5, 5), 2.0),
    ((5, 3), 1.0),
    ((2, 2), 1.0),
    ((4, 4), 1.0),
    ((1, 1), 0.3),
]
MOVING, CHANGING = 0.3, 0.4  # of all; of these
MORE = ((hanging, 0.03), (filling, 0.05), (restoring, 0.08), (upheaval, 0.04))
SECONDS = (3.0, 9.0)
LONG_S, SLOWER_S = 16.0, 0.04
BESIDE = 0.1  # so many worlds have plain clients, too
FIRST = 100  # of clients of registers
UNDER_WAY_MS = 1200.0
LINGERING = ("pause", "slow link", "cut one way", "clock within")


def draw_registers(seed: int) -> Plan:
    """The plan of a seed."""
    stream = Stream(seed, "register world")
    (members, replication), drift_ms_max = stream.weighted(SIZES), stream.pick((100, 500, 2000))
    theme, kinds, _ = stream.weighted([(each, each[2]) for each in THEMES])
    seconds = stream.uniform(*SECONDS)
    network = NetworkPlan(
        stream.chance(0.7), stream.pick((0.0002, 0.001, 0.004)), stream.pick((0.0, 0.01, 0.05)),
        stream.pick((0.0, 0.0002, 0.001)), 0.0, stream.chance(0.3), False,
    )  # fmt: skip
    if not network.stream:
        network = network._replace(loss=20 * network.loss, double=stream.pick((0.0, 0.02, 0.1)))
    machines = tuple(
        MachinePlan(
            stream.pick((0.0005, 0.002, 0.01)), stream.pick((0.0001, 0.0005)),
            int(stream.uniform(-0.45, 0.45) * drift_ms_max), 1 + stream.uniform(-1e-4, 1e-4),
        )
        for _ in range(members)
    )  # fmt: skip
    durability: Durability = "interval" if Stream(seed, "registers: interval").chance(0.1) else "sync"
    plan = Plan(
        seed, theme, replication, stream.pick((1, 1, 2, 4)),
        durability, drift_ms_max, 1000, 1 << 20, seconds, network,
        machines, (), draw_faults(Stream(seed, "register faults"), kinds, members, seconds), True,
        stream.chance(0.7),
    )  # fmt: skip
    for befalls, chance in MORE:
        more = Stream(seed, f"registers: {befalls.__name__}")
        plan = befalls(plan, more) if more.chance(chance) else plan
    moved = Stream(seed, "registers move")
    if moved.chance(MOVING):
        plan = moving(plan, moved)
        if moved.chance(CHANGING):
            plan = changing(plan, moved)
    beside, registers = Stream(seed, "registers: beside"), _clients(Stream(seed, "register clients"))
    if plan.seconds > LONG_S:
        registers = tuple(each._replace(loop_s=each.loop_s + SLOWER_S) for each in registers)
    plain = (ClientPlan(at, "hot", False, 0.02, True, True) for at in range(2))
    return replace(
        plan, rounds=True, registers=registers, clients=tuple(plain) if beside.chance(BESIDE) else ()
    )


def _clients(stream: Stream) -> tuple[RegisterClientPlan, ...]:
    count, rows = stream.pick((6, 12, 24, 40)), stream.pick((1, 2, 3, 5, 8))
    loop_s, roams = stream.pick((0.0005, 0.002, 0.01)), stream.pick((0.0, 0.05, 0.3))
    return tuple(RegisterClientPlan(FIRST + at, rows, loop_s, roams) for at in range(count))


class RegisterWorld(PlannedWorld):
    """One of them."""

    buckets: Mapping[str, Rule] = {**BUILT_IN, CAS: Rule.REGISTER, AGREED: Rule.FIRST_WRITE_AGREED}

    def __init__(self, plan: Plan, *, recording: bool = False) -> None:
        self.chains = Chains(self)
        self.asked: list[Operation] = []
        self._begun = 0
        super().__init__(plan, recording=recording)
        self.history.end_s = math.inf  # but for registers nothing is read in the end

    def is_asked(self) -> bool:
        return any(operation.outcome == PENDING for operation in self.asked)

    def ruined(self, partitions: Collection[int]) -> None:
        super().ruined(partitions)
        assert self.chains is not None
        self.chains.ruined(partitions)

    def bereft(self, partitions: Collection[int]) -> None:
        super().bereft(partitions)
        assert self.chains is not None
        self.chains.ruined(partitions)

    # --- what others call ----------------------------------------------------------------------

    def trace(self, source: int, target: int, messages: list[Message]) -> None:
        if self.recording:
            super().trace(source, target, messages)

    def begin_operation(self, client: int, kind: str, bucket: str, key: str) -> Operation:
        operation = Operation(self._begun, client, kind, (bucket, key), self.clockwork.now)
        self._begun += 1
        self.asked.append(operation)
        return operation

    def register_ended(self, operation: Operation) -> None:
        if self.recording:
            self.lines.append(f"{self.clockwork.now:9.4f}  c{operation.client} ended {operation}")

    @property
    def clocks_apart_ms(self) -> float:
        """How far clocks may be from the true time."""
        return float("inf") if self.clocks_misled or self.plan.clocks_jump else self.plan.drift_ms_max

    @property
    def expiry_slack_ms(self) -> float:
        """How far clocks may be apart, and how long a write may be under way."""
        lingers = any(fault.kind in LINGERING for fault in self.plan.faults)
        return float("inf") if lingers else self.clocks_apart_ms + UNDER_WAY_MS

    @property
    def operations(self) -> int:
        return len(self.asked)

    @property
    def places(self) -> list[tuple[int, int]]:
        return sorted((each.client, each.place) for each in self.asked if each.client != EXAMINER)

    @property
    def digest(self) -> str:
        digest = hashlib.sha256(super().digest.encode())
        for each in self.asked:
            digest.update(f"{each.number} {each.outcome} {each.end!r} {each.version!r}".encode())
        return digest.hexdigest()

    # --- the acts ------------------------------------------------------------------------------

    def play_all(self) -> None:
        assert self.chains is not None
        stage, staged = GroupCommit.stage, self.chains.staged

        def seen(commit: GroupCommit, key: bytes, value: bytes | None) -> None:
            if key[:1] == ACCEPTOR:
                staged(commit, key, value)
            stage(commit, key, value)

        with patch.object(GroupCommit, "stage", seen):
            super().play_all()
        self.judge_registers()
        for machine in self.machines:
            self.count_registers(machine)

    def begin_clients(self) -> list[Client]:
        clients = super().begin_clients()
        for plan in self.plan.registers:
            client = RegisterClient(self, plan)
            self.clockwork.after(client.stream.random() * 0.05, client.begin)
        return clients

    def examine(self, clients: list[Client]) -> None:
        # Who is bound to a new store is then decided by nobody, until an operator rebuilds the group.
        if not self.log_watch.may_lose():
            self.counts["spared: most of those that vote have lost their stores"] += 1
            return
        self._await_learned()
        self._read_registers()
        lacking = self._await_held()
        if lacking and self.clocks_misled and not self.vouched:
            self.clocks_are_right()  # until then stamps that lie far ahead are believed by nobody
            self.await_health()
            lacking = self._await_held()
        for each in lacking:
            self.blame("replicas", each)

    def _await_held(self) -> list[str]:
        """What is lacking yet when it has had time to come by exchanges."""
        end = self.clockwork.now + QUIET_S_MAX
        while (lacking := self._lacking()) and self.clockwork.now < end:
            self.clockwork.run(self.clockwork.now + 0.5)
        return lacking

    def _await_learned(self) -> None:
        """Nothing stays accepted and not learned, and all closed stamps go beyond what was chosen."""
        open_yet = self._open_yet()
        if open_yet and self.say_of_jumps():
            open_yet = self._open_yet()
        if open_yet and self.give_up():
            open_yet = self._open_yet()
        for each in open_yet[:3]:
            self.blame("finished", f"{each}, {QUIET_S_MAX} s after all is well")

    def _open_yet(self) -> list[str]:
        """What is unfinished when it has had time."""
        end = self.clockwork.now + QUIET_S_MAX
        self.clockwork.run(self.clockwork.now + 0.5)
        while (open_yet := self._unfinished()) and self.clockwork.now < end:
            self.clockwork.run(self.clockwork.now + 0.5)
        return open_yet

    def _unfinished(self) -> list[str]:
        assert self.chains is not None
        newest: defaultdict[int, bytes] = defaultdict(bytes)
        for row, seen in self.chains.rows.items():
            at = s.partition_of(row)
            newest[at] = max(newest[at], max(seen.chosen, default=b""))
        found = list[str]()
        for machine in self.roster.members:
            if machine.node is not None and machine.node.registers.acceptors.count:
                found.append(f"n{machine.index + 1} has accepted what it has not learned")
            # Where most clocks were wrong one may have been ahead, and closes nothing that expires meanwhile.
            # And a clock that nobody compares itself with closes what it has stamped or seen, and no more.
            alone = machine.node is not None and machine.node.peers.clock.alone
            self.counts["spared: a clock is alone, and closes little"] += alone
            for at in self.seating.held_by(machine.index) if not (self.clocks_misled or alone) else ():
                closed = s.closed_in(machine.disk.get(s.SUMMARY + at.to_bytes(2)))
                if closed < int.from_bytes(newest[at][:8]):
                    found.append(f"n{machine.index + 1} has not closed {at} behind what was chosen")
        return found

    def _is_ruined(self, place: tuple[str, str]) -> bool:
        """Whether nobody can heal what is damaged of it."""
        ruined = self.row(*place) in self.hopeless_rows()
        self.counts["registers damaged at all replicas"] += ruined
        return ruined

    def _read_registers(self) -> None:
        """Every key is read, at each node; but for those that are damaged wherever they are held."""
        examiner = RegisterClient(self, RegisterClientPlan(EXAMINER, 1, 1.0, 0.0))
        keys = sorted({operation.row for operation in self.asked})
        lacking = [
            (machine, key) for machine in self.roster.members for key in keys if machine.node is not None
        ]
        failed: list[tuple[Machine, Operation]] = []
        for _ in range(4):
            asked = []
            for machine, (bucket, key) in lacking:
                operation = examiner.operation(GET, bucket, key)
                operation.timeout_ms = 900
                asked.append((machine, operation))
                examiner.ask(machine, operation)
            self.clockwork.run(self.clockwork.now + READ_S)
            failed = [(machine, each) for machine, each in asked if each.outcome != FOUND]
            failed = [(machine, each) for machine, each in failed if not self._is_ruined(each.row)]
            lacking = [(machine, each.row) for machine, each in failed]
            if not lacking:
                return
        machine, operation = failed[0]
        text = f"n{machine.index + 1} does not answer {operation}: {operation.why[:150]}"
        self.blame("recovery", f"{len(failed)} registers cannot be read: {text}")

    def _lacking(self) -> list[str]:
        """Who does not hold what was chosen last of a row that it holds."""
        assert self.chains is not None
        lacking = list[str]()
        for row, seen in self.chains.rows.items():
            last = max((ballot for ballot, at in seen.chosen.items() if at > seen.ruined_s), default=None)
            for machine in self.seating.holders(s.partition_of(row)) if last else ():
                held = machine.disk.get(s.DATA + row)
                # What is damaged may be found only now, and is healed some time later.
                if (held is None and last in seen.purged) or s.DATA + row in machine.spoilt:
                    continue
                if held is None or held[:16] != last:
                    text = f"n{machine.index + 1} holds {s.short(held)} of {row!r}"
                    lacking.append(f"{text}: {s.short(last)} was chosen")
        return lacking

    def judge_registers(self) -> None:
        assert self.chains is not None
        self.chains.link()
        asked: defaultdict[bytes, list[Operation]] = defaultdict(list)
        for operation in self.asked:
            asked[self.row(*operation.row)].append(operation)
            self.counts[f"{operation.kind}/{operation.condition} {operation.outcome}"] += 1
            if operation.outcome == PENDING and not (operation.may_be or operation.client == EXAMINER):
                self.blame("answers", f"{operation} never ended")
        for row, operations in asked.items():
            Judge(self, self.chains.rows[row], operations).judge()
            self.counts["chosen"] += len(self.chains.rows[row].links)

    def count_registers(self, machine: Machine) -> None:
        if machine.node is not None:
            for name in ("register_skips", "register_helps", "register_conflicts", "register_ballots"):
                self.counts[name] += machine.node.metrics.counts.get(name, 0)
