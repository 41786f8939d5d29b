"""Conductor: the leader makes the plan of moves, and has partitions go through the stages of their seats.

    unplanned      members have come or gone, or an operator asks: a plan is made (`topology/balance.py`)
    one joins      it is given nothing before its store counts: then a plan is made with it
    planned        so many partitions at once as the bounds allow begin to fill, the rest wait
    under way      each goes on when those that hold it say that it may (`repair/moving.py`)
    not wanted     a move to others than the plan says is turned, or taken back, once that loses nothing; if
                   it ends first, it has ended
    acceptors      who is one, the leader sees to before all that (`acceptor_changes.py`)
    all is done    who is dead, or was drained and keeps no only copy of a write any more, and votes no more,
                   has left

What the leader knows stands in the log, or is told again: whoever leads next goes on where this one was. One
entry is under way at a time; what it changes is in use here before the next is thought of.

At once are moved, of all that are planned: first those of which a member is dead, then those of one that is
drained, then the rest. The bounds are settings of the cluster (`topology/own_settings.py`).
"""

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Final

from basestore.cluster.peers import Peers
from basestore.consensus.raft import Raft
from basestore.instant import Instant
from basestore.membership.metadata_group import MetadataGroup
from basestore.moves.acceptor_changes import AcceptorChanges
from basestore.moves.reports import MoveReports
from basestore.protocol.membership import MoveRow
from basestore.repair.moving import Report, awaited, next_seats
from basestore.repair.seats import Seats, Stage, unpacked
from basestore.topology.balance import plan
from basestore.topology.changes import Change, SetMember, SetPlan, SetSeats, Standing
from basestore.topology.entries import UNNAMED, Suggestion, encode_entry
from basestore.topology.own_settings import bounds
from basestore.topology.topology import Topology

LOOK_S: Final = 0.1
ROWS_MAX: Final = 256  # of one entry


class Conductor:
    """Of one node, whether it leads or not."""

    def __init__(
        self, group: MetadataGroup, peers: Peers, reports: MoveReports,
        has_none: Callable[[int, int, Instant], bool], acceptors: AcceptorChanges,
    ) -> None:  # fmt: skip
        """`has_none(member, epoch, now)`: whether it is known to keep no only copy of a write, from when it
        went by this epoch on."""
        self._group, self._peers, self._reports = group, peers, reports
        self._has_none, self._acceptors = has_none, acceptors
        self._due_s = 0.0
        self._proposed: tuple[Raft, int] | None = None  # the entry that is under way, and whose it is
        self._idle: dict[int, int] = {}  # who could leave, by number, and by which epoch that was seen
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
        # What is planned or begun by this would otherwise be by what is no more: a cancel may be on its way.
        latest = topology.epoch == raft.commit == raft.log.last
        if latest and (change := self._acceptors.next(topology, self.reports)) is not None:
            return change
        if topology.unplanned or _leads_to_dead(topology) or not there <= self._weighed:
            if not latest:
                return None
            weighed = _without(topology, joining - there)
            if len(weighed.staying) >= topology.replication:  # else it waits for those that join
                self._weighed = frozenset(there)
                goals = plan(weighed)
                return SetPlan(topology.epoch, [[at, *goal] for at, goal in sorted(goals.items())])
        begins = latest and not topology.unplanned
        rows = (self._steps(topology) + (self._beginning(topology) if begins else []))[:ROWS_MAX]
        if rows:
            return SetSeats(rows)
        left = self._gone(raft, topology, now)
        return None if left is None else SetMember(left, standing=Standing.LEFT.value)

    # --- steps -----------------------------------------------------------------------------------

    def _steps(self, topology: Topology) -> list[list[int]]:
        """Rows of the partitions that go on."""
        rows, dead = [], topology.dead
        for at, seats in topology.moving.items():
            reports, linked = self.reports(at, seats), self._linked(seats)
            barred = topology.barred.get(at, frozenset())
            new = next_seats(seats, topology.goal(at), reports, linked, dead, barred)
            if new is not None:
                rows.append(new.row(at))
        return rows

    def _beginning(self, topology: Topology) -> list[list[int]]:
        """Those that begin now, within the bounds."""
        allowed, moving = bounds(topology.settings), topology.moving.values()
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
        rows, both = self.rows(partition, seats), set(seats.both)
        return {number: Report(row.fit, both & {*unpacked(row.met)}) for number, row in rows.items()}

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
        seats, barred = topology.seats[partition], topology.barred.get(partition, frozenset())
        return awaited(seats, self.reports(partition, seats), self._linked(seats), topology.dead, barred)

    def _gone(self, raft: Raft, topology: Topology, now: Instant) -> int | None:
        """A member that is to leave, and holds nothing any more, nor votes. Who is drained keeps no write for
        others alone, and has taken none since it knows that it holds nothing (`Membership.leaving`)."""
        held = {number for seats in topology.seats for number in seats.both}
        held |= {number for goal in topology.plan.values() for number in goal}
        held |= {voter.number for voter in raft.voters}
        idle = [e for e in topology.members if e.standing.goes and e.number not in held]
        self._idle = {each.number: self._idle.get(each.number, topology.epoch) for each in idle}
        for member in idle:
            index = self._peers.index_of.get(member.number)
            dead = member.standing is Standing.DEAD
            if dead or (index is not None and self._has_none(index, self._idle[member.number], now)):
                return member.number
        return None


def _without(topology: Topology, absent: Collection[int]) -> Topology:
    """As if nothing were to be given to these."""
    members = (each._replace(weight=0) if each.number in absent else each for each in topology.members)
    return replace(topology, members=tuple(members)) if absent else topology


def _leads_to_dead(topology: Topology) -> bool:
    """Whether somebody is to hold what he is to be rid of, as a plan may say that was made by a user."""
    return any(not topology.dead.isdisjoint(goal) for goal in topology.plan.values())


def _in_turn(topology: Topology) -> list[int]:
    """The partitions that are to begin yet: those come first that lack a replica, then those of members that
    are drained."""
    standing = {each.number: each.standing for each in topology.members}

    def rank(at: int) -> tuple[bool, bool, int]:
        of = {standing[number] for number in topology.seats[at].old}
        return Standing.DEAD not in of, Standing.DRAINING not in of, at

    return sorted((at for at in topology.plan if topology.seats[at].stage is Stage.STILL), key=rank)
