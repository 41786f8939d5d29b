"""Transaction worlds: worlds of registers whose clients ask for several of them at once, beside all that is
asked for one. Coordinators die, or stand still, at each step of what they coordinate.

In some worlds that is all that happens (`killed`), and clients are patient: there nobody waits for longer
than it takes to end what a dead coordinator has left. When a world is quiet, nothing is left of any.
"""

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.simulation import stored as s
from tests.simulation.chains import DECISIONS, LAID
from tests.simulation.clients import Client
from tests.simulation.clockwork import Stream
from tests.simulation.plan import BEGIN_S, Fault, Plan
from tests.simulation.register_clients import PENDING, Operation
from tests.simulation.register_worlds import (
    LONG_S,
    QUIET_S_MAX,
    SLOWER_S,
    RegisterWorld,
    draw_registers,
)
from tests.simulation.settlements import Settlements
from tests.simulation.transaction_clients import Sweep, Transact, TransactionClient

if TYPE_CHECKING:
    from tests.simulation.machine import Machine

INDEX = b"i"
KILLED, SLOW, STANDING, PATIENT = 0.12, 0.12, 0.06, 0.3
SLOW_SYNC_S = 0.06
PATIENT_MS_MAX = 3000
KEPT = (0.1, 0.25, 0.5, 1.0)  # so many of the faults that a world of registers has
KILLS = ((0, 4.0), (1, 3.0), (2, 2.0), (4, 1.0))
KILLED_AT_S, KILLED_EVERY_S = 3.0, 3.0  # by then all are acceptors
COUNTS = ("transaction_helps", "transaction_aborts", "transaction_leftovers")
BLOCKED_S_MAX = 2.0 + 0.16 + 3 * 0.1  # what is waited for the dead, a look, and three round trips
SLACK_S = 0.4  # of queues, ticks and disks; and until a link is known to be lost


def draw_transactions(seed: int) -> Plan:
    """The plan of a seed: that of registers, with more."""
    stream = Stream(seed, "transactions")
    plan, killed = draw_registers(seed), stream.chance(KILLED)
    share, slower = stream.pick((0.5, 0.8, 0.95)), SLOWER_S if plan.seconds > LONG_S else 0.0
    rows = stream.pick((2, 4, 8, 16))
    registers = (
        each._replace(transacts=share, rows=rows, loop_s=each.loop_s + slower) for each in plan.registers
    )
    plan = replace(plan, partitions=stream.pick((1, 2, 4, 8)), registers=tuple(registers))
    if killed:
        return _killed(plan, stream)
    if stream.chance(PATIENT):
        plan = replace(plan, timeout_ms_max=PATIENT_MS_MAX)
    if stream.chance(SLOW):
        machines = (machine._replace(sync_s=SLOW_SYNC_S) for machine in plan.machines)
        plan = replace(plan, machines=tuple(machines))
    if plan.theme == "nothing":
        return plan
    kept = stream.pick(KEPT)
    plan = replace(plan, faults=tuple(each for each in plan.faults if stream.chance(kept)))
    faults = [
        _strike(stream, "crash of coordinator", plan, stream.pick((0.05, 0.4, 3.0)))
        for _ in range(stream.weighted(KILLS))
    ]
    if stream.chance(STANDING):
        faults += [_strike(stream, "pause of coordinator", plan, stream.uniform(2.0, 30.0)) for _ in range(2)]
        seconds = max(plan.seconds, max(each.at + each.lasts for each in faults) + 1.5)
        registers = (each._replace(loop_s=each.loop_s + SLOWER_S) for each in plan.registers)
        plan = replace(plan, seconds=seconds, registers=tuple(registers))
    return replace(plan, faults=(*plan.faults, *faults))


def _strike(stream: Stream, kind: str, plan: Plan, lasts: float) -> Fault:
    at, machine = stream.uniform(BEGIN_S, plan.seconds), stream.below(len(plan.machines))
    return Fault(at, kind, machine, machine, lasts, stream.random())


def _killed(plan: Plan, stream: Stream) -> Plan:
    """Nothing else happens, and that one by one."""
    network = plan.network._replace(stream=True, heavy=0.0, loss=0.0, double=0.0, latency_s=0.0005)
    machine = plan.machines[0]._replace(sync_s=stream.pick((0.0005, 0.002)), turn_s=0.0002)
    machines = tuple(machine._replace(offset_ms=int(stream.uniform(-0.45, 0.45) * 500)) for _ in range(3))
    faults = tuple(
        Fault(
            KILLED_AT_S + KILLED_EVERY_S * at, "crash of coordinator", victim, victim,
            stream.pick((0.05, 3.0)), stream.uniform(0.0, 0.5),
        )
        for at in range(2)
        for victim in (stream.below(3),)
    )  # fmt: skip
    return replace(
        plan, theme="killed", replication=3, machines=machines, network=network, faults=faults,
        seconds=KILLED_AT_S + 2 * KILLED_EVERY_S, timeout_ms_max=5000, durability="sync", drift_ms_max=500,
        moves=False, changes=False, clients=(), registers=plan.registers[:12], hasty=True, rounds=True,
        operators=0,
    )  # fmt: skip


