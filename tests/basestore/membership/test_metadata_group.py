"""The metadata group on real nodes: how it is founded, who votes, and what outlasts crashes and wipes."""

from collections.abc import Collection, Mapping
from dataclasses import replace

import pytest

from basestore.anti_entropy.recovery import Recovery
from basestore.consistency import Level
from basestore.errors import ChangeUnknown, NoLeader
from basestore.membership import metadata_group
from basestore.membership.metadata_group import Coming
from basestore.repair.seats import Seats
from basestore.topology.changes import DropBucket, SetSetting
from basestore.topology.topology import OTHER_CHANGE, Topology
from tests.worlds.changing import CARTS, Asked, change, decided, leaders, topologies, voters
from tests.worlds.world import World, number_of


@pytest.mark.parametrize(("count", "votes"), [(1, 1), (2, 1), (3, 3), (4, 3), (5, 5), (6, 5)])
def test_a_cluster_founds_its_group_by_itself(count: int, votes: int) -> None:
    world = World(count, logged=True)
    told = topologies(world)
    assert told[0] is not None
    world.run(0.2)
    assert topologies(world) == [told[0]] * count
    assert len({node.membership.group.group for node in world.running}) == 1
    assert voters(world, 0) == [number_of(index) for index in range(votes)]
    assert leaders(world) == ["n1"]


def test_nobody_founds_one_while_a_member_has_not_been_heard() -> None:
    world = World(3, logged=True, born=False)
    for index in (0, 1):
        world.start(index)
    world.run(5.0)
    assert [node.membership.group.group for node in world.running] == [b"", b""]
    world.start(2)
    world.run(1.0)
    world.found()


def test_a_bucket_that_was_dropped_shows_nothing_when_it_is_made_anew() -> None:
    world = World(3, logged=True)
    made = Asked(world, 1, CARTS, 1)
    world.run(0.3)
    assert decided(made).number == 4
    world.put(2, "k", "v", bucket="carts")
    assert world.look(0, "k", bucket="carts").value == b"v"
    Asked(world, 2, DropBucket("carts"), 2)
    anew = Asked(world, 2, CARTS._replace(rule="first-write-wins"), 3)
    world.run(0.5)
    assert decided(anew).number == 5
    assert not world.look(0, "k", bucket="carts").found


def test_a_change_that_is_asked_for_twice_is_made_once() -> None:
    world = World(3, logged=True)
    first, second = Asked(world, 0, CARTS, 7), Asked(world, 2, CARTS, 7)
    world.run(0.5)
    again = Asked(world, 1, CARTS, 7)
    world.run(0.2)
    assert decided(first) == decided(second) == decided(again)
    assert not decided(again).error


@pytest.mark.parametrize("at", [0, 1])
def test_under_the_identity_of_another_change_nothing_is_done_and_that_is_said(at: int) -> None:
    world = World(3, logged=True)
    made = Asked(world, 0, CARTS, 7)
    world.run(0.5)
    other = Asked(world, at, DropBucket("carts"), 7)
    world.run(0.5)
    assert (decided(other).error, decided(made).error) == (OTHER_CHANGE, "")
    assert all(topology is not None and "carts" in topology.buckets for topology in topologies(world))


def test_without_a_majority_nothing_is_changed_and_data_are_served() -> None:
    world = World(3, logged=True)
    for index in (0, 1):
        world.crash(index)
    world.run(6.0)
    asked = Asked(world, 2, CARTS, 1, timeout_s=2.0)
    world.run(3.0)
    assert isinstance(asked.became, NoLeader)
    assert asked.became.definite
    assert world.put(2, "k", "v", Level.ONE).acknowledged == 1
    world.start(0)
    world.run(6.0)
    assert world.put(2, "k", "v").acknowledged == 2
    assert all(topology is not None and "carts" not in topology.buckets for topology in topologies(world))


def test_what_became_of_a_change_is_not_known_once_its_leader_is_cut_off() -> None:
    world = World(3, logged=True)
    for other in (1, 2):
        world.hold(other, 0)
    asked = Asked(world, 0, CARTS, 1, timeout_s=2.0)
    world.run(3.0)
    assert isinstance(asked.became, ChangeUnknown)
    assert not asked.became.definite


def test_another_leads_when_the_leader_is_gone_and_what_was_decided_stays() -> None:
    world = World(3, logged=True)
    made = Asked(world, 1, CARTS, 1)
    world.run(0.5)
    world.crash(0)
    world.run(6.0)
    assert leaders(world) in (["n2"], ["n3"])
    set_ = Asked(world, 1, SetSetting("region", "north"), 2)
    world.run(1.0)
    assert decided(set_).epoch > decided(made).epoch
    world.start(0)
    world.run(2.0)
    told = topologies(world)
    assert told[0] is not None
    assert told[0].settings == {"region": "north"}
    assert told == [told[0]] * 3


