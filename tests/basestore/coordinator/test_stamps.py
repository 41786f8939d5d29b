"""Stamps: none before the clock is sure, none below it, and what has to wait for one.

Covers `coordinator/stamper.py`, `replica/clock_ceiling.py`, and how the rooms ask what time it is.
"""

from functools import partial

import pytest

from basestore.cluster.operations import OPERATIONS_MAX
from basestore.consistency import Level, Outcome
from basestore.errors import ClockSkew, InvalidRequest, Overloaded, ReplicaFailure, Unavailable
from basestore.protocol.client import Delete
from basestore.protocol.heartbeats import Pong
from basestore.protocol.replication import Apply
from basestore.replica.clock_ceiling import CEILING
from tests.worlds.late_hints import hints, keep_late, rejoin
from tests.worlds.world import TICK_S, World

HOUR_MS = 3_600_000


def ceiling(world: World, index: int) -> int:
    return int.from_bytes(world.engines[index].get(CEILING) or b"")


def unheard(world: World) -> None:
    """No comparison of clocks arrives."""
    world.lose = lambda sent: isinstance(sent.message, Pong)


def jump(world: World, ms: int, *indices: int) -> None:
    for index in indices or range(len(world.nodes)):
        world.skew_ms[index] += ms


class TestBeforeTheClockIsSure:
    @pytest.mark.parametrize("level", [Level.ANY, Level.ONE])
    def test_a_node_that_starts_with_its_clock_ahead_stamps_nothing_and_stores_no_ceiling(
        self, level: Level
    ) -> None:
        world = World(3)
        world.stop(0)
        before = ceiling(world, 0)
        jump(world, HOUR_MS, 0)
        unheard(world)
        world.start(0)
        world.settle()
        early = world.set(0, "poison", "v", level)
        world.run(0.5)
        assert not early.done
        world.lose = lambda _: False
        world.run(3)
        with pytest.raises(ClockSkew, match=r"3\d{6} ms ahead"):
            early.receipt()
        with pytest.raises(ClockSkew):
            world.put(0, "poison", "v", level)
        assert ceiling(world, 0) == before
        jump(world, -HOUR_MS, 0)
        world.stop(0)
        world.start(0)
        world.run(0.2)
        for at in range(3):
            assert world.put(at, "poison", f"v{at}").outcome is Outcome.STORED

    def test_a_lone_survivor_that_is_restarted_says_how_to_go_on(self) -> None:
        world = World(3)
        for index in range(3):
            world.stop(index)
        world.start(0)
        world.run(2)
        with pytest.raises(ClockSkew, match=r"not been compared.*Start more.*serve --clock-is-right"):
            world.put(0, "k", "v", Level.ANY)
        assert "not been compared" in world.state(0).facts["clock"]
        assert not world.values("k")[0]
        world.start(1)
        world.run(0.2)
        assert world.put(0, "k", "v").outcome is Outcome.STORED
        assert world.state(0).facts["clock"] == ""

    @pytest.mark.parametrize("count", [2, 3])
    def test_an_operator_can_say_that_its_clock_is_right(self, count: int) -> None:
        world = World(count)
        for index in range(count):
            world.stop(index)
        world.start(0, clock_is_right=True)
        world.run(0.2)
        assert world.put(0, "k", "v", Level.ANY).outcome is Outcome.STORED

    def test_two_clocks_that_differ_wait_for_an_operators_word(self) -> None:
        world = World(2, born=False)
        jump(world, -HOUR_MS, 1)
        for index in range(2):
            world.start(index)
        world.run(3)
        for at in range(2):
            with pytest.raises(Unavailable):  # no store is born
                world.put(at, "k", "v", Level.ONE)
            assert "no majority agrees" in world.state(at).facts["clock"]
        world.stop(0)
        world.start(0, clock_is_right=True)
        world.run(0.5)
        assert world.put(0, "k", "v").outcome is Outcome.STORED
        with pytest.raises(ClockSkew, match="behind"):
            world.put(1, "k", "v", Level.ONE)

    @pytest.mark.parametrize(("count", "takes"), [(2, []), (3, [1, 2]), (5, [1, 2, 3, 4])])
    def test_of_members_that_start_at_once_with_one_clock_ahead_only_the_others_stamp(
        self, count: int, takes: list[int]
    ) -> None:
        world = World(count, born=False)
        jump(world, HOUR_MS, 0)
        for index in range(count):
            world.start(index)
        world.settle()
        calls = {at: world.set(at, f"k{at}", "v", Level.ONE, timeout_s=1) for at in range(count)}
        world.run(3)
        stored = []
        for at, call in calls.items():
            try:
                stored += [at] if call.receipt().outcome is Outcome.STORED else []
            except (ClockSkew, Overloaded, Unavailable) as error:  # of two, no store is born
                assert error.definite  # noqa: PT017 - either will do
        assert stored == takes
        for node in world.running:
            assert node.clock.last >> 16 < world.now(1).wall_ms + 10_000
        assert ceiling(world, 0) == 0

    def test_a_cluster_takes_writes_as_soon_as_it_is_linked(self) -> None:
        world = World(3, born=False)
        for index in range(3):
            world.start(index)
        world.settle()  # no time has passed
        call = world.set(0, "k", "v", Level.ALL)
        world.settle()
        assert call.receipt().outcome is Outcome.STORED

    def test_a_clock_that_is_set_is_not_stamped_by_before_anybody_has_noticed(self) -> None:
        world = World(3)
        unheard(world)
        jump(world, HOUR_MS, 0)
        call = world.set(0, "k", "v", Level.ONE)  # no tick in between
        world.settle()
        assert not call.done
        assert world.node(0).clock.last >> 16 < world.now(1).wall_ms + 2000
        world.run(3)
        with pytest.raises(Overloaded, match="has jumped"):
            call.receipt()
        with pytest.raises(ClockSkew, match="has jumped"):
            world.put(0, "k", "v", Level.ONE)

    def test_a_clock_that_was_set_within_the_bound_is_trusted_once_it_was_compared(self) -> None:
        world = World(3)
        jump(world, 1500, 0)
        call = world.set(0, "k", "v")
        world.settle()
        assert not call.done
        world.run(TICK_S)
        assert call.receipt().outcome is Outcome.STORED

    def test_a_clean_stop_stores_the_last_stamp(self) -> None:
        world = World(3)
        version = world.put(0, "k", "v").version
        assert version is not None
        world.stop(0)
        assert ceiling(world, 0) == version.stamp

    def test_a_lone_node_is_its_own_majority(self) -> None:
        world = World(1)
        world.put(0, "k", "v")
        jump(world, 24 * HOUR_MS)  # it was off for a day
        world.stop(0)
        world.start(0)
        world.run(0.2)
        assert world.put(0, "k", "w").outcome is Outcome.STORED
        jump(world, HOUR_MS)
        world.run(0.2)
        assert world.put(0, "k", "x").outcome is Outcome.STORED


