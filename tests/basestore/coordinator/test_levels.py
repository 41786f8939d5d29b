"""Write and read levels against replicas that are alive, dead or slow.

Covers `coordinator/quorum_write.py`, `set_delete.py` and `get.py`.
"""

import pytest

from basestore.consistency import COUNTED, Level, Outcome, ReplicaState
from basestore.errors import InvalidRequest, ReadTimeout, ReplicaFailure, Unavailable, WriteTimeout
from basestore.protocol.replication import DIRECT, Apply, Held, Hinted, Keep, Kept, Read, Rejected, Superseded
from tests.worlds.world import World

LEVELS = [Level.ONE, Level.QUORUM, Level.ALL]
SIZES = [(1, 1), (3, 3), (5, 3), (5, 5), (7, 3), (7, 7)]


def alive_of(world: World, key: str, dead: int) -> list[int]:
    """Stop `dead` replicas of a key, the last in placement order, and say which still run."""
    replicas = world.replicas(key)
    for index in replicas[len(replicas) - dead :]:
        world.stop(index)
    world.settle()
    return list(replicas[: len(replicas) - dead])


def slow_down(world: World, key: str, slow: int) -> list[int]:
    """Keep all that is said to and by `slow` replicas of a key; say which are quick."""
    replicas = world.replicas(key)
    for index in replicas[len(replicas) - slow :]:
        world.isolate(index)
    return list(replicas[: len(replicas) - slow])


@pytest.mark.parametrize(("count", "replication"), SIZES)
@pytest.mark.parametrize("level", LEVELS)
def test_a_write_and_a_read_meet_when_all_are_alive(count: int, replication: int, level: Level) -> None:
    world = World(count, replication=replication)
    for at in range(count):
        receipt = world.put(at, f"key {at}", f"value {at}", level)
        assert receipt.outcome is Outcome.STORED
        assert receipt.required == level.required(replication)
        assert receipt.acknowledged >= receipt.required
        assert sorted(receipt.replicas) == sorted(f"n{r + 1}" for r in world.replicas(f"key {at}"))
    for at in range(count):
        result = world.look((at + 1) % count, f"key {at}", level)
        assert (result.found, result.value) == (True, f"value {at}".encode())
        assert result.required == level.required(replication)


@pytest.mark.parametrize(("count", "replication"), SIZES)
def test_every_replica_gets_the_write_whatever_the_level(count: int, replication: int) -> None:
    world = World(count, replication=replication)
    for level in COUNTED:
        key = f"key at {level.name}"
        world.put(0, key, "v", level)
        holders = {index for index, value in enumerate(world.values(key)) if value == b"v"}
        assert holders == set(world.replicas(key))


@pytest.mark.parametrize(("count", "replication"), [size for size in SIZES if size[1] > 1])
@pytest.mark.parametrize("level", LEVELS)
def test_a_level_is_served_by_exactly_enough_living_replicas(
    count: int, replication: int, level: Level
) -> None:
    world = World(count, replication=replication)
    required = level.required(replication)
    alive = alive_of(world, "k", replication - required)
    assert world.put(alive[0], "k", "v", level).outcome is Outcome.STORED
    assert world.look(alive[-1], "k", level).value == b"v"


@pytest.mark.parametrize(("count", "replication"), [size for size in SIZES if size[1] > 1])
@pytest.mark.parametrize("level", [Level.QUORUM, Level.ALL])
def test_one_living_replica_too_few_is_unavailable_and_nothing_is_sent(
    count: int, replication: int, level: Level
) -> None:
    world = World(count, replication=replication)
    required = level.required(replication)
    alive = alive_of(world, "k", replication - required + 1)
    world.log.clear()
    with pytest.raises(Unavailable) as refused:
        world.put(alive[0], "k", "v", level)
    assert (refused.value.required, refused.value.alive) == (required, required - 1)
    assert refused.value.definite
    with pytest.raises(Unavailable):
        world.look(alive[0], "k", level)
    assert not world.sent(Apply)
    assert all(value is None for value in world.values("k"))


@pytest.mark.parametrize(("count", "replication"), [size for size in SIZES if size[1] > 1])
@pytest.mark.parametrize("level", LEVELS)
def test_one_slow_replica_too_many_times_a_write_out_and_tells_its_version(
    count: int, replication: int, level: Level
) -> None:
    world = World(count, replication=replication)
    required = level.required(replication)
    quick = slow_down(world, "k", replication - required + 1)
    at = quick[0] if quick else world.replicas("k")[0]
    world.freeze(*(() if quick else (at,)))  # at ONE the coordinator's own disk must be slow as well
    call = world.set(at, "k", "v", level, timeout_s=1.0)
    world.run(0.9)
    assert not call.done
    world.run(0.2)
    with pytest.raises(WriteTimeout) as late:
        call.receipt()
    assert (late.value.received, late.value.required) == (required - 1, required)
    assert not late.value.definite
    stored = world.stored(at, "k")
    assert stored is not None
    assert late.value.version == stored.version


