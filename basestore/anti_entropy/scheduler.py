"""Scheduler: background anti-entropy of this node, as a state machine on ticks.

Opens exchanges with the other replicas of each partition, a round to a peer every one to two seconds:
what was wished for first; then, for half of it, where the peer is owed something; then where the
certificate is oldest. Runs the exchanges' stories (`exchange.py`) slice by slice, gives way to requests,
keeps the certificates they end with (`certificates.py`), and lets the store see to itself between them
(`maintenance.py`).

Exchanges look at what is stored only in `work`, which the node calls when nothing is staged. On one
node only one exchange of a partition is open at a time; of two that open towards each other, the one of
the lower member goes on.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from basestore.anti_entropy.certificates import Certificates
from basestore.anti_entropy.comparison import Unlistable, check_entries
from basestore.anti_entropy.dialogue import Broken, Mismatch
from basestore.anti_entropy.exchange import Exchange, Outcome
from basestore.anti_entropy.maintenance import Maintenance
from basestore.cluster.operations import Operations
from basestore.cluster.outbox import SMALL_BYTES, Outbox
from basestore.cluster.peers import Peers
from basestore.instant import Instant
from basestore.metrics import Metrics
from basestore.protocol.anti_entropy import Abort, Certify, Entries, Going, Syn, Taken
from basestore.protocol.limits import ProtocolError
from basestore.replica.group_commit import GroupCommit
from basestore.replica.identity import State, StoreIdentity
from basestore.replica.replica import Replica
from basestore.replica.summaries import Summaries
from repair.runs import Members, runs_of

ROUND_S_MIN = 1.0
ROUND_S_MAX = 2.0
GOLDEN = 0.6180339887498949
AT_ONCE = 16  # partitions that a round opens with one peer
AT_ONCE_BESIDE = 4  # while there are requests
TURN_ROUNDS = 5  # after so many rounds every partition has had its turn
EXCHANGES_MAX = 256
SILENCE_S_MAX = 15.0
GOING_S = 3.0
WORK_ROWS = 8000  # in a tick
WORK_ROWS_BESIDE = 2000
CHUNK_ROWS = 2000
CHUNK_ROWS_BESIDE = 50
ENTRY_COST_BESIDE = 20  # rows of a list that take as long as an entry
KNOWN_MAX = 1_000_000
NUMBER_MAX = 0xFFFF  # of an exchange: unique on its link, in few bytes


class Scheduler:
    """One node's side of all exchanges. `rolled_back`: who has a certificate of what this store has lost, for
    the node to draw the conclusion and set it back. `certified`, by partition and member: when, by
    `Instant.monotonic`, the last exchange that ended with a certificate was begun, and whether the
    other store was whole."""

    def __init__(
        self,
        group_commit: GroupCommit,
        replica: Replica,
        certificates: Certificates,
        identity: StoreIdentity,
        peers: Peers,
        operations: Operations,
        metrics: Metrics,
        now: Instant,
        first_exchange: int,
    ) -> None:
        self.group_commit = group_commit
        self.replica = replica
        self.summaries: Summaries = replica.summaries
        self.certificates = certificates
        self.identity = identity
        self.metrics = metrics
        self.certified: dict[tuple[int, int], tuple[float, bool]] = {}
        self._peers = peers
        self._operations = operations
        self.rolled_back: int | None = None  # a member that has proof of it
        self._next_exchange = first_exchange & NUMBER_MAX & ~1
        self._exchanges: dict[tuple[int, int], Exchange] = {}  # by member and number
        self._by_partition: dict[int, Exchange] = {}
        self._wishes: dict[tuple[int, int], None] = {}  # member and partition
        self._owed: dict[int, frozenset[int]] = {}  # partitions by member
        self._due_s = {peer.index: now.monotonic + ROUND_S_MIN for peer in peers.others}
        self._alone_s = now.monotonic
        self._lot = peers.me * GOLDEN
        self._known: dict[tuple[int, int], list[int]] = {}
        self._asked = operations.issued + operations.served
        self._budget = 0
        self._idle = True  # there is no maintenance to do
        self._beside = False
        self.maintenance = Maintenance(group_commit, replica, identity, metrics, now, self._forget_proofs)

    # --- what the node calls -----------------------------------------------------------------

    @property
    def chunk_rows(self) -> int:
        """How many rows a chunk of entries holds at most."""
        return CHUNK_ROWS_BESIDE if self._beside else CHUNK_ROWS

    def cost(self, entries: int) -> int:
        """What it takes from a tick's rows to send or take so many entries."""
        return entries * ENTRY_COST_BESIDE if self._beside else entries

    @property
    def open_exchanges(self) -> int:
        return len(self._exchanges)

    def wish(self, member: int, partition: int) -> None:
        """Open an exchange of this partition with that member as soon as possible."""
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
        for exchange in list(self._exchanges.values()):
            self._keep_alive(exchange, now)
        self.maintenance.watch_damage()
        if not self.identity.whole and self.identity.state is not State.FORGETFUL:
            return
        if now.monotonic >= self._alone_s:
            self._alone_s = now.monotonic + ROUND_S_MIN
            self.certificates.close_alone(now)
        for peer in self._peers.others:
            if peer.linked and peer.introduced and peer.remembered:
                self._round(peer.index, now)
            elif peer.index < self._peers.me:  # of two that meet again the lower one begins
                due_s = self._due_s[peer.index]
                self._due_s[peer.index] = max(due_s, now.monotonic + ROUND_S_MIN)

    def _keep_alive(self, exchange: Exchange, now: Instant) -> None:
        """End it when the other side has said nothing for long; say when this side is still at work."""
        if not exchange.waiting:
            exchange.heard_s = now.monotonic
            if now.monotonic - exchange.told_s > GOING_S:
                exchange.told_s = now.monotonic
                exchange.outbox.put(Going(exchange.number))
        elif now.monotonic - exchange.heard_s > SILENCE_S_MAX:
            self._end(exchange, "the other side has fallen silent")

    def work(self, now: Instant) -> bool:
        """Let exchanges, purge and scrub go on, as far as this tick's rows last. Called while nothing is
        staged. Whether anything was done that is now to be stored or said."""
        moved = False
        for exchange in list(self._exchanges.values()):
            if self._budget > 0 and exchange.runnable:
                self._resume(exchange, now)
                moved = True
        if not moved and not self._idle and self._budget > 0:
            cost = self.maintenance.work(min(self._budget, WORK_ROWS_BESIDE), self._by_partition, now)
            self._idle, moved = cost is None, cost is not None
            self._budget -= cost or 0
        return moved

    def lost(self, member: int) -> None:
        """The link to a member is gone, and so are the exchanges with it."""
        for exchange in list(self._exchanges.values()):
            if exchange.member == member:
                self._end(exchange)

    def undo(self) -> None:
        """A batch was not taken: what exchanges were about to prove may have been in it."""
        for exchange in list(self._exchanges.values()):
            self._end(exchange, "the store is busy")
        self.maintenance.undo()

    # --- rounds ------------------------------------------------------------------------------

    def _round(self, member: int, now: Instant) -> None:
        """Open exchanges with one peer, if it is time."""
        wished = [partition for other, partition in self._wishes if other == member]
        for partition in wished:
            if self._may_open(partition):
                del self._wishes[member, partition]
                self._open(member, partition, now)
        if now.monotonic < self._due_s[member]:
            return
        self._lot = (self._lot + GOLDEN) % 1.0
        self._due_s[member] = now.monotonic + ROUND_S_MIN + (ROUND_S_MAX - ROUND_S_MIN) * self._lot
        if not self.identity.whole:
            return  # recovery wishes for what it needs
        shared = [
            p for p, others in self.certificates.others.items() if member in others and self._may_open(p)
        ]
        owed = self._owed.get(member, frozenset())
        shared.sort(key=lambda partition: (self._made_ms(partition, member), partition))
        most = max(AT_ONCE_BESIDE if self._beside else AT_ONCE, len(shared) // TURN_ROUNDS)
        first = [partition for partition in shared if partition in owed][: most // 2]
        for partition in (first + [partition for partition in shared if partition not in first])[:most]:
            self._open(member, partition, now)

    def _made_ms(self, partition: int, member: int) -> int:
        certificate = self.certificates.certificate(partition, member)
        return 0 if certificate is None else certificate.made_ms

    def _may_open(self, partition: int) -> bool:
        return (
            partition not in self._by_partition
            and not self.maintenance.bars(partition)
            and len(self._exchanges) < EXCHANGES_MAX
        )

    def _open(self, member: int, partition: int, now: Instant) -> None:
        self._next_exchange = (self._next_exchange + 2) & NUMBER_MAX
        number = self._next_exchange | (self._peers.me > member)
        if (member, number) in self._exchanges:  # it has been open for very long: another time
            return
        outbox = self._peers.all[member].outbox
        exchange = Exchange(self, number, member, partition, outbox, now)
        exchange.story = exchange.open()
        self._begin(exchange)

    def _begin(self, exchange: Exchange) -> None:
        self._exchanges[exchange.member, exchange.number] = exchange
        self._by_partition[exchange.partition] = exchange

    # --- messages ----------------------------------------------------------------------------

    def hear_syn(self, member: int, outbox: Outbox, syn: Syn, now: Instant) -> None:
        """A peer opens an exchange; it is told when this node cannot take part just now."""
        if member not in self.certificates.others.get(syn.partition, ()) or len(syn.claims) % 3:
            raise ProtocolError("an exchange of a partition that is not held by both was opened")
        if (member, syn.exchange) in self._exchanges:
            return
        mine = self._by_partition.get(syn.partition)
        if mine is not None and mine.opened_here and member < self._peers.me:
            if mine.member == member:
                self._end(mine)
                mine = None
            elif mine.unanswered:  # or three could wait for each other in a ring
                self._end(mine, "a lower member has come first")
                mine = None
        ready = self.identity.whole or self.identity.state is State.FORGETFUL
        if mine is not None or not ready or not self._may_open(syn.partition):
            outbox.put(Abort(syn.exchange, "busy"))
            return
        exchange = Exchange(self, syn.exchange, member, syn.partition, outbox, now)
        exchange.story = exchange.respond(syn)
        exchange.opened_here = False
        self._begin(exchange)

    def hear_going(self, member: int, outbox: Outbox, message: Going, now: Instant) -> None:
        """The other side is at work."""
        exchange = self._exchanges.get((member, message.exchange))
        if exchange is not None:
            exchange.heard_s = now.monotonic
        else:
            outbox.put(Abort(message.exchange, "it has ended"))

    def hear(self, member: int, outbox: Outbox, message: Any, now: Instant) -> None:
        """A message of an exchange under way. Who goes on with one that has ended is told so; a last
        Certify needs no answer."""
        exchange = self._exchanges.get((member, message.exchange))
        if exchange is None:
            if not isinstance(message, Certify | Taken):
                outbox.put(Abort(message.exchange, "it has ended"))
            return
        if isinstance(message, Entries) and not check_entries(message.rows):
            raise ProtocolError("an Entries message does not hold rows, records and heads")
        exchange.heard_s = now.monotonic
        try:
            exchange.hear(message, message.number)
        except Broken as broken:
            self._end(exchange, str(broken))

    def hear_abort(self, member: int, message: Abort) -> None:
        """The other side has ended an exchange."""
        exchange = self._exchanges.get((member, message.exchange))
        if exchange is not None:
            self._end(exchange)

    # --- running the stories -----------------------------------------------------------------

    def _resume(self, exchange: Exchange, now: Instant) -> None:
        """Let an exchange go on until it waits, or has worked for this tick."""
        assert exchange.story is not None
        exchange.now = now
        if exchange.outbox.closed:
            self._end(exchange)
            return
        try:
            worked = next(exchange.story)
        except StopIteration as end:
            self._conclude(exchange, end.value)
        except Mismatch:
            self._distrust(exchange)
        except Unlistable as unlistable:
            self._end(exchange, str(unlistable))
            self.certificates.withdraw(exchange.partition, exchange.member)
        except (Broken, ValueError) as broken:
            self._end(exchange, str(broken))
        else:
            exchange.waiting = worked is None
            self._budget -= worked or 1

    def _conclude(self, exchange: Exchange, outcome: Outcome) -> None:
        partition, member = exchange.partition, exchange.member
        self._close(exchange)
        self.certificates.certify(partition, member, outcome.certificate)
        taken = exchange.comparison.taken.tolist() if exchange.comparison is not None else []
        known = [s for s in self._known.get((partition, member), ()) if s > outcome.certificate.mine]
        self._known[partition, member] = (known + taken)[-KNOWN_MAX:]
        self.certified[partition, member] = (exchange.begun_s, exchange.peer_whole)
        self.metrics.count(f"exchanges_{outcome.kind}")
        if taken and not exchange.peer_whole and not self.identity.whole:
            self._recover_anew(partition)

    def _recover_anew(self, partition: int) -> None:
        """Two forgetful stores have exchanged what one of them had: it may be what others have purged. Only
        a comparison of all with those that are whole tells, so what was proven with these is void."""
        for member in self.certificates.others[partition]:
            if self.certified.get((partition, member), (0.0, False))[1]:
                self.certificates.withdraw(partition, member)
                del self.certified[partition, member]

    def _end(self, exchange: Exchange, reason: str = "") -> None:
        """It ends without a result; with a reason, the other side is told."""
        exchange.say_no_more()
        self._close(exchange)
        self.metrics.count("exchanges_aborted")
        if reason:
            exchange.outbox.put(Abort(exchange.number, reason[:200]), SMALL_BYTES + 200)

    def _close(self, exchange: Exchange) -> None:
        exchange.end()
        self._exchanges.pop((exchange.member, exchange.number), None)
        if self._by_partition.get(exchange.partition) is exchange:
            del self._by_partition[exchange.partition]

    def known_to(self, partition: int, member: int) -> Members:
        """Sequences here, as numbers of origin 0, of what a member is known to hold though it came after
        the certificate: it came from there."""
        return Members(runs_of({0: self._known.get((partition, member), ())}))

    def _distrust(self, exchange: Exchange) -> None:
        """Virtual roots differed: trust nothing that was proven with this member, and look at the disk."""
        self._end(exchange)
        self.certificates.withdraw(exchange.partition, exchange.member)
        self._known.pop((exchange.partition, exchange.member), None)
        self.maintenance.suspect[exchange.partition] = None
        self.metrics.count("mismatches")

    def _forget_proofs(self, partition: int) -> None:
        """Nothing that was proven of this partition may be built on."""
        for member in self.certificates.others[partition]:
            self.certificates.withdraw(partition, member)
            self.certified.pop((partition, member), None)
            self._known.pop((partition, member), None)
