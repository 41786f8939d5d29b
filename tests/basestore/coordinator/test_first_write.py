"""Buckets whose first write wins.

Covers `coordinator/quorum_write.py` where the first write wins.
"""

import pytest

from basestore.consistency import COUNTED, Level, Outcome
from basestore.errors import InvalidRequest, ReadTimeout, Unavailable, WriteTimeout
from basestore.protocol.replication import Apply, Hinted
from basestore.repair.rule import Rule
from tests.worlds.world import World


def put(world: World, at: int, value: str, level: Level = Level.QUORUM) -> Outcome:
    return world.put(at, "k", value, level, bucket="once").outcome


@pytest.mark.parametrize("count", [1, 3, 5])
def test_the_first_write_wins_and_the_second_is_lost_to_it(count: int) -> None:
    world = World(count)
    first = world.put(0, "k", "first", bucket="once")
    assert (first.outcome, first.final) == (Outcome.STORED, False)
    second = world.put(count - 1, "k", "second", bucket="once")
    assert (second.outcome, second.superseded_by) == (Outcome.LOST, first.version)
    assert second.version is None  # it was never stamped
    assert world.look(0, "k", bucket="once").value == b"first"


def test_a_write_that_is_lost_is_not_sent() -> None:
    world = World(3)
    put(world, 0, "first", Level.ALL)
    world.log.clear()
    put(world, 1, "second")
    assert not world.sent(Apply)


@pytest.mark.parametrize("level", [Level.ONE, Level.ANY])
def test_below_quorum_the_replicas_tell_that_it_was_lost(level: Level) -> None:
    world = World(3)
    first = world.put(0, "k", "first", Level.ALL, bucket="once")
    world.run(0.1)
    second = world.put(1, "k", "second", level, bucket="once")
    assert (second.outcome, second.superseded_by) == (Outcome.LOST, first.version)
    assert second.version is not None
    assert world.values("k", "once") == [b"first"] * 3


def test_writes_that_overlap_agree_on_the_smaller_version() -> None:
    world = World(3)
    calls = [world.set(at, "k", f"of {at}", bucket="once") for at in range(3)]
    world.settle()
    outcomes = [call.receipt().outcome for call in calls]
    assert outcomes.count(Outcome.STORED) == 1
    winner = world.look(0, "k", Level.ALL, bucket="once").value
    assert winner == f"of {outcomes.index(Outcome.STORED)}".encode()


def test_a_failed_first_write_that_was_seen_wins_over_later_ones() -> None:
    world = World(3)
    world.plant(1, "k", "half a write", world.stamp(-1000), bucket="once")
    assert world.look(1, "k", bucket="once").value == b"half a write"
    assert put(world, 0, "later") is Outcome.LOST


def test_the_retry_of_a_timed_out_write_is_the_same_write() -> None:
    world = World(3)
    world.lose = lambda sent: isinstance(sent.message, Apply)
    call = world.set(0, "k", "v", bucket="once", timeout_s=0.5)
    world.run(0.6)
    with pytest.raises(WriteTimeout) as late:
        call.receipt()
    world.lose = lambda _: False
    again = world.set(1, "k", "v", bucket="once", version=late.value.version)
    world.settle()
    receipt = again.receipt()
    assert (receipt.outcome, receipt.version) == (Outcome.STORED, late.value.version)


def test_a_retry_that_another_write_has_beaten_is_lost() -> None:
    world = World(3)
    put(world, 0, "first", Level.ALL)
    call = world.set(1, "k", "v", bucket="once", version=world.stamp(1000))
    world.settle()
    assert call.receipt().outcome is Outcome.LOST


def test_a_timeout_of_the_read_before_says_that_nothing_was_written() -> None:
    world = World(3)
    world.isolate(1)
    world.isolate(2)
    call = world.set(0, "k", "v", bucket="once", timeout_s=0.5)
    world.run(0.6)
    with pytest.raises(ReadTimeout, match="nothing was written") as late:
        call.receipt()
    assert late.value.version is None
    assert world.values("k", "once") == [None] * 3


def test_too_few_replicas_are_unavailable() -> None:
    world = World(3)
    world.stop(1)
    world.stop(2)
    world.settle()
    with pytest.raises(Unavailable):
        put(world, 0, "v")


@pytest.mark.parametrize("level", COUNTED)
def test_deletes_and_ttl_are_refused_by_name(level: Level) -> None:
    world = World(1)
    delete = world.delete(0, "k", level, bucket="once")
    ttl = world.set(0, "k", "v", level, bucket="once", ttl_s=1)
    world.settle()
    with pytest.raises(InvalidRequest, match="'once' is first-write-wins: delete is refused"):
        delete.receipt()
    with pytest.raises(InvalidRequest, match="'once' is first-write-wins: ttl is refused"):
        ttl.receipt()


def test_a_bucket_of_the_configuration_has_the_rule_it_says() -> None:
    world = World(3, buckets={"names": Rule.FIRST_WRITE_WINS, "states": Rule.LAST_WRITE_WINS})
    world.put(0, "k", "first", bucket="names")
    world.put(0, "k", "first", bucket="states")
    assert world.put(0, "k", "second", bucket="names").outcome is Outcome.LOST
    assert world.put(0, "k", "second", bucket="states").outcome is Outcome.STORED


def test_buckets_do_not_share_keys() -> None:
    world = World(3)
    world.put(0, "k", "one")
    world.put(0, "k", "another", bucket="once")
    assert world.look(1, "k").value == b"one"
    assert world.look(1, "k", bucket="once").value == b"another"


def test_an_unknown_bucket_is_refused_with_the_names_there_are() -> None:
    world = World(1)
    with pytest.raises(InvalidRequest, match="no bucket 'elsewhere'; this cluster has default, once"):
        world.put(0, "k", "v", bucket="elsewhere")


def test_a_repetition_that_may_still_win_is_not_told_that_it_lost() -> None:
    """The first attempt reached nobody, but hints of it wait at a node that is cut off."""
    world = World(4)
    replicas = world.replicas("k", "once")
    cut_off = next(index for index in range(4) if index not in replicas)
    world.lose = lambda sent: sent.source == cut_off and isinstance(sent.message, Apply | Hinted)
    first = world.set(cut_off, "k", "first", bucket="once", timeout_s=0.4)
    world.run(0.5)
    with pytest.raises(WriteTimeout) as failed:
        first.receipt()
    for replica in replicas:
        world.part(cut_off, replica)
    world.lose = lambda _: False
    assert world.put(replicas[0], "k", "second", bucket="once").outcome is Outcome.STORED
    again = world.set(replicas[1], "k", "first", bucket="once", version=failed.value.version)
    world.settle()
    assert again.receipt().outcome is Outcome.STORED
    for replica in replicas:
        world.join(cut_off, replica)
    world.run(5)
    assert {world.values("k", "once")[replica] for replica in replicas} == {b"first"}
