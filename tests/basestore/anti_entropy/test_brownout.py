"""What anti-entropy leaves out while a node has too much to do, and what it does all the same.

Covers `scheduler.py`, with what heartbeats say of a brownout.
"""

import pytest

from basestore.anti_entropy.scheduler import PROOF_MS_MAX, browned_proof_ms
from basestore.config import BucketOptions
from basestore.consistency import Level
from basestore.repair.version import COUNTER_BITS
from basestore.topology.changes import CreateBucket
from tests.worlds.changing import change, create, drop
from tests.worlds.world import World

PARTITIONS = 4
STEP_S = 0.25
HELD_MS = browned_proof_ms({})


class Pressed:
    """A world whose nodes are asked for too much. `levels`: of their brownouts."""

    def __init__(self, *levels: int) -> None:
        self.world = World(3, partitions=PARTITIONS, reconcile=True)
        self.levels = [0, 0, 0]
        self.world.put(0, "key", "value", Level.ALL)
        self.go(20)
        assert len(self.made()) == 3 * 2 * PARTITIONS
        self.levels = list(levels)
        self.go(3)  # until all have heard of it, and what was under way has ended

    def go(self, seconds: float) -> None:
        world = self.world
        for _ in range(round(seconds / STEP_S)):
            world.monotonic += STEP_S
            for index, node in enumerate(world.nodes):
                if node is not None:
                    node.intake.brownout.level = self.levels[index]
                    node.tick(world.now(index))
            world.settle()

    def made(self) -> dict[tuple[int, int, int], int]:
        """When the proofs were made: by node, other node and partition."""
        return {
            (node.me, other, partition): certificate.made_ms
            for node in self.world.running
            for partition in range(PARTITIONS)
            for other, certificate in node.certificates.certificates(partition).items()
        }

    def renewed(self, seconds: float) -> set[tuple[int, int, int]]:
        """Whose proofs are newer after so long."""
        before = self.made()
        self.go(seconds)
        return {which for which, made_ms in self.made().items() if made_ms != before.get(which)}

    def oldest_ms(self) -> int:
        """How long ago that was proven to be everywhere which was longest ago."""
        stable = min(s.shown for node in self.world.running for s in node.summaries.of.values())
        return self.world.now(0).wall_ms - (stable >> COUNTER_BITS)


@pytest.mark.parametrize("level", [0, 1])
def test_without_a_brownout_of_2_proofs_are_renewed_all_the_time(level: int) -> None:
    assert len(Pressed(level, level, level).renewed(15)) == 3 * 2 * PARTITIONS


def test_in_a_brownout_proofs_are_renewed_before_they_are_too_old_and_not_earlier() -> None:
    pressed = Pressed(2, 2, 2)
    age_ms = pressed.world.now(0).wall_ms - min(pressed.made().values())
    assert not pressed.renewed((HELD_MS - age_ms) / 1e3 - 2)
    assert len(pressed.renewed(30)) == 3 * 2 * PARTITIONS


def test_what_is_known_to_be_everywhere_stays_younger_than_ten_minutes() -> None:
    pressed = Pressed(2, 2, 2)
    oldest_ms = 0
    for number in range(150):
        pressed.world.put(number % 3, f"key {number}", "value", Level.ONE)
        pressed.go(10)
        oldest_ms = max(oldest_ms, pressed.oldest_ms())
    assert HELD_MS < oldest_ms < PROOF_MS_MAX


def test_what_an_operator_asks_for_runs_all_the_same() -> None:
    pressed = Pressed(2, 2, 2)
    renewed = set()
    for second in range(5):  # who asks asks again until it has happened
        for node in pressed.world.running:
            node.scheduler.hasten([1], 1000 * second, pressed.world.now(node.me), full=False)
        renewed |= pressed.renewed(1)
    assert {(a, b) for a, b, _ in renewed} == {(a, b) for a in range(3) for b in range(3) if a != b}
    assert {partition for *_, partition in renewed} == {1}


def test_of_what_there_is_no_proof_an_exchange_is_opened() -> None:
    pressed = Pressed(2, 2, 2)
    for a, b in ((0, 1), (1, 0)):
        pressed.world.node(a).certificates.withdraw(3, b)
    assert pressed.renewed(5) == {(0, 1, 3), (1, 0, 3)}


def test_a_proof_of_later_than_now_is_of_no_known_age() -> None:
    pressed = Pressed(2, 2, 2)
    node = pressed.world.node(0)
    held = node.certificates.certificate(2, 1)
    assert held is not None
    node.certificates.certify(2, 1, held._replace(made_ms=held.made_ms + 1_000_000))
    assert (0, 1, 2) in pressed.renewed(5)


def test_peers_of_a_node_in_a_brownout_leave_it_alone_and_not_each_other() -> None:
    pressed = Pressed(0, 2, 0)
    assert {(a, b) for a, b, _ in pressed.renewed(15)} == {(0, 2), (2, 0)}


def test_where_reads_may_be_degraded_by_less_proofs_stay_younger() -> None:
    options = {
        "cart": BucketOptions(degrade_s=60),
        "order": BucketOptions(degrade_s=3600),
        "log": BucketOptions(),
    }
    assert browned_proof_ms(options) == 24_000
    world = World(3, partitions=1)
    assert world.node(0).scheduler.browned_proof_ms == browned_proof_ms({}) == 240_000


def test_buckets_that_come_and_go_decide_it_from_then_on() -> None:
    world = World(3, partitions=1, logged=True, bucket_options={"mine": BucketOptions(degrade_s=50)})
    scheduler = world.node(0).scheduler
    assert scheduler.browned_proof_ms == 240_000
    assert not change(world, 0, CreateBucket("carts", "last-write-wins", [60, 0, 0, 0])).error
    assert scheduler.browned_proof_ms == 24_000
    create(world, "mine")  # as this node's file has it
    assert scheduler.browned_proof_ms == 20_000
    drop(world, "mine")
    assert scheduler.browned_proof_ms == 24_000
    drop(world, "carts")
    assert scheduler.browned_proof_ms == 240_000
