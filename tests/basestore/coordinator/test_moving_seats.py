"""Requests while who holds a partition is being changed: two quorums, epochs on links, and beginning anew.

Covers `coordinator/quorum_*.py`, `groups/`, `range_scan.py` and `replica/admission.py` where seats change.
The steps in which nodes begin to use other seats are made by hand (`World.adopt`), without the log that
decides them: one by one or all at once.
"""

from collections.abc import Callable

import pytest

from basestore.consistency import MOVING, Level, Outcome
from basestore.errors import ReadTimeout, ReplicaFailure, Unavailable, WriteTimeout
from basestore.protocol.anti_entropy import Syn
from basestore.protocol.replication import Apply, Read
from tests.worlds.seats import NEW, OLD, enter, fill, hear_all, joint, moving, silence
from tests.worlds.world import Call, World


def asked(world: World, kind: type) -> set[int]:
    return {sent.target for sent in world.sent(kind)}


def keys(call: Call) -> list[bytes]:
    items, _ = call.page()
    return [item.key for item in items]


class TestStages:
    @pytest.mark.parametrize(
        ("stage", "written"), [("fill", {1, 2}), ("joint", {1, 2, 3, 4}), ("still", {3, 4})]
    )
    def test_a_write_goes_to_those_who_hold_it_at_each_stage(self, stage: str, written: set[int]) -> None:
        world = moving()
        enter(world, stage)
        receipt = world.put(0, "k", "v")
        assert asked(world, Apply) == written
        assert receipt.required == 2

    @pytest.mark.parametrize("silent", [(1, 2), (3, 4)])
    def test_a_quorum_write_needs_both_quorums(self, silent: tuple[int, ...]) -> None:
        world = moving()
        enter(world, "joint")
        silence(world, *silent)
        call = world.set(0, "k", "v", timeout_s=1.0)
        world.settle()
        assert not call.done
        hear_all(world)
        other = world.put(0, "other", "v")
        assert other.acknowledged >= other.required == 2

    @pytest.mark.parametrize("silent", [(1, 2), (3, 4)])
    def test_a_quorum_read_needs_both_quorums(self, silent: tuple[int, ...]) -> None:
        world = moving()
        enter(world, "joint")
        world.put(0, "k", "v")
        silence(world, *silent)
        call = world.get(0, "k")
        world.run(0.5)
        assert not call.done
        hear_all(world)
        assert world.look(0, "k").value == b"v"

    @pytest.mark.parametrize(("stage", "said"), [("joint", True), ("still", False)])
    def test_a_timeout_says_whether_two_quorums_were_asked(self, stage: str, said: bool) -> None:
        world = moving()
        enter(world, stage)
        silence(world, 3, 4)
        write, read = world.set(0, "k", "v", timeout_s=1.0), world.get(0, "k", timeout_s=1.0)
        world.run(2.0)
        with pytest.raises(WriteTimeout) as unwritten:
            write.receipt()
        with pytest.raises(ReadTimeout) as unread:
            read.read()
        assert [MOVING in str(each.value) for each in (unwritten, unread)] == [said, said]

    def test_a_read_writes_back_in_both_sets_before_it_answers(self) -> None:
        world = moving()
        enter(world, "joint")
        world.plant(1, "k", "v", world.stamp())
        world.plant(2, "k", "v", world.stamp())
        world.lose = lambda sent: sent.target in (3, 4) and isinstance(sent.message, Apply)
        call = world.get(1, "k")
        world.run(0.5)
        assert not call.done  # none of T but n1 could take it
        hear_all(world)
        assert world.look(1, "k").value == b"v"
        assert sum(value == b"v" for value in (world.values("k")[each] for each in NEW)) >= 2

    def test_at_one_only_those_count_who_stay(self) -> None:
        world = moving((0, 1))
        enter(world, "joint", (0, 1), (2, 3))
        silence(world, 2, 3)
        write, read = world.set(0, "k", "v", Level.ONE), world.get(0, "k", Level.ONE)
        world.run(0.5)
        assert not write.done
        assert not read.done
        world.lose = lambda sent: sent.target == 1 and isinstance(sent.message, Apply | Read)
        assert world.put(0, "other", "v", Level.ONE).acknowledged >= 1
        assert world.look(0, "other", Level.ONE).value == b"v"

    @pytest.mark.parametrize("level", [Level.QUORUM, Level.ALL])
    def test_what_is_asked_together_is_asked_of_both_sets(self, level: Level) -> None:
        world = moving()
        enter(world, "joint")
        keys, values = [b"a", b"b", b"c"], [b"1", b"2", b"3"]
        calls = [
            world.set(0, key.decode(), value.decode(), level) for key, value in zip(keys, values, strict=True)
        ]
        world.settle()
        assert [call.receipt().acknowledged >= 2 for call in calls] == [True] * 3
        assert asked(world, Apply) == {1, 2, 3, 4}  # singly: no group asks two quorums
        reads = [world.get(0, key.decode(), level) for key in keys]
        world.settle()
        assert [read.read().value for read in reads] == values

    def test_too_few_alive_in_one_of_the_sets_is_said(self) -> None:
        world = moving()
        enter(world, "joint")
        world.crash(3)
        world.crash(4)
        world.run(0.2)
        call = world.set(0, "k", "v")
        world.settle()
        with pytest.raises(Unavailable) as caught:
            call.receipt()
        assert (caught.value.required, caught.value.alive) == (2, 1)


