"""Who votes: what members that are away, copies, older disks and stores that have forgotten something do to
the metadata group. Covers `membership/leading.py` and what of `metadata_group.py` asks who a store is."""

from dataclasses import replace

import pytest

from basestore.consistency import Level
from basestore.errors import ChangeUnknown, NoLeader
from basestore.membership import leading
from basestore.protocol.limits import WIRE_HIGHEST, ProtocolError
from basestore.protocol.membership import At
from basestore.topology.changes import CreateBucket, SetSetting
from basestore.topology.topology import Outcome
from tests.worlds.changing import CARTS, Asked, decided, leaders, voters
from tests.worlds.world import World, number_of

ELECTION_S = 8.0
LONG_S = 20.0


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leading, "REPLACED_S", LONG_S)


def changes(world: World, at: int, identity: int) -> None:
    """Have something changed, which must be decided."""
    asked = Asked(world, at, SetSetting("k", str(identity)), identity)
    world.run(4.0)
    assert not decided(asked).error


@pytest.mark.parametrize("away", [0, 1, 2])
def test_who_is_away_for_long_gives_its_place_to_another_only(away: int) -> None:
    world = World(3, logged=True)
    world.crash(away)
    world.run(LONG_S + ELECTION_S)
    alive = (away + 1) % 3
    assert voters(world, alive) == [number_of(index) for index in range(3)]
    changes(world, alive, 7)
    world.wipe(away)
    world.start(away)
    world.run(ELECTION_S)
    changes(world, away, 8)
    assert len(leaders(world)) == 1


def test_who_is_away_for_long_is_replaced_where_there_is_another() -> None:
    world = World(4, logged=True)
    world.crash(1)
    world.run(LONG_S + ELECTION_S)
    assert voters(world, 0) == [number_of(index) for index in (0, 2, 3)]
    changes(world, 0, 7)


def test_who_is_away_for_long_counts_once_though_two_of_its_stores_are_voters() -> None:
    world = World(5, logged=True)
    world.wipe(4)
    world.start(4)
    raft = world.node(0).membership.group.raft
    assert raft is not None
    for _ in range(200):
        world.run(0.05)
        if len(raft.voters) == 6:
            break
    world.crash(4)  # before the one that is lost is taken out
    world.run(1.0)
    assert voters(world, 0) == [number_of(index) for index in (0, 1, 2, 3, 4, 4)]
    world.run(LONG_S + ELECTION_S)
    assert voters(world, 0) == [number_of(index) for index in range(5)]
    world.crash(3)
    changes(world, 0, 7)
    world.start(4)
    world.run(ELECTION_S)
    changes(world, 4, 8)
    assert voters(world, 0) == [number_of(index) for index in range(5)]


@pytest.mark.parametrize("count", [1, 3])
def test_copies_that_are_taken_as_they_are_vote_as_before(count: int) -> None:
    world = World(count, logged=True)
    world.put(0, "k", "v")
    everybody = range(count)
    before = voters(world, 0)
    for index in everybody:
        world.stop(index)
        world.move(index)
    for index in everybody:
        world.start(index)
    world.run(ELECTION_S)
    assert leaders(world) == []  # it may be an old copy, that has forgotten what it promised
    world.take_as_is(*everybody)
    world.run(ELECTION_S)
    assert voters(world, 0) == before
    changes(world, 0, 7)
    assert world.look(0, "k").value == b"v"


def test_a_copy_that_recovers_from_the_others_is_another_voter() -> None:
    world = World(3, logged=True)
    raft = world.node(0).membership.group.raft
    assert raft is not None
    was = {voter.number: voter.store for voter in raft.voters}[number_of(2)]
    world.stop(2)
    world.move(2)
    world.start(2)
    world.run(2 * ELECTION_S)
    assert {voter.number: voter.store for voter in raft.voters}[number_of(2)] != was
    changes(world, 2, 7)


