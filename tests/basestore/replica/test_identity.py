"""Whether a store may be trusted: birth, forgetting, rollback, and recovery from peers.

Covers `replica/identity.py`, `peering/introductions.py` and `anti_entropy/recovery.py`.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from basestore.anti_entropy.exchanges import SILENCE_S_MAX
from basestore.consistency import Level, Outcome
from basestore.errors import StorageBusy, StorageError, Unavailable, WriteTimeout
from basestore.node import Node
from basestore.protocol.anti_entropy import Certify, Syn
from basestore.protocol.heartbeats import Remembered, StoreClaim
from basestore.protocol.replication import Applied, Held, Read, Rejected
from basestore.replica.identity import IDENTITY, Fresh, State
from basestore.storage import keyspace
from basestore.storage.engine import Batch
from basestore.storage.memory import MemoryEngine
from tests.worlds.world import World

KEYS = [f"key {number}" for number in range(20)]


def filled(count: int = 3, **options: object) -> World:
    """A cluster in which every key of KEYS is on all its replicas."""
    world = World(count, **options)  # type: ignore[arg-type]
    for key in KEYS:
        world.put(0, key, f"value of {key}", Level.ALL)
    world.run(1.5)  # heartbeats have told the sequences, and they are durable
    return world


def holds_everything(world: World, index: int) -> bool:
    return all(
        world.values(key)[index] == f"value of {key}".encode() for key in KEYS if index in world.replicas(key)
    )


class TestBirth:
    @pytest.mark.parametrize("count", [1, 3, 5, 7])
    def test_a_fresh_cluster_starts_by_itself(self, count: int) -> None:
        world = World(count)
        assert [node.state for node in world.running] == ["up"] * count

    def test_a_single_node_is_whole_at_once(self) -> None:
        world = World(1, born=False)
        assert world.start(0).identity.counts

    def test_a_newborn_waits_until_all_other_replicas_have_spoken(self) -> None:
        world = World(3, born=False)
        for index in (0, 1):
            world.start(index)
        world.run(5)
        assert [node.state for node in world.running] == ["starting"] * 2
        with pytest.raises(
            Unavailable, match="0 are alive; the one that was asked runs, but its store"
        ) as told:
            world.put(0, "k", "v", Level.ONE)
        assert told.value.starting
        world.start(2)
        world.run(0.2)
        assert [node.state for node in world.running] == ["up"] * 3
        assert world.put(0, "k", "v", Level.ALL).outcome is Outcome.STORED

    @pytest.mark.parametrize(("count", "replication"), [(4, 1), (5, 3), (5, 5), (6, 2)])
    def test_a_cluster_is_born_when_all_members_are_there(self, count: int, replication: int) -> None:
        """One that is not may hold what is looked for elsewhere now: its members were others once."""
        world = World(count, replication=replication, partitions=1, born=False)
        for index in range(count - 1):
            world.start(index)
        world.run(5)
        assert {node.state for node in world.running} == {"starting"}
        assert world.node(0).reason == f"a new store; n{count} must first say that they knew no earlier one"
        world.start(count - 1)
        world.run(0.2)
        assert {node.state for node in world.running} == {"up"}

    def test_a_member_that_comes_to_a_cluster_that_holds_data_begins_forgetful(self) -> None:
        world = World(3)
        world.part(0, 2)
        world.part(1, 2)
        world.put(0, "k", "v")
        world.cut.clear()
        for index in range(3):
            world.crash(index)
            if index < 2:  # who was whole when it was no member
                world.engines[index].apply({keyspace.peer("n3"): None})
        world.wipe(2)
        for index in range(3):
            world.start(index)
        world.settle()
        assert [node.state for node in world.running] == ["up", "up", "forgetful"]
        assert "held data before it" in world.node(2).reason
        world.run(2)
        assert world.node(2).state == "up"
        assert world.stored(2, "k") is not None

    def test_that_it_came_late_is_remembered(self) -> None:
        world = World(3)
        world.crash(2)
        for index in range(2):
            world.engines[index].apply({keyspace.peer("n3"): None})
            world.restart(index)
        world.wipe(2)
        world.lose = lambda sent: isinstance(sent.message, Remembered) and sent.target == 2
        world.start(2)
        world.settle()
        assert world.node(2).state == "starting"
        world.crash(2)
        world.lose = lambda _: False
        world.start(2)
        world.settle()
        assert world.node(2).state == "forgetful"

    def test_one_that_has_not_heard_from_a_member_that_it_counts_is_not_born(self) -> None:
        world = World(3, born=False)
        world.lose = lambda sent: (
            isinstance(sent.message, StoreClaim) and (sent.source, sent.target) == (2, 0)
        )
        for index in range(3):
            world.start(index)
        world.settle()
        assert [node.state for node in world.running] == ["starting", "up", "starting"]
        world.lose = lambda _: False
        world.run(3)
        assert [node.state for node in world.running] == ["up"] * 3

    def test_a_newborn_answers_no_read_and_takes_no_write(self) -> None:
        world = World(3, born=False)
        world.start(0)
        world.start(1)
        world.run(0.2)
        read = world.get(0, "k", Level.ONE)
        world.settle()
        with pytest.raises(Unavailable):
            read.read()

    def test_birth_counts_only_once_it_is_durable(self) -> None:
        world = World(3, born=False)
        for index in range(3):
            world.start(index)
        world.freeze(0)
        world.run(1)
        assert world.node(0).state == "starting"
        world.thaw(0)
        world.run(0.2)
        assert world.node(0).state == "up"

    def test_a_peer_says_that_it_knew_nobody_only_once_it_will_remember(self) -> None:
        world = World(3, born=False)
        for index in range(3):
            world.start(index)
        world.freeze(1)
        world.run(1)
        assert not world.sent(Remembered, 1)
        assert world.node(0).state == "starting"
        world.thaw(1)
        world.run(0.2)
        assert world.node(0).state == "up"

    def test_a_crash_before_birth_only_delays_it(self) -> None:
        world = World(3, born=False)
        world.start(0)
        world.start(1)
        world.run(0.2)
        world.restart(0)
        world.run(0.2)
        world.start(2)
        world.run(0.2)
        assert [node.state for node in world.running] == ["up"] * 3

    def test_a_whole_cluster_restarts_whole(self) -> None:
        world = filled()
        for index in range(3):
            world.crash(index)
        for index in range(3):
            world.start(index)
        world.settle()
        assert [node.state for node in world.running] == ["up"] * 3
        assert all(world.look(0, key, Level.ALL).found for key in KEYS)


class TestWipedNodes:
    @pytest.mark.parametrize(("count", "replication"), [(3, 3), (5, 3), (5, 5), (7, 3)])
    def test_a_wiped_node_does_not_pass_for_new_and_gets_all_back(self, count: int, replication: int) -> None:
        world = filled(count, replication=replication)
        world.wipe(1)
        world.start(1)
        world.settle()
        assert world.node(1).state == "forgetful"
        assert "knew an earlier store" in world.state(1).facts["reason"]
        world.run(2)
        assert world.node(1).state == "up"
        assert holds_everything(world, 1)

    def test_it_is_silent_until_it_has_recovered(self) -> None:
        world = filled()
        world.wipe(1)
        world.lose = lambda sent: isinstance(sent.message, Syn)  # no exchange gets through
        world.start(1)
        world.run(3)
        assert world.node(1).state == "forgetful"
        world.log.clear()
        assert world.put(0, KEYS[0], "new").outcome is Outcome.STORED
        assert world.look(2, KEYS[0]).value == b"new"
        assert world.stored(1, KEYS[0]) is None
        assert not [s for s in world.log if s.source == 1 and isinstance(s.message, Held | Applied)]
        with pytest.raises(Unavailable):
            world.look(0, KEYS[0], Level.ALL)
        with pytest.raises(Unavailable):
            world.look(1, KEYS[0], Level.ALL)
        assert world.look(1, KEYS[0], Level.QUORUM).value == b"new"  # it still coordinates
        world.lose = lambda _: False
        world.run(SILENCE_S_MAX + 2)  # the exchanges that were begun have been given up by then
        assert world.node(1).state == "up"
        assert world.look(1, KEYS[0], Level.ALL).value == b"new"

    def test_it_refuses_what_it_is_asked_meanwhile(self) -> None:
        world = filled()
        world.wipe(1)
        world.lose = lambda sent: isinstance(sent.message, Syn)
        world.start(1)
        world.settle()
        outbox = world.links[1, 0]
        world.node(1).receive(0, outbox, [Read(7, world.row(KEYS[0]), 0, False, False, False)], world.now(1))
        world.settle()
        assert [s.message for s in world.sent(Rejected, 1)] == [Rejected(7, "its store is forgetful", True)]

    def test_one_other_replica_of_three_is_not_enough_to_recover_from(self) -> None:
        world = filled()
        world.crash(2)
        world.wipe(1)
        world.start(1)
        world.run(10)
        assert world.node(1).state != "up"
        assert world.placement.meeting(0) == 2
        world.start(2)
        world.run(2)
        assert world.node(1).state == "up"
        assert holds_everything(world, 1)

    def test_two_of_five_wiped_at_once_get_all_back(self) -> None:
        world = filled(5, replication=5)
        for index in (1, 3):
            world.wipe(index)
        for index in (1, 3):
            world.start(index)
        world.run(3)
        assert [node.state for node in world.running] == ["up"] * 5
        assert holds_everything(world, 1)
        assert holds_everything(world, 3)

    def test_a_write_on_one_quorum_survives_the_wipe_of_one_of_its_holders(self) -> None:
        world = World(3)
        world.part(0, 2)
        world.settle()
        world.put(0, "k", "v")
        assert world.values("k") == [b"v", b"v", None]
        world.wipe(1)
        world.start(1)
        world.run(2)
        world.crash(0)
        world.settle()
        assert world.look(1, "k").value == b"v"

    def test_recovery_starts_again_after_a_crash_in_the_middle(self) -> None:
        world = filled()
        world.wipe(1)
        world.lose = lambda sent: isinstance(sent.message, Certify) and sent.source == 0
        world.start(1)
        world.run(1)
        world.restart(1)
        world.lose = lambda _: False
        world.run(2)
        assert world.node(1).state == "up"
        assert holds_everything(world, 1)

    def test_recovery_counts_only_once_it_is_durable(self) -> None:
        world = filled()
        world.wipe(1)
        world.start(1)
        world.settle()
        world.freeze(1)
        world.run(3)
        assert world.node(1).state == "forgetful"
        world.restart(1)
        assert world.node(1).state == "forgetful"
        world.run(3)
        assert world.node(1).state == "up"

    def test_tombstones_are_recovered_too(self) -> None:
        world = filled()
        world.delete(0, KEYS[0], Level.ALL)
        world.settle()
        world.run(1)
        world.wipe(1)
        world.start(1)
        world.run(2)
        record = world.stored(1, KEYS[0])
        assert record is not None
        assert record.tombstone

    def test_more_rows_than_fit_on_a_page_are_recovered(self) -> None:
        world = World(3, partitions=1)
        for number in range(1500):
            world.set(0, f"{number:05}", "v", Level.ALL)
        world.settle()
        world.run(1)
        world.wipe(1)
        world.start(1)
        world.run(2)
        assert world.node(1).state == "up"
        assert world.node(1).summaries.records == 1500

    def test_a_cluster_of_which_all_are_forgetful_recovers(self) -> None:
        world = filled(durability="interval")
        for index in range(3):
            world.crash(index)
        for index in range(3):
            world.start(index)
        assert [node.state for node in world.running] == ["forgetful"] * 3
        world.run(3)
        assert [node.state for node in world.running] == ["up"] * 3
        assert all(holds_everything(world, index) for index in range(3))


class TestUncleanStops:
    def test_a_crash_under_interval_makes_forgetful(self) -> None:
        world = filled(durability="interval")
        node = world.restart(1)
        assert node.state == "forgetful"
        assert "not stopped cleanly" in node.identity.reason
        world.run(2)
        assert world.node(1).state == "up"
        assert holds_everything(world, 1)

    def test_a_clean_stop_under_interval_does_not(self) -> None:
        world = filled(durability="interval")
        world.stop(1)
        world.start(1)
        world.settle()
        assert world.node(1).state == "up"
        assert world.restart(1).state == "forgetful"  # the next stop was not clean

    def test_a_crash_under_sync_does_not(self) -> None:
        world = filled()
        world.restart(1)
        world.settle()
        assert world.node(1).state == "up"

    def test_a_store_once_run_under_interval_is_judged_by_that(self) -> None:
        world = filled(durability="interval")
        world.configs[1] = replace(world.configs[1], durability="sync")
        assert world.restart(1).state == "forgetful"

    def test_an_engine_that_reports_a_loss_makes_forgetful(self) -> None:
        world = filled()
        world.crash(1)
        world.engines[1].loss = "the log was cut"
        node = world.start(1)
        assert (node.state, node.identity.reason) == ("forgetful", "the log was cut")
        world.engines[1].loss = ""
        world.run(2)
        assert world.node(1).state == "up"

    def test_forgetting_outlives_a_restart(self) -> None:
        world = filled()
        world.crash(1)
        world.engines[1].loss = "the log was cut"
        world.start(1, link=False)
        world.crash(1)
        world.engines[1].loss = ""
        assert world.start(1, link=False).state == "forgetful"


class TestRollback:
    def test_a_restored_backup_is_found_out_by_the_peers(self) -> None:
        world = filled()
        copy = world.copy_store(1)
        world.put(0, "later", "v", Level.ALL)
        world.run(1.5)
        world.restore(1, copy)
        world.start(1)
        world.settle()
        assert world.node(1).state == "forgetful"
        assert "rolled back" in world.node(1).identity.reason
        world.run(3)
        assert world.node(1).state == "up"
        assert world.values("later")[1] == b"v"

    def test_it_is_found_out_across_generations(self) -> None:
        world = filled()
        copy = world.copy_store(1)
        world.restart(1)
        world.run(0.2)
        world.put(0, "later", "v", Level.ALL)
        world.restart(1)
        world.run(1.5)
        world.restore(1, copy)
        world.start(1)
        world.run(3)
        assert world.node(1).state == "up"
        assert world.values("later")[1] == b"v"

    def test_one_lost_acknowledgement_is_enough(self) -> None:
        world = filled()
        world.run(2)
        copy = world.copy_store(1)
        world.put(0, "later", "v", Level.ALL)  # its ack tells node 0 the sequence; nothing else does
        world.restore(1, copy)
        world.part(1, 2)
        world.start(1)
        world.settle()
        assert world.node(1).state == "forgetful"

    def test_nothing_is_read_from_it_while_it_does_not_know(self) -> None:
        world = filled()
        copy = world.copy_store(1)
        world.put(0, KEYS[0], "new", Level.ALL)
        world.run(1.5)
        world.restore(1, copy)
        for other in (0, 2):
            world.hold(other, 1)  # nobody has told it yet
        world.start(1)
        world.settle()
        assert not world.node(0).peers.alive[1]
        with pytest.raises(Unavailable):
            world.look(0, KEYS[0], Level.ALL)
        with pytest.raises(Unavailable):
            world.look(1, KEYS[0])

    def test_the_backup_of_a_store_that_was_given_up_is_found_out(self) -> None:
        world = filled()
        copy = world.copy_store(1)
        world.wipe(1)
        world.start(1)
        world.run(3)
        assert world.node(1).state == "up"
        world.put(0, "later", "v", Level.ALL)
        world.run(1.5)
        world.restore(1, copy)  # the old disk comes back
        world.start(1)
        world.run(0.05)
        assert world.node(1).state == "forgetful"
        world.run(3)
        assert world.node(1).state == "up"
        assert world.values("later")[1] == b"v"

    def test_a_peer_that_slept_through_a_recovery_does_not_undo_it(self) -> None:
        world = filled(5, replication=5)
        world.stop(4)
        world.settle()
        world.wipe(1)
        world.start(1)
        world.run(3)
        assert world.node(1).state == "up"
        world.start(4)
        world.run(1)
        assert [node.state for node in world.running] == ["up"] * 5

    def test_an_unsynced_tail_lost_in_a_crash_is_no_rollback(self) -> None:
        world = filled()
        world.freeze(1)
        world.put(0, "k", "v")
        world.run(0.5)
        world.restart(1)
        world.run(1)
        assert [node.state for node in world.running] == ["up"] * 3


class TestVouching:
    def test_a_peer_that_remembers_nothing_does_not_vouch(self) -> None:
        world = World(3)
        world.put(0, "k", "old", Level.ALL)
        backup = world.copy_store(0)
        world.put(0, "k", "new", Level.ALL)
        world.restore(0, backup)
        world.wipe(1)
        world.part(0, 2)
        world.start(1)
        world.start(0)
        world.run(3)
        assert not world.node(0).identity.counts
        world.join(0, 2)
        world.run(15)
        assert world.node(0).identity.counts
        assert world.look(0, "k").value == b"new"

    def test_a_doubt_that_a_busy_store_refused_is_written_down_later(self) -> None:
        world = World(3)
        world.put(0, "k", "old", Level.ALL)
        backup = world.copy_store(1)
        world.put(0, "k", "new", Level.ALL)
        world.restore(1, backup)
        for other in (0, 2):
            world.part(1, other)
        node = world.start(1)
        world.engines[1].apply, kept = _busy, world.engines[1].apply  # type: ignore[method-assign]
        world.join(1, 0)
        world.settle()
        world.engines[1].apply = kept  # type: ignore[method-assign]
        world.run(0.5)
        assert not node.identity.counts
        world.crash(1)
        for other in (0, 2):
            world.part(1, other)
        assert world.start(1).state == "forgetful"


def _busy(batch: Batch) -> None:
    raise StorageBusy("busy")


class TestStaleWords:
    def test_late_answers_to_an_earlier_start_are_ignored(self) -> None:
        world = World(3)
        world.freeze(1, 2)
        world.set(0, "k", "v")
        world.settle()
        old = next(iter(world.node(0).operations.each())).ids[0]
        world.crash(1)
        world.crash(2)
        world.restart(0)
        world.start(1)
        world.start(2)
        world.run(0.2)
        world.freeze(1, 2)
        call = world.set(0, "k", "w")
        world.settle()
        assert not call.done
        world.node(0).receive(1, world.links[0, 1], [Applied([old], b"g", 1)], world.now(0))
        world.node(0).receive(2, world.links[0, 2], [Applied([old], b"g", 1)], world.now(0))
        world.settle()
        assert not call.done

    def test_what_comes_on_a_replaced_link_is_not_heard(self) -> None:
        world = World(3)
        old = world.links[0, 1]
        world.wipe(1)
        world.lose = lambda sent: isinstance(sent.message, Syn)
        world.start(1)
        world.settle()
        before = world.node(0).identity.claim()
        world.node(0).receive(
            1, old, [StoreClaim(b"x" * 16, b"y" * 8, 10**6, True, False, b"", False)], world.now(0)
        )
        world.settle()
        assert not world.node(0).peers.alive[1]
        assert world.node(0).identity.claim() == before
        world.lose = lambda _: False
        world.run(6)
        assert [node.state for node in world.running] == ["up"] * 3

    def test_the_acknowledgement_of_a_lost_store_does_not_make_a_quorum(self) -> None:
        """A replica applies a write, is wiped, and recovers from the others before the write has
        reached them: by then the write must have ended."""
        world = World(5, replication=3)
        at = world.outsider("k")
        wiped, slow, never = world.replicas("k")
        world.hold(at, slow)
        world.part(at, never)
        world.settle()
        call = world.set(at, "k", "v")
        world.settle()
        assert world.stored(wiped, "k") is not None
        world.wipe(wiped)
        world.start(wiped)
        while world.node(wiped).state != "up":
            assert not call.done
            world.run(0.05)
            if call.done:
                break
        world.release(at, slow)
        world.settle()
        with pytest.raises(WriteTimeout):
            call.receipt()

    def test_a_store_that_is_found_out_later_waits_as_long(self) -> None:
        """It counted until then: what was acknowledged with its help may still be under way."""
        world = filled()
        copy = world.copy_store(1)
        world.put(0, "later", "v", Level.ALL)
        world.part(1, 0)
        world.part(1, 2)
        world.run(1.5)
        world.crash(2)
        world.engines[2].apply({keyspace.peer("n2"): None})  # it has forgotten what it knew, and says nothing
        world.restore(1, copy)
        world.part(2, 0)
        world.start(1)
        world.start(2)
        world.join(1, 2)
        world.run(3)
        world.log.clear()
        world.join(1, 0)
        world.settle()
        assert world.node(1).state == "forgetful"
        world.join(0, 2)
        world.run(0.9)
        assert not world.sent(Syn, 1)
        world.run(0.3)
        assert world.sent(Syn, 1)

    def test_a_store_that_lost_something_waits_until_all_requests_of_before_have_ended(self) -> None:
        world = filled()
        world.wipe(1)
        world.start(1)
        world.run(0.9)
        assert not world.sent(Syn, 1)
        world.run(0.3)
        assert world.sent(Syn, 1)

    def test_a_node_alone_does_not_serve_until_a_peer_has_found_nothing_missing(self) -> None:
        world = filled()
        for index in range(3):
            world.crash(index)
        world.start(1)
        world.run(5)
        assert world.node(1).state == "starting"
        with pytest.raises(Unavailable):
            world.look(1, KEYS[0], Level.ONE)
        world.start(2)
        world.settle()
        assert world.look(1, KEYS[0], Level.ONE).found

    def test_a_peer_keeps_its_memory_until_the_store_has_confirmed(self) -> None:
        world = filled()
        copy = world.copy_store(1)
        world.put(0, "later", "v", Level.ALL)
        world.run(1.5)
        world.restore(1, copy)
        for other in (0, 2):
            world.hold(other, 1)
        world.start(1)
        world.settle()
        world.restart(1)  # before it has heard of its loss; now it has yet another generation
        for other in (0, 2):
            world.release(other, 1)
        world.settle()
        assert world.node(1).state == "forgetful"


class TestDamage:
    @pytest.mark.parametrize("damage", [b"", b"\xff", b"\x80", b"\x86\x01\x02\x03\x04\x05\x06", b"\x01"])
    def test_a_damaged_identity_is_a_clear_error_that_names_the_store(self, damage: bytes) -> None:
        world = World(1)
        world.stop(0)
        world.engines[0].apply({IDENTITY: damage})
        config = replace(world.configs[0], directory=Path("/the/store"))
        with pytest.raises(StorageError, match="/the/store is damaged"):
            Node(config, world.engines[0], Fresh(b"s" * 16, b"g" * 8, 1), world.now(0), {})


def test_a_new_store_is_newborn() -> None:
    world = World(3, born=False)
    node = Node(world.configs[0], MemoryEngine(), Fresh(b"s" * 16, b"g" * 8, 1), world.now(0), {})
    assert node.identity.state is State.NEWBORN
