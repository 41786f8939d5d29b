"""Restores: disks that come back as they were at any earlier moment, and disks that only lie elsewhere.

backup        the files of a store, copied at some moment of the world, come back later: they are others now
image         the whole file system, which has another id now
snapshot      the blocks beneath it: the place is the same. If not all others remember more than the copy
              holds, an operator announces it (`serve --forgetful`), or the world is spared it
remount       nothing is lost; the file system has another id, or the files are others
all moved     the same of all stores at once
all restored  all stores come back as they were at one moment, when nobody asked anything any more

Where all are in doubt at once an operator has them taken as they are (`repair --as-is`). What was copied, and
how a machine ends before, is decided by digits of the fault's size, so that a fault less changes no other.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from basestore.replica.identity import Place, State
from tests.simulation.clockwork import Stream
from tests.simulation.losses import may_doubt, may_lose, newborn, place_of, remembering, restart_s
from tests.simulation.operators import Operator
from tests.simulation.plan import BEGIN_S, ClientPlan, Fault, MachinePlan, NetworkPlan, Plan

if TYPE_CHECKING:
    from tests.simulation.machine import Machine
    from tests.simulation.world import PlannedWorld

CHANCE = 0.25  # of worlds that are drawn at large
DRILLS = 0.03
KINDS = [("backup", 3.0), ("image", 2.0), ("snapshot", 3.0), ("remount", 4.0), ("all moved", 5.0)]
RESTORES = frozenset(("backup", "image", "snapshot", "remount", "all moved", "all restored"))
COPYING = RESTORES - {"remount", "all moved"}
COLD_S = 0.05
TAKE_S = 0.3
TAKES_MAX = 400
WORD_S = 6.0  # what can recover by itself has done so


# --- what is drawn -------------------------------------------------------------------------------


def restoring(plan: Plan, stream: Stream) -> Plan:
    """One to three of these, at any time; after a rest, if there is one. Where no store can be spared none is
    lost."""
    kinds = KINDS if plan.replication >= 3 else [each for each in KINDS if each[0] not in COPYING]
    faults, begin = list(plan.faults), BEGIN_S if plan.rest is None else plan.rest[1] - 5.0
    for _ in range(1 + stream.below(3)):
        kind, machine = stream.weighted(kinds), stream.below(len(plan.machines))
        at = stream.uniform(begin + 0.2, plan.seconds)
        faults.append(Fault(at, kind, machine, machine, stream.uniform(0.05, 1.0), stream.random()))
    return replace(plan, faults=tuple(faults))


def all_restored(plan: Plan, stream: Stream) -> Plan:
    """A small cluster rests; then all its stores come back as they were when that began."""
    members, replication = stream.pick(((1, 1), (2, 2), (3, 3), (3, 3), (4, 3), (5, 5)))
    bound = stream.pick((100, 500))
    machines = tuple(
        MachinePlan(stream.pick((0.0005, 0.004)), 0.0005, int(stream.uniform(-0.45, 0.45) * bound), 1.0)
        for _ in range(members)
    )
    workloads = ("hot", "first", "deletes", "brief", "mixed")
    clients = tuple(ClientPlan(at, stream.pick(workloads), True, 0.03, True, True) for at in range(6))
    begin = 4.0
    copied, restored = begin + 2.0, begin + stream.pick((4.0, 8.0, 20.0, 90.0))
    end = restored + stream.uniform(0.0, 8.0)
    faults = [Fault(restored, "all restored", 0, 0, copied, stream.random())]
    for _ in range(stream.below(4)):
        kind, machine = stream.pick(("isolate", "crash", "cut", "power")), stream.below(members)
        at, lasts = stream.uniform(2.0, restored), stream.uniform(0.2, 3.0)
        faults.append(Fault(at, kind, machine, (machine + 1) % members, lasts, stream.random()))
    return replace(
        plan, theme="restored", replication=replication, partitions=4, durability="sync", drift_ms_max=bound,
        network=NetworkPlan(True, 0.0005, 0.0, 0.0, 0.0, False, False), machines=machines, clients=clients,
        faults=tuple(sorted(faults)), rounds=True, hasty=stream.chance(0.7), rest=(begin, end),
        seconds=end + 2.5, library=stream.chance(0.5),
    )  # fmt: skip


# --- how it is done ------------------------------------------------------------------------------


def copied_at(fault: Fault) -> float:
    """When the copy was made."""
    return fault.lasts if fault.kind == "all restored" else fault.at * fault.size


class Restores:
    """Carries them out."""

    def __init__(self, world: "PlannedWorld") -> None:
        self._world = world
        self._copies: dict[Fault, list[dict[bytes, bytes]]] = {}

    def plan(self) -> None:
        """Copies are to be made."""
        for fault in self._world.plan.faults:
            if fault.kind in COPYING:
                self._world.clockwork.at(copied_at(fault), self._copy, fault)

    def strike(self, machine: "Machine", fault: Fault) -> None:
        """Something comes back, or is only moved."""
        everything = fault.kind.startswith("all")
        machines = self._world.machines if everything else [machine]
        if not all(each.disk.persistent for each in machines):
            return
        if everything and any(each.impaired or each.in_doubt for each in self._world.machines):
            self._spare("an operator knows of one store that it is an old copy, and takes none as it is")
        elif fault.kind == "all restored":
            self._restore_all(fault)
        elif everything:
            self._world.strikes(fault)
            self._move(machines, fault)
            # Perhaps not before what can recover by itself would have done so.
            self._world.clockwork.after(WORD_S * (fault.digit(5) < 5), self._take_as_they_are, machines)
        elif machine.node is None:
            return
        elif fault.kind == "remount":
            if may_doubt(self._world, machine):
                self._world.strikes(fault)
                self._move(machines, fault)
                # Where too few others hold the same it waits for that word, and for good.
                self._world.clockwork.after(WORD_S, self._take_as_they_are, machines)
            else:
                self._spare("too many stores lost already")
        elif not may_lose(self._world, machine):
            self._spare("too many stores lost already")
        elif machine.node.identity.state is State.NEWBORN:
            self._spare("a store that was not born yet has lost nothing")
        elif fault in self._copies:
            self._restore(machine, fault, self._copies[fault][0])

    def _spare(self, reason: str) -> None:
        self._world.counts[f"spared: {reason}"] += 1

    def _copy(self, fault: Fault) -> None:
        """The disk is copied; some machines are stopped for that."""
        world = self._world
        if fault.kind == "all restored":
            self._copies[fault] = [machine.disk.copy() for machine in world.machines]
            return
        machine = world.machines[fault.machine]
        if fault.digit(3) < 5 and machine.node is not None and not machine.paused:
            machine.stop()
            world.clockwork.after(COLD_S, machine.start)
        self._copies[fault] = [machine.disk.copy()]

    def _restore(self, machine: "Machine", fault: Fault, copy: dict[bytes, bytes]) -> None:
        remember, places = remembering(self._world, machine, copy), place_of(copy)
        announced, noticed = False, True
        if fault.kind == "snapshot":
            noticed = all(remember)
            announced = not noticed and fault.digit(4) < 7
        else:
            places = elsewhere(places) if fault.kind == "image" else frozenset()
            # Of all others those that remember more are waited for then.
            noticed = any(remember) or not (fault.kind == "image" or newborn(copy))
        if not noticed and not announced:
            self._spare(f"not all others remember more than a copy holds ({fault.kind})")
            return
        self._world.strikes(fault)
        machine.crash(fault.kind, noticed_s=0.01)
        machine.replace_disk(copy, "", places)
        machine.announced = announced
        self._world.counts["a copy was announced by an operator"] += announced
        self._world.counts["a copy was older than 3 s"] += fault.at - copied_at(fault) > 3.0
        self._world.clockwork.after(restart_s(fault), machine.start)

    # --- nothing is lost ---------------------------------------------------------------------

    def _move(self, machines: list["Machine"], fault: Fault) -> None:
        """They end, and come back on the same disks, which are mounted elsewhere or copied whole."""
        for machine in machines:
            if fault.digit(3) < 5 and not machine.paused:
                machine.stop()
            else:
                machine.crash(fault.kind, noticed_s=0.01)
            machine.move(elsewhere(machine.disk.places) if fault.digit(4) < 7 else frozenset())
            self._world.clockwork.after(restart_s(fault), machine.start)

    def _restore_all(self, fault: Fault) -> None:
        """Nobody has asked anything since: nothing is lost but what the nodes did by themselves."""
        world = self._world
        if fault not in self._copies or any(op.end > copied_at(fault) for op in world.history.operations):
            self._spare("something was written after all stores were copied")
            return
        self._world.strikes(fault)
        world.log_watch.returned()
        blocks, moved = fault.digit(3) < 3, fault.digit(4) < 3
        for machine, copy in zip(world.machines, self._copies[fault], strict=True):
            machine.crash(fault.kind, noticed_s=0.01)
            former = machine.disk
            places = place_of(copy) if blocks else frozenset()
            machine.return_to(copy, elsewhere(places) if moved else places)
            machine.in_doubt = moved or not blocks
            world.witness.returned(former, machine.disk)
            world.clockwork.after(restart_s(fault._replace(lasts=0.5)), machine.start)
        if moved or not blocks:
            self._take_as_they_are(world.machines)

    def _take_as_they_are(self, machines: list["Machine"], left: int = TAKES_MAX) -> None:
        """An operator knows that nothing newer is left anywhere, and says so until none is in doubt."""
        world = self._world
        for machine in machines:
            if machine.in_doubt and machine.node is not None:
                Operator(world, len(world.plan.clients) + 8).take_as_is(machine)
        if left and any(machine.in_doubt for machine in machines):
            world.clockwork.after(TAKE_S, self._take_as_they_are, machines, left - 1)


def elsewhere(places: frozenset[Place]) -> frozenset[Place]:
    """The same files of a file system that has another id now."""
    return frozenset(place._replace(file_system=place.file_system + 1) for place in places)