def test_all_is_known_again_after_all_were_cut_off_from_power() -> None:
    world = World(3, logged=True)
    Asked(world, 1, CARTS, 1)
    world.run(0.5)
    epochs = [topology.epoch for topology in topologies(world) if topology is not None]
    for index in range(3):
        world.crash(index)
    for index in range(3):
        world.start(index)
    told = topologies(world)
    assert all(topology is not None and "carts" in topology.buckets for topology in told)
    now = [topology.epoch for topology in told if topology is not None]
    assert all(epoch >= was for epoch, was in zip(now, epochs, strict=True))
    world.run(6.0)
    assert len(leaders(world)) == 1


def test_a_store_that_was_lost_votes_no_more_and_its_member_is_taken_in_again() -> None:
    world = World(3, logged=True)
    raft = world.node(0).membership.group.raft
    assert raft is not None
    lost = next(voter for voter in raft.voters if voter.number == number_of(2))
    world.wipe(2)
    world.start(2)
    world.run(8.0)
    assert lost not in raft.voters
    assert voters(world, 0) == [number_of(index) for index in range(3)]


def test_members_of_a_file_are_not_read_any_more_once_they_stand_in_the_log() -> None:
    world = World(3, logged=True)
    world.stop(1)
    cluster = world.configs[1].cluster
    config = replace(cluster, buckets={name: cluster.buckets[name] for name in ("default", "once")})
    members = tuple(replace(member, zone="elsewhere") for member in cluster.members)
    world.configs[1] = replace(world.configs[1], cluster=replace(config, members=members))
    node = world.start(1)
    assert "are not read any more" in node.let_go[0]
    assert node.config.cluster.members[0].zone == ""


def test_a_snapshot_is_taken_up_though_much_has_come_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(3, logged=True)
    for number in range(5):
        change(world, 0, SetSetting("k", str(number)))
    monkeypatch.setattr(metadata_group, "COMPACT_BYTES", 0)  # what there is behind it is too much
    world.wipe(2)
    world.start(2)
    world.run(8.0)
    assert voters(world, 2) == [number_of(index) for index in range(3)]
    assert [topology.settings for topology in topologies(world) if topology is not None] == [{"k": "4"}] * 3


Told = list[tuple[list[int], list[int], list[int]]]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    """What is foreseen: the partitions that change, which of these were given up, and which perhaps were."""
    told = Told()

    def foresee(
        _: object, changed: Mapping[int, object], now: object, given_up: set[int], left: object, *,
        unsure: Collection[int],
    ) -> None:  # fmt: skip
        told.append((sorted(changed), sorted(given_up), sorted(unsure)))

    monkeypatch.setattr(Recovery, "foresee", foresee)
    return told


def seated(was: Topology, *holdings: tuple[int, ...]) -> Topology:
    """One entry after the other gives the first partition to these."""
    for members in holdings:
        index = was.epoch + 1
        was = was.pass_by(index).seated({0: Seats.still(members, index)}, index)
    return was


def test_what_a_snapshot_brings_is_foreseen_again_behind_what_was_pending(told: Told) -> None:
    """A partition is given up by an entry that is pending, and given back by a snapshot that comes meanwhile:
    when the first is adopted, what was foreseen of the second is gone with the partition."""
    world = World(3, logged=True)
    group, now = world.node(0).membership.group, world.now(0)
    was, me = group.topology, group.me.number
    assert was is not None
    all_three = was.seats[0].new
    gone = seated(was, tuple(number for number in all_three if number != me))
    back = seated(gone, all_three)
    told.clear()
    group.foresee(Coming(gone, skipped=False), now)
    group.foresee(Coming(back, skipped=True), now)  # as it is stored
    group.adopt(Coming(gone, skipped=False), now)
    group.foresee(Coming(back, skipped=True), now)  # as it is noted
    assert told == [([0], [], []), ([0], [0], [0]), ([0], [0], [0])]


def test_a_snapshot_says_who_has_kept_its_seat(told: Told) -> None:
    world = World(3, logged=True)
    group, now = world.node(0).membership.group, world.now(0)
    was, me = group.topology, group.me.number
    assert was is not None
    all_three = was.seats[0].new
    one, *_ = others = tuple(number for number in all_three if number != me)
    group.foresee(Coming(seated(was, (me,), (me, one), all_three), skipped=True), now)
    assert told.pop() == ([0], [], [])
    for gone in (others, (one,)):
        group.adopt(Coming(was, skipped=False), now)
        group.foresee(Coming(seated(was, (me,), gone, all_three), skipped=True), now)
        assert told.pop() == ([0], [], [0])
    group.adopt(Coming(was, skipped=False), now)
    group.foresee(Coming(seated(was, others, all_three), skipped=False), now)
    assert told.pop() == ([0], [], [])
