"""Asking: changes and reads of the topology, on any node, until they have been decided or given up.

A *change* goes to the leader, again and again until this node sees in its own topology what has become of
it: outcomes stand in the log, by the id that the sender has drawn. So nobody has to answer, a leader may be
lost at any moment, and what is said twice, or through two nodes, is done once.

A *read* has one of three modes (Consul's names for them):

    consistent   the leader is asked up to which entry one must have read; it finds out by a round of
                 heartbeats that it still leads. Then this node answers by its own topology, once that has
                 come so far
    default      the same, but the leader answers at once while its lease holds: that is wrong only where two
                 clocks' rates differ by more than a third, or a clock stood still while its machine was
                 suspended
    stale        by what this node has, which may be old; it says how long ago it heard of a leader. It never
                 goes back on one node, and needs nobody

Owns what waits, all of it with a deadline, and so many at once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from basestore.cluster.outbox import SMALL_BYTES, Outbox
from basestore.cluster.peers import Peers
from basestore.errors import ChangeUnknown, NoLeader, Overloaded, RequestFailed
from basestore.instant import Instant
from basestore.membership.leader_watch import LeaderWatch
from basestore.membership.metadata_group import MetadataGroup
from basestore.protocol.limits import ProtocolError
from basestore.protocol.membership import AskRead, ReadAt, Suggest
from basestore.topology.entries import content_of, decode_entry, read_suggested
from basestore.topology.topology import Outcome

SAY_AGAIN_S: Final = 1.0
WAITING_MAX: Final = 256
USERS_UNDECIDED_MAX: Final = 256  # entries; what raft takes beyond that is for the leader's own
ChangeEnd = Callable[[Outcome | RequestFailed, Instant], None]
ReadEnd = Callable[[RequestFailed | None, Instant], None]


@dataclass(slots=True, eq=False)
class _Change:
    """One that waits. `id`: of its entry, which others may have asked for here too; `content`: of the change.
    `said_s`: when it was said to a leader last; below 0: never."""

    id: int
    content: bytes
    entry: bytes
    deadline_s: float
    end: ChangeEnd
    again: bool
    said_s: float = -1.0


@dataclass(slots=True, eq=False)
class _Read:
    """One that waits. `at`: the entry up to which it must have read; -1 until that is known."""

    lease: bool
    deadline_s: float
    end: ReadEnd
    at: int = -1
    said_s: float = -1.0


class Asking:
    """Of one node."""

    def __init__(self, group: MetadataGroup, peers: Peers, leader: LeaderWatch, first_id: int) -> None:
        self._group, self._peers, self._leader = group, peers, leader
        self._changes: list[_Change] = []
        self._reads: dict[int, _Read] = {}
        self._tickets: dict[int, tuple[int, Outbox] | int] = {}  # whose they are: a member's, or a read here
        self._next = first_id
        self._proposed: dict[int, int] = {}  # ids of entries that were appended here, and where
        self._raft = group.raft  # whose tickets these are
        self.handlers: dict[type, Callable[[int, Outbox, Any, Instant], None]] = {
            Suggest: self._hear_suggest,
            AskRead: self._hear_ask,
            ReadAt: self._hear_read_at,
        }

    @property
    def at_rest(self) -> bool:
        return not (self._changes or self._reads or self._tickets)

    # --- what is asked of this node --------------------------------------------------------------

    def change(
        self, entry: bytes, timeout_s: float, end: ChangeEnd, now: Instant, *, again: bool = False
    ) -> None:
        """Have an entry decided, which another leader takes if `read_suggested` does, and call `end` with
        what has become of it; Overloaded. `again`: it may have been asked for before, at any node: then
        nobody can say that it was not done."""
        self._check_room()
        said = decode_entry(entry)
        deadline_s = now.monotonic + timeout_s
        waiting = _Change(said.id, content_of(said.change), entry, deadline_s, end, again)
        if not self._ended(waiting, now):
            self._changes.append(waiting)
            self._say(waiting, now)

    def read(self, timeout_s: float, end: ReadEnd, now: Instant, *, lease: bool) -> None:
        """Call `end` once this node's topology has all that was decided before now; Overloaded."""
        self._check_room()
        self._next += 1
        self._reads[self._next] = waiting = _Read(lease, now.monotonic + timeout_s, end)
        self._ask(self._next, waiting, now)

    def _check_room(self) -> None:
        if len(self._changes) + len(self._reads) >= WAITING_MAX:
            raise Overloaded(
                f"overloaded: {WAITING_MAX} changes and reads of the topology wait here; nothing was done "
                f"for this request. Try again later"
            )

    # --- time ------------------------------------------------------------------------------------

    def tick(self, now: Instant) -> None:
        """Say again what was not answered; give up what nobody waits for any more."""
        for change in list(self._changes):
            if now.monotonic >= change.deadline_s:
                self._changes.remove(change)
                change.end(self._given_up(change, now), now)
            elif now.monotonic - change.said_s >= SAY_AGAIN_S:
                self._say(change, now)
        for number, read in list(self._reads.items()):
            if now.monotonic >= read.deadline_s:
                del self._reads[number]
                read.end(NoLeader(self._unread(read, now)), now)
            elif read.at < 0 and now.monotonic - read.said_s >= SAY_AGAIN_S:
                self._ask(number, read, now)

    def _unread(self, read: _Read, now: Instant) -> str:
        """Why a read is given up."""
        if read.at < 0:
            return self._leader.absence("nothing can be read by its word", now)
        return (
            f"the leader says that epoch {read.at} must be read, and this node is behind, at epoch "
            f"{self._group.epoch}, so nothing can be read by its word; data are served all the same. Ask "
            f"another node, or see `basestore status`"
        )

    def step(self, now: Instant) -> None:
        """See what has been decided, and what may be answered."""
        answered = self._group.answered
        if self._raft is not self._group.raft:  # it counts its tickets anew; who waits asks again
            self._raft = self._group.raft
            self._tickets.clear()
        while answered:
            ticket, index = answered.popitem()
            asker = self._tickets.pop(ticket, None)
            if isinstance(asker, tuple):
                asker[1].put(ReadAt(asker[0], index), SMALL_BYTES)
            elif asker is not None and asker in self._reads:
                self._reads[asker].at = index
        for number, read in list(self._reads.items()):
            if 0 <= read.at <= self._group.epoch:
                del self._reads[number]
                read.end(None, now)
        self._changes = [change for change in self._changes if not self._ended(change, now)]

    def _ended(self, change: _Change, now: Instant) -> bool:
        """Whether it is known what has become of it: then it is answered."""
        topology = self._group.topology
        outcome = topology.outcome(change.id) if topology is not None else None
        if outcome is not None:
            change.end(outcome.of(change.content), now)
        return outcome is not None

    def _given_up(self, change: _Change, now: Instant) -> RequestFailed:
        if change.said_s < 0 and not change.again:
            return NoLeader(self._leader.absence("nothing was changed", now))
        return ChangeUnknown(
            "timeout: whether the change was decided is not known here, and it may be yet. See `basestore "
            "topology history`; to ask for it again under the same identity is safe for the next thousand "
            "changes of the cluster"
        )

    # --- to the leader ---------------------------------------------------------------------------

    def _say(self, change: _Change, now: Instant) -> None:
        leader, topology = self._leader.member(now), self._group.topology
        if leader is None or topology is None or not topology.founded:
            return
        if leader == self._peers.me:
            if self._propose(change.id, change.entry):
                change.said_s = now.monotonic
        elif self._peers.send(leader, Suggest(change.entry), SMALL_BYTES + len(change.entry)):
            change.said_s = now.monotonic

    def _ask(self, number: int, read: _Read, now: Instant) -> None:
        leader, raft = self._leader.member(now), self._group.raft
        if leader is None or raft is None:
            return
        if leader != self._peers.me:
            if self._peers.send(leader, AskRead(number, read.lease)):
                read.said_s = now.monotonic
            return
        ticket = raft.read(now.monotonic, lease=read.lease)
        if ticket is not None:
            self._tickets[ticket] = number
            read.said_s = now.monotonic

    def _propose(self, identity: int, entry: bytes) -> bool:
        """Append it, unless it is in the log already; False where this node may not."""
        raft, topology = self._group.raft, self._group.topology
        if raft is None or topology is None or not raft.ready:
            return False
        index = self._proposed.get(identity)
        if topology.outcome(identity) is not None or (index is not None and self._stands(index, entry)):
            return True
        if raft.log.last - raft.commit >= USERS_UNDECIDED_MAX:
            return False
        index = raft.propose(entry)
        if index is not None:
            self._proposed = {each: at for each, at in self._proposed.items() if at > raft.commit}
            self._proposed[identity] = index
        return index is not None

    def _stands(self, index: int, entry: bytes) -> bool:
        raft = self._group.raft
        assert raft is not None
        return raft.log.base.last < index <= raft.log.last and raft.log.entry(index).data == entry

    # --- as the leader ---------------------------------------------------------------------------

    def _hear_suggest(self, member: int, outbox: Outbox, said: Suggest, now: Instant) -> None:
        """ProtocolError for what must not come into the log."""
        try:
            identity = read_suggested(said.entry).id
        except ValueError as error:
            raise ProtocolError(f"a change is suggested that nobody may suggest: {error}") from error
        self._propose(identity, said.entry)

    def _hear_ask(self, member: int, outbox: Outbox, said: AskRead, now: Instant) -> None:
        raft = self._group.raft
        ticket = raft.read(now.monotonic, lease=said.lease) if raft is not None else None
        if ticket is None:
            outbox.put(ReadAt(said.id, -1))
        else:
            self._tickets[ticket] = said.id, outbox

    def _hear_read_at(self, member: int, outbox: Outbox, said: ReadAt, now: Instant) -> None:
        read = self._reads.get(said.id)
        if read is not None and read.at < 0:
            read.at = said.at
