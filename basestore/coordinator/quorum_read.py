"""Quorum read: one read of one row, and the comparison of its replicas behind it.

    begin     ask as many replicas as the level requires, this node first if it holds the row: one
              for the record, the others for a digest
    held      once enough have replied, weigh them (`repair.read_repair`); fetch the winner's record
              if only digests name it
    applied   a write-back was taken as the winner: that replica confirms now
    superseded   a write-back met a better record: that is what the replica holds
    alarm     slower than usual: ask one more (Dean and Barroso, "The Tail at Scale", 2013); slower
              still: all; at the deadline ReadTimeout
    rejected, lost   ask another replica instead; moved   begin anew: the replicas are others

It reports when `required` replicas have confirmed the winner as their current record: those that are
behind are brought up to date first. So quorum reads never go back in time, records of failed writes
included (the write-back of Attiya, Bar-Noy and Dolev, "Sharing Memory Robustly", 1995). A session's
read asks on until the winner is as new as what the session has seen.

After the report the read may *linger*: the remaining replicas are asked for digests, and whoever is
behind is mended (read repair; "Dynamo", section 5). `mend` does only that, with nobody to report to.
A read reports once, and sends nothing to a client: whoever began it does.
"""

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet

from basestore.cluster.operations import Ack, Anew
from basestore.cluster.outbox import SMALL_BYTES
from basestore.consistency import Level, Quorum
from basestore.coordinator.context import Context
from basestore.coordinator.finding import PLAIN, Aim, Finding, timed_out, too_few, unreached
from basestore.errors import RequestFailed
from basestore.instant import Instant
from basestore.protocol.client import FINAL, PROVISIONAL
from basestore.protocol.replication import COPY, Apply, Held, HeldDigest, Read, Rejected, Settled, Superseded
from basestore.repair.digest_tree import due_of
from basestore.repair.read_repair import NOTHING, ReadPlan, plan, reaches
from basestore.repair.rule import Rule
from basestore.repair.version import Record
from basestore.rows import row_partition

WIDEN_S = 0.1
LINGER_S = 2.0
WRITE_BACKS_MAX = 64

Report = Callable[[Finding | RequestFailed, Instant], None]


def read(
    context: Context, row: bytes, rule: Rule, level: Level, deadline: float, report: Report, now: Instant,
    aim: Aim = PLAIN,
) -> None:  # fmt: skip
    """Begin a read of one row at a level, for a client, a scan, a first write or a late hint; Unavailable."""
    quorum = context.require(row_partition(row), level)
    QuorumRead(context, row, rule, quorum, aim, report).begin(deadline, now)


