"""Deferred writes: kept by a node that has too much to do, durable before they are answered, delivered later.

Covers `handoff/deferred_writes.py`, and what `hints.py` and `delivery.py` do with such hints.
"""

import pytest

from basestore.consistency import Level, Outcome, ReplicaState
from basestore.errors import (
    ClockSkew,
    InvalidRequest,
    Overloaded,
    ReplicaFailure,
    RequestFailed,
    StorageBusy,
    WriteTimeout,
)
from basestore.handoff.pile import decode_hint, encode_hint
from basestore.protocol.client import Set
from basestore.protocol.replication import Apply, Hinted
from basestore.repair.version import Identity, Record, Version
from basestore.repair.write_repair import Hint
from basestore.results.receipts import Receipt
from basestore.storage.engine import Batch
from tests.worlds.deferring import PROPOSAL, ask, defer
from tests.worlds.following import converged
from tests.worlds.late_hints import hints as asked_hints
from tests.worlds.late_hints import rejoin
from tests.worlds.records import DIGESTER, ROW
from tests.worlds.world import Call, World


def deferred(world: World, at: int) -> list[tuple[int, int]]:
    """For whom a node keeps hints of deferred writes, and how many."""
    return [(pile.index, pile.deferred_count) for pile in world.node(at).hints.piles if pile.deferred_count]


def test_a_deferred_write_is_kept_for_all_replicas_and_answered_once_that_is_durable() -> None:
    world = World(3)
    world.freeze(0)
    call = defer(world, 0)
    world.settle()
    assert not call.done
    world.thaw(0)
    world.settle()
    receipt = call.receipt()
    assert receipt.outcome is Outcome.DEFERRED
    assert bool(receipt)
    assert not receipt.applied
    assert receipt.known_at == 0
    assert receipt.keeper == world.node(0).identity.store
    assert set(receipt.replicas.values()) == {ReplicaState.HINTED}
    assert (receipt.required, receipt.acknowledged) == (1, 0)
    assert receipt.identity.proposal == PROPOSAL
    assert not world.sent(Apply)
    world.run(2)
    assert world.values("k") == [b"v"] * 3
    assert deferred(world, 0) == []
    assert world.node(0).hints.deferred_bytes == 0
    assert world.state(0).facts["deferred hints"] == "0"


def test_each_member_is_sent_it_once_though_others_take_it_first() -> None:
    world = World(3)
    for number in range(40):
        defer(world, 0, f"k{number}")
    world.run(3)
    assert deferred(world, 0) == []
    assert len(world.sent(Hinted)) == 40 * 2  # and to itself, which is no message between nodes
    assert world.node(0).metrics.counts["hints_delivered"] == 40 * 3


def test_while_they_wait_they_are_shown_and_are_only_copies() -> None:
    world = World(4, replication=3)
    at = cut_off(world)
    call = defer(world, at)
    world.settle()
    assert call.receipt().outcome is Outcome.DEFERRED
    piles = asked_hints(world, at).piles
    assert {(pile.deferred, pile.only_copies, pile.count) for pile in piles} == {(1, 1, 1)}
    assert world.node(at).hints.only_copies()
    facts = world.state(at).facts
    assert facts["deferred hints"] == "3"
    assert int(facts["deferred bytes"]) == world.node(at).hints.deferred_bytes > 0


def test_it_survives_a_crash_right_after_its_receipt() -> None:
    world = World(3, reconcile=True)
    for other in (1, 2):
        world.hold(0, other)
    call = defer(world, 0)
    while not call.done:
        world.turn()
    receipt = call.receipt()
    world.crash(0)
    assert world.values("k")[1:] == [None, None]
    world.release(0, 1)
    world.release(0, 2)
    world.start(0)
    assert deferred(world, 0) == [(0, 1), (1, 1), (2, 1)]
    world.run(3)
    assert world.values("k") == [b"v"] * 3
    assert converged(world, 1, receipt=receipt, timeout_s=60).proven


def test_what_is_not_durable_goes_with_a_crash_and_was_not_answered() -> None:
    world = World(3)
    world.freeze(0)
    for other in (1, 2):
        world.hold(0, other)
    call = defer(world, 0)
    world.settle()
    assert not call.done
    world.restart(0)
    assert deferred(world, 0) == []


def cut_off(world: World) -> int:
    """The node that is no replica of `k`, which reaches none of those that are."""
    at = world.outsider("k")
    for replica in world.replicas("k"):
        world.part(at, replica)
    world.run(2)
    return at


