"""Widening: what a plain world does not have.

Each of these comes with a chance of its own, so that most wide worlds have two or three:

    size       up to seven members, one to five replicas
    disks      whose syncs take from a tick of the node's clock to a second
    clocks     that are wrong from the first start, and are set right later
    pauses     of 2 to 30 s, beside clients in no haste
    rest       the clients ask nothing for a minute or more, and a member is away meanwhile
    life       values that live longer than closed stamps lag behind
    library    sessions of the real client; reads that ask how stale they may be
    operators  who ask whether all has converged, why a key is as it is, and decide late hints
"""

from dataclasses import replace

from tests.simulation.clockwork import Stream
from tests.simulation.plan import BEGIN_S, ClientPlan, Fault, MachinePlan, Plan

WIDE = 0.5  # of all worlds
SIZES = [
    ((1, 1), 1.0), ((2, 1), 1.0), ((3, 1), 1.0), ((2, 2), 2.0), ((3, 2), 1.0), ((4, 2), 1.0), ((4, 4), 1.0),
    ((5, 4), 1.0), ((5, 5), 3.0), ((6, 3), 1.0), ((7, 3), 1.0), ((7, 5), 2.0),
]  # fmt: skip
FIXED = ("races", "swaps")  # themes that need the members that they have
SYNCS_S = (0.02, 0.05, 0.06, 0.2, 0.5, 1.0)
EXILED_DRIFT_MS = 100
WIDER = {
    "clocks": [("wrong start", 6.0), ("all clocks", 2.0)],
    "everything": [("wipe keeper", 2.0), ("wrong start", 3.0), ("all clocks", 1.0)],
    "hints": [("wipe keeper", 3.0)],
    "stores": [("wipe keeper", 3.0)],
}  # faults of wide worlds only, by theme


def widen(plan: Plan, kinds: list[tuple[str, float]], stream: Stream) -> Plan:
    """More of it. `kinds`: the faults of its theme."""
    plan = replace(plan, wide=True, library=stream.chance(0.6), operators=stream.below(3))
    if plan.theme not in FIXED:
        if stream.chance(0.5):
            plan = _resized(plan, stream)
        if kinds:
            kinds = [*kinds, *WIDER.get(plan.theme, [])]
            faults = draw_faults(stream, kinds, len(plan.machines), plan.seconds)
            plan = replace(plan, faults=faults)
        if stream.chance(0.35):
            plan = _slow_disks(plan, stream)
        if stream.chance(0.25):
            plan = _wrong_clocks(plan, stream)
    if stream.chance(0.4):
        plan = replace(plan, ttl_ms_max=stream.pick((3000, 9000)))
    if stream.chance(0.4):
        plan = _brief_keys(plan, stream)
    if plan.theme in (*FIXED, "stalls", "nothing"):
        return plan
    if plan.theme in ("hints", "links") and stream.chance(0.5):
        return _exiled(plan, stream)
    if stream.chance(0.2):
        return _paused(plan, stream)
    return _rested(plan, stream) if stream.chance(0.15) else plan


def _resized(plan: Plan, stream: Stream) -> Plan:
    """Other members."""
    members, replication = stream.weighted(SIZES)
    machines = tuple(
        MachinePlan(
            stream.pick((0.0005, 0.004, 0.02)),
            stream.pick((0.0001, 0.0005, 0.001)),
            int(stream.uniform(-0.45, 0.45) * plan.drift_ms_max),
            1 + stream.uniform(-1e-4, 1e-4),
        )
        for _ in range(members)
    )
    return replace(plan, machines=machines, replication=replication)


def _slow_disks(plan: Plan, stream: Stream) -> Plan:
    """One of them, or all."""
    slow_s, one = stream.pick(SYNCS_S), stream.chance(0.6)
    which = stream.below(len(plan.machines))
    machines = tuple(
        machine._replace(sync_s=slow_s) if at == which or not one else machine
        for at, machine in enumerate(plan.machines)
    )
    return replace(plan, machines=machines)


