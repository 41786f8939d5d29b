"""Plans of who is to hold what: they are such as the log takes, balanced, and move as little as can be.
Covers `topology/balance.py` and `topology/quotas.py`."""

import hashlib
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import combinations, pairwise
from typing import Any

import pytest

from basestore.cluster.placement import assign
from basestore.config import Member
from basestore.repair.seats import Seats, Stage
from basestore.topology import founding
from basestore.topology.balance import plan, zones_short
from basestore.topology.changes import SetPlan, Standing
from basestore.topology.topology import MemberEntry, Topology
from tests.worlds.topologies import Log, cluster, found

WORLDS = 400
SMALL_WORLDS = 300
STANDINGS = (*[Standing.MEMBER] * 5, Standing.JOINING, Standing.DRAINING, Standing.DEAD, Standing.LEFT)


# --- worlds, and what is measured in them ------------------------------------------------------------


def world(seed: int, members_max: int = 12, partitions_max: int = 24) -> Topology:
    """A topology in which anything may have come before: partitions with too many seats or too few, in one
    zone, on members that are to go, or half moved."""
    draw = random.Random(seed)
    count, zones = draw.randint(1, members_max), draw.randint(0, 4)
    first = found(cluster(count, replication=1, partitions=draw.randint(1, partitions_max)))
    members = tuple(
        each._replace(
            zone=draw.choice(["", *(f"z{zone}" for zone in range(zones))]) if zones else "",
            weight=draw.choice((1, 1, 1, 2, 3, 4, 5, 0)),
            standing=draw.choice(STANDINGS),
        )
        for each in first.members
    )
    able = [each.number for each in members if each.standing is not Standing.LEFT]
    if not able:
        return world(seed + 1_000_000, members_max, partitions_max)
    holding = [draw_seats(draw, able) for _ in first.seats]
    return replace(first, members=members, seats=tuple(holding), replication=draw.randint(1, 5))


def draw_seats(draw: random.Random, able: list[int]) -> Seats:
    old, new = (tuple(draw.sample(able, draw.randint(1, min(5, len(able))))) for _ in range(2))
    stage = draw.choice((Stage.STILL, Stage.STILL, Stage.FILL, Stage.JOINT))
    return Seats.still(old) if stage is Stage.STILL or set(new) == set(old) else Seats(0, stage, old, new)


def worlds(count: int = WORLDS, **bounds: int) -> Iterator[tuple[int, Topology]]:
    """Those of them in which enough members stay, and the seeds that they are made of."""
    able = [(seed, topology) for seed in range(count) if can_be_held(topology := world(seed, **bounds))]
    assert len(able) >= count / 3
    yield from able


def can_be_held(topology: Topology) -> bool:
    return len(topology.staying) >= topology.replication


def present(topology: Topology) -> list[tuple[int, ...]]:
    """By partition who holds it, or will when its move has ended, if that may end, or must."""
    staying = {each.number for each in topology.staying}
    return [
        seats.new
        if staying >= set(seats.new) or 2 * len({*seats.old} - topology.dead) < len(seats.old)
        else seats.old
        for seats in topology.seats
    ]


def goals(topology: Topology) -> list[tuple[int, ...]]:
    """By partition who holds it in the end."""
    planned = plan(topology)
    return [planned.get(partition, seats.new) for partition, seats in enumerate(topology.seats)]


def carried_out(topology: Topology) -> Topology:
    return replace(topology, seats=tuple(map(Seats.still, goals(topology))))


def moved(topology: Topology) -> int:
    """So many seats come to members who did not have them."""
    return sum(len(set(new) - set(was)) for was, new in zip(present(topology), goals(topology), strict=True))


def loads(table: Sequence[Collection[int]]) -> Counter[int]:
    """By member, in seats."""
    return Counter(number for holders in table for number in holders)


def zone_of(member: MemberEntry) -> str:
    return member.zone or f"only {member.number}"


def zones_of(topology: Topology) -> dict[int, str]:
    return {each.number: zone_of(each) for each in topology.staying}


def possible(topology: Topology) -> list[frozenset[int]]:
    """Whoever could hold one of its partitions, in as many zones as can be."""
    zones, replicas = zones_of(topology), topology.replication
    spread = min(len(set(zones.values())), replicas)
    sets = map(frozenset, combinations(sorted(zones), replicas))
    return [each for each in sets if len({zones[number] for number in each}) == spread]


