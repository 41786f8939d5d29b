"""Hints: kept for members that missed a write, delivered when they are back.

Covers `handoff/delivery.py`, `hints.py` and `pile.py`.
"""

import pytest

from basestore.consistency import Level, Outcome, ReplicaState
from basestore.errors import ReplicaFailure, StorageBusy, Unavailable, WriteTimeout
from basestore.handoff.delivery import BESIDE_CLIENTS
from basestore.protocol.client import Failed
from basestore.protocol.operator import Replay
from basestore.protocol.replication import DIRECT, Applied, Apply, Hinted, Settled
from basestore.repair.version import Record
from basestore.storage.engine import Batch
from basestore.storage.keyspace import AGE, DEBT, HINT
from tests.worlds.stalling import Stalling
from tests.worlds.world import Sent, World


def hints(world: World, at: int) -> int:
    """Hints on a node's disk."""
    return len(list(world.engines[at].scan(HINT, HINT + b"\xff")))


def test_a_member_that_was_down_gets_what_it_missed() -> None:
    world = World(3)
    world.stop(2)
    world.settle()
    for number in range(300):  # more than one window
        world.set(0, f"{number}", "v", Level.QUORUM)
    world.settle()
    assert world.node(0).hints.count(2) == hints(world, 0) == 300
    assert world.state(0).hints == {"n1": 0, "n2": 0, "n3": 300}
    world.start(2)
    world.run(3)
    assert all(world.values(f"{number}")[2] == b"v" for number in range(300))
    assert world.node(0).hints.count(2) == hints(world, 0) == 0
    assert world.node(0).operations.count == 0


def test_a_hint_names_the_store_of_its_keeper_wherever_that_stands_among_the_replicas() -> None:
    world = World(3, partitions=8)
    world.stop(2)
    world.settle()
    for number in range(40):
        world.set(0, f"{number}", "v", Level.QUORUM)
    world.settle()
    pile = world.node(0).hints.piles[2]
    kept = [hint.stores for _, hint in world.node(0).hints.by_age(pile, pile.ages, 100)]
    assert len(kept) == 40
    assert all(world.node(0).identity.store in stores for stores in kept)


def test_a_hint_does_not_name_the_store_that_follows_the_one_that_took_the_write() -> None:
    world = World(4, replication=3)
    row = world.row("k")
    taker, *silent = world.replicas("k")
    (keeper,) = set(range(4)) - {taker, *silent}
    for each in silent:
        world.hold(keeper, each)
    world.set(keeper, "k", "v", Level.ONE)
    world.run(0.05)
    world.wipe(taker)
    world.start(taker)
    world.run(2)
    kept = [hint.stores for _, hint in world.node(keeper).hints.of_row(row)]
    assert kept == [b"", b""]


def test_of_several_hints_for_a_row_only_the_winner_is_kept() -> None:
    world = World(3)
    world.stop(2)
    world.settle()
    for value in ("a", "b", "c"):
        world.put(0, "k", value)
    assert world.node(0).hints.count(2) == hints(world, 0) == 1
    world.start(2)
    world.run(2)
    assert world.values("k")[2] == b"c"


def test_a_hint_survives_a_crash_of_its_holder() -> None:
    world = World(3)
    world.stop(2)
    world.settle()
    world.put(0, "k", "v", Level.ONE)
    world.restart(0)
    world.run(0.2)
    assert world.node(0).hints.count(2) == 1
    world.start(2)
    world.run(2)
    assert world.values("k")[2] == b"v"


def test_a_crash_of_the_holder_in_the_middle_of_a_delivery_loses_no_hint() -> None:
    world = World(3)
    world.stop(2)
    world.settle()
    for number in range(600):
        world.set(0, f"{number}", "v")
    world.settle()
    world.start(2)
    while not world.node(0).peers.alive[2]:
        world.turn()
    world.freeze(0)
    world.run(0.4)
    assert any(world.values(f"{number}")[2] == b"v" for number in range(600))
    world.restart(0)
    world.run(4)
    assert all(world.values(f"{number}")[2] == b"v" for number in range(600))
    assert hints(world, 0) == 0


def test_a_delivery_whose_answer_is_lost_with_the_link_is_repeated() -> None:
    world = World(3)
    world.stop(2)
    world.settle()
    world.put(0, "k", "v")
    world.start(2)
    world.lose = lambda sent: isinstance(sent.message, Applied) and sent.source == 2
    world.run(0.5)
    assert hints(world, 0) == 1
    world.lose = lambda _: False
    world.unlink(0, 2)
    world.link(0, 2)
    world.run(3)
    assert hints(world, 0) == 0


