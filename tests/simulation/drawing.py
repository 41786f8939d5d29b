"""Drawing: the plan of a seed.

Most worlds are *plain*: they last some seconds, and are drawn from a table of themes. Others begin as one of
these, and are then made wider (`widening.py`); a few are drills (`drills.py`), ordeals, hardships or
overloads.
"""

from dataclasses import replace

from basestore.config import Durability
from tests.simulation.changers import CHANCE as CHANGING
from tests.simulation.changers import changing
from tests.simulation.clockwork import Stream
from tests.simulation.crowds import CHANCE as CROWDED
from tests.simulation.crowds import crowded
from tests.simulation.drills import DRILLS, drill
from tests.simulation.fillings import CHANCE as FILLING
from tests.simulation.fillings import filling
from tests.simulation.hangs import CHANCE as HANGING
from tests.simulation.hangs import hanging
from tests.simulation.hardships import CHANCE as HARD
from tests.simulation.hardships import hardship
from tests.simulation.movers import CHANCE as MOVING
from tests.simulation.movers import moving
from tests.simulation.ordeals import ORDEALS, ordeal
from tests.simulation.overloads import CHANCE as OVERLOADED
from tests.simulation.overloads import overload
from tests.simulation.plan import BEGIN_S, ClientPlan, Fault, MachinePlan, NetworkPlan, Plan
from tests.simulation.restores import CHANCE as RESTORING
from tests.simulation.restores import DRILLS as RESTORED
from tests.simulation.restores import all_restored, restoring
from tests.simulation.upheavals import CHANCE as UPSET
from tests.simulation.upheavals import upheaval
from tests.simulation.widening import WIDE, draw_faults, widen

# Faults and how often each is drawn, by theme.
CRASHES = [("crash", 3.0), ("power", 1.0), ("crash after ack", 8.0), ("power after ack", 3.0), ("stop", 1.0)]
NETWORK = [
    ("cut", 3.0), ("cut one way", 3.0), ("isolate", 2.0), ("slow link", 2.0), ("break", 3.0), ("flap", 2.0),
]  # fmt: skip
DISKS = [("disk full", 2.0), ("failed fsync", 2.0), ("slow disk", 2.0)]
STORES = [("wipe", 4.0), ("rollback", 5.0), ("log cut", 5.0), ("spoil", 4.0), ("ambush", 4.0)]
CLOCKS = [("clock within", 3.0), ("clock beyond", 2.0), ("clock back", 2.0)]
HINTS = [("crash in replay", 4.0), ("crash of replayer", 6.0), ("crash", 3.0), ("isolate", 2.0)]
PAUSES = [("pause", 2.0)]
AMBUSHES = [("ambush", 3.0), ("crash", 1.0)]
STALLS = [("disk full", 4.0), ("slow disk", 1.0), ("crash", 1.0), ("stop", 0.5), ("cut", 1.0)]
STALL_CHANCE = 0.05
SPOIL_CHANCE = 0.05
RACES = [("clock within", 6.0), ("cut one way", 1.0)]
EVERYTHING = CRASHES + NETWORK + DISKS + STORES + CLOCKS + HINTS + PAUSES
THEMES = [
    ("acks", CRASHES + DISKS, 5.0),
    ("links", NETWORK + PAUSES, 3.0),
    ("hints", HINTS + NETWORK, 3.0),
    ("stores", STORES * 2 + CRASHES + NETWORK, 4.0),
    ("clocks", CLOCKS * 3 + CRASHES + NETWORK, 3.0),
    ("everything", EVERYTHING, 6.0),
    ("ambushes", AMBUSHES, 2.0),  # stores lost at the worst moment
    ("swaps", [("swap", 1.0)], 2.0),
    ("races", RACES, 2.0),  # clocks far apart, and messages that linger
    ("nothing", [], 1.0),
]


def draw(seed: int) -> Plan:
    """The plan of a seed."""
    plan, kinds = draw_plain(seed)
    hard = Stream(seed, "ordeal")
    if hard.chance(ORDEALS):
        return ordeal(plan, hard)
    harder = Stream(seed, "hardship")
    if harder.chance(HARD):
        return hardship(plan, harder)
    flooded = Stream(seed, "overload")
    if flooded.chance(OVERLOADED):
        return overload(plan, flooded)
    drilled = Stream(seed, "drill")
    if drilled.chance(DRILLS):
        return drill(plan, drilled)
    restored = Stream(seed, "restored")
    if restored.chance(RESTORED):
        return all_restored(plan, restored)
    stream = Stream(seed, "wide")
    plan = widen(plan, kinds, stream) if stream.chance(WIDE) else plan
    plan = restoring(plan, restored) if restored.chance(RESTORING) else plan
    full = Stream(seed, "full")
    plan = filling(plan, full) if full.chance(FILLING) else plan
    crowd = Stream(seed, "crowd")
    plan = crowded(plan, crowd) if crowd.chance(CROWDED) else plan
    hung = Stream(seed, "hung")
    plan = hanging(plan, hung) if hung.chance(HANGING) else plan
    upset = Stream(seed, "upheaval")
    plan = upheaval(plan, upset) if upset.chance(UPSET) else plan
    moved = Stream(seed, "moving")
    plan = moving(plan, moved) if moved.chance(MOVING) else plan
    changed = Stream(seed, "changing")
    plan = changing(plan, changed) if changed.chance(CHANGING) else plan
    spoilt = Stream(seed, "spoilt")
    return _spoiling(plan, spoilt) if spoilt.chance(SPOIL_CHANCE) else plan


