"""Batch worlds: any planned world, in which proofs come soon, and some clients write atomic batches.

Mostly small ones, with one to three replicas: members are cut off for longer than closed stamps lag behind,
crash, lose their stores, and partitions move. When all is well again nothing is left of any batch, and each
was done, or none of it.

Some are split, while batches are under way, in two halves for longer than a part lies unseen: whoever goes on
with one then hears only some of its replicas. Slow links before that make that a batch is held by some, and
is on its way to the others.
"""

import hashlib
from collections.abc import Collection
from dataclasses import replace

from tests.simulation.batch_clients import FOUND, PENDING, Asked, BatchClient, BatchPlan
from tests.simulation.batch_judge import LAW, BatchJudge
from tests.simulation.clients import Client
from tests.simulation.clockwork import Stream
from tests.simulation.drawing import draw, draw_plain
from tests.simulation.movers import moving
from tests.simulation.ordeals import small
from tests.simulation.plan import Fault, Plan
from tests.simulation.widening import draw_faults
from tests.simulation.world import PlannedWorld

FIRST = 300  # of the clients
SMALL, MOVES, SPLIT = 0.75, 0.25, 0.2  # of all worlds; of these
SPLIT_UP = "split batches"  # their theme
SPLIT_S = (8.5, 10.0)  # longer than `LEFT_S`, and whoever goes on before others
SPLITTING_S = 0.1  # until no link is left between the halves
SIZES = (
    ((3, 3), 6.0),
    ((4, 3), 3.0),
    ((3, 2), 2.0),
    ((2, 2), 1.0),
    ((3, 1), 1.0),
    ((1, 1), 0.3),
    ((5, 5), 1.0),
)
FAULTS = [
    ("crash", 6.0), ("stop", 1.0), ("isolate", 3.0), ("cut", 5.0), ("cut one way", 2.0), ("pause", 2.0),
    ("slow disk", 3.0), ("slow link", 3.0), ("wipe", 3.0), ("disk full", 1.0), ("break", 1.0), ("spoil", 0.5),
]  # fmt: skip
QUIET_S_MAX = 60.0
READER, ROUNDS_MAX, READ_S = 99, 4, 1.5
COUNTS = ("batches_left", "batches_spread", "batches_given_up")


def draw_batches(seed: int) -> Plan:
    """The plan of a seed."""
    plan, stream = draw(seed), Stream(seed, "batch world")
    if plan.durability == "memory" or plan.requests_max or plan.march or stream.chance(SMALL):
        plan, _ = draw_plain(seed)
        members, replication = stream.weighted(SIZES)
        plan = small(plan, "batches", members, stream, ("hot", "deletes", "brief"))
        seconds = stream.uniform(3.0, 7.0)
        faults = draw_faults(Stream(seed, "batch faults"), FAULTS, members, seconds)
        machines = tuple(each._replace(sync_s=stream.pick((0.0005, 0.004, 0.03))) for each in plan.machines)
        network = plan.network._replace(latency_s=stream.pick((0.0005, 0.004)), stray=stream.chance(0.3))
        plan = replace(
            plan, replication=replication, partitions=stream.pick((1, 2, 4, 6)), clients=plan.clients[:2],
            machines=machines, network=network, faults=faults, seconds=seconds,
        )  # fmt: skip
        if stream.chance(SPLIT):
            plan = _split(plan, stream)
        elif stream.chance(MOVES):
            plan = moving(plan, stream)
    # A scan of all would show what only the judge of batches knows of.
    clients = tuple(
        each._replace(workload="hot") if each.workload == "scans" else each for each in plan.clients
    )
    plan = replace(plan, clients=clients)
    return replace(plan, rounds=True, hasty=True, timeout_ms_max=max(plan.timeout_ms_max, 1000))


