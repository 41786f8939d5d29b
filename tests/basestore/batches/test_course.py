"""Batches whose coordinator dies at each step, whose replicas are away, lost or damaged: all of it, or none.
Covers `batches/course.py`, `batches/round.py` and `batches/parts.py`."""

import pytest

from basestore.batches.batches import LEFT_S, STEP_S
from basestore.batches.course import Course, How
from basestore.batches.part import APPLIED, NO_CHECK, Part
from basestore.batches.round import Answers, Told
from basestore.batches.verdicts import Facts
from basestore.protocol.client import BatchWritten
from basestore.protocol.groups import COMMIT, COMMITTED, DONE, HELD, NEVER, AskPart, HoldPart
from basestore.topology.changes import DropBucket
from tests.worlds.batches import MEMBERS, BatchWorld, Scene, ended, holds, says
from tests.worlds.changing import CARTS
from tests.worlds.moving import asked
from tests.worlds.world import Sent


@pytest.mark.parametrize("step", ["hold", "commit", "finish"])
def test_whoever_holds_a_part_goes_on_when_the_coordinator_has_died(step: str) -> None:
    scene = Scene()
    world = scene.world
    world.lose = {"hold": says(AskPart), "commit": ended, "finish": lambda sent: False}[step]
    call = world.batch(scene.at, scene.values)
    for _ in range(60):
        world.turn()
    assert call.done == (step != "hold")
    assert scene.found() == ([None, None] if step == "hold" else ["batch", "batch"])
    world.crash(scene.at)
    world.lose = lambda sent: False
    scene.over("batch", "batch")


def test_what_one_of_each_partition_holds_comes_to_a_quorum_by_copies() -> None:
    scene = Scene(reconcile=False)
    world = scene.world
    only = {scene.replicas(partition)[0] for partition in (scene.first, scene.second)}
    world.lose = lambda sent: says(HoldPart)(sent) and sent.target not in only
    scene.begin(world.lose, 0.1)
    scene.die()
    scene.over("batch", "batch")
    assert sum(node.metrics.counts["batches_spread"] for node in world.running)


def test_what_only_one_partition_holds_is_given_up_once_the_other_refuses_it() -> None:
    scene = Scene()
    world = scene.world
    world.lose = holds(scene.first)
    scene.begin(world.lose, 0.1)
    scene.die()
    held = [at for at in scene.replicas(scene.second) if at != scene.at]
    world.run(LEFT_S - 0.5)
    assert {scene.state_at(at, scene.second) for at in held} == {HELD}
    world.over(0.5 + 4 * STEP_S)
    assert scene.found() == [None, None]
    assert sum(node.metrics.counts["batches_given_up"] for node in world.running)


def test_one_that_does_not_answer_may_hold_it_and_is_waited_for() -> None:
    """Only it holds its part, and so all others are not told that it is given up."""
    scene = Scene()
    world = scene.world
    alone, *others = scene.replicas(scene.first)
    world.lose = lambda sent: holds(scene.first)(sent) and sent.target in others
    world.batch(scene.at, scene.values, timeout_s=1.0)
    world.run(0.1)
    world.lose = lambda sent: False
    world.crash(scene.at)
    world.crash(alone)
    world.run(100.0)
    assert world.parts()
    assert scene.found() == [None, None]
    world.start(alone)
    scene.over("batch", "batch")


def test_stamps_wait_for_what_is_held_and_go_on_when_it_is_over() -> None:
    scene = Scene()
    world = scene.world
    scene.begin(says(AskPart))
    world.crash(scene.at)
    world.run(90.0)
    at = scene.replicas(scene.first)[0]
    node = world.node(at)
    (stamp,) = node.summaries.unapplied[scene.first].values()
    summary = node.summaries.of[scene.first]
    assert summary.stable < stamp
    assert summary.closed == stamp - 1
    world.lose = lambda sent: False
    scene.over("batch", "batch")
    world.until(lambda: summary.stable > stamp, 90.0)
    world.until(lambda: world.part_rows() == 0, 120.0)  # their tombstones are purged


def test_what_is_over_and_purged_was_not_given_up_as_far_as_is_known() -> None:
    scene, ends = Scene(), list[How]()
    world = scene.world
    scene.begin(says(AskPart))
    at = scene.replicas(scene.first)[0]
    row = scene.row_at(at, scene.first)
    record = world.node(at).batches.parts.held(row)
    assert record is not None
    known = Part.of(row, record).known(row, record)
    world.lose = lambda sent: False
    scene.over("batch", "batch")
    world.until(lambda: world.part_rows() == 0, 120.0)
    course = Course(world.node(scene.at).context, known)
    course.bring(lambda end, now: ends.append(end.how), world.now(scene.at))
    world.until(lambda: bool(ends), 5.0)
    assert ends == [How.UNKNOWN]
    assert not any(node.metrics.counts["batches_given_up"] for node in world.running)


