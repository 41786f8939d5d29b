"""Member changes: what becomes of a topology when members, who holds what, or the plan of that changes.

As in `bucket_changes.py`. A command of a user says what is to be; the leader then makes a plan
(`balance.py`), which stands in the log too, and has one partition after the other go through the stages of
its seats, until each is held by those whom the plan names:

    drain n3                unplanned, and n3 is draining
    the plan                7: n1, n2, n4; 9: n1, n4, n2
    fill, joint, still      partition 7 is held as planned: its line goes from the plan
    all is done             n3 holds nothing: it has left

A member is bound to the store that it runs on. What an acceptor has promised and accepted
is in its store, and gone with that:

    bound to store A        what it has accepted counts
    bound to store B        A is gone, or cannot be trusted: in each partition in which the member has a seat
                            it is barred, and counts for no round, though how many are needed stays
    taken in                it holds again all that was accepted before: so in this partition it counts

Nothing is ever half done: what a command cannot have is refused with it.
"""

from collections.abc import Mapping
from dataclasses import replace

from basestore.config import MEMBERS_MAX, NUMBER_MAX, UNNUMBERED
from basestore.repair.moving import has_left_enough
from basestore.repair.seats import Seats, Stage
from basestore.topology.changes import (
    AddMember,
    CancelMoves,
    DrainMember,
    Rebalance,
    RemoveMember,
    ReplaceMember,
    SetMember,
    SetPlan,
    SetReplication,
    SetSeats,
    Standing,
    TakeBack,
    TakeIn,
)
from basestore.topology.topology import TAKEN_BACK, MemberEntry, Refused, Topology

_GOING = {Standing.DRAINING: "is being drained", Standing.DEAD: "is dead, and being removed"}


def add_member(was: Topology, change: AddMember, index: int) -> tuple[Topology, int]:
    name, address, zone, weight, store = change
    present, number = was.present, was.members[-1].number + 1
    if any(each.name == name for each in present):
        raise Refused(f"a member is called '{name}' already: choose another name")
    if any(each.address == address for each in present):
        raise Refused(f"a member is at {address} already: give the new one an address of its own")
    if len(present) >= MEMBERS_MAX:
        raise Refused(f"the cluster has {MEMBERS_MAX} members, and no more are allowed: remove one first")
    if number > NUMBER_MAX:
        raise Refused(f"the numbers of members end at {NUMBER_MAX}, and all were given: found a new cluster")
    added = MemberEntry(number, name, address, zone, weight, Standing.JOINING, store)
    return replace(was, members=(*was.members, added), unplanned=True), number


def set_member(was: Topology, change: SetMember, index: int) -> tuple[Topology, int]:
    held, address = was.member(change.number), change.address
    if held is None:
        raise Refused(f"no member has the number {change.number}: see `basestore topology`")
    if held.standing is Standing.LEFT:
        raise Refused(f"member {held.name} has left, for good: let it join anew, under another number")
    if any(each.address == address for each in was.present if each is not held):
        raise Refused(f"another member is at {address}: give {held.name} an address of its own")
    facts = {name: value for name, value in change._asdict().items() if value is not None}
    if change.standing is not None:
        facts["standing"] = Standing(change.standing)
    new = held._replace(**facts)
    if new.standing is Standing.LEFT and any(held.number in each.both for each in was.seats):
        raise Refused(f"member {held.name} holds partitions yet: drain it first, or have it replaced")
    if new.standing is Standing.LEFT and any(held.number in goal for goal in was.plan.values()):
        raise Refused(
            f"member {held.name} is to be given partitions yet: drain it first, or have it replaced"
        )
    other = change.store is not None and held.store not in (b"", change.store)
    after = was.barring(held.number, index) if other else was
    return replace(after, members=_with(was, new)), UNNUMBERED


def take_in(was: Topology, change: TakeIn, index: int) -> tuple[Topology, int]:
    for partition, *members in change.rows:
        if not 0 <= partition < len(was.seats):
            raise Refused(f"there is no partition {partition}: they end at {len(was.seats) - 1}")
        for number in members:
            held, barred = was.member(number), was.barred.get(partition, frozenset())
            name = f"number {number}" if held is None else held.name
            if number not in was.seats[partition].both:
                raise Refused(f"member {name} has no seat in partition {partition}: nothing is to be done")
            if number not in barred:
                raise Refused(f"member {name} is not barred in partition {partition}: nothing is to be done")
    return was.taking_in({at: frozenset(members) for at, *members in change.rows}, index), UNNUMBERED


