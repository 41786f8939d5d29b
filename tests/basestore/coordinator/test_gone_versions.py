"""A session is told that what it has seen is gone only when it is nowhere: no hint of it is kept either.

Covers `look_for` in `coordinator/explain.py`.
"""

from collections.abc import Callable

import pytest

from basestore.client.session import Session
from basestore.consistency import Level
from basestore.errors import ReadTimeout, VersionLost
from basestore.protocol.client import UNTAKEN, Get
from basestore.protocol.heartbeats import Remembered
from basestore.repair.rule import Rule
from basestore.repair.version import Version
from basestore.results.readers import read_result
from basestore.results.receipts import ReadResult
from basestore.topology.changes import RemoveMember, Standing
from tests.worlds.following import converged
from tests.worlds.late_hints import hints, keep_late, rejoin
from tests.worlds.moving import asked, number, topology
from tests.worlds.world import World


def session(
    world: World, at: int, version: Version, *, taken: bool = False, level: Level = Level.ONE,
    degrade_ms: int = 0,
) -> Callable[[], ReadResult]:  # fmt: skip
    """Reads of `k` in a session that has seen this version of it. `taken`: by a replica, as it knows."""
    seen = Session(bytes(16), {"default": Rule.LAST_WRITE_WINS})
    seen.show("default", b"k", version.encode() + (b"" if taken else UNTAKEN))

    def look() -> ReadResult:
        request = seen.begin(Get(0, "default", b"k", level, 1000, b"", True, False, 0, degrade_ms))
        call = world.ask(at, lambda number: request._replace(id=number))
        world.settle()  # it is begun before a tick changes the brownout
        world.run(1.5)
        seen.end(request, call.reply())
        return read_result(call.reply(), level)

    return look


def late(world: World, *, older: bool) -> tuple[int, Version]:
    """A node keeps the only copies of a write, too late for its replicas. Returns it, and the version."""
    if older:
        world.put(0, "k", "old", Level.ALL)
    keeper = keep_late(world)
    ((_, hint), *_) = world.node(keeper).hints.of_row(world.row("k"))
    return keeper, hint.record.version


@pytest.mark.parametrize("older", [True, False])
def test_what_a_late_hint_may_bring_back_is_neither_lost_nor_not_there(older: bool) -> None:
    world = World(4, reconcile=True)
    keeper, version = late(world, older=older)
    rejoin(world, keeper)
    for at in range(4):
        with pytest.raises(ReadTimeout, match=rf"n{keeper + 1} keeps a hint of it.*replay --late"):
            session(world, at, version)()
    look = session(world, world.replicas("k")[0], version)
    hints(world, keeper, replay=True, late=True)
    world.run(3)
    assert look().value == b"v"


@pytest.mark.parametrize("older", [True, False])
@pytest.mark.parametrize("level", [Level.QUORUM, Level.ALL])
def test_so_it_is_where_one_replica_is_asked_first(level: Level, older: bool) -> None:
    world = World(4, reconcile=True)
    keeper, version = late(world, older=older)
    rejoin(world, keeper)
    at = world.replicas("k")[0]
    for brownout in (0, 2):
        world.node(at).context.load.brownout = brownout
        with pytest.raises(ReadTimeout, match=rf"n{keeper + 1} keeps a hint of it.*replay --late"):
            session(world, at, version, level=level, degrade_ms=60_000)()


@pytest.mark.parametrize("older", [True, False])
def test_while_a_member_that_may_keep_a_hint_does_not_answer_nobody_can_tell(older: bool) -> None:
    world = World(4, reconcile=True)
    keeper, version = late(world, older=older)
    look = session(world, world.replicas("k")[0], version)
    with pytest.raises(ReadTimeout, match=rf"n{keeper + 1}, which may keep a hint of it, does not answer"):
        look()
    world.crash(keeper)
    with pytest.raises(ReadTimeout, match=rf"n{keeper + 1}, which may keep a hint of it, does not answer"):
        look()


def kept_alone(logged: bool = False) -> tuple[World, int, Version]:
    """A node keeps the only hints of a write at ANY, for its replicas were down."""
    world = World(4, replication=2, reconcile=True, logged=logged)
    world.run(8)
    keeper = world.outsider("k")
    for replica in world.replicas("k"):
        world.crash(replica)
    world.run(8)
    version = world.put(keeper, "k", "v", Level.ANY).version
    assert version is not None
    return world, keeper, version


def test_what_went_with_the_store_of_who_kept_it_is_lost_and_not_just_not_there() -> None:
    world, keeper, version = kept_alone()
    world.wipe(keeper)
    world.start(keeper)
    for replica in world.replicas("k"):
        world.start(replica)
    world.run(60)
    assert all(node is not None and node.state == "up" for node in world.nodes)
    for _ in range(2):
        with pytest.raises(VersionLost):
            session(world, world.replicas("k")[0], version)()
        world.restart(keeper)
        world.run(5)


def test_so_it_is_with_a_member_that_is_dead() -> None:
    world, keeper, version = kept_alone(logged=True)
    world.crash(keeper)
    for replica in world.replicas("k"):
        world.start(replica)
    world.run(30)
    alive = [each for each in range(4) if each != keeper]
    asked(world, RemoveMember(number(world, keeper)), alive[0])
    world.run(30)
    for each in alive:
        world.restart(each)
    world.run(10)
    left = topology(world, alive[0]).member(number(world, keeper))
    assert left is not None
    assert left.standing is Standing.LEFT
    for each in alive:
        with pytest.raises(VersionLost):
            session(world, each, version)()