def too_late_for_all() -> tuple[World, int]:
    """A node, no replica of `k`, that has deferred a write of it and comes back when none takes it as new."""
    world = World(4, replication=3, reconcile=True)
    world.run(5)
    keeper = cut_off(world)
    receipt = defer(world, keeper)
    world.run(30)
    assert receipt.receipt().outcome is Outcome.DEFERRED
    rejoin(world, keeper)
    assert [pile.late for pile in asked_hints(world, keeper).piles] == [1, 1, 1]
    return world, keeper


class TestTheTicket:
    def test_it_is_proven_only_once_all_replicas_have_the_write(self) -> None:
        world = World(3, reconcile=True)
        world.stop(2)
        world.run(2)
        call = defer(world, 0)
        world.run(3)
        receipt = call.receipt()
        assert world.values("k")[:2] == [b"v", b"v"]
        assert not converged(world, receipt=receipt, timeout_s=30).proven
        world.start(2)
        assert converged(world, receipt=receipt, timeout_s=60).proven
        assert world.values("k") == [b"v"] * 3

    def test_while_the_keeper_keeps_it_nothing_is_proven(self) -> None:
        world = World(4, replication=3, reconcile=True)
        keeper = world.outsider("k")
        for replica in world.replicas("k"):
            world.hold(keeper, replica)
        call = defer(world, keeper)
        world.settle()
        receipt = call.receipt()
        at = world.replicas("k")[0]
        found = converged(world, at, receipt=receipt, timeout_s=40)
        assert not found.proven
        assert world.values("k") == [None] * 4

    def test_a_keeper_that_is_not_heard_may_still_keep_it(self) -> None:
        world = World(4, replication=3, reconcile=True)
        keeper = world.outsider("k")
        call = defer(world, keeper)
        world.run(2)
        receipt = call.receipt()
        world.stop(keeper)
        world.run(2)
        at = world.replicas("k")[0]
        found = converged(world, at, receipt=receipt, timeout_s=60)
        assert not found.proven
        assert [each.kind for each in found.obstacles] == ["only copies"]
        world.start(keeper)
        assert converged(world, at, receipt=receipt, timeout_s=60).proven

    def test_a_keeper_that_has_lost_its_store_can_tell_nothing(self) -> None:
        world = World(4, replication=3, reconcile=True)
        keeper = world.outsider("k")
        for replica in world.replicas("k"):
            world.hold(keeper, replica)
        call = defer(world, keeper)
        world.settle()
        receipt = call.receipt()
        world.wipe(keeper)
        for replica in world.replicas("k"):
            world.release(keeper, replica)
        world.start(keeper)
        at = world.replicas("k")[0]
        found = converged(world, at, receipt=receipt, timeout_s=60)
        assert not found.proven
        assert "unapplied" in {each.kind for each in found.obstacles}


class TestWhatOthersHave:
    def test_once_one_replica_has_it_the_other_hints_are_copies_that_age(self) -> None:
        world = World(3, hint_age_s_max=60)
        world.stop(2)
        world.settle()
        defer(world, 0)
        world.run(3)
        (pile,) = world.node(0).hints.summary()
        assert (pile.count, pile.deferred, pile.only_copies) == (1, 1, 0)
        world.run(100)
        (pile,) = world.node(0).hints.summary()
        assert (pile.count, len(pile.debt)) == (0, 1)

    def test_while_none_has_it_they_never_age(self) -> None:
        world = World(4, replication=3, hint_age_s_max=60)
        at = cut_off(world)
        defer(world, at)
        world.run(100)
        assert [count for _, count in deferred(world, at)] == [1, 1, 1]

    def test_its_keeper_was_away_for_long_and_brings_it_all_the_same(self) -> None:
        """By then the others take no first delivery as old as that; but the keeper's own replica does."""
        world = World(3, reconcile=True)
        for other in (1, 2):
            world.hold(0, other)
        defer(world, 0)
        while not deferred(world, 0):
            world.turn()
        world.thaw(0)
        world.turn()
        world.engines[0].sync()
        world.crash(0)
        for other in (1, 2):
            world.release(0, other)
        world.run(40)
        assert world.values("k")[1:] == [None, None]
        world.start(0)
        world.run(10)
        assert world.values("k") == [b"v"] * 3
        assert asked_hints(world, 0).piles == ()

    def test_what_was_too_late_for_one_is_a_copy_for_it_once_another_has_it(self) -> None:
        world = World(3)
        defer(world, 0)
        world.settle()  # it is kept, and nothing is delivered before a tick
        kept, row = world.node(0).hints, world.row("k")
        hint = kept.kept(kept.piles[1], row)
        assert hint is not None
        kept.too_late(kept.piles[1], row, hint)
        world.run(3)
        assert world.values("k") == [b"v"] * 3
        assert asked_hints(world, 0).piles == ()

    def test_too_late_for_all_it_waits_for_an_operator(self) -> None:
        world, keeper = too_late_for_all()
        asked_hints(world, keeper, replay=True, late=True)
        world.run(5)
        assert sorted(map(str, world.values("k"))) == sorted(map(str, [b"v"] * 3 + [None]))