def fewest(topology: Topology, wanted: Counter[int]) -> int:
    """The seats that must move until members have these loads, by trying whatever is possible."""
    numbers, sets = sorted(zones_of(topology)), possible(topology)
    reached = {(0,) * len(numbers): 0}
    for was in present(topology):
        further: dict[tuple[int, ...], int] = {}
        for held, count in reached.items():
            for each in sets:
                now = tuple(had + (number in each) for had, number in zip(held, numbers, strict=True))
                if all(had <= wanted[number] for had, number in zip(now, numbers, strict=True)):
                    further[now] = min(further.get(now, 1_000_000), count + len(each - set(was)))
        reached = further
    return reached[tuple(wanted[number] for number in numbers)]


def parts(total: int, weights: Sequence[int], least: int, most: Sequence[int]) -> list[Fraction]:
    """As much by weight as is within the bounds, fractions and all: each has a level times its weight, but
    no less than `least` and no more than its `most`, and the level is such that it comes to the total."""

    def filled(level: Fraction) -> list[Fraction]:
        return [min(max(level * weight, Fraction(least)), Fraction(top)) for weight, top in bounds]

    bounds = list(zip(weights, most, strict=True))
    levels = sorted({Fraction(end, weight) for weight, top in bounds for end in (0, least, top)})
    for low, high in pairwise(levels):
        below, above = sum(filled(low)), sum(filled(high))
        if below <= total <= above:
            rise = Fraction(total - below, above - below) if above > below else Fraction(0)
            return filled(low + (high - low) * rise)
    raise AssertionError("the bounds leave no room for it")


# --- whatever came before --------------------------------------------------------------------------


def test_worlds_are_such_as_a_log_can_have_made() -> None:
    for seed in range(WORLDS):
        topology = world(seed)
        assert Topology.decode(topology.encode()) == topology, f"seed {seed}"


def test_the_log_takes_a_plan() -> None:
    for seed, topology in worlds():
        rows = [[partition, *goal] for partition, goal in plan(topology).items()]
        log = Log(topology)
        assert log.add(SetPlan(topology.epoch, rows)).error == "", f"seed {seed}"
        assert log.topology.plan == plan(topology), f"seed {seed}"


def test_each_partition_gets_as_many_members_that_stay_as_there_are_replicas() -> None:
    for seed, topology in worlds():
        staying = {each.number for each in topology.staying}
        for goal in goals(topology):
            assert len(goal) == len(set(goal)) == topology.replication, f"seed {seed}"
            assert staying >= set(goal), f"seed {seed}"


def test_a_partition_is_spread_over_as_many_zones_as_can_be() -> None:
    for seed, topology in worlds():
        zones = zones_of(topology)
        most = min(topology.replication, len(set(zones.values())))
        for goal in goals(topology):
            assert len({zones[number] for number in goal}) == most, f"seed {seed}"


def test_zones_have_by_weight_what_their_bounds_leave_them_less_than_a_seat_aside() -> None:
    for seed, topology in worlds():
        inside, partitions, replicas = members_by_zone(topology), len(topology.seats), topology.replication
        spread = min(len(inside), replicas)
        exact = parts(
            partitions * replicas,
            [sum(each.weight for each in members) for members in inside],
            partitions if len(inside) <= replicas else 0,
            [partitions * min(replicas - spread + 1, len(members)) for members in inside],
        )
        held = loads(goals(topology))
        for part, members in zip(exact, inside, strict=True):
            assert abs(sum(held[each.number] for each in members) - part) < 1, f"seed {seed}"


def test_members_have_by_weight_what_their_zone_has_less_than_a_seat_aside() -> None:
    for seed, topology in worlds():
        held, partitions = loads(goals(topology)), len(topology.seats)
        for members in members_by_zone(topology):
            total = sum(held[each.number] for each in members)
            exact = parts(total, [each.weight for each in members], 0, [partitions] * len(members))
            for part, each in zip(exact, members, strict=True):
                assert abs(held[each.number] - part) < 1, f"seed {seed}"


def members_by_zone(topology: Topology) -> list[list[MemberEntry]]:
    zones = sorted({zone_of(each) for each in topology.staying})
    return [[each for each in topology.staying if zone_of(each) == zone] for zone in zones]