def test_so_it_is_where_the_store_does_not_know_yet_that_there_was_an_earlier_one() -> None:
    world, keeper, version = kept_alone()
    world.wipe(keeper)
    for replica in world.replicas("k"):
        world.start(replica)
    world.run(30)
    at, *_ = world.replicas("k")
    others = [each for each in range(4) if each not in (keeper, at)]
    for each in others:
        world.part(keeper, each)
    world.freeze(at)  # what it remembers of the keeper it says once that is durable
    world.start(keeper)
    for each in others:
        world.join(keeper, each)
        world.hold(each, keeper)
    seen = Session(bytes(16), {"default": Rule.LAST_WRITE_WINS})
    seen.show("default", b"k", version.encode() + UNTAKEN)
    request = seen.begin(Get(0, "default", b"k", Level.ONE, 1000, b"", True, False, 0, 0))
    call = world.ask(at, lambda number: request._replace(id=number))
    world.run(0.1)
    assert world.node(keeper).state == "starting"
    world.thaw(at)
    world.run(1.5)
    with pytest.raises(VersionLost):
        read_result(call.reply(), Level.ONE)


def test_so_it_is_with_an_old_copy_that_is_taken_as_it_is() -> None:
    world = World(2, replication=1, reconcile=True)
    world.run(8)
    (replica,) = world.replicas("k")
    keeper = 1 - replica
    world.crash(replica)
    world.run(8)
    copy = world.copy_store(keeper)
    version = world.put(keeper, "k", "v", Level.ANY).version
    assert version is not None
    world.restore(keeper, copy, in_place=False)
    world.start(keeper)
    world.run(3)
    world.take_as_is(keeper)
    world.run(3)
    world.start(replica)
    world.run(30)
    assert [node.state for node in world.running] == ["up", "up"]
    with pytest.raises(VersionLost):
        session(world, replica, version)()


@pytest.mark.parametrize("again", [False, True])
def test_so_it_is_where_it_was_kept_in_an_opening_that_nobody_has_counted_on(again: bool) -> None:
    """The blocks of its disk are those of before it; perhaps what is said of it does not arrive at first."""
    world = World(2, reconcile=True)
    world.run(8)
    world.crash(0)
    copy, places = world.copy_store(0), world.places[0]
    world.lose = lambda sent: isinstance(sent.message, Remembered) and sent.target == 0
    world.start(0)
    world.run(2.5)
    assert world.node(0).state == "starting"
    version = world.put(0, "k", "v", Level.ANY).version
    assert version is not None
    world.restore(0, copy)
    world.places[0] = places
    if again:
        world.start(0)
        world.run(2.5)
        world.crash(0)
    world.lose = lambda _: False
    world.start(0)
    world.run(0.1)
    assert "it was rolled back" in world.node(0).reason
    world.run(30)
    assert [node.state for node in world.running] == ["up", "up"]
    for at in range(2):
        with pytest.raises(VersionLost):
            session(world, at, version)()


def test_openings_that_are_heard_of_again_and_again_are_no_doubt_of_a_store_that_knows_them() -> None:
    world = World(2, reconcile=True)
    world.lose = lambda sent: isinstance(sent.message, Remembered) and sent.target == 0
    for _ in range(3):
        world.restart(0)
        world.run(1)
    assert world.node(0).state == "starting"
    world.lose = lambda _: False
    world.run(3)
    assert [node.state for node in world.running] == ["up", "up"]


def deleted() -> tuple[World, list[Version]]:
    """A world in which a key was written, deleted and purged, and both versions."""
    world = World(4, reconcile=True)
    world.run(5)
    keeper = world.outsider("k")
    calls = [world.set(keeper, "k", "v", Level.ALL), world.delete(keeper, "k", Level.ALL)]
    world.settle()
    versions = [call.receipt().version for call in calls]
    world.run(60)
    assert converged(world).proven
    assert all(world.stored(replica, "k") is None for replica in world.replicas("k"))
    return world, [version for version in versions if version is not None]


@pytest.mark.parametrize("taken", [True, False])
def test_what_was_deleted_for_good_is_just_not_there(taken: bool) -> None:
    world, (version, _) = deleted()
    assert not session(world, world.outsider("k"), version, taken=taken)().found


@pytest.mark.parametrize("level", [Level.ONE, Level.QUORUM])
@pytest.mark.parametrize("seen", [0, 1])
def test_so_it_is_while_a_member_is_away_if_a_replica_had_taken_it(seen: int, level: Level) -> None:
    world, versions = deleted()
    at, replica, _ = world.replicas("k")
    for away in (world.outsider("k"), replica):
        world.crash(away)
        world.run(5)
        assert not session(world, at, versions[seen], taken=True, level=level)().found


def test_what_a_replica_took_and_a_disk_lost_is_not_taken_for_purged_while_a_member_is_away() -> None:
    world = World(4, reconcile=True)
    world.run(5)
    alone, *others = world.replicas("k")
    for other in others:
        world.part(alone, other)
    version = world.put(alone, "k", "v", Level.ONE).version
    assert version is not None
    world.wipe(alone)
    world.start(alone)
    for other in others:
        world.join(alone, other)
    world.run(60)
    assert all(world.stored(replica, "k") is None for replica in world.replicas("k"))
    world.crash(world.outsider("k"))
    world.run(5)
    with pytest.raises(ReadTimeout, match="which may keep a hint of it, does not answer"):
        session(world, others[0], version, taken=True)()
