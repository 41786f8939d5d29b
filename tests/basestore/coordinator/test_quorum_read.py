"""Reads: what is returned, what is repaired before the answer, and expiry."""

import pytest

from basestore.consistency import Level, Outcome
from basestore.errors import ReadTimeout, ReplicaFailure
from basestore.protocol.replication import COPY, Apply, Read, Rejected
from tests.worlds.world import Sent, World


def test_a_missing_key_is_a_result() -> None:
    world = World(3)
    result = world.look(0, "k")
    assert (result.found, result.value, result.version) == (False, None, None)
    assert not result.diverged


def test_a_deleted_key_is_not_found_but_has_a_version() -> None:
    world = World(3)
    world.put(0, "k", "v")
    deleted = world.delete(1, "k")
    world.settle()
    receipt = deleted.receipt()
    assert receipt.outcome is Outcome.STORED
    result = world.look(2, "k")
    assert (result.found, result.value, result.version) == (False, None, receipt.version)


def test_a_stale_replica_is_repaired_before_the_answer() -> None:
    world = World(3)
    world.put(0, "k", "old", Level.ALL)
    world.plant(1, "k", "new", world.stamp())
    result = world.look(0, "k")
    assert (result.value, result.diverged, result.repaired) == (b"new", True, 1)
    assert world.values("k")[:2] == [b"new", b"new"]


def test_the_answer_waits_until_the_repair_is_durable() -> None:
    world = World(3)
    world.plant(1, "k", "new", world.stamp())
    world.freeze(0)
    world.isolate(2)
    call = world.get(0, "k")
    world.run(0.3)
    assert not call.done
    world.thaw(0)
    world.settle()
    assert call.read().value == b"new"


def test_a_replica_with_nothing_is_repaired_as_well() -> None:
    world = World(3)
    world.plant(2, "k", "v", world.stamp())
    result = world.look(2, "k", Level.ALL)
    assert (result.value, result.repaired) == (b"v", 2)
    assert world.values("k") == [b"v"] * 3


def test_a_failed_write_that_was_seen_once_is_seen_for_ever() -> None:
    world = World(3)
    world.put(0, "k", "old", Level.ALL)
    world.plant(2, "k", "half a write", world.stamp())
    assert world.look(2, "k").value == b"half a write"
    for gone in range(3):
        world.crash(gone)
        world.settle()
        survivor = (gone + 1) % 3
        assert world.look(survivor, "k").value == b"half a write"
        world.start(gone)
        world.run(0.2)


@pytest.mark.parametrize("count", [3, 5, 7])
def test_quorum_reads_never_go_back_whichever_quorums_answer(count: int) -> None:
    world = World(count, replication=count)
    world.put(0, "k", "old", Level.ALL)
    world.plant(count - 1, "k", "new", world.stamp())
    seen_new = False
    for at in range(count):
        value = world.look(at, "k").value
        assert not (seen_new and value == b"old")
        seen_new |= value == b"new"
    assert seen_new


def test_a_read_adopts_the_newer_record_that_its_write_back_meets() -> None:
    world = World(3)
    world.put(0, "k", "first", Level.ALL)
    world.plant(0, "k", "second", world.stamp())
    first = next(r for r in world.replicas("k") if r != 0)

    def learn_meanwhile(sent: Sent) -> bool:
        """Just before the write-back arrives, the replica comes to hold a third record."""
        if isinstance(sent.message, Apply):
            world.plant(first, "k", "third", world.stamp(500))
        return False

    world.lose = learn_meanwhile
    result = world.look(0, "k")
    assert result.value == b"third"
    assert [world.values("k")[i] for i in (0, first)] == [b"third", b"third"]


def test_a_replica_that_refuses_to_read_is_replaced_by_another() -> None:
    world = World(3)
    world.put(0, "k", "v", Level.ALL)
    world.spoil(0, "k")
    assert world.look(0, "k").value == b"v"


def test_a_read_fails_with_reasons_when_too_few_are_left_to_ask() -> None:
    world = World(3)
    world.put(0, "k", "v", Level.ALL)
    world.spoil(0, "k")
    with pytest.raises(ReplicaFailure) as failed:
        world.look(0, "k", Level.ALL)
    assert list(failed.value.reasons) == ["n1"]
    assert "key b'k' is damaged" in failed.value.reasons["n1"]


def test_a_link_lost_in_a_read_makes_it_ask_another() -> None:
    world = World(3)
    world.put(0, "k", "v", Level.ALL)
    first = next(r for r in world.replicas("k") if r != 0)
    world.isolate(first)
    call = world.get(0, "k")
    world.settle()
    assert not call.done
    world.part(0, first)
    world.settle()
    assert call.read().value == b"v"


def test_a_read_through_a_node_without_the_key_works() -> None:
    world = World(5)
    at = world.outsider("k")
    world.put(at, "k", "v")
    assert world.look(at, "k").value == b"v"
    assert world.stored(at, "k") is None


def test_a_replica_that_confirmed_counts_though_its_link_is_lost_afterwards() -> None:
    world = World(5, replication=5)
    replicas = world.replicas("k")
    at = replicas[0]
    world.put(at, "k", "old", Level.ALL)
    world.plant(at, "k", "new", world.stamp())
    for index in replicas[3:]:
        world.stop(index)
    world.settle()
    world.freeze(replicas[2])
    call = world.get(at, "k")
    world.run(0.2)
    assert not call.done
    assert world.stored(replicas[1], "k") == world.stored(at, "k")
    world.part(at, replicas[1])  # it has told that it took the write-back
    world.settle()
    world.thaw(replicas[2])
    world.settle()
    assert call.read().value == b"new"


