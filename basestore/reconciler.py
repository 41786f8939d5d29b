"""Reconciler: background anti-entropy of this node, as a state machine on ticks.

Opens sessions with the other replicas of each partition, a round to a peer every one to two seconds:
what was wished for first; then, for half of it, where the peer is owed something; then where the
certificate is oldest. Runs the sessions' stories (`exchanging.py`) slice by slice, gives way to requests,
keeps the certificates they end with (`proofs.py`), and lets the store see to itself between them
(`upkeep.py`).

Sessions look at what is stored only in `work`, which the node calls when nothing is staged. On one
node only one session of a partition is open at a time; of two that open towards each other, the one of
the lower member goes on.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from basestore.comparison import Unlistable, check_entries
from basestore.dialogue import Broken, Mismatch
from basestore.exchanging import Exchanging, Outcome
from basestore.journal import Journal
from basestore.ledgers import Ledgers
from basestore.messages import Abort, Certify, Entries, Going, ProtocolError, Syn, Taken
from basestore.metrics import Metrics
from basestore.operation import Operations
from basestore.outbox import SMALL_BYTES, Outbox
from basestore.peers import Instant, Peers
from basestore.proofs import Proofs
from basestore.replica import Replica
from basestore.standing import Standing, State
from basestore.upkeep import Upkeep
from repair.exchange import Members, runs_of

ROUND_S_MIN = 1.0
ROUND_S_MAX = 2.0
GOLDEN = 0.6180339887498949
AT_ONCE = 16  # partitions that a round opens with one peer
AT_ONCE_BESIDE = 4  # while there are requests
TURN_ROUNDS = 5  # after so many rounds every partition has had its turn
SESSIONS_MAX = 256
SILENCE_S_MAX = 15.0
GOING_S = 3.0
WORK_ROWS = 8000  # in a tick
WORK_ROWS_BESIDE = 2000
CHUNK_ROWS = 2000
CHUNK_ROWS_BESIDE = 50
ENTRY_COST_BESIDE = 20  # rows of a list that take as long as an entry
KNOWN_MAX = 1_000_000
NUMBER_MAX = 0xFFFF  # of a session: unique on its link, in few bytes


class Reconciler:
    """One node's side of all sessions. `rolled_back`: who has a certificate of what this store has lost, for
    the node to draw the conclusion and set it back. `certified`, by partition and member: when, by
    `Instant.monotonic`, the last session that ended with a certificate was begun, and whether the
    other store was whole."""

    def __init__(
        self,
        journal: Journal,
        replica: Replica,
        proofs: Proofs,
        standing: Standing,
        peers: Peers,
        operations: Operations,
        metrics: Metrics,
        now: Instant,
        first_session: int,
    ) -> None:
        self.journal = journal
        self.replica = replica
        self.ledgers: Ledgers = replica.ledgers
        self.proofs = proofs
        self.standing = standing
        self.metrics = metrics
        self.certified: dict[tuple[int, int], tuple[float, bool]] = {}
        self._peers = peers
        self._operations = operations
        self.rolled_back: int | None = None  # a member that has proof of it
        self._next_session = first_session & NUMBER_MAX & ~1
        self._sessions: dict[tuple[int, int], Exchanging] = {}  # by member and number
        self._by_partition: dict[int, Exchanging] = {}
        self._wishes: dict[tuple[int, int], None] = {}  # member and partition
        self._owed: dict[int, frozenset[int]] = {}  # partitions by member
        self._due_s = {peer.index: now.monotonic + ROUND_S_MIN for peer in peers.others}
        self._alone_s = now.monotonic
        self._lot = peers.me * GOLDEN
        self._known: dict[tuple[int, int], list[int]] = {}
        self._asked = operations.issued + operations.served
        self._budget = 0
        self._idle = True  # there is no upkeep to do
        self._beside = False
        self.upkeep = Upkeep(journal, replica, standing, metrics, now, self._forget_proofs)

    # --- what the node calls -----------------------------------------------------------------

    @property
    def chunk_rows(self) -> int:
        """How many rows a chunk of entries holds at most."""
        return CHUNK_ROWS_BESIDE if self._beside else CHUNK_ROWS

    def cost(self, entries: int) -> int:
        """What it takes from a tick's rows to send or take so many entries."""
        return entries * ENTRY_COST_BESIDE if self._beside else entries

    @property
    def open_sessions(self) -> int:
        return len(self._sessions)

    def wish(self, member: int, partition: int) -> None:
        """Open a session of this partition with that member as soon as possible."""
        self._wishes[member, partition] = None

    def owe(self, owed: Mapping[int, Iterable[int]]) -> None:
        """Partitions of which a member may lack something that no hint is kept of: served first."""
        self._owed = {member: frozenset(partitions) for member, partitions in owed.items()}

    def tick(self, now: Instant) -> None:
        """Begin what is due; end what has stalled."""
        asked = self._operations.issued + self._operations.served
        self._beside, self._asked = asked != self._asked, asked
        self._budget = WORK_ROWS_BESIDE if self._beside else WORK_ROWS
        self._idle = False
        for session in list(self._sessions.values()):
            self._keep_alive(session, now)
        self.upkeep.watch_damage()
        if not self.standing.whole and self.standing.state is not State.FORGETFUL:
            return
        if now.monotonic >= self._alone_s:
            self._alone_s = now.monotonic + ROUND_S_MIN
            self.proofs.close_alone(now)
        for peer in self._peers.others:
            if peer.linked and peer.introduced and peer.remembered:
                self._round(peer.index, now)
            elif peer.index < self._peers.me:  # of two that meet again the lower one begins
                due_s = self._due_s[peer.index]
                self._due_s[peer.index] = max(due_s, now.monotonic + ROUND_S_MIN)

    def _keep_alive(self, session: Exchanging, now: Instant) -> None:
        """End it when the other side has said nothing for long; say when this side is still at work."""
        if not session.waiting:
            session.heard_s = now.monotonic
            if now.monotonic - session.told_s > GOING_S:
                session.told_s = now.monotonic
                session.outbox.put(Going(session.number))
        elif now.monotonic - session.heard_s > SILENCE_S_MAX:
            self._end(session, "the other side has fallen silent")

    def work(self, now: Instant) -> bool:
        """Let sessions, purge and scrub go on, as far as this tick's rows last. Called while nothing is
        staged. Whether anything was done that is now to be stored or said."""
        moved = False
        for session in list(self._sessions.values()):
            if self._budget > 0 and session.runnable:
                self._resume(session, now)
                moved = True
        if not moved and not self._idle and self._budget > 0:
            cost = self.upkeep.work(min(self._budget, WORK_ROWS_BESIDE), self._by_partition, now)
            self._idle, moved = cost is None, cost is not None
            self._budget -= cost or 0
        return moved

    def lost(self, member: int) -> None:
        """The link to a member is gone, and so are the sessions with it."""
        for session in list(self._sessions.values()):
            if session.member == member:
                self._end(session)

    def undo(self) -> None:
        """A batch was not taken: what sessions were about to prove may have been in it."""
        for session in list(self._sessions.values()):
            self._end(session, "the store is busy")
        self.upkeep.undo()

    # --- rounds ------------------------------------------------------------------------------

    def _round(self, member: int, now: Instant) -> None:
        """Open sessions with one peer, if it is time."""
        wished = [partition for other, partition in self._wishes if other == member]
        for partition in wished:
            if self._may_open(partition):
                del self._wishes[member, partition]
                self._open(member, partition, now)
        if now.monotonic < self._due_s[member]:
            return
        self._lot = (self._lot + GOLDEN) % 1.0
        self._due_s[member] = now.monotonic + ROUND_S_MIN + (ROUND_S_MAX - ROUND_S_MIN) * self._lot
        if not self.standing.whole:
            return  # recovery wishes for what it needs
        shared = [p for p, others in self.proofs.others.items() if member in others and self._may_open(p)]
        owed = self._owed.get(member, frozenset())
        shared.sort(key=lambda partition: (self._made_ms(partition, member), partition))
        most = max(AT_ONCE_BESIDE if self._beside else AT_ONCE, len(shared) // TURN_ROUNDS)
        first = [partition for partition in shared if partition in owed][: most // 2]
        for partition in (first + [partition for partition in shared if partition not in first])[:most]:
            self._open(member, partition, now)

    def _made_ms(self, partition: int, member: int) -> int:
        certificate = self.proofs.certificate(partition, member)
        return 0 if certificate is None else certificate.made_ms

    def _may_open(self, partition: int) -> bool:
        return (
            partition not in self._by_partition
            and not self.upkeep.bars(partition)
            and len(self._sessions) < SESSIONS_MAX
        )

    def _open(self, member: int, partition: int, now: Instant) -> None:
        self._next_session = (self._next_session + 2) & NUMBER_MAX
        number = self._next_session | (self._peers.me > member)
        if (member, number) in self._sessions:  # it has been open for very long: another time
            return
        outbox = self._peers.all[member].outbox
        session = Exchanging(self, number, member, partition, outbox, now)
        session.story = session.open()
        self._begin(session)

    def _begin(self, session: Exchanging) -> None:
        self._sessions[session.member, session.number] = session
        self._by_partition[session.partition] = session

    # --- messages ----------------------------------------------------------------------------

    def hear_syn(self, member: int, outbox: Outbox, syn: Syn, now: Instant) -> None:
        """A peer opens a session; it is told when this node cannot take part just now."""
        if member not in self.proofs.others.get(syn.partition, ()) or len(syn.claims) % 3:
            raise ProtocolError("a session of a partition that is not held by both was opened")
        if (member, syn.session) in self._sessions:
            return
        mine = self._by_partition.get(syn.partition)
        if mine is not None and mine.opened_here and member < self._peers.me:
            if mine.member == member:
                self._end(mine)
                mine = None
            elif mine.unanswered:  # or three could wait for each other in a ring
                self._end(mine, "a lower member has come first")
                mine = None
        ready = self.standing.whole or self.standing.state is State.FORGETFUL
        if mine is not None or not ready or not self._may_open(syn.partition):
            outbox.put(Abort(syn.session, "busy"))
            return
        session = Exchanging(self, syn.session, member, syn.partition, outbox, now)
        session.story = session.respond(syn)
        session.opened_here = False
        self._begin(session)

    def hear_going(self, member: int, outbox: Outbox, message: Going, now: Instant) -> None:
        """The other side is at work."""
        session = self._sessions.get((member, message.session))
        if session is not None:
            session.heard_s = now.monotonic
        else:
            outbox.put(Abort(message.session, "it has ended"))

    def hear(self, member: int, outbox: Outbox, message: Any, now: Instant) -> None:
        """A message of a session under way. Who goes on with one that has ended is told so; a last
        Certify needs no answer."""
        session = self._sessions.get((member, message.session))
        if session is None:
            if not isinstance(message, Certify | Taken):
                outbox.put(Abort(message.session, "it has ended"))
            return
        if isinstance(message, Entries) and not check_entries(message.rows):
            raise ProtocolError("an Entries message does not hold rows, records and heads")
        session.heard_s = now.monotonic
        try:
            session.hear(message, message.number)
        except Broken as broken:
            self._end(session, str(broken))

    def hear_abort(self, member: int, message: Abort) -> None:
        """The other side has ended a session."""
        session = self._sessions.get((member, message.session))
        if session is not None:
            self._end(session)

    # --- running the stories -----------------------------------------------------------------

    def _resume(self, session: Exchanging, now: Instant) -> None:
        """Let a session go on until it waits, or has worked for this tick."""
        assert session.story is not None
        session.now = now
        if session.outbox.closed:
            self._end(session)
            return
        try:
            worked = next(session.story)
        except StopIteration as end:
            self._conclude(session, end.value)
        except Mismatch:
            self._distrust(session)
        except Unlistable as unlistable:
            self._end(session, str(unlistable))
            self.proofs.withdraw(session.partition, session.member)
        except (Broken, ValueError) as broken:
            self._end(session, str(broken))
        else:
            session.waiting = worked is None
            self._budget -= worked or 1

    def _conclude(self, session: Exchanging, outcome: Outcome) -> None:
        partition, member = session.partition, session.member
        self._close(session)
        self.proofs.certify(partition, member, outcome.certificate)
        taken = session.comparison.taken.tolist() if session.comparison is not None else []
        known = [s for s in self._known.get((partition, member), ()) if s > outcome.certificate.mine]
        self._known[partition, member] = (known + taken)[-KNOWN_MAX:]
        self.certified[partition, member] = (session.begun_s, session.peer_whole)
        self.metrics.count(f"sessions_{outcome.kind}")
        if taken and not session.peer_whole and not self.standing.whole:
            self._recover_anew(partition)

    def _recover_anew(self, partition: int) -> None:
        """Two forgetful stores have exchanged what one of them had: it may be what others have purged. Only
        a comparison of all with those that are whole tells, so what was proven with these is void."""
        for member in self.proofs.others[partition]:
            if self.certified.get((partition, member), (0.0, False))[1]:
                self.proofs.withdraw(partition, member)
                del self.certified[partition, member]

    def _end(self, session: Exchanging, reason: str = "") -> None:
        """It ends without a result; with a reason, the other side is told."""
        session.say_no_more()
        self._close(session)
        self.metrics.count("sessions_aborted")
        if reason:
            session.outbox.put(Abort(session.number, reason[:200]), SMALL_BYTES + 200)

    def _close(self, session: Exchanging) -> None:
        session.end()
        self._sessions.pop((session.member, session.number), None)
        if self._by_partition.get(session.partition) is session:
            del self._by_partition[session.partition]

    def known_to(self, partition: int, member: int) -> Members:
        """Sequences here, as numbers of origin 0, of what a member is known to hold though it came after
        the certificate: it came from there."""
        return Members(runs_of({0: self._known.get((partition, member), ())}))

    def _distrust(self, session: Exchanging) -> None:
        """Virtual roots differed: trust nothing that was proven with this member, and look at the disk."""
        self._end(session)
        self.proofs.withdraw(session.partition, session.member)
        self._known.pop((session.partition, session.member), None)
        self.upkeep.suspect[session.partition] = None
        self.metrics.count("mismatches")

    def _forget_proofs(self, partition: int) -> None:
        """Nothing that was proven of this partition may be built on."""
        for member in self.proofs.others[partition]:
            self.proofs.withdraw(partition, member)
            self.certified.pop((partition, member), None)
            self._known.pop((partition, member), None)