class TestWaitingForTheCeiling:
    def test_single_writes_on_an_idle_node_are_never_refused_for_a_slow_disk(self) -> None:
        """A sync takes 60 ms, or 1.5 s: a tick, or many."""
        for sync_s in (0.06, 1.5):
            world = World(1)
            world.freeze(0)
            refused, calls, due_s = 0, [], world.monotonic
            for number in range(100):
                calls.append(world.set(0, f"{number}", "v", timeout_s=1.0))
                for _ in range(10):
                    world.run(TICK_S)
                    if world.monotonic >= due_s:
                        due_s = world.monotonic + sync_s
                        world.thaw(0)
                        world.settle()
                        world.freeze(0)
            for call in calls[:-4]:
                try:
                    call.receipt()
                except Overloaded:
                    refused += 1
                except Exception as error:  # noqa: BLE001 - a sync that takes longer than the timeout
                    assert sync_s > 1, error  # noqa: PT017
            assert refused == 0 or (sync_s > 1 and refused <= 2)

    def test_after_a_pause_nothing_is_stamped_in_the_past(self) -> None:
        for pause_s in (2, 4, 8, 22, 30):
            world = World(3)
            world.put(0, "k", "before")
            world.monotonic += pause_s
            call = world.set(0, "k", "after", ttl_s=2)  # before any tick
            begun_ms = world.now(0).wall_ms
            world.settle()
            receipt = call.receipt()
            assert receipt.outcome is Outcome.STORED
            assert receipt.version is not None
            assert receipt.version.wall_ms >= begun_ms
            assert world.look(1, "k").value == b"after"

    def test_parked_writes_go_on_in_their_order_with_the_step_that_raises_the_ceiling(self) -> None:
        world = World(3)
        world.freeze(0)
        world.monotonic += 5
        calls = [world.set(0, "k", f"{number}", Level.ALL, timeout_s=1) for number in range(5)]
        world.settle()
        assert not any(call.done for call in calls)
        assert not world.sent(Apply)
        world.thaw(0)
        world.settle()
        stamps = [version.stamp for call in calls if (version := call.receipt().version)]
        assert stamps == sorted(set(stamps))
        assert len(stamps) == 5
        assert world.look(1, "k").value == b"4"

    def test_a_ceiling_counts_although_a_later_one_was_asked_for(self) -> None:
        world = World(1)
        world.freeze(0)
        world.run(1.5)
        barrier = world.node(0).step(world.now(0))
        assert barrier is not None
        before = world.node(0).clock.ceiling
        world.engines[0].sync()
        world.run(1.5)
        world.node(0).durable(barrier, world.now(0))
        assert world.node(0).clock.ceiling > before

    def test_so_many_wait_and_no_more_and_nothing_is_left_of_those_that_gave_up(self) -> None:
        world = World(1, timeout_ms_max=1000)
        world.freeze(0)
        world.monotonic += 5
        calls = [world.set(0, f"{n}", "v", timeout_s=1) for n in range(OPERATIONS_MAX + 1)]
        world.settle()
        with pytest.raises(Overloaded, match=r"too many .* Try again in 0\.1 s$") as refused:
            calls[-1].receipt()
        assert refused.value.retry_after == 0.1
        world.run(1.5)
        for call in calls[:-1]:
            with pytest.raises(Overloaded, match=r"ceiling is not durable.*nothing was done") as refused:
                call.receipt()
            assert refused.value.retry_after == 0.1
        node = world.node(0)
        assert (node.operations.count, node.operations.bytes, len(node.context.stamper.parked)) == (0, 0, 0)
        world.thaw(0)
        world.run(0.2)
        assert world.values("0") == [None]

    def test_a_ceiling_that_was_lowered_is_not_raised_by_what_was_asked_for_before(self) -> None:
        world = World(1)
        world.freeze(0)
        jump(world, HOUR_MS)
        world.run(0.2)  # an hour ahead is asked for
        jump(world, -HOUR_MS)
        world.run(0.2)
        world.thaw(0)
        world.run(0.5)
        assert world.node(0).clock.ceiling <= ceiling(world, 0)
        assert world.node(0).clock.ceiling >> 16 < world.now(0).wall_ms + 10_000


