"""What is mended in passing: digests, the comparison behind an answer, sessions, what was found behind.

Covers `coordinator/deferred_repair.py` and what `quorum_read.py` does after its report.
"""

from typing import Any

import pytest

from basestore.consistency import Level, Outcome
from basestore.coordinator.quorum_read import LINGER_S
from basestore.coordinator.range_scan import READS_MAX
from basestore.errors import InvalidRequest, ReadTimeout, StorageBusy
from basestore.protocol.codec import Message
from basestore.protocol.replication import Apply, Held, HeldDigest, Read, Superseded
from basestore.repair.rule import Rule
from basestore.repair.version import Record
from basestore.replica.replica import DIGEST_BYTES_MIN
from basestore.storage.engine import Batch
from tests.worlds.world import Sent, World

LONG = "v" * (2 * DIGEST_BYTES_MIN)


class TestDigests:
    def test_one_replica_sends_a_long_record_and_the_others_its_digest(self) -> None:
        world = World(3)
        world.put(0, "k", LONG, Level.ALL)
        world.log.clear()
        assert world.look(0, "k", Level.ALL).value == LONG.encode()
        assert len(world.sent(HeldDigest)) == 2
        assert not world.sent(Held)

    def test_a_short_record_comes_whole_at_once(self) -> None:
        world = World(3)
        world.put(0, "k", "v", Level.ALL)
        world.log.clear()
        world.look(0, "k", Level.ALL)
        assert len(world.sent(Held)) == 2
        assert not world.sent(HeldDigest)

    def test_a_digest_that_wins_is_followed_by_its_record(self) -> None:
        world = World(3)
        world.put(0, "k", "old", Level.ALL)
        other = next(r for r in world.replicas("k") if r != 0)
        world.plant(other, "k", LONG, world.stamp())
        result = world.look(0, "k")
        assert (result.value, result.diverged, result.repaired) == (LONG.encode(), True, 1)

    def test_who_is_asked_for_the_record_and_is_lost_is_replaced_by_another_that_holds_it(self) -> None:
        world = World(5, replication=5)
        at, one, two, *_ = world.replicas("k")
        world.put(at, "k", "old", Level.ALL)
        version = world.stamp()
        for holder in (one, two):
            world.plant(holder, "k", LONG, version)
        whole = []

        def lose(sent: Sent) -> bool:
            if isinstance(sent.message, Read) and not sent.message.digest and sent.source == at:
                whole.append(sent.target)
                return len(whole) == 1
            return False

        world.lose = lose
        call = world.get(at, "k")
        world.settle()
        world.part(at, whole[0])
        world.settle()
        assert call.read().value == LONG.encode()
        assert set(whole) == {one, two}


class TestBehindTheAnswer:
    @pytest.mark.parametrize("level", [Level.QUORUM, Level.ALL])
    def test_a_read_mends_the_replicas_it_did_not_need(self, level: Level) -> None:
        world = World(3)
        world.put(0, "k", "old", Level.ALL)
        last = world.replicas("k")[2] if world.replicas("k")[2] != 0 else world.replicas("k")[1]
        version = world.stamp()
        for holder in set(range(3)) - {last}:
            world.plant(holder, "k", "new", version)
        assert world.look(0, "k", level).value == b"new"
        assert world.values("k") == [b"new"] * 3

    def test_the_answer_does_not_wait_for_them(self) -> None:
        world = World(3)
        world.put(0, "k", "v", Level.ALL)
        last = next(r for r in reversed(world.replicas("k")) if r != 0)
        world.isolate(last)
        assert world.look(0, "k").value == b"v"
        assert world.node(0).operations.count == 1
        world.run(LINGER_S + 0.1)
        assert world.node(0).operations.count == 0

    def test_a_newer_record_of_a_replica_it_did_not_need_comes_to_all(self) -> None:
        world = World(3)
        world.put(0, "k", "old", Level.ALL)
        last = next(r for r in reversed(world.replicas("k")) if r != 0)
        world.plant(last, "k", LONG, world.stamp())
        assert world.look(0, "k").value == b"old"
        assert world.values("k") == [LONG.encode()] * 3

    def test_a_read_at_one_compares_with_the_chosen_probability(self) -> None:
        world = World(3, read_repair=0.25)
        world.put(0, "k", "v", Level.ALL)
        world.log.clear()
        for _ in range(200):
            world.look(0, "k", Level.ONE)
        compared = len(world.sent(Read, 0)) / 2
        assert 45 <= compared <= 55

    def test_a_node_that_leaves_out_what_it_can_compares_nothing_by_lot(self) -> None:
        world = World(3, read_repair=1.0)
        world.put(0, "k", "v", Level.ALL)
        world.node(0).context.load.brownout = 1
        world.log.clear()
        world.look(0, "k", Level.ONE)
        assert not world.sent(Read, 0)

    @pytest.mark.parametrize("share", [0.0, 1.0])
    def test_a_read_at_one_without_repair_never_does(self, share: float) -> None:
        world = World(3, read_repair=share)
        world.plant(1, "k", "new", world.stamp())
        for _ in range(20):
            call = world.get(0, "k", Level.ONE, repair=False)
            world.settle()
            assert not call.read().found
        assert world.values("k") == [None, b"new", None]

    @pytest.mark.parametrize("level", [Level.QUORUM, Level.ALL])
    def test_other_levels_cannot_do_without_repair(self, level: Level) -> None:
        world = World(3)
        call = world.get(0, "k", level, repair=False)
        world.settle()
        with pytest.raises(InvalidRequest, match="only a read at one"):
            call.read()

    def test_a_request_in_need_of_room_ends_it(self) -> None:
        world = World(3)
        world.put(0, "k", "v", Level.ALL)
        world.isolate(next(r for r in reversed(world.replicas("k")) if r != 0))
        world.look(0, "k")
        operations = world.node(0).operations
        assert operations.count == 1
        operations.relieve(world.now(0))
        assert operations.count == 0