def _wrong_clocks(plan: Plan, stream: Stream) -> Plan:
    """From the first start on; of one, or of all by the same."""
    one, which = stream.chance(0.7), stream.below(len(plan.machines))
    lasts, size = stream.uniform(0.7, plan.seconds), stream.random()
    wrong = [Fault(0.0, "clock wrong", which, which, lasts, size)]
    if not one:
        wrong = [fault._replace(machine=at) for at in range(len(plan.machines)) for fault in wrong]
    return replace(plan, faults=(*wrong, *plan.faults))


def _brief_keys(plan: Plan, stream: Stream) -> Plan:
    """Some clients set and delete keys that are new all the time."""
    clients = tuple(
        client._replace(workload="brief", all_levels=True) if stream.chance(0.4) else client
        for client in plan.clients
    )
    return replace(plan, clients=clients)


def slower(clients: tuple[ClientPlan, ...], loop_s: float) -> tuple[ClientPlan, ...]:
    """Some of them, who take more time to think."""
    return tuple(client._replace(loop_s=client.loop_s + loop_s) for client in clients[:6])


def _paused(plan: Plan, stream: Stream) -> Plan:
    """Machines that stand still for 2 to 30 s."""
    seconds = stream.uniform(8.0, 24.0)
    faults, time = list(plan.faults), BEGIN_S
    while (time := time + stream.exponential(5.0)) < seconds:
        machine, lasts = stream.below(len(plan.machines)), stream.uniform(2.0, 30.0)
        faults.append(Fault(time, "pause", machine, machine, lasts, stream.random()))
    return replace(plan, seconds=seconds, faults=tuple(faults), clients=slower(plan.clients, 0.05))


def _exiled(plan: Plan, stream: Stream) -> Plan:
    """Members that hold little of what they coordinate are cut off for longer than closed stamps lag behind,
    and take writes at ANY meanwhile: some of their hints come too late."""
    count = 4 + stream.below(3)
    some = plan.machines[0]
    machines = tuple(
        machine._replace(offset_ms=int(stream.uniform(-0.45, 0.45) * EXILED_DRIFT_MS))
        for machine in (plan.machines + (some,) * count)[:count]
    )
    faults, time = [], BEGIN_S
    while (time := time + stream.exponential(0.5)) < plan.seconds:
        lasts, exiled = stream.uniform(0.5, 3.0), stream.below(count)
        faults.append(Fault(time, "isolate", exiled, exiled, lasts, stream.random()))
        if stream.chance(0.2):
            faults.append(Fault(time + lasts, "crash", stream.below(count), 0, 0.3, stream.random()))
    clients = tuple(
        client._replace(workload="lone") if client.number % 2 else client for client in plan.clients
    )
    plan = replace(plan, machines=machines, replication=2 + stream.below(2), drift_ms_max=EXILED_DRIFT_MS)
    return replace(
        plan, hasty=True, rounds=True, faults=tuple(faults), clients=slower(clients, 0.01), operators=2,
        durability="sync", theme="exiled",
    )  # fmt: skip


def _rested(plan: Plan, stream: Stream) -> Plan:
    """A member goes away before the clients rest, and comes back while they do, or when they go on."""
    begin, lasts = plan.seconds, stream.uniform(30.0, 150.0)
    machine = stream.below(len(plan.machines))
    away = Fault(begin - 1.5, "away", machine, machine, lasts * stream.uniform(0.7, 1.05), 1.0)
    end = begin + lasts
    faults = (*(fault for fault in plan.faults if fault.machine != machine), away)
    return replace(plan, rest=(begin, end), seconds=end + 3.0, faults=faults)


def draw_faults(
    stream: Stream, kinds: list[tuple[str, float]], members: int, seconds: float
) -> tuple[Fault, ...]:
    if not kinds:
        return ()
    faults: list[Fault] = []
    time = BEGIN_S
    mean = stream.pick((0.15, 0.4, 1.0))
    while True:
        time += 0.02 + stream.exponential(mean)
        if time > seconds:
            return tuple(faults)
        kind = stream.weighted(kinds)
        machine = stream.below(members)
        other = (machine + 1 + stream.below(max(1, members - 1))) % members
        lasts = stream.weighted([(0.05, 2.0), (0.4, 3.0), (1.2, 2.0), (3.0, 1.0)]) * stream.uniform(0.5, 1.5)
        faults.append(Fault(time, kind, machine, other, lasts, stream.random()))