class TestExpiry:
    """Who judges expiry asks what time it is: get, scan, late hints and explain."""

    @pytest.mark.parametrize("ahead_ms", [HOUR_MS, -HOUR_MS])
    def test_a_node_whose_clock_is_off_shows_what_lives_and_hides_what_has_expired(
        self, ahead_ms: int
    ) -> None:
        world = World(3)
        for key, ttl_s in (("lives", 60), ("gone", 1)):
            world.set(0, key, "v", ttl_s=ttl_s)
        world.put(0, "forever", "v")
        jump(world, ahead_ms, 2)
        world.run(3)
        for at in (0, 2):
            assert [world.look(at, key).found for key in ("lives", "gone", "forever")] == [True, False, True]
            page = world.scan(at)
            world.settle()
            assert [item.key for item in page.page()[0]] == [b"forever", b"lives"]

    def test_a_node_that_does_not_know_the_time_does_not_judge(self) -> None:
        world = World(3)
        world.set(0, "leased", "v", Level.ALL, ttl_s=60)
        world.put(0, "forever", "v", Level.ALL)
        unheard(world)
        jump(world, HOUR_MS, 2)
        world.run(0.2)
        assert world.look(2, "forever", Level.ONE).value == b"v"
        with pytest.raises(ClockSkew, match="whether it has is not known"):
            world.look(2, "leased", Level.ONE)
        page = world.scan(2, level=Level.ONE)
        world.settle()
        with pytest.raises(ClockSkew, match="whether it has is not known"):
            page.page()
        page = world.scan(2, "for", level=Level.ONE)
        world.settle()
        assert [item.key for item in page.page()[0]] == [b"forever"]

    def test_a_late_hint_is_not_given_up_by_a_clock_that_is_ahead(self) -> None:
        world = World(4, replication=3, partitions=1, reconcile=True)
        keeper = keep_late(world)
        rejoin(world, keeper)
        jump(world, HOUR_MS, keeper)
        world.run(3)
        hints(world, keeper, replay=True, late=True)
        world.run(3)
        assert world.node(keeper).metrics.counts["hints_late_superseded"] == 0


