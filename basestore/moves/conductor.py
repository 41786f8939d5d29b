"""Conductor: the leader makes the plan of moves, and has partitions go through the stages of their seats.

    unplanned      members have come or gone, or an operator asks: a plan is made (`topology/balance.py`)
    one joins      it is given nothing before its store counts: then a plan is made with it
    planned        so many partitions at once as the bounds allow begin to fill, the rest wait
    under way      each goes on when those that hold it say that it may (`repair/moving.py`)
    not wanted     a move to others than the plan says is taken back
    all is done    who is dead, or was drained and keeps no only copy of a write any more, and votes no more,
                   has left

What the leader knows stands in the log, or is told again: whoever leads next goes on where this one was. One
entry is under way at a time; what it changes is in use here before the next is thought of.

At once are moved, of all that are planned: first those of which a member is dead, then those of one that is
drained, then the rest. The bounds are settings of the cluster (`basestore settings`), whole numbers:

    moves.at_once            partitions, in the cluster
    moves.at_once_to         to one member
    moves.at_once_from       of one member, that it holds
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Final, NamedTuple

from basestore.cluster.peers import Peers
from basestore.consensus.raft import Raft
from basestore.instant import Instant
from basestore.membership.metadata_group import MetadataGroup
from basestore.moves.reports import MoveReports
from basestore.protocol.membership import MoveRow
from basestore.repair.moving import Report, awaited, next_seats
from basestore.repair.seats import Seats, Stage, unpacked
from basestore.topology.balance import plan
from basestore.topology.changes import Change, SetMember, SetPlan, SetSeats, Standing
from basestore.topology.entries import UNNAMED, Suggestion, encode_entry
from basestore.topology.topology import Topology

LOOK_S: Final = 0.1
BOUNDS: Final[Mapping[str, int]] = {"moves.at_once": 64, "moves.at_once_to": 16, "moves.at_once_from": 32}
ROWS_MAX: Final = 256  # of one entry
_GOING: Final = frozenset((Standing.DRAINING, Standing.DEAD))


class Bounds(NamedTuple):
    """How many partitions are moved at once: in the cluster, to a member, and of one."""

    at_once: int
    to: int
    of: int


def bounds(settings: Mapping[str, str]) -> Bounds:
    """As the cluster's settings have them; what is no number above 0 counts for nothing."""
    return Bounds(*(_number(settings.get(key, ""), usual) for key, usual in BOUNDS.items()))


def _number(text: str, usual: int) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 and int(text) else usual


