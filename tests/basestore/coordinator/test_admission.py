"""Clocks that are off, ceilings, and bounds that refuse work before anything is done.

Covers `coordinator/admission.py`, `stamper.py` and `replica/clock_ceiling.py`.
"""

from collections.abc import Callable

import pytest

from basestore.cluster.operations import OPERATIONS_MAX, RELIEVED_AT_ONCE
from basestore.consistency import Level, Outcome
from basestore.errors import ClockSkew, InvalidRequest, Overloaded, Unavailable
from basestore.protocol.client import Delete, Get, Set
from basestore.protocol.codec import Message
from basestore.protocol.limits import KEY_BYTES_MAX, TTL_MS_MAX, VALUE_BYTES_MAX
from basestore.protocol.operator import Explain
from basestore.protocol.replication import Apply
from basestore.repair.rule import Rule
from basestore.replica.clock_ceiling import CEILING
from basestore.replica.group_commit import UNSYNCED_BYTES_MAX
from tests.worlds.changing import drop
from tests.worlds.world import Call, World


class TestClocks:
    @pytest.mark.parametrize("skew_ms", [-10_000, 10_000])
    def test_a_node_whose_clock_is_off_refuses_before_stamping_and_says_by_how_much(
        self, skew_ms: int
    ) -> None:
        world = World(3)
        world.skew_ms[0] = skew_ms
        world.run(3)
        world.log.clear()
        with pytest.raises(ClockSkew, match=f"{abs(skew_ms)} ms") as refused:
            world.put(0, "k", "v")
        assert ("ahead" if skew_ms > 0 else "behind") in str(refused.value)
        assert refused.value.definite
        assert not world.sent(Apply)
        assert world.values("k") == [None] * 3

    def test_it_still_reads_and_others_still_write(self) -> None:
        world = World(3)
        world.skew_ms[0] = 10_000
        world.run(3)
        assert world.put(1, "k", "v").outcome is Outcome.STORED
        assert world.look(0, "k").value == b"v"

    def test_a_clock_that_was_set_right_writes_again(self) -> None:
        world = World(3)
        world.skew_ms[0] = -10_000
        world.run(3)
        world.skew_ms[0] = 0
        world.run(3)
        assert world.put(0, "k", "v").outcome is Outcome.STORED

    def test_one_wrong_clock_of_three_does_not_stop_the_others(self) -> None:
        world = World(3)
        world.skew_ms[2] = 3_600_000
        world.run(1)
        for at in (0, 1):
            assert world.put(at, "k", f"v{at}").outcome is Outcome.STORED

    def test_a_small_difference_is_tolerated(self) -> None:
        world = World(3)
        world.skew_ms[0], world.skew_ms[2] = 900, -900
        world.run(1)
        for at in range(3):
            assert world.put(at, "k", f"v{at}", Level.ALL).outcome is Outcome.STORED
            world.run(0.1)

    def test_no_ceiling_is_made_durable_by_a_clock_that_is_off(self) -> None:
        world = World(3)
        world.skew_ms[0] = 3_600_000
        world.run(5)
        ceiling = int.from_bytes(world.engines[0].get(CEILING) or b"")
        assert ceiling >> 16 < world.now(1).wall_ms + 10_000
        world.skew_ms[0] = 0
        world.run(3)
        assert world.put(0, "k", "v").outcome is Outcome.STORED

    def test_versions_grow_while_the_wall_clock_goes_back(self) -> None:
        world = World(3)
        versions = []
        for step in range(10):
            version = world.put(0, "k", f"{step}", Level.ONE).version
            assert version is not None
            versions.append(version)
            world.skew_ms[0] -= 100
        assert versions == sorted(set(versions))
        assert world.look(1, "k").value == b"9"

    @pytest.mark.parametrize("back_ms", [0, 1000, 3_600_000])
    def test_a_restart_never_uses_a_version_again(self, back_ms: int) -> None:
        world = World(3)
        before = [world.put(0, f"{n}", "v", Level.ONE).version for n in range(50)]
        for index in range(3):
            world.crash(index)
        world.skew_ms = [-back_ms] * 3
        for index in range(3):
            world.start(index)
        world.run(0.2)
        assert world.node(0).clock.last > max(version.stamp for version in before if version)

    def test_a_node_that_restarts_at_once_writes_at_once(self) -> None:
        world = World(3)
        world.run(7)
        world.put(0, "k", "before")
        world.restart(0)
        world.run(0.2)
        assert world.put(0, "k", "after", Level.ALL).outcome is Outcome.STORED
        assert world.look(1, "k").value == b"after"

    def test_the_ceiling_is_durable_before_a_stamp_below_it(self) -> None:
        world = World(1, born=False)
        world.start(0)
        world.run(0.2)
        world.freeze(0)
        durable = int.from_bytes(world.engines[0].get(CEILING) or b"")
        world.run(30)  # the disk hangs; the ceiling cannot rise
        calls = [world.set(0, "k", "v", Level.ONE) for _ in range(3)]
        world.settle()
        with pytest.raises(Overloaded, match="does not keep up"):
            calls[-1].receipt()
        assert world.node(0).clock.last <= durable
        assert not world.node(0).operations.count
        world.thaw(0)
        world.run(0.2)
        assert world.put(0, "k", "v", Level.ONE).outcome is Outcome.STORED


