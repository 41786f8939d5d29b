"""Faults: what happens to machines and links, and when.

Most come at their time and end after a while; those that lie in wait ("... after ack", "... in
replay") strike at the first moment of their kind, within their time. No fault takes away more
stores than the cluster promises to survive: N - Q of N replicas.
"""

from collections import Counter
from typing import TYPE_CHECKING

from basestore.protocol.client import Got, Written
from basestore.protocol.codec import Message
from basestore.protocol.replication import COPY, Applied, Apply, Hinted
from basestore.storage.keyspace import DATA, HINT
from basestore.transactions.transaction import Phase
from tests.simulation.batch_judge import is_over
from tests.simulation.clockwork import Stream
from tests.simulation.crowds import BURSTS, Crowds
from tests.simulation.fillings import FILLINGS, Fillings
from tests.simulation.goodbyes import say_goodbye
from tests.simulation.hangs import HANGS, Hangs
from tests.simulation.hardships import HARDSHIPS, Hardships
from tests.simulation.log_watch import is_later
from tests.simulation.losses import lose_store, may_lose, recall, restart_s
from tests.simulation.overloads import FLOODS
from tests.simulation.plan import Fault
from tests.simulation.restores import RESTORES, Restores
from tests.simulation.upheavals import UPHEAVALS, Upheavals

if TYPE_CHECKING:
    from tests.simulation.machine import Machine
    from tests.simulation.world import PlannedWorld

LOSING = frozenset(
    ("wipe", "wipe keeper", "rollback", "log cut", "spoil", "ambush", "swap", "blackout", "twins")
)
HOUR_MS = 3_600_000
PHASES = (Phase.LAY, Phase.VALIDATE, Phase.DECIDE, Phase.SETTLE)


class Triggers:
    """Faults that lie in wait."""

    def __init__(self, world: "PlannedWorld") -> None:
        self._world = world
        self.armed: list[Fault] = []
        self._passed: Counter[Fault] = Counter()
        self.struck_s: list[float] = []  # when coordinators died

    def arm(self, fault: Fault) -> None:
        self.armed.append(fault)
        self._world.clockwork.after(max(fault.lasts, 1.0), self._disarm, fault)

    def _disarm(self, fault: Fault) -> None:
        if fault in self.armed:
            self.armed.remove(fault)

    def clear(self) -> None:
        self.armed.clear()

    def _strike(self, fault: Fault, machine: "Machine") -> None:
        self.armed.remove(fault)
        self._world.counts[f"fault: {fault.kind}"] += 1
        if fault.kind.startswith("power"):
            power_loss(self._world, fault)
        elif fault.kind == "wipe after ack":
            self._world.clockwork.after(0.0, wipe, self._world, machine, fault)
        else:
            self._world.clockwork.after(0.0, fall, self._world, machine, fault, fault.kind)

    def answered(self, machine: "Machine", messages: list[Message]) -> None:
        """A node has told clients that writes are done, or shown them what it holds."""
        if not self.armed:
            return
        wrote = any(type(message) is Written for message in messages)
        showed = any(type(message) is Got and message.found for message in messages)
        for fault in self.armed:
            if fault.kind == "power after ack":
                hit = wrote if fault.size < 0.5 else showed
            else:
                hit = fault.kind == "crash after ack" and fault.size < 0.3 and fault.machine == machine.index
                hit = hit and wrote
            if hit:
                self._strike(fault, machine)
                return

    def sent(self, machine: "Machine", target: int, message: Message) -> None:
        """A node has told another that a record is taken, or sent it one."""
        if not self.armed:
            return
        for fault in self.armed:
            if fault.kind.endswith("of coordinator"):
                if self._is_at_step(machine, fault):
                    self._strike_coordinator(fault, machine)
                    return
                continue
            if isinstance(message, Applied):
                hit = fault.kind == "crash after ack" and fault.size >= 0.3 and fault.machine == machine.index
                hit |= fault.kind == "wipe after ack" and (fault.machine, fault.other) == (
                    machine.index,
                    target,
                )
            elif isinstance(message, Hinted):
                hit = fault.kind == "crash of replayer" or (
                    fault.kind == "crash in replay" and self._world.machines[target].node is not None
                )
            else:
                hit = isinstance(message, Apply) and message.way == COPY and fault.kind == "crash in repair"
            if hit:
                struck = self._world.machines[target] if fault.kind == "crash in replay" else machine
                self._strike(fault, struck)
                return

    def _is_at_step(self, machine: "Machine", fault: Fault) -> bool:
        """Whether it coordinates a transaction that has come as far, and says something; not each of them is
        the first."""
        if machine.node is None:
            return False
        phase = PHASES[fault.digit(1) % len(PHASES)]
        if not any(each.phase is phase for each in machine.node.transactions.open):
            return False
        self._passed[fault] += 1
        return self._passed[fault] > fault.digit(2)

    def _strike_coordinator(self, fault: Fault, machine: "Machine") -> None:
        """It ends, or stands still; of what it says in this turn others hear all, or but a part."""
        world, cuts = self._world, self._world.network.cuts
        self.armed.remove(fault)
        self.struck_s.append(world.clockwork.now)
        world.counts[f"fault: {fault.kind}"] += 1
        world.counts[f"{fault.kind} {PHASES[fault.digit(1) % len(PHASES)].value}"] += 1
        others = [each.index for each in world.machines if each is not machine and fault.digit(4) < 5]
        ways = [(machine.index, other) for at, other in enumerate(others) if at != fault.digit(5) % 3]
        cuts.update(ways)
        world.clockwork.after(0.001, cuts.subtract, ways)
        if fault.kind.startswith("crash"):
            world.clockwork.after(0.0, fall, world, machine, fault, fault.kind)
        else:
            world.clockwork.after(0.0, machine.pause)
            world.clockwork.after(fault.lasts, machine.resume)