class TestScans:
    @pytest.mark.parametrize("silent", [(1, 2), (3, 4)])
    def test_it_needs_both_quorums(self, silent: tuple[int, ...]) -> None:
        world = moving()
        world.put(0, "k", "v", Level.ALL)
        enter(world, "joint")
        silence(world, *silent)
        call = world.scan(0)
        world.settle()
        assert not call.done
        hear_all(world)
        world.run(0.5)
        assert keys(call) == [b"k"]

    def test_what_only_those_hold_who_leave_is_on_the_page_once_those_who_stay_have_it(self) -> None:
        world = moving()
        enter(world, "joint")
        version = world.stamp()
        for index in (1, 2):
            world.plant(index, "k", "v", version)
        call = world.scan(0)
        world.settle()
        assert keys(call) == [b"k"]
        assert sum(world.values("k")[each] == b"v" for each in NEW) >= 2

    def test_what_one_of_each_quorum_lacks_is_not_taken_for_confirmed(self) -> None:
        old, new = (0, 1, 2), (2, 3, 4)
        world = moving(old)
        enter(world, "joint", old, new)
        version = world.stamp()
        for index in (0, 1):
            world.plant(index, "k", "v", version)
        world.lose = lambda sent: isinstance(sent.message, Apply)
        call = world.scan(0)
        world.run(0.5)
        assert not call.done  # nobody of T could be brought up to it

    def test_what_all_of_one_set_and_too_few_of_the_other_hold_is_brought_to_those(self) -> None:
        world = moving()
        enter(world, "joint")
        version = world.stamp()
        for index in (0, 1, 2):
            world.plant(index, "k", "v", version)
        for first, last in ((1, 3), (3, 1)):  # whoever is heard first
            world.lose = lambda sent: isinstance(sent.message, Apply | Syn)  # nor does an exchange bring it
            world.hold(last, 0)
            call = world.scan(0)
            world.settle()
            world.release(last, 0)
            world.run(0.3)
            assert not call.done, (first, last)

    def test_at_one_one_of_those_who_leave_and_one_of_those_who_come_is_asked(self) -> None:
        world = moving((0, 1))
        enter(world, "joint", (0, 1), (2, 3))
        for index in (0, 2):
            world.plant(index, "k", "v", world.stamp())
        silence(world, 1, 3)
        call = world.scan(2, level=Level.ONE)
        world.settle()
        assert keys(call) == [b"k"]
        silence(world, 2, 3)
        call = world.scan(0, level=Level.ONE)
        world.run(0.5)
        assert not call.done

    @pytest.mark.parametrize("stage", ["joint", "still"])
    def test_one_under_way_begins_anew(self, stage: str) -> None:
        world = moving()
        world.put(0, "k", "v", Level.ALL)
        silence(world, 1, 2)
        call = world.scan(0)
        world.settle()
        assert not call.done
        hear_all(world)
        for index in NEW[1:]:
            world.plant(index, "k", "v", world.stored(0, "k").version)  # type: ignore[union-attr]
        enter(world, stage)
        world.settle()
        assert keys(call) == [b"k"]

    def test_what_was_heard_before_counts_for_nothing(self) -> None:
        world = moving()
        for index in (1, 2):
            world.hold(index, 0)
        call = world.scan(0)
        world.settle()
        silence(world, 1, 2, 3, 4)
        world.adopt({0: fill(101, OLD, NEW)}, 101)
        world.adopt({0: joint(102, OLD, NEW)}, 102)
        for index in (1, 2):
            world.release(index, 0)
        world.run(0.5)
        assert not call.done