class TestFullQueues:
    def test_too_many_requests_are_refused_and_nothing_is_done(self) -> None:
        world = World(3)
        world.isolate(1)
        world.isolate(2)
        calls = [world.set(0, "k", "v") for _ in range(OPERATIONS_MAX)]
        refused = world.set(0, "another", "v")
        read = world.get(0, "another")
        world.settle()
        for call in (refused, read):
            with pytest.raises(Overloaded, match="nothing was done"):
                call.receipt()
        assert world.values("another") == [None] * 3
        assert not any(call.done for call in calls)
        world.rejoin(1)
        world.rejoin(2)
        world.settle()
        assert all(call.done for call in calls)
        assert world.node(0).operations.count == 0
        assert world.node(0).operations.bytes == 0
        assert world.put(0, "another", "v").outcome is Outcome.STORED

    @pytest.mark.parametrize("kind", ["set", "delete", "get", "scan", "explain"])
    def test_who_is_refused_is_told_when_to_come_again(self, kind: str) -> None:
        world = World(3)
        world.node(0).operations.operations_max = 0
        world.node(0).intake.windows.retry_ms = 700
        ask: dict[str, Callable[[], Call]] = {
            "set": lambda: world.set(0, "k", "v", Level.ANY),
            "delete": lambda: world.delete(0, "k", Level.ANY),
            "get": lambda: world.get(0, "k"),
            "scan": lambda: world.scan(0),
            "explain": lambda: world.ask(0, lambda number: Explain(number, "default", b"k", 1000)),
        }
        call = ask[kind]()
        world.settle()
        with pytest.raises(Overloaded, match=r"too many requests .* Try again in 0\.7 s$") as refused:
            call.receipt()
        assert refused.value.retry_after == 0.7

    def test_a_slow_replica_does_not_turn_quorum_writes_into_overload(self) -> None:
        world = World(3)
        world.isolate(2)
        calls = []
        for number in range(OPERATIONS_MAX + 200):
            calls.append(world.set(0, f"{number % 100}", "v"))
            if number % 50 == 0:
                world.settle()
        world.settle()
        assert {call.receipt().outcome for call in calls} == {Outcome.STORED}
        assert world.node(0).hints.count(2) > 0
        world.rejoin(2)
        world.run(5)
        assert world.node(0).hints.count(2) == 0
        assert world.values("7") == [b"v"] * 3

    def test_writes_that_must_wait_for_a_slow_replica_do_not_keep_others_from_giving_way(self) -> None:
        world = World(3)
        world.isolate(2)
        for number in range(RELIEVED_AT_ONCE):
            world.set(0, f"all{number}", "v", Level.ALL, timeout_s=9)
        calls = []
        for number in range(OPERATIONS_MAX + 200):
            calls.append(world.set(0, f"{number % 100}", "v"))
            if number % 50 == 0:
                world.settle()
        world.settle()
        assert {call.receipt().outcome for call in calls} == {Outcome.STORED}

    def test_a_disk_that_does_not_keep_up_is_overloaded(self) -> None:
        world = World(3)
        world.freeze(0)
        value = "v" * VALUE_BYTES_MAX
        calls = []
        for number in range(UNSYNCED_BYTES_MAX // VALUE_BYTES_MAX + 2):
            calls.append(world.set(0, f"{number}", value, Level.ALL))
            world.settle()
        with pytest.raises(Overloaded, match="disk does not keep up"):
            calls[-1].receipt()
        world.thaw(0)
        world.settle()
        assert calls[0].receipt().outcome is Outcome.STORED
        assert world.put(0, "k", "v").outcome is Outcome.STORED

    def test_finished_requests_leave_nothing_behind(self) -> None:
        world = World(3)
        for number in range(50):
            world.set(0, f"{number}", "v", bucket="once" if number % 2 else "default")
            world.get(1, f"{number}")
            world.scan(2)
        world.settle()
        assert [node.operations.count for node in world.running] == [0, 0, 0]
        assert [node.operations.bytes for node in world.running] == [0, 0, 0]

    def test_requests_that_time_out_leave_nothing_behind(self) -> None:
        world = World(3)
        world.isolate(1)
        world.isolate(2)
        for number in range(20):
            world.set(0, f"{number}", "v", timeout_s=0.3)
            world.get(0, f"{number}", timeout_s=0.3)
            world.scan(0, timeout_s=0.3)
        world.run(3)  # until the deliveries of hints have been given up, too
        assert world.node(0).operations.count == 0

    def test_a_client_that_has_gone_does_not_disturb(self) -> None:
        world = World(3)
        call = world.set(0, "k", "v")
        read = world.get(0, "k")
        client = world.clients[0]
        assert client is not None
        client.outbox.close()
        world.settle()
        assert not call.done
        assert not read.done
        assert world.values("k") == [b"v"] * 3
        assert world.node(0).operations.count == 0


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (Set(1, "default", b"", b"v", 2, 1000, 0, b""), "the key has 0 bytes"),
        (Set(1, "default", b"k" * (KEY_BYTES_MAX + 1), b"v", 2, 1000, 0, b""), "the key has 65537 bytes"),
        (Set(1, "default", b"k", b"v" * (VALUE_BYTES_MAX + 1), 2, 1000, 0, b""), "the value has"),
        (Set(1, "default", b"k", b"v", 5, 1000, 0, b""), "there is no level 5"),
        (Set(1, "default", b"k", b"v", -1, 1000, 0, b""), "there is no level -1"),
        (Set(1, "default", b"k", b"v", 2, 0, 0, b""), "a timeout of 0 ms"),
        (Set(1, "default", b"k", b"v", 2, 1001, 0, b""), "timeout_ms_max, 1000 ms"),
        (Set(1, "default", b"k", b"v", 2, 1000, -1, b""), "a ttl of -0.001 s"),
        (
            Set(1, "default", b"k", b"v", 2, 1000, TTL_MS_MAX + 1, b""),
            "a ttl of 3153600000.001 s; it must",
        ),
        (Set(1, "default", b"k", b"v", 2, 1000, 0, b"short"), "the identity of the write is malformed"),
        (Set(1, "default", b"k", b"v", 2, 1000, 0, bytes(40)), "a new write has no version"),
        (Set(1, "default", b"k", b"v", 2, 1000, 0, b"", True), "a write without an identity"),
        (Set(1, "default", b"k", b"v", 2, 1000, 0, bytes(40), True), "another key, bucket, value or ttl"),
        (Set(1, "", b"k", b"v", 2, 1000, 0, b""), "there is no bucket ''"),
        (Get(1, "default", b"", 2, 1000, b"", True), "the key has 0 bytes"),
        (Get(1, "default", b"k", 0, 1000, b"", True), "level any is for writes"),
        (Delete(1, "nowhere", b"k", 2, 1000, b""), "there is no bucket 'nowhere'"),
    ],
)
def test_what_makes_no_sense_is_an_invalid_request(message: Message, text: str) -> None:
    world = World(1)
    call = world.ask(0, lambda _: message)
    world.settle()
    with pytest.raises(InvalidRequest, match=text):
        call.receipt()