@pytest.mark.parametrize(("disk", "same"), [("its own", True), ("blocks", False), ("files", False)])
def test_under_interval_who_was_killed_votes_as_before_and_who_was_set_back_does_not(
    disk: str, same: bool
) -> None:
    """What is not synced is lost with either, so the store starts over: the voter need not."""
    world = World(3, logged=True, durability="interval")
    raft = world.node(0).membership.group.raft
    assert raft is not None
    was = {voter.number: voter.store for voter in raft.voters}[number_of(2)]
    older = world.copy_store(2)
    for number in range(3):
        world.put(0, f"k{number}", "v")
    world.run(3.0)  # by then all others have written down how much more it has said that it holds
    world.crash(2)
    if disk != "its own":
        world.restore(2, older, in_place=disk == "blocks")
    world.start(2)
    assert world.node(2).state == "forgetful"
    world.run(2 * ELECTION_S)
    assert ({voter.number: voter.store for voter in raft.voters}[number_of(2)] == was) is same
    changes(world, 2, 7)
    assert [node.state for node in world.running] == ["up"] * 3


def test_a_copy_that_is_killed_under_interval_is_one_still() -> None:
    world = World(3, logged=True, durability="interval")
    world.put(0, "k", "v")
    world.run(3.0)
    for index in (0, 1):
        world.stop(index)
    world.stop(2)
    world.move(2)
    world.start(2)
    before = world.node(2).membership.group.me
    for _ in range(2):
        world.restart(2)
        assert (world.node(2).state, world.node(2).identity.copied) == ("forgetful", True)
        assert not world.node(2).membership.group.is_itself
    world.start(0)
    world.start(1)
    world.run(2 * ELECTION_S)
    assert world.node(2).state == "up"
    assert world.node(2).membership.group.me != before


@pytest.mark.parametrize("durability", ["sync", "interval"])
def test_a_file_system_that_was_copied_is_silent_until_all_have_spoken_though_its_node_is_killed(
    durability: str,
) -> None:
    """n3 comes back on the copy, mounted under another id; n1, who remembers more than it holds, is away."""
    world = World(3, logged=True, durability=durability)  # type: ignore[arg-type]  # the words are those
    world.put(0, "k", "v", Level.ALL)
    world.run(3.0)
    was = world.node(2).membership.group.me
    world.part(1, 2)  # n2 hears nothing of n3 from now on
    world.run(1.0)
    world.stop(2)
    copy, places = world.copy_store(2), world.places[2]
    world.start(2)
    for number in range(3):
        world.put(0, f"k{number}", "v")
    world.run(3.0)
    world.crash(0)
    world.restore(2, copy)
    world.places[2] = places
    world.remount(2)
    world.start(2)
    world.join(1, 2)
    for _ in range(2):
        world.run(2.0)
        group = world.node(2).membership.group
        assert not (group.is_itself and group.confirmed)
        assert not world.node(2).identity.counts
        world.restart(2)
    world.start(0)
    world.run(2 * ELECTION_S)
    assert world.node(2).membership.group.me != was
    assert world.node(2).state == "up"


def test_an_older_disk_decides_nothing_before_somebody_has_vouched_for_it() -> None:
    world = World(2, logged=True)
    older = world.copy_store(0)
    made = Asked(world, 1, CARTS, 1)
    world.run(1.0)
    world.put(1, "k", "v", bucket="carts")
    world.stop(1)
    world.restore(0, older)
    world.start(0)
    other = Asked(world, 0, CreateBucket("other", "first-write-wins", [0, 0, 0, 0]), 2, timeout_s=4.0)
    world.run(5.0)
    assert leaders(world) == []
    assert not isinstance(other.became, Outcome)
    world.start(1)
    world.run(ELECTION_S)
    told = [node.membership.group.topology for node in world.running]
    assert told[0] == told[1]
    assert told[0] is not None
    assert told[0].epoch >= decided(made).epoch
    assert "carts" in told[0].buckets
    assert world.look(0, "k", bucket="carts").value == b"v"