def set_seats(was: Topology, change: SetSeats, index: int) -> tuple[Topology, int]:
    seats, able = dict[int, Seats](), {each.number for each in was.present}
    for row in change.rows:
        partition, new = Seats.of_row(row, index)
        if not 0 <= partition < len(was.seats):
            raise Refused(f"there is no partition {partition}: they end at {len(was.seats) - 1}")
        if wrong := was.seats[partition].wrong_step(new) or new.wrong(able):
            raise Refused(f"partition {partition}: {wrong}")
        seats[partition] = new
    after = was.seated(seats, index)
    return replace(after, plan=_planned(after, was.plan)), UNNUMBERED


# --- commands ------------------------------------------------------------------------------------


def _stands(was: Topology, number: int) -> MemberEntry:
    """A member that a command names; Refused unless it is one."""
    held = was.member(number)
    if held is None:
        raise Refused(f"no member has the number {number}: see `basestore topology`")
    if held.standing is Standing.LEFT:
        raise Refused(f"member {held.name} has left already: nothing is to be done")
    return held


def _with(was: Topology, *members: MemberEntry) -> tuple[MemberEntry, ...]:
    """All members, these in the place of those with their numbers."""
    new = {each.number: each for each in members}
    return tuple(new.get(each.number, each) for each in was.members)


def _check_enough(was: Topology, without: MemberEntry) -> None:
    """Refused if too few members would stay to hold every partition."""
    left = len([each for each in was.staying if each.number != without.number])
    if left < was.replication:
        raise Refused(
            f"without {without.name} {left} of the members that stay could hold partitions, and each is to "
            f"have {was.replication} replicas: let another member join first, or ask for fewer replicas "
            f"(`basestore topology replication`)"
        )


def drain_member(was: Topology, change: DrainMember, index: int) -> tuple[Topology, int]:
    held = _stands(was, change.number)
    if held.standing in _GOING:
        raise Refused(f"member {held.name} {_GOING[held.standing]} already: see `basestore topology moves`")
    _check_enough(was, held)
    return _unplanned(was, held._replace(standing=Standing.DRAINING)), UNNUMBERED


def remove_member(was: Topology, change: RemoveMember, index: int) -> tuple[Topology, int]:
    held = _stands(was, change.number)
    if held.standing is Standing.DEAD:
        raise Refused(f"member {held.name} {_GOING[held.standing]} already: see `basestore topology moves`")
    _check_enough(was, held)
    return _unplanned(was, held._replace(standing=Standing.DEAD)), UNNUMBERED


def _unplanned(was: Topology, *members: MemberEntry) -> Topology:
    return replace(was, members=_with(was, *members), unplanned=True)


def replace_member(was: Topology, change: ReplaceMember, index: int) -> tuple[Topology, int]:
    """That is its plan already: nothing is to be weighed."""
    held, by = _stands(was, change.number), _stands(was, change.by)
    if by.standing in _GOING:
        raise Refused(f"member {by.name} {_GOING[by.standing]}, and takes nobody's place: name another")
    if held.standing is Standing.DEAD and not change.dead:
        raise Refused(f"member {held.name} {_GOING[held.standing]}: say so (--dead), or cancel that first")
    _check_enough(was, held)
    goals = {partition: was.goal(partition) for partition in range(len(was.seats))}
    theirs = {partition: goal for partition, goal in goals.items() if held.number in goal}
    twice = [partition for partition, goal in theirs.items() if by.number in goal]
    if twice:
        raise Refused(
            f"member {by.name} holds {len(twice)} of the partitions that {held.name} holds, {twice[0]} for "
            f"one: name a member that holds none of them, or have {held.name} drained or removed"
        )
    plan = {
        partition: tuple(by.number if each == held.number else each for each in goal)
        for partition, goal in theirs.items()
    }
    standing = Standing.DEAD if change.dead else Standing.DRAINING
    members = _with(was, held._replace(standing=standing), by._replace(standing=Standing.MEMBER))
    return replace(was, members=members, plan=_planned(was, {**was.plan, **plan})), UNNUMBERED