class TestRepeating:
    def test_it_is_the_same_write_whether_it_waits_or_was_delivered(self) -> None:
        world = World(3)
        first = defer(world, 0)
        world.settle()
        receipt = first.receipt()
        again = defer(world, 0, identity=receipt.identity)
        world.settle()
        assert again.receipt().identity == receipt.identity
        world.run(2)
        later = world.put(0, "k", "later")
        assert later.version is not None
        third = defer(world, 0, identity=receipt.identity)
        world.run(3)
        assert third.receipt().identity == receipt.identity
        assert world.values("k") == [b"later"] * 3
        assert deferred(world, 0) == []

    def test_it_may_be_repeated_at_a_node_that_is_not_overloaded(self) -> None:
        world = World(3)
        call = defer(world, 0)
        world.settle()
        receipt = call.receipt()
        again = world.set(1, "k", "v", Level.ANY, identity=receipt.identity)
        world.settle()
        assert again.receipt().outcome is Outcome.STORED
        assert again.receipt().version == receipt.version
        world.run(2)
        assert world.values("k") == [b"v"] * 3

    def test_of_which_no_version_was_told_it_is_found_here_or_refused(self) -> None:
        world = World(3)
        for other in (1, 2):
            world.hold(0, other)
        first = defer(world, 0)
        world.settle()
        receipt = first.receipt()
        again = defer(world, 0, identity=Identity(PROPOSAL))
        world.settle()
        assert again.receipt().identity == receipt.identity
        with pytest.raises(InvalidRequest, match="another key"):
            settled(world, defer(world, 0, value="w", identity=Identity(PROPOSAL)))
        with pytest.raises(Overloaded, match="cannot look now"):
            settled(world, defer(world, 0, identity=Identity(b"8 others")))

    @pytest.mark.parametrize(("late_s", "too_old"), [(2.5, False), (5.0, True)])
    def test_so_old_that_no_replica_takes_it_any_more_it_is_unknown(
        self, late_s: float, too_old: bool
    ) -> None:
        world = World(4, replication=3, reconcile=True)
        at = world.outsider("k")
        identity = lost_with_a_crash(world, at)
        world.run(late_s - 2)
        again = defer(world, at, identity=identity)
        world.run(30)
        if not too_old:
            assert again.receipt().outcome is Outcome.DEFERRED
            assert world.values("k").count(b"v") == 3
            return
        with pytest.raises(ReplicaFailure, match=r"too old to be deferred.*may have happened") as failure:
            again.receipt()
        assert failure.value.identity == identity
        assert failure.value.reasons.keys() == {f"n{at + 1}"}
        assert asked_hints(world, at).piles == ()

    def test_while_it_waits_here_it_is_never_too_old(self) -> None:
        world = World(4, replication=3, reconcile=True)
        at = cut_off(world)
        first = defer(world, at)
        world.run(6)
        receipt = first.receipt()
        for identity in (receipt.identity, Identity(PROPOSAL)):
            assert settled(world, defer(world, at, identity=identity)).identity == receipt.identity

    def test_what_all_take_no_more_is_not_said_to_wait(self) -> None:
        world, keeper = too_late_for_all()
        with pytest.raises(ReplicaFailure, match="too old to be deferred"):
            settled(world, defer(world, keeper, identity=Identity(PROPOSAL)))

    def test_what_this_store_has_may_be_repeated_however_old_it_is(self) -> None:
        world = World(3, reconcile=True)
        first = defer(world, 0)
        world.run(30)
        again = defer(world, 0, identity=first.receipt().identity)
        world.run(3)
        assert again.receipt().outcome is Outcome.DEFERRED
        assert asked_hints(world, 0).piles == ()

    def test_of_two_deferred_writes_the_later_wins(self) -> None:
        world = World(3)
        defer(world, 0, value="a")
        defer(world, 0, value="b", identity=b"8 others")
        world.run(2)
        assert world.values("k") == [b"b"] * 3