def _split(plan: Plan, stream: Stream) -> Plan:
    """Five members in two halves, so far from each other that some batch is always under way."""
    plan = small(plan, SPLIT_UP, 5, stream, ("hot", "deletes"))
    network = plan.network._replace(latency_s=stream.pick((0.01, 0.03)))
    begin, lasts = stream.uniform(1.5, 2.5), stream.uniform(*SPLIT_S)
    first = stream.below(5)
    members = [(first + at) % 5 for at in range(5)]
    cuts = [
        Fault(begin + stream.random() * SPLITTING_S, "cut", one, other, lasts, 0.5)
        for one in members[:2]
        for other in members[2:]
    ]
    slow = [
        Fault(stream.uniform(0.7, 1.4), "slow link", stream.below(5), stream.below(5), 1.5, stream.random())
        for _ in range(4)
    ]
    return replace(
        plan, partitions=8, network=network, faults=(*slow, *cuts), clients=plan.clients[:1],
        seconds=begin + lasts + 0.5, rest=(begin + 0.5, begin + lasts),
    )  # fmt: skip


class BatchWorld(PlannedWorld):
    """One of them."""

    def __init__(self, plan: Plan, *, recording: bool = False) -> None:
        self.asked: list[Asked] = []
        super().__init__(plan, recording=recording)
        self.batches = self.judge_of_batches = BatchJudge(self)

    def begin_asked(self, client: int, kind: str) -> Asked:
        self.asked.append(Asked(len(self.asked), client, kind, self.clockwork.now))
        return self.asked[-1]

    def asked_ended(self, asked: Asked) -> None:
        if self.recording:
            self.lines.append(f"{self.clockwork.now:9.4f}  c{asked.client} ended {asked}")

    def is_asked(self) -> bool:
        return super().is_asked() or any(each.outcome == PENDING and each.requests for each in self.asked)

    @property
    def digest(self) -> str:
        digest = hashlib.sha256(super().digest.encode())
        for each in self.asked:
            digest.update(f"{each.number} {each.outcome} {each.end!r} {each.versions!r}".encode())
        return digest.hexdigest()

    @property
    def operations(self) -> int:
        return super().operations + len(self.asked)

    def ruined(self, partitions: Collection[int]) -> None:
        super().ruined(partitions)
        self.judge_of_batches.ruined(partitions)

    # --- the acts ------------------------------------------------------------------------------

    def begin_clients(self) -> list[Client]:
        stream = Stream(self.plan.seed, "batch clients")
        keys, loop_s = stream.pick((3, 6, 12)), stream.pick((0.01, 0.05))
        many = self.plan.theme == SPLIT_UP
        for at in range(8 if many else stream.pick((2, 4, 6))):
            client = BatchClient(self, BatchPlan(FIRST + at, keys, loop_s))
            self.clockwork.after(client.stream.random() * 0.05, client.begin)
        return super().begin_clients()

    def examine(self, clients: list[Client]) -> None:
        self._await_over()
        self._read_all()
        super().examine(clients)
        self.judge_of_batches.judge(self.asked)
        for machine in self.machines:
            if machine.node is not None:
                for name in COUNTS:
                    self.counts[name] += machine.node.metrics.counts.get(name, 0)

    def _read_all(self) -> None:
        """What batches have written is read at all replicas, so that no damage is left: nobody else does."""
        reader = BatchClient(self, BatchPlan(FIRST + READER, 1, 0.0))
        keys = sorted({key for each in self.asked for key in each.writes})
        for _ in range(ROUNDS_MAX):
            first = len(self.asked)
            for key in keys:
                reader.read(key)
            self.clockwork.run(self.clockwork.now + READ_S)
            keys = [key for each in self.asked[first:] if each.outcome != FOUND for key in each.writes]
            if not keys:
                return

    def _await_over(self) -> None:
        """Nothing is left of any batch."""
        end = self.clockwork.now + QUIET_S_MAX
        self.clockwork.run(self.clockwork.now + 0.5)
        while (left := self.judge_of_batches.left()) and self.clockwork.now < end:
            self.clockwork.run(self.clockwork.now + 0.5)
        for each in left[:3]:
            self.blame(LAW, f"{each}, {QUIET_S_MAX} s after all is well")
