"""A metadata group whose majority is lost for good is rebuilt on a node that is left, and the others follow.

Covers `membership/rebuilding.py` and `lineage.py`, on real nodes.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest

from basestore.errors import ConfigurationError, NoLeader, RequestFailed
from basestore.instant import Instant
from basestore.membership.lineage import goes_over, hindrance, parted
from basestore.membership.rebuilding import SKIPPED_MIN, follow, rebuild
from basestore.protocol.limits import ProtocolError
from basestore.topology.changes import Change, CreateBucket, DropBucket, SetSetting
from basestore.topology.entries import Suggestion, encode_entry
from basestore.topology.topology import Outcome, Topology
from tests.worlds.topologies import Log
from tests.worlds.world import World, number_of

CARTS, ORDERS = (CreateBucket(name, "last-write-wins", [0, 0, 0, 0]) for name in ("carts", "orders"))
B, C = b"B" * 16, b"C" * 16
MAJORITY_LOST_S = 6.0


class Asking:
    """Changes that are asked for, each under an id of its own."""

    def __init__(self, world: World) -> None:
        self.world, self._last = world, 0

    def __call__(self, index: int, change: Change, within_s: float = 1.0) -> Outcome | RequestFailed | None:
        self._last += 1
        node, now, became = self.world.node(index), self.world.now(index), list[Outcome | RequestFailed]()
        entry = encode_entry(Suggestion(change, self._last, node.config.member.number, now.wall_ms))

        def end(told: Outcome | RequestFailed, now: Instant) -> None:
            became.append(told)

        node.membership.asking.change(entry, within_s, end, now)
        self.world.run(within_s + 0.1)
        return became[0]


def done(became: Outcome | RequestFailed | None) -> Outcome:
    assert isinstance(became, Outcome), became
    assert not became.error
    return became


def topology(world: World, index: int) -> Topology:
    told = world.node(index).membership.group.topology
    assert told is not None
    return told


def group(world: World, index: int) -> bytes:
    return world.node(index).membership.group.group


def put_in_place(world: World, index: int, new: bytes = B, skipped: int = SKIPPED_MIN) -> str:
    """Stop it, and rebuild its group."""
    world.stop(index)
    return rebuild(world.engines[index], world.configs[index], new, skipped)


def let_follow(world: World, index: int) -> str:
    world.stop(index)
    return follow(world.engines[index], world.configs[index])


def lose(world: World, *indices: int) -> None:
    """Their stores, for good; nobody comes back."""
    for index in indices:
        world.wipe(index)


def test_of_five_three_are_lost_and_the_two_that_are_left_go_on() -> None:
    world = World(5, logged=True)
    ask = Asking(world)
    made = done(ask(3, CARTS))
    world.put(3, "k", "v", bucket="carts")
    old = group(world, 3)
    lose(world, 0, 1, 2)
    world.run(MAJORITY_LOST_S)
    assert isinstance(ask(3, ORDERS), NoLeader)
    text = put_in_place(world, 3)
    assert f"{old.hex()[:8]}, known here up to epoch" in text
    assert "--follow" in text
    assert "as soon as it is linked" in let_follow(world, 4)
    world.start(3)
    world.start(4)
    world.run(3.0)
    assert group(world, 3) == group(world, 4) == B
    assert topology(world, 3) == topology(world, 4)
    assert topology(world, 3).epoch > made.epoch + SKIPPED_MIN
    created = done(ask(4, ORDERS))
    assert created.number == made.number + SKIPPED_MIN + 1
    assert topology(world, 4).buckets.keys() >= {"carts", "orders"}
    raft = world.node(3).membership.group.raft
    assert raft is not None
    assert [voter.number for voter in raft.voters] == [number_of(3)]
    held = world.node(4).membership.group.allegiance
    assert (held.formers, held.follows) == (old, False)


def test_members_that_were_lost_come_back_empty_and_vote_again() -> None:
    world = World(3, logged=True)
    lose(world, 1, 2)
    put_in_place(world, 0)
    world.start(0)
    for index in (1, 2):
        world.start(index)
    world.run(15.0)
    raft = world.node(0).membership.group.raft
    assert raft is not None
    assert [voter.number for voter in sorted(raft.voters)] == [number_of(index) for index in range(3)]
    assert [group(world, index) for index in range(3)] == [B] * 3
    done(Asking(world)(2, CARTS))


def test_all_is_known_again_after_those_that_went_over_were_cut_off_from_power() -> None:
    world = World(3, logged=True)
    lose(world, 0)
    put_in_place(world, 1)
    let_follow(world, 2)
    world.start(1)
    world.start(2)
    world.run(3.0)
    made = done(Asking(world)(2, CARTS))
    for index in (1, 2):
        world.restart(index)
    assert [topology(world, index).epoch >= made.epoch for index in (1, 2)] == [True, True]
    assert [group(world, index) for index in (1, 2)] == [B, B]


def test_who_follows_the_old_group_is_refused_by_name_and_told_what_to_do() -> None:
    world = World(3, logged=True)
    lose(world, 0)
    put_in_place(world, 1)
    world.part(1, 2)
    world.start(1)
    world.cut.clear()
    world.link(1, 2)
    with pytest.raises(ProtocolError, match=r"n\d follows the metadata group .* was put .*--follow`"):
        world.settle()
    assert group(world, 2) != B


def test_one_that_is_to_follow_waits_for_it_and_goes_on_with_the_old_one_meanwhile() -> None:
    world = World(3, logged=True)
    lose(world, 0)
    let_follow(world, 2)
    world.start(2)
    world.run(3.0)
    assert group(world, 2) == group(world, 1) != B
    made = done(Asking(world)(2, CARTS))  # the two are a majority all the same
    assert topology(world, 2).epoch >= made.epoch
    put_in_place(world, 1)
    world.start(1)
    world.run(1.0)
    assert group(world, 2) == group(world, 1) == B


def test_what_only_the_old_group_knew_is_forgotten_and_never_taken_for_something_new() -> None:
    world = World(3, logged=True)
    ask = Asking(world)
    for other in (0, 2):
        world.part(1, other)
    lost = done(ask(2, CARTS))  # n2 does not hear of it
    world.put(2, "k", "v", bucket="carts")
    label = topology(world, 2).buckets["carts"].label
    lose(world, 0)
    world.cut.clear()
    put_in_place(world, 1)
    let_follow(world, 2)
    world.start(1)
    world.start(2)
    world.run(3.0)
    assert "carts" not in topology(world, 2).buckets
    assert topology(world, 2) == topology(world, 1)
    again = done(ask(1, CARTS))
    assert again.number > lost.number + SKIPPED_MIN - 1
    world.run(3.0)
    assert not world.look(2, "k", bucket="carts").found
    assert [
        row for row, _ in world.engines[2].scan(b"", b"\xff" * 9) if row[4 : 4 + len(label)] == label
    ] == []


def test_one_that_has_dropped_a_bucket_which_the_new_group_has_is_not_let_over() -> None:
    world = World(3, logged=True)
    ask = Asking(world)
    done(ask(0, CARTS))
    for other in (0, 2):
        world.part(1, other)
    done(ask(2, DropBucket("carts")))
    lose(world, 0)
    world.cut.clear()
    put_in_place(world, 1)
    let_follow(world, 2)
    world.start(1)
    world.start(2)
    with pytest.raises(ProtocolError, match=r"bucket 'carts' is there, and this store has dropped it.*move"):
        world.run(1.0)
    world.unlink(1, 2)
    assert group(world, 2) != B


def test_rebuilt_twice_on_one_node_it_names_both_that_were_before() -> None:
    world = World(3, logged=True)
    old = group(world, 1)
    lose(world, 0)
    put_in_place(world, 1)
    assert f"{B.hex()[:8]}, known here" in rebuild(world.engines[1], world.configs[1], C, SKIPPED_MIN)
    let_follow(world, 2)
    world.start(1)
    world.start(2)
    world.run(1.0)
    assert world.node(2).membership.group.allegiance.formers == old + B
    assert group(world, 2) == group(world, 1) == C
    done(Asking(world)(2, CARTS))


def test_of_two_that_were_rebuilt_from_one_either_may_follow_the_other_once_that_is_later() -> None:
    world = World(3, logged=True)
    lose(world, 0)
    put_in_place(world, 1, B)
    put_in_place(world, 2, C)
    for index in (1, 2):
        world.start(index)
    with pytest.raises(ProtocolError, match="both were put in the place of the same one"):
        world.settle()
    world.unlink(1, 2)
    let_follow(world, 2)
    world.start(2)
    with pytest.raises(ProtocolError, match=r"epoch \d+ is in use there, .*once more"):
        world.settle()
    world.unlink(1, 2)
    put_in_place(world, 1, b"D" * 16)
    world.start(1)
    world.run(3.0)
    assert group(world, 2) == group(world, 1) == b"D" * 16


def test_one_does_not_follow_a_group_that_took_another_ones_place() -> None:
    world, other = World(2, logged=True), World(2, logged=True, born=False)
    for index in (1, 0):  # another start of n1, so that it founds another group
        other.start(index)
    other.run(1.0)
    let_follow(world, 1)
    other.stop(0)
    rebuild(other.engines[0], other.configs[0], B, SKIPPED_MIN)
    world.stop(0)
    world.engines[0], world.places[0] = other.engines[0], other.places[0]
    world.start(1)
    world.start(0)
    with pytest.raises(
        ProtocolError, match="one of the two was founded by mistake; see `basestore topology`"
    ):
        world.settle()
    assert group(world, 1) != B


def test_one_node_rebuilds_its_own() -> None:
    world = World(1, logged=True)
    put_in_place(world, 0)
    world.start(0)
    world.run(0.2)
    done(Asking(world)(0, CARTS))
    assert group(world, 0) == B


def test_a_store_that_was_moved_votes_in_what_was_rebuilt_on_it() -> None:
    world = World(1, logged=True)
    world.stop(0)
    world.move(0)
    rebuild(world.engines[0], world.configs[0], B, SKIPPED_MIN)
    world.start(0)
    world.run(0.2)
    asking = Asking(world)
    done(asking(0, CARTS))
    world.restart(0)
    world.run(0.2)
    done(asking(0, SetSetting("a", "b")))


@pytest.mark.parametrize("work", [rebuild, follow])
def test_without_a_group_there_is_nothing_to_rebuild_and_nothing_is_changed(work: Callable[..., str]) -> None:
    world = World(2, born=False)
    world.start(0)  # without the other it founds none
    world.run(1.0)
    world.stop(0)
    was = world.copy_store(0)
    given = (B, SKIPPED_MIN) if work is rebuild else ()
    with pytest.raises(ConfigurationError, match=r"follows no metadata group yet.*start the node"):
        work(world.engines[0], world.configs[0], *given)
    assert world.copy_store(0) == was


def test_the_store_of_another_node_is_refused_and_nothing_is_changed() -> None:
    world = World(2, logged=True)
    world.stop(0)
    was = world.copy_store(0)
    with pytest.raises(ConfigurationError, match="Correct \\[node\\] name or directory"):
        rebuild(world.engines[0], world.configs[1], B, SKIPPED_MIN)
    elsewhere = replace(world.configs[0], cluster=replace(world.cluster, id=b"other" + bytes(11)))
    with pytest.raises(ConfigurationError, match="cluster id"):
        rebuild(world.engines[0], elsewhere, B, SKIPPED_MIN)
    assert world.copy_store(0) == was


def test_a_new_group_may_be_taken_up_only_where_it_is_later_and_has_nothing_that_was_dropped() -> None:
    log = Log()
    log.add(CARTS)
    was = log.topology
    assert hindrance(None, was) == ""
    assert "once more" in hindrance(was, was)
    later = replace(was, epoch=was.epoch + 1)
    assert hindrance(was, later) == ""
    log.add(DropBucket("carts"))
    assert "bucket 'carts'" in hindrance(log.topology, replace(was, epoch=log.topology.epoch + 1))


def test_two_of_one_group_are_never_parted_by_their_lineage() -> None:
    world = World(1, logged=True)
    held = world.node(0).membership.group.allegiance
    assert not goes_over(held._replace(follows=True), held)
    told = held._replace(group=B, formers=held.group)
    assert not goes_over(held, told)
    assert goes_over(held._replace(follows=True), told)
    assert not goes_over(told._replace(follows=True), held)  # not back
    assert "stop n2" in parted("n2", held, told)
    assert "stop this node" in parted("n2", told, held)
