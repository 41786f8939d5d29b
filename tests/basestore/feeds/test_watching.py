"""What is watched is told: of each key what came last, at whichever node, and marks that are never wrong."""

from collections.abc import Callable
from functools import cache

import pytest

from basestore.errors import InvalidRequest, Overloaded
from basestore.feeds import feed, follower, followers, watches
from basestore.protocol.client import IF_ABSENT, Delete, Set
from basestore.repair.seats import Seats, Stage
from basestore.results.receipts import Gap, Progress, Receipt
from tests.worlds.watchers import Watcher
from tests.worlds.world import World

STABLE_S = 25.0  # in which what was written is proven to be everywhere


def new_world(count: int = 3) -> World:
    return World(count, logged=True, reconcile=True, partitions=4)


def numbered(message: Set) -> Callable[[int], Set]:
    return lambda request: message._replace(id=request)


def stamp_of(receipt: Receipt) -> int:
    assert receipt.version is not None
    return receipt.version.stamp


def test_what_is_written_is_told_once_and_in_order() -> None:
    world = new_world()
    world.put(0, "before", "x")
    watcher = Watcher(world, 0).begin()
    for value in ("1", "2", "3"):
        world.put(1, "k", value)
        watcher.poll()
    world.put(2, "l", "4")
    watcher.poll()
    assert watcher.told == [(b"k", b"1"), (b"k", b"2"), (b"k", b"3"), (b"l", b"4")]
    assert watcher.gaps == []


def test_what_is_replaced_before_it_is_told_is_left_out() -> None:
    world = new_world()
    watcher = Watcher(world, 0).begin()
    for value in "12345":
        world.put(0, "k", value)
    watcher.follow(1.0)
    assert watcher.told == [(b"k", b"1"), (b"k", b"5")]  # the first was on its way


def test_a_deletion_is_told() -> None:
    world = new_world()
    watcher = Watcher(world, 0).begin()
    world.put(0, "k", "v")
    watcher.poll()
    world.delete(1, "k")
    watcher.poll()
    assert watcher.told == [(b"k", b"v"), (b"k", None)]


def test_only_the_prefix_and_the_bucket_are_told() -> None:
    world = new_world()
    watcher = Watcher(world, 0, b"user/").begin()
    for key, bucket in (("user/1", "default"), ("use", "default"), ("user/2", "once"), ("user0", "default")):
        world.put(0, key, "v", bucket=bucket)
    watcher.follow(1.0)
    assert watcher.told == [(b"user/1", b"v")]


def test_everything_is_what_is_held_and_what_comes() -> None:
    world = new_world()
    for each in range(20):
        world.put(0, f"k{each}", f"{each}")
    watcher = Watcher(world, 2, everything=True)
    world.put(0, "k3", "new")
    watcher.follow(1.0)
    world.put(0, "k4", "newer")
    watcher.follow(1.0)
    assert watcher.held == {**{b"k%d" % at: b"%d" % at for at in range(20)}, b"k3": b"new", b"k4": b"newer"}
    assert watcher.gaps == []


def test_marks_follow_what_is_proven_and_never_run_ahead() -> None:
    world = new_world()
    watcher = Watcher(world, 0).begin()
    receipt = world.put(1, "k", "v")
    watcher.follow(STABLE_S)
    stamps = [mark.stable for mark in watcher.marks]
    assert stamps == sorted(stamps)
    assert stamps[-1] >= stamp_of(receipt)
    stable = [node.summaries.of[part].stable for node in world.running for part in range(4)]
    assert stamps[-1] <= min(stable)


def test_a_token_goes_on_at_another_node_and_repeats_little() -> None:
    world = new_world()
    watcher = Watcher(world, 0).begin()
    for each in range(12):
        world.put(0, f"k{each}", "v")
    watcher.follow(3.0)
    told = len(watcher.changes)
    watcher.move(1)
    world.put(2, "k", "after")
    watcher.follow(2.0)
    assert [change.key for change in watcher.changes[told:]] == [b"k"]
    assert watcher.gaps == []