def test_no_plan_with_the_same_loads_moves_fewer_seats() -> None:
    for seed, topology in worlds(SMALL_WORLDS, members_max=7, partitions_max=5):
        assert moved(topology) == fewest(topology, loads(goals(topology))), f"seed {seed}"


def test_what_is_balanced_stays() -> None:
    for seed, topology in worlds():
        assert plan(carried_out(topology)) == {}, f"seed {seed}"


def test_a_plan_names_just_the_partitions_that_are_to_end_elsewhere() -> None:
    for seed, topology in worlds():
        for partition, goal in plan(topology).items():
            assert set(goal) != set(topology.seats[partition].new), f"seed {seed}"


def test_who_stays_keeps_its_place_and_who_comes_has_the_place_of_one_who_goes() -> None:
    for seed, topology in worlds():
        for was, goal in zip(present(topology), goals(topology), strict=True):
            kept = [number for number in was if number in goal]
            assert [number for number in goal if number in was] == kept, f"seed {seed}"
            come = len(goal) - len(kept)
            if come >= len(was) - len(kept):
                assert [goal.index(number) for number in kept] == [was.index(each) for each in kept]


def test_the_order_in_which_mappings_came_to_be_does_not_matter() -> None:
    for seed, topology in worlds():
        other = replace(
            topology, plan={2: (0,), 0: (0,)}, settings={"b": "1", "a": "2"},
            buckets=dict(reversed(list(topology.buckets.items()))), unplanned=True,
        )  # fmt: skip
        assert list(plan(other).items()) == list(plan(topology).items()), f"seed {seed}"


def test_a_plan_is_the_same_whatever_hashes_are_drawn() -> None:
    text = "from tests.basestore.topology.test_balance import *; print([plan(world(s)) for s in range(50)])"
    ran = [
        subprocess.run(
            [sys.executable, "-c", text], capture_output=True, check=True, text=True,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
        ).stdout
        for seed in ("1", "2")
    ]  # fmt: skip
    assert ran[0] == ran[1] == f"{[plan(world(seed)) for seed in range(50)]}\n"


def test_nothing_is_planned_where_fewer_members_stay_than_there_are_to_be_replicas() -> None:
    few = [each for each in map(world, range(WORLDS)) if not can_be_held(each)]
    assert few
    assert all(plan(topology) == {} for topology in few)


# --- single changes --------------------------------------------------------------------------------


def changed(partitions: int, before: int, after: int, zones: int) -> Topology:
    """Partitions of three replicas as `assign` has them on n0, n1 and so on, when more of these have come, or
    the last of them are to go."""
    config = cluster(max(before, after), zones=zones, replication=3, partitions=partitions)
    members = tuple(replace(each, name=f"n{at}") for at, each in enumerate(config.members))
    config = replace(config, members=members)
    topology = founding.found(config, assign(config.members[:before], partitions, 3))
    standings = [
        Standing.DRAINING if at >= after else Standing.JOINING if at >= before else Standing.MEMBER
        for at in range(len(members))
    ]
    return with_members(topology, standing=standings)


def with_members(topology: Topology, **facts: Sequence[Any]) -> Topology:
    """The same, with these facts of its members, one after the other."""
    rows = [dict(zip(facts, row, strict=True)) for row in zip(*facts.values(), strict=True)]
    members = [each._replace(**row) for each, row in zip(topology.members, rows, strict=True)]
    return replace(topology, members=tuple(members))


def one(topology: Topology, number: int, **facts: Any) -> Topology:
    """The same, with these facts of one member."""
    members = [each._replace(**facts) if each.number == number else each for each in topology.members]
    return replace(topology, members=tuple(members))


def balanced(count: int, partitions: int = 256, replication: int = 3, zones: int = 0) -> Topology:
    config = cluster(count, zones=zones, replication=replication, partitions=partitions)
    return carried_out(found(config))


def least(topology: Topology) -> int:
    """No fewer seats than this can move until loads are those that are planned: all that members lack, and
    all that those have who are to go."""
    held, wanted = loads(present(topology)), loads(goals(topology))
    lacking = sum(max(0, wanted[number] - held[number]) for number in wanted)
    return max(lacking, sum(held[number] for number in held.keys() - zones_of(topology).keys()))


