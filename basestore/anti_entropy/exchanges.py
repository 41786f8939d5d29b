"""Exchanges: those that are open at this node, what is said in them, and what comes of each.

Hands messages to the exchange that they belong to, resumes the stories (`exchange.py`) slice by slice as
far as the pace allows, ends those that have stalled, and keeps the certificates they end with. It does not
choose what to compare (`scheduler.py`).

On one node only one exchange of a partition is open at a time. Of two that open towards each other, the one
of the lower member goes on; so does it where three open in a ring, for an exchange that has not been
answered yet gives way to one that a lower member opens. Who cannot take part just now says Abort, "busy".
Where nothing is expected to differ, many partitions are compared at once, and none is open (`roots.py`).

Exchanges of partitions whose seats change end in the step that begins to use the new ones (`end_of`): two who
stand at different epochs have other seals, and prove nothing to each other.
"""

from collections import ChainMap
from collections.abc import Callable, Collection, Container
from typing import Any

from basestore.anti_entropy.comparison import Unlistable
from basestore.anti_entropy.dialogue import Broken, Dialogue, Mismatch, RolledBack
from basestore.anti_entropy.exchange import Exchange, LocalSide, Outcome
from basestore.anti_entropy.roots import RootComparison
from basestore.cluster.outbox import SMALL_BYTES, Outbox
from basestore.cluster.peers import Peers
from basestore.instant import Instant
from basestore.protocol.anti_entropy import (
    Abort,
    Ask,
    Certify,
    Entries,
    Going,
    Listing,
    Same,
    Sums,
    Syn,
    Taken,
    Want,
)
from basestore.protocol.limits import ProtocolError
from basestore.repair.runs import Runs, runs_of
from basestore.replica.identity import State

OPEN_MAX = 256
SILENCE_S_MAX = 15.0
GOING_S = 3.0
KNOWN_MAX = 1_000_000
NUMBER_MAX = 0xFFFF  # of an exchange: unique on its link, in few bytes