def lost_with_a_crash(world: World, at: int) -> Identity:
    """A write that a node has deferred, and forgotten: its disk stood still, and then it crashed. 2 s ago."""
    world.run(3)
    world.freeze(at)
    first = ask(world, at, defer_request(Level.ANY)._replace(timeout_ms=100))
    world.run(0.2)
    with pytest.raises(WriteTimeout) as late:
        first.receipt()
    world.crash(at)
    world.thaw(at)
    world.start(at)
    world.run(1.8)
    assert late.value.identity is not None
    return late.value.identity


def settled(world: World, call: Call) -> Receipt:
    world.settle()
    return call.receipt()


class TestWhatIsRefused:
    @pytest.mark.parametrize("level", [Level.ONE, Level.QUORUM, Level.ALL])
    def test_other_levels_than_any(self, level: Level) -> None:
        world = World(3)
        with pytest.raises(InvalidRequest, match="cannot be deferred"):
            settled(world, defer(world, 0, level=level))
        assert deferred(world, 0) == []

    def test_buckets_where_the_first_write_wins(self) -> None:
        world = World(3)
        with pytest.raises(InvalidRequest, match="first write wins"):
            settled(world, defer(world, 0, bucket="once"))

    @pytest.mark.parametrize("durability", ["interval", "memory"])
    def test_nodes_whose_durability_is_not_sync(self, durability: str) -> None:
        world = World(3, durability=durability)  # type: ignore[arg-type]
        with pytest.raises(InvalidRequest, match="durability is not sync"):
            settled(world, defer(world, 0))

    @pytest.mark.parametrize("level", [Level.ANY, Level.QUORUM])
    def test_a_node_that_is_not_overloaded_says_the_same(self, level: Level) -> None:
        """What makes no sense is refused however much there is to do; else it is an ordinary write."""
        world = World(3)
        request = defer_request(level)
        call = world.ask(0, lambda number: request._replace(id=number), level)
        if level is Level.ANY:
            assert settled(world, call).outcome is Outcome.STORED
            assert world.values("k") == [b"v"] * 3
            return
        with pytest.raises(InvalidRequest, match="cannot be deferred"):
            settled(world, call)

    def test_more_than_there_is_room_for_and_then_nothing_is_kept(self) -> None:
        world = World(3, deferred_bytes_max=2000)
        for other in (1, 2):
            world.hold(0, other)
        with pytest.raises(Overloaded, match="deferred_bytes_max"):
            settled(world, defer(world, 0, value="v" * 1000))
        assert deferred(world, 0) == []
        assert settled(world, defer(world, 0, value="v" * 100)).outcome is Outcome.DEFERRED
        world.release(0, 1)
        world.release(0, 2)
        world.run(3)
        assert world.node(0).hints.deferred_bytes == 0

    def test_who_is_refused_leaves_no_gap_in_the_numbers(self) -> None:
        world = World(3, partitions=1, deferred_bytes_max=2000)
        large = world.put(0, "other", "v" * 1000)
        for other in (1, 2):
            world.hold(0, other)
        small = settled(world, defer(world, 0, value="v" * 100))
        for identity in (PROPOSAL, large.identity):
            with pytest.raises(Overloaded, match="deferred_bytes_max"):
                settled(world, defer(world, 0, "other", "v" * 1000, identity=identity))
        world.release(0, 1)
        world.release(0, 2)
        next_one = world.put(0, "k", "v")
        assert small.version is not None
        assert next_one.version is not None
        assert next_one.version.number == small.version.number + 1
        assert next_one.version.stamp > small.version.stamp

    def test_who_is_refused_is_told_when_to_try_again(self) -> None:
        """Whether for there is no room, or for it may not be deferred at all. So its client slows down."""
        world = World(3, deferred_bytes_max=200)
        for other in (1, 2):
            world.hold(0, other)
        client = world.clients[0]
        assert client is not None
        plain, request = defer_request(Level.ANY)._replace(defer=False), defer_request(Level.ANY)
        for asked, shed in ((request, 0), (plain, 1)):
            refused = asked._replace(id=client.number())
            assert world.node(0).deferred_writes.defer_all(client.outbox, [refused], world.now(0)) == shed
            with pytest.raises(Overloaded) as overloaded:
                settled(world, Call(client, refused.id, Level.ANY))
            assert overloaded.value.retry_after == world.node(0).intake.windows.retry_ms / 1e3

    def test_what_cannot_be_stamped_yet_waits_as_far_as_half_of_the_room(self) -> None:
        world = World(3)
        world.run(3)
        for other in (1, 2):
            world.hold(other, 0)
            world.hold(0, other)
        world.skew_ms[0] = 10_000
        world.run(0.1)
        operations = world.node(0).operations
        operations.operations_max = 20
        calls = [defer(world, 0, f"k{number}") for number in range(12)]
        world.settle()
        refused = [call for call in calls if call.done]
        assert refused == calls[10:]
        assert operations.count == 10
        for call in refused:
            with pytest.raises(Overloaded, match="too many requests are under way"):
                call.receipt()
        read = world.get(0, "x", Level.ONE)
        world.settle()
        assert read.done
        world.run(2)
        for call in calls[:10]:
            with pytest.raises(RequestFailed):
                call.receipt()
        assert operations.count == 0

    def test_while_the_clock_is_not_known_to_be_right(self) -> None:
        world = World(3)
        world.skew_ms[0] = 60_000
        world.run(3)
        with pytest.raises(ClockSkew):
            settled(world, defer(world, 0))
        assert deferred(world, 0) == []

    def test_while_nobody_knows_of_this_opening_of_the_store(self) -> None:
        world = World(3)
        world.stop(1)
        world.stop(2)
        world.crash(0)
        world.start(0)
        world.node(0).peers.clock.open(world.now(0), vouched=True, ahead_ms=0)
        with pytest.raises((Overloaded, ClockSkew)):
            settled(world, defer(world, 0))
        assert deferred(world, 0) == []

    def test_while_the_disk_takes_nothing(self) -> None:
        world = World(3)
        engine = world.engines[0]
        apply = engine.apply

        def busy(batch: Batch) -> None:
            raise StorageBusy

        engine.apply = busy  # type: ignore[method-assign]
        first = defer(world, 0)
        world.settle()
        assert not first.done
        with pytest.raises(Overloaded, match="does not keep up"):
            settled(world, defer(world, 0, "other"))
        world.run(1.1)
        with pytest.raises(WriteTimeout) as late:
            first.receipt()
        engine.apply = apply  # type: ignore[method-assign]
        world.run(3)
        assert world.values("k") == [b"v"] * 3
        assert late.value.identity is not None
        assert world.stored(0, "k").version == late.value.identity.version  # type: ignore[union-attr]


