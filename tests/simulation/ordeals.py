"""Ordeals: small worlds made for what becomes of hints, of debts, and of stores that come back.

owing      one member takes hints for another, which give way to debts; then that other is away, and nobody
           asks anything while debts are looked at
leftovers  no exchanges and no crashes: what a replica has missed comes by a hint, or never
blackout   all power goes, and one member comes back with the blocks of an older moment
twins      of five members two come back with the same older moment, one knows it, they hear but each other
outlived   a member's store is lost, and later the one before it comes back
unheard    the same, of a store that alone had taken some writes, and comes back to one that has not heard yet
           how far all was proven without these
relapse    two of five come back with old copies; one has recovered what it can when it hears the other, which
           hears nobody else
spoilt     records that are deleted and set again all the time are spoilt
lopsided   each of two replicas gets at once what comes to the other late, and they compare meanwhile
"""

from dataclasses import replace

from tests.simulation.clockwork import Stream
from tests.simulation.plan import ClientPlan, Fault, MachinePlan, NetworkPlan, Plan

ORDEALS = 0.05  # of all worlds
CALM = NetworkPlan(True, 0.0005, 0.0, 0.0, 0.0, False, False)
BOUND_MS = 100
ODD = 0.001  # the size of a rollback of blocks to the first copy
EARLY = 0.301  # to the third of ten


def ordeal(plan: Plan, stream: Stream) -> Plan:
    """One of them, in place of a plain plan."""
    ordeals = (_owing, _leftovers, _blackout, _twins, _outlived, _spoilt, _lopsided, _unheard, relapse)
    return stream.pick(ordeals)(plan, stream)


def small(plan: Plan, theme: str, members: int, stream: Stream, workloads: tuple[str, ...]) -> Plan:
    """Quick disks, right clocks, six clients that change nodes."""
    machines = tuple(
        MachinePlan(0.0005, 0.0005, int(stream.uniform(-0.45, 0.45) * BOUND_MS), 1.0) for _ in range(members)
    )
    clients = tuple(ClientPlan(at, stream.pick(workloads), True, 0.03, True, True) for at in range(6))
    return replace(
        plan, theme=theme, replication=3, partitions=4, durability="sync", seconds=4.0, drift_ms_max=BOUND_MS,
        network=CALM, machines=machines, clients=clients, faults=(), rounds=True, hasty=True,
        hint_bytes_max=1 << 20,
    )  # fmt: skip


def _owing(plan: Plan, stream: Stream) -> Plan:
    plan = small(plan, "owing", 4, stream, ("brief", "first"))
    faults = (
        Fault(0.8, "cut", 0, 1, 4.6, 0.5),
        Fault(3.2, "isolate", 1, 1, 9.0, 0.5),
        Fault(5.6, "crash", 0, 1, 0.1, 0.9),
    )
    return replace(plan, faults=faults, rest=(3.8, 12.6), seconds=13.0, hint_age_s_max=1)


def _leftovers(plan: Plan, stream: Stream) -> Plan:
    plan = small(plan, "leftovers", 3, stream, ("brief", "first"))
    faults = []
    for at in range(8):
        kind = stream.pick(("stop", "stop", "cut", "isolate", "disk full", "slow disk", "pause", "burst"))
        machine, lasts = stream.below(3), stream.pick((0.35, 0.9))  # long ones, beside which another strikes
        faults.append(Fault(0.7 + 0.4 * at, kind, machine, (machine + 1) % 3, lasts, stream.random()))
    return replace(plan, faults=tuple(faults), rounds=False, hasty=False, operations_max=32)


def _blackout(plan: Plan, stream: Stream) -> Plan:
    plan = small(plan, "blackout", 3, stream, ("hot", "first"))
    machine = stream.below(3)
    return replace(plan, faults=(Fault(3.3, "blackout", machine, machine, 0.1, 0.0),))


def _twins(plan: Plan, stream: Stream) -> Plan:
    plan = small(plan, "twins", 5, stream, ("hot", "first"))
    one = stream.below(5)
    return replace(plan, replication=5, faults=(Fault(3.3, "twins", one, (one + 1) % 5, 1.5, 0.0),))


def _outlived(plan: Plan, stream: Stream) -> Plan:
    plan = small(plan, "outlived", 3, stream, ("hot", "deletes"))
    machine = stream.below(3)
    faults = (
        Fault(1.8, "wipe", machine, machine, 0.1, 0.5),
        Fault(5.4, "rollback", machine, machine, 0.1, ODD),
    )
    return replace(plan, faults=faults, seconds=7.0)


def _unheard(plan: Plan, stream: Stream) -> Plan:
    plan = small(plan, "unheard", 4, stream, ("brief", "lone"))
    first = stream.below(4)
    machine, one, other, far = ((first + at) % 4 for at in range(4))
    cut, end = stream.uniform(2.9, 3.6), 8.0
    faults = (
        *(Fault(1.1, "cut", far, each, end, 0.5) for each in (one, other)),
        *(Fault(1.1, "cut", machine, each, 0.65, 0.5) for each in (one, other)),
        Fault(1.7, "wipe", machine, machine, 0.1, 0.0),
        Fault(cut, "isolate", one, one, 4.6 - cut, 0.5),
        Fault(cut, "cut", one, other, end, 0.5),
        Fault(4.4, "rollback", machine, machine, 0.1, EARLY),
        Fault(4.4, "cut", machine, other, end, 0.5),
    )
    return replace(plan, faults=faults, partitions=8, rest=(2.6, 6.0), seconds=6.2)


def relapse(plan: Plan, stream: Stream) -> Plan:
    plan = small(plan, "relapse", 6, stream, ("brief", "deletes"))
    first = stream.below(6)
    machine, other, away, *others = ((first + at) % 6 for at in range(6))
    faults = (
        *(Fault(3.0, "cut", other, each, 6.0, 0.5) for each in others),
        Fault(2.9, "isolate", away, away, 3.6, 0.5),
        Fault(3.0, "backup", machine, machine, 0.1, 0.3468),
        Fault(3.0, "backup", other, other, 1.2, 0.4668),
    )
    return replace(
        plan, replication=5, partitions=8, faults=faults, rest=(1.7, 9.0), seconds=9.2, hint_age_s_max=10
    )


def _spoilt(plan: Plan, stream: Stream) -> Plan:
    plan = small(plan, "spoilt", 3, stream, ("deletes",))
    faults = (Fault(1.0 + 0.25 * at, "spoil", stream.below(3), 0, 0.1, 0.5) for at in range(14))
    return replace(plan, faults=tuple(faults), seconds=5.0)


def _lopsided(plan: Plan, stream: Stream) -> Plan:
    plan = small(plan, "lopsided", 4, stream, ("brief", "first"))
    first = stream.below(4)
    one, other, near, far = ((first + at) % 4 for at in range(4))
    slow = ((near, one), (far, other))
    faults = tuple(Fault(1.0, "slow link", source, target, 2.5, 0.74) for source, target in slow)
    return replace(plan, network=CALM._replace(latency_s=0.004), faults=faults)