class Exchanges:
    """The open exchanges of one node, by member and number, and by partition. `partitions`: those of which
    one is open, or the root was told and an answer is awaited."""

    def __init__(self, local: LocalSide, peers: Peers, first_number: int) -> None:
        self._local = local
        self._certificates = local.certificates
        self._metrics = local.metrics
        self._peers = peers
        self._next_number = first_number & NUMBER_MAX & ~1
        self._open: dict[tuple[int, int], Exchange] = {}
        self._by_partition: dict[int, Exchange] = {}
        self._proof_of_loss: int | None = None
        self.roots = RootComparison(local, peers, self.may_open, first_number)
        self.partitions: Container[int] = ChainMap[int, Any](self._by_partition, self.roots.named)
        self.handlers: dict[type, Callable[[int, Outbox, Any, Instant], None]] = {
            Syn: self._hear_syn,
            Abort: self._hear_abort,
            Going: self._hear_going,
            **dict.fromkeys((Same, Sums, Ask, Listing, Want, Entries, Taken, Certify), self._hear),
            **self.roots.handlers,
        }  # by the messages of an exchange

    @property
    def count(self) -> int:
        """How many are open."""
        return len(self._open)

    @property
    def ready(self) -> bool:
        """Whether this store may compare what it holds: it is whole, or knows that it has forgotten."""
        identity = self._local.identity
        return identity.counts or identity.state is State.FORGETFUL

    # --- opening -----------------------------------------------------------------------------

    def may_open(self, partition: int) -> bool:
        """Whether an exchange of this partition could be opened now."""
        return (
            partition not in self._by_partition
            and not self._local.maintenance.bars(partition)
            and not self._local.group_commit.full
            and len(self._open) < OPEN_MAX
        )

    def open(self, member: int, partition: int, now: Instant) -> None:
        """Open an exchange. The two ends of a link count with even and with odd numbers."""
        self._next_number = (self._next_number + 2) & NUMBER_MAX
        # One bit says who opened it, so the two sides never give out the same number.
        number = self._next_number | self._peers.precedes(member)
        if (member, number) not in self._open:  # else it has been open for very long: another time
            self._begin(number, member, partition, self._peers.all[member].outbox, now)

    def _begin(
        self, number: int, member: int, partition: int, outbox: Outbox, now: Instant, syn: Syn | None = None
    ) -> None:
        dialogue = Dialogue(number, outbox, self._local.group_commit, self._metrics)
        if partition in self._certificates.seating.moving:
            # Who has come lately was told of no losses of it, and must have heard of them before any proof.
            self._local.losses.tell(partition, outbox)
        known = self._certificates.known_to(partition, member)
        exchange = Exchange(self._local, dialogue, member, partition, known, now, syn)
        self._open[member, number] = self._by_partition[partition] = exchange

    # --- messages ----------------------------------------------------------------------------

    def _hear_syn(self, member: int, outbox: Outbox, syn: Syn, now: Instant) -> None:
        """A peer opens an exchange; it is told when this node cannot take part just now."""
        if member not in self._certificates.others.get(syn.partition, ()):
            if not (self._certificates.seating.known or self._peers.unknowing()):
                raise ProtocolError("an exchange of a partition that is not held by both was opened")
            outbox.put(Abort(syn.exchange, "busy"))  # one of the two is at an earlier epoch
            return
        if (member, syn.exchange) in self._open:
            return
        mine = self._by_partition.get(syn.partition)
        # Were all to refuse while they have one open themselves, three could wait for each other in a ring;
        # so an own one gives way to a lower member's, unless it has got somewhere.
        if mine is not None and mine.opened_here and self._peers.precedes(member):
            if mine.member == member:
                self._end(mine)
                mine = None
            elif mine.dialogue.silent:
                self._end(mine, "a lower member has come first")
                mine = None
        if mine is not None or not self.ready or not self.may_open(syn.partition):
            outbox.put(Abort(syn.exchange, "busy"))
        else:
            self._begin(syn.exchange, member, syn.partition, outbox, now, syn)

    def _hear_going(self, member: int, outbox: Outbox, message: Going, now: Instant) -> None:
        """The other side is at work."""
        exchange = self._open.get((member, message.exchange))
        if exchange is not None:
            exchange.heard_s = now.monotonic
        else:
            outbox.put(Abort(message.exchange, "it has ended"))

    def _hear(self, member: int, outbox: Outbox, message: Any, now: Instant) -> None:
        """A message of an exchange under way. Who goes on with one that has ended is told so; a last
        Certify needs no answer."""
        exchange = self._open.get((member, message.exchange))
        if exchange is None:
            if not isinstance(message, Certify | Taken):
                outbox.put(Abort(message.exchange, "it has ended"))
            return
        exchange.heard_s = now.monotonic
        try:
            exchange.dialogue.hear(message, message.number)
        except Broken as broken:
            self._end(exchange, str(broken))

    def _hear_abort(self, member: int, outbox: Outbox, message: Abort, now: Instant) -> None:
        """The other side has ended an exchange."""
        exchange = self._open.get((member, message.exchange))
        if exchange is not None:
            self._end(exchange)

    # --- running the stories -----------------------------------------------------------------

    def tick(self, now: Instant) -> None:
        """End those of which the other side has said nothing for long; say where this side is still at
        work."""
        self.roots.tick(now)
        for exchange in list(self._open.values()):
            if not exchange.waiting and not self._local.group_commit.stalled:
                # It is this side that keeps the other waiting.
                exchange.heard_s = now.monotonic
                if now.monotonic - exchange.told_s > GOING_S:
                    exchange.told_s = now.monotonic
                    exchange.dialogue.outbox.put(Going(exchange.dialogue.number))
            elif now.monotonic - exchange.heard_s > SILENCE_S_MAX:
                # Or this side has, on a disk that takes nothing: it must not bar the partition to others.
                self._end(exchange, "one side has fallen silent")

    def run(self, now: Instant) -> bool:
        """Let exchanges go on, as far as this step's rows last. Called while nothing is staged, for they look
        at what is stored. Whether any could."""
        moved = not self.roots.idle and self._local.pace.rows_left > 0
        for member, partition in self.roots.run(now) if moved else ():
            if self.may_open(partition):
                self.open(member, partition, now)
        for exchange in list(self._open.values()) if self._open else ():
            if self._local.pace.rows_left > 0 and exchange.runnable:
                self._resume(exchange, now)
                moved = True
        return moved

    def _resume(self, exchange: Exchange, now: Instant) -> None:
        """Let an exchange go on until it waits, or has worked for a slice."""
        exchange.now = now
        if exchange.dialogue.outbox.closed:
            self._end(exchange)
        elif (
            exchange.completeness.among_forgetful
            and self._local.identity.recovered
            and exchange.partition not in self._local.replica.summaries.unfit
        ):
            # Nobody would find out any more what it takes now, and others have purged.
            self._end(exchange, "this store is whole by now")
        else:
            self._advance(exchange, now)
            comparison = exchange.comparison
            # At once, for this exchange may end in any way, and what it took is stored.
            if comparison is not None and comparison.taken and exchange.completeness.among_forgetful:
                self._recover_anew(exchange)

    def _advance(self, exchange: Exchange, now: Instant) -> None:
        """The next step of its story, and what comes of it if that was the last."""
        try:
            worked = next(exchange.story)
        except StopIteration as end:
            self._conclude(exchange, end.value)
        except Mismatch:
            self._distrust(exchange)
        except Unlistable as unlistable:
            self._end(exchange, str(unlistable))
            # Without a certificate the next exchange compares all that is held.
            self._certificates.withdraw(exchange.partition, exchange.member)
        except RolledBack as rolled_back:
            self._proof_of_loss = exchange.member
            self._end(exchange, str(rolled_back))
        # ValueError: a message of the right form may hold what cannot be decoded.
        except (Broken, ValueError) as broken:
            self._end(exchange, str(broken))
        else:
            exchange.waiting = worked is None
            self._local.pace.spend(worked or 1)

    # --- ends --------------------------------------------------------------------------------

    def lost(self, member: int) -> None:
        """The link to a member is gone, and so are the exchanges with it."""
        self.roots.lost(member)
        for exchange in list(self._open.values()):
            if exchange.member == member:
                self._end(exchange)

    def end_of(self, partitions: Collection[int], reason: str) -> None:
        """Whatever is under way of these partitions comes to nothing."""
        self.roots.end_of(partitions)
        for partition in partitions:
            if exchange := self._by_partition.get(partition):
                self._end(exchange, reason)

    def take_proof_of_loss(self) -> int | None:
        """A member that has a certificate of what this store has lost, told once: the node is to start over
        under another store."""
        member, self._proof_of_loss = self._proof_of_loss, None
        return member

    def _conclude(self, exchange: Exchange, outcome: Outcome) -> None:
        """Both sides hold the same; durably here once the batch is that is open."""
        partition, member = exchange.partition, exchange.member
        self._close(exchange)
        self._certificates.certify(partition, member, outcome.certificate)
        taken: Runs = {}
        if exchange.comparison is not None:
            taken = runs_of({0: exchange.comparison.taken[-KNOWN_MAX:]})
        whole = exchange.completeness.peer_whole
        self._certificates.remember(
            partition, member, exchange.begun_s, peer_whole=whole, end=outcome.end, taken=taken
        )
        self._metrics.count(f"exchanges_{outcome.kind}")
        in_doubt = not self._certificates.counts(partition)
        if in_doubt and self._certificates.complete(partition, outcome.complete):
            self._compare_anew(exchange)

    def _compare_anew(self, exchange: Exchange) -> None:
        """A forgetful store has come to be complete up to a higher stamp. What it has dropped for that may
        still be held by others that were not whole: what was proven with these is void."""
        for member in self._third(exchange):
            last = self._certificates.last_exchange(exchange.partition, member)
            if last is not None and not last.peer_whole:
                self._certificates.withdraw(exchange.partition, member)

    def _recover_anew(self, exchange: Exchange) -> None:
        """A forgetful store has taken what another had: it may be what others have purged. Only a comparison
        of all with those that are whole, or will be, tells: what was proven with all others is void."""
        for member in self._third(exchange):
            self._certificates.withdraw(exchange.partition, member)

    def _third(self, exchange: Exchange) -> list[int]:
        """The replicas of its partition that have no part in it."""
        return [each for each in self._certificates.others[exchange.partition] if each != exchange.member]

    def _distrust(self, exchange: Exchange) -> None:
        """Virtual roots differed: trust nothing that was proven with this member, and look at the disk. A
        store that was not whole may have dropped since what both had held, as it learned that it was purged:
        then it is enough to compare all."""
        self._end(exchange)
        self._certificates.withdraw(exchange.partition, exchange.member)
        if exchange.based and not exchange.completeness.among_whole:
            return
        self._local.maintenance.suspect(exchange.partition)
        self._metrics.count("mismatches")

    def _end(self, exchange: Exchange, reason: str = "") -> None:
        """It ends without a result; with a reason, the other side is told."""
        exchange.dialogue.end()
        self._close(exchange)
        self._metrics.count("exchanges_aborted")
        if reason:
            exchange.dialogue.outbox.put(Abort(exchange.dialogue.number, reason[:200]), SMALL_BYTES + 200)

    def _close(self, exchange: Exchange) -> None:
        exchange.end()
        self._open.pop((exchange.member, exchange.dialogue.number), None)
        if self._by_partition.get(exchange.partition) is exchange:
            del self._by_partition[exchange.partition]
