"""Quorum write: one set or delete, from its stamp until every replica has it or has a hint.

The write is sent to all N replicas of its row, and W of them must confirm (Gifford, "Weighted Voting
for Replicated Data", 1979). For a replica that does not confirm, this node keeps a hint: the record,
to be delivered later (hinted handoff; DeCandia et al., "Dynamo", 2007, section 4.6). By what happens:

    begin        stamped, or parked until it can be (`stamper.py`); one Apply to every replica; a hint for
                 each that is not alive
    applied, superseded, rejected, kept
                 the tally counts, and the verdict is reported as soon as it stands
    lost         a replica is not alive any more: a hint is asked for
    relieve      room is needed: what has not answered gets a hint, and the write ends
    moved        its replicas are others from now on: it is sent anew, under the same version
    alarm        the deadline (at ANY also half-way): what has not answered gets a hint, and
                 WriteTimeout is reported if nothing was
    read_first   before `begin`, under a rule that reads first: LOST to a record that is found; and where a
                 write is repeated of which only the proposal is known: its version, if that is found

A write at QUORUM, N = 3, whose third replica is slow:

    Apply -> n1 n2 n3      applied: n1 n2   report(STORED, 2 of 2, n3 pending), the write lingers
    Applied <- n3          nobody waits any more: it is dropped. Or, if n3 stays silent:
    alarm                  Keep -> n1 (itself); Kept: a hint is durable, it is dropped

Under which version an earlier attempt is repeated `attempts.py` says. A write reports once, and sends
nothing to a client: whoever began it does.
"""

from collections.abc import Set as AbstractSet
from contextlib import suppress
from functools import partial

from basestore.cluster.operations import OVERTAKEN, Ack, Anew
from basestore.cluster.outbox import SMALL_BYTES
from basestore.consistency import (
    APPLIED,
    FAILED,
    HINTED,
    PENDING,
    SUPERSEDED,
    Level,
    Quorum,
    ReplicaState,
    Tally,
    Verdict,
)
from basestore.coordinator import attempts
from basestore.coordinator.attempts import STAMPED_BYTES, Begin, Content, Decision, Lost, Repeated, Report
from basestore.coordinator.context import Context
from basestore.coordinator.deferred_repair import repair_soon
from basestore.coordinator.finding import FIRST, Finding
from basestore.coordinator.quorum_read import read
from basestore.errors import ClockSkew, InvalidRequest, RequestFailed
from basestore.instant import Instant
from basestore.protocol.client import OUTCOME_LOST, OUTCOME_STORED, OUTCOME_SUPERSEDED
from basestore.protocol.replication import DIRECT, Apply, Keep, Kept, Rejected, Superseded
from basestore.repair.clock import NotYet
from basestore.repair.version import NO_PROPOSAL, VERSION_BYTES, Identity, Record
from basestore.rows import row_partition

ANY, ONE, QUORUM = Level.ANY, Level.ONE, Level.QUORUM  # bound once: to find one costs as much as a check
OPEN, STORED, FAILURE = Verdict.OPEN, Verdict.STORED, Verdict.FAILED


def write(
    context: Context, content: Content, level: Level, deadline: float, report: Report, now: Instant,
    repeated: Repeated | None = None, *, reads_first: bool = False,
) -> None:  # fmt: skip
    """Begin a write, for a client or for a late hint; Unavailable. `reads_first`: at QUORUM or ALL it is
    sent only where a read finds nothing."""
    quorum = context.require(row_partition(content.row), level)
    begun = QuorumWrite(context, content, quorum, deadline, report, now.monotonic)
    record = repeated.record if repeated else None
    if (reads_first and level >= QUORUM) or (repeated and not record and not content.rule.immutable):
        begun.read_first(repeated, now)
    else:
        begun.begin(record, now, again=repeated is not None)