def fall(world: "PlannedWorld", machine: "Machine", fault: Fault, why: str) -> None:
    """A machine crashes, and comes back after a while."""
    if machine.node is None:
        return
    machine.crash(why, noticed_s=0.002 if fault.size < 0.5 else 1.0)
    world.clockwork.after(restart_s(fault), machine.start)


def wipe(world: "PlannedWorld", machine: "Machine", fault: Fault) -> None:
    """A machine's disk is gone, unless too many have lost theirs already."""
    if machine.node is not None and may_lose(world, machine):
        lose_store(world, machine, fault._replace(kind="wipe", size=0.0))


def power_loss(world: "PlannedWorld", fault: Fault) -> None:
    """All machines at once."""
    for machine in world.machines:
        if machine.node is not None:
            world.clockwork.after(0.0, fall, world, machine, fault, "power")


def hints_kept(machine: "Machine") -> tuple[int, int]:
    """How many hints a machine that runs keeps; of equals the first."""
    hints = sum(1 for _ in machine.disk.scan(HINT, bytes((HINT[0] + 1,))))
    return hints if machine.node is not None else -1, -machine.index


class Faults:
    """Carries out a plan's faults."""

    def __init__(self, world: "PlannedWorld") -> None:
        self._world = world
        self._stream = Stream(world.plan.seed, "spoils")
        self._restores = Restores(world)
        self._strikers = {
            **dict.fromkeys(RESTORES, self._restores.strike),
            **dict.fromkeys(FILLINGS, Fillings(world).strike),
            **dict.fromkeys(BURSTS, Crowds(world).strike),
            **dict.fromkeys(HANGS, Hangs(world).strike),
            **dict.fromkeys(HARDSHIPS, Hardships(world).strike),
            **dict.fromkeys(FLOODS, world.overload.strike),
            **dict.fromkeys(UPHEAVALS, Upheavals(world).strike),
        }  # by kind

    def begin(self) -> None:
        """What is wrong before any machine has started."""
        for fault in self._world.plan.faults:
            if fault.kind == "clock wrong":
                self._clock(self._world.machines[fault.machine], fault)
                self._world.counts[f"fault: {fault.kind}"] += 1

    def plan(self) -> None:
        self._restores.plan()
        for fault in self._world.plan.faults:
            if fault.kind != "clock wrong":
                self._world.clockwork.at(fault.at, self._strike, fault)

    def _strike(self, fault: Fault) -> None:
        world = self._world
        if world.network.calm:  # of a march nobody knew how long it lasts
            return
        machine, kind = world.machines[fault.machine], fault.kind
        if kind == "wipe keeper":
            machine = max(world.machines, key=hints_kept)
        if kind.endswith(("after ack", "replay", "replayer", "repair", "of coordinator")):
            world.triggers.arm(fault)
            return
        if kind in self._strikers:
            self._strikers[kind](machine, fault)
            return
        if kind in LOSING and not may_lose(world, machine):
            world.counts["spared: too many stores lost already"] += 1
            return
        if machine.node is None and kind not in ("cut", "cut one way", "slow link", "disk full", "slow disk"):
            return
        world.strikes(fault, f" towards n{fault.other + 1} for {fault.lasts:.2f} s")
        if kind == "crash":
            fall(world, machine, fault, "crash")
        elif kind == "power":
            power_loss(world, fault)
        elif kind == "stop":
            self._stop(machine, fault)
        elif kind == "pause":
            if fault.size < 0.5:
                machine.pause()
            else:
                machine.pause_in_turn = True
            world.clockwork.after(fault.lasts, machine.resume)
        elif kind == "wrong start":
            self._clock(machine, fault)
            fall(world, machine, fault._replace(lasts=0.1), kind)
        elif kind == "all clocks":
            for each in world.machines:
                self._clock(each, fault)
        elif kind.startswith("clock"):
            self._clock(machine, fault)
        elif kind in ("wipe", "wipe keeper", "rollback", "log cut"):
            lose_store(world, machine, fault)
        elif kind == "blackout":
            self._blackout(machine, fault)
        elif kind == "twins":
            self._twins(machine, fault)
        elif kind == "away":
            fall(world, machine, fault, "away")
        elif kind == "ambush":
            self._ambush(fault)
        elif kind == "swap":
            self._swap(fault)
        elif kind == "spoil":
            self._spoil(machine)
        elif kind in ("disk full", "failed fsync", "slow disk"):
            self._disk(machine, fault)
        else:
            self._network(machine, fault)

    def _stop(self, machine: "Machine", fault: Fault) -> None:
        """A machine ends cleanly, in the orderly way or, asked twice, at once."""
        if fault.digit(4) < 6:
            say_goodbye(machine, restart_s(fault))
        else:
            machine.stop()
            self._world.clockwork.after(restart_s(fault), machine.start)

    def _blackout(self, machine: "Machine", fault: Fault) -> None:
        """All machines lose their power; one comes back with the blocks of an older moment."""
        for each in self._world.machines:
            if each is not machine:
                fall(self._world, each, fault, "power")
        recall(self._world, machine, fault, blocks=True)

    def _twins(self, machine: "Machine", fault: Fault) -> None:
        """Two come back with what they held at an older moment, one of which does not know it, and hear
        nobody else for a while."""
        world = self._world
        other = world.machines[fault.other]
        strangers = [each.index for each in world.machines if each not in (machine, other)]
        ways = [way for a in (machine.index, other.index) for b in strangers for way in ((a, b), (b, a))]
        recall(world, other, fault, blocks=False)
        recall(world, machine, fault, blocks=True)
        world.network.cuts.update(ways)
        world.clockwork.after(fault.lasts, self._join, ways)

    def _ambush(self, fault: Fault) -> None:
        """One machine hears nothing for a while; then it is back, another is gone for long, and a
        third comes back with a store that knows nothing of that while."""
        world, count = self._world, len(self._world.machines)
        deaf = (fault.machine + 1) % count
        lasts = 0.1 + fault.size
        self._network(world.machines[deaf], fault._replace(kind="isolate", machine=deaf, lasts=lasts))
        world.clockwork.after(lasts, self._spring, fault, (fault.machine + 2) % count)

    def _spring(self, fault: Fault, gone: int) -> None:
        world, machine = self._world, self._world.machines[fault.machine]
        if machine.node is None or not may_lose(world, machine):
            return
        kind = ("wipe", "rollback", "rollback", "log cut")[int(fault.size * 4)]
        fall(world, world.machines[gone], fault._replace(size=1.0, lasts=2.5), "ambush")
        lose_store(world, machine, fault._replace(kind=kind, size=0.0))

    def _swap(self, fault: Fault) -> None:
        """The words of a coordinator that is no replica reach one replica at once, one late, and the
        others not at all; when the first has acknowledged writes it loses its store. What it said
        must not make a quorum with what the late one will say."""
        world = self._world
        replicas = world.seating.now(0).both
        strangers = [each.index for each in world.machines if each.index not in replicas]
        if not strangers or len(replicas) < 2:
            return
        coordinator, first = strangers[0], replicas.index(fault.machine) if fault.machine in replicas else 0
        struck, late, *deaf = replicas[first:] + replicas[:first]
        world.network.slow[coordinator, late] = 0.7
        world.clockwork.after(1.5, self._quicken, (coordinator, late))
        ways = [(coordinator, each) for each in deaf]
        world.network.cuts.update(ways)
        world.clockwork.after(2.0, self._join, ways)
        ambush = fault._replace(kind="wipe after ack", machine=struck, other=coordinator)
        world.clockwork.after(0.03, world.triggers.arm, ambush)

    def _spoil(self, machine: "Machine") -> None:
        """One byte of one durable record changes."""
        pending = {key for undo in machine.disk.pending for key in undo}
        rows = [
            key
            for key, stored in machine.disk.scan(DATA, bytes((DATA[0] + 1,)))
            # Those nobody reads in the end are left alone.
            if key not in pending and not is_later(key[1:]) and not is_over(key[1:], stored)
        ]
        if rows:
            key = self._stream.pick(rows)
            machine.disk.spoil(key, self._stream.below(1 << 16))
            machine.spoilt.add(key)
            machine.impaired_since = self._world.clockwork.now
            self._world.history.stores_lost = True
            self._world.counts["record spoilt"] += 1

    def _clock(self, machine: "Machine", fault: Fault) -> None:
        bound = self._world.plan.drift_ms_max
        sign = 1 if fault.size < 0.5 else -1
        if fault.kind == "clock within":
            machine.offset_ms = int((fault.size - 0.5) * 0.9 * bound)
        elif fault.kind == "clock back":
            machine.offset_ms -= int(bound * (0.5 + 3 * fault.size))
        else:
            hour = 0.4 < fault.size < 0.6
            far = HOUR_MS if hour else int(bound * (1.2 + 4 * fault.size))
            machine.offset_ms += sign * far
        self._world.compare_clocks()
        self._world.witness.timekeeping.set(machine)
        if fault.kind != "clock within":
            self._world.clockwork.after(fault.lasts, self._set_right, machine)

    def _set_right(self, machine: "Machine") -> None:
        machine.offset_ms = machine.plan.offset_ms
        self._world.witness.timekeeping.set(machine)

    def _disk(self, machine: "Machine", fault: Fault) -> None:
        world = self._world
        if fault.kind == "disk full":
            machine.full_until_s = max(machine.full_until_s, world.clockwork.now + fault.lasts)
            self._fill(machine, fault.size > 0.6)
        elif fault.kind == "slow disk":
            machine.slow_s = 0.02 if fault.size < 0.7 else 0.4
            world.clockwork.after(fault.lasts, machine.quicken)
        else:
            machine.failing = True
            world.clockwork.after(fault.lasts + 0.5, machine.start)

    def _fill(self, machine: "Machine", stalls: bool) -> None:
        """The disk takes nothing for a while; one that stalls takes what comes in between for a moment."""
        clockwork = self._world.clockwork
        if clockwork.now >= machine.full_until_s or self._world.network.calm:
            machine.disk.full = False
        elif machine.disk.full and stalls:
            machine.disk.full = False
            clockwork.after(0.02, self._fill, machine, stalls)
        else:
            machine.disk.full = True
            left_s = machine.full_until_s - clockwork.now
            clockwork.after(min(left_s, 0.3) if stalls else left_s, self._fill, machine, stalls)

    def _network(self, machine: "Machine", fault: Fault) -> None:
        """Cuts of one link or all of a machine's, one way or both; slow and broken links."""
        world = self._world
        network, a = world.network, fault.machine
        if fault.kind == "flap":
            self._flap(fault, world.clockwork.now + 1.0 + fault.lasts)
            return
        others = [fault.other] if fault.kind != "isolate" else [m.index for m in world.machines]
        ways = []
        for b in others:
            if b == a:
                continue
            if fault.kind == "break":
                network.break_between(a, b)
            elif fault.kind == "slow link":
                network.slow[a, b] = 0.005 + fault.size**4
                world.clockwork.after(fault.lasts, self._quicken, (a, b))
            else:
                ways += [(a, b)] if fault.kind == "cut one way" else [(a, b), (b, a)]
        network.cuts.update(ways)
        world.clockwork.after(fault.lasts, self._join, ways)

    def _flap(self, fault: Fault, end: float) -> None:
        """A link is cut every so often, for as long as it then stands; a bad one breaks each time."""
        clockwork, network = self._world.clockwork, self._world.network
        if clockwork.now >= end or network.calm:
            return
        self._world.counts["link flapped"] += 1
        period_s = 0.1 + 0.3 * (2 * fault.size % 1)
        ways = [(fault.machine, fault.other), (fault.other, fault.machine)]
        network.cuts.update(ways)
        clockwork.after(period_s, self._join, ways)
        clockwork.after(2 * period_s, self._flap, fault, end)
        if fault.size < 0.5:
            network.break_between(fault.machine, fault.other)

    def _quicken(self, way: tuple[int, int]) -> None:
        self._world.network.slow.pop(way, None)

    def _join(self, ways: list[tuple[int, int]]) -> None:
        network = self._world.network
        for way in ways:
            if network.cuts[way]:
                network.cuts[way] -= 1
                if not network.cuts[way]:
                    network.mend(*way)
