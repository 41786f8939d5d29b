"""What goes with a member that is removed, or has gone before there were fewer replicas, or with a store: it
is told, and nothing is taken to be there that may be gone. Covers `left_of` of `repair/moving.py`, `may_lack`
and `Recovery.note_losses`."""

import pytest

from basestore.consistency import Level
from basestore.errors import RequestFailed
from basestore.repair.seats import Stage
from basestore.replica.identity import State
from basestore.results.receipts import Receipt
from basestore.topology.changes import DrainMember, RemoveMember, SetReplication
from tests.worlds.following import converged
from tests.worlds.moving import asked, finish, number, topology
from tests.worlds.world import TICK_S, World


def alone(world: World, at: int, key: str) -> Receipt:
    """A write that this replica takes, and tells nobody of."""
    for other in range(len(world.nodes)):
        if other != at:
            world.part(at, other)
    call = world.set(at, key, "v", Level.ONE)
    world.settle()
    receipt = call.receipt()
    assert receipt.known_at == 1
    return receipt


def without_one() -> tuple[World, str, Receipt, Receipt]:
    """Of four a member was removed, who alone had taken the key's second write; and the receipts of both."""
    world = World(4, partitions=8, logged=True, reconcile=True)
    key = next(key for key in map(str, range(100)) if 3 in world.replicas(key))
    first = world.put(0, key, "at first")
    world.run(15.0)
    second = alone(world, 3, key)
    world.crash(3)
    world.run(5.0)
    asked(world, RemoveMember(number(world, 3)))
    finish(world)
    assert world.look(0, key).value == b"at first"
    return world, key, first, second


def test_what_the_dead_alone_had_is_not_proven_to_be_anywhere() -> None:
    world, key, first, second = without_one()
    found = converged(world, key=key, receipt=second)
    assert not found.proven
    assert {obstacle.kind for obstacle in found.obstacles} == {"lost"}
    assert converged(world, key=key, receipt=first).proven
    assert converged(world).proven  # nobody need accept what cost no quorum anything


def test_a_session_that_has_seen_it_is_told_so() -> None:
    world, key, _, second = without_one()
    same = (each for each in map(str, range(100)) if world.row(each)[:2] == world.row(key)[:2])
    other = next(each for each in same if each != key)  # of which nothing is held
    world.run(15.0)  # all that there is is stable by now, and nothing is there: as if it had been purged
    call = world.get(0, other, floor=second.version)
    world.run(1.5)
    with pytest.raises(RequestFailed):
        call.read()


def test_what_was_lost_with_a_store_is_not_there_for_fewer_replicas() -> None:
    world = World(3, partitions=4, logged=True, reconcile=True)
    world.run(3.0)
    receipt = alone(world, 2, "k")
    world.wipe(2)
    world.cut.clear()
    world.start(2)
    world.run(10.0)
    asked(world, SetReplication(1))
    finish(world)
    assert world.look(0, "k").value is None
    assert not converged(world, key="k", receipt=receipt).proven


@pytest.mark.parametrize("replicas", [1, 3])
def test_what_a_quorum_acknowledged_outlives_a_store_and_a_change_of_replicas(replicas: int) -> None:
    world = World(3, replication=4 - replicas, partitions=4, logged=True, reconcile=True)
    receipt = world.put(0, "k", "v")
    asked(world, SetReplication(replicas))
    finish(world)
    if replicas > 1:
        world.wipe(2)
        world.start(2)
        world.run(10.0)
    assert world.look(0, "k").value == b"v"
    assert converged(world, key="k", receipt=receipt).proven


def recovers_beside(world: World, comes: int, behind: int) -> None:
    """This one, whose disk was set back, and the other, who was away, meet alone, and only then the rest."""
    rest = [each for each in range(5) if each not in (comes, behind)]
    for other in rest:
        world.part(behind, other)
    world.start(comes)
    world.start(behind)
    world.join(comes, behind)
    world.run(8.0)
    assert topology(world, comes).seats != topology(world, rest[0]).seats, "it knows no more"
    identity = world.node(comes).identity
    assert (identity.state, identity.doubts) == (State.WHOLE, 1), "it has recovered what it knows of"
    for other in rest:
        world.join(comes, other)
        world.join(behind, other)
    world.run(15.0)


def held_by_two() -> tuple[World, Receipt, tuple[int, ...], dict[int, int], list[int]]:
    """Five nodes, what two of them hold, the numbers of these; where each number is, and where others are."""
    world = World(5, replication=2, partitions=1, logged=True, reconcile=True)
    first = world.put(0, "k", "at first", Level.ALL)
    world.run(2.0)
    old = topology(world).seats[0].old
    index = {number(world, at): at for at in range(5)}
    return world, first, old, index, [at for each, at in index.items() if each not in old]


def is_known_to_be_lost(world: World, asker: int, first: Receipt, lost: Receipt) -> None:
    assert world.look(asker, "k").value == b"at first"
    found = converged(world, asker, receipt=lost)
    assert not found.proven
    assert {obstacle.kind for obstacle in found.obstacles} == {"lost"}
    assert converged(world, asker, receipt=first).proven
    assert converged(world, asker).proven  # nobody need accept what cost no quorum anything


def test_what_a_store_had_of_what_its_member_is_only_given_by_what_that_knows_is_known_to_be_lost() -> None:
    """It comes back as it was while it filled, and recovers beside one that knows no more either."""
    world, first, old, index, (asker, behind, *_) = held_by_two()
    asked(world, DrainMember(old[0]), asker)
    while topology(world, asker).seats[0].stage is not Stage.FILL:
        world.run(TICK_S)
    comes = index[({*topology(world, asker).seats[0].new} - {*old}).pop()]
    for each in old:
        world.hold(index[each], comes)
    while topology(world, comes).seats[0].stage is not Stage.FILL:
        world.run(TICK_S)
    copy = world.copy_store(comes)
    world.run(2.0)  # all have heard, and written down, how much more it has stored since
    world.crash(behind)
    for each in old:
        world.release(index[each], comes)
    finish(world, asker)
    lost = alone(world, comes, "k")

    world.restore(comes, copy)
    recovers_beside(world, comes, behind)
    is_known_to_be_lost(world, asker, first, lost)


def test_so_is_what_it_had_of_what_its_member_knows_nothing_of_yet() -> None:
    """It comes back as it was before it was given anything."""
    world, first, old, index, others = held_by_two()
    copies, places = [world.copy_store(at) for at in range(5)], list(world.places)
    for each in others:
        world.restart(each)
    world.run(2.0)  # all have heard, and written down, that it was opened since
    behind = others[-1]
    world.crash(behind)
    asker = others[0]
    asked(world, DrainMember(old[0]), asker)
    finish(world, asker)
    comes = index[({*topology(world, asker).seats[0].old} - {*old}).pop()]
    lost = alone(world, comes, "k")

    world.restore(comes, copies[comes])
    world.places[comes] = places[comes]
    recovers_beside(world, comes, behind)
    asker = next(at for at in others if at not in (comes, behind))
    is_known_to_be_lost(world, asker, first, lost)