@pytest.mark.parametrize("level", LEVELS)
def test_a_slow_minority_does_not_delay_a_level_that_can_do_without_it(level: Level) -> None:
    world = World(5, replication=5)
    quick = slow_down(world, "k", 5 - level.required(5))
    assert world.put(quick[0], "k", "v", level).outcome is Outcome.STORED
    assert world.look(quick[0], "k", level).value == b"v"


def test_a_read_that_too_few_replicas_answer_times_out() -> None:
    world = World(3)
    world.put(0, "k", "v")
    world.isolate(1)
    world.isolate(2)
    call = world.get(0, "k", timeout_s=0.5)
    world.run(0.6)
    with pytest.raises(ReadTimeout) as late:
        call.read()
    assert (late.value.received, late.value.required) == (1, 2)


def test_a_read_asks_another_replica_when_one_is_slow() -> None:
    world = World(3)
    world.put(0, "k", "v")
    first, second = (r for r in world.replicas("k") if r != 0)
    world.isolate(first)
    call = world.get(0, "k", timeout_s=1.0)
    world.run(0.3)
    assert call.read().value == b"v"
    assert world.sent(Held, second)


def test_replicas_that_refuse_fail_a_write_before_its_deadline() -> None:
    world = World(3)
    for index in (1, 2):  # their clocks go back: the stamp lies too far in their future
        world.skew_ms[index] = -10_000
    call = world.set(0, "k", "v")
    world.settle()
    with pytest.raises(ReplicaFailure) as failed:
        call.receipt()
    assert set(failed.value.reasons) == {"n2", "n3"}
    assert "ahead of this clock" in failed.value.reasons["n2"]
    assert failed.value.version is not None
    assert not failed.value.definite


def test_a_replica_lost_on_the_way_fails_level_all_at_once() -> None:
    world = World(3)
    world.hold(0, 2)
    call = world.set(0, "k", "v", Level.ALL)
    world.settle()
    assert not call.done
    world.part(0, 2)
    world.settle()
    with pytest.raises(ReplicaFailure) as failed:
        call.receipt()
    assert failed.value.reasons == {"n3": "the link was lost"}
    assert world.node(0).hints.count(2) == 1


def test_reads_at_any_are_refused() -> None:
    world = World(1)
    with pytest.raises(InvalidRequest, match="level any is for writes"):
        world.look(0, "k", Level.ANY)


class TestAny:
    """Level ANY: a replica, or a durable hint."""

    def test_a_replica_is_enough_and_no_hint_is_made(self) -> None:
        world = World(3)
        receipt = world.put(0, "k", "v", Level.ANY)
        assert receipt.outcome is Outcome.STORED
        assert receipt.acknowledged >= 1
        assert all(world.node(0).hints.count(member) == 0 for member in (1, 2))

    def test_a_hint_counts_when_no_replica_can_be_reached(self) -> None:
        world = World(5)
        at = world.outsider("k")
        for replica in world.replicas("k"):
            world.part(at, replica)
        world.settle()
        receipt = world.put(at, "k", "v", Level.ANY)
        assert receipt.outcome is Outcome.STORED
        assert receipt.acknowledged == 0
        assert ReplicaState.HINTED in receipt.replicas.values()
        assert all(value is None for value in world.values("k"))
        for replica in world.replicas("k"):
            world.join(at, replica)
        world.run(2.0)
        assert [world.values("k")[r] for r in world.replicas("k")] == [b"v"] * 3

    def test_a_hint_counts_only_once_it_is_durable(self) -> None:
        world = World(5)
        at = world.outsider("k")
        for replica in world.replicas("k"):
            world.part(at, replica)
        world.settle()
        world.freeze(at)
        call = world.set(at, "k", "v", Level.ANY)
        world.settle()
        assert not call.done
        world.thaw(at)
        world.settle()
        assert call.receipt().outcome is Outcome.STORED

    def test_slow_replicas_are_waited_for_until_half_the_time_is_gone(self) -> None:
        world = World(5)
        at = world.outsider("k")
        for replica in world.replicas("k"):
            world.isolate(replica)
        call = world.set(at, "k", "v", Level.ANY, timeout_s=1.0)
        world.run(0.4)
        assert not call.done
        world.run(0.2)
        assert ReplicaState.HINTED in call.receipt().replicas.values()

    def test_hints_that_cannot_be_stored_fail_it(self) -> None:
        world = World(5, hint_bytes_max=0)
        at = world.outsider("k")
        for replica in world.replicas("k"):
            world.part(at, replica)
        world.settle()
        call = world.set(at, "k", "v", Level.ANY)
        world.settle()
        with pytest.raises(ReplicaFailure):
            call.receipt()

    @pytest.mark.parametrize("level", LEVELS)
    def test_hints_count_for_no_other_level(self, level: Level) -> None:
        world = World(5)
        at = world.outsider("k")
        for replica in world.replicas("k"):
            world.hold(at, replica)
        call = world.set(at, "k", "v", level)
        world.settle()
        for replica in world.replicas("k"):
            world.part(at, replica)
        world.settle()
        with pytest.raises(ReplicaFailure):
            call.receipt()
        assert all(world.node(at).hints.count(replica) == 1 for replica in world.replicas("k"))