def test_a_replica_whose_clock_is_behind_takes_what_others_stamp_now() -> None:
    world = World(3)
    jump(world, -HOUR_MS, 2)
    world.run(3)
    assert world.put(0, "k", "v", Level.ALL).acknowledged == 3


class TestAllClocksWereAhead:
    """All clocks are a day ahead for a while; then they are right."""

    def world(self, ahead_ms: int) -> World:
        world = World(3)
        jump(world, ahead_ms)
        world.run(2)
        world.put(0, "k", "ahead", Level.ALL)
        jump(world, -ahead_ms)
        world.run(3)
        return world

    @pytest.mark.parametrize("ahead_ms", [45_000, 24 * HOUR_MS])
    def test_it_is_said_truly_and_shown(self, ahead_ms: int) -> None:
        world = self.world(ahead_ms)
        with pytest.raises(ClockSkew, match=r"wrong then or is wrong now.*writes go on in \d+ ms.*clock-is"):
            world.put(0, "k", "v")
        assert "ahead of this node's clock" in world.state(0).facts["clock"]

    def test_a_short_while_is_waited_out(self) -> None:
        world = self.world(45_000)
        world.run(46)
        assert world.put(0, "k", "v").outcome is Outcome.STORED

    def test_operators_can_let_stamps_go_on(self) -> None:
        world = self.world(24 * HOUR_MS)
        for index in range(3):
            world.stop(index)
            world.start(index, clock_is_right=True)
            world.run(1)
        for at in range(3):
            assert world.put(at, "k", f"v{at}", Level.ALL).outcome is Outcome.STORED
            assert world.look(2 - at, "k").value == f"v{at}".encode()
        assert "as an operator has allowed" in world.state(0).facts["clock"]
        world.set(0, "leased", "v", ttl_s=2)
        world.settle()
        assert world.look(1, "leased").found
        world.run(3)
        assert not world.look(1, "leased").found

    def test_a_write_that_expires_is_not_repeated_where_nobody_knows_when(self) -> None:
        world = self.world(24 * HOUR_MS)
        for index in range(3):
            world.stop(index)
            world.start(index, clock_is_right=True)
            world.run(1)
        version = world.put(0, "k", "v").version
        call = world.set(0, "k", "v", ttl_s=2, version=version)
        world.settle()
        with pytest.raises(InvalidRequest, match="ahead of the clocks"):
            call.receipt()

    def test_what_runs_ahead_does_not_run_away(self) -> None:
        """The bound is fixed when the node is opened: no clock drags it on."""
        world = self.world(24 * HOUR_MS)
        world.stop(0)
        clock = world.start(0, clock_is_right=True).clock
        far = clock.last + (clock.drift_ms_max << 16)
        assert clock.observe(far, world.now(0).wall_ms)
        assert not clock.observe(far + (1 << 17), world.now(0).wall_ms)


class TestAfterWhatASessionHasSeen:
    def test_a_write_is_later_than_what_its_session_has_seen(self) -> None:
        world = World(3)
        jump(world, 1500, 0)
        world.run(3)
        for number in range(20):
            first = world.put(0, f"{number}", "first").version
            assert first is not None
            second = world.set(1, f"{number}", "second", after=first.stamp)
            world.settle()
            assert second.receipt().outcome is Outcome.STORED
            delete = partial(
                Delete, bucket="default", key=b"%d" % number, level=Level.QUORUM, timeout_ms=1000,
                identity=b"", after=first.stamp,
            )  # fmt: skip
            third = world.ask(1, delete)
            world.settle()
            assert third.receipt().outcome is Outcome.STORED

    def test_what_is_further_ahead_than_clocks_may_be_is_refused_by_name(self) -> None:
        world = World(3)
        world.run(1)
        for ahead_ms in (2000, 5000):
            far = (world.now(1).wall_ms + ahead_ms) << 16
            call = world.set(1, "k", "v", after=far)
            world.settle()
            with pytest.raises(ClockSkew, match=f"session has seen a write whose stamp is {ahead_ms} ms"):
                call.receipt()
        assert world.values("k") == [None] * 3

    def test_what_is_no_stamp_is_refused(self) -> None:
        world = World(1)
        call = world.set(0, "k", "v", after=-1)
        world.settle()
        with pytest.raises(InvalidRequest, match="no stamp"):
            call.receipt()


