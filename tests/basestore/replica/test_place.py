"""A store that does not lie where it was written: a backup of files, a disk mounted anew, all moved at once.

Covers what `replica/identity.py` concludes from the files by which a store knows its directory.
"""

from dataclasses import replace

import pytest

from basestore.consistency import Level
from basestore.errors import Unavailable
from tests.worlds.world import World

KEYS = [f"key {number}" for number in range(20)]
COPIED = "it does not lie where it was written, so it may be an old copy"


def filled(count: int = 3, **options: object) -> World:
    """A cluster in which every key of KEYS is on all its replicas."""
    world = World(count, **options)  # type: ignore[arg-type]
    for key in KEYS:
        world.put(0, key, "old", Level.ALL)
    world.run(1.5)
    return world


def stop_all(world: World) -> None:
    for index in range(len(world.nodes)):
        world.stop(index)


class TestCopies:
    def test_a_copy_is_not_vouched_for_by_a_peer_that_was_away_since_before_it_was_made(self) -> None:
        world = filled()
        world.crash(1)
        world.stop(0)
        copy = world.copy_store(0)
        world.start(0)
        world.run(1)
        for key in KEYS:
            assert world.put(2, key, "new").acknowledged == 2
        world.crash(2)
        world.restore(0, copy, in_place=False)
        world.start(0)
        world.start(1)
        world.run(30)
        assert [node.state for node in world.running] == ["forgetful", "starting"]
        for at in (0, 1):
            with pytest.raises(Unavailable):
                world.look(at, KEYS[0])
        world.start(2)
        world.run(20)
        assert [node.state for node in world.running] == ["up"] * 3
        world.crash(2)
        world.run(1)
        assert [world.look(0, key).value for key in KEYS] == [b"new"] * len(KEYS)

    @pytest.mark.parametrize(("count", "replication"), [(2, 2), (3, 3), (5, 3), (4, 2)])
    def test_a_copy_of_any_age_gets_all_back_before_it_counts(self, count: int, replication: int) -> None:
        world = filled(count, replication=replication)
        copy = world.copy_store(0)
        for key in KEYS:
            world.put(1, key, "new", Level.ALL)
        world.restore(0, copy, in_place=False)
        node = world.start(0)
        assert (node.state, node.reason) == ("forgetful", COPIED)
        world.run(4)
        assert world.node(0).state == "up"
        held = [world.values(key)[0] for key in KEYS if 0 in world.replicas(key)]
        assert held == [b"new"] * len(held)

    def test_a_store_that_lies_where_it_was_written_is_none(self) -> None:
        world = filled()
        for end in (world.stop, world.crash):
            end(1)
            world.start(1)
            world.settle()
            assert world.node(1).state == "up"

    def test_a_crash_before_the_first_batch_of_an_opening_leaves_what_was_kept(self) -> None:
        world = filled()
        world.stop(1)
        before, places = world.copy_store(1), world.places[1]
        world.start(1, link=False)
        world.restore(1, before)
        world.places[1] |= places  # the files of both openings are there
        world.start(1)
        world.settle()
        assert world.node(1).state == "up"

    def test_that_it_is_a_copy_outlives_a_restart_until_it_has_recovered(self) -> None:
        world = filled()
        world.crash(2)
        world.crash(0)
        world.move(0)
        world.start(0, link=False)
        world.restart(0)
        world.run(10)
        assert world.node(0).state == "forgetful"
        assert world.node(0).reason.startswith(COPIED)
        world.start(2)
        world.run(4)
        assert [node.state for node in world.running] == ["up"] * 3
        world.restart(0)
        world.settle()
        assert world.node(0).state == "up"

    def test_the_copy_of_a_store_that_was_never_born_asks_all_others_anyway(self) -> None:
        world = World(3, born=False)
        world.start(0)
        world.crash(0)
        world.move(0)
        for index in range(3):
            world.start(index)
        world.settle()
        assert [node.state for node in world.running] == ["up"] * 3

    def test_a_disk_mounted_anew_recovers_where_a_peer_cannot_know_any_more(self) -> None:
        world = filled(5)
        world.stop(1)
        world.remount(1)
        world.wipe(2)
        world.start(2)
        world.start(1)
        world.run(10)
        assert [node.state for node in world.running] == ["up"] * 5

    def test_one_node_alone_cannot_prove_that_it_is_no_copy(self) -> None:
        world = filled(1)
        world.stop(0)
        world.move(0)
        world.start(0)
        world.run(0.5)
        assert world.node(0).state == "forgetful"
        with pytest.raises(Unavailable):
            world.look(0, KEYS[0])
        world.take_as_is(0)
        assert world.look(0, KEYS[0]).value == b"old"

    def test_an_operator_can_say_that_a_store_in_its_place_is_an_old_copy(self) -> None:
        world = filled()
        copy = world.copy_store(0)
        world.run(1)
        world.crash(1)
        world.put(2, KEYS[0], "new")
        world.crash(2)
        world.restore(0, copy)
        world.configs[0] = replace(world.configs[0], forgetful=True)
        world.start(0)
        world.start(1)
        world.run(10)
        assert world.node(0).state == "forgetful"
        assert "an operator has said" in world.node(0).reason
        world.take_as_is(0)
        assert world.node(0).state == "forgetful"
        world.start(2)
        world.run(4)
        assert world.node(0).state == "up"
        assert world.stored(0, KEYS[0]) is not None