@pytest.mark.parametrize(
    ("partitions", "before", "after", "zones", "count"),
    [
        (64, 3, 4, 0, 48),
        (64, 5, 6, 0, 32),
        (64, 6, 5, 0, 34),
        (256, 10, 11, 0, 69),
        (256, 9, 10, 3, 66),
        (1024, 99, 100, 5, 79),
        (1024, 100, 97, 5, 93),
    ],
)
def test_when_members_come_or_go_no_more_seats_move_than_must(
    partitions: int, before: int, after: int, zones: int, count: int
) -> None:
    """Where shares are no whole numbers, who has a seat more than others keeps it."""
    topology = changed(partitions, before, after, zones)
    assert moved(topology) == least(topology) == count


@pytest.mark.parametrize("standing", [Standing.DRAINING, Standing.DEAD])
@pytest.mark.parametrize("zones", [0, 5])
def test_of_a_member_that_goes_just_its_own_seats_move(standing: Standing, zones: int) -> None:
    before = balanced(10, zones=zones)
    topology = one(before, 4, standing=standing)
    held = loads(present(before))[4]
    assert moved(topology) == len(plan(topology)) == held
    assert loads(goals(topology))[4] == 0


def test_of_a_member_that_comes_just_its_own_seats_move() -> None:
    before = balanced(9)
    newcomer = before.members[-1]._replace(number=10, name="n10", standing=Standing.JOINING)
    topology = replace(before, members=(*before.members, newcomer))
    assert moved(topology) == loads(goals(topology))[10] == 76


def test_with_one_replica_more_each_partition_keeps_those_that_it_has_and_gets_one_more() -> None:
    topology = replace(balanced(10, zones=5), replication=4)
    for was, goal in zip(present(topology), goals(topology), strict=True):
        assert goal[:3] == was
        assert len(goal) == 4
    assert set(loads(goals(topology)).values()) <= {102, 103}


@pytest.mark.parametrize("zones", [0, 2, 5])
def test_with_one_replica_less_nothing_comes_to_anybody(zones: int) -> None:
    topology = replace(balanced(10, zones=zones), replication=2)
    assert moved(topology) == 0
    assert set(loads(goals(topology)).values()) <= {51, 52}


def test_who_weighs_twice_as_much_gets_what_it_then_lacks_and_nobody_else_anything() -> None:
    before = balanced(6)
    topology = one(before, 1, weight=2)
    held, then = loads(present(before)), loads(goals(topology))
    assert then[1] == 219  # 768 * 2 / 7
    assert moved(topology) == then[1] - held[1] == 91


def test_a_founding_placement_that_is_uneven_is_made_even_by_the_fewest_moves() -> None:
    topology = found(cluster(100, zones=7, replication=3, partitions=1024))
    assert 0 < moved(topology) == least(topology) < 40


def test_where_two_members_can_exchange_nothing_a_seat_goes_by_way_of_a_third() -> None:
    """Member 1 has a seat too many and 3 has one too few, but whatever 1 has, 3 has as well."""
    first = found(cluster(4, replication=2, partitions=4))
    seats = tuple(map(Seats.still, [(1, 3), (1, 3), (1, 3), (2, 4)]))
    topology = one(replace(first, seats=seats), 3, weight=3)
    assert loads(goals(topology)) == {1: 2, 2: 1, 3: 4, 4: 1}
    assert moved(topology) == fewest(topology, loads(goals(topology))) == 2


def test_a_seat_that_was_given_away_is_given_back_where_fewer_move_for_it() -> None:
    first = found(cluster(4, replication=2, partitions=4))
    seats = tuple(map(Seats.still, [(1, 2), (3, 4), (3, 4), (1, 3)]))
    topology = with_members(replace(first, seats=seats), weight=[1, 2, 1, 3])
    assert moved(topology) == fewest(topology, loads(goals(topology))) == 3


def test_a_zone_that_came_later_gets_a_seat_of_every_partition() -> None:
    before = balanced(6, zones=2)
    zones = ["a", "b", "a", "b", "c", "c"]
    topology = with_members(before, zone=zones)
    assert all(len({zones[number - 1] for number in goal}) == 3 for goal in goals(topology))
    assert loads(goals(topology)) == dict.fromkeys(range(1, 7), 128)


