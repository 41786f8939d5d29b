"""What was dropped is struck off the topology's list once no member holds any of it, and not before."""

import pytest

from basestore.consensus.messages import Append
from basestore.handoff.dropped_hints import SLICE
from basestore.instant import Instant
from basestore.membership.forgetting import LOOK_S
from basestore.protocol.heartbeats import Ping
from basestore.protocol.membership import At
from basestore.repair.rule import Rule
from basestore.topology.changes import AddMember, RemoveMember
from basestore.topology.topology import Topology
from tests.worlds.changing import change, create, drop
from tests.worlds.world import TICK_S, World

LOOKED_S = 4.0  # heartbeats have come, and the leader has looked


def carts(count: int = 3, **more: object) -> World:
    """A cluster with a bucket "carts" that holds something."""
    buckets = {"carts": Rule.LAST_WRITE_WINS, "pens": Rule.LAST_WRITE_WINS}
    world = World(count, buckets=buckets, logged=True, **more)  # type: ignore[arg-type]  # as World takes them
    for number in range(20):
        world.put(0, f"k{number}", "old", bucket="carts")
    return world


def topology(world: World, index: int) -> Topology:
    found = world.node(index).membership.group.topology
    assert found is not None
    return found


def listed(world: World) -> set[str]:
    """What is on the list of any node that follows the log."""
    known = [node.membership.group.topology for node in world.running]
    return {each.name for topology in known if topology is not None for each in topology.dropped}


def rest(world: World, index: int) -> None:
    """The node purges no rows until `work` is put back."""
    world.node(index).maintenance.work = lambda rows, busy, now: None  # type: ignore[method-assign]


def work(world: World, index: int) -> None:
    del world.node(index).maintenance.work


@pytest.mark.parametrize(("nodes", "replication"), [(1, 1), (2, 1), (2, 2), (3, 1), (3, 3), (4, 3)])
def test_what_nobody_holds_any_more_is_forgotten(nodes: int, replication: int) -> None:
    world = carts(nodes, replication=replication)
    since = drop(world, "carts")
    assert listed(world) == {"carts"}
    world.run(LOOKED_S)
    assert listed(world) == set()
    epochs = {topology(world, index).epoch for index in range(nodes)}
    assert epochs == {since + 1}  # by one entry
    assert {topology(world, index).dropped_since for index in range(nodes)} == {since}
    world.run(LOOKED_S)
    assert {topology(world, index).epoch for index in range(nodes)} == epochs
    number = create(world, "carts")
    assert not world.look(0, "k1", bucket="carts").found
    assert number == topology(world, 0).last_bucket


def test_it_waits_for_a_member_that_is_away() -> None:
    world = carts()
    world.crash(2)
    drop(world, "carts")
    world.run(LOOKED_S)
    assert listed(world) == {"carts"}
    for index in (0, 1):  # so that nobody has ever heard the third
        world.stop(index)
        world.start(index)
    world.run(3 * LOOKED_S)
    assert listed(world) == {"carts"}
    world.start(2)
    world.run(LOOKED_S)
    assert listed(world) == set()


def test_what_a_member_has_said_counts_only_while_its_link_stands() -> None:
    world = carts()
    rest(world, 1)
    drop(world, "carts")
    world.run(LOOKED_S)
    ping = world.sent(Ping, 2)[-1].message
    assert isinstance(ping, Ping)
    assert ping.purged == topology(world, 0).dropped_since
    world.wipe(2)
    work(world, 1)
    world.run(LOOKED_S)
    assert listed(world) == {"carts"}
    world.lose = lambda sent: sent.target == 2 and isinstance(sent.message, At | Append)
    world.start(2)
    world.run(LOOKED_S)
    assert world.node(2).peers.all[0].linked
    assert listed(world) == {"carts"}
    world.lose = lambda sent: False
    for other in (0, 1):
        world.link(other, 2)
    world.run(LOOKED_S)
    assert listed(world) == set()


@pytest.mark.parametrize("at", [0, 1, 2])
def test_it_waits_for_rows_that_are_not_purged_yet(at: int) -> None:
    world = carts()
    rest(world, at)
    drop(world, "carts")
    world.run(LOOKED_S)
    assert listed(world) == {"carts"}
    work(world, at)
    world.run(LOOKED_S)
    assert listed(world) == set()


