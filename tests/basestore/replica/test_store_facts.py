"""What a store was written under is kept in it, and it opens under nothing else."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from basestore.config import ClusterConfig, Member
from basestore.consistency import Level
from basestore.errors import ConfigurationError, StorageError
from basestore.node import Node
from basestore.repair.rule import Rule
from basestore.replica.identity import Fresh
from basestore.replica.store_facts import FACTS
from basestore.storage import keyspace
from tests.worlds.world import World

ORDERS = {"orders": Rule.LAST_WRITE_WINS}


def stopped(**options: object) -> World:
    """Three nodes that hold something, and n2 is stopped."""
    world = World(3, buckets=ORDERS, **options)  # type: ignore[arg-type]
    world.put(0, "k", "v", Level.ALL, bucket="orders")
    world.stop(1)
    return world


def reopened(world: World, change: Callable[[ClusterConfig], ClusterConfig]) -> None:
    """Start n2 under a changed configuration."""
    world.configs[1] = replace(world.configs[1], cluster=change(world.configs[1].cluster))
    world.start(1, link=False)


def members(change: Callable[[Member], Member]) -> Callable[[ClusterConfig], ClusterConfig]:
    return lambda cluster: replace(cluster, members=tuple(map(change, cluster.members)))


def renamed(member: Member) -> Member:
    return replace(member, name="n4") if member.name == "n3" else member


def zoned(member: Member) -> Member:
    return replace(member, zone="b") if member.name == "n3" else member


def renumbered(member: Member) -> Member:
    return replace(member, number=member.number + 1) if member.name == "n3" else member


CHANGES: list[tuple[Callable[[ClusterConfig], ClusterConfig], list[str]]] = [
    (lambda c: replace(c, partitions=5), ["partitions: 5 in the configuration, 4 in the store"]),
    (lambda c: replace(c, replication=2), ["replication: 2 in the configuration, 3 in the store"]),
    (lambda c: replace(c, id=b"\1" * 16), [f"cluster id: {'01' * 16} in the configuration, {'00' * 16} in"]),
    (lambda c: replace(c, key=b"\1" * 32), ["cluster key: "]),
    (
        lambda c: replace(c, members=(*c.members, Member(40, "n4", "127.0.0.1:1"))),
        ["member 40: n4 zone='' in the configuration, absent in the store"],
    ),
    (
        lambda c: replace(c, members=c.members[:2], replication=2),
        ["member 17: absent in the configuration, n3 zone=''", "replication: 2 in the configuration, 3 in"],
    ),
    (members(renamed), ["member 17: n4 zone='' in the configuration, n3 zone='' in the store"]),
    (members(zoned), ["member 17: n3 zone='b' in the configuration, n3 zone='' in the store"]),
    (
        members(renumbered),
        ["member 17: absent in the configuration, n3 zone=''", "member 18: n3 zone='' in the configuration"],
    ),
    (
        lambda c: replace(c, buckets={**c.buckets, "orders": Rule.FIRST_WRITE_WINS}),
        ["bucket orders: first-write-wins in the configuration, last-write-wins in the store"],
    ),
    (
        lambda c: replace(c, buckets={n: r for n, r in c.buckets.items() if n != "orders"}),
        ["bucket orders: absent in the configuration, last-write-wins in the store"],
    ),
]


@pytest.mark.parametrize(("change", "named"), CHANGES, ids=range(len(CHANGES)))
def test_a_store_does_not_open_under_other_settings_and_names_those_that_differ(
    change: Callable[[ClusterConfig], ClusterConfig], named: list[str]
) -> None:
    world = stopped()
    before = world.copy_store(1)
    advice = "Nothing was changed. Put these settings back.*Leave the store where it is: `basestore status`"
    with pytest.raises(ConfigurationError, match=advice) as told:
        reopened(world, change)
    listed = str(told.value).split("under other settings: ")[1].split(". Nothing")[0].split("; ")
    assert len(listed) == len(named)
    assert all(line.startswith(name) for line, name in zip(listed, named, strict=True))
    assert world.copy_store(1) == before


def test_all_that_differs_is_named_at_once() -> None:
    world = stopped()
    with pytest.raises(ConfigurationError, match=r"partitions: 9 in.*; replication: 1 in"):
        reopened(world, lambda cluster: replace(cluster, partitions=9, replication=1))


def test_the_key_itself_is_not_shown() -> None:
    world = stopped()
    with pytest.raises(ConfigurationError) as told:
        reopened(world, lambda cluster: replace(cluster, key=b"\1" * 32))
    assert world.cluster.key.hex() not in str(told.value)
    assert not any(world.cluster.key in value for value in world.copy_store(1).values())


@pytest.mark.parametrize("change", ["name", "number"])
def test_the_store_of_another_member_is_refused_by_that(change: str) -> None:
    world = stopped()
    if change == "name":
        world.configs[1] = replace(world.configs[1], name="n3")
        ours = "n3, number 17"
    else:
        numbers = {"n2": 4}
        cluster = world.configs[1].cluster
        moved = tuple(replace(m, number=numbers.get(m.name, m.number)) for m in cluster.members)
        world.configs[1] = replace(world.configs[1], cluster=replace(cluster, members=moved))
        ours = "n2, number 4"
    match = rf"this node: {ours} in the configuration, n2, number 10 in the store.*Correct \[node\]"
    with pytest.raises(ConfigurationError, match=match):
        world.start(1)


def test_addresses_and_bounds_may_change_freely() -> None:
    world = stopped()
    reopened(world, members(lambda member: replace(member, address="10.0.0.1:1")))
    world.stop(1)
    reopened(world, lambda cluster: replace(cluster, drift_ms_max=500, timeout_ms_max=2000))
    assert world.node(1).name == "n2"


def with_bucket(name: str, rule: Rule) -> Callable[[ClusterConfig], ClusterConfig]:
    return lambda cluster: replace(cluster, buckets={**cluster.buckets, name: rule})


def without(*names: str) -> Callable[[ClusterConfig], ClusterConfig]:
    return lambda c: replace(c, buckets={name: rule for name, rule in c.buckets.items() if name not in names})


def test_a_bucket_may_be_added_and_is_bound_from_then_on() -> None:
    world = World(1)
    world.stop(0)
    config = world.configs[0]
    world.configs[0] = replace(config, cluster=with_bucket("new", Rule.FIRST_WRITE_WINS)(config.cluster))
    world.start(0)
    world.put(0, "k", "v", bucket="new")
    world.stop(0)
    world.configs[0] = replace(config, cluster=with_bucket("new", Rule.LAST_WRITE_WINS)(config.cluster))
    with pytest.raises(ConfigurationError, match="bucket new: last-write-wins in the configuration, first"):
        world.start(0)


@pytest.mark.parametrize("change", [without("typo"), with_bucket("typo", Rule.FIRST_WRITE_WINS)])
def test_a_bucket_of_which_the_store_holds_nothing_is_let_go(
    change: Callable[[ClusterConfig], ClusterConfig],
) -> None:
    world = stopped()
    reopened(world, with_bucket("typo", Rule.LAST_WRITE_WINS))
    assert not world.node(1).let_go
    world.crash(1)
    reopened(world, change)
    (text,) = world.node(1).let_go
    assert "holds nothing of bucket typo, and is bound to its rule, last-write-wins, no more" in text
    world.crash(1)  # what was let go is so for good, and what is held of the others still binds
    assert (b"bucket typo" in world.copy_store(1)[FACTS]) == ("typo" in world.configs[1].cluster.buckets)
    world.start(1, link=False)
    assert not world.node(1).let_go
    assert world.stored(1, "k", "orders")
    world.stop(1)
    with pytest.raises(ConfigurationError, match="bucket orders: absent in the configuration"):
        reopened(world, without("orders", "typo"))


def test_a_crash_while_a_bucket_is_let_go_leaves_it_as_it_was_or_gone() -> None:
    world = stopped()
    reopened(world, with_bucket("typo", Rule.LAST_WRITE_WINS))
    world.stop(1)
    before = world.copy_store(1)
    world.configs[1] = replace(world.configs[1], cluster=without("typo")(world.configs[1].cluster))
    fresh = Fresh(b"s" * 16, b"g" * 8, 99, world.places[1])
    node = Node(world.configs[1], world.engines[1], fresh, world.now(1), {})
    assert world.copy_store(1) == before  # nothing is stored until the first step
    node.step(world.now(1))
    world.engines[1].crash()  # before the first sync
    assert world.copy_store(1) == before
    world.start(1, link=False)
    assert world.node(1).let_go
    assert b"bucket typo" not in world.copy_store(1)[FACTS]


def kept_a_record(world: World) -> None:
    world.put(0, "k", "v", Level.ALL, bucket="typo")


def kept_a_tombstone(world: World) -> None:
    deleted = world.delete(0, "k", Level.ALL, bucket="typo")
    world.settle()
    assert deleted.receipt()


def kept_a_hint(world: World) -> None:
    """For another, of a row that is none of this node's."""
    key = next(key for key in map(str, range(99)) if 3 not in world.replicas(key, "typo"))
    world.isolate(0)
    world.run(5)
    assert world.put(3, key, "v", Level.QUORUM, bucket="typo")
    world.run(1)
    assert world.node(3).hints.piles[0].count
    assert not list(world.engines[3].scan(*keyspace.records()))


