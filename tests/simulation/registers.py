"""Registers: is the history of one register linearizable?

`atomic` is the zone test of Gibbons and Korach, "Testing shared memories" (SIAM J. Comput. 26,
1997): when all written values differ, a value's *zone* spans from the first end to the last start
of the operations that name it. It is a forward zone if that is from left to right, otherwise a
backward zone. The history is linearizable exactly if no read comes before its write, no two forward
zones overlap, and no backward zone lies inside a forward zone. O(n log n).

`atomic_by_search` tries every order (Wing and Gong, 1993): the twin, for small histories.
"""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

INF = float("inf")


class Act(NamedTuple):
    """A write of `value`, or a read that returned it (None: never written), from `start` to `end`.
    A write whose end is infinite may have happened at any time after its start, or never."""

    writes: bool
    value: object
    start: float
    end: float


def atomic(acts: Sequence[Act]) -> str:
    """What is wrong with the history of a register, or the empty string."""
    zones: dict[object, list[float]] = {None: [-INF, -INF, -INF]}  # first end, last start, write's start
    unread = set()
    for act in acts:
        if act.writes:
            zones[act.value] = [act.end, act.start, act.start]
            if act.end == INF:
                unread.add(act.value)
    for act in acts:
        if act.writes:
            continue
        zone = zones.get(act.value)
        if zone is None:
            return f"{act.value!r} was read and never written"
        if act.end < zone[2]:
            return f"{act.value!r} was read before it was written"
        unread.discard(act.value)
        zone[0] = min(zone[0], act.end)
        zone[1] = max(zone[1], act.start)
    for value in unread:
        del zones[value]
    return _overlap(zones)


def _overlap(zones: dict[object, list[float]]) -> str:
    forward = sorted((zone[0], zone[1], repr(value)) for value, zone in zones.items() if zone[0] < zone[1])
    for (_, end, one), (start, _, other) in pairwise(forward):
        if start < end:
            return f"{one} was read after {other} was in its place, or the other way round"
    starts = [zone[0] for zone in forward]
    for value, zone in zones.items():
        if zone[0] < zone[1]:
            continue
        at = bisect_left(starts, zone[1]) - 1
        if at >= 0 and forward[at][1] > zone[0]:
            return f"{value!r} lies wholly between two operations on {forward[at][2]}"
    return ""


def atomic_by_search(acts: Sequence[Act]) -> bool:
    """Whether some order of the acts, true to time, is one of a register. Exponential."""
    seen: set[tuple[frozenset[int], object]] = set()

    def place(left: frozenset[int], value: object) -> bool:
        if all(acts[i].writes and acts[i].end == INF for i in left):
            return True
        if (left, value) in seen:
            return False
        seen.add((left, value))
        first_end = min(acts[i].end for i in left)
        for i in sorted(left):
            act = acts[i]
            if act.start > first_end or (not act.writes and act.value != value):
                continue
            if place(left - {i}, act.value if act.writes else value):
                return True
        return False

    return place(frozenset(range(len(acts))), None)