class TestPurge:
    """A value whose time is over only by clocks that have jumped ahead is not purged for good."""

    def world(self, ttl_s: float = 3600) -> World:
        world = World(3, partitions=1, reconcile=True, drift_ms_max=200)
        world.set(0, "leased", "v", Level.ALL, ttl_s=ttl_s)
        world.settle()
        return world

    def held(self, world: World) -> list[bool]:
        return [world.stored(index, "leased") is not None for index in range(3)]

    def test_what_has_expired_is_purged(self) -> None:
        world = self.world(ttl_s=1)
        world.run(30)
        assert self.held(world) == [False] * 3

    def test_a_jump_of_all_clocks_is_waited_out_and_tombstones_need_not_wait(self) -> None:
        world = self.world()
        world.run(10)
        jump(world, 24 * HOUR_MS)
        world.run(1)
        deleted = world.delete(0, "deleted", Level.ALL)
        world.settle()
        assert deleted.receipt().outcome is Outcome.STORED
        world.run(30)
        assert not world.look(0, "leased").found
        assert self.held(world) == [True] * 3
        assert int(world.state(0).facts["clock jump ms"]) >= 24 * HOUR_MS
        jump(world, -24 * HOUR_MS)
        world.run(10)
        assert [world.look(at, "leased").value for at in range(3)] == [b"v"] * 3

    def test_it_is_waited_out_over_restarts(self) -> None:
        world = self.world()
        world.run(10)
        jump(world, 24 * HOUR_MS)
        world.run(1)
        for index in range(3):
            world.restart(index)
        world.run(30)
        assert self.held(world) == [True] * 3

    def test_an_operators_word_ends_the_wait(self) -> None:
        world = self.world()
        world.run(10)
        jump(world, 24 * HOUR_MS)
        world.run(1)
        for index in range(3):
            world.stop(index)
            world.start(index, clock_is_right=True)
            world.run(1)
        world.run(40)
        assert self.held(world) == [False] * 3

    def test_partitions_where_nothing_expires_do_not_wait(self) -> None:
        world = World(3, partitions=1, reconcile=True, drift_ms_max=200)
        world.put(0, "k", "v", Level.ALL)
        world.run(10)
        jump(world, 24 * HOUR_MS)
        world.run(1)
        world.delete(0, "k", Level.ALL)
        world.run(40)
        assert world.stored(0, "k") is None

    def test_a_clock_that_is_set_to_the_majoritys_is_no_jump_to_beware_of(self) -> None:
        world = self.world(ttl_s=20)
        jump(world, -HOUR_MS, 2)
        world.run(10)
        jump(world, HOUR_MS, 2)
        world.run(1)
        assert [node.peers.clock.ahead_ms for node in world.running] == [0, 0, 0]
        world.run(60)
        assert self.held(world) == [False] * 3


class TestWhoIsBelieved:
    """Of two who differ, or three, nobody; and what nobody agrees on no clock is corrected by."""

    def leased(self) -> World:
        world = World(3)
        world.set(0, "leased", "v", Level.ALL, ttl_s=60)
        world.settle()
        return world

    @pytest.mark.parametrize("ahead_ms", [HOUR_MS, -HOUR_MS])
    def test_one_wrong_clock_is_not_believed_while_the_third_member_is_away(self, ahead_ms: int) -> None:
        world = self.leased()
        world.crash(2)
        jump(world, ahead_ms, 1)
        world.run(3)
        for at in (0, 1):
            with pytest.raises(ClockSkew, match="no majority agrees"):
                world.look(at, "leased", Level.ONE)

    def test_nor_are_two_that_do_not_agree_with_each_other(self) -> None:
        world = self.leased()
        jump(world, HOUR_MS, 1)
        jump(world, -HOUR_MS, 2)
        world.run(3)
        with pytest.raises(ClockSkew, match="no majority agrees"):
            world.look(0, "leased", Level.ONE)

    def test_the_wrong_operators_word_drags_no_clock(self) -> None:
        world = World(3)
        world.crash(2)
        world.stop(1)
        jump(world, HOUR_MS, 1)
        world.start(1, clock_is_right=True)
        world.run(3)
        call = world.set(1, "k", "poison")
        world.run(2)
        with pytest.raises(ReplicaFailure, match=r"n1: the write's stamp is 3\d{6} ms ahead"):
            call.receipt()
        assert world.node(0).clock.last >> 16 <= world.now(0).wall_ms + 2000


