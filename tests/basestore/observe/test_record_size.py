"""How large records are, by a sample. Covers `observe/record_size.py`, and what a plan makes of it."""

from dataclasses import replace

from basestore.consistency import Level
from basestore.errors import StorageError
from basestore.observe.record_size import OLD_S, RecordSize
from basestore.results.moves import Counting, Plan, PlannedMove
from tests.worlds.following import follow
from tests.worlds.world import World

KEYS = [f"key {number:03}" for number in range(100)]


def size(world: World, at: int = 0) -> str:
    return world.state(at).facts["record bytes"]


def test_nothing_is_known_of_no_records_and_then_about_what_they_have() -> None:
    world = World(3, partitions=8)
    assert size(world) == ""
    for key in KEYS:
        world.put(0, key, "v" * 1000, Level.ALL)
    world.run(OLD_S + 2.0)
    assert 1000 < int(size(world)) < 1100


def test_it_is_sampled_again_once_it_is_old_or_there_are_many_more() -> None:
    world = World(1, partitions=1)
    node = world.node(0)
    of = RecordSize(node.group_commit, node.summaries)
    for number, key in enumerate(KEYS[::-1]):  # what comes first is seen first
        world.put(0, key, "v" * (20 * number))
        now = world.now(0)
        if number == 10:
            first = of.mean(now)
        if number == 12:
            assert of.mean(now) == first
    assert first is not None
    second = of.mean(now)
    assert second is not None
    assert second > 2 * first  # there are many more
    world.put(0, "a" * 8, "v" * 100_000)
    assert of.mean(now) == second
    third = of.mean(now._replace(monotonic=now.monotonic + OLD_S + 1))
    assert third is not None
    assert third > 2 * second


def test_what_is_damaged_is_passed_over() -> None:
    world = World(1, partitions=1)
    world.put(0, "key", "value")
    node = world.node(0)

    class Damaged:
        def scan(self, start: bytes, end: bytes) -> None:
            raise StorageError("a block is damaged")

    assert RecordSize(Damaged(), node.summaries).mean(world.now(0)) is None  # type: ignore[arg-type]


def test_a_plan_is_weighed_by_what_all_members_say() -> None:
    world = World(3, partitions=8)
    for key in KEYS:
        world.put(0, key, "v" * 1000, Level.ALL)
    world.run(OLD_S + 2.0)
    deadline_s = world.monotonic + 4.0
    records = follow(world, Counting.until(deadline_s, world.monotonic))
    assert sum(records.values()) == len(KEYS)
    assert records.keys() == set(range(8))
    moves = tuple(PlannedMove(at, ("n1", "n2", "n3"), ("n1", "n2", "n4")) for at in (1, 2))
    states = [world.state(at) for at in range(3)]
    plan = Plan(1, moves, 2, {}, "").weighed(records, states)
    assert plan.records == records[1] + records[2]
    assert plan.bytes is not None
    assert 1000 * plan.records < plan.bytes < 1100 * plan.records
    (flow,) = plan.flows
    assert (flow.source, flow.to, flow.records, flow.bytes) == ("n3", "n4", plan.records, plan.bytes)
    # A node that does not say counts for nothing; where none does it is not known.
    silent = [replace(state, facts={}) for state in states]
    assert Plan(1, moves, 2, {}, "").weighed(records, [states[0], *silent]).bytes == plan.bytes
    unknown = Plan(1, moves, 2, {}, "").weighed(records, silent)
    assert (unknown.records, unknown.bytes) == (plan.records, None)
    del records[1]
    assert Plan(1, moves, 2, {}, "").weighed(records, states).records is None


def test_of_a_partition_that_nobody_tells_of_nothing_is_known_in_time() -> None:
    world = World(3, replication=1, partitions=8)
    for key in KEYS:
        world.put(0, key, "v", Level.ALL)
    lost = {at for at, held in enumerate(world.placement.replicas) if held == (2,)}
    world.stop(2)
    records = follow(world, Counting.until(world.monotonic + 4.0, world.monotonic))
    assert records.keys() == set(range(8)) - lost