class QuorumRead(Anew):
    """One read of one row at its coordinator."""

    __slots__ = (
        "_aim", "_asked", "_begun_s", "_context", "_deadline", "_deadline_ms", "_diverged",
        "_fetched", "_heads", "_lossy", "_lost", "_quorum", "_reasons", "_records", "_repaired", "_repairs",
        "_report", "_row", "_rule", "_stable", "_stables", "_under_way", "_write_backs",
    )  # fmt: skip

    def __init__(
        self, context: Context, row: bytes, rule: Rule, quorum: Quorum, aim: Aim, report: Report
    ) -> None:
        super().__init__(len(row) + context.load.answer_bytes)
        self._context, self._report = context, report
        self._row, self._rule, self._aim = row, rule, aim
        self._repairs = "repairs_read_blocking"  # what they are counted as
        self._seat(quorum)

    def _seat(self, quorum: Quorum) -> None:
        """Nobody was asked yet, and these are to be."""
        self._quorum = quorum
        self._asked: dict[int, float] = {}  # when, by `Instant.monotonic`
        self._heads: dict[int, bytes] = {}
        self._records: dict[bytes, Record] = {}
        self._fetched: set[int] = set()
        self._reasons: dict[int, str] = {}  # of those among `_asked` that will not reply, or take it
        self._write_backs: dict[int, bytes] = {}
        self._under_way: dict[int, bytes] = {}
        self._stables: dict[int, int] = {}  # stable stamps, of those that told
        self._stable = 0  # the greatest that was told with what is held
        self._lossy = self._diverged = False
        self._lost = 0  # what was written up to this stamp may have been lost with a disk
        self._repaired: set[int] = set()

    def begin(self, deadline: float, now: Instant) -> None:
        """Ask; enough replicas are alive."""
        self._set_deadline(deadline, now)
        self._ask(0, now)
        if self.ids:
            wait_s = min(self._context.peers.usual_s, WIDEN_S)
            self._context.operations.alarm_at(self.ids[0], min(deadline, now.monotonic + wait_s))

    def mend(self, now: Instant) -> None:
        """Compare all replicas that are alive, with nobody to answer."""
        self._answered, self._repairs = True, "repairs_write"
        self._go_on(now)

    def go_on(
        self, asked: Mapping[int, float], whole: int, heads: Mapping[int, bytes], record: Record | None,
        deadline: float, now: Instant, *, answered: bool,
    ) -> None:  # fmt: skip
        """Go on from where a group was: whom it has asked and when, `whole` for the record, the others
        for its head; and what they hold, as far as they have said. Register it, then `consider`."""
        self._asked, self._heads = dict(asked), dict(heads)
        self._fetched.add(whole)
        if record is not None:
            self._records[record.head] = record
        self._set_deadline(deadline, now)
        self._begun_s = min(asked.values())
        if answered:
            self._answered, self._repairs = True, "repairs_read_background"

    def _set_deadline(self, deadline: float, now: Instant) -> None:
        self._begun_s = now.monotonic
        self._deadline = deadline
        self._deadline_ms = now.wall_ms + int((deadline - now.monotonic) * 1e3)

    # --- asking ------------------------------------------------------------------------------

    def _ask(self, count: int, now: Instant) -> int:
        """Ask `count` more replicas, or, at 0, as many as the level requires: the own one first, then the
        others in placement order. When there are none left to wait for, the read has failed. Returns how many
        were asked."""
        asked, peers, quorum = 0, self._context.peers, self._quorum
        fresh = [r for r in quorum.replicas if r not in self._asked and peers.alive[r]]
        fresh.sort(key=peers.distance.__getitem__)
        fresh, count = quorum.order(fresh, self._asked, self._reasons, count)
        for replica in fresh:
            if asked >= count:
                break
            # One record is enough; of the others the head shows whether they differ.
            whole = not self._answered and not self._fetched and not self._records
            self._asked[replica] = now.monotonic
            if self._ask_one(replica, digest=not whole):
                asked += 1
            else:
                self._reasons[replica] = "too much waits for it"
        # Also where so many were asked: in one of two sets there may be nobody left.
        if not self._answered and not quorum.met(self._asked, self._reasons):
            self._fail(now)
        return asked

    def _ask_one(self, replica: int, *, digest: bool) -> bool:
        request = self._context.operations.issue(self)
        if not digest:
            self._fetched.add(replica)
        message = Read(request, self._row, self._deadline_ms, False, digest, self._aim.stable)
        return self._context.peers.send(replica, message, SMALL_BYTES + len(self._row))

    def _fail(self, now: Instant) -> None:
        self._end(too_few(self._quorum, self._reasons, self._context.peers.all), now)

    # --- answers -----------------------------------------------------------------------------

    def held(self, member: int, answer: Held, now: Instant) -> None:
        if answer.stable:
            self._note_stable(member, answer.stable)
        if answer.lost:
            self._note_lost(answer)
        if answer.record:
            record = Record(answer.record)
            self._records[record.head] = record
            self._learn(member, record.head, now)
        else:
            self._learn(member, NOTHING, now)

    def held_digest(self, member: int, answer: HeldDigest, now: Instant) -> None:
        if answer.stable:
            self._note_stable(member, answer.stable)
        if answer.lost:
            self._note_lost(answer)
        self._learn(member, answer.head, now)

    def _note_stable(self, member: int, stable: int) -> None:
        self._stables[member] = stable
        self._stable = max(self._stable, stable)

    def _note_lost(self, answer: Held | HeldDigest) -> None:
        self._lossy |= answer.lossy
        self._lost = max(self._lost, answer.lost)

    def _due(self, head: bytes) -> int:
        """When the record with this head may be purged; that of one that expires must be known."""
        record = self._records.get(head)
        return due_of(head, 0 if record is None else record.expires_ms) if head else 0

    def _learn(self, member: int, head: bytes, now: Instant) -> None:
        """A replica is known to hold this; what was known before is never unlearned."""
        if member not in self._asked:
            return  # nobody asked it, and it may hold no such row
        known = self._heads.get(member)
        if known is None:
            self._time(member, now)
        if head:
            self._context.stamper.observe(head, now)
        # Answers overtake each other: one that loses to what is known already is the older word.
        if not known or (head and self._rule.beats(head, known)):
            self._heads[member] = head
        self.consider(now)

    def _time(self, member: int, now: Instant) -> None:
        """The first answer of a replica: how long it took."""
        context = self._context
        context.peers.all[member].latency.add(now.monotonic - self._asked[member])
        if not self._answered and (met := self._quorum.met_with(self._heads, member)):
            context.metrics.reached("get", met, now.monotonic - self._begun_s)

    def consider(self, now: Instant) -> None:
        """Answer if the winner is confirmed; otherwise write it back to those that are behind."""
        # Too late: a replica may have forgotten what it said, and recovered (`anti_entropy/recovery.py`).
        if now.monotonic >= self._deadline:
            return
        # Before the report: as many as the level requires. After it: all that will still say anything.
        needed = len(self._asked) - len(self._reasons)
        heads, answered, met = self._heads, self._answered, self._quorum.met
        if len(heads) < needed if answered else not met(heads):
            return
        weighed = plan(self._rule, heads, self._stables, self._due)
        if not answered and not self._reaches(weighed.winner):
            self._reach_further(now)
        elif weighed.confirmed < needed if answered else not met(heads, weighed.stale):
            self._diverged = True
            self._repair(weighed, now)
        elif not self._answered:
            self._answer(weighed, now)
        elif not self._under_way:
            self._context.operations.drop(self)

    def _reaches(self, winner: bytes) -> bool:
        """Whether what was found is as new as what the session has seen; nothing is, where all up to
        that is stable: it was purged. What is older than the loss of a disk may be lost as well."""
        floor = self._aim.floor
        if winner or not floor:
            return reaches(self._rule, winner, floor)
        return self._lost < int.from_bytes(floor[:8]) <= max(self._stables.values(), default=0)

    def _reach_further(self, now: Instant) -> None:
        """What has replied is older than what the session has seen: ask the others; then there is
        nobody left who could have it."""
        self._diverged = True
        self._aim = self._aim._replace(compare=self._aim.repair)
        self._ask(len(self._quorum.replicas), now)
        if self.ids and self._asked.keys() - self._reasons.keys() <= self._heads.keys():
            stable = max(self._stables.values(), default=0)
            self._end(unreached(self._aim.floor, self._quorum, self._heads, stable), now)

    def _answer(self, weighed: ReadPlan, now: Instant) -> None:
        record = self._records.get(weighed.winner)
        if record is None and weighed.winner:
            self._fetch(weighed.winner)
            return
        diverged = self._diverged or weighed.diverged
        stable, final = self._stable, 0
        if self._rule.final_when_stable and record is not None:
            final = FINAL if record.stamp <= stable and not self._lossy else PROVISIONAL
        finding = Finding(
            record, *self._quorum.told(self._heads), diverged, len(self._repaired), stable, final,
            self._lossy,
        )  # fmt: skip
        # Before the comparison: from now on others are asked for digests only, and nobody is failed.
        self._answered, self._repairs = True, "repairs_read_background"
        if self._aim.compare or (weighed.diverged and self._aim.repair):
            self._go_on(now)
        else:
            self._context.operations.drop(self)
        self._report(finding, now)

    def _fetch(self, head: bytes) -> None:
        """Ask one that holds this record for all of it."""
        peers = self._context.peers
        holders = [r for r, held in self._heads.items() if held == head and r not in self._fetched]
        for replica in sorted(holders, key=peers.distance.__getitem__):
            if self._ask_one(replica, digest=False):
                return

    # --- mending -----------------------------------------------------------------------------

    def _go_on(self, now: Instant) -> None:
        """Compare what has not replied yet, and mend it; a request in need of room ends this."""
        operations = self._context.operations
        self._set_deadline(now.monotonic + LINGER_S, now)
        self._ask(len(self._quorum.replicas), now)
        if self.ids:
            operations.linger(self)
            operations.alarm_at(self.ids[0], self._deadline)
            self.consider(now)

    def _repair(self, weighed: ReadPlan, now: Instant) -> None:
        """Write the winner back to those that are behind; replicas that all hold nothing agree."""
        context = self._context
        winner = self._records.get(weighed.winner)
        if winner is None:
            self._fetch(weighed.winner)
            return
        for replica in weighed.stale:
            if replica in self._reasons or self._under_way.get(replica) == winner.head:
                continue
            if len(self._write_backs) >= WRITE_BACKS_MAX:
                return  # the row changes faster than it can be read: the deadline ends this
            request = context.operations.issue(self)
            self._write_backs[request] = winner.head
            self._under_way[replica] = winner.head
            message = Apply(request, self._row, winner.blob, COPY, self._deadline_ms)
            context.peers.send(replica, message, len(self._row) + len(winner.blob) + SMALL_BYTES)

    def applied(self, member: int, answer: Ack, now: Instant) -> None:
        head = self._write_backs.get(answer)
        if head is not None:
            if self._under_way.get(member) == head:
                del self._under_way[member]
            self._repaired.add(member)
            self._context.metrics.count(self._repairs)
            # What was written back need not be the winner any more: then this replica is behind again, and
            # confirms only once the better record is written back.
            self._learn(member, head, now)

    def superseded(self, member: int, answer: Superseded, now: Instant) -> None:
        # It confirms nothing: the better record joins those that are weighed, and must be confirmed itself.
        self._under_way.pop(member, None)
        self._learn(member, answer.head, now)

    def settled(self, member: int, answer: Settled, now: Instant) -> None:
        """A write-back came too late: what the replica does not hold any more, it has purged."""
        self._under_way.pop(member, None)
        self._stables[member] = answer.stable
        head = self._write_backs.get(answer.id, NOTHING)
        # Only a replica that holds nothing, and is stable beyond the record, has surely purged it.
        if self._heads.get(member) == NOTHING and 0 < self._due(head) <= answer.stable:
            self.consider(now)
        else:
            self._miss(member, "it holds that this version is gone", now)

    # --- what goes wrong, and what changes ---------------------------------------------------

    def rejected(self, member: int, answer: Rejected, now: Instant) -> None:
        self._miss(member, answer.reason, now)

    def lost(self, member: int, now: Instant) -> None:
        if member in self._asked:
            self._fetched.discard(member)
            if member not in self._heads or member in self._under_way:
                self._miss(member, "the link was lost", now)
            else:  # it has said what it holds, but may have been asked for the record
                self.consider(now)

    def moved(self, partitions: AbstractSet[int], now: Instant) -> None:
        if (partition := row_partition(self._row)) in partitions:
            self._context.operations.drop(self)
            if not self._answered:
                self._seat(self._context.placement.quorums[partition][self._quorum.level])
                self.begin(self._deadline, now)

    def _miss(self, member: int, reason: str, now: Instant) -> None:
        """A replica will not reply, or not take what is written back."""
        self._under_way.pop(member, None)
        self._reasons[member] = reason
        if not self._answered:
            self._ask(1, now)
        if self.ids:
            self.consider(now)

    def alarm(self, now: Instant) -> None:
        """Slow: ask one more replica, then the remaining ones too. At the deadline: give up."""
        operations = self._context.operations
        if now.monotonic >= self._deadline:
            if self._answered:
                operations.drop(self)
            else:
                self._time_out(now)
        elif not self._answered:
            self._fetched -= self._reasons.keys()  # who refused may not do so again
            widen_s = self._begun_s + WIDEN_S
            if now.monotonic < widen_s:
                operations.alarm_at(self.ids[0], min(widen_s, self._deadline))
                if not self._context.load.brownout:
                    self._context.metrics.count("speculative_retries", self._ask(1, now))
            else:
                operations.alarm_at(self.ids[0], self._deadline)
                self._ask(len(self._quorum.replicas), now)
            if self.ids:
                self.consider(now)

    def relieve(self, now: Instant) -> None:
        self._context.operations.drop(self)

    def _time_out(self, now: Instant) -> None:
        self._end(timed_out(self._quorum, self._heads), now)

    def _end(self, result: RequestFailed, now: Instant) -> None:
        self._context.operations.drop(self)
        self._report(result, now)