def test_what_is_held_outlives_a_crash_of_all() -> None:
    scene = Scene()
    world = scene.world
    scene.begin(says(AskPart))
    world.lose = lambda sent: False
    for index in range(MEMBERS):
        world.crash(index)
    for index in range(MEMBERS):
        world.start(index)
    world.run(1.0)
    assert scene.found() == [None, None]
    scene.over("batch", "batch")


def test_a_member_that_was_away_is_given_what_it_has_missed() -> None:
    scene = Scene()
    world = scene.world
    away = scene.replicas(scene.first)[0]
    world.stop(away)
    world.run(2.0)
    assert isinstance(world.answered(world.batch(scene.at, scene.values)), BatchWritten)
    world.start(away)
    world.until(lambda: world.values(scene.keys[0])[away] == b"batch", 60.0)
    scene.over("batch", "batch")


def test_a_store_that_is_lost_takes_what_is_held_from_the_others() -> None:
    scene = Scene()
    world = scene.world
    scene.begin(says(AskPart))
    lost = scene.replicas(scene.first)[0]
    world.lose_store(lost)
    world.until(lambda: bool(world.node(lost).batches.count), 60.0)
    world.lose = lambda sent: False
    scene.over("batch", "batch")
    world.until(lambda: world.values(scene.keys[0])[lost] == b"batch", 60.0)


def test_a_copy_of_one_whose_store_is_lost_comes_too_late() -> None:
    scene = Scene()
    world = scene.world
    scene.begin(says(AskPart))
    holder = scene.replicas(scene.first)[0]
    row = scene.row_at(holder, scene.first)
    record = world.node(holder).batches.parts.held(row)
    assert record is not None
    other = BatchWorld(MEMBERS, partitions=8)
    at = scene.replicas(scene.first)[1]
    node = other.node(at)
    node.summaries.of[scene.first].closed = record.stamp
    for store, state in ((b"", NEVER), (b"s" * 16, NEVER), (node.identity.store, HELD)):
        (told,) = other.answers_of_parts(at, HoldPart(1, row, record.blob, store, 0))
        assert told.state == state  # type: ignore[attr-defined]


def test_a_tombstone_goes_only_to_who_may_hold_a_part_yet() -> None:
    scene = Scene()
    world = scene.world
    scene.begin(says(AskPart))
    row = scene.row_at(scene.replicas(scene.first)[0], scene.first)
    record = world.node(scene.replicas(scene.first)[0]).batches.parts.held(row)
    assert record is not None
    known = Part.of(row, record).known(row, record)
    has, purged, holds_it = scene.replicas(scene.first)
    answers: Answers = {each: {} for each in known.partitions}
    answers[scene.first] = {has: Told(DONE), purged: Told(NEVER), holds_it: Told(HELD)}
    answers[scene.second] = {}  # nobody has answered
    told = set[int]()

    def sees(sent: Sent) -> bool:
        if ended(sent):
            told.add(sent.target)
        return True

    world.lose = sees
    course = Course(world.node(scene.at).context, known)
    course.finish(APPLIED, Facts({}, NO_CHECK), lambda *_: None, world.now(scene.at), known=answers)
    world.run(0.1)
    assert told == {holds_it}


def test_what_is_settled_is_not_applied_any_more() -> None:
    """It is there, or was beaten, perhaps by what is purged."""
    scene = Scene()
    world = scene.world
    scene.begin(says(AskPart))
    at = scene.replicas(scene.first)[0]
    node, row = world.node(at), scene.row_at(at, scene.first)
    record = node.batches.parts.held(row)
    assert record is not None
    node.summaries.of[scene.first].stable = record.stamp + 100
    (told,) = world.answers_of_parts(at, AskPart(1, row, record.blob[:16], COMMIT, 0))
    assert told.state == COMMITTED  # type: ignore[attr-defined]
    assert world.values(scene.keys[0])[at] is None


def test_a_damaged_part_is_healed_and_goes_on() -> None:
    scene = Scene()
    world = scene.world
    scene.begin(says(AskPart))
    at = scene.replicas(scene.first)[0]
    world.spoil_row(at, scene.row_at(at, scene.first))
    world.lose = lambda sent: False
    scene.over("batch", "batch")
    world.until(lambda: world.values(scene.keys[0])[at] == b"batch", 60.0)


def test_rows_of_a_bucket_that_was_dropped_are_left_out() -> None:
    world = BatchWorld(3, reconcile=True)
    asked(world, CARTS)
    world.run(1.0)
    world.lose = says(AskPart)
    world.batch(0, {world.key_in(0): "1", world.key_in(1): "2"}, bucket="carts", timeout_s=1.0)
    world.run(1.0)
    assert world.parts()
    asked(world, DropBucket("carts"))
    world.run(1.0)
    world.lose = lambda sent: False
    world.over()
