"""Buckets that are dropped while nodes run, and made anew: nothing of the old one shows, anywhere, and
nothing of it stays."""

from collections.abc import Container, Iterator

import pytest

from basestore.consensus.messages import Append
from basestore.consistency import Level, Outcome
from basestore.errors import BasestoreError, InvalidRequest, RequestFailed
from basestore.instant import Instant
from basestore.node import Node
from basestore.protocol.anti_entropy import Entries
from basestore.protocol.client import Get
from basestore.protocol.membership import At
from basestore.protocol.replication import Read, Rejected
from basestore.repair.rule import Rule
from basestore.replica.dropped_rows import DroppedRows
from basestore.storage import keyspace
from basestore.topology.buckets import DROPPED, UNKNOWN_YET
from basestore.topology.changes import ForgetDropped
from basestore.topology.topology import Topology, later_label
from tests.worlds.changing import change, create, drop
from tests.worlds.deferring import defer
from tests.worlds.world import World

CARTS = {"carts": Rule.LAST_WRITE_WINS}  # a founding bucket: its label is its name
KEYS = [f"k{number}" for number in range(40)]


def carts(count: int = 3, **more: object) -> World:
    """A cluster with a bucket "carts" that holds something, and "default" that does too."""
    world = World(count, buckets=CARTS, logged=True, **more)  # type: ignore[arg-type]  # as World takes them
    for key in KEYS:
        world.put(0, key, "old", bucket="carts")
        world.put(0, key, "kept")
    return world


def a_get(key: str) -> Get:
    return Get(0, "carts", key.encode(), Level.QUORUM.value, 1000, b"", True)


def rows(world: World, index: int, label: bytes = b"carts") -> Iterator[bytes]:
    """Of a bucket, as they stand on a node's disk."""
    for key, _ in world.engines[index].scan(*keyspace.records()):
        row = keyspace.row_of(key)
        if row[3 : 3 + row[2]] == label:
            yield row


def hinted(world: World, index: int, label: bytes = b"carts") -> list[bytes]:
    found = [keyspace.row_of_hint(key) for key, _ in world.engines[index].scan(*keyspace.hints())]
    return [row for row in found if row[3 : 3 + row[2]] == label]


def dropped_rows(node: Node) -> DroppedRows:
    found = node.maintenance.dropped
    assert found is not None
    return found


def topology(node: Node) -> Topology:
    found = node.membership.group.topology
    assert found is not None
    return found


def purged(world: World, *indices: int) -> bool:
    """Whether nothing of "carts" is left on the disks of these nodes, or of all."""
    return not any(
        next(rows(world, index), None) or hinted(world, index) for index in indices or range(len(world.nodes))
    )


def alike(world: World) -> bool:
    """Whether all nodes hold the same, by their sums."""
    roots = [{p: s.root for p, s in node.summaries.of.items()} for node in world.running]
    return all(of == roots[0] for of in roots)


def count(world: World, name: str) -> int:
    return sum(node.metrics.counts[name] for node in world.running)


@pytest.mark.parametrize("nodes", [1, 2, 3])
def test_what_is_made_anew_under_the_name_shows_nothing_of_the_old(nodes: int) -> None:
    world = carts(nodes)
    drop(world, "carts")
    for at in range(nodes):
        for level in (Level.ONE, Level.QUORUM, Level.ALL):
            with pytest.raises(InvalidRequest, match="dropped at epoch"):
                world.look(at, "k1", level, bucket="carts")
        with pytest.raises(InvalidRequest, match="dropped"):
            world.put(at, "k1", "v", bucket="carts")
        call = world.scan(at, bucket="carts")
        world.settle()
        with pytest.raises(InvalidRequest, match="dropped"):
            call.page()
    create(world, "carts", rule="first-write-wins")
    for at in range(nodes):
        assert not world.look(at, "k1", Level.ALL, bucket="carts").found
        call = world.scan(at, bucket="carts")
        world.settle()
        assert call.page() == ([], None)
        assert world.look(at, "k1").value == b"kept"
    assert world.put(0, "k1", "new", bucket="carts").outcome is Outcome.STORED
    assert world.look(nodes - 1, "k1", bucket="carts").value == b"new"
    world.run(1.0)
    assert purged(world)
    assert alike(world)
    assert count(world, "records_of_dropped_buckets") == nodes * len(KEYS)


