"""Drills: small worlds made for one kind of misfortune each, which those that are drawn at large seldom meet.

misled      all clocks are an hour off for a while; one member is away then, or is paused as they are set
            right
impostors   fewer clocks than half are wrong, all by the same: from the first start on, or by a jump, or
            when a node starts that nobody hears
sessions    everybody is in a session of the library, with many requests under way, and replicas lag
tombstones  keys that are new all the time are set and deleted at every level, where stable stamps rise
            early, and reads ask for them
"""

from dataclasses import replace

from tests.simulation.clockwork import Stream
from tests.simulation.plan import ClientPlan, Fault, MachinePlan, NetworkPlan, Plan

DRILLS = 0.05  # of all worlds
CALM = NetworkPlan(True, 0.0005, 0.0, 0.0, 0.0, False, False)
FAR = (0.42, 0.58)  # sizes of a fault that sets a clock by an hour, ahead and back


def drill(plan: Plan, stream: Stream) -> Plan:
    """One of them, in place of a plain plan."""
    return stream.pick((_misled, _impostors, _sessions, _tombstones))(plan, stream)


def _small(plan: Plan, theme: str, members: int, stream: Stream, workloads: tuple[str, ...]) -> Plan:
    """Few members, quick disks, six clients that change nodes."""
    bound = stream.pick((500, 2000))
    machines = tuple(
        MachinePlan(0.0005, 0.0005, int(stream.uniform(-0.45, 0.45) * bound), 1.0) for _ in range(members)
    )
    clients = tuple(ClientPlan(at, stream.pick(workloads), True, 0.02, True, True) for at in range(6))
    return replace(
        plan, theme=theme, replication=3, partitions=stream.pick((1, 4)), durability="sync", seconds=4.0,
        drift_ms_max=bound, network=CALM, machines=machines, clients=clients, faults=(), rounds=True,
        hasty=False,
    )  # fmt: skip


def _misled(plan: Plan, stream: Stream) -> Plan:
    plan = _small(plan, "misled", 3, stream, ("hot", "lone"))
    machine, size = stream.below(3), stream.pick(FAR[:1] * 3 + FAR[1:])
    wrong = Fault(1.0, "all clocks", 0, 1, 1.0, size)
    other = stream.pick(
        (
            Fault(0.8, "crash", machine, machine, 1.8, 0.9),
            Fault(1.7, "pause", machine, machine, 0.8, 0.1),
        )
    )
    return replace(plan, faults=(wrong, other))


def _impostors(plan: Plan, stream: Stream) -> Plan:
    members = stream.pick((3, 5))
    plan = _small(plan, "impostors", members, stream, ("hot", "lone"))
    size, first = stream.pick(FAR), stream.below(members)
    wrong = [first, (first + 1) % members][: members // 2]
    kind = stream.pick(("clock wrong", "clock beyond", "wrong start"))
    at = 0.0 if kind == "clock wrong" else 1.2
    faults = [Fault(at, kind, each, each, 3.5 - at, size) for each in wrong]
    if kind != "clock wrong" and stream.chance(0.6):
        faults += [Fault(1.1, "isolate", each, each, 2.0, 0.5) for each in wrong]
    return replace(plan, faults=tuple(faults))


def _sessions(plan: Plan, stream: Stream) -> Plan:
    plan = _small(plan, "sessions", 3, stream, ("hot", "first", "lone", "scans"))
    slow = [
        Fault(0.6 + 0.4 * at, "slow link", at % 3, (at + 1 + at // 3) % 3, 0.6, stream.uniform(0.5, 0.8))
        for at in range(8)
    ]
    cut = Fault(1.5, "cut", 0, 1, 0.8, 0.5)
    network = CALM._replace(heavy=0.1, latency_s=0.004)
    return replace(plan, network=network, faults=(*slow, cut), library=True, hasty=stream.chance(0.3))


def _tombstones(plan: Plan, stream: Stream) -> Plan:
    plan = _small(plan, "tombstones", 3, stream, ("brief", "deletes"))
    kinds = ("cut", "cut one way", "slow link")
    faults = tuple(
        Fault(2.4 + 0.5 * at, stream.pick(kinds), at % 3, (at + 1) % 3, 0.4, 0.8) for at in range(4)
    )
    bound = 500  # as small as stable stamps still rise with
    machines = tuple(each._replace(offset_ms=each.offset_ms % (bound // 2)) for each in plan.machines)
    return replace(
        plan, drift_ms_max=bound, machines=machines, network=CALM._replace(heavy=0.05), faults=faults,
        library=True, hasty=True, seconds=5.0, partitions=8,  # of fewer, two are always busy with a third
    )  # fmt: skip