class TestExpiry:
    def test_a_value_expires_by_the_coordinators_clock(self) -> None:
        world = World(3)
        call = world.set(0, "k", "v", ttl_s=5)
        world.settle()
        version = call.receipt().version
        result = world.look(1, "k")
        assert version is not None
        assert (result.found, result.expires_ms) == (True, version.wall_ms + 5000)
        world.run(4.8)
        assert world.look(1, "k").found
        world.run(0.3)
        result = world.look(1, "k")
        assert (result.found, result.value, result.version) == (False, None, version)

    def test_a_retry_keeps_the_expiry_of_the_first_attempt(self) -> None:
        world = World(3)
        first = world.set(0, "k", "v", ttl_s=5)
        world.settle()
        version = first.receipt().version
        world.run(1)
        again = world.set(1, "k", "v", ttl_s=5, version=version)
        world.settle()
        assert again.receipt().outcome is Outcome.STORED
        expiries = {record.expires_ms for i in range(3) if (record := world.stored(i, "k"))}
        assert version is not None
        assert expiries == {version.wall_ms + 5000}

    def test_an_expired_value_still_wins_over_older_ones(self) -> None:
        world = World(3)
        world.put(0, "k", "old", Level.ALL)
        world.plant(1, "k", "new", world.stamp(1), expires_ms=world.stamp(100).wall_ms)
        world.run(0.5)
        for at in range(3):
            assert not world.look(at, "k", Level.ALL).found

    def test_a_new_write_ends_the_expiry(self) -> None:
        world = World(3)
        world.set(0, "k", "v", ttl_s=1)
        world.settle()
        world.put(0, "k", "w")
        world.run(2)
        assert world.look(0, "k").value == b"w"


class TestDamage:
    """One record whose digest fails is never served, and healed from the others."""

    def test_it_is_named_never_served_and_healed(self) -> None:
        world = World(3)
        world.put(0, "k", "v", Level.ALL)
        world.spoil(1, "k")
        assert [world.look(at, "k").value for at in range(3)] == [b"v"] * 3
        assert world.look(0, "k", Level.ONE).value == b"v"
        with pytest.raises(ReplicaFailure, match="key b'k' is damaged"):
            world.look(1, "k", Level.ALL)
        refusals = {s.message.reason for s in world.log if isinstance(s.message, Rejected)}
        assert all("'default', key b'k'" in reason for reason in refusals)
        world.run(1.2)
        assert world.values("k") == [b"v"] * 3
        assert world.look(1, "k", Level.ALL).value == b"v"

    def test_a_damaged_row_takes_no_write_and_gets_a_hint(self) -> None:
        world = World(3)
        world.put(0, "k", "v", Level.ALL)
        world.spoil(1, "k")
        with pytest.raises(ReplicaFailure, match="damaged"):
            world.put(0, "k", "w", Level.ALL)
        world.run(3)
        assert world.values("k") == [b"w"] * 3

    def test_a_row_that_nobody_else_holds_is_removed(self) -> None:
        world = World(3)
        world.plant(1, "k", "v", world.stamp())
        world.spoil(1, "k")
        world.look(1, "k")
        world.run(1.2)
        assert world.values("k") == [None] * 3
        assert not world.look(1, "k", Level.ALL).found

    def test_it_is_healed_only_from_enough_replicas(self) -> None:
        world = World(3)
        world.put(0, "k", "v", Level.ALL)
        world.spoil(1, "k")
        world.part(1, 2)
        with pytest.raises(ReplicaFailure):
            world.look(1, "k")
        world.run(1)
        assert len(world.node(1).replica.damaged) == 1
        world.join(1, 2)
        world.run(3)
        assert world.values("k") == [b"v"] * 3

    def test_a_scan_does_not_serve_it(self) -> None:
        world = World(3)
        world.put(0, "k", "v", Level.ALL)
        world.spoil(1, "k")
        world.put(0, "a", "before", Level.ALL)
        for _ in range(2):
            call = world.scan(1, after=b"a")
            world.settle()
            assert [item.value for item in call.page()[0]] == [b"v"]
            assert world.sent(Read, 1) == []  # two others hold it alike
        assert len(world.node(1).replica.damaged) == 1
        world.stop(2)
        world.settle()
        call = world.scan(1)
        world.settle()
        assert ([item.value for item in call.page()[0]], call.page()[1]) == ([b"before"], b"a")
        call = world.scan(1, after=b"a")
        world.settle()
        with pytest.raises(ReplicaFailure, match="'k' is damaged"):
            call.page()

    def test_damage_everywhere_is_not_served_by_anyone(self) -> None:
        world = World(3)
        world.put(0, "k", "v", Level.ALL)
        for index in range(3):
            world.spoil(index, "k")
        for at in range(3):
            with pytest.raises(ReplicaFailure):
                world.look(at, "k", Level.ONE)


def test_read_repair_comes_in_as_a_copy() -> None:
    world = World(3)
    world.plant(1, "k", "v", world.stamp(60_000))  # far ahead of every clock
    assert world.look(0, "k", Level.ALL).value == b"v"
    assert {sent.message.way for sent in world.log if isinstance(sent.message, Apply)} <= {COPY}
    assert world.values("k") == [b"v"] * 3


def test_a_read_whose_replicas_answered_and_did_not_come_to_agree_says_just_that() -> None:
    world = World(2)
    world.plant(0, "k", "v", world.stamp())
    world.lose = lambda sent: isinstance(sent.message, Apply)  # nobody is brought up to date
    call = world.get(0, "k", Level.ALL)
    world.settle()
    world.run(1.5)
    with pytest.raises(ReadTimeout, match="2 replicas answered, but 2 did not come to agree in time"):
        call.read()
