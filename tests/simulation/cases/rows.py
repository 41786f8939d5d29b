"""Cases of hints and rows: what is kept for those that leave, and what they give up."""

from basestore.consistency import Level
from tests.simulation.cases.registry import shows
from tests.worlds.seats import NEW, OLD, adopt, enter, fill, joint, make_fit, moving, still
from tests.worlds.world import World

APART = (1, 2), (3, 4)  # nobody stays


def moved(world: World, old: tuple[int, ...], new: tuple[int, ...]) -> None:
    """Those that come hold it alone; hints are gone through."""
    for at, seats in enumerate((fill(101, old, new), joint(102, old, new), still(103, *new))):
        world.adopt({0: seats}, 101 + at)
    make_fit(world)
    for node in world.running:
        node.moved_hints.look([0])
    world.run(3.0)


@shows("a leaver is a taker")
def one_that_leaves_is_never_named_as_having_it() -> None:
    old, new = (0, 1, 2), (1, 2, 3)
    world = moving(old)
    enter(world, "joint", old, new)
    world.crash(3)
    world.run(0.2)
    world.put(0, "k", "v")
    (hint,) = [hint for member, hint in world.node(0).hints.of_row(world.row("k")) if member == 3]
    named = [world.node(index).identity.store in hint.stores for index in range(3)]
    assert named[0] is False
    assert any(named)


@shows("an only copy is dropped")
def what_is_kept_of_a_write_that_nobody_took_goes_to_those_that_come() -> None:
    world = moving(APART[0])
    for member in APART[0]:
        world.crash(member)
    world.run(0.2)
    call = world.set(0, "k", "v", Level.ANY)
    world.run(1.0)
    assert call.receipt().version
    moved(world, *APART)
    assert world.look(0, "k").value == b"v"


@shows("any hint for who left is a copy")
def what_is_kept_of_a_write_that_only_a_lost_store_took_goes_to_those_that_come() -> None:
    world = moving(APART[0])
    world.crash(2)
    world.run(0.2)
    call = world.set(0, "k", "v", Level.ONE)
    world.run(0.2)
    assert call.receipt().acknowledged == 1
    assert not any(hint.only_copy for _, hint in world.node(0).hints.of_row(world.row("k")))
    world.crash(1)
    moved(world, *APART)
    assert world.look(0, "k").value == b"v"


@shows("hints for who left stay")
def nothing_is_kept_for_who_holds_it_no_more() -> None:
    world = moving()
    world.crash(2)
    world.run(0.2)
    world.put(0, "k", "v")
    assert world.node(0).hints.count(2) == 1
    moved(world, OLD, (0, 1, 3))
    assert world.node(0).hints.count(2) == 0


@shows("given up rows go though they were given back")
def rows_of_a_partition_that_is_given_back_stay() -> None:
    given_up = moving().node(0).maintenance.given_up
    assert given_up is not None
    given_up.look((0,))
    assert not given_up.pending


@shows("given up rows stay")
def rows_of_a_partition_that_was_given_up_go() -> None:
    world = moving()
    world.put(0, "k", "v")
    adopt(world, {0: still(103, *NEW)}, 2)
    given_up = world.node(2).maintenance.given_up
    assert given_up is not None
    given_up.look((0,))
    assert world.stored(2, "k") is not None
    world.run(0.5)
    assert world.stored(2, "k") is None