def test_a_delivery_under_way_on_a_link_that_is_replaced_is_repeated() -> None:
    world = World(3)
    world.stop(2)
    world.settle()
    world.put(0, "k", "v")
    world.start(2)
    world.lose = lambda sent: isinstance(sent.message, Hinted)
    world.run(0.5)
    world.lose = lambda _: False
    world.link(0, 2)  # the peer dials again; the old link was never seen to break
    world.run(3)
    assert world.values("k")[2] == b"v"
    assert hints(world, 0) == 0


def test_a_hint_that_was_replaced_while_its_delivery_was_under_way_is_delivered_too() -> None:
    world = World(3)
    world.stop(2)
    world.settle()
    world.put(0, "k", "old")
    world.start(2)
    world.settle()
    world.freeze(2)
    world.run(0.1)  # the first delivery waits for its answer
    assert world.stored(2, "k") is not None
    assert hints(world, 0) == 1
    world.lose = lambda sent: (
        isinstance(sent.message, Apply) and sent.message.way == DIRECT and sent.target == 2
    )
    world.set(0, "k", "new", timeout_s=0.3)
    world.run(0.5)  # its own delivery fails, and it takes the place of the hint under way
    world.thaw(2)
    world.run(3)
    assert world.values("k") == [b"new"] * 3
    assert hints(world, 0) == 0


def test_a_hint_that_is_refused_stays_for_the_next_round() -> None:
    world = World(3)
    world.put(0, "k", "old", Level.ALL)
    world.stop(2)
    world.settle()
    world.put(0, "k", "v")
    world.spoil(2, "k")
    world.start(2)
    world.part(2, 1)  # it cannot heal from one replica
    world.run(1.5)
    assert hints(world, 0) == 1
    world.join(2, 1)
    world.run(5)
    assert world.values("k") == [b"v"] * 3
    assert hints(world, 0) == 0


def test_hints_have_a_bound_and_what_does_not_fit_is_told() -> None:
    world = World(3, hint_bytes_max=200)
    world.stop(2)
    world.settle()
    first = world.put(0, "k", "v", Level.ONE)
    second = world.set(0, "l", "v" * 200, Level.QUORUM)
    world.settle()
    assert first.outcome is Outcome.STORED
    assert second.receipt().outcome is Outcome.STORED
    assert second.receipt().replicas["n3"] in (ReplicaState.PENDING, ReplicaState.FAILED)
    assert world.node(0).hints.count(2) == 1


def test_a_write_that_timed_out_leaves_hints_for_the_silent() -> None:
    world = World(3)
    world.isolate(2)
    world.set(0, "k", "v", timeout_s=0.5)
    world.run(0.7)
    assert world.node(0).hints.count(2) == 1
    world.rejoin(2)
    world.run(3)
    assert world.values("k") == [b"v"] * 3


def test_a_delivered_hint_never_beats_a_newer_record() -> None:
    world = World(3)
    world.stop(2)
    world.settle()
    world.put(0, "k", "old")
    world.plant(2, "k", "newer", world.stamp(1000))
    world.start(2)
    world.run(2)
    assert world.values("k")[2] == b"newer"
    assert hints(world, 0) == 0


def test_a_hint_is_delivered_however_old_its_stamp_or_far_ahead() -> None:
    world = World(3)
    world.stop(2)
    world.settle()
    world.put(0, "k", "v")
    world.skew_ms[2] = -60_000
    world.start(2)
    world.run(2)
    assert world.values("k")[2] == b"v"