def test_a_dropped_bucket_leaves_no_sums_and_no_due_lines() -> None:
    world = carts(partitions=2)
    for at, key in enumerate(KEYS):
        call = world.delete(0, key, bucket="carts")
        if at % 2:
            call = world.set(0, key, "x", bucket="carts", ttl_s=9)
        world.settle()
        assert call.receipt().outcome is Outcome.STORED
    drop(world, "carts")
    world.run(1.0)
    assert purged(world)
    for index, node in enumerate(world.running):
        assert not list(world.engines[index].scan(*keyspace.whole(keyspace.DUE)))
        assert node.summaries.records == len(KEYS)
        for partition in node.summaries.of:
            node.maintenance.examine(partition)
    world.run(1.0)
    assert count(world, "partitions_scrubbed") == 6
    assert count(world, "leaves_corrected") == 0


def test_a_member_that_was_away_brings_nothing_back() -> None:
    world = carts(reconcile=True)
    world.crash(2)
    for key in KEYS:
        world.put(0, key, "newer", bucket="carts")
    assert hinted(world, 0)
    drop(world, "carts")
    create(world, "carts")
    world.run(1.0)
    assert purged(world, 0, 1)
    world.start(2)
    world.run(6.0)
    assert purged(world)
    assert alike(world)
    assert count(world, "mismatches") == 0
    assert not world.look(2, "k1", Level.ONE, bucket="carts").found
    moment = world.put(0, "k2", "new", bucket="carts")
    world.run(15.0)
    assert moment.version is not None
    for node in world.running:
        assert min(summary.stable for summary in node.summaries.of.values()) > moment.version.stamp


def test_hints_of_it_hold_back_no_closed_stamp() -> None:
    world = carts(reconcile=True)
    world.isolate(2)
    world.crash(1)
    call = world.set(0, "k1", "any", Level.ANY, bucket="carts")
    world.run(1.0)
    call.receipt()
    world.start(1)
    world.rejoin(2)
    for node in world.running:  # they stay, for nobody delivers them
        node.delivery.tick = lambda now: None  # type: ignore[method-assign]
    world.run(1.0)
    drop(world, "carts")
    world.run(1.0)
    assert not any(node.hints.only_copies() for node in world.running)
    assert purged(world)


def test_deferred_writes_of_it_go() -> None:
    world = carts()
    for other in (1, 2):
        world.part(0, other)
    for key in KEYS:
        call = defer(world, 0, key, bucket="carts")
        world.settle()
        assert call.receipt().outcome is Outcome.DEFERRED
    assert world.node(0).hints.deferred_count >= 2 * len(KEYS)
    drop(world, "carts", at=1)
    for other in (1, 2):
        world.join(0, other)
    world.run(3.0)
    assert world.node(0).hints.deferred_count == 0
    assert world.node(0).hints.only_copies() == []
    assert purged(world)
    assert alike(world)


def test_an_exchange_that_is_open_during_the_drop_brings_nothing_back() -> None:
    world = carts(reconcile=True, partitions=1)
    for at, key in enumerate(KEYS):
        world.plant(at % 2, key, "planted", world.stamp(), bucket="carts")
        world.plant(at % 2, key, "planted", world.stamp())
    world.lose = lambda sent: isinstance(sent.message, Entries)
    world.run(3.0)
    assert any(node.exchanges.count for node in world.running)
    drop(world, "carts")
    assert not any(node.exchanges.count for node in world.running)
    world.lose = lambda sent: False
    world.run(6.0)
    assert purged(world)
    assert alike(world)
    assert world.values("k1") == [b"planted"] * 3
    assert count(world, "mismatches") == 0


@pytest.mark.parametrize("hears", [True, False], ids=["purges late", "hears late"])
def test_replicas_of_which_one_has_purged_and_one_has_not_find_no_mismatch(hears: bool) -> None:
    world = carts(reconcile=True, partitions=1)
    world.run(8.0)
    late = world.node(2).maintenance
    work = late.work
    if hears:
        late.work = lambda rows, busy, now: None  # type: ignore[method-assign]
    else:
        world.lose = lambda sent: sent.target == 2 and isinstance(sent.message, At | Append)
    drop(world, "carts")
    for key in KEYS:
        world.put(0, key, "more")
    world.run(8.0)
    assert purged(world, 0, 1)
    assert len(list(rows(world, 2))) == len(KEYS)
    assert count(world, "mismatches") == 0
    world.lose = lambda sent: False
    late.work = work  # type: ignore[method-assign]
    world.run(15.0)
    assert purged(world)
    assert alike(world)
    assert count(world, "mismatches") == 0