class TestNobodyLeft:
    """The last of those who are to be asked now had died when seats changed."""

    def die(self, level: Level, begin: Callable[[World], Call]) -> Call:
        world = moving((0, 1))
        silence(world, 0, 1)
        call = begin(world)
        world.settle()
        assert not call.done
        world.crash(2)
        world.crash(3)
        world.settle()
        hear_all(world)
        world.hold(0, 4)
        world.hold(1, 4)
        enter(world, "joint", (0, 1), (2, 3))
        return call

    @pytest.mark.parametrize("level", [Level.ONE, Level.QUORUM, Level.ALL])
    def test_a_read_fails_at_once(self, level: Level) -> None:
        call = self.die(level, lambda world: world.get(4, "k", level))
        with pytest.raises(ReplicaFailure):
            call.read()

    @pytest.mark.parametrize("level", [Level.ONE, Level.QUORUM, Level.ALL])
    def test_a_scan_fails_at_once(self, level: Level) -> None:
        call = self.die(level, lambda world: world.scan(4, level=level))
        with pytest.raises(ReplicaFailure):
            call.page()

    @pytest.mark.parametrize("level", [Level.ONE, Level.QUORUM, Level.ALL])
    def test_a_write_fails_at_once(self, level: Level) -> None:
        call = self.die(level, lambda world: world.set(4, "k", "v", level))
        with pytest.raises(ReplicaFailure):
            call.receipt()


class TestSessions:
    def test_what_a_session_has_seen_is_found_with_those_who_leave_and_kept_by_those_who_stay(self) -> None:
        world = moving((0, 1))
        enter(world, "joint", (0, 1), (2, 3))
        version = world.stamp()
        world.plant(0, "k", "seen", version)
        call = world.get(4, "k", Level.ONE, floor=version)
        world.settle()
        assert call.read().value == b"seen"
        assert b"seen" in (world.values("k")[each] for each in (2, 3))

    def test_what_only_those_who_leave_confirm_is_not_shown(self) -> None:
        world = moving((0, 1))
        enter(world, "joint", (0, 1), (2, 3))
        version = world.stamp()
        world.plant(0, "k", "seen", version)
        world.lose = lambda sent: isinstance(sent.message, Apply)
        call = world.get(4, "k", Level.ONE, floor=version)
        world.run(0.5)
        assert not call.done


class TestFirstWrites:
    @pytest.mark.parametrize("holders", [(1, 2), (3, 4)])
    def test_one_that_either_set_holds_is_not_overwritten(self, holders: tuple[int, ...]) -> None:
        world = moving()
        enter(world, "joint")
        version = world.stamp(-1000)
        for index in holders:
            world.plant(index, "k", "first", version, bucket="once")
        call = world.set(0, "k", "second", bucket="once")
        world.settle()
        receipt = call.receipt()
        assert (receipt.outcome, receipt.superseded_by) == (Outcome.LOST, version)
        assert world.look(0, "k", bucket="once").value == b"first"

    def test_the_look_before_it_begins_anew_with_it(self) -> None:
        world = moving()
        silence(world, 1, 2)
        call = world.set(0, "k", "v", bucket="once")
        world.settle()
        assert not call.done
        hear_all(world)
        enter(world, "joint")
        receipt = call.receipt()
        assert receipt.outcome is Outcome.STORED
        assert sum(value == b"v" for value in (world.values("k", "once")[each] for each in NEW)) >= 2