@pytest.mark.parametrize("at", [0, 1])
def test_where_the_replica_that_tells_is_lost_another_goes_on(at: int) -> None:
    world = new_world()
    watcher = Watcher(world, at).begin()
    world.put(2, "before", "v")
    watcher.follow(3.0)
    world.crash(0)
    if at == 0:
        watcher.move(1)
    world.put(2, "after", "v")
    watcher.follow(3.0)
    world.start(0)
    world.put(2, "again", "v")
    watcher.follow(3.0)
    assert watcher.held == {b"before": b"v", b"after": b"v", b"again": b"v"}
    assert watcher.gaps == []


def test_a_store_that_was_wiped_is_not_taken_for_the_one_before() -> None:
    world = new_world()
    watcher = Watcher(world, 0).begin()
    world.put(1, "k", "v")
    watcher.follow(2.0)
    world.wipe(0)
    world.put(1, "l", "v")
    world.start(0)
    world.run(5.0)
    watcher.move(0)
    watcher.follow(3.0)
    assert watcher.held == {b"k": b"v", b"l": b"v"}


def test_deletions_that_were_purged_meanwhile_are_a_gap() -> None:
    world = new_world()
    watcher = Watcher(world, 0).begin()
    receipt = world.put(0, "k", "v")
    watcher.follow(1.0)
    world.delete(0, "k")
    world.run(2 * STABLE_S)
    assert world.stored(0, "k") is None
    watcher.move(1)
    events = watcher.poll()
    assert any(isinstance(event, Gap) for event in events)
    assert watcher.gaps[0] > stamp_of(receipt)


def test_who_reads_in_time_is_told_of_no_gap() -> None:
    world = new_world()
    watcher = Watcher(world, 0).begin()
    for each in range(5):
        world.put(0, "k", f"{each}")
        watcher.follow(1.0)
        world.delete(0, "k")
        watcher.follow(10.0)
    watcher.follow(STABLE_S)
    assert world.stored(0, "k") is None
    assert watcher.gaps == []
    assert watcher.told[-1] == (b"k", None)


def test_a_gap_elsewhere_in_the_partition_is_none_here() -> None:
    world = new_world()
    watcher = Watcher(world, 0, bucket="once").begin()
    world.put(0, "k", "v")
    world.delete(0, "k")
    world.run(2 * STABLE_S)
    watcher.move(1)
    watcher.follow(2.0)
    assert watcher.gaps == []


def test_lines_that_went_are_made_good_by_a_look_through() -> None:
    world = new_world()
    watcher = Watcher(world, 0).begin()
    for each in range(10):
        world.put(0, f"k{each}", "v")
    world.run(4.0)
    for node in world.running:
        for summary in node.summaries.of.values():
            summary.floor = summary.sequence
    watcher.move(0)
    watcher.follow(2.0)
    assert len(watcher.held) == 10


def test_registers_tell_what_is_learned_in_the_order_of_their_versions() -> None:
    world = new_world()
    watcher = Watcher(world, 0, bucket="cas").begin()
    versions = []
    for value in (b"1", b"2"):
        written = Set(0, "cas", b"k", value, 4, 900, 0, b"p" * 7 + value)
        call = world.ask(1, numbered(written))
        world.settle()
        versions.append(call.receipt().version)
        watcher.follow(1.0)
    lost = world.ask(
        1, lambda request: Set(request, "cas", b"k", b"3", 4, 900, 0, b"q" * 8, condition=IF_ABSENT)
    )
    world.settle()
    assert not lost.receipt()
    world.ask(2, lambda request: Delete(request, "cas", b"k", 4, 900, b"r" * 8))
    watcher.follow(1.0)
    assert watcher.told == [(b"k", b"1"), (b"k", b"2"), (b"k", None)]
    assert [change.version for change in watcher.changes][:2] == versions
    orders = [change.order for change in watcher.changes]
    assert orders == sorted(orders)