class TransactionWorld(RegisterWorld):
    """One of them."""

    def __init__(self, plan: Plan, *, recording: bool = False) -> None:
        self.transacts: list[Transact] = []
        self.sweeps: list[Sweep] = []
        super().__init__(plan, recording=recording)

    # --- what others call ----------------------------------------------------------------------

    def begin_transaction(self, client: int) -> Transact:
        self.transacts.append(Transact(len(self.transacts), client, self.clockwork.now))
        return self.transacts[-1]

    def begin_sweep(self, client: int) -> Sweep:
        self.sweeps.append(Sweep(len(self.sweeps), client, self.clockwork.now))
        return self.sweeps[-1]

    def forget(self, asked: Transact | Sweep) -> None:
        """It is not asked for."""
        (self.transacts if isinstance(asked, Transact) else self.sweeps).remove(asked)  # type: ignore[arg-type]

    def is_asked(self) -> bool:
        return super().is_asked() or any(each.outcome == PENDING for each in (*self.transacts, *self.sweeps))

    @property
    def operations(self) -> int:
        return len(self.asked) + len(self.transacts) + len(self.sweeps)

    @property
    def places(self) -> list[tuple[int, int]]:
        every: tuple[Operation | Transact | Sweep, ...] = (*self.asked, *self.transacts, *self.sweeps)
        return sorted({(each.client, each.place) for each in every if each.place >= 0})

    @property
    def digest(self) -> str:
        digest = hashlib.sha256(super().digest.encode())
        for each in self.transacts:
            digest.update(f"{each.number} {each.outcome} {each.end!r} {each.versions!r}".encode())
        for sweep in self.sweeps:
            digest.update(f"{sweep.number} {sweep.outcome} {sweep.end!r} {sweep.rows!r}".encode())
        return digest.hexdigest()

    # --- the acts ------------------------------------------------------------------------------

    def begin_clients(self) -> list[Client]:
        plans, self.plan = self.plan, replace(self.plan, registers=())
        clients = super().begin_clients()
        self.plan = plans
        for plan in self.plan.registers:
            client = TransactionClient(self, plan)
            self.clockwork.after(client.stream.random() * 0.05, client.begin)
        return clients

    def examine(self, clients: list[Client]) -> None:
        if self.log_watch.may_lose():
            self._await_tidied()
        super().examine(clients)

    # --- what is left --------------------------------------------------------------------------

    def _await_tidied(self) -> None:
        """Of no transaction is anything left, though nobody asks for what it had to do with."""
        end = self.clockwork.now + QUIET_S_MAX
        self.clockwork.run(self.clockwork.now + 0.5)
        while (left := self._left()) and self.clockwork.now < end:
            self.clockwork.run(self.clockwork.now + 0.5)
        if left and self.clocks_misled:
            self.counts["spared: what is left may seem to be of days to come"] += 1
            return
        for each in left[:3]:
            self.blame("left", f"{each}, {QUIET_S_MAX} s after all is well")

    def _left(self) -> list[str]:
        found = list[str]()
        for machine in self.roster.members:
            name = f"n{machine.index + 1}"
            for key, stored in machine.disk.scan(s.DATA, bytes((s.DATA[0] + 1,))):
                if stored[s.FLAGS_AT] & LAID:
                    found.append(f"{name} holds an intent on {key[1:]!r}")
                elif s.bucket_of(key[1:]) == DECISIONS and not s.is_tombstone(stored):
                    found.append(f"{name} holds what was decided of {key[1:]!r}")
            found += (
                f"{name} lists an intent on {key[1:]!r}"
                for key, _ in machine.disk.scan(INDEX, bytes((INDEX[0] + 1,)))
            )
        return found

    # --- judgement -----------------------------------------------------------------------------

    def judge_registers(self) -> None:
        super().judge_registers()
        assert self.chains is not None
        for each in (*self.transacts, *self.sweeps):
            self.counts[f"{type(each).__name__} {each.outcome}"] += 1
            if each.outcome == PENDING and each.requests:
                self.blame("answers", f"{each} never ended")
        self.counts.update(Settlements(self, self.chains).judge(self.transacts, self.sweeps, self.asked))
        if self.plan.theme == "killed":
            self._judge_waits()

    def _judge_waits(self) -> None:
        """Whoever waits for the dead waits for as long as they have had to come, and no longer."""
        asked = [(each, each.start, each.end) for each in self.asked if each.attempts == 1]
        several = [(each, each.asked_s, each.end) for each in self.transacts if each.attempts]
        for each, start, end in (*asked, *several):
            behind = [at for at in self.triggers.struck_s if at < end]
            waited_s = end - max(start, *behind) if behind else 0.0
            self.counts["waited for a second or longer"] += waited_s > 1.0
            if waited_s > BLOCKED_S_MAX + SLACK_S:
                self.blame("blocked", f"{each}: {waited_s:.3f} s behind the death of a coordinator")

    def count_registers(self, machine: "Machine") -> None:
        super().count_registers(machine)
        if machine.node is not None:
            for name in COUNTS:
                self.counts[name] += machine.node.metrics.counts.get(name, 0)
