"""Cases of requests: whose word counts for them while seats change, and under which epoch."""

from basestore.consistency import Level
from basestore.protocol.anti_entropy import Syn
from basestore.protocol.replication import Apply
from basestore.topology.changes import SetSetting
from tests.simulation.cases.registry import shows
from tests.worlds.changing import change
from tests.worlds.seats import NEW, OLD, enter, fill, hear_all, joint, moving, silence, still
from tests.worlds.world import World

ONE_QUORUM = "a joint read is confirmed by one quorum, of the "
OUTSIDER = 5  # a node that holds nothing, and is asked by clients


def seated() -> World:
    """Six nodes, of which the first three hold the only partition."""
    return moving(OLD, 6)


def no_writes(world: World, *members: int) -> None:
    """What these are to store does not arrive, and none compare what they hold."""
    world.lose = lambda sent: isinstance(sent.message, Syn | Apply if sent.target in members else Syn)


# --- epochs --------------------------------------------------------------------------------------


@shows("no fence")
def who_goes_by_other_seats_does_nothing_for_who_does_not() -> None:
    world = seated()
    world.adopt({0: fill(101, OLD, NEW)}, 101)
    world.adopt({0: joint(102, OLD, NEW)}, 102, *range(OUTSIDER))
    call = world.set(OUTSIDER, "k", "v")
    world.settle()
    assert not call.done
    assert world.values("k") == [None] * 6


@shows("what is said under a later epoch is answered by an earlier one")
def what_is_said_under_a_later_epoch_waits_until_one_goes_by_it() -> None:
    world = seated()
    enter(world, "fill")
    world.adopt({0: joint(102, OLD, NEW)}, 102, OUTSIDER)
    call = world.set(OUTSIDER, "k", "v")
    world.settle()
    assert world.values("k") == [None] * 6
    world.adopt({0: joint(102, OLD, NEW)}, 102, *range(OUTSIDER))
    world.settle()
    assert call.receipt().acknowledged >= 2


@shows("the fence is not durable")
def an_entry_is_gone_by_once_it_is_on_the_disk() -> None:
    world = World(3, replication=3, partitions=1, logged=True)
    before = world.node(2).peers.epoch
    world.freeze(2)
    assert not change(world, 0, SetSetting("motd", "hello")).error
    world.run(1.0)
    assert world.node(2).peers.epoch == before
    world.thaw(2)
    world.run(1.0)
    assert world.node(2).peers.epoch > before


@shows("acknowledgements are kept")
def who_has_acknowledged_it_under_other_seats_is_asked_anew() -> None:
    world = seated()
    enter(world, "fill")
    world.hold(1, OUTSIDER)
    silence(world, 2)
    call = world.set(OUTSIDER, "k", "v")
    world.settle()
    assert not call.done
    hear_all(world)
    world.adopt({0: joint(102, OLD, NEW)}, 102)
    world.release(1, OUTSIDER)
    world.settle()
    assert call.done
    assert [world.values("k")[each] for each in NEW] == [b"v"] * 3


# --- two quorums ---------------------------------------------------------------------------------


@shows("a joint quorum is one of the old members", "a joint quorum is one of the all members")
def a_quorum_of_those_that_leave_is_not_enough_for_a_write() -> None:
    world = seated()
    enter(world, "joint")
    silence(world, 3, 4)
    call = world.set(OUTSIDER, "k", "v")
    world.settle()
    assert not call.done


@shows("a joint quorum is one of the new members", "a joint quorum is one of the all members")
def a_quorum_of_those_that_come_is_not_enough_for_a_write() -> None:
    world = seated()
    enter(world, "joint")
    silence(world, 1, 2)
    call = world.set(OUTSIDER, "k", "v")
    world.settle()
    assert not call.done


def shown_is_on(world: World, lacking: tuple[int, ...]) -> None:
    """A write that does not reach these is shown only once one of them has it."""
    world.put(OUTSIDER, "k", "before")
    no_writes(world, *lacking)
    world.set(OUTSIDER, "k", "v")
    world.settle()
    call = world.get(OUTSIDER, "k")
    world.run(0.5)  # by then all were asked
    assert not call.done
    hear_all(world)
    assert world.look(OUTSIDER, "k").value == b"v"
    assert [world.values("k")[each] for each in lacking].count(b"v")


@shows(
    "a joint read is confirmed by one quorum, of the old",
    "a joint read is confirmed by one quorum, of the all",
)
def what_is_shown_is_with_a_quorum_of_those_that_come() -> None:
    world = seated()
    enter(world, "joint")
    shown_is_on(world, (3, 4))


@shows(
    "a joint read is confirmed by one quorum, of the new",
    "a joint read is confirmed by one quorum, of the all",
)
def what_is_shown_is_with_a_quorum_of_those_that_leave() -> None:
    world = seated()
    enter(world, "joint")
    shown_is_on(world, (1, 2))


# --- one -----------------------------------------------------------------------------------------


@shows("one on a leaver")
def the_word_of_one_that_leaves_is_not_enough_at_one() -> None:
    world = seated()
    enter(world, "joint")
    silence(world, *NEW)
    call = world.set(OUTSIDER, "k", "v", Level.ONE)
    world.settle()
    assert world.values("k")[1] == b"v"
    assert not call.done


@shows("one on a newcomer")
def the_word_of_one_that_comes_is_not_enough_at_one() -> None:
    world = seated()
    enter(world, "joint")
    silence(world, *OLD)
    call = world.set(OUTSIDER, "k", "v", Level.ONE)
    world.settle()
    assert world.values("k")[3] == b"v"
    assert not call.done


@shows("those that come are written nothing")
def what_is_written_is_sent_to_those_that_come_too() -> None:
    world = seated()
    enter(world, "joint")
    world.set(OUTSIDER, "k", "v")
    world.settle()
    assert [world.values("k")[each] for each in NEW] == [b"v"] * 3


# --- who holds what it must ----------------------------------------------------------------------


@shows("the unfit answer")
def who_lacks_something_does_not_say_that_there_is_nothing() -> None:
    world = moving()
    world.put(0, "k", "v", Level.ALL)
    for at, seats in enumerate((fill(101, OLD, NEW), joint(102, OLD, NEW), still(103, *NEW))):
        world.adopt({0: seats}, 101 + at)
    silence(world, 0, 4)
    call = world.get(3, "k", Level.ONE)
    world.settle()
    assert not call.done or call.read().value == b"v"