def _spoiling(plan: Plan, stream: Stream) -> Plan:
    """A record is spoilt early, while no store is lost yet: afterwards few worlds may lose any more."""
    at, machine = stream.uniform(BEGIN_S + 0.2, BEGIN_S + 1.0), stream.below(len(plan.machines))
    return replace(plan, faults=(*plan.faults, Fault(at, "spoil", machine, machine, 0.0, stream.random())))


def draw_plain(seed: int) -> tuple[Plan, list[tuple[str, float]]]:
    """A plain plan, and the faults of its theme."""
    stream = Stream(seed, "plan")
    members, replication = stream.weighted(
        [((3, 3), 12.0), ((4, 3), 3.0), ((5, 3), 2.0), ((5, 5), 2.0), ((2, 2), 1.0), ((1, 1), 0.4)]
    )
    theme, faults, _ = stream.weighted([(theme, theme[2]) for theme in THEMES])
    durability: Durability = stream.weighted([("sync", 14.0), ("interval", 1.0), ("memory", 0.5)])
    seconds = stream.uniform(3.0, 7.0)
    drift_ms_max = stream.pick((100, 500, 2000))
    if theme == "ambushes":
        members, replication = max(3, members), max(3, replication)
    if theme == "races":  # some members do not hold what they coordinate
        members, replication = 4 + stream.below(2), 3
    partitions = stream.pick((1, 2, 4, 8))
    if theme == "swaps":  # one member is no replica of any row
        members, replication, partitions = 4, 3, 1
    plan = Plan(
        seed,
        theme,
        replication,
        partitions,
        durability,
        drift_ms_max,
        1000,
        stream.pick((1 << 20, 1 << 20, 1 << 20, 2000)),
        seconds,
        _network(stream),
        tuple(_machine(stream, drift_ms_max) for _ in range(members)),
        _clients(stream, members),
        draw_faults(Stream(seed, "faults"), faults, members, seconds),
        Stream(seed, "rounds").chance(0.7),
        Stream(seed, "haste").chance(0.3),
    )
    if theme == "races":
        return _racing(plan, stream), faults
    stalls = Stream(seed, "stalls")
    return (_stalling(plan, stalls) if stalls.chance(STALL_CHANCE) else plan), faults


def _racing(plan: Plan, stream: Stream) -> Plan:
    """Every message may linger for long, clocks differ as much as they may, all want two keys."""
    bound = 2000
    network = NetworkPlan(False, 0.004, 0.15, 0.02, 0.02, plan.network.stray, plan.network.encoded)
    machines = tuple(
        MachinePlan(stream.pick((0.0005, 0.004)), 0.0005, int(stream.uniform(-0.49, 0.49) * bound), 1.0)
        for _ in plan.machines
    )
    clients = tuple(ClientPlan(index, "hot", False, 0.01, stream.chance(0.5), False) for index in range(6))
    return replace(
        plan, durability="sync", drift_ms_max=bound, network=network, machines=machines, clients=clients
    )


def _stalling(plan: Plan, stream: Stream) -> Plan:
    """Disks that take nothing for 2 to 30 s, beside clients in no haste."""
    seconds = stream.uniform(6.0, 36.0)
    faults, time = [], BEGIN_S
    while (time := time + stream.exponential(1.5)) < seconds:
        kind, machine = stream.weighted(STALLS), stream.below(len(plan.machines))
        lasts = stream.uniform(2.0, 30.0) if kind == "disk full" else stream.uniform(0.1, 3.0)
        faults.append(Fault(time, kind, machine, (machine + 1) % len(plan.machines), lasts, stream.random()))
    clients = tuple(client._replace(loop_s=client.loop_s + 0.05) for client in plan.clients[:8])
    return replace(plan, theme="stalls", seconds=seconds, clients=clients, faults=tuple(faults))


def _network(stream: Stream) -> NetworkPlan:
    streaming = stream.chance(0.6)
    lossy = stream.pick((0.0, 0.001, 0.01, 0.03))
    return NetworkPlan(
        streaming,
        stream.pick((0.0002, 0.001, 0.004)),
        stream.pick((0.0, 0.01, 0.05)),
        lossy / 20 if streaming else lossy,
        0.0 if streaming else stream.pick((0.0, 0.02, 0.1)),
        stream.chance(0.3),
        stream.chance(0.12),
    )


def _machine(stream: Stream, drift_ms_max: int) -> MachinePlan:
    return MachinePlan(
        stream.pick((0.0005, 0.004, 0.02, 0.02)),
        stream.pick((0.0001, 0.0005, 0.001)),
        int(stream.uniform(-0.45, 0.45) * drift_ms_max),
        1 + stream.uniform(-1e-4, 1e-4),
    )


def _clients(stream: Stream, members: int) -> tuple[ClientPlan, ...]:
    main = stream.weighted([("hot", 5.0), ("mixed", 3.0), ("deletes", 2.0), ("first", 2.0)])
    clients = []
    for index in range(stream.pick((6, 10, 16))):
        workload = main if stream.chance(0.7) else stream.pick(("hot", "mixed", "deletes", "first", "scans"))
        is_open = stream.chance(0.3)
        loop_s = stream.pick((0.004, 0.015)) if is_open else stream.pick((0.0005, 0.002, 0.01))
        roams, all_levels = stream.chance(0.5), stream.chance(0.2)
        clients.append(ClientPlan(index, workload, is_open, loop_s, roams, all_levels))
    return tuple(clients)