@pytest.mark.parametrize("kept", [kept_a_record, kept_a_tombstone, kept_a_hint])
def test_a_bucket_of_which_the_store_holds_anything_must_come_back(kept: Callable[[World], None]) -> None:
    buckets = {"typo": Rule.LAST_WRITE_WINS, "empty": Rule.FIRST_WRITE_WINS, "typ": Rule.LAST_WRITE_WINS}
    world = World(4, buckets=buckets)
    kept(world)
    holder = 3 if kept is kept_a_hint else world.replicas("k", "typo")[0]
    world.stop(holder)
    config, before = world.configs[holder], world.copy_store(holder)
    world.configs[holder] = replace(config, cluster=without(*buckets)(config.cluster))
    with pytest.raises(ConfigurationError) as refused:
        world.start(holder, link=False)
    told = str(refused.value)
    assert "other settings: bucket typo: absent in the configuration, last-write-wins in the store. " in told
    lines = '(the lines [buckets."typo"] with rule = "last-write-wins" in the file of every node)'
    assert f"Put these settings back as they are in the store, on every node {lines}" in told
    assert "empty" not in told
    assert world.copy_store(holder) == before
    world.configs[holder] = replace(config, cluster=without("typ", "empty")(config.cluster))
    world.start(holder, link=False)
    assert len(world.node(holder).let_go) == 2


def test_beside_other_settings_that_differ_no_bucket_is_let_go() -> None:
    world = stopped()
    reopened(world, with_bucket("typo", Rule.LAST_WRITE_WINS))
    world.stop(1)
    with pytest.raises(ConfigurationError, match=r"bucket typo: absent in the .*; partitions: 5 in"):
        reopened(world, lambda cluster: replace(without("typo")(cluster), partitions=5))


def test_buckets_that_are_built_in_are_no_part_of_it() -> None:
    assert b"once" not in stopped().copy_store(1)[FACTS]


def test_a_store_that_was_never_up_is_bound_as_well() -> None:
    world = World(3, born=False)
    world.start(1)
    world.crash(1)
    with pytest.raises(ConfigurationError, match="partitions: 5"):
        reopened(world, lambda cluster: replace(cluster, partitions=5))


@pytest.mark.parametrize("damage", [None, b"", b"x", b"x" * 40])
def test_settings_that_cannot_be_read_are_damage(damage: bytes | None) -> None:
    world = stopped()
    world.engines[1].apply({FACTS: damage})
    with pytest.raises(StorageError, match=r"is damaged: the settings.*`basestore status`"):
        world.start(1)