class Conductor:
    """Of one node, whether it leads or not."""

    def __init__(
        self, group: MetadataGroup, peers: Peers, reports: MoveReports,
        has_none: Callable[[int, Instant], bool],
    ) -> None:  # fmt: skip
        """`has_none(member, now)`: whether it is known to keep no only copy of a write."""
        self._group, self._peers, self._reports = group, peers, reports
        self._has_none = has_none
        self._due_s = 0.0
        self._proposed: tuple[Raft, int] | None = None  # the entry that is under way, and whose it is
        self._weighed = frozenset[int]()  # members that join, and were there when the last plan was made

    def tick(self, now: Instant) -> None:
        """Propose what is next, if anything is."""
        raft, topology = self._group.raft, self._group.topology
        if raft is None or topology is None or not raft.ready or not topology.founded:
            self._proposed = None
            return
        if now.monotonic < self._due_s or self._is_under_way(raft):
            return
        self._due_s = now.monotonic + LOOK_S
        change = self._next(raft, topology, now)
        if change is not None:
            me = self._group.me.number
            index = raft.propose(encode_entry(Suggestion(change, UNNAMED, me, now.wall_ms)))
            self._proposed = None if index is None else (raft, index)

    def _is_under_way(self, raft: Raft) -> bool:
        if self._proposed is None or self._proposed[0] is not raft:
            return False
        return self._group.epoch < self._proposed[1] <= raft.log.last

    def _next(self, raft: Raft, topology: Topology, now: Instant) -> Change | None:
        joining = {each.number for each in topology.members if each.standing is Standing.JOINING}
        alive = self._peers.alive
        there = {peer.number for peer in self._peers.present if peer.number in joining and alive[peer.index]}
        if topology.unplanned or not there <= self._weighed:
            if not topology.epoch == raft.commit == raft.log.last:  # it would be made by what is no more
                return None
            self._weighed = frozenset(there)
            goals = plan(_without(topology, joining - there))
            return SetPlan(topology.epoch, [[at, *goal] for at, goal in sorted(goals.items())])
        rows = self._steps(topology)
        if rows:
            return SetSeats(rows)
        left = self._gone(raft, topology, now)
        return None if left is None else SetMember(left, standing=Standing.LEFT.value)

    # --- steps -----------------------------------------------------------------------------------

    def _steps(self, topology: Topology) -> list[list[int]]:
        """Rows of the partitions that go on, or begin."""
        rows, dead = [], topology.dead
        for at, seats in enumerate(topology.seats):
            if seats.stage is not Stage.STILL:
                goal = topology.plan.get(at, seats.new)
                new = next_seats(seats, goal, self.reports(at, seats), self._linked(seats), dead)
                if new is not None:
                    rows.append(new.row(at))
        return [*rows, *self._beginning(topology)][:ROWS_MAX]

    def _beginning(self, topology: Topology) -> list[list[int]]:
        """Those that begin now, within the bounds."""
        allowed, moving = bounds(topology.settings), [s for s in topology.seats if s.stage is not Stage.STILL]
        to = Counter(each for seats in moving for each in seats.new if each not in seats.old)
        of = Counter(each for seats in moving for each in seats.old)
        rows, count = list[list[int]](), len(moving)
        for at in _in_turn(topology):
            if count >= allowed.at_once:
                break
            old, goal = topology.seats[at].old, topology.plan[at]
            come = [each for each in goal if each not in old]
            if any(to[each] >= allowed.to for each in come) or any(of[each] >= allowed.of for each in old):
                continue
            count += 1
            to.update(come)
            of.update(old)
            rows.append(Seats(0, Stage.FILL, old, goal).row(at))
        return rows

    def rows(self, partition: int, seats: Seats) -> dict[int, MoveRow]:
        """What those who hold a partition, or are to, say of it, by number."""
        index_of, told = self._peers.index_of, {}
        for number in seats.both:
            row = self._reports.of(index_of[number], partition, seats) if number in index_of else None
            if row is not None:
                told[number] = row
        return told

    def reports(self, partition: int, seats: Seats) -> dict[int, Report]:
        """The same, as far as a next stage depends on it."""
        rows, old = self.rows(partition, seats), set(seats.old)
        return {number: Report(row.fit, old & {*unpacked(row.met)}) for number, row in rows.items()}

    @property
    def _there(self) -> set[int]:
        """The members that are linked, this one among them, by number."""
        peers = self._peers
        return {peer.number for peer in peers.present if peer.linked or peer.index == peers.me}

    def _linked(self, seats: Seats) -> list[int]:
        present = self._there
        return [number for number in seats.both if number in present]

    def awaited(self, topology: Topology, partition: int) -> set[int]:
        """For whom the move of a partition waits, by number."""
        seats = topology.seats[partition]
        return awaited(seats, self.reports(partition, seats), self._linked(seats), topology.dead)

    def _gone(self, raft: Raft, topology: Topology, now: Instant) -> int | None:
        """A member that is to leave, and holds nothing any more, nor votes."""
        held = {number for seats in topology.seats for number in seats.both}
        held |= {number for goal in topology.plan.values() for number in goal}
        voting = {voter.number for voter in raft.voters}
        for member in topology.members:
            if member.standing in _GOING and member.number not in held | voting:
                index = self._peers.index_of.get(member.number)
                dead = member.standing is Standing.DEAD
                if dead or (index is not None and self._has_none(index, now)):
                    return member.number
        return None


def _without(topology: Topology, absent: Collection[int]) -> Topology:
    """As if nothing were to be given to these."""
    members = (each._replace(weight=0) if each.number in absent else each for each in topology.members)
    return replace(topology, members=tuple(members)) if absent else topology


def _in_turn(topology: Topology) -> list[int]:
    """The partitions that are to begin yet: those come first that lack a replica, then those of members that
    are drained."""
    standing = {each.number: each.standing for each in topology.members}

    def rank(at: int) -> tuple[bool, bool, int]:
        of = {standing[number] for number in topology.seats[at].old}
        return Standing.DEAD not in of, Standing.DRAINING not in of, at

    return sorted((at for at in topology.plan if topology.seats[at].stage is Stage.STILL), key=rank)