def defer_request(level: Level) -> Set:
    return Set(0, "default", b"k", b"v", level, 1000, 0, PROPOSAL, False, 0, True)


def test_a_delete_is_deferred_like_a_value() -> None:
    world = World(3)
    world.put(0, "k", "v", Level.ALL)
    call = defer(world, 0, value=None)
    world.run(2)
    assert call.receipt().outcome is Outcome.DEFERRED
    assert not world.look(1, "k", Level.ALL).found


def test_a_lifetime_counts_from_when_it_was_deferred() -> None:
    world = World(3)
    for other in (1, 2):
        world.hold(0, other)
    call = defer(world, 0, ttl_ms=5000)
    world.run(3)
    version = call.receipt().version
    world.release(0, 1)
    world.release(0, 2)
    world.run(1)
    found = world.look(1, "k", Level.ONE)
    assert version is not None
    assert found.expires_ms == version.wall_ms + 5000
    world.run(2)
    assert not world.look(1, "k", Level.ONE).found


def test_its_stamp_follows_what_its_session_has_seen() -> None:
    world = World(3)
    seen = world.stamp(500)
    call = defer(world, 0, after=seen.stamp)
    world.settle()
    version = call.receipt().version
    assert version is not None
    assert version.stamp > seen.stamp


@pytest.mark.parametrize("is_deferred", [True, False])
def test_the_stored_form_tells_deferred_ones_apart(is_deferred: bool) -> None:
    record = Record.seal(DIGESTER, ROW, Version(1, 2, 3), b"v")
    hint = Hint.of(record, True, b"s" * 16, deferred=is_deferred)
    assert decode_hint(encode_hint(hint)) == hint
    assert (encode_hint(hint)[0] & 4 == 4) is is_deferred