@pytest.mark.parametrize("at", [0, 1])
def test_it_waits_for_hints_that_are_not_purged_yet(at: int) -> None:
    world = carts()
    dropped = world.node(at).dropped_hints
    dropped.tick = lambda: None  # type: ignore[method-assign]
    drop(world, "carts")
    world.run(LOOKED_S)
    assert listed(world) == {"carts"}
    del dropped.tick
    world.run(LOOKED_S)
    assert listed(world) == set()


@pytest.mark.parametrize("at", [0, 2])
def test_it_waits_until_what_is_purged_is_durable(at: int) -> None:
    world = carts()
    rest(world, at)
    drop(world, "carts")
    world.freeze(at)
    work(world, at)
    world.run(1.0)
    dropped = world.node(at).maintenance.dropped
    assert dropped is not None
    assert not dropped.pending
    assert world.node(at).membership.forgetting.purged == 0
    world.thaw(at)
    world.run(LOOKED_S)
    assert listed(world) == set()


def test_hints_count_as_purged_once_that_is_durable() -> None:
    world = carts()
    world.crash(2)
    world.run(1.0)
    world.put(0, "k1", "hinted", bucket="carts")
    world.run(1.0)
    hints = world.node(0).hints
    assert hints.count(2) > 0
    dropped = world.node(0).dropped_hints
    dropped.tick = lambda: None  # type: ignore[method-assign]
    drop(world, "carts")
    world.freeze(0)
    del dropped.tick
    world.run(0.5)
    assert hints.count(2) == 0
    assert dropped.upto == 0
    world.thaw(0)
    world.run(0.5)
    assert dropped.upto == topology(world, 0).dropped_since


def test_hints_are_looked_through_to_the_end_first() -> None:
    world = carts()
    world.crash(2)
    world.run(1.0)
    for number in range(2 * SLICE + 1):
        world.put(0, f"k{number}", "hinted", bucket="carts")
    world.run(1.0)
    dropped = world.node(0).dropped_hints
    dropped.tick = lambda: None  # type: ignore[method-assign]
    world.node(0).delivery.tick = lambda now: None  # type: ignore[method-assign]  # which drops them too
    since = drop(world, "carts")
    del dropped.tick
    assert world.node(0).hints.count(2) > 2 * SLICE
    for _ in range(20):
        if world.node(0).hints.count(2) == 0:
            break
        assert dropped.upto == 0
        world.run(TICK_S)
    world.run(1.0)
    assert dropped.upto == since


def test_it_is_asked_for_once_however_long_it_takes_to_be_decided() -> None:
    world = carts()
    membership = world.node(0).membership
    raft, tick = membership.group.raft, membership.forgetting.tick
    assert raft is not None
    assert raft.leads
    membership.forgetting.tick = lambda now: None  # type: ignore[method-assign]
    drop(world, "carts")
    world.run(LOOKED_S)
    now = world.now(0)
    for looks in range(3):
        tick(Instant(now.wall_ms, now.monotonic + looks * LOOK_S))
    assert raft.log.last == raft.commit + 1


def test_it_waits_for_a_member_that_this_node_does_not_know_yet_and_not_for_one_that_has_left() -> None:
    world = carts()
    number = change(world, 0, AddMember("n9", "127.0.0.1:9", "", 1, b"")).number
    drop(world, "carts")
    world.run(LOOKED_S)
    assert listed(world) == {"carts"}
    assert not change(world, 0, RemoveMember(number)).error
    world.run(LOOKED_S)
    assert listed(world) == set()


def test_of_two_drops_the_one_that_all_are_past_is_forgotten() -> None:
    world = carts()
    drop(world, "carts")
    rest(world, 1)
    world.lose = lambda sent: isinstance(sent.message, Ping)  # what is purged is not heard yet
    world.run(0.5)
    work(world, 1)
    world.run(0.5)
    rest(world, 1)
    drop(world, "pens")
    world.lose = lambda sent: False
    world.run(LOOKED_S)
    assert listed(world) == {"pens"}
    work(world, 1)
    world.run(LOOKED_S)
    assert listed(world) == set()


def test_a_store_that_is_opened_again_says_at_once_what_it_is_rid_of() -> None:
    world = carts()
    world.crash(2)
    since = drop(world, "carts")
    world.run(1.0)
    world.restart(0)
    world.run(0.2)
    assert world.node(0).membership.forgetting.purged == since