class TestBeginningAnew:
    def test_a_write_under_way_is_sent_to_the_new_seats_as_the_same_write(self) -> None:
        world = moving()
        silence(world, 1, 2)
        call = world.set(0, "k", "v")
        world.settle()
        assert not call.done
        version = world.stored(0, "k").version  # type: ignore[union-attr]
        hear_all(world)
        enter(world, "still")
        world.settle()
        receipt = call.receipt()
        assert receipt.version == version
        assert [world.stored(each, "k").version for each in NEW] == [version] * 3  # type: ignore[union-attr]

    def test_what_was_confirmed_before_counts_for_nothing(self) -> None:
        world = moving()
        silence(world, 2)
        for index in (1, 2):
            world.hold(index, 0)
        call = world.set(0, "k", "v")  # n1 has confirmed, and n2's word is on its way
        world.settle()
        silence(world, 1, 2, 3, 4)
        world.adopt({0: fill(101, OLD, NEW)}, 101)
        world.adopt({0: joint(102, OLD, NEW)}, 102)
        for index in (1, 2):
            world.release(index, 0)
        world.settle()
        assert not call.done

    def test_nor_does_the_word_of_one_that_stays(self) -> None:
        new = (0, 1, 3)
        world = moving()
        world.hold(1, 0)
        silence(world, 2)
        call = world.set(0, "k", "v")
        world.settle()
        silence(world, 1, 2, 3)
        world.adopt({0: fill(101, OLD, new)}, 101)
        world.adopt({0: joint(102, OLD, new)}, 102)
        world.release(1, 0)
        world.settle()
        assert not call.done

    def test_a_read_under_way_is_asked_anew(self) -> None:
        world = moving()
        world.put(0, "k", "v", Level.ALL)
        silence(world, 1, 2)
        call = world.get(0, "k")
        world.settle()
        assert not call.done
        hear_all(world)
        enter(world, "joint")
        world.settle()
        assert call.read().value == b"v"

    def test_groups_leave_and_begin_anew(self) -> None:
        world = moving()
        silence(world, 1, 2)
        world.lose = lambda sent: sent.target in (1, 2) and "Group" in type(sent.message).__name__
        writes = [world.set(0, f"k{each}", "v") for each in range(3)]
        world.settle()
        assert not any(call.done for call in writes)
        hear_all(world)
        enter(world, "joint")
        world.settle()
        assert all(call.receipt().acknowledged >= 2 for call in writes)

    def test_its_time_does_not_begin_anew(self) -> None:
        world = moving()
        silence(world, 1, 2, 3, 4)
        call = world.set(0, "k", "v", timeout_s=0.5)
        world.run(0.4)
        enter(world, "joint")
        world.run(0.2)
        assert call.done


@pytest.mark.parametrize(
    ("old", "new"),
    [((0,), (1,)), ((0,), (0, 1, 2)), ((0, 1, 2), (0,)), ((0, 1), (2, 3)), ((0, 1, 2), (3, 4))],
)
def test_any_change_serves_at_all_stages(old: tuple[int, ...], new: tuple[int, ...]) -> None:
    world = moving(old)
    for stage in ("fill", "joint"):
        enter(world, stage, old, new)
        for level in (Level.ONE, Level.QUORUM, Level.ALL):
            assert world.put(4, f"{stage} {level}", "v", level).acknowledged >= 1
            assert world.look(3, f"{stage} {level}", level).value == b"v"
    enter(world, "still", old, new)
    assert world.look(4, f"joint {Level.QUORUM}").value == b"v"