class TestOtherFileSystems:
    def test_after_a_clean_stop_what_all_others_remember_decides(self) -> None:
        world = filled()
        world.stop(0)
        world.remount(0)
        world.crash(2)
        world.start(0)
        world.run(10)
        assert world.node(0).state == "starting"
        assert "another id than before; n3 must first say" in world.node(0).reason
        with pytest.raises(Unavailable):
            world.look(0, KEYS[0])
        world.start(2)
        world.settle()
        assert world.node(0).state == "up"

    def test_a_copy_of_the_whole_file_system_is_found_out_by_the_last_of_them(self) -> None:
        world = filled()
        world.crash(1)
        world.stop(0)
        copy = world.copy_store(0)
        places = world.places[0]
        world.start(0)
        world.run(1)
        world.put(2, KEYS[0], "new")
        world.crash(2)
        world.restore(0, copy)
        world.places[0] = places
        world.remount(0)
        world.start(0)
        world.start(1)
        world.run(10)
        assert world.node(0).state == "starting"
        world.start(2)
        world.settle()
        assert world.node(0).state == "forgetful"
        assert "rolled back" in world.node(0).reason

    @pytest.mark.parametrize("clean", [True, False])
    def test_a_restart_does_not_make_fewer_enough(self, clean: bool) -> None:
        world = filled()
        world.stop(0)
        world.remount(0)
        world.crash(2)
        world.start(0)
        world.run(1)
        (world.stop if clean else world.crash)(0)
        world.start(0)
        world.run(5)
        assert world.node(0).state == "starting"
        world.start(2)
        world.settle()
        assert [node.state for node in world.running] == ["up"] * 3
        world.crash(2)
        world.restart(0)
        world.settle()
        assert world.node(0).state == "up"

    def test_an_operator_can_say_that_it_is_the_same_disk(self) -> None:
        world = filled()
        world.stop(0)
        world.remount(0)
        world.crash(2)
        world.start(0)
        world.settle()
        assert world.state(0).facts["copied"] == "yes"
        world.take_as_is(0)
        assert world.node(0).state == "up"
        world.restart(0)
        world.settle()
        assert world.node(0).state == "up"

    def test_all_may_be_mounted_anew_at_once(self) -> None:
        world = filled()
        stop_all(world)
        for index in range(3):
            world.remount(index)
            world.start(index)
        world.settle()
        assert [node.state for node in world.running] == ["up"] * 3

    def test_after_an_unclean_stop_the_store_recovers(self) -> None:
        world = filled()
        world.crash(0)
        world.remount(0)
        assert world.start(0).state == "forgetful"
        world.run(4)
        assert world.node(0).state == "up"

    def test_one_node_alone_cannot_prove_anything(self) -> None:
        world = filled(1)
        world.stop(0)
        world.remount(0)
        assert world.start(0).state == "forgetful"


