"""Hints: kept for members that missed a write, delivered when they are back."""

import pytest

from basestore.consistency import Level, Outcome, ReplicaState
from basestore.errors import StorageBusy, WriteTimeout
from basestore.messages import DIRECT, HINTED_COPY, Applied, Apply
from basestore.storage.engine import HINT, Batch
from tests.basestore.world import Sent, World


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
    assert world.node(0).handoff.count(2) == hints(world, 0) == 300
    assert world.state(0).hints == {"n1": 0, "n2": 0, "n3": 300}
    world.start(2)
    world.run(3)
    assert all(world.values(f"{number}")[2] == b"v" for number in range(300))
    assert world.node(0).handoff.count(2) == hints(world, 0) == 0
    assert world.node(0).operations.count == 0


def test_of_several_hints_for_a_row_only_the_winner_is_kept() -> None:
    world = World(3)
    world.stop(2)
    world.settle()
    for value in ("a", "b", "c"):
        world.put(0, "k", value)
    assert world.node(0).handoff.count(2) == hints(world, 0) == 1
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
    assert world.node(0).handoff.count(2) == 1
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
    world.freeze(0)
    world.start(2)
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
    world.lose = lambda sent: isinstance(sent.message, Apply) and sent.message.way == HINTED_COPY
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
    assert world.node(0).handoff.count(2) == 1


def test_a_write_that_timed_out_leaves_hints_for_the_silent() -> None:
    world = World(3)
    world.isolate(2)
    world.set(0, "k", "v", timeout_s=0.5)
    world.run(0.7)
    assert world.node(0).handoff.count(2) == 1
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


class Stalling:
    """Makes an engine refuse its next batches."""

    def __init__(self, world: World, at: int) -> None:
        self._engine = world.engines[at]
        self._apply = self._engine.apply
        self._engine.apply = self._refuse  # type: ignore[method-assign]

    def _refuse(self, batch: Batch) -> None:
        raise StorageBusy("the store is stalled")

    def end(self) -> None:
        self._engine.apply = self._apply  # type: ignore[method-assign]


class TestBusyStores:
    """A store that takes no batch: nothing is stored, nobody is told that it was."""

    def test_nothing_is_acknowledged_and_the_others_decide(self) -> None:
        world = World(3)
        stall = Stalling(world, 1)
        receipt = world.put(0, "k", "v", Level.QUORUM)
        assert receipt.outcome is Outcome.STORED
        assert world.values("k") == [b"v", None, b"v"]
        assert world.node(0).handoff.count(1) == 1
        stall.end()
        world.run(2)
        assert world.values("k") == [b"v"] * 3

    def test_a_read_after_it_does_not_see_what_was_not_stored(self) -> None:
        world = World(3)
        stall = Stalling(world, 1)
        world.set(1, "k", "v", Level.ONE)
        world.settle()
        stall.end()
        world.settle()
        assert world.stored(1, "k") is None
        assert world.node(1).replica.head(world.row("k")) == b""

    def test_rows_are_counted_as_before(self) -> None:
        world = World(3)
        world.put(0, "before", "v", Level.ALL)
        stall = Stalling(world, 1)
        world.put(0, "k", "v")
        assert world.node(1).journal.records == 1
        stall.end()
        world.run(3)
        assert world.node(1).journal.records == 2

    def test_a_hint_that_could_not_be_stored_fails_level_any(self) -> None:
        world = World(5)
        at = world.outsider("k")
        for replica in world.replicas("k"):
            world.part(at, replica)
        world.settle()
        stall = Stalling(world, at)
        call = world.set(at, "k", "v", Level.ANY)
        world.settle()
        assert call.done
        assert "Failed" in type(call.answer).__name__
        assert sum(world.node(at).handoff.count(r) for r in world.replicas("k")) == 0
        stall.end()

    def test_a_refused_deletion_of_hints_does_not_miscount_them(self) -> None:
        world = World(3)
        world.stop(2)
        world.settle()
        world.put(0, "k", "v")
        world.start(2)
        stall = Stalling(world, 0)
        world.run(0.3)
        stall.end()
        assert world.values("k")[2] == b"v"
        assert world.node(0).handoff.count(2) == hints(world, 0)
        world.run(3)
        assert world.node(0).handoff.count(2) == hints(world, 0) == 0

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
    assert world.node(0).handoff.count(2) == 1