class TestBusyStores:
    """A store that takes no batch offers it again: until then nobody is told that anything of it was stored,
    nor that it was not."""

    def test_nothing_is_acknowledged_and_the_others_decide(self) -> None:
        world = World(3)
        stall = Stalling(world, 1)
        receipt = world.put(0, "k", "v", Level.QUORUM)
        assert receipt.outcome is Outcome.STORED
        assert receipt.acknowledged == 2
        assert world.values("k") == [b"v", None, b"v"]
        stall.end()
        world.run(2)
        assert world.values("k") == [b"v"] * 3

    def test_a_write_is_acknowledged_once_the_store_has_taken_it(self) -> None:
        world = World(3)
        for other in (0, 2):
            world.hold(1, other)
        stall = Stalling(world, 1)
        call = world.set(1, "k", "v", Level.ONE)
        world.run(0.5)
        assert not call.done
        assert world.stored(1, "k") is None
        stall.end()
        world.run(0.1)
        assert call.receipt().outcome is Outcome.STORED
        assert world.stored(1, "k") is not None

    def test_a_read_does_not_see_a_row_before_it_is_stored(self) -> None:
        world = World(3)
        for other in (0, 2):
            world.hold(1, other)
        stall = Stalling(world, 1)
        world.set(1, "k", "v", Level.ONE)
        waiting = world.get(1, "k", Level.ONE)
        world.settle()
        refused = world.get(1, "k", Level.ONE, timeout_s=0.2)
        world.run(0.5)
        assert not waiting.done
        assert isinstance(refused.answer, Failed)  # by now: here it is refused, and nobody else answers
        stall.end()
        world.run(0.1)
        assert waiting.read().value == b"v"

    def test_what_it_has_stored_before_is_read_as_ever(self) -> None:
        world = World(3)
        world.put(0, "old", "v", Level.ALL)
        stalls = [Stalling(world, at) for at in (1, 2)]
        world.set(0, "k", "v", Level.QUORUM)
        world.run(0.5)
        assert all(world.node(at).group_commit.stalled for at in (1, 2))
        assert world.look(0, "old", Level.ALL).value == b"v"
        assert world.look(1, "old", Level.QUORUM).value == b"v"
        for stall in stalls:
            stall.end()

    def test_a_replay_is_refused_for_each_delivery_stages_rows(self) -> None:
        world = World(3)
        stall = Stalling(world, 1)
        world.set(1, "k", "v", Level.ONE)
        world.settle()
        call = world.ask(1, Replay)
        world.settle()
        answer = call.reply()
        assert isinstance(answer, Failed)
        assert "the disk does not keep up; nothing was done. Try again in 0.1 s" in answer.text
        stall.end()

    def test_a_refused_batch_is_offered_once_a_tick(self) -> None:
        world = World(3)
        stall = Stalling(world, 1)
        world.set(1, "k", "v", Level.ONE)
        world.settle()
        offered = stall.refused
        for _ in range(20):
            world.node(1).step(world.now(1))
        assert stall.refused == offered
        world.run(0.5)
        assert offered < stall.refused <= offered + 11
        stall.end()

    def test_with_one_replica_nothing_piles_up_behind_it(self) -> None:
        world = World(3, replication=1, reconcile=True)
        world.run(2)
        stall = Stalling(world, 1)
        key = next(key for key in map(str, range(99)) if world.replicas(key) == (1,))
        world.set(1, key, "v", Level.ONE)
        world.run(1)
        assert world.node(1).group_commit.stalled
        held = world.node(1).group_commit.held
        world.run(60)
        assert world.node(1).group_commit.held <= held + 10
        stall.end()

    def test_each_row_is_counted_once(self) -> None:
        world = World(3)
        world.put(0, "before", "v", Level.ALL)
        stall = Stalling(world, 1)
        world.put(0, "k", "v")
        world.run(0.5)
        stall.end()
        world.run(3)
        assert world.node(1).summaries.records == 2
        world.restart(1)
        assert world.node(1).summaries.records == 2

    def test_a_hint_whose_write_has_failed_at_any_may_still_be_kept(self) -> None:
        world = World(5)
        at = world.outsider("k")
        for replica in world.replicas("k"):
            world.part(at, replica)
        world.settle()
        stall = Stalling(world, at)
        call = world.set(at, "k", "v", Level.ANY, timeout_s=0.5)
        world.run(0.4)
        assert not call.done
        world.run(0.3)
        with pytest.raises((WriteTimeout, ReplicaFailure)):
            call.receipt()
        stall.end()
        world.run(0.1)
        assert sum(world.node(at).hints.count(r) for r in world.replicas("k")) == 3

    def test_new_work_is_refused_and_the_batch_does_not_grow(self) -> None:
        world = World(3)
        stall = Stalling(world, 1)
        world.set(1, "k", "v", Level.ONE)
        world.settle()
        node = world.node(1)
        assert node.group_commit.full
        refused = [world.set(1, f"k{number}", "v") for number in range(100)]
        world.run(3)
        assert {type(call.answer) for call in refused} == {Failed}
        assert len(node.group_commit.rows) < 30
        for number in range(20):
            world.put(0, f"k{number}", "v", Level.QUORUM)
        assert len(node.group_commit.rows) < 30
        stall.end()
        world.run(0.1)
        assert not node.group_commit.full

    def test_deliveries_wait_until_the_store_takes_batches_again(self) -> None:
        world = World(3)
        world.stop(2)
        world.settle()
        world.put(0, "k", "v")
        stall = Stalling(world, 0)
        world.node(0).group_commit.stage(b"mtest", b"")
        world.settle()
        world.start(2)
        world.run(3)
        assert world.values("k")[2] is None
        assert world.node(0).hints.count(2) == hints(world, 0) == 1
        stall.end()
        world.run(3)
        assert world.values("k")[2] == b"v"
        assert world.node(0).hints.count(2) == hints(world, 0) == 0

    def test_what_was_heard_of_a_peer_is_not_taken_for_remembered(self) -> None:
        world = World(3, born=False)
        for index in range(3):
            world.start(index, link=False)
        stall = Stalling(world, 1)
        for a, b in ((0, 1), (0, 2), (1, 2)):
            world.link(a, b)
        world.run(5)
        assert world.node(0).state == "starting"
        stall.end()
        world.run(5)
        assert [node.state for node in world.running] == ["up"] * 3
        world.restart(1)
        world.wipe(0)
        world.start(0)
        world.settle()
        assert world.node(0).state == "forgetful"

    def test_the_coordinator_is_told_and_keeps_a_hint(self) -> None:
        world = World(3)
        world.isolate(2)
        stall = Stalling(world, 1)
        call = world.set(0, "k", "v", timeout_s=0.5)
        world.run(0.6)
        with pytest.raises(WriteTimeout) as late:
            call.receipt()
        assert late.value.received == 1
        stall.end()


