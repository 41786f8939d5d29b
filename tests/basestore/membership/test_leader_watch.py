"""What is said where no leader answers: why, by the state that things are in, and what to do.

Covers `absence` of `membership/leader_watch.py`, on real nodes.
"""

import pytest

from basestore.errors import NoLeader, RequestFailed
from basestore.instant import Instant
from basestore.membership.rebuilding import follow
from basestore.topology.changes import SetSetting
from tests.worlds.changing import change
from tests.worlds.world import World, number_of


def refused(world: World, index: int, *, within_s: float = 1.0, served: bool = True) -> str:
    """A read by a leader's word is given up."""
    told = list[RequestFailed | None]()

    def end(error: RequestFailed | None, now: Instant) -> None:
        told.append(error)

    world.node(index).membership.asking.read(within_s, end, world.now(index), lease=True)
    world.run(within_s + 0.1)
    (error,) = told
    assert isinstance(error, NoLeader)
    assert "so nothing can be read by its word" in str(error)
    assert ("; data are served all the same. " in str(error)) is served
    return str(error)


def started(count: int, *indices: int) -> World:
    """Of a cluster of so many, only these have ever run."""
    world = World(count, born=False)
    for index in indices:
        world.start(index)
    world.run(0.5)
    return world


def test_before_all_were_heard_to_speak_of_a_log_it_says_so() -> None:
    text = refused(started(3, 0, 1), 0, served=False)
    assert text.startswith(
        "there is no metadata group yet, for not all members were heard to speak version 10"
    )
    assert "start the members that are missing, upgrade those that speak less" in text


def test_without_a_majority_it_names_the_voters_that_are_missing() -> None:
    world = World(3, logged=True)
    world.crash(0)
    world.crash(1)
    world.run(6.0)
    text = refused(world, 2)
    assert text.startswith(
        "nobody leads the metadata group, for no majority of its voters is reached: n1, n2 of 3 are missing"
    )
    assert text.index("basestore topology --mode stale") < text.index("start n1, n2")
    assert text.index("start n1, n2") < text.index("rebuild-group --help")


def test_a_voter_that_is_back_on_another_store_is_missing() -> None:
    world = World(3, logged=True)
    for index in (0, 1):
        world.wipe(index)
        world.start(index)
    world.run(6.0)
    text = refused(world, 2)
    assert "n1, n2 of 3 are missing" in text
    assert "bring back the stores by which n1, n2 voted, and try again" in text
    assert "start n1" not in text


def test_while_a_majority_elects_it_says_that_this_takes_a_moment() -> None:
    world = World(3, logged=True)
    world.lose = lambda sent: type(sent.message).__name__ in ("Stand", "Granted")
    world.crash(0)
    world.run(6.0)
    text = refused(world, 1)
    assert "for the moment: a majority of its voters is reached, and is to elect a leader" in text
    assert "Try again in a few seconds" in text


def test_of_a_leader_that_does_not_answer_it_gives_the_name() -> None:
    world = World(3, logged=True)
    world.lose = lambda sent: type(sent.message).__name__ in ("AskRead", "ReadAt")
    assert refused(world, 1).startswith("n1 leads the metadata group, and has not answered in time")


def test_one_that_has_just_gone_is_not_said_to_lead() -> None:
    world = World(3, logged=True)
    world.crash(0)
    world.run(0.1)
    watch = world.node(1).membership.leader
    assert watch.number(world.now(1)) is not None  # it was heard of a moment ago
    assert "is to elect a leader" in watch.absence("so", world.now(1))


def test_of_a_leader_that_only_others_reach_it_says_so() -> None:
    world = World(3, logged=True)
    world.part(0, 1)
    world.run(12.0)
    text = refused(world, 1)
    assert text.startswith("n1 leads the metadata group, by what other members say, and is not reached")
    assert "Ask another node" in text
    assert world.node(2).membership.leader.number(world.now(2)) == number_of(0)


def test_a_read_that_this_node_has_not_come_to_is_not_laid_at_the_door_of_the_leader() -> None:
    world = World(4, logged=True)  # the last one only follows
    world.lose = lambda sent: sent.target == 3 and type(sent.message).__name__ in ("At", "Base")
    change(world, 0, SetSetting("colour", "red"))
    text = refused(world, 3)
    epoch = world.node(3).membership.group.epoch
    assert text.startswith(
        f"the leader says that epoch {epoch + 1} must be read, and this node is behind, at"
    )


def test_one_that_is_to_go_over_says_for_whom_it_waits() -> None:
    world = World(3, logged=True)
    world.crash(0)
    world.crash(1)
    world.stop(2)
    follow(world.engines[2], world.configs[2])
    world.start(2)
    world.run(6.0)
    told = refused(world, 2, served=False)
    assert "start the node on which `basestore node rebuild-group` was run" in told


@pytest.mark.parametrize("count", [1, 2])
def test_where_one_decides_alone_it_is_never_missing(count: int) -> None:
    world = World(count, logged=True)
    watch, raft = world.node(0).membership.leader, world.node(0).membership.group.raft
    assert raft is not None
    assert watch.absence("", world.now(0)).startswith("n1 leads the metadata group")
    assert watch.reached(raft, world.now(0)) == raft.voters


def test_who_has_left_sends_those_that_ask_to_others() -> None:
    world = World(3, logged=True)
    for other in (0, 1):
        world.part(2, other)
    world.node(2).introductions.dismiss(0, world.now(2))
    told = refused(world, 2, served=False)
    assert "this node has left the cluster" in told
    assert told.endswith("Ask another one")