def test_two_histories_of_one_group_are_told_apart() -> None:
    """n3 was away when n1 and n2 decided something, and vouches for an older disk of n1's while n2 is."""
    world = World(3, logged=True, reconcile=True)
    older = world.copy_store(0)
    world.crash(2)
    made = Asked(world, 0, CARTS, 1)
    world.run(1.0)
    assert not decided(made).error
    world.crash(1)
    world.restore(0, older)
    world.start(2)
    world.start(0)
    world.run(ELECTION_S)
    changes(world, 0, 5)
    world.start(1)
    with pytest.raises(ProtocolError, match="have different entries at epoch"):
        world.run(ELECTION_S)


def upgraded(world: World, index: int) -> None:
    world.stop(index)
    world.configs[index] = replace(world.configs[index], wire_highest=WIRE_HIGHEST)
    world.start(index)
    world.run(3.0)


def finished_without_n3(durability: str) -> World:
    """A cluster that has just been upgraded, and cannot found a group, for n3 has said nothing of it."""
    world = World(3, durability=durability)  # type: ignore[arg-type]  # the words are those
    world.put(0, "k", "v")
    for index in range(3):
        upgraded(world, index)
    world.lose = lambda sent: isinstance(sent.message, At) and sent.source == 2
    world.node(0).feature_level.finish()
    world.run(0.2)
    world.crash(2)
    world.lose = lambda sent: False
    world.run(5.0)
    assert {node.membership.group.group for node in world.running} == {b""}
    return world


def has_founded(world: World) -> bool:
    told = [node.membership.group.topology for node in world.running]
    return all(topology is not None and topology.founded for topology in told)


@pytest.mark.parametrize("lost", ["killed", "wiped"])
def test_a_group_is_founded_though_all_may_have_forgotten_one(lost: str) -> None:
    world = finished_without_n3("interval")
    for index in (0, 1, 2):
        if world.nodes[index] is not None:
            world.crash(index)
        if lost == "wiped":
            world.wipe(index)
        world.start(index)
        world.run(20.0)
    world.run(20.0)
    assert has_founded(world)


def test_who_must_not_found_says_so_on_the_links_that_stand() -> None:
    world = finished_without_n3("sync")
    world.wipe(0)
    world.start(0)
    world.run(5.0)
    world.start(2)
    world.run(20.0)
    assert has_founded(world)


def test_a_node_whose_file_has_other_partitions_is_told_so_and_recovers_nothing() -> None:
    world = World(3, logged=True)
    for number in range(20):
        world.put(0, f"k{number}", "v")
    world.wipe(2)
    cluster = world.configs[2].cluster
    world.configs[2] = replace(world.configs[2], cluster=replace(cluster, partitions=8))
    world.start(2)
    with pytest.raises(ProtocolError, match=r"correct \[cluster\] partitions there"):
        world.run(5.0)
    assert world.node(2).state != "up"


def test_a_setting_hinders_no_read_of_a_node_whose_disk_is_full() -> None:
    world = World(3, logged=True)
    world.put(0, "k", "v")
    world.engines[2].full = True
    world.run(3.0)
    changes(world, 0, 7)
    for level in (Level.ALL, Level.QUORUM):
        call = world.get(0, "k", level)
        world.run(0.5)
        assert call.read().value == b"v"


def test_that_the_group_is_complete_is_proposed_once_at_a_time() -> None:
    world = World(3, logged=True, born=False)
    for index in range(3):
        world.start(index)
    group = world.node(0).membership.group
    while group.raft is None or len(group.raft.voters) < 3:
        world.run(0.05)
    for other in (1, 2):
        world.hold(other, 0)
    world.run(2.0)
    assert group.raft.log.last - group.raft.commit <= 1


def test_of_a_change_that_may_have_been_asked_for_before_nobody_says_that_it_was_not_done() -> None:
    world = World(3, logged=True)
    for index in (0, 1):
        world.crash(index)
    world.run(ELECTION_S)
    first = Asked(world, 2, CARTS, 1, timeout_s=2.0)
    again = Asked(world, 2, CARTS, 1, timeout_s=2.0, again=True)
    world.run(3.0)
    assert isinstance(first.became, NoLeader)
    assert isinstance(again.became, ChangeUnknown)