def rebalance(was: Topology, change: Rebalance, index: int) -> tuple[Topology, int]:
    return replace(was, unplanned=True), UNNUMBERED


def set_replication(was: Topology, change: SetReplication, index: int) -> tuple[Topology, int]:
    if change.replicas == was.replication:
        raise Refused(f"each partition is to have {change.replicas} replicas already: nothing is to be done")
    if change.replicas > len(was.staying):
        raise Refused(
            f"{change.replicas} replicas need as many members that stay, and {len(was.staying)} do: let "
            f"others join first, or ask for fewer replicas"
        )
    return replace(was, replication=change.replicas, unplanned=True), UNNUMBERED


def cancel_moves(was: Topology, change: CancelMoves, index: int) -> tuple[Topology, int]:
    after, under_way = _taken_back(was, change.partitions)
    return after.seated({at: Seats.still(of.old, index) for at, of in under_way.items()}, index), UNNUMBERED


def take_back(was: Topology, change: TakeBack, index: int) -> tuple[Topology, int]:
    after, under_way = _taken_back(was, change.partitions)
    return replace(after, plan={**after.plan, **dict.fromkeys(under_way, TAKEN_BACK)}), UNNUMBERED


def _taken_back(was: Topology, partitions: list[int]) -> tuple[Topology, dict[int, Seats]]:
    """With nothing of this planned any more, and what of it is under way. With all of them taken back nobody
    is drained any more either; who is dead stays so."""
    under_way = was.moving
    moving = under_way.keys() | was.plan.keys()
    asked = set(partitions) or moving
    if strange := sorted(asked - moving):
        raise Refused(f"partition {strange[0]} is not being moved, nor to be: see `basestore topology moves`")
    draining = [] if partitions else [e for e in was.members if e.standing is Standing.DRAINING]
    if not (asked or draining or was.unplanned):
        raise Refused("nothing is being moved, nor to be: nothing is to be cancelled")
    away = {at: was.dead | was.barred.get(at, frozenset()) for at in under_way}
    bound = [at for at, of in under_way.items() if at in asked and not has_left_enough(of, away[at])]
    if bound and (partitions or asked <= set(bound)):
        raise Refused(
            f"partition {bound[0]} is given to others, and too few of those that held it are left: taken "
            f"back, it would lose what they have got. Let it go on"
        )
    asked -= set(bound)
    plan = {at: goal for at, goal in was.plan.items() if at not in asked}
    members = _with(was, *(each._replace(standing=Standing.MEMBER) for each in draining))
    unplanned = was.unplanned and bool(partitions)
    after = replace(was, plan=plan, members=members, unplanned=unplanned)
    return after, {at: of for at, of in under_way.items() if at in asked}


# --- the plan ------------------------------------------------------------------------------------


def _planned(was: Topology, goals: Mapping[int, tuple[int, ...]]) -> dict[int, tuple[int, ...]]:
    """Those of these goals that are not reached; of a move that is under way that is to be seen yet."""
    return {
        partition: goal
        for partition, goal in goals.items()
        if was.seats[partition].stage is not Stage.STILL
        or (goal != TAKEN_BACK and set(was.seats[partition].old) != set(goal))
    }


def set_plan(was: Topology, change: SetPlan, index: int) -> tuple[Topology, int]:
    if change.made_at != index - 1:
        raise Refused("the cluster has changed since the plan was made: it is made anew")
    able = {each.number for each in was.staying}
    goals = {partition: tuple(members) for partition, *members in change.rows}
    for partition, goal in goals.items():
        if not 0 <= partition < len(was.seats):
            raise Refused(f"there is no partition {partition}: they end at {len(was.seats) - 1}")
        if len(set(goal)) != was.replication or len(goal) != was.replication or not able >= set(goal):
            raise Refused(f"partition {partition} cannot be held by these members: the plan is made anew")
    named = {number for goal in goals.values() for number in goal}
    joined = [e for e in was.members if e.standing is Standing.JOINING and e.number in named]
    members = _with(was, *(each._replace(standing=Standing.MEMBER) for each in joined))
    return replace(was, members=members, plan=_planned(was, goals), unplanned=False), UNNUMBERED