class TestAllAtOnce:
    def moved(self, count: int = 3) -> World:
        """All stores were moved elsewhere, and one member is not there."""
        world = filled(count)
        stop_all(world)
        for index in range(count):
            world.move(index)
        for index in range(count - 1):
            world.start(index)
        world.run(5)
        return world

    def test_it_is_said_that_all_are_in_doubt_and_one_word_takes_them_as_they_are(self) -> None:
        world = self.moved()
        for index in range(2):
            facts = world.state(index).facts
            assert facts["copied"] == "yes"
            assert "no member that it sees is up" in facts["reason"]
            assert "basestore repair --as-is" in facts["reason"]
        for index in range(2):
            world.take_as_is(index)
        assert [node.state for node in world.running] == ["up", "up"]
        assert world.state(0).facts["copied"] == world.state(0).facts["reason"] == ""
        assert [world.look(0, key).value for key in KEYS] == [b"old"] * len(KEYS)
        world.restart(0)
        world.settle()
        assert world.node(0).state == "up"

    @pytest.mark.parametrize(("count", "replication"), [(1, 1), (2, 1), (2, 2), (3, 1), (3, 2), (3, 3)])
    def test_they_wait_for_that_word_and_lose_nothing(self, count: int, replication: int) -> None:
        world = filled(count, replication=replication)
        stop_all(world)
        for index in range(count):
            world.move(index)
            world.start(index)
        world.run(60)
        assert [node.state for node in world.running] == ["forgetful"] * count
        assert all("basestore repair --as-is" in node.reason for node in world.running)
        for index in range(count):
            world.take_as_is(index)
        assert [node.state for node in world.running] == ["up"] * count
        assert not any(node.losses.all_open for node in world.running)
        assert [world.look(0, key).value for key in KEYS] == [b"old"] * len(KEYS)

    def test_one_that_lost_more_waits_for_what_is_said_of_the_others(self) -> None:
        world = filled()
        stop_all(world)
        world.wipe(2)
        for index in range(3):
            if index < 2:
                world.move(index)
            world.start(index)
        world.run(60)
        assert [node.state for node in world.running] == ["forgetful"] * 3
        assert "it waits for what an operator says of n1, n2" in world.node(2).reason
        for index in range(3):
            world.take_as_is(index)
        world.run(5)
        assert [node.state for node in world.running] == ["up"] * 3
        assert not any(node.losses.all_open for node in world.running)
        assert world.stored(2, KEYS[0]) is not None

    def test_the_only_replica_that_was_moved_waits_for_that_word_beside_others_that_are_up(self) -> None:
        world = filled(3, replication=1)
        world.stop(0)
        world.move(0)
        world.start(0)
        world.run(60)
        assert [node.state for node in world.running] == ["forgetful", "up", "up"]
        assert "basestore repair --as-is" in world.node(0).reason
        world.take_as_is(0)
        assert world.node(0).state == "up"
        assert not any(node.losses.all_open for node in world.running)

    def test_those_that_an_operator_calls_old_copies_recover_from_each_other(self) -> None:
        world = filled()
        stop_all(world)
        for index in range(3):
            world.move(index)
            world.configs[index] = replace(world.configs[index], forgetful=True)
            world.start(index)
        world.run(5)
        assert [node.state for node in world.running] == ["up"] * 3
        assert all(node.losses.all_open for node in world.running)

    def test_backups_of_different_ages_come_together(self) -> None:
        world = World(3)
        copies = []
        for index in range(3):
            world.put(0, f"key {index}", "v", Level.ALL)
            copies.append(world.copy_store(index))
        world.run(1)
        for index in range(3):
            world.restore(index, copies[index], in_place=False)
            world.configs[index] = replace(world.configs[index], forgetful=True)
        for index in range(3):
            world.start(index)
        world.run(5)
        assert [node.state for node in world.running] == ["up"] * 3
        for key in range(3):
            assert world.values(f"key {key}") == [b"v"] * 3

    def test_no_word_takes_a_copy_of_which_a_peer_remembers_more(self) -> None:
        world = filled()
        copy = world.copy_store(0)
        world.put(0, KEYS[0], "new", Level.ALL)
        world.run(1.5)
        world.restore(0, copy, in_place=False)
        world.start(0)
        world.settle()
        assert "rolled back" in world.node(0).reason
        assert world.state(0).facts["copied"] == ""
        world.take_as_is(0)
        assert world.node(0).state == "forgetful"

    def test_who_remembers_more_may_object_to_the_word_later(self) -> None:
        world = filled()
        copy = world.copy_store(0)
        world.crash(1)
        world.put(2, KEYS[0], "new")
        world.run(1.5)
        world.crash(2)
        world.restore(0, copy, in_place=False)
        world.start(0)
        world.start(1)
        world.settle()
        world.take_as_is(0)
        assert world.node(0).state == "up"
        world.start(2)
        world.settle()
        assert world.node(0).state == "forgetful"
        world.run(4)
        assert world.look(0, KEYS[0]).value == b"new"

    def test_a_peer_that_slept_through_the_recovery_of_a_copy_does_not_undo_it(self) -> None:
        world = filled(5, replication=5)
        copy = world.copy_store(0)
        world.put(0, KEYS[0], "new", Level.ALL)
        world.run(1.5)
        world.stop(4)
        world.restore(0, copy, in_place=False)
        world.start(0)
        world.run(4)
        assert world.node(0).state == "up"
        world.start(4)
        world.settle()
        assert [node.state for node in world.running] == ["up"] * 5

    def test_no_word_takes_a_copy_of_a_store_that_had_been_given_up(self) -> None:
        world = filled()
        copy = world.copy_store(0)
        world.wipe(0)
        world.start(0)
        world.run(4)
        world.restore(0, copy, in_place=False)
        world.start(0)
        world.settle()
        world.take_as_is(0)
        assert world.node(0).state == "forgetful"
        assert world.node(0).identity.outlived

    def test_no_word_takes_a_store_that_lost_something_else(self) -> None:
        world = filled()
        world.crash(0)
        world.engines[0].loss = "the log was cut"
        world.move(0)
        world.start(0)
        world.take_as_is(0)
        assert world.node(0).state == "forgetful"
        world.engines[0].loss = ""
        world.crash(0)
        world.move(0)
        world.start(0, link=False)
        world.take_as_is(0)
        assert world.node(0).state == "forgetful"
