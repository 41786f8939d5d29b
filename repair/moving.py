"""Moving: when a partition whose seats are being changed may go on to the next stage.

Whoever drives a change hears from the members that hold the partition, or are to, what each has proven under
the entry that last changed its seats (TOPOLOGY 3.3). With three replicas, of which n3 leaves and n4 comes:

    fill    n1, n2, n3 -> n1, n2, n4     n4 has met two of n1, n2 and n3: it is fit
    joint   n1, n2, n3 -> n1, n2, n4     n1 has met n2 since, n2 n3 and n4 n1: three are complete
    still   n1, n2, n4                   n2 has met n3, which leaves: all that n3 took is at n2

To have *met* a member is to have proven, with a snapshot of both sides that was taken under that entry, that
both hold the same. Each write that was acknowledged before is on a quorum of the old ones, so whoever has met
as many of them as that needs, itself among them, holds it: it is *complete*. A quorum of the new ones that
are complete is as good as a write that all of these had acknowledged.

A member that has come to another store has forgotten what its acceptor had accepted: it is
*barred*, and whoever has met it has not got that from it. It counts again once it is complete itself, by
what those that are not barred have: where too few of the old ones are left, by those that come, too.

What is not reported is not so: nobody is taken to be fit, or complete, because nothing else is known. Only
members that an operator has said to be dead are not asked; what only they held is lost, and that is noted.
Pure.
"""

from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from basestore.repair.seats import Seats, Stage


class Report(NamedTuple):
    """What a member says of itself under the entry that last changed the seats. `fit`: it holds all that it
    must; `met`: those of the members with whom it has proven to hold the same."""

    fit: bool
    met: AbstractSet[int]


def _quorum(members: Collection[int]) -> int:
    return len(members) // 2 + 1


def needed(old: Collection[int]) -> int:
    """So many of the old members, whichever they are, hold every write that a quorum of them acknowledged: N
    - Q + 1."""
    return len(old) - _quorum(old) + 1


def covers(
    met: Collection[int], old: Collection[int], dead: AbstractSet[int], new: Collection[int] = ()
) -> bool:  # fmt: skip
    """Whether these hold every write that a quorum of the old members acknowledged: as many as are `needed`,
    whichever they are; or, where too many are dead, all that are left of the old ones, and of the `new`, if
    anybody is. One that is said to be dead, and answers, counts for what it holds, and stands for none of
    those that are left."""
    known, left = set(met), {*old, *new} - dead
    return len(known & set(old)) >= needed(old) or bool(left and known >= left)


def has_left_enough(seats: Seats, away: AbstractSet[int]) -> bool:
    """Whether nothing is lost if a change is taken back: so many of the old members are left as hold every
    write that a quorum of them acknowledged. `away`: who may hold nothing any more, for it is dead or has
    come to another store."""
    return len(set(seats.old) - away) >= needed(seats.old)


def _keep_enough(seats: Seats, reports: Mapping[int, Report], away: AbstractSet[int]) -> bool:
    """The same, by what they say: one that is not heard may have come to another store, as is not known."""
    fit = {each for each in seats.old if each in reports and reports[each].fit}
    return has_left_enough(seats, away | (set(seats.old) - fit))


def _may_go_on(seats: Seats, dead: AbstractSet[int]) -> bool:
    return len(set(seats.new) - dead) >= _quorum(seats.new)


def left_of(was: Seats, now: Seats, dead: AbstractSet[int]) -> int | None:
    """A change ends with this step, and what the dead among the old members had is given up: so many others
    were there. With fewer than `needed` something may be lost that a quorum acknowledged, with more what
    fewer had. None: the step is another, or nobody is dead."""
    ends = (was.stage, now.stage, now.old) == (Stage.JOINT, Stage.STILL, was.new)
    left = len(set(was.old) - dead)
    return left if ends and left < len(was.old) else None


def acceptors_left(seats: Seats, dead: AbstractSet[int], barred: AbstractSet[int]) -> int | None:
    """So many of the old members are left that have forgotten nothing they had accepted, where these are so
    few that something may be lost that was agreed on, and that nobody had learned. None: they are enough."""
    left = len(set(seats.old) - dead - barred)
    return left if left < needed(seats.old) else None


def complete(
    member: int, report: Report, seats: Seats, dead: AbstractSet[int],
    barred: AbstractSet[int] = frozenset(),
) -> bool:  # fmt: skip
    """Whether it holds all that was acknowledged, or accepted, under earlier entries; where too few of the
    old members are left for that, all that there is, and where none is left that is what who is fit holds.
    `barred`: members that may have forgotten what they had accepted: to have met them proves nothing of that,
    and where too few others are left it may be with one that comes, so all of these must be met as well."""
    known, away = (report.met | {member}) - barred, dead | barred
    new = seats.new if barred else ()
    nobody = not {*seats.old, *new} - away
    return report.fit and (nobody or covers(known, seats.old, away, new))


def awaited(
    seats: Seats, reports: Mapping[int, Report], linked: Collection[int], dead: AbstractSet[int],
    barred: AbstractSet[int] = frozenset(),
) -> set[int]:  # fmt: skip
    """The members that a change waits for; nobody: it may go on. `linked`: who is there. While it fills, all
    that come are waited for, since as many copies are given up, and of the others those that are there, so
    that the next stage is short for all of them. Then all that leave, and as many of the new ones as a quorum
    needs."""
    new = set(seats.new)
    if seats.stage is Stage.FILL:
        ready = {each for each in new if each in reports and reports[each].fit}
        return _lacking(ready, new) | ((new - ready) & ({*linked} | (new - set(seats.old))))
    if seats.stage is Stage.JOINT:
        ready = {e for e in new if e in reports and complete(e, reports[e], seats, dead, barred)}
        handed = ready.union(*(reports[each].met for each in ready))
        return _lacking(ready, new) | (set(seats.old) - new - dead - handed)
    return set()


def _lacking(ready: AbstractSet[int], new: AbstractSet[int]) -> set[int]:
    """Those that are not ready, if a quorum is not."""
    return set() if len(ready) >= _quorum(new) else set(new - ready)


def next_seats(
    seats: Seats, goal: tuple[int, ...], reports: Mapping[int, Report], linked: Collection[int],
    dead: AbstractSet[int], barred: AbstractSet[int] = frozenset(),
) -> Seats | None:  # fmt: skip
    """The seats that a partition may be given now, on the way to `goal`; None: it is to wait, or is there.
    `since` is 0: the entry comes to stand somewhere yet. A move to others than the goal is turned to it, to
    fill, so that who comes by both keeps what it was given; once so many of the old members have all that
    they must, or while it fills if only dead ones lose their seats by that. Else it goes on, for what the new
    ones hold, unless it cannot."""
    if seats.stage is Stage.STILL:
        same = set(goal) == set(seats.old)
        return None if same else Seats(0, Stage.FILL, seats.old, goal)
    only_dead = seats.stage is Stage.FILL and dead >= {*seats.new} - {*seats.old, *goal}
    may_turn = only_dead or _keep_enough(seats, reports, dead | barred)
    if set(goal) != set(seats.new) and (may_turn or not _may_go_on(seats, dead)):
        turned = set(goal) != set(seats.old)
        return Seats(0, Stage.FILL, seats.old, goal) if turned else Seats.still(seats.old)
    if awaited(seats, reports, linked, dead, barred):
        return None
    if seats.stage is Stage.FILL:
        return Seats(0, Stage.JOINT, seats.old, seats.new)
    return Seats.still(seats.new)
