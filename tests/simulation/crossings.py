"""Crossings: narrow worlds of moves, in which a partition goes from member to member all the time.

One partition or two; keys that are new all the time, and that some replica misses, for messages get lost, and
little compares what is held but the moves themselves. Now and then a disk is slow, so that its node goes by
what was decided long behind the others. What a rule of moves keeps from harm is at stake in each move then;
beside the ambushes there are no other faults.
"""

from dataclasses import replace

from tests.simulation.clockwork import Stream
from tests.simulation.plan import BEGIN_S, ClientPlan, Fault, MachinePlan, NetworkPlan, Plan

CHANCE = 0.3  # of worlds in which partitions move
THEME = "crossings"
EVERY_S = 0.2
PATIENCE = 0.97  # how often nothing is asked while something moves
STRIKES = 0.6  # of stages
SIZES = [((4, 3), 4.0), ((5, 3), 4.0), ((4, 2), 2.0), ((6, 3), 1.0), ((5, 4), 1.0)]
WORKLOADS = ("brief", "brief", "brief", "lone", "hot")
SLOW = 0.9  # size of a fault by which a disk takes 0.4 s longer


def crossing(plan: Plan, stream: Stream) -> Plan:
    """One of them, of a world in which partitions move."""
    members, replicas = stream.weighted(SIZES)
    machines = tuple(
        MachinePlan(
            stream.pick((0.0005, 0.004)), 0.0001, int(stream.uniform(-0.3, 0.3) * plan.drift_ms_max), 1.0
        )
        for _ in range(members)
    )
    clients = tuple(
        ClientPlan(at, workload, False, stream.pick((0.015, 0.04)), True, stream.chance(0.3))
        for at, workload in enumerate(WORKLOADS)
    )
    seconds = stream.uniform(7.0, 11.0)
    return replace(
        plan, theme=THEME, durability="sync", replication=replicas, partitions=stream.pick((1, 1, 2)),
        machines=machines, clients=clients, seconds=seconds, faults=_slow_disks(members, seconds, stream),
        network=NetworkPlan(False, 0.001, 0.01, stream.pick((0.003, 0.01)), 0.02, False, False),
        hint_bytes_max=stream.pick((2000, 1 << 20)), rounds=stream.chance(0.3), hasty=False, wide=False,
        rest=None, operators=0,
    )  # fmt: skip


def _slow_disks(members: int, seconds: float, stream: Stream) -> tuple[Fault, ...]:
    faults, at = list[Fault](), BEGIN_S + 1.0
    while (at := at + stream.exponential(2.0)) < seconds:
        machine = stream.below(members)
        faults.append(Fault(at, "slow disk", machine, machine, stream.uniform(0.5, 2.5), SLOW))
    return tuple(faults)