def test_of_equals_that_is_chosen_which_placement_would_choose() -> None:
    for count in range(2, 30):
        first = found(cluster(count + 1, replication=1, partitions=count))
        held = replace(first, seats=(Seats.still((1,)),) * count)
        topology = one(held, 1, standing=Standing.DEAD)
        members = [Member(each.number, each.name, each.address) for each in topology.staying]
        expected = [(members[at].number,) for (at,) in assign(members, count, 1)]
        assert goals(topology) == expected


def test_a_member_is_given_the_partitions_that_placement_would_give_it_first() -> None:
    first = found(cluster(2, replication=1, partitions=16))
    topology = replace(first, seats=(Seats.still((1,)),) * 16)
    scores = {hashlib.blake2b(b"%d/n2" % at, digest_size=8).digest(): at for at in range(16)}
    assert plan(topology) == {scores[score]: (2,) for score in sorted(scores)[:8]}


# --- moves under way -------------------------------------------------------------------------------


def moving(stage: Stage, old: tuple[int, ...], new: tuple[int, ...], **facts: Any) -> Topology:
    """One partition of two replicas; the facts are those of member 4."""
    first = found(cluster(4, replication=2, partitions=1))
    return one(replace(first, seats=(Seats(0, stage, old, new),)), 4, **facts)


@pytest.mark.parametrize("stage", [Stage.FILL, Stage.JOINT])
def test_a_move_under_way_goes_on_if_it_ends_well(stage: Stage) -> None:
    assert plan(moving(stage, (1, 2), (1, 4))) == {}


@pytest.mark.parametrize("stage", [Stage.FILL, Stage.JOINT])
@pytest.mark.parametrize("facts", [{"standing": Standing.DEAD}, {"weight": 0}])
def test_a_move_to_a_member_that_is_to_go_ends_where_it_began(stage: Stage, facts: dict[str, Any]) -> None:
    assert plan(moving(stage, (2, 1), (4, 1), **facts)) == {0: (2, 1)}


def test_a_move_goes_on_to_others_if_where_it_began_somebody_goes_too() -> None:
    topology = one(moving(Stage.FILL, (2, 1), (4, 1), standing=Standing.DEAD), 2, standing=Standing.DRAINING)
    assert plan(topology) == {0: (3, 1)}


# --- the places of members -------------------------------------------------------------------------


def test_who_comes_has_the_place_of_one_who_goes_in_its_own_zone() -> None:
    """And who is of no such zone leaves that place to who is."""
    first = found(cluster(5, replication=3, partitions=1))
    for zones, goal in (
        ("abcba", (5, 4, 3)),
        ("abcab", (4, 5, 3)),
        ("abcda", (5, 4, 3)),
        ("abcad", (4, 5, 3)),
    ):
        topology = replace(with_members(first, zone=zones), seats=(Seats.still((1, 2, 3)),))
        for number in (1, 2):
            topology = one(topology, number, standing=Standing.DRAINING)
        assert plan(topology) == {0: goal}


def test_who_comes_and_replaces_nobody_comes_last() -> None:
    first = found(cluster(3, replication=2, partitions=1))
    topology = replace(first, seats=(Seats.still((3, 1)),), replication=3)
    assert plan(topology) == {0: (3, 1, 2)}


# --- too few zones ---------------------------------------------------------------------------------


def test_an_operator_is_told_that_zones_are_too_few() -> None:
    assert zones_short(balanced(6, zones=2)) == (
        "there are 2 zones for 3 replicas: two replicas of each partition share one; add members in another "
        "zone to change that"
    )
    assert zones_short(balanced(6, zones=1)) == (
        "there is 1 zone for 3 replicas: all replicas are in it; add members in another zone to change that"
    )
    assert zones_short(balanced(8, zones=2, replication=5)) == (
        "there are 2 zones for 5 replicas: replicas share zones; add members in another zone to change that"
    )
    assert zones_short(one(balanced(5, zones=1), 5, zone="")) == (
        "there are 2 zones, a member without one counting as one, for 3 replicas: two replicas of each "
        "partition share one; add members in another zone to change that"
    )


def test_an_operator_is_told_nothing_where_there_are_zones_enough_or_none() -> None:
    assert zones_short(balanced(6, zones=3)) == ""
    assert zones_short(balanced(6)) == ""
    assert zones_short(one(balanced(3), 1, standing=Standing.DEAD)) == ""


def test_zones_count_only_members_that_stay() -> None:
    assert "2 zones for 3 replicas" in zones_short(one(balanced(4, zones=3), 3, standing=Standing.DRAINING))