class TestFloor:
    def test_a_read_at_one_asks_on_until_it_is_new_enough(self) -> None:
        world = World(3)
        world.put(0, "k", "old", Level.ALL)
        version = world.stamp()
        world.plant(2, "k", "new", version)
        assert world.look(0, "k", Level.ONE).value == b"old"
        call = world.get(0, "k", Level.ONE, floor=version)
        world.settle()
        assert call.read().value == b"new"
        assert world.values("k") == [b"new"] * 3  # a session that needed it mends them all

    def test_it_fails_when_nobody_who_answers_has_it(self) -> None:
        world = World(3)
        world.put(0, "k", "old", Level.ALL)
        call = world.get(0, "k", Level.ONE, floor=world.stamp())
        world.settle()
        with pytest.raises(ReadTimeout, match="holds what this session has seen"):
            call.read()

    def test_a_key_that_nobody_holds_does_not_reach_a_floor(self) -> None:
        world = World(3)
        call = world.get(0, "k", Level.QUORUM, floor=world.stamp())
        world.settle()
        with pytest.raises(ReadTimeout):
            call.read()

    def test_newer_than_the_floor_will_do(self) -> None:
        world = World(3)
        seen = world.put(0, "k", "seen", Level.ALL).version
        world.run(0.1)
        world.put(1, "k", "newer", Level.ALL)
        call = world.get(2, "k", Level.ONE, floor=seen)
        world.settle()
        assert call.read().value == b"newer"

    def test_where_the_first_write_wins_an_earlier_one_is_newer(self) -> None:
        world = World(3, buckets={"once": Rule.FIRST_WRITE_WINS})
        early, late = world.stamp(1), world.stamp(5)
        world.plant(0, "k", "late", late, bucket="once")
        world.plant(2, "k", "early", early, bucket="once")
        call = world.get(0, "k", Level.ONE, bucket="once", floor=late)
        world.settle()
        assert call.read().value == b"late"
        call = world.get(0, "k", Level.ONE, bucket="once", floor=early)
        world.settle()
        assert call.read().value == b"early"

    def test_at_quorum_what_the_floor_names_is_written_back_before_the_answer(self) -> None:
        world = World(3)
        world.put(0, "k", "old", Level.ALL)
        last = next(r for r in reversed(world.replicas("k")) if r != 0)
        version = world.stamp()
        world.plant(last, "k", "new", version)
        call = world.get(0, "k", Level.QUORUM, floor=version)
        world.settle()
        result = call.read()
        assert (result.value, result.diverged) == (b"new", True)
        assert result.repaired >= 1


class TestFoundBehind:
    def test_a_write_that_meets_a_newer_record_makes_it_known_to_all(self) -> None:
        world = World(3)
        world.put(0, "k", "old", Level.ALL)
        world.plant(2, "k", "new", world.stamp(1000))
        receipt = world.put(0, "k", "newer, by a slower clock")
        assert receipt.outcome is Outcome.STORED
        world.run(1.0)
        assert world.values("k") == [b"new"] * 3

    def test_many_such_writes_mend_a_row_once(self) -> None:
        world = World(3)
        world.put(0, "k", "old", Level.ALL)
        world.plant(2, "k", "new", world.stamp(5000))  # too far ahead to be overtaken
        for _ in range(5):
            world.put(0, "k", "late")
            world.run(0.05)
        world.log.clear()
        world.run(1.0)
        assert len(world.sent(Read, 0)) == 2
        assert world.values("k") == [b"new"] * 3


