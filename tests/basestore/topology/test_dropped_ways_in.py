"""Ways by which something of a bucket that was dropped could come back: hints, and entries of exchanges."""

from basestore.protocol.replication import Hinted
from basestore.repair.rule import Rule
from basestore.rows import row_bucket
from tests.worlds.changing import create, drop
from tests.worlds.world import World

KEYS = [f"k{number}" for number in range(20)]


def carts() -> World:
    world = World(3, buckets={"carts": Rule.LAST_WRITE_WINS}, logged=True)
    for key in KEYS:
        world.put(0, key, "old", bucket="carts")
    return world


def test_hints_of_it_are_sent_to_nobody_though_they_are_not_looked_through_yet() -> None:
    world = carts()
    world.crash(2)
    world.run(1.0)
    for key in KEYS:
        world.put(0, key, "hinted", bucket="carts")
        world.put(0, key, "hinted")
    world.run(1.0)
    assert world.node(0).hints.count(2) == 2 * len(KEYS)
    world.node(0).dropped_hints.tick = lambda: None  # type: ignore[method-assign]
    drop(world, "carts")
    create(world, "carts")
    world.start(2)
    world.run(3.0)
    sent = [each.message for each in world.sent(Hinted, 0)]
    labels = {row_bucket(each.row) for each in sent if isinstance(each, Hinted)}
    assert labels == {b"default"}
    assert world.node(0).hints.count(2) == 0


def test_late_hints_of_it_go_without_an_operators_word_and_others_stay() -> None:
    world = carts()
    world.crash(2)
    world.run(1.0)
    for bucket in ("carts", "default"):
        world.put(0, "late", "hinted", bucket=bucket)
    world.run(1.0)
    hints = world.node(0).hints
    pile = hints.piles[2]
    for row in (world.row("late", "carts"), world.row("late")):
        hint = hints.kept(pile, row)
        assert hint is not None
        hints.too_late(pile, row, hint)
    assert pile.late_count == 2
    drop(world, "carts")
    world.start(2)
    world.run(3.0)
    assert [hints.kept(pile, world.row("late")) is not None, pile.late_count, pile.count] == [True, 1, 1]
    assert not hints.summary()[0].debt
    assert world.node(0).metrics.counts["hints_dropped"] == 1


def test_an_entry_of_it_is_not_taken_over() -> None:
    world = carts()
    content = world.content("carts", "k1", b"back")
    record = content.again(world.digester, world.stamp())
    drop(world, "carts")
    world.run(1.0)
    replica = world.node(0).replica
    replica.take_over(content.row, record)
    assert replica.record(content.row) is None
    assert world.node(0).summaries.records == 0
