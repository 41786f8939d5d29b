"""Balance: which members are to hold which partitions, so that each has its share and the fewest seats move.

Makes a plan; what becomes of it `member_changes.py` says. Pure. In four steps:

    quotas    how many seats each member is to have (`quotas.py`)
    trim      where a partition has too many seats, or too many in one zone, some go
    fill      empty seats go to whoever is furthest below its quota
    level     seats go along paths, from members over their quotas to members under them

This is a flow at least cost: what costs is a seat that comes to a member who did not have it (Ahuja,
Magnanti and Orlin, "Network Flows", 1993, chapter 9: successive shortest paths). What `trim` and `fill` make
costs the least there is, whatever the loads; each path is the cheapest that there is then; so no plan with
these quotas moves fewer seats. There is a path while a member is over its quota: with fractions of seats each
partition could be spread just as the quotas are, and where bounds are whole numbers a flow of whole seats is
as large. Of the cheapest paths those with the fewest steps are taken. Then no two steps of one get in each
other's way, though they be in one partition: if both changed what a zone has of it, the first could give to
whom the second gives, and the path would be shorter.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final

from basestore.config import MEMBERS_MAX
from basestore.repair.moving import has_left_enough
from basestore.repair.seats import score
from basestore.topology.quotas import Zones, quotas
from basestore.topology.topology import TAKEN_BACK, MemberEntry, Topology

_COSTS: Final = (-1, 0, 1)  # of a step, in seats that move
_COST: Final = 2 * MEMBERS_MAX  # of a seat that moves, in steps: more than a path has
_NOWHERE: Final = _COST * _COST


def plan(topology: Topology) -> dict[int, tuple[int, ...]]:
    """By partition the numbers of the members that are to hold it, one for each replica; only of partitions
    that others hold, or will when their move has ended. Empty, too, where fewer members stay than there are
    to be replicas: none is to be made then (`moves/conductor.py`)."""
    members = topology.staying
    if len(members) < topology.replication:
        return {}
    places = {member.number: place for place, member in enumerate(members)}
    present = [_present(topology, partition, places.keys()) for partition in range(len(topology.seats))]
    held = [[places[number] for number in numbers if number in places] for numbers in present]
    draft = _Draft(members, held, topology.replication)
    draft.trim()
    draft.fill()
    draft.level()
    known = {member.number: member for member in topology.members}
    goals = [{members[place].number for place in holders} for holders in draft.holders]
    return {
        partition: _ordered(partition, present[partition], goal, known)
        for partition, goal in enumerate(goals)
        if goal != set(topology.seats[partition].new)
    }


def zones_short(topology: Topology) -> str:
    """One sentence for an operator, where members have zones, but too few for each replica to be in another;
    empty elsewhere."""
    members, replicas = topology.staying, topology.replication
    count = Zones.among(members, replicas).total
    if count >= replicas or not any(member.zone for member in members):
        return ""
    there = "there is 1 zone" if count == 1 else f"there are {count} zones"
    alone = "" if all(member.zone for member in members) else ", a member without one counting as one,"
    shares = {replicas - 1: "two replicas of each partition share one", 1: "all replicas are in it"}
    shared = f"{shares.get(count, 'replicas share zones')}; add members in another zone to change that"
    return f"{there}{alone} for {replicas} replicas: {shared}"


def _present(topology: Topology, partition: int, staying: Collection[int]) -> tuple[int, ...]:
    """The members that hold a partition; of one that is being moved those that will, if all of them stay and
    it is not to be taken back, or too few of those that do are left."""
    seats, back = topology.seats[partition], topology.plan.get(partition) == TAKEN_BACK
    away = topology.dead | topology.barred.get(partition, frozenset())
    goes_on = not back and all(number in staying for number in seats.new)
    return seats.new if goes_on or not has_left_enough(seats, away) else seats.old


def _ordered(
    partition: int, present: Sequence[int], goal: Collection[int], known: Mapping[int, MemberEntry]
) -> tuple[int, ...]:
    """Those of the goal, who is there at present in the place that it has. A new member has the place of one
    that goes, in the same zone if there is one; with none left it comes last."""
    order = list(present)
    left = {known[number].zone for number in present if number not in goal}

    def ranked(number: int) -> tuple[bool, bytes]:
        return known[number].zone not in left, score(partition, known[number].name)

    for number in sorted(set(goal).difference(present), key=ranked):
        going = [at for at, other in enumerate(order) if other not in goal]
        same = [at for at in going if known[order[at]].zone == known[number].zone]
        place = next(iter(same or going), len(order))
        order[place : place + 1] = [number]
    return tuple(number for number in order if number in goal)


class _Draft:
    """Who holds which partition while a plan is made; members are places among those that stay. `before` and
    `holders`: by partition, `loads` and `quotas`: by member, in seats. `had`, `has`: the same by member;
    `gives`, `takes`: by zone, where it can have a seat less or more. These four are sets of partitions, each
    a number with a bit for each, so that to ask what one member could give another is a few operations."""

    def __init__(self, members: Sequence[MemberEntry], held: Sequence[Sequence[int]], replicas: int) -> None:
        self.names, self.replicas = [member.name for member in members], replicas
        self.zones = Zones.among(members, replicas)
        self.before, self.holders = [frozenset(each) for each in held], [set(each) for each in held]
        counts = Counter(member for holders in held for member in holders)
        self.loads = [counts[member] for member in range(len(members))]
        weights = [member.weight for member in members]
        self.quotas = quotas(weights, self.zones, len(held) * replicas, len(held), self.loads)
        self.had, self.has = [0] * len(members), [0] * len(members)
        self.gives, self.takes = [0] * self.zones.total, [(1 << len(held)) - 1] * self.zones.total

    def _over(self, member: int) -> int:
        """So many seats it has above its quota; negative for one below it."""
        return self.loads[member] - self.quotas[member]

    def _lacking(self, holders: Collection[int]) -> int:
        """So many zones without a seat of a partition are to have one."""
        return max(0, self.zones.spread - len({self.zones.of[member] for member in holders}))

    def trim(self) -> None:
        """Of seats that share a zone, if any do, that of the member furthest above its quota goes."""
        zones = self.zones.of
        for partition, holders in enumerate(self.holders):
            while len(holders) + self._lacking(holders) > self.replicas:
                counts = Counter(zones[member] for member in holders)
                able = [member for member in holders if counts[zones[member]] > 1] or holders
                scores = {member: score(partition, self.names[member]) for member in able}
                goes = max(scores, key=lambda member: (self._over(member), scores[member]))
                holders.remove(goes)
                self.loads[goes] -= 1

    def fill(self) -> None:
        """Where as many zones are lacking as seats are empty, only members of such zones are asked."""
        for partition, holders in enumerate(self.holders):
            while len(holders) < self.replicas:
                apart = len(holders) + self._lacking(holders) == self.replicas
                used = {self.zones.of[member] for member in holders} if apart else ()
                able = [at for at, zone in enumerate(self.zones.of) if zone not in used and at not in holders]
                furthest = min(map(self._over, able))
                scores = {score(partition, self.names[at]): at for at in able if self._over(at) == furthest}
                comes = scores[min(scores)]
                holders.add(comes)
                self.loads[comes] += 1

    def level(self) -> None:
        """A round takes all paths that are as short as the shortest, and so moves a seat at least."""
        self._mark_all()
        members = range(len(self.loads))
        for _ in range(sum(max(0, self._over(member)) for member in members)):
            far = self._distances()
            nearest = min((far[member] for member in members if self._over(member) < 0), default=_NOWHERE)
            if nearest == _NOWHERE:
                break
            for path in self._paths(far, nearest):
                self._move(path)

    def _mark_all(self) -> None:
        for sets, table in ((self.had, self.before), (self.has, self.holders)):
            for partition, holders in enumerate(table):
                for member in holders:
                    sets[member] |= 1 << partition
        for partition, holders in enumerate(self.holders):
            for zone in {self.zones.of[member] for member in holders}:
                self._mark(partition, zone)

    def _mark(self, partition: int, zone: int) -> None:
        bit, count = 1 << partition, sum(self.zones.of[each] == zone for each in self.holders[partition])
        self.gives[zone] = self.gives[zone] & ~bit | bit * (count > self.zones.least)
        self.takes[zone] = self.takes[zone] & ~bit | bit * (count < self.zones.most)

    def _ways(self, giver: int, taker: int, cost: int) -> int:
        """The partitions of which one member can give its seat to another at this cost, as a set."""
        ways, had, other = self.has[giver] & ~self.has[taker], self.had[giver], self.had[taker]
        ways &= ~(had ^ other) if cost == 0 else had & ~other if cost > 0 else other & ~had
        zone, to = self.zones.of[giver], self.zones.of[taker]
        return ways if zone == to else ways & self.gives[zone] & self.takes[to]

    def _distances(self) -> list[int]:
        """By member how far it is from those over their quotas, in steps: a seat that moves counts for more
        than all steps. No way there costs less than nothing, for what there is costs the least."""
        far = [0 if self._over(member) > 0 else _NOWHERE for member in range(len(self.loads))]
        reached = {member for member, distance in enumerate(far) if not distance}
        for _ in far:
            nearer = set()
            for giver in sorted(reached, key=lambda member: (far[member], member)):
                here = far[giver] + 1
                steps = [(here + cost * _COST, cost) for cost in _COSTS if here + cost * _COST > 0]
                for taker in range(len(far)):
                    for distance, cost in steps:
                        if distance >= far[taker]:
                            break
                        if self._ways(giver, taker, cost):
                            far[taker] = distance
                            nearer.add(taker)
                            break
            reached = nearer
        return far

    def _paths(self, far: Sequence[int], nearest: int) -> Iterator[list[tuple[int, int]]]:
        """Those of this length, one after the other, as seats are by then: its members, and with each the
        partitions of which it can take a seat from the one before. Who leads nowhere is not tried twice."""
        at = defaultdict(list)
        for member, distance in enumerate(far):
            at[distance].append(member)
        spent: set[int] = set()
        for start in at[0]:
            path = [(start, 0)]
            while path and self._over(start) > 0:
                giver = path[-1][0]
                steps = (
                    (taker, ways)
                    for cost in _COSTS
                    for taker in at.get(far[giver] + cost * _COST + 1, ())
                    if taker not in spent and (far[taker] != nearest or self._over(taker) < 0)
                    if (ways := self._ways(giver, taker, cost))
                )
                step = next(steps, None)
                if step is None:
                    spent.add(path.pop()[0])
                elif far[step[0]] == nearest:
                    yield [*path, step]
                    path = path[:1]
                else:
                    path.append(step)

    def _move(self, path: Sequence[tuple[int, int]]) -> None:
        """As many seats as can go the whole way; all are chosen before one goes."""
        start, end = path[0][0], path[-1][0]
        count = min(self._over(start), -self._over(end), *(ways.bit_count() for _, ways in path[1:]))
        steps = []
        for (giver, _), (taker, ways) in pairwise(path):
            partitions = [partition for partition, bit in enumerate(bin(ways)[:1:-1]) if bit == "1"]
            partitions.sort(key=lambda partition: score(partition, self.names[taker]))
            steps += [(partition, giver, taker) for partition in partitions[:count]]
        for partition, giver, taker in steps:
            self.holders[partition] ^= {giver, taker}
            self.has[giver] ^= 1 << partition
            self.has[taker] ^= 1 << partition
            for zone in {self.zones.of[giver], self.zones.of[taker]}:
                self._mark(partition, zone)
        self.loads[start] -= count
        self.loads[end] += count
