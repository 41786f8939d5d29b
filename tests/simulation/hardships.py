"""Hardships: small worlds like the ordeals, whose misfortunes are of their own kind.

doubtful   all stores are doubted by an operator's word at once, and one of them is older than the others,
           which have purged what it still holds
heirs      of five members two come back with the same older moment, one knows it, and hears but the other;
           then that one is gone, and two come that lack what only the third has of a quorum
alone      one member goes on alone, and its disk is lost; perhaps all clocks were an hour ahead
torn       a hint that is the only copy of its write is spoilt where it is kept
ruin       a lone member's log is cut in silence, or all members lose their disks: all that was acknowledged
           may be gone, and is known to be lost
unknown    of two members one is opened anew while the other's disk hangs; then all power goes, and the first
           comes back with the blocks of when it was down
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from tests.simulation import stored as s
from tests.simulation.clockwork import Stream
from tests.simulation.losses import RECALLED, place_of, restart_s
from tests.simulation.ordeals import CALM, small
from tests.simulation.plan import Fault, Plan

if TYPE_CHECKING:
    from tests.simulation.machine import Machine
    from tests.simulation.world import PlannedWorld

CHANCE = 0.03  # of all worlds
LAST_S = 0.009  # answers are on their way no longer, and no machine is back before that
HARDSHIPS = frozenset(("all doubted", "hint spoilt", "copied down", "back down", "ruin"))
HOUR = 0.42  # the size of a fault that sets a clock an hour ahead


def hardship(plan: Plan, stream: Stream) -> Plan:
    """One of them, in place of a plain plan."""
    plan = stream.pick((_doubtful, _heirs, _alone, _torn, _unknown, _ruin))(plan, stream)
    return replace(plan, wide=True, library=stream.chance(0.5))


def _doubtful(plan: Plan, stream: Stream) -> Plan:
    members = stream.pick((3, 3, 5))
    plan = small(plan, "doubtful", members, stream, ("deletes", "brief"))
    machine = stream.below(members)
    doubted = Fault(4.6, "all doubted", machine, machine, stream.uniform(0.05, 0.6), stream.random())
    faults = [doubted]
    for _ in range(stream.pick((0, 6, 12))):  # exchanges end half-way
        at, kind = stream.uniform(5.6, 7.4), stream.pick(("break", "break", "crash", "cut"))
        one, other = stream.below(members), stream.below(members - 1)
        faults.append(Fault(at, kind, one, (one + 1 + other) % members, 0.05, 0.1))
    if stream.chance(0.5):
        away = (machine + 1) % members
        faults.append(Fault(4.4, "isolate", away, away, stream.uniform(0.5, 3.0), 0.5))
    rest = (stream.uniform(3.4, 4.6), 9.0)
    network = CALM._replace(latency_s=stream.pick((0.0005, 0.01)))
    return replace(plan, replication=members, network=network, faults=tuple(faults), rest=rest, seconds=9.6)


def _heirs(plan: Plan, stream: Stream) -> Plan:
    plan = small(plan, "heirs", 5, stream, ("brief", "first"))
    first = stream.below(5)
    machine, other, away, *late = ((first + at) % 5 for at in range(5))
    at = 4.2
    faults = (
        *(Fault(2.8, "cut", each, one, at + 2.4 - 2.8, 0.5) for each in late for one in (machine, other)),
        *(Fault(2.8, "cut", each, away, 8.0, 0.5) for each in late),
        Fault(at - 0.1, "isolate", away, away, 6.0, 0.5),
        Fault(at, "twins", machine, other, 0.5, 0.0),
        Fault(at + 2.4, "isolate", machine, machine, 4.0, 0.5),
    )
    return replace(plan, replication=5, faults=faults, rest=(at, 10.6), seconds=11.0)


def _alone(plan: Plan, stream: Stream) -> Plan:
    plan = small(plan, "alone", 3, stream, ("lone",))
    machine, wrong = stream.below(3), []
    if stream.chance(0.5):
        wrong = [Fault(0.0, "clock wrong", at, at, 3.3 if at == machine else 1.9, HOUR) for at in range(3)]
    faults = (
        *wrong,
        Fault(1.8, "isolate", machine, machine, 1.4, 0.5),
        Fault(3.2, "wipe", machine, machine, 0.1, 0.0),
    )
    return replace(plan, faults=faults, seconds=4.5)


def _torn(plan: Plan, stream: Stream) -> Plan:
    plan = small(plan, "torn", 4, stream, ("lone",))
    machine, at = stream.below(4), stream.uniform(1.6, 3.0)
    faults = (
        Fault(1.2, "isolate", machine, machine, at - 1.1, 0.5),
        *(
            Fault(at + 0.001 * each, "hint spoilt", machine, machine, 0.0, stream.random())
            for each in range(3)
        ),
    )
    return replace(plan, partitions=8, faults=faults)


def _unknown(plan: Plan, stream: Stream) -> Plan:
    plan = small(plan, "unknown", 2, stream, ("lone", "brief"))
    faults = (
        Fault(2.6, "disk hangs", 1, 1, 3.6, 0.5),
        Fault(2.7, "copied down", 0, 0, 0.05, 0.5),
        Fault(5.2, "back down", 0, 0, 0.1, 0.0),
    )
    return replace(plan, replication=2, network=CALM, faults=faults, rest=(1.2, 2.9), seconds=6.6)


def _ruin(plan: Plan, stream: Stream) -> Plan:
    members = stream.pick((1, 1, 2, 3))
    plan = small(plan, "ruin", members, stream, ("hot", "first", "brief"))
    struck = Fault(stream.uniform(3.0, 3.8), "ruin", 0, 0, stream.uniform(0.05, 0.5), stream.random())
    return replace(plan, replication=members, faults=(struck,), seconds=5.5)


class Hardships:
    """Carries them out."""

    def __init__(self, world: "PlannedWorld") -> None:
        self._world = world
        self._stream = Stream(world.plan.seed, "hardships")
        self._copies: dict[int, dict[bytes, bytes]] = {}

    def strike(self, machine: "Machine", fault: Fault) -> None:
        """It happens."""
        if fault.kind == "all doubted":
            self._doubt_all(machine, fault)
        elif fault.kind == "hint spoilt":
            self._spoil_hint(machine, fault)
        elif fault.kind == "ruin":
            self._ruin(fault)
        elif fault.kind == "copied down":
            self._copy_down(machine, fault)
        elif machine.index in self._copies:
            self._come_back(machine, fault)

    def _doubt_all(self, machine: "Machine", fault: Fault) -> None:
        machines, copies = self._world.machines, list(machine.copies)
        if len(copies) <= RECALLED + 1 or any(each.impaired or each.in_doubt for each in machines):
            return
        self._world.strikes(fault)
        older = [machine.index, (machine.index + 2) % len(machines)][: (len(machines) - 1) // 2]
        for each in machines:
            each.crash(fault.kind, noticed_s=0.01)
            if each.index in older:  # as many as the cluster promises to survive, each as old as it likes
                old = list(each.copies)[-1 - RECALLED - (each is machine)]
                each.replace_disk(old, "", place_of(old))
            else:
                each.in_doubt = True
            each.announced = True
            self._world.clockwork.after(restart_s(fault), each.start)
        self._world.witness.stamps.doubted()

    def _spoil_hint(self, machine: "Machine", fault: Fault) -> None:
        """One bit of the record of an only copy changes."""
        pending = {key for undo in machine.disk.pending for key in undo}
        hints = [
            key
            for key, hint in machine.disk.scan(s.HINT, bytes((s.HINT[0] + 1,)))
            if s.only_copy(hint) and key not in pending and key not in machine.torn
        ]
        if hints:
            self._world.strikes(fault)
            key = self._stream.pick(hints)
            hint = machine.disk.get(key) or b""
            start = len(hint) - len(s.hinted_record(hint)) + s.EXPIRY_AT
            machine.disk.spoil_at(key, start + self._stream.below(len(hint) - start))
            machine.torn.add(key)
            self._world.witness.promises.tear(machine, s.hinted_row(key)[1])
            self._world.history.stores_lost = True

    def _ruin(self, fault: Fault) -> None:
        """More is lost than can be survived."""
        machines = self._world.machines
        if len(machines) == 1 and len(machines[0].copies) <= RECALLED:
            return
        self._world.strikes(fault)
        for each in machines:
            each.crash(fault.kind, noticed_s=0.01)
            old = each.copies[-1 - RECALLED] if len(machines) == 1 else None
            each.replace_disk(old, "", place_of(old) if old else frozenset(), keeps_held=old is not None)
            self._world.clockwork.after(restart_s(fault), each.start)
        self._ruined()
        self._world.clockwork.after(LAST_S, self._ruined)  # what was answered has arrived by then

    def _ruined(self) -> None:
        world = self._world
        world.log_watch.returned()
        for machine in world.machines:
            world.witness.returned(machine.former[-1], machine.disk)
        world.ruined(range(world.plan.partitions))

    def _copy_down(self, machine: "Machine", fault: Fault) -> None:
        """It is restarted, and what its disk holds meanwhile is copied."""
        self._world.strikes(fault)
        machine.crash(fault.kind, noticed_s=0.01)
        self._copies[machine.index] = machine.disk.copy()
        self._world.clockwork.after(restart_s(fault), machine.start)

    def _come_back(self, machine: "Machine", fault: Fault) -> None:
        """All power goes; this machine has the blocks of then."""
        self._world.strikes(fault)
        old = self._copies[machine.index]
        for each in self._world.machines:
            each.disk.sync()  # or nobody would know of the opening that is gone, nor of its hints
            each.crash("power")
            if each is machine:
                each.replace_disk(old, "", place_of(old))
            self._world.clockwork.after(restart_s(fault), each.start)