class TestWhatIsClosedAhead:
    """All clocks are an hour ahead while partitions are closed, and nobody writes; then they are right."""

    def world(self) -> World:
        world = World(3, reconcile=True)
        jump(world, HOUR_MS)
        world.run(30)
        jump(world, -HOUR_MS)
        world.run(3)
        return world

    def test_what_would_be_refused_as_too_late_is_not_stamped(self) -> None:
        world = self.world()
        with pytest.raises(ClockSkew, match=r"up to 3\d{6} ms ahead.*nothing was done"):
            world.put(0, "k", "v")

    def test_nor_after_a_restart(self) -> None:
        world = self.world()
        for index in range(3):
            world.restart(index)
        world.run(3)
        with pytest.raises(ClockSkew, match=r"up to 3\d{6} ms ahead.*nothing was done"):
            world.put(0, "k", "v")

    def test_operators_can_let_stamps_go_on(self) -> None:
        world = self.world()
        for index in range(3):
            world.stop(index)
            world.start(index, clock_is_right=True)
        world.run(3)
        for at in range(3):
            assert world.put(at, "k", f"v{at}", Level.ALL).outcome is Outcome.STORED


def test_a_node_whose_clock_was_never_wrong_goes_on_from_where_the_others_were() -> None:
    """Four of five clocks are an hour ahead from the first start; an operator's word to every node helps."""
    world = World(5, replication=4, born=False)
    jump(world, HOUR_MS, 0, 1, 2, 3)
    for index in range(5):
        world.start(index)
    world.run(3)
    world.put(0, "k", "ahead", Level.QUORUM)
    jump(world, -HOUR_MS, 0, 1, 2, 3)
    world.run(3)
    for index in range(4):
        world.stop(index)
        world.start(index, clock_is_right=True)
    world.run(3)
    key = next(f"{n}" for n in range(100) if 4 in world.replicas(f"{n}"))
    with pytest.raises(ReplicaFailure, match="ms ahead of this clock"):  # it was told nothing yet
        world.put(0, key, "v", Level.ALL)
    world.stop(4)
    world.start(4, clock_is_right=True)
    world.run(3)
    for at in range(5):
        for number in range(8):
            assert world.put(at, f"{number}", f"by {at}", Level.ALL).outcome is Outcome.STORED


def test_a_store_that_was_wiped_after_all_clocks_were_ahead_recovers_at_an_operators_word() -> None:
    """What its sources had closed meanwhile lies in its future, and is true."""
    world = World(3, reconcile=True)
    jump(world, HOUR_MS, 0, 1, 2)
    world.run(30)
    world.put(0, "k", "ahead", Level.ALL)
    jump(world, -HOUR_MS, 0, 1, 2)
    for index in (0, 1):
        world.stop(index)
    world.wipe(2)
    for index in range(3):
        world.start(index, clock_is_right=True)
    world.run(10)
    assert world.node(2).state == "up"
    assert world.put(2, "k", "v", Level.ALL).outcome is Outcome.STORED


@pytest.mark.parametrize("drift_ms_max", [500, 2000])
@pytest.mark.parametrize("sync_s", [1.5, 13.0])
def test_a_slow_disk_makes_no_restart_refuse(drift_ms_max: int, sync_s: float) -> None:
    world = World(1, drift_ms_max=drift_ms_max, timeout_ms_max=5000)
    for _ in range(3):
        world.freeze(0)
        world.run(sync_s)
        world.thaw(0)
        world.run(0.1)
    world.restart(0)
    call = world.set(0, "k", "v", timeout_s=2 * drift_ms_max / 1e3)
    world.run(2)
    assert call.receipt().outcome is Outcome.STORED