class TestDurability:
    """Persist before promise."""

    @pytest.mark.parametrize("level", LEVELS)
    def test_no_acknowledgement_leaves_before_the_sync(self, level: Level) -> None:
        world = World(3)
        world.freeze(0, 1, 2)
        call = world.set(0, "k", "v", level)
        world.settle()
        assert world.values("k") == [b"v"] * 3  # applied, visible inside, not acknowledged
        assert not call.done
        for count, index in enumerate((2, 1, 0), 1):
            world.thaw(index)
            world.settle()
            assert call.done == (count >= level.required(3))

    def test_a_reader_waits_until_what_it_is_shown_is_durable(self) -> None:
        world = World(3)
        world.freeze(1)
        world.put(0, "k", "v")
        read = world.get(1, "k", Level.ONE)
        world.settle()
        assert world.stored(1, "k") is not None
        assert not read.done
        world.thaw(1)
        world.settle()
        assert read.read().value == b"v"

    def test_a_scan_waits_until_what_it_is_shown_is_durable(self) -> None:
        world = World(1)
        world.freeze(0)
        world.set(0, "k", "v", Level.ONE)
        world.settle()
        scan = world.scan(0, level=Level.ONE)
        world.settle()
        assert not scan.done
        world.thaw(0)
        world.settle()
        assert [item.key for item in scan.page()[0]] == [b"k"]

    def test_a_reader_of_other_rows_does_not_wait(self) -> None:
        world = World(1)
        world.put(0, "other", "v", Level.ONE)
        world.freeze(0)
        world.set(0, "k", "v", Level.ONE)
        world.settle()
        assert world.look(0, "other", Level.ONE).value == b"v"

    def test_the_word_superseded_waits_until_what_supersedes_is_durable(self) -> None:
        world = World(3)
        world.skew_ms[1] = -500
        world.hold(0, 1)
        world.freeze(2)
        world.set(0, "k", "new")
        world.settle()
        world.set(1, "k", "old")
        world.settle()
        assert not world.sent(Superseded, 2)
        world.thaw(2)
        world.settle()
        assert len(list(world.sent(Superseded, 2))) == 1

    def test_what_was_acknowledged_survives_a_crash_of_all(self) -> None:
        world = World(3)
        world.put(0, "k", "v", Level.ALL)
        for index in range(3):
            world.crash(index)
        for index in range(3):
            world.start(index)
        world.run(0.2)
        assert world.look(2, "k", Level.ALL).value == b"v"

    def test_what_was_not_acknowledged_may_be_lost_by_a_crash_and_was_shown_to_nobody(self) -> None:
        world = World(3)
        world.freeze(0, 1, 2)
        write = world.set(0, "k", "v", Level.ONE)
        read = world.get(1, "k", Level.ONE)
        world.settle()
        again = world.get(1, "k", Level.ONE)
        world.settle()
        assert not write.done
        assert not again.done
        assert not read.done or not read.read().found
        for index in range(3):
            world.crash(index)
        for index in range(3):
            world.start(index)
        world.run(0.2)
        assert not world.look(0, "k", Level.ALL).found

    @pytest.mark.parametrize("durability", ["interval", "memory"])
    def test_weaker_settings_acknowledge_at_once(self, durability: str) -> None:
        world = World(3, durability=durability)  # type: ignore[arg-type]
        world.freeze(0, 1, 2)
        assert world.put(0, "k", "v", Level.ALL).outcome is Outcome.STORED