class TestSpeculation:
    def test_a_read_that_hears_nothing_as_quickly_as_usual_asks_another(self) -> None:
        world = World(3)
        world.put(0, "k", "v", Level.ALL)
        first, second = (r for r in world.replicas("k") if r != 0)
        for peer in world.node(0).peers.all:
            peer.latency.p99_s = 0.01
        world.isolate(first)
        call = world.get(0, "k")
        world.settle()
        assert not call.done
        world.monotonic += 0.02
        world.node(0).operations.tick(world.now(0))
        world.settle()
        assert call.read().value == b"v"
        assert {sent.target for sent in world.sent(Read, 0)} == {first, second}

    def test_a_write_is_never_sent_again(self) -> None:
        world = World(3)
        first = next(r for r in world.replicas("k") if r != 0)
        world.isolate(first)
        world.log.clear()
        world.set(0, "k", "v", Level.ALL)
        world.run(0.5)
        assert len([s for s in world.sent(Apply, 0) if s.target == first]) == 1

    def test_a_slow_replica_does_not_make_slowness_usual(self) -> None:
        """An answer is timed from when that replica was asked, not from the read's beginning."""
        world = World(3)
        world.put(0, "k", "v", Level.ALL)
        slow = next(r for r in world.replicas("k") if r != 0)
        peers = world.node(0).peers
        for peer in peers.all:
            peer.latency.p99_s = 0.01
        world.isolate(slow)
        for _ in range(600):
            call = world.get(0, "k")
            world.settle()
            world.monotonic += 0.02
            world.node(0).operations.tick(world.now(0))
            world.settle()
            assert call.read().value == b"v"
        assert peers.usual_s <= 0.01


class TestRefusals:
    def test_a_replica_that_refuses_a_write_back_is_not_sent_it_over_and_over(self) -> None:
        world = World(3)
        behind, slow = (r for r in world.replicas("k") if r != 0)
        world.plant(0, "k", "new", world.stamp(-500))
        world.hold(slow, 0)

        def refuse(batch: Batch) -> None:
            raise StorageBusy("the disk is full")

        taken, world.engines[behind].apply = world.engines[behind].apply, refuse  # type: ignore[method-assign]
        call = world.get(0, "k")
        world.settle()
        assert len(world.sent(Apply, 0)) <= 2
        world.engines[behind].apply = taken  # type: ignore[method-assign]
        world.run(0.2)
        world.release(slow, 0)
        world.run(1.0)
        assert call.read().value == b"new"
        assert world.node(0).operations.count == 0

    def test_who_refuses_the_record_once_is_asked_for_it_again(self) -> None:
        world = World(3)
        world.put(0, "k", "old", Level.ALL)
        holder = next(r for r in world.replicas("k") if r != 0)
        world.plant(holder, "k", LONG, world.stamp())
        refused: list[int] = []

        def fill(sent: Sent) -> bool:
            """The holder's disk does not keep up just when it is asked for the whole record."""
            if isinstance(sent.message, Read) and not sent.message.digest and not refused:
                refused.append(sent.target)
                world.node(holder).group_commit.unsynced_bytes = 1 << 40
                world.node(holder).group_commit.weigh()
            return False

        world.lose = fill
        call = world.get(0, "k")
        world.settle()
        world.node(holder).group_commit.unsynced_bytes = 0
        world.node(holder).group_commit.weigh()
        assert refused == [holder]
        world.run(0.3)
        assert call.read().value == LONG.encode()


def test_a_page_reads_only_so_many_rows_singly() -> None:
    world = World(3)
    for number in range(200):
        world.plant(1, f"k{number:03}", "v", world.stamp(-500))
    world.stop(2)
    world.settle()
    keys: list[bytes] = []
    after: bytes | None = b""
    while after is not None:
        world.log.clear()
        call = world.scan(0, after=after, limit=200)
        world.settle()
        assert len(world.sent(Read, 0)) <= READS_MAX
        items, after = call.page()
        keys += [item.key for item in items]
    assert keys == sorted(f"k{number:03}".encode() for number in range(200))
    assert world.node(0).context.load.scan_reads == 0


def test_a_sessions_floor_may_lie_ahead_of_this_clock() -> None:
    world = World(3)
    world.skew_ms = [1500, 0, -1500]
    world.run(4.0)
    seen = world.put(0, "k", "v").version
    call = world.get(2, "k", floor=seen)
    world.settle()
    assert call.read().value == b"v"


@pytest.mark.parametrize("kind", [Held, HeldDigest, Superseded])
def test_an_answer_of_a_replica_that_was_not_asked_is_passed_over(kind: Any) -> None:
    world = World(3)
    world.put(0, "k", "v", Level.ALL)
    first, second = (r for r in world.replicas("k") if r != 0)
    world.isolate(first)
    call = world.get(0, "k")
    world.settle()
    request = next(sent.message.id for sent in world.log[::-1] if isinstance(sent.message, Read))
    head = Record.seal(world.digester, world.row("k"), world.stamp(), b"stray").head
    strays: dict[type, Message] = {
        Held: Held(request, b"", 0),
        HeldDigest: HeldDigest(request, head, 0),
        Superseded: Superseded(request, head),
    }
    world.node(0).receive(second, world.links[0, second], [strays[kind]], world.now(0))
    world.rejoin(first)
    world.settle()
    assert call.read().value == b"v"