def test_lost_messages_between_linked_nodes_are_noticed_by_silence() -> None:
    world = World(3, timeout_ms_max=10_000)

    def silent(sent: Sent) -> bool:
        return sent.source == 2

    world.lose = silent
    call = world.set(0, "k", "v", Level.ALL, timeout_s=10)
    world.run(2.6)
    assert call.done  # not alive any more: ALL cannot be reached
    assert world.node(0).hints.count(2) == 1


class TestDebt:
    """Where no hint is kept, it is marked what the member may lack."""

    def test_a_hint_without_room_leaves_a_durable_debt(self) -> None:
        world = World(3, hint_bytes_max=300)
        world.stop(2)
        world.settle()
        stored = [world.put(0, f"k{n}", "v" * 50) for n in range(5)]
        summary = world.node(0).hints.summary()
        assert [(pile.member, pile.count, pile.only_copies) for pile in summary] == [(2, 2, 0)]
        missed: dict[int, int] = {}
        for number, receipt in enumerate(stored):
            assert receipt.version is not None
            if world.engines[0].get(HINT + b"\0\2n3" + world.row(f"k{number}")) is None:
                partition = int.from_bytes(world.row(f"k{number}")[:2])
                missed[partition] = min(missed.get(partition, 1 << 60), receipt.version.wall_ms)
        assert summary[0].debt == missed
        world.restart(0)
        assert world.node(0).hints.summary() == summary

    def test_who_is_told_that_a_hint_is_not_kept_hears_it_when_the_debt_is_durable(self) -> None:
        world = World(3, hint_bytes_max=0)
        world.stop(2)
        world.settle()
        call = world.set(0, "k", "v", Level.ALL)
        world.settle()
        with pytest.raises(Unavailable):
            call.receipt()
        world.put(0, "k", "v")
        assert [key for key, _ in world.engines[0].scan(DEBT, DEBT + b"\xff")] == [
            DEBT + b"\0\2n3" + world.row("k")[:2]
        ]

    def test_a_hint_that_has_become_too_old_leaves_a_debt(self) -> None:
        world = World(3, hint_age_s_max=60)
        world.stop(2)
        world.settle()
        receipt = world.put(0, "k", "v")
        world.run(50)
        assert world.node(0).hints.count(2) == 1
        world.run(20)
        assert world.node(0).hints.count(2) == hints(world, 0) == 0
        (pile,) = world.node(0).hints.summary()
        assert receipt.version is not None
        assert list(pile.debt.values()) == [receipt.version.wall_ms]
        assert not list(world.engines[0].scan(AGE, AGE + b"\xff"))

    def test_an_only_copy_does_not_age(self) -> None:
        world = World(5, hint_age_s_max=60)
        for replica in world.replicas("k"):
            world.stop(replica)
        world.settle()
        at = world.outsider("k")
        world.set(at, "k", "v", Level.ANY)
        world.run(100)
        assert {pile.only_copies for pile in world.node(at).hints.summary()} == {1}
        for replica in world.replicas("k"):
            world.start(replica)
        world.run(3)
        assert world.look(at, "k", Level.ALL).value == b"v"

    def test_only_copies_have_a_share_of_their_own(self) -> None:
        world = World(5, hint_bytes_max=1000)
        row_keys = [f"k{n}" for n in range(40)]
        replicas = world.replicas("k")
        same = [key for key in row_keys if world.replicas(key) == replicas]
        for replica in replicas:
            world.stop(replica)
        world.settle()
        at = world.outsider("k")
        outcomes = []
        for key in same:
            call = world.set(at, key, "v" * 100, Level.ANY)
            world.run(1.1)
            outcomes.append(type(call.answer).__name__)
        assert outcomes[0] == "Written"
        assert outcomes[-1] == "Failed"
        for pile in world.node(at).hints.summary():
            assert pile.bytes <= 500

    def test_hints_of_a_batch_that_is_refused_are_kept_or_owed_once_it_is_taken(self) -> None:
        world = World(3, hint_bytes_max=400)
        world.stop(2)
        world.settle()
        world.put(0, "a", "v")
        stall = Stalling(world, 0)
        for key in ("b", "c", "d"):
            world.set(0, key, "v" * 50)
        world.settle()
        stall.end()
        world.run(0.1)
        engine = world.engines[0]
        assert world.node(0).hints.count(2) == hints(world, 0)
        owed = {int.from_bytes(key[-2:]) for key, _ in engine.scan(DEBT + b"\0\2n3", DEBT + b"\0\2n4")}
        (pile,) = (pile for pile in world.node(0).hints.summary() if pile.member == 2)
        assert pile.debt.keys() == owed
        for key in ("b", "c", "d"):
            hinted = engine.get(HINT + b"\0\2n3" + world.row(key)) is not None
            assert hinted or int.from_bytes(world.row(key)[:2]) in owed


