"""Quotas: how many seats each member is to have, of all partitions together: by zone first, then by weight.

A partition is spread over as many zones as can be. So with three replicas

    in two zones    each zone has one seat of a partition, or two
    in three        one
    in five         none, or one

and within these bounds the zones share all seats by the weights that their members have together; then the
members of each share what is its, none with more than one seat of a partition. Pure.
"""

from collections.abc import Sequence
from typing import NamedTuple, Self

from basestore.topology.topology import MemberEntry


class Zones(NamedTuple):
    """`of`: by place among some members the zone of each, counted from 0; who has none has one of its own.
    `total`: how many there are. A partition has seats in `spread` of them, and `least` to `most` in each."""

    of: tuple[int, ...]
    total: int
    spread: int
    least: int
    most: int

    @classmethod
    def among(cls, members: Sequence[MemberEntry], replicas: int) -> Self:
        keys = [(member.zone, 0 if member.zone else member.number) for member in members]
        order = {key: zone for zone, key in enumerate(sorted(set(keys)))}
        spread = min(len(order), replicas)
        least, most = int(spread == len(order)), replicas - spread + 1
        return cls(tuple(order[key] for key in keys), len(order), spread, least, most)


def quotas(
    weights: Sequence[int], zones: Zones, seats: int, partitions: int, loads: Sequence[int]
) -> list[int]:
    """By member, in seats, of so many. `loads`: the seats that each has, in which ties are settled."""
    inside = [[at for at, zone in enumerate(zones.of) if zone == each] for each in range(zones.total)]
    by_zone = _shares(
        seats,
        [sum(weights[at] for at in places) for places in inside],
        partitions * zones.least,
        [partitions * min(zones.most, len(places)) for places in inside],
        [sum(loads[at] for at in places) for places in inside],
    )
    found = [0] * len(weights)
    for total, places in zip(by_zone, inside, strict=True):
        most, theirs = [partitions] * len(places), [loads[at] for at in places]
        shares = _shares(total, [weights[at] for at in places], 0, most, theirs)
        for at, share in zip(places, shares, strict=True):
            found[at] = share
    return found


def _shares(
    total: int, weights: Sequence[int], least: int, most: Sequence[int], loads: Sequence[int]
) -> list[int]:
    """So many seats by weight. A part beyond a bound, `least` or its `most`, is that bound, and the others
    share what is left; in whole seats by largest remainder. Of equal remainders that is rounded up whose load
    is the furthest above it: so nothing moves for their sake."""
    shares, free = [0] * len(weights), list(range(len(weights)))
    left, weight = total, sum(weights)
    for _ in weights:  # each round sets one at least, or is the last
        over = {
            at: left * weights[at] - most[at] * weight
            for at in free
            if left * weights[at] > most[at] * weight
        }
        under = {
            at: least * weight - left * weights[at] for at in free if left * weights[at] < least * weight
        }
        if not over and not under:
            break
        capped = sum(over.values()) >= sum(under.values())
        for at in over if capped else under:
            shares[at] = most[at] if capped else least
            free.remove(at)
        left, weight = total - sum(shares), sum(weights[at] for at in free)
    parts = {at: divmod(left * weights[at], weight) for at in free}
    more = left - sum(whole for whole, _ in parts.values())
    first = sorted(free, key=lambda at: (-parts[at][1], parts[at][0] - loads[at], at))
    for rank, at in enumerate(first):
        shares[at] = parts[at][0] + (rank < more)
    return shares