class QuorumWrite(Anew):
    """One write at its coordinator."""

    __slots__ = (
        "_again", "_begun_s", "_content", "_context", "_deadline", "_hints_asked", "_lasting",
        "_late", "_parted", "_reasons", "_record", "_repeats", "_replicas", "_report", "_rule",
        "_sent", "_stable", "_tally", "_untaken", "_winner",
    )  # fmt: skip

    def __init__(
        self, context: Context, content: Content, quorum: Quorum, deadline: float, report: Report,
        begun_s: float,
    ) -> None:  # fmt: skip
        super().__init__(len(content.row) + len(content.value))
        self._context = context
        self._content = content
        self._rule = content.rule
        self._begun_s = begun_s
        self._deadline = deadline
        self._report = report
        self._again = self._sent = False
        self._stable = 0  # a replica's stable stamp, if it was told
        self._seat(quorum)

    def _seat(self, quorum: Quorum) -> None:
        """Nobody has said anything yet, and these are to."""
        self._replicas = quorum.replicas
        self._lasting = quorum.lasting  # less those that leave, or come
        self._tally = quorum.tally()
        self._parted: tuple[int, ...] = ()  # replicas whose link was lost: they may be on other stores by now
        self._hints_asked = 0
        self._untaken: list[int] = []  # for whom hints were asked for before a replica was known to have it
        self._late = 0  # replicas that applied it after the deadline
        self._winner = b""
        self._reasons: dict[str, str] | None = None

    def read_first(self, repeated: Repeated | None, now: Instant) -> None:
        """Look what the row holds before it is sent, or not."""

        def after(result: Finding | RequestFailed, now: Instant) -> None:
            if isinstance(result, RequestFailed):
                self._refuse(attempts.not_begun(self._content, result), now)
            else:
                self._stable = 0 if result.lossy else result.stable
                self._found(result.record, repeated, now)

        operations, level = self._context.operations, self._tally.level
        operations.issue(self)  # it counts, and holds its value, while it reads
        try:
            row, deadline = self._content.row, self._deadline
            read(self._context, row, self._rule, max(level, ONE), deadline, after, now, FIRST)
        except RequestFailed:
            operations.drop(self)
            raise

    def _found(self, found: Record | None, repeated: Repeated | None, now: Instant) -> None:
        """Send it, or end it, by what the row holds."""
        weighed = attempts.weigh(self._content, self._context.digester, repeated, found)
        if isinstance(weighed, Begin):
            self.begin(weighed.record, now, again=repeated is not None)
        elif isinstance(weighed, Lost):
            self._answer(OUTCOME_LOST, weighed.stamped, weighed.winner, now)
            self._context.operations.drop(self)
        else:
            self._refuse(weighed, now)

    def begin(self, repeated: Record | None, now: Instant, *, again: bool = False) -> None:
        """Stamp it, unless the record of an earlier attempt is known, and send it to every replica. `again`:
        there was an attempt."""
        context, content = self._context, self._content
        try:
            # Under a new stamp a repeated write could win twice, the second time over a later write.
            record = repeated or context.stamper.record(context.digester, content, now)
        except NotYet:
            context.stamper.park(self, partial(self.begin, None, again=again))
            context.operations.alarm_at(context.operations.issue(self), self._deadline)
            return
        except ClockSkew as error:
            self._refuse(error, now)
            return
        self._record, self._sent, self._repeats, self._again = record, True, repeated is not None, again
        self._send(now)

    def _send(self, now: Instant) -> None:
        context, row, record = self._context, self._content.row, self._record
        request = context.operations.issue(self)
        left_s = self._deadline - now.monotonic
        # The deadline travels as wall-clock time, for a monotonic clock means nothing to others; whoever
        # receives it allows for how far the two clocks are apart.
        message = Apply(request, row, record.blob, DIRECT, now.wall_ms + int(left_s * 1e3))
        size = len(row) + len(record.blob) + SMALL_BYTES
        members, alive = context.peers.all, context.peers.alive
        absent = [e for e in self._replicas if not (alive[e] and members[e].outbox.put(message, size))]
        for replica in absent:  # behind this node's own copy, so that the hint names its store
            self._hint(replica, "not alive")
        alarm_s = now.monotonic + left_s / 2 if self._tally.level is ANY else self._deadline
        context.operations.alarm_at(request, alarm_s)

    def go_on(self, record: Record, tally: Tally, *, answered: bool) -> None:
        """Go on from where a group was that has sent it to all; the caller registers it."""
        self._record, self._sent, self._repeats, self._answered = record, True, False, answered
        self._tally = tally.copy()

    def _hint(self, replica: int, reason: str) -> None:
        """Ask this node to keep a hint for a replica that does not confirm."""
        context = self._context
        self._explain(replica, reason)
        # Of a write at ANY the hint may be all that there is. So it may of one that repeats an earlier
        # attempt: a replica can have taken that one, and lost it since. A replica that applied settles it.
        lasts, me = self._tally.lasts, context.peers.me
        if replica not in context.placement.compared[row_partition(self._content.row)]:  # it has left since
            context.peers.send(me, Kept(self.ids[0], context.peers.number_of[replica], False))
            self._hints_asked += 1
            return
        only_copy = (self._tally.level is ANY or self._repeats) and not lasts
        if only_copy or not (lasts or me in self._lasting):
            self._untaken.append(replica)
        self._keep(replica, only_copy)

    def _keep(self, replica: int, only_copy: bool, taker: int | None = None) -> None:
        states = zip(self._replicas, self._tally.states, strict=True)
        peers, content, blob, parted = self._context.peers, self._content, self._record.blob, self._parted
        number_of, lasting = peers.number_of, self._lasting
        took = (member for member, state in states if state is APPLIED or member == taker)
        # One that leaves may have taken it after it was last compared with: its word would be of no copy.
        takers = [number_of[member] for member in took if member in lasting and member not in parted]
        peers.send(peers.me, Keep(self.ids[0], number_of[replica], content.row, blob, only_copy, takers))
        self._hints_asked += 1

    def _explain(self, replica: int, reason: str) -> None:
        """Keep the first reason why a replica did not confirm."""
        if self._reasons is None:
            self._reasons = {}
        self._reasons.setdefault(self._context.peers.all[replica].name, reason)

    def _copies_exist(self, taker: int) -> None:
        """A replica has taken it: hints that were kept as the only copies, or without knowing of any,
        are copies from now on."""
        hinted, self._untaken = self._untaken, []
        for replica in hinted:
            self._keep(replica, False, taker)

    def applied(self, member: int, answer: Ack, now: Instant) -> None:
        # Before it counts, for that may end the write, and a hint is asked for under an id of it.
        if self._untaken and self._tally.lasts_with(member):
            self._copies_exist(member)
        self._late += now.monotonic >= self._deadline
        self._note(member, APPLIED, now)

    def superseded(self, member: int, answer: Superseded, now: Instant) -> None:
        head = answer.head
        if not self._winner or self._rule.beats(head, self._winner):
            self._winner = head
        # Or the next writes of this node would be beaten by the same record.
        self._context.stamper.observe(head, now)
        self._note(member, SUPERSEDED, now)

    def rejected(self, member: int, answer: Rejected, now: Instant) -> None:
        """A hint is asked for before the refusal counts: at ANY it may decide, and a write whose last
        replica refuses ends with it."""
        self._explain(member, answer.reason)
        # A refusal that does not pass is no outage. What others have taken all the same anti-entropy brings.
        if answer.passing:
            self._hint(member, answer.reason)
        self._note(member, FAILED, now)

    def kept(self, member: int, answer: Kept, now: Instant) -> None:
        # First: while hints are asked for, a write at ANY has not failed.
        peers = self._context.peers
        peers.check_known((answer.member,))
        self._hints_asked -= 1
        self._note(peers.index_of.get(answer.member, -1), HINTED if answer.stored else FAILED, now)

    def lost(self, member: int, now: Instant) -> None:
        # What reads first has no record yet that a hint could keep.
        if self._sent and member in self._replicas:
            self._parted += (member,)
            if self._state(member) == PENDING:
                self._hint(member, "the link was lost")

    def moved(self, partitions: AbstractSet[int], now: Instant) -> None:
        partition = row_partition(self._content.row)
        if partition not in partitions:
            return
        quorum = self._context.placement.quorums[partition][self._tally.level]
        if self._answered:  # those that stay have it with what is proven of them, or by a hint
            self._lasting = quorum.lasting
            self._hint_pending(OVERTAKEN)
            return
        self._seat(quorum)
        if self._sent:
            self._context.operations.drop(self)
            self._repeats = True  # those that had taken it may have lost it since
            self._send(now)

    def alarm(self, now: Instant) -> None:
        """The deadline; at ANY half-way, so that hints are durable before it."""
        if not self._sent:  # it is parked, for what reads first asks for no alarm
            self._refuse(self._context.stamper.timed_out(self, now), now)
            return
        self._hint_pending("no answer in time")
        if not self._answered:
            if now.monotonic < self._deadline:
                self._context.operations.alarm_at(self.ids[0], self._deadline)
                return
            # The alarm sounds a little after the deadline: what was applied in between was too late.
            told = self._tally.told_less(self._late)
            self._fail(attempts.timed_out(told, self._identity(), moving=self._tally.moving), now)
        self._context.operations.drop(self)

    def closing(self, now: Instant) -> None:
        if self._sent:
            self._hint_pending("its coordinator stops")

    def relieve(self, now: Instant) -> None:
        """A replica that is slower than the others does not hold up what comes after: it gets a hint,
        and when that is durable this write ends."""
        self._hint_pending("it is slow")

    def _hint_pending(self, reason: str) -> None:
        for replica in self._replicas:
            if self._state(replica) == PENDING:
                self._hint(replica, reason)

    def _state(self, replica: int) -> ReplicaState:
        return self._tally.states[self._replicas.index(replica)]

    def _note(self, replica: int, state: ReplicaState, now: Instant) -> None:
        try:
            place = self._replicas.index(replica)
        except ValueError:
            return  # it holds no such row, and has no say
        if self._tally.record(place, state):
            if state is APPLIED:
                operation = "delete" if self._content.tombstone else "set"
                self._context.metrics.reached(operation, self._tally.met, now.monotonic - self._begun_s)
            self._judge(now)
        # A hint that was not kept is nothing new to the tally, but a failure at ANY may have waited for it.
        elif state is FAILED:
            self._judge(now)

    def _judge(self, now: Instant) -> None:
        """Answer if the verdict stands by now; end when nothing more will come. After the deadline
        there is no verdict: a replica may have forgotten what it said, and recovered."""
        tally = self._tally
        if not self._answered and now.monotonic < self._deadline:
            # At ANY a hint that is not durable yet may still decide, so a failure waits for it.
            verdict = tally.verdict
            if verdict is STORED:
                self._answer(OUTCOME_STORED, self._record.blob[:STAMPED_BYTES], b"", now)
            elif verdict is FAILURE:
                if not (self._tally.level is ANY and self._hints_asked):
                    reasons = self._reasons or {}
                    self._fail(attempts.refused(tally.told, reasons, self._identity()), now)
            elif verdict is not OPEN:
                self._beaten(now)
        if self._answered:
            if self._winner and not tally.waiting and APPLIED in tally.states:  # those are behind
                repair_soon(self._context, self._content.row, self._rule, now)
            if tally.waiting:
                self._context.operations.linger(self)
            else:
                self._context.operations.drop(self)

    def _beaten(self, now: Instant) -> None:
        """Another record won. It may be of this very write, under the stamp of another attempt: then it is
        read, and LOST to itself is STORED."""
        stamped, winner = self._record.blob[:STAMPED_BYTES], self._winner
        if not (self._rule.immutable and self._again and self._content.proposal):
            outcome = OUTCOME_LOST if self._rule.immutable else OUTCOME_SUPERSEDED
            self._answer(outcome, stamped, winner, now)
            return
        self._answered = True  # or it will be, once that is read

        def after(result: Finding | RequestFailed, now: Instant) -> None:
            found = result.record if isinstance(result, Finding) else None
            if found is not None and not self._content.left(found, context.digester):
                self._answer(OUTCOME_LOST, stamped, found.head, now)
                return
            with suppress(RequestFailed):  # too few are alive by now
                if found is not None:
                    write(context, self._content, level, self._deadline, report, now, Repeated(found))
                    return
            report(attempts.unread(self._content), now)

        context, report, level = self._context, self._report, self._tally.level
        aim = FIRST._replace(floor=winner[:VERSION_BYTES])
        try:
            row = self._content.row
            read(context, row, self._rule, max(level, ONE), self._deadline, after, now, aim)
        except RequestFailed:
            self._report(attempts.unread(self._content), now)

    def _answer(self, outcome: int, stamped: bytes, winner: bytes, now: Instant) -> None:
        """`stamped`: version and check of this write, empty if it has none."""
        self._answered = True
        tally = self._tally
        states: list[int] = []
        if self._sent:
            number_of = self._context.peers.number_of
            for replica, state in zip(self._replicas, tally.states, strict=True):
                states += (number_of[replica], int(state))  # cbor2 is slow with subclasses of int
        final = attempts.finality(winner or stamped, self._stable) if self._rule.final_when_stable else 0
        better = winner[:VERSION_BYTES]
        identity = (self._content.proposal or NO_PROPOSAL) + stamped
        decision = Decision(outcome, final, identity, *tally.told, states, better)
        self._report(decision, now)

    def _identity(self) -> Identity:
        return Identity.of(self._content.proposal, self._record.blob)

    def _refuse(self, error: InvalidRequest | RequestFailed, now: Instant) -> None:
        """It ends before it was sent to any replica."""
        self._fail(error, now)
        self._context.operations.drop(self)

    def _fail(self, error: InvalidRequest | RequestFailed, now: Instant) -> None:
        self._answered = True
        self._report(error, now)