class TestDelivery:
    def test_the_oldest_hints_go_first(self) -> None:
        world = World(3)
        world.stop(2)
        world.settle()
        written = []
        for number in range(40):
            written.append(world.put(0, f"k{number * 7 % 40}", "v").version)
            world.run(0.05)
        world.log.clear()
        world.start(2)
        world.run(5)
        sent = [Record(copy.record).version for copy in copies(world)]
        assert sent == written

    def test_beside_requests_only_a_few_leave_at_once(self) -> None:
        world = World(3)
        world.stop(2)
        world.settle()
        for number in range(300):
            world.set(0, f"k{number}", "v")
        world.settle()
        world.isolate(1)
        world.get(0, "k0", Level.QUORUM, timeout_s=1.0)  # under way for a while
        world.start(2)
        world.settle()
        world.log.clear()
        world.run(0.05)
        assert len(copies(world)) <= BESIDE_CLIENTS

    def test_it_rests_when_the_member_refuses_and_replay_ends_the_rest(self) -> None:
        world = World(3)
        world.stop(2)
        world.settle()
        for number in range(30):
            world.put(0, f"k{number}", "v")
        world.start(2)
        world.node(2).group_commit.unsynced_bytes += 1 << 40  # its disk does not keep up
        world.node(2).group_commit.weigh()
        world.run(0.3)
        world.node(2).group_commit.unsynced_bytes -= 1 << 40
        world.node(2).group_commit.weigh()
        left = world.node(0).hints.count(2)
        assert left > 0
        world.run(0.2)
        assert world.node(0).hints.count(2) == left
        world.node(0).delivery.replay(world.now(0))
        world.run(0.3)
        assert world.node(0).hints.count(2) == 0


def copies(world: World) -> list[Hinted]:
    """The hints that the first node has sent, in order."""
    sent = (sent.message for sent in world.log if sent.source == 0)
    return [message for message in sent if isinstance(message, Hinted)]


def refusing(batch: Batch) -> None:
    raise StorageBusy("the disk is full")


def test_a_node_that_stops_leaves_hints_for_whoever_has_not_answered() -> None:
    world = World(3)
    world.isolate(2)
    call = world.set(0, "k", "v")
    world.settle()
    assert call.receipt().outcome is Outcome.STORED
    world.stop(0)
    world.rejoin(2)
    world.unlink(0, 2)
    assert world.engines[0].get(HINT + b"\0\2n3" + world.row("k")) is not None
    world.start(0)
    world.run(2)
    assert world.values("k") == [b"v"] * 3


