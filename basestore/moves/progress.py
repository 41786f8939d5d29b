"""Progress: how far moves have come, told to members and clients by whoever drives them.

Only the leader hears what members report. So a node that is asked by a client asks the leader, and answers as
that does; where there is no leader, it says what its own topology says, and that nobody knows more.
"""

from typing import Final

from basestore.cluster.outbox import Outbox, weight
from basestore.cluster.peers import Peers
from basestore.coordinator.admission import check_timeout
from basestore.coordinator.context import Context, refuse
from basestore.errors import InvalidRequest, NoLeader, Overloaded, RequestFailed
from basestore.instant import Instant
from basestore.membership.membership import Membership
from basestore.moves.conductor import Conductor
from basestore.protocol.membership import AskMoves, MoveState, MovesTold, ReadMoves
from basestore.repair.seats import Seats, packed
from basestore.topology.topology import Topology

WAITING_MAX: Final = 256
UNKNOWN: Final = -1
_MARGIN_S: Final = 0.1  # before a client gives up


class Progress:
    """Of one node. What waits for the leader waits until its client's deadline, and so many at once."""

    def __init__(self, context: Context, membership: Membership, conductor: Conductor) -> None:
        self._context, self._membership, self._conductor = context, membership, conductor
        self._waiting: dict[int, tuple[Outbox, int, float]] = {}
        self._next = 0
        self._stages: dict[int, tuple[int, float]] = {}  # since which epoch, and when that was seen

    @property
    def _peers(self) -> Peers:
        return self._context.peers

    def read(self, outbox: Outbox, request: ReadMoves, now: Instant) -> None:
        """A client's."""
        try:
            self._read(outbox, request, now)
        except (InvalidRequest, RequestFailed) as error:
            refuse(self._context, outbox, request.id, error)

    def _read(self, outbox: Outbox, request: ReadMoves, now: Instant) -> None:
        check_timeout(self._context, request.timeout_ms)
        topology, leader = self._membership.group.topology, self._membership.leader.member(now)
        if topology is None:
            raise NoLeader(self._membership.leader.absence("nothing can be read", now))
        if leader is None or leader == self._peers.me:
            told = self._told(request.id, topology, now, leads=leader is not None)
            outbox.put(told, weight(told))
        elif len(self._waiting) >= WAITING_MAX:
            raise Overloaded(f"overloaded: {WAITING_MAX} questions wait for the leader; ask again later")
        else:
            self._next += 1
            until_s = now.monotonic + request.timeout_ms / 1e3
            self._waiting[self._next] = outbox, request.id, until_s
            self._peers.send(leader, AskMoves(self._next))

    def hear_ask(self, member: int, outbox: Outbox, said: AskMoves, now: Instant) -> None:
        """A member's, for a client of its own."""
        topology, raft = self._membership.group.topology, self._membership.group.raft
        if topology is not None and raft is not None and raft.ready:
            told = self._told(said.id, topology, now, leads=True)
            outbox.put(told, weight(told))

    def hear(self, member: int, outbox: Outbox, said: MovesTold, now: Instant) -> None:
        """The leader's answer."""
        waiting = self._waiting.pop(said.id, None)
        if waiting is not None:
            waiting[0].put(said._replace(id=waiting[1]), weight(said))

    def tick(self, now: Instant) -> None:
        """See stages begin; answer those for whom no leader has."""
        topology = self._membership.group.topology
        if topology is None:
            return
        self._stages = {
            at: self._stages[at]
            if at in self._stages and self._stages[at][0] == seats.since
            else (seats.since, now.monotonic)
            for at, seats in topology.moving.items()
        }
        for number, (outbox, request, until_s) in list(self._waiting.items()):
            if now.monotonic >= until_s - _MARGIN_S:
                del self._waiting[number]
                told = self._told(request, topology, now, leads=False)
                outbox.put(told, weight(told))

    # --- what is told ----------------------------------------------------------------------------

    def _told(self, request: int, topology: Topology, now: Instant, *, leads: bool) -> MovesTold:
        moving = sorted(topology.moving.keys() | topology.plan.keys())
        rows = [self._row(at, topology, now, leads=leads) for at in moving]
        leader = self._peers.number_of[self._peers.me] if leads else UNKNOWN
        return MovesTold(request, topology.epoch, leader, topology.unplanned, rows)

    def _row(self, at: int, topology: Topology, now: Instant, *, leads: bool) -> MoveState:
        seats = topology.seats[at]
        since_s = self._stages[at][1] if at in self._stages else now.monotonic
        new = topology.goal(at)  # though it is on its way to others yet
        awaited = sorted(self._conductor.awaited(topology, at)) if leads else ()
        records, left = self._counts(at, seats) if leads else (UNKNOWN, UNKNOWN)
        stage_ms = int((now.monotonic - since_s) * 1e3)
        return MoveState(
            at, seats.stage.value, stage_ms, records, left, packed(seats.old), packed(new), packed(awaited)
        )

    def _counts(self, at: int, seats: Seats) -> tuple[int, int]:
        """How many records there are of a partition, and how many are lacking at whoever lacks most."""
        rows = self._conductor.rows(at, seats)
        counts = [row.records for number, row in rows.items() if number in seats.old]
        if not counts:
            return UNKNOWN, UNKNOWN
        most = max(counts)
        fills = [rows[number].records for number in seats.new if number in rows and not rows[number].fit]
        return most, max([0, *(most - count for count in fills)])