def test_first_writes_are_told() -> None:
    world = new_world()
    watcher = Watcher(world, 0, bucket="once").begin()
    world.put(1, "k", "first", bucket="once")
    world.put(2, "k", "second", bucket="once")
    watcher.follow(1.0)
    assert watcher.told == [(b"k", b"first")]


def test_an_expiry_is_told_with_its_value_and_what_has_expired_as_gone() -> None:
    world = new_world()
    watcher = Watcher(world, 0).begin()
    world.ask(1, lambda request: Set(request, "default", b"k", b"v", 2, 900, 3000, b""))
    watcher.poll()
    (change,) = watcher.changes
    assert change.value == b"v"
    assert change.expires_ms is not None
    world.run(4.0)
    late = Watcher(world, 2, everything=True)
    late.follow(1.0)
    assert late.told == [(b"k", None)]


def test_a_dropped_bucket_ends_its_watch_by_name() -> None:
    world = new_world()
    world.node(0)  # the cluster is founded
    watcher = Watcher(world, 0, bucket="once").begin()
    watcher.ask()
    world.settle()
    del world.node(0).context.buckets.rules[b"once"]
    world.run(0.2)
    with pytest.raises(InvalidRequest, match="'once' is watched no more"):
        watcher.hear()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"bucket": "nowhere"}, "no bucket 'nowhere'"),
        ({"token": "x"}, "the token is damaged"),
        ({"prefix": bytes((1 << 16) + 1)}, "the prefix has 65537 bytes"),
        ({"bytes_max": 0}, "at most 0 bytes"),
    ],
)
def test_bad_input_is_refused_by_name(options: dict[str, str], told: str) -> None:
    watcher = Watcher(small_world(), 0, **options)  # type: ignore[arg-type]
    watcher.ask()
    with pytest.raises(InvalidRequest, match=told):
        watcher.hear()


@cache
def small_world() -> World:
    return new_world(1)


def test_before_all_members_speak_of_it_nothing_is_watched() -> None:
    watcher = Watcher(World(3), 0)
    watcher.ask()
    with pytest.raises(InvalidRequest, match=r"nothing can be watched yet: .* needs 13"):
        watcher.hear()


def test_so_many_watch_a_node_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watches, "WATCHERS_MAX", 2)
    world = new_world(1)
    for _ in range(2):
        Watcher(world, 0).begin()
    third = Watcher(world, 0)
    third.ask()
    with pytest.raises(Overloaded, match="watchers are served by this node"):
        third.hear()


def test_who_takes_nothing_holds_nothing_up_and_costs_one_answer_of_each_source() -> None:
    world = new_world()
    watcher = Watcher(world, 0).begin()
    for each in range(300):
        world.put(1, f"k{each}", "v" * 10_000)
    held = sum(outbox.bytes for outbox in world.links.values()) + world.clients[0].outbox.bytes  # type: ignore[union-attr]
    assert held < 1 << 20
    watcher.follow(3.0)
    assert len(watcher.held) == 300


def test_who_asks_for_nothing_is_forgotten_and_goes_on_by_the_token() -> None:
    world = new_world()
    watcher = Watcher(world, 0).begin()
    assert world.node(0).feeds.watches.count == 1
    world.run(32.0)
    assert world.node(0).feeds.watches.count == 0
    assert all(node.feeds.followers.count == 0 for node in world.running)
    world.put(0, "k", "v")
    assert watcher.poll() == []  # there is no such feed any more
    watcher.follow(1.0)
    assert watcher.told == [(b"k", b"v")]


def test_a_connection_that_ends_takes_its_feeds_with_it() -> None:
    world = new_world()
    Watcher(world, 0).begin()
    client = world.clients[0]
    assert client is not None
    world.node(0).intake.close(client.outbox)
    world.run(1.5)
    assert all(node.feeds.followers.count == 0 for node in world.running)
    assert world.node(0).feeds.watches.count == 0


def test_until_nothing_happens_a_watch_is_answered_within_its_time() -> None:
    watcher = Watcher(small_world(), 0).begin()
    began_s = watcher.world.monotonic
    assert all(isinstance(event, Progress) for event in watcher.poll())
    assert watcher.world.monotonic - began_s < 1.0


