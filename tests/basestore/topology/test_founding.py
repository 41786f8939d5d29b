"""A cluster is founded by its configuration, as it is. Covers `topology/founding.py`."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from basestore.cluster.placement import Placement
from basestore.config import BUILT_IN, Member, NodeConfig
from basestore.errors import ConfigurationError
from basestore.repair.rule import Rule
from basestore.repair.seats import Stage
from basestore.topology.changes import AddMember, CreateBucket, DropBucket, SetMember, SetSetting, Standing
from basestore.topology.founding import cluster_of, differing, in_force, voters_wanted
from basestore.topology.topology import MemberEntry, Topology
from tests.worlds.topologies import FWW, LWW, NO_OPTIONS, Log, cluster, found, founded

SHAPES = [
    (count, replication, zones, step, partitions)
    for count, zones, step, partitions in product((1, 2, 3, 5, 10), (0, 2, 3), (1, 7), (1, 64))
    for replication in (1, 2, 3, 5)
    if replication <= count
]


@pytest.mark.parametrize(("count", "replication", "zones", "step", "partitions"), SHAPES)
def test_who_holds_a_partition_is_who_held_it_in_the_same_order(
    count: int, replication: int, zones: int, step: int, partitions: int
) -> None:
    config = cluster(count, zones=zones, replication=replication, partitions=partitions, step=step)
    topology = found(config)
    numbers = [member.number for member in config.members]
    held = [tuple(numbers[index] for index in replicas) for replicas in Placement.of(config).replicas]
    assert [each.old for each in topology.seats] == [each.new for each in topology.seats] == held
    assert {(each.since, each.stage) for each in topology.seats} == {(0, Stage.STILL)}


def test_members_are_as_in_the_file() -> None:
    topology = found(cluster(3, zones=2, step=5))
    assert topology.members == (
        MemberEntry(1, "n1", "10.0.0.1:7400", "z0", 1, Standing.MEMBER, b""),
        MemberEntry(6, "n2", "10.0.0.2:7400", "z1", 1, Standing.MEMBER, b""),
        MemberEntry(11, "n3", "10.0.0.3:7400", "z0", 1, Standing.MEMBER, b""),
    )


def test_buckets_have_numbers_in_a_fixed_order_and_their_names_for_labels() -> None:
    rules = {"z": Rule.LAST_WRITE_WINS, "\u00fc": Rule.FIRST_WRITE_WINS, "a": Rule.FIRST_WRITE_WINS}
    topology = found(cluster(buckets=rules))
    facts = [(each.number, name, each.rule, each.label) for name, each in topology.buckets.items()]
    assert facts == [
        (1, "default", Rule.LAST_WRITE_WINS, b"default"),
        (2, "once", Rule.FIRST_WRITE_WINS, b"once"),
        (3, "a", Rule.FIRST_WRITE_WINS, b"a"),
        (4, "z", Rule.LAST_WRITE_WINS, b"z"),
        (5, "\u00fc", Rule.FIRST_WRITE_WINS, "\u00fc".encode()),
    ]
    assert topology.last_bucket == 5
    turned = replace(cluster(), buckets=dict(reversed({**BUILT_IN, **rules}.items())))
    assert found(turned).encode() == topology.encode()


def test_built_in_buckets_are_there_though_a_configuration_leaves_them_out() -> None:
    assert found(replace(cluster(), buckets={})) == found(cluster())


def test_all_else_is_kept_and_nothing_has_happened_yet() -> None:
    config = replace(cluster(), drift_ms_max=7, timeout_ms_max=700)
    topology = found(config)
    assert (topology.epoch, topology.cluster, topology.replication) == (0, config.id, 2)
    assert (topology.drift_ms_max, topology.timeout_ms_max) == (7, 700)
    assert (topology.founded, topology.dropped_since) == (False, 0)
    assert (topology.dropped, topology.settings, topology.outcomes) == ((), {}, {})
    assert Topology.decode(topology.encode()) == topology


@pytest.mark.parametrize("name", ["\0", "\0\0\0\0\3"])
def test_a_bucket_whose_name_could_be_a_label_of_another_is_a_mistake(name: str) -> None:
    with pytest.raises(ConfigurationError, match="begins with a control character"):
        found(cluster(buckets={name: Rule.LAST_WRITE_WINS}))
    found(cluster(buckets={f"a{name}": Rule.LAST_WRITE_WINS}))


# --- the configuration of a topology -------------------------------------------------------------------


def test_a_topology_as_founded_stands_for_the_configuration_that_founded_it() -> None:
    config = cluster(3, zones=2, step=5, buckets={"a": Rule.FIRST_WRITE_WINS})
    assert cluster_of(found(config), config) == config
    assert differing(config, found(config)) == []


def later() -> Log:
    log = Log(founded(cluster(3, zones=2, buckets={"old": Rule.FIRST_WRITE_WINS})))
    log.add(CreateBucket("carts", FWW, NO_OPTIONS))
    log.add(DropBucket("old"))
    log.add(AddMember("n4", "h:1", "z", 1, b""))
    log.add(AddMember("n5", "h:2", "z", 1, b""))
    log.add(SetMember(4, standing="left"))
    log.add(SetMember(2, zone="elsewhere", address="h:3"))
    return log


def test_a_configuration_follows_the_topology() -> None:
    log, config = later(), cluster(3, zones=2, buckets={"old": Rule.FIRST_WRITE_WINS})
    other = replace(log.topology, replication=1, drift_ms_max=5, timeout_ms_max=500)
    made = cluster_of(other, config)
    assert made.members == (
        Member(1, "n1", "10.0.0.1:7400", "z0"),
        Member(2, "n2", "10.0.0.2:7400", "elsewhere"),  # its address in the file is the node's own affair
        Member(3, "n3", "10.0.0.3:7400", "z0"),
        Member(5, "n5", "h:2", "z"),
    )
    assert made.buckets == {**BUILT_IN, "carts": Rule.FIRST_WRITE_WINS}
    assert (made.replication, made.drift_ms_max, made.timeout_ms_max) == (1, 5, 500)
    assert (made.id, made.key, made.partitions) == (config.id, config.key, config.partitions)


def test_an_address_goes_with_the_member_whose_number_and_name_it_had() -> None:
    config = cluster(2)
    renamed = replace(config, members=(config.members[0], Member(2, "x", "h:9")))
    assert cluster_of(found(config), renamed).members[1] == config.members[1]


def test_a_node_without_a_topology_goes_by_its_file() -> None:
    config = NodeConfig(cluster(), "n1", Path("/n1"))
    assert in_force(config, None) is config
    grown = in_force(config, later().topology)
    assert (len(grown.cluster.members), grown.name) == (4, "n1")


def test_in_what_a_file_is_otherwise_is_said_in_words() -> None:
    log = later()
    assert log.add(SetSetting("k", "v")).error == ""
    config = cluster(4, zones=2, buckets={"old": Rule.FIRST_WRITE_WINS, "carts": Rule.LAST_WRITE_WINS})
    members = (
        *config.members[:2],
        Member(3, "m3", "elsewhere:1", "z0"),
        config.members[3],
        Member(9, "n9", "h:9"),
    )
    assert differing(replace(config, members=members), log.topology) == [
        "member 2 is n2, zone 'z1', in the file; and in the cluster's log n2, zone 'elsewhere'",
        "member 3 is m3, zone 'z0', in the file; and in the cluster's log n3, zone 'z0'",
        "member 4, n4, is in the file, and has left the cluster",
        "member 9, n9, is only in the file",
        "bucket 'carts' is of rule last-write-wins in the file, and in the cluster's log of first-write-wins",
        "bucket 'old' is only in the file",
    ]
    log.add(CreateBucket("new", LWW, NO_OPTIONS))
    assert "'new'" not in "".join(differing(config, log.topology))  # what came later stands in no file


def test_of_many_differences_the_first_are_said_and_how_many_there_are() -> None:
    two = cluster(2)
    said = differing(replace(cluster(30), replication=two.replication), found(two))
    assert said[0] == "member 3, n3, is only in the file"
    assert said[9:] == ["member 12, n12, is only in the file", "and 18 more"]
    assert len(differing(replace(cluster(12), replication=two.replication), found(two))) == 10


def test_replication_and_durations_are_those_of_the_log_and_a_file_that_has_others_is_told() -> None:
    was = cluster()
    topology, drift_ms, timeout_ms = found(was), was.drift_ms_max, was.timeout_ms_max
    other = replace(was, replication=1, drift_ms_max=drift_ms + 1, timeout_ms_max=timeout_ms + 2)
    assert cluster_of(topology, other) == was
    assert differing(other, topology) == [
        f"replication is 1 in the file, and {was.replication} in the cluster's log",
        f"drift_ms_max is {drift_ms + 1} in the file, and {drift_ms} in the cluster's log",
        f"timeout_ms_max is {timeout_ms + 2} in the file, and {timeout_ms} in the cluster's log",
    ]


# --- who votes -----------------------------------------------------------------------------------------


def able(count: int, zones: str = "") -> list[MemberEntry]:
    """Members 1 and so on; `zones`: a letter for each."""
    return [MemberEntry(n, f"n{n}", f"h:{n}", zones[n - 1 : n].strip()) for n in range(1, count + 1)]


def on_disk(members: list[MemberEntry]) -> dict[int, bool]:
    return {each.number: True for each in members}


@pytest.mark.parametrize(
    ("count", "voters"), [(1, 1), (2, 1), (3, 3), (4, 3), (5, 5), (6, 5), (7, 5), (100, 5)]
)
def test_voters_are_an_odd_number_and_five_at_most(count: int, voters: int) -> None:
    members = able(count)
    assert voters_wanted(members, on_disk(members), ()) == tuple(range(1, voters + 1))


def test_while_a_store_is_not_known_nobody_is_chosen() -> None:
    members = able(3)
    assert voters_wanted(members, {1: True, 2: True}, (1,)) is None
    assert voters_wanted(members, {}, ()) is None
    assert voters_wanted([], {}, ()) is None


@pytest.mark.parametrize("standing", [Standing.DRAINING, Standing.DEAD, Standing.LEFT])
def test_who_goes_does_not_vote_and_is_not_waited_for(standing: Standing) -> None:
    members = able(4)
    members[0] = members[0]._replace(standing=standing)
    assert voters_wanted(members, {2: True, 3: True, 4: True}, (1, 2, 3)) == (2, 3, 4)
    assert voters_wanted(members[:1], {1: True}, (1,)) is None
    members[1] = members[1]._replace(standing=Standing.JOINING)
    assert voters_wanted(members, on_disk(members), ()) == (2, 3, 4)


def test_stores_on_a_disk_vote_and_others_only_where_there_is_none() -> None:
    members = able(5)
    assert voters_wanted(members, {1: False, 2: True, 3: True, 4: False, 5: True}, ()) == (2, 3, 5)
    assert voters_wanted(members, {1: False, 2: True, 3: False, 4: False, 5: True}, (1, 5)) == (5,)
    assert voters_wanted(members, dict.fromkeys(range(1, 6), False), ()) == (1, 2, 3, 4, 5)


def test_who_votes_already_goes_first() -> None:
    members = able(7)
    assert voters_wanted(members, on_disk(members), (7, 6)) == (1, 2, 3, 6, 7)
    assert voters_wanted(able(4), on_disk(members), (2, 3, 4)) == (2, 3, 4)


@pytest.mark.parametrize(
    ("zones", "voting", "voters"),
    [
        ("aaabbb", (), (1, 2, 3, 4, 5)),
        ("aaaab", (), (1, 2, 3, 4, 5)),
        ("aaab", (1, 2, 3), (1, 2, 4)),
        ("aabb", (2, 4), (1, 2, 4)),
        ("aabbcc", (2, 3, 6), (1, 2, 3, 4, 6)),
        ("aa b", (1, 2, 3), (1, 3, 4)),
        ("  aa", (3, 4), (1, 2, 3)),  # who has no zone shares none
        ("aaaaabc", (1, 2, 3, 4, 5), (1, 2, 3, 6, 7)),
    ],
)
def test_voters_are_in_as_many_zones_as_there_are(
    zones: str, voting: tuple[int, ...], voters: tuple[int, ...]
) -> None:
    members = able(len(zones), zones)
    assert voters_wanted(members, on_disk(members), voting) == voters


@given(zones=st.text("ab c", min_size=1, max_size=9), voting=st.sets(st.integers(1, 9)), data=st.data())
def test_voters_once_chosen_are_chosen_again(zones: str, voting: set[int], data: st.DataObject) -> None:
    members = able(len(zones), zones)
    lasting = {each.number: data.draw(st.booleans()) for each in members}
    chosen = voters_wanted(members, lasting, voting)
    assert chosen is not None
    assert len(chosen) % 2 == 1
    assert list(chosen) == sorted(set(chosen))
    assert voters_wanted(members, lasting, chosen) == chosen