@pytest.mark.parametrize("size", [1, KEY_BYTES_MAX])
def test_the_longest_key_and_value_are_stored(size: int) -> None:
    world = World(3)
    key, value = "k" * size, "v" * VALUE_BYTES_MAX
    world.put(0, key, value, Level.ALL)
    assert world.look(1, key, Level.ALL).value == value.encode()
    world.put(0, key, "", Level.ALL)
    assert world.look(1, key, Level.ALL).value == b""


def test_a_bucket_that_is_built_in_later_is_not_there_yet() -> None:
    world = World(1)
    for ask in (lambda number: Set(number, "cas", b"k", b"v", 2, 1000, 0, b""),
                lambda number: Get(number, "cas", b"k", 2, 1000, b"", True)):  # fmt: skip
        call = world.ask(0, ask)
        world.settle()
        with pytest.raises(Unavailable, match="'cas' is built in, and is made some seconds after") as caught:
            call.receipt()
        assert caught.value.definite


def test_unless_one_of_its_name_was_dropped() -> None:
    world = World(3, logged=True, buckets={"cas": Rule.LAST_WRITE_WINS})
    drop(world, "cas")
    call = world.ask(0, lambda number: Get(number, "cas", b"k", 2, 1000, b"", True))
    world.settle()
    with pytest.raises(InvalidRequest, match="there is no bucket 'cas'; one of that name was dropped"):
        call.receipt()


def test_between_two_clocks_that_differ_nobody_stamps() -> None:
    """One of three is down, one is hours ahead: neither of the two knows which of them is wrong."""
    world = World(3)
    world.stop(2)
    world.settle()
    world.skew_ms[0] = 4 * 3600 * 1000
    world.run(6)
    for at in (0, 1):
        with pytest.raises(ClockSkew):
            world.put(at, "k", "v")
    assert world.values("k") == [None] * 3
    world.start(2)
    world.run(6)
    with pytest.raises(ClockSkew):
        world.put(0, "k", "v")
    assert world.put(1, "k", "v").outcome is Outcome.STORED