class TestOnlyCopies:
    def test_a_repetition_at_quorum_does_not_take_it_for_a_copy_of_many(self) -> None:
        """The same write, first at ANY and then at QUORUM, and no replica got either."""
        world = World(5, hint_age_s_max=60)
        at = world.outsider("k")
        for replica in world.replicas("k"):
            world.hold(at, replica)
        first = world.set(at, "k", "v", Level.ANY)
        world.run(1.1)
        version = first.receipt().version
        again = world.set(at, "k", "v", Level.QUORUM, version=version)
        world.run(1.1)
        assert isinstance(again.answer, Failed)
        assert {pile.only_copies for pile in world.node(at).hints.summary()} == {1}
        for replica in world.replicas("k"):
            world.unlink(at, replica)
        world.run(100)
        for replica in world.replicas("k"):
            world.release(at, replica)
            world.link(at, replica)
        world.run(3)
        assert world.look(at, "k", Level.ALL).value == b"v"


def test_hints_of_a_write_at_any_that_a_replica_has_are_no_only_copies() -> None:
    """The hint for a member that is down is asked for before any replica can have answered."""
    world = World(3, hint_age_s_max=60)
    world.stop(2)
    world.settle()
    world.put(0, "k", "v", Level.ANY)
    (pile,) = world.node(0).hints.summary()
    assert (pile.count, pile.only_copies) == (1, 0)
    world.run(100)
    (pile,) = world.node(0).hints.summary()
    assert (pile.count, len(pile.debt)) == (0, 1)
    assert world.state(0).facts["debt n3"] == "1"


def test_a_hint_that_the_cursor_has_passed_by_is_tried_again_though_new_ones_come() -> None:
    world = World(3)
    world.stop(2)
    world.settle()
    world.put(0, "first", "v")
    lost: list[Sent] = []

    def lose(sent: Sent) -> bool:
        """The first copy, and from then on all that is sent directly, so that new hints come."""
        if sent.target != 2 or not isinstance(sent.message, Hinted):
            return sent.target == 2 and isinstance(sent.message, Apply)
        lost.append(sent)
        return len(lost) == 1

    world.lose = lose
    world.start(2)
    world.run(0.5)
    assert len(lost) == 1
    for number in range(600):
        world.set(0, f"k{number}", "v", Level.ONE, timeout_s=0.1)
        world.run(0.05)
    assert world.values("first")[2] == b"v"


def test_an_only_copy_that_was_named_is_waited_for_after_a_pause_of_all() -> None:
    """What its keeper says meanwhile is only about to be heard: nothing is closed beyond it."""
    world = World(4, replication=3, partitions=1, drift_ms_max=200, reconcile=True)
    keeper, replicas = world.outsider("k"), world.replicas("k")
    world.lose = lambda sent: isinstance(sent.message, Apply | Hinted) and sent.source == keeper
    call = world.set(keeper, "k", "v", Level.ANY, timeout_s=0.5)
    world.run(1)
    version = call.receipt().version
    assert version is not None
    world.monotonic += 10
    for replica in replicas:
        world.node(replica).tick(world.now(replica))
        assert world.node(replica).closed_stamps.close((0,), world.now(replica))[0] < version.stamp
    world.lose = lambda _: False
    world.run(5)
    assert [world.values("k")[replica] for replica in replicas] == [b"v"] * 3


@pytest.mark.parametrize("lost", [False, True])
def test_a_copy_of_what_may_be_lost_is_kept_for_an_operator(lost: bool) -> None:
    world = World(3, partitions=1, reconcile=True)
    world.run(5)
    row, node = world.row("k"), world.node(0)
    record, summary = Record.seal(world.digester, row, world.stamp(), b"value"), node.summaries.of[0]
    stamp = int.from_bytes(record.head[:8])
    summary.closed = summary.stable = stamp
    summary.gone = stamp if lost else 0
    of = node.identity.store_of("n2")
    node.receive(1, world.links[0, 1], [Hinted(7, row, record.blob, of)], world.now(0))
    world.settle()
    answers = [sent.message for sent in world.log if sent.source == 0 and isinstance(sent.message, Settled)]
    assert answers == [Settled(7, stamp, lost)], "what is nowhere may be there yet"
