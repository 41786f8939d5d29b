"""Scans: every key as a get at the same level would find it, page by page."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from basestore.consistency import Level
from basestore.errors import InvalidRequest, Overloaded, ReadTimeout, ReplicaFailure, Unavailable
from basestore.protocol.client import Scan
from basestore.protocol.limits import KEY_BYTES_MAX, ProtocolError
from basestore.protocol.replication import Range, Read, ReadRange
from basestore.repair.version import RECORD_BYTES_MIN
from tests.worlds.stalling import Stalling
from tests.worlds.world import World


def scan_all(world: World, at: int, prefix: str = "", limit: int = 100, level: Level = Level.QUORUM,
             bucket: str = "default") -> dict[bytes, bytes]:  # fmt: skip
    """All pages of a scan; each key must come once and in order."""
    found: list[tuple[bytes, bytes]] = []
    after: bytes | None = b""
    while after is not None:
        call = world.scan(at, prefix, level, bucket=bucket, after=after, limit=limit)
        world.settle()
        items, after = call.page()
        assert len(items) <= limit
        found += [(item.key, item.value) for item in items]
    keys = [key for key, _ in found]
    assert keys == sorted(set(keys))
    return dict(found)


@pytest.mark.parametrize(("count", "replication"), [(1, 1), (3, 3), (5, 3), (7, 3)])
@pytest.mark.parametrize("level", [Level.ONE, Level.QUORUM, Level.ALL])
def test_a_scan_finds_every_key_once_in_order(count: int, replication: int, level: Level) -> None:
    world = World(count, replication=replication)
    keys = [f"{number:03}" for number in range(60)]
    for key in keys:
        world.set(0, key, key, Level.ALL)
    world.settle()
    expected = {key.encode(): key.encode() for key in keys}
    for at in (0, count - 1):
        assert scan_all(world, at, level=level) == expected
        assert scan_all(world, at, limit=7, level=level) == expected
    assert scan_all(world, 0, "01", level=level) == {k: v for k, v in expected.items() if k[:2] == b"01"}


def test_it_ends_at_the_prefix_whatever_bytes_it_is_made_of() -> None:
    world = World(1)
    keys = ["a", "a\x00", "a\x7f", "ab", "b", "\x7f\x7f"]
    for key in keys:
        world.put(0, key, "v")
    for prefix in [*keys, "", "c"]:
        assert set(scan_all(world, 0, prefix)) == {k.encode() for k in keys if k.startswith(prefix)}


@settings(max_examples=30)
@given(
    keys=st.sets(st.binary(min_size=1, max_size=3).map(lambda b: bytes(x | 0xFC for x in b)), max_size=12),
    prefix=st.binary(max_size=2).map(lambda b: bytes(x | 0xFC for x in b)),
    limit=st.integers(1, 4),
)
def test_keys_and_prefixes_of_the_highest_bytes(keys: set[bytes], prefix: bytes, limit: int) -> None:
    world = World(1, partitions=2)
    for key in keys:
        world.set(0, key.decode("latin-1"), "v")  # stands for itself below
    world.settle()
    expected = sorted(k.decode("latin-1").encode() for k in keys)
    stem = prefix.decode("latin-1").encode()
    found = list(scan_all(world, 0, prefix.decode("latin-1"), limit))
    assert found == [key for key in expected if key.startswith(stem)]


def test_a_bucket_whose_name_begins_like_another_is_kept_apart() -> None:
    world = World(3)
    world.put(0, "k", "v")
    world.put(0, "k", "w", bucket="once")
    assert scan_all(world, 0) == {b"k": b"v"}
    assert scan_all(world, 0, bucket="once") == {b"k": b"w"}


def test_deleted_and_expired_keys_are_left_out_and_cost_no_page_its_end() -> None:
    world = World(3)
    for number in range(30):
        world.set(0, f"{number:02}", "v", Level.ALL, ttl_s=1 if number % 3 == 0 else 0)
    world.settle()
    world.run(1.5)
    for number in range(0, 30, 2):
        world.delete(0, f"{number:02}", Level.ALL)
    world.settle()
    expected = {f"{n:02}".encode() for n in range(30) if n % 2 and n % 3}
    assert set(scan_all(world, 1, limit=4)) == expected


@pytest.mark.parametrize("level", [Level.QUORUM, Level.ALL])
def test_diverged_replicas_are_weighed_and_repaired_like_in_a_get(level: Level) -> None:
    world = World(3)
    for number in range(9):
        world.put(0, f"{number}", "old", Level.ALL)
    for number in range(9):
        world.plant(number % 3, f"{number}", "new", world.stamp())
    world.plant(0, "9", "only here", world.stamp())
    found = scan_all(world, 0, level=level)
    for key, value in found.items():
        for at in range(3):
            assert value == b"old" or world.look(at, key.decode(), level).value == value
    assert found[b"0"] == b"new"
    assert found[b"9"] == b"only here"


def test_what_a_scan_has_shown_is_shown_for_ever() -> None:
    world = World(3)
    world.plant(0, "k", "half a write", world.stamp())
    assert scan_all(world, 0) == {b"k": b"half a write"}
    world.crash(0)
    world.settle()
    assert world.look(1, "k").value == b"half a write"


def test_large_values_are_spread_over_pages() -> None:
    world = World(3)
    value = "v" * 400_000
    for number in range(6):
        world.put(0, f"{number}", value, Level.ALL)
    call = world.scan(0)
    world.settle()
    items, after = call.page()
    assert 1 <= len(items) < 6
    assert after is not None
    assert len(scan_all(world, 1)) == 6


def test_a_partition_with_too_few_replicas_makes_it_unavailable() -> None:
    world = World(5, replication=3)
    at = world.outsider("k")
    for replica in world.replicas("k")[:2]:
        world.stop(replica)
    world.settle()
    call = world.scan(at)
    world.settle()
    with pytest.raises(Unavailable):
        call.page()


def test_a_link_lost_in_the_middle_fails_it() -> None:
    world = World(3)
    world.isolate(1)
    world.isolate(2)
    call = world.scan(0)
    world.settle()
    assert not call.done
    world.part(0, 1)
    world.part(0, 2)
    world.settle()
    with pytest.raises(ReplicaFailure, match="could not scan"):
        call.page()
    assert world.node(0).operations.count == 0


def test_silence_times_it_out() -> None:
    world = World(3)
    world.isolate(1)
    world.isolate(2)
    call = world.scan(0, timeout_s=0.5)
    world.run(0.6)
    with pytest.raises(ReadTimeout):
        call.page()
    assert world.node(0).operations.count == 0


# --- what a page may cost --------------------------------------------------------------------------


def pages(world: World, at: int, limit: int, level: Level = Level.QUORUM) -> list[list[bytes]]:
    """The keys of each page until one has some, or there are no more."""
    told: list[list[bytes]] = []
    after: bytes | None = b""
    while after is not None and not any(told):
        call = world.scan(at, "", level, after=after, limit=limit)
        world.settle()
        items, after = call.page()
        told.append([item.key for item in items])
    return told


def test_few_requests_lead_through_many_deleted_rows_to_the_key_that_was_asked_for() -> None:
    world = World(3)
    world.stop(2)
    world.run(1)  # so that its tombstones stay
    for number in range(2500):
        world.delete(0, f"{number:04}")
    world.set(0, "live", "v")
    world.settle()
    asked = len(world.sent(ReadRange))
    assert pages(world, 0, limit=1) == [[], [], [b"live"]]
    assert len(world.sent(ReadRange)) - asked == 3  # and as many to this node itself
    assert world.sent(Read) == []


def test_a_page_shows_what_was_asked_for_however_many_dead_rows_lie_between() -> None:
    world = World(3)
    for number in range(300):
        world.set(0, f"{number:03}", "v")
        if number % 100:
            world.delete(0, f"{number:03}")
    world.settle()
    assert pages(world, 0, limit=2) == [[b"000", b"100"]]
    assert pages(world, 0, limit=3) == [[b"000", b"100", b"200"]]


def test_what_does_not_live_any_more_is_looked_at_without_its_value() -> None:
    world = World(3)
    for number in range(6):
        world.set(0, f"{number}", "v" * 400_000, ttl_s=1)
    world.set(0, "6", "live")
    world.settle()
    world.run(1.5)
    assert pages(world, 0, limit=1) == [[b"6"]]
    assert max(len(sent.message.rows[1]) for sent in world.sent(Range)) == RECORD_BYTES_MIN  # type: ignore[attr-defined]


def test_what_one_replica_has_purged_and_another_not_yet_costs_no_read() -> None:
    world = World(3, partitions=1, reconcile=True)
    old = world.stamp()
    world.put(0, "live", "v")
    world.run(60)
    assert world.node(0).summaries.of[0].stable > old.stamp
    for number in range(100):
        world.plant(0, f"{number:02}", "", old._replace(number=number + 1), tombstone=True)
    assert pages(world, 0, limit=1) == [[b"live"]]
    assert world.sent(Read) == []


def test_a_scan_whose_answers_nobody_takes_is_refused_before_it_is_begun() -> None:
    world = World(3)
    client = world.clients[0]
    assert client is not None
    client.outbox.bytes = 20 << 20
    call = world.scan(0)
    client.outbox.bytes = 0
    world.settle()
    with pytest.raises(Overloaded, match="Take the answers"):
        call.page()
    assert world.node(0).operations.count == 0


def test_more_pages_than_a_connection_can_carry_are_refused_one_by_one_and_it_stands() -> None:
    world = World(1)
    for number in range(3):
        world.put(0, f"{number}", "v" * 400_000)
    calls = [world.scan(0) for _ in range(40)]
    for _ in range(20):  # a frame at a time
        world.turn()
    told = []
    for call in calls:
        try:
            told.append(len(call.page()[0]))
        except Overloaded:
            told.append(0)
    assert 10 < told.count(3) < 20
    assert told.count(0) == 40 - told.count(3)
    client = world.clients[0]
    assert client is not None
    assert not client.outbox.overflowed
    assert world.node(0).operations.count == 0


# --- replicas that are slow, refuse, or go ---------------------------------------------------------


def test_a_replica_that_is_silent_in_the_middle_of_a_scan_holds_up_no_page_for_long() -> None:
    world = World(3)
    world.put(0, "k", "v", Level.ALL)
    world.isolate(1)
    call = world.scan(0)
    world.settle()
    assert not call.done
    world.run(0.2)
    assert [item.key for item in call.page()[0]] == [b"k"]
    assert world.node(0).metrics.counts["speculative_retries"] == 1
    assert world.node(0).operations.count == 0


def test_a_slow_replica_that_answers_after_all_is_as_good_as_the_one_asked_instead() -> None:
    world = World(3)
    world.put(0, "k", "v", Level.ALL)
    world.isolate(1)
    world.hold(2, 0)
    call = world.scan(0)
    world.run(0.15)
    assert not call.done
    world.rejoin(1)
    world.settle()
    assert [item.key for item in call.page()[0]] == [b"k"]


@pytest.mark.parametrize(("count", "replication"), [(3, 3), (5, 3), (7, 5)])
def test_of_a_replica_that_goes_its_share_is_asked_of_others(count: int, replication: int) -> None:
    world = World(count, replication=replication, partitions=16)
    for number in range(40):
        world.set(0, f"{number:02}", "v", Level.ALL)
    world.settle()
    world.isolate(1)
    call = world.scan(0)
    world.settle()
    assert not call.done
    world.part(0, 1)
    world.settle()
    assert len(call.page()[0]) == 40
    shares = [sent.message.partitions for sent in world.sent(ReadRange, 0) if sent.target != 1]  # type: ignore[attr-defined]
    lost = [sent.message.partitions for sent in world.sent(ReadRange, 0) if sent.target == 1]  # type: ignore[attr-defined]
    assert len(shares) <= 2 * (count - 1)
    assert set(lost[0]) <= {partition for share in shares for partition in share}


def test_a_replica_that_refuses_is_replaced_and_two_are_named() -> None:
    world = World(3)
    world.put(0, "k", "v", Level.ALL)
    stalled = [Stalling(world, 1)]
    world.put(0, "other", "v")
    call = world.scan(0)
    world.settle()
    assert [item.key for item in call.page()[0]] == [b"k", b"other"]
    stalled.append(Stalling(world, 2))
    world.set(0, "third", "v")
    world.settle()
    call = world.scan(0)
    world.settle()
    with pytest.raises(ReplicaFailure, match="n2: its disk does not keep up; n3: its disk") as failed:
        call.page()
    assert set(failed.value.reasons) == {"n2", "n3"}


def test_a_scan_at_all_has_nobody_to_ask_instead() -> None:
    world = World(3)
    world.isolate(1)
    call = world.scan(0, level=Level.ALL, timeout_s=0.5)
    world.run(0.6)
    with pytest.raises(ReadTimeout) as late:
        call.page()
    assert (late.value.received, late.value.required) == (2, 3)


def test_what_makes_no_sense_is_refused() -> None:
    world = World(1)
    for make, text in [
        (lambda r: Scan(r, "default", b"", b"", 0, Level.ONE, 1000), "at least 1 key"),
        (lambda r: Scan(r, "default", b"p" * (KEY_BYTES_MAX + 1), b"", 1, 1, 1000), "the prefix has"),
        (lambda r: Scan(r, "default", b"", b"p" * (KEY_BYTES_MAX + 1), 1, 1, 1000), "place to go on"),
        (lambda r: Scan(r, "default", b"", b"", 1, Level.ANY, 1000), "level any is for writes"),
        (lambda r: Scan(r, "nowhere", b"", b"", 1, Level.ONE, 1000), "there is no bucket"),
    ]:
        call = world.ask(0, make)
        world.settle()
        with pytest.raises(InvalidRequest, match=text):
            call.page()


def test_rows_of_partitions_that_the_cluster_does_not_have_are_refused() -> None:
    world = World(3)
    node = world.node(0)
    world.scan(0, "")
    outbox = node.peers.all[1].outbox
    (asked,) = [message for message in outbox.messages if isinstance(message, ReadRange)]
    stray = b"\xff\xff" + bytes((1,)) + b"dkey"
    answer = Range(asked.id, [stray, bytes(RECORD_BYTES_MIN)], False, [0] * len(asked.partitions))
    with pytest.raises(ProtocolError, match="not asked for"):
        node.receive(1, outbox, [answer], world.now(0))
