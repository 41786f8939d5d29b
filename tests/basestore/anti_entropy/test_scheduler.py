"""Anti-entropy of real nodes in seeded worlds: writes that get lost, crashes, lost disks, and what must
hold all along: summaries fit what is stored, no false alarm, nothing deleted comes back, all converges.

Covers `scheduler.py` and all that it sets going in its room: `recovery.py`, `healing.py`, `scrub.py`.
"""

import random

import pytest

from basestore.consistency import Level
from basestore.protocol.replication import Apply, Hinted
from basestore.repair.rule import Rule
from basestore.repair.version import Record
from basestore.storage.keyspace import DATA, SEQUENCE_BYTES
from tests.worlds.exchanges import check_summaries
from tests.worlds.world import Sent, World

KEYS = [f"key {number}" for number in range(24)]


class Rough:
    """A world in which first deliveries and hints get lost, and messages are on their way when others are
    sent. `finals`: of each row in a first-write bucket, the record that was stable somewhere."""

    def __init__(self, seed: int, *, rule: Rule = Rule.LAST_WRITE_WINS) -> None:
        self.random = random.Random(seed)
        self.loss = 0.3
        self.bucket = "default" if rule is Rule.LAST_WRITE_WINS else "once"
        self.rule = rule
        self.keys = KEYS if rule is Rule.LAST_WRITE_WINS else [f"key {number}" for number in range(300)]
        self.world = World(
            3, partitions=2, hint_bytes_max=0, timeout_ms_max=1000, drift_ms_max=200, reconcile=True
        )
        self.world.lose = self._lose
        self.finals: dict[bytes, bytes] = {}

    def _lose(self, sent: Sent) -> bool:
        return isinstance(sent.message, Apply | Hinted) and self.random.random() < self.loss

    def go(self, steps: int) -> None:
        world, chance = self.world, self.random
        for _ in range(steps):
            at = chance.randrange(3)
            if world.nodes[at] is not None and chance.random() < 0.7:
                key, level = chance.choice(self.keys), chance.choice([Level.ONE, Level.QUORUM])
                if chance.random() < 0.3 and self.rule is Rule.LAST_WRITE_WINS:
                    world.delete(at, key, level)
                else:
                    ttl_s = 0.5 if chance.random() < 0.2 and self.rule is Rule.LAST_WRITE_WINS else 0
                    world.set(at, key, f"{chance.random()}", level, bucket=self.bucket, ttl_s=ttl_s)
            for _ in range(chance.randrange(4)):
                world.turn()
            if chance.random() < 0.5:
                self.pass_time()
            if chance.random() < 0.01:
                world.restart(chance.randrange(3))
            self.check()

    def pass_time(self) -> None:
        world = self.world
        world.monotonic += 0.05
        for index, node in enumerate(world.nodes):
            if node is not None:
                node.tick(world.now(index))

    def calm(self, seconds: float) -> None:
        self.loss = 0.0
        for _ in range(int(seconds / 0.05)):
            self.pass_time()
            self.world.settle()

    def check(self) -> None:
        """A first write that is stable stays."""
        if self.rule is Rule.FIRST_WRITE_WINS:
            for index, held in enumerate(map(self.held, range(3))):
                for row, record in held.items():
                    if record.stamp <= self.world.node(index).summaries.of[int.from_bytes(row[:2])].stable:
                        assert self.finals.setdefault(row, record.head) == record.head

    def held(self, index: int) -> dict[bytes, Record]:
        stored = self.world.engines[index].scan(DATA, bytes((DATA[0] + 1,)))
        return {key[1:]: Record(value[:-SEQUENCE_BYTES]) for key, value in stored}

    def counts(self, name: str) -> int:
        return sum(node.metrics.counts[name] for node in self.world.running)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("rule", list(Rule))
def test_replicas_converge_by_exchanges_alone(seed: int, rule: Rule) -> None:
    rough = Rough(seed, rule=rule)
    world = rough.world
    rough.go(300)
    world.settle()
    for index in range(3):
        check_summaries(world, index)
    rough.calm(12)
    for index in range(3):
        check_summaries(world, index)
    assert rough.held(0) == rough.held(1) == rough.held(2)
    assert not any(record.tombstone or record.expires_ms for record in rough.held(0).values())
    assert rough.counts("mismatches") == 0
    assert rough.counts("exchanges_delta") > 0
    for node in world.running:
        assert not node.exchanges.count
        for summary in node.summaries.of.values():
            assert summary.stable > 0


@pytest.mark.parametrize("seed", range(6))
def test_a_wiped_or_rolled_back_store_recovers_and_brings_nothing_back(seed: int) -> None:
    rough = Rough(seed)
    world = rough.world
    rough.loss = 0.1
    rough.go(150)
    rough.calm(3)
    victim = seed % 3
    copy = world.copy_store(victim)
    rough.loss = 0.1
    rough.go(150)
    for key in KEYS[:8]:
        world.delete((victim + 1) % 3, key, Level.QUORUM)
    rough.calm(8)
    gone = {world.row(key) for key in KEYS[:8]}
    assert not gone & rough.held((victim + 1) % 3).keys()
    if seed % 2:
        world.wipe(victim)
    else:
        world.restore(victim, copy)
    world.start(victim)
    rough.calm(10)
    assert world.node(victim).state == "up"
    assert rough.held(0) == rough.held(1) == rough.held(2)
    assert not gone & rough.held(victim).keys()
    assert rough.counts("mismatches") == 0
    for index in range(3):
        check_summaries(world, index)