def test_a_member_that_does_not_know_yet_takes_nothing_of_a_new_bucket_and_gets_it_later() -> None:
    world = carts(reconcile=True, partitions=1)
    world.lose = lambda sent: sent.target == 2 and isinstance(sent.message, At | Append)
    number = create(world, "once more", rule="first-write-wins")
    for value in ("first", "second"):
        world.put(0, "k", value, bucket="once more")
    refused = [sent.message for sent in world.sent(Rejected, 2)]
    assert refused
    assert all(isinstance(each, Rejected) and each[1:] == (UNKNOWN_YET, True) for each in refused)
    world.run(5.0)
    label = later_label(number)
    assert not list(rows(world, 2, label))
    assert count(world, "mismatches") == 0
    world.lose = lambda sent: False
    world.run(15.0)
    assert len(list(rows(world, 2, label))) == 1
    assert world.look(2, "k", Level.ONE, bucket="once more").value == b"first"
    assert alike(world)


def test_who_has_not_heard_of_the_drop_is_shown_nothing_by_those_that_have() -> None:
    world = carts()
    world.lose = lambda sent: sent.target == 2 and isinstance(sent.message, At | Append)
    drop(world, "carts")
    for node in world.running[:2]:  # it stays on their disks
        dropped_rows(node).pending.clear()
    call = world.scan(2, bucket="carts")
    together = world.ask_together(2, [a_get(key) for key in KEYS])
    world.run(1.5)
    singly = [world.get(2, "k1", level, bucket="carts") for level in (Level.QUORUM, Level.ALL)]
    for each in (*together, *singly):
        world.run(1.1)
        with pytest.raises(RequestFailed, match=DROPPED):
            each.read()
    with pytest.raises(RequestFailed, match=DROPPED):
        call.page()
    with pytest.raises(RequestFailed, match=DROPPED):
        world.put(2, "k1", "v", bucket="carts")
    assert not world.node(2).hints.count(0)


def test_a_purge_goes_on_after_a_crash_and_an_opening_looks_for_nothing_that_is_not_there() -> None:
    world = World(1, buckets=CARTS, partitions=2, logged=True)
    for number in range(300):
        world.put(0, f"k{number}", "v", bucket="carts")
    node = world.node(0)
    work, slices, dropped = node.maintenance.work, list[int](), dropped_rows(node)

    def slowly(rows: int, busy: Container[int], now: Instant) -> int | None:
        if dropped.pending:
            slices.append(rows)
        return work(20, busy, now) if len(slices) < 5 else None

    node.maintenance.work = slowly  # type: ignore[method-assign]
    drop(world, "carts")
    world.run(0.1)
    assert 0 < len(list(rows(world, 0))) < 300
    node = world.restart(0)
    assert dropped_rows(node).pending
    world.run(1.0)
    assert purged(world)
    assert dropped_rows(node).upto == topology(node).dropped_since
    assert not dropped_rows(world.restart(0)).pending


def test_a_damaged_record_of_it_goes_and_its_partition_is_counted_anew() -> None:
    world = carts(reconcile=True, partitions=1)
    world.spoil(0, "k1", bucket="carts")
    world.lose = lambda sent: isinstance(sent.message, Read)
    call = world.get(0, "k1", Level.ALL, bucket="carts")
    world.run(1.5)
    with pytest.raises(BasestoreError):
        call.read()
    drop(world, "carts")
    world.lose = lambda sent: False
    world.run(6.0)
    assert purged(world)
    assert alike(world)
    node = world.node(0)
    assert not node.replica.damaged
    assert not node.maintenance.suspects


def test_a_store_that_missed_the_drop_is_rid_of_it_though_all_others_have_forgotten_it() -> None:
    world = carts(reconcile=True)
    world.crash(2)
    drop(world, "carts")
    world.run(1.0)
    numbers = [each.number for each in topology(world.node(0)).dropped]
    assert not change(world, 0, ForgetDropped(numbers)).error
    world.start(2)
    world.run(6.0)
    assert not topology(world.node(2)).dropped
    assert purged(world)
    assert alike(world)


def test_a_write_that_waits_to_be_deferred_when_its_bucket_goes_is_refused() -> None:
    world = carts()
    content = world.content("carts", "k1", b"v")
    drop(world, "carts")
    with pytest.raises(InvalidRequest, match=DROPPED):
        world.node(0).hints.defer(content.row, content.again(world.digester, world.stamp()), (0, 1, 2))