class TestReceipts:
    def test_a_write_under_a_newer_one_is_superseded_and_names_it(self) -> None:
        world = World(3)
        winner = world.stamp(1000)
        for index in range(3):
            world.plant(index, "k", "new", winner)
        receipt = world.put(0, "k", "old")
        assert receipt.outcome is Outcome.SUPERSEDED
        assert receipt.superseded_by == winner
        assert receipt.version is not None
        assert receipt.version < winner
        assert world.values("k") == [b"new"] * 3

    def test_one_newer_record_does_not_supersede_what_a_quorum_applied(self) -> None:
        world = World(3)
        world.plant(2, "k", "new", world.stamp(1000))
        receipt = world.put(0, "k", "old")
        assert receipt.outcome is Outcome.STORED

    def test_a_quorum_of_newer_records_supersedes_level_all_at_once(self) -> None:
        world = World(3)
        winner = world.stamp(1000)
        world.plant(1, "k", "new", winner)
        world.isolate(2)
        receipt = world.put(0, "k", "old", Level.ALL)
        assert receipt.outcome is Outcome.SUPERSEDED
        assert receipt.superseded_by == winner

    def test_a_retry_with_the_same_version_is_the_same_write(self) -> None:
        world = World(3)
        world.isolate(1)
        world.isolate(2)
        call = world.set(0, "k", "v", timeout_s=0.5)
        world.run(0.6)
        with pytest.raises(WriteTimeout) as late:
            call.receipt()
        for index in (1, 2):
            world.rejoin(index)
        for at in (0, 1, 2):
            retry = world.set(at, "k", "v", Level.ALL, version=late.value.version)
            world.settle()
            receipt = retry.receipt()
            assert receipt.outcome is Outcome.STORED
            assert receipt.version == late.value.version

    def test_the_same_version_with_another_value_is_refused(self) -> None:
        world = World(3)
        version = world.put(0, "k", "v", Level.ALL).version
        call = world.set(1, "k", "another", Level.ONE, version=version)
        world.settle()
        with pytest.raises(ReplicaFailure) as failed:
            call.receipt()
        assert "held with another content" in failed.value.reasons["n1"]
        assert world.values("k") == [b"v"] * 3

    def test_a_version_from_the_future_is_refused_before_anything_is_sent(self) -> None:
        world = World(3)
        call = world.set(0, "k", "v", version=world.stamp(10_000))
        world.settle()
        with pytest.raises(InvalidRequest, match="lies in the future"):
            call.receipt()
        assert not world.sent(Apply)

    def test_a_late_apply_is_dropped_by_the_replica(self) -> None:
        world = World(3)
        world.lose = lambda sent: (
            isinstance(sent.message, Hinted)
            or (isinstance(sent.message, Apply) and sent.message.way != DIRECT)
        )
        world.hold(0, 1)
        call = world.set(0, "k", "v", timeout_s=0.5)
        world.run(0.7)
        assert call.receipt().outcome is Outcome.STORED  # by nodes 0 and 2
        world.release(0, 1)
        world.settle()
        assert world.stored(1, "k") is None
        assert any(isinstance(s.message, Rejected) for s in world.log if s.source == 1)

    def test_local_messages_have_no_form_on_the_wire(self) -> None:
        world = World(3)
        world.stop(2)
        world.settle()
        world.put(0, "k", "v")
        assert world.node(0).hints.count(2) == 1
        assert not world.sent(Keep)
        assert not world.sent(Kept)


class TestPassingRefusals:
    """A replica that refuses for now gets a hint."""

    def test_the_last_replica_to_answer_may_refuse(self) -> None:
        world = World(3)
        world.put(0, "k", "old", Level.ALL)
        world.spoil(2, "k")
        world.lose = lambda sent: isinstance(sent.message, Read)  # so that it is not healed
        world.hold(2, 0)
        write = world.set(0, "k", "v")
        world.settle()
        assert write.receipt().outcome is Outcome.STORED
        world.release(2, 0)
        world.settle()
        assert world.node(0).hints.count(2) == 1
        assert world.node(0).operations.count == 0

    def test_at_any_a_hint_counts_when_all_replicas_refuse_for_now(self) -> None:
        world = World(5)
        at = world.outsider("k")
        world.put(at, "k", "old", Level.ALL)
        for replica in world.replicas("k"):
            world.spoil(replica, "k")
        receipt = world.put(at, "k", "v", Level.ANY)
        assert receipt.outcome is Outcome.STORED
        assert receipt.acknowledged == 0