def test_where_seats_change_whoever_holds_the_partition_then_goes_on() -> None:
    world = World(4, replication=3, logged=True, reconcile=True, partitions=1)
    held = world.node(0).context.placement.replicas[0]
    (comes,) = {0, 1, 2, 3} - {*held}
    leaves, *stay = held
    watcher = Watcher(world, leaves).begin()
    world.put(stay[0], "before", "v")
    watcher.follow(2.0)
    epoch = max(node.peers.epoch for node in world.running)
    new = (*stay, comes)
    stages = (
        Seats(epoch + 1, Stage.FILL, held, new),
        Seats(epoch + 2, Stage.JOINT, held, new),
        Seats.still(new, epoch + 3),
    )
    for seats in stages:
        world.adopt({0: seats}, seats.since)
        world.put(stay[0], f"in {seats.stage.name}", "v")
        watcher.follow(6.0)
        world.put(stay[1], f"after {seats.stage.name}", "v")
    watcher.follow(6.0)
    stages_told = {f"{when} {stage.name}".encode() for when in ("in", "after") for stage in Stage}
    assert watcher.held.keys() == {b"before", *stages_told}
    assert watcher.gaps == []
    assert all(node.feeds.followers.count == 0 for node in (world.node(leaves),))


def test_lines_are_kept_for_who_has_not_read_them_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    world = new_world(1)
    watcher = Watcher(world, 0).begin()
    node = world.node(0)
    for each in range(40):
        world.put(0, f"k{each}", "v")
    behind = {part: node.feeds.followers.kept(part) for part in range(4)}
    assert any(kept < node.summaries.of[part].sequence for part, kept in behind.items())
    assert all(node.certificates.passed(part) <= kept for part, kept in behind.items())
    monkeypatch.setattr(followers, "KEPT_LINES_MAX", 3)
    assert all(node.feeds.followers.kept(part) > 1 << 60 for part, kept in behind.items() if kept < 3)
    watcher.follow(2.0)
    assert len(watcher.held) == 40


def test_lines_that_became_rows_for_a_follower_go_once_they_are_read() -> None:
    world = new_world(1)
    node = world.node(0)
    node.summaries.summary_log.checkpoint_at_bytes = 2000
    watcher = Watcher(world, 0).begin()
    for each in range(100):
        world.put(0, f"k{each}", "v")
    assert any(node.summaries.summary_log.has_rows(part) for part in range(4))
    watcher.follow(5.0)
    assert len(watcher.held) == 100
    assert not any(node.summaries.summary_log.has_rows(part) for part in range(4))


def test_how_a_node_stands_says_who_watches_and_how_far_behind() -> None:
    world = new_world()
    Watcher(world, 0).begin().follow(STABLE_S)
    facts = world.state(0).facts
    assert facts["watchers"] == "1"
    assert 0 < int(facts["watch lag ms"]) < 1000 * STABLE_S
    assert [world.state(at).facts["feeds served"] for at in range(3)] == ["1", "0", "0"]


@pytest.mark.parametrize("count", range(6, 10))
def test_a_mark_waits_for_what_has_replaced_a_line_that_was_not_read(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "LINES_MAX", 1)
    monkeypatch.setattr(follower, "READ_AT_ONCE", 1)
    monkeypatch.setattr(feed, "TOKEN_S", 0.0)
    world = World(3, logged=True, reconcile=True, partitions=1)
    watcher = Watcher(world, 0, bytes_max=1).begin()
    receipts = [world.put(0, f"k{each}", "old") for each in range(count)]
    world.run(STABLE_S)
    while b"k2" not in watcher.held:  # its mark is noted by now, and waits for the rest
        watcher.poll()
    replaced = b"k%d" % (count - 2)
    world.put(0, replaced.decode(), "new")
    marked = False
    for _ in range(30):
        for event in watcher.poll():
            if isinstance(event, Progress) and event.stable >= stamp_of(receipts[-2]):
                assert watcher.held[replaced] == b"new"
                marked = True
    assert marked
