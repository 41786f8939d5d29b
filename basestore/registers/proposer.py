"""Proposer: one write or read of a register at the node that coordinates it, the proposer of Paxos.

    begin       a write with a skipped prepare (`skipped_prepares.py`): ACCEPT at once. Any other: PREPARE
    PEEK        reads, and a compare that fails by what was known: ask what a quorum knows. If that is chosen,
                it is the answer. Otherwise all are asked, and then a ballot is prepared
    PREPARE     a ballot at all replicas. Once a quorum has promised, `weigh` says what to do
    ACCEPT      a record under that ballot: this write's own, or the one that was found, again, for nobody is
                told of what is not known to be chosen. Once a quorum has accepted, all are told to learn it
    WAIT        a ballot was refused, or too few have answered: again in a moment, under another ballot

A write of three replicas, twice, with nobody else there:

    Prepare (5, a) -> n1 n2 n3      Promised <- n1 n2, which hold nothing
    Accept r1, following (6, a)     Applied <- n1 n2     STORED; Learn -> n1 n2 n3
    Accept r2, by (6, a)            Applied <- n1 n3     STORED, in one round

Each ballot is used for one record. After a record was sent, what is found decides what became of it
(`Attempt.weigh`); when the time is over, it is not known. All members that are counted together stand at one
epoch of the row's seats: where these change, the round begins anew.

Ends with one report; the answer to a client is made by who began it.
"""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import Final

from basestore.cluster.operations import Ack, Anew
from basestore.cluster.outbox import SMALL_BYTES
from basestore.consistency import Level
from basestore.coordinator.context import Context
from basestore.errors import ClockSkew, ReadTimeout, RequestFailed, Unavailable
from basestore.instant import Instant
from basestore.protocol.replication import Accept, Peek, Prepare, Promised, Refused, Rejected
from basestore.registers.announcements import Announcements
from basestore.registers.outcomes import UNREAD, concluded, contended, undecided, unknown
from basestore.registers.records import again, own
from basestore.registers.round import ASKING, Phase, Round, back_off_s
from basestore.registers.skipped_prepares import Skip, SkippedPrepares
from basestore.registers.task import Blocked, Report, Result, Shown, Task
from basestore.repair.clock import NotYet
from basestore.repair.compare_and_set import Next
from basestore.repair.paxos import Known, Told, ballot_of
from basestore.repair.version import Identity, Record
from basestore.rows import row_partition

WIDEN_S: Final = 0.05  # until a read asks the others, too
NEVER: Final = float("inf")


class Proposer(Anew):
    """One of them, begun once its turn in the row's queue has come, or at once if it is not queued."""

    __slots__ = (
        "_after", "_again_s", "_announcements", "_asked_s", "_attempt", "_ballot", "_context", "_failures",
        "_following", "_judged_ms", "_partition", "_phase", "_queued_s", "_record", "_report", "_round",
        "_sent", "_skips", "_task", "shown",
    )  # fmt: skip

    def __init__(
        self, context: Context, skips: SkippedPrepares, announcements: Announcements, task: Task,
        report: Report,
    ) -> None:  # fmt: skip
        super().__init__(task.size)
        self._context, self._skips, self._announcements = context, skips, announcements
        self._task, self._report, self._partition = task, report, row_partition(task.row)
        self._attempt = task.write.attempt if task.write else None
        self._phase, self._again_s, self._failures = Phase.QUEUED, NEVER, 0
        self._sent = self._attempt is not None and self._attempt.meant != b""  # it may come to be chosen
        self._judged_ms = 0  # when it was judged last whether a record has expired
        self._ballot = self._following = b""
        self._after = Next.STORED
        self._queued_s = self._asked_s = NEVER
        self.shown: Shown | None = None

    # --- its turn ----------------------------------------------------------------------------

    def queue(self, now: Instant) -> None:
        """It waits to begin, as long as its time lasts."""
        request = self._context.operations.issue(self)
        self._context.operations.alarm_at(request, self._task.deadline)
        self._queued_s = now.monotonic

    def see(self, shown: Shown, now: Instant) -> None:
        """What the row held at a moment behind that in which this was asked for: a read has its answer, and
        so has a compare that fails by it. What goes out in a step goes after all that came in by then."""
        task, attempt = self._task, self._attempt
        if self._queued_s > shown.asked_s or task.must_ask is not None or (attempt and attempt.begun):
            return
        weighed = self._read_weighed(shown.record)
        if attempt is not None:
            if (time_ms := self._judge_time(shown.record, now)) is None:
                return
            weighed = attempt.weigh(Known(shown.record, True), time_ms)
        if weighed not in (Next.PROPOSE, Next.BLOCKED):
            judged_ms = self._judged_ms
            self._end(concluded(weighed, shown.record, attempt, judged_ms, shown.required, []), now)

    def begin(self, now: Instant) -> None:
        """Its turn has come, or it needs none."""
        task, attempt = self._task, self._attempt
        skip = self._skips.get(task.row, self._context.placement.since(self._partition))
        if task.ballot:
            if self._has_quorum(now):
                self._ballot = task.ballot
                self._propose(Known(None, True), now)
        elif task.must_ask is not None or (attempt is not None and attempt.begun):
            self._prepare(now)
        elif attempt is None:
            self._peek(now)
        elif skip is None:
            self._prepare(now)
        elif self._has_quorum(now) and (time_ms := self._judge_time(skip.record, now)) is not None:
            found = Known(skip.record, True)
            if attempt.weigh(found, time_ms) is Next.PROPOSE:
                self._context.metrics.count("register_skips")
                self._skips.drop(task.row)
                self._ballot = skip.ballot
                self._propose(found, now)
            else:
                self._peek(now)

    # --- rounds ------------------------------------------------------------------------------

    def _begin_round(self, phase: Phase, now: Instant) -> None:
        """A round begins: nobody has said anything yet, and these are to."""
        context, partition = self._context, self._partition
        since, other = context.placement.since(partition), self._task.quorum
        quorum = other() if other is not None else context.placement.quorums[partition][Level.SERIAL]
        self._phase, self._again_s, self._asked_s = phase, NEVER, now.monotonic
        self._round = Round(phase, quorum, since, context.operations.issue(self))

    def _deadline_ms(self, now: Instant) -> int:
        return now.wall_ms + int((self._task.deadline - now.monotonic) * 1e3)

    def _has_quorum(self, now: Instant) -> bool:
        """Whether enough replicas are alive. If not, it is put off, or ends."""
        try:
            if self._task.quorum is None:
                self._context.require(self._partition, Level.SERIAL, self._task.instead)
        except Unavailable as error:
            self._put_off(error, now)
            return False
        return True

    def _put_off(self, error: RequestFailed, now: Instant) -> None:
        """It ends; unless something was sent, which may still come to count."""
        if self._sent:
            self._back_off(now)
        else:
            self._end(error, now)

    def _peek(self, now: Instant) -> None:
        if not self._has_quorum(now):
            return
        self._begin_round(Phase.PEEK, now)
        peers, quorum = self._context.peers, self._round.quorum
        alive = sorted((r for r in quorum.replicas if peers.alive[r]), key=peers.distance.__getitem__)
        self._wake_at(now.monotonic + WIDEN_S)
        self._ask_peek(quorum.choose(alive, ()), now)

    def _widen(self, now: Instant) -> None:
        """Ask the others, too; what a quorum knows must be enough in a moment."""
        self._round.widened = True
        self._wake_at(now.monotonic + WIDEN_S)
        self._ask_peek(self._round.awaited, now)

    def _ask_peek(self, members: Iterable[int], now: Instant) -> None:
        message = Peek(self._round.id, self._task.row, self._deadline_ms(now))
        for member in members:
            if not self._context.peers.send(member, message, SMALL_BYTES + len(self._task.row)):
                self._round.failed.add(member)
        self._consider(now)

    def _prepare(self, now: Instant) -> None:
        if self._task.ballot:  # it was proposed under that, and under no other ever
            self._end(self._timed_out(), now)
            return
        if not self._has_quorum(now):
            return
        context, row = self._context, self._task.row
        try:
            self._ballot = context.stamper.ballot(now)
        except NotYet:
            self._phase, self._again_s = Phase.WAIT, NEVER
            context.stamper.park(self, self._prepare)
            return
        except ClockSkew as error:
            self._put_off(error, now)
            return
        context.metrics.count("register_ballots")
        self._skips.drop(row)
        self._begin_round(Phase.PREPARE, now)
        self._tell_all(Prepare(self._round.id, row, self._ballot, self._deadline_ms(now)), len(row), now)

    def _propose(self, found: Known, now: Instant) -> None:
        """Have this write's record accepted, in the place of what is known."""
        assert self._attempt is not None
        made = own(self._context, self._ballot, self._task, self._attempt, found, self._judged_ms, now)
        if made is None:
            self._put_off(self._context.stamper.expiry_unknown(now), now)
            return
        self._attempt, record = made
        self._sent = True
        self._accept(record, Next.STORED, now)

    def _settle(self, found: Record, after: Next, now: Instant) -> None:
        """Have what was found accepted once more, under this ballot: then it is chosen, and `after` may be
        told."""
        self._context.metrics.count("register_helps")
        self._accept(again(self._context, self._ballot, self._task.row, found), after, now)

    def _accept(self, record: Record, after: Next, now: Instant) -> None:
        self._begin_round(Phase.ACCEPT, now)
        self._record, self._after = record, after
        try:
            self._following = self._context.stamper.ballot(now)
        except (NotYet, ClockSkew):
            self._following = b""
        row, blob = self._task.row, record.blob
        message = Accept(self._round.id, row, blob, self._following, self._deadline_ms(now))
        self._tell_all(message, len(row) + len(blob), now)

    def _tell_all(self, message: Prepare | Accept, size: int, now: Instant) -> None:
        peers = self._context.peers
        for member in self._round.quorum.replicas:
            if not (peers.alive[member] and peers.send(member, message, SMALL_BYTES + size)):
                self._round.failed.add(member)
        self._consider(now)

    def _back_off(self, now: Instant) -> None:
        """Again in a moment."""
        self._phase = Phase.WAIT
        self._failures += 1
        self._wake_at(now.monotonic + back_off_s(self._ballot, self._failures))

    def _wake_at(self, moment_s: float) -> None:
        self._again_s = moment_s
        self._context.operations.alarm_at(self.ids[0], moment_s)

    # --- answers -----------------------------------------------------------------------------

    def promised(self, member: int, answer: Promised, now: Instant) -> None:
        if answer.id != self._round.id or self._phase not in (Phase.PEEK, Phase.PREPARE):
            return
        told = Told(*answer[1:])
        if told.record and not Record(told.record).intact(self._context.digester, self._task.row):
            self._note_failed(member, answer.id, now)  # damaged, there or on its way
            return
        self._round.told[member] = told
        self._consider(now)

    def applied(self, member: int, answer: Ack, now: Instant) -> None:
        if answer == self._round.id and self._phase is Phase.ACCEPT:
            self._round.acks.add(member)
            self._consider(now)

    def refused(self, member: int, answer: Refused, now: Instant) -> None:
        self._context.stamper.observe(answer.ballot, now)
        self._note_failed(member, answer.id, now)

    def rejected(self, member: int, answer: Rejected, now: Instant) -> None:
        self._note_failed(member, answer.id, now)

    def lost(self, member: int, now: Instant) -> None:
        if self._phase in ASKING and self._round.awaits(member):
            self._note_failed(member, self._round.id, now)

    def _note_failed(self, member: int, request: int, now: Instant) -> None:
        if self._phase in ASKING and request == self._round.id:
            self._round.failed.add(member)
            self._consider(now)

    def moved(self, partitions: AbstractSet[int], now: Instant) -> None:
        if self._partition not in partitions or self._phase not in ASKING:
            return
        (self._peek if self._phase is Phase.PEEK else self._prepare)(now)

    def alarm(self, now: Instant) -> None:
        if now.monotonic >= self._task.deadline:
            self._end(self._timed_out(), now)
        elif now.monotonic >= self._again_s:
            self._again_s = NEVER
            if self._phase is Phase.PEEK and self._round.widened:
                self._round.failed.update(self._round.awaited)
                self._consider(now)
            elif self._phase is Phase.PEEK:
                self._widen(now)
            elif self._phase is Phase.WAIT:
                self._prepare(now)

    # --- conclusions -------------------------------------------------------------------------

    def _consider(self, now: Instant) -> None:
        """Go on if enough have answered, or too few can."""
        round_, must = self._round, self._task.must_ask
        if round_.met(must):
            if self._phase is Phase.ACCEPT:
                self._chosen(now)
            elif self._phase is Phase.PREPARE:
                self._weigh(now)
            else:
                self._peeked(now)
        elif round_.is_hopeless(must):
            self._back_off(now)
        elif self._phase is Phase.PEEK and round_.failed and not round_.widened:
            self._widen(now)

    def _peeked(self, now: Instant) -> None:
        found, attempt = self._round.found(), self._attempt
        if found.chosen and attempt is None:
            self._conclude(self._read_weighed(found.record), found.record, now)
        elif found.chosen and attempt is not None:
            if (time_ms := self._judge_time(found.record, now)) is None:
                return
            if (weighed := attempt.weigh(found, time_ms)) is Next.PROPOSE:
                self._prepare(now)
            else:
                self._conclude(weighed, found.record, now)
        elif not self._round.widened:
            self._widen(now)
        elif not self._round.awaited:  # else more may be known in a moment
            if self._task.hands_over:
                self._end(None, now)
            else:
                self._prepare(now)

    def _weigh(self, now: Instant) -> None:
        """A ballot is prepared at a quorum: what it knows decides."""
        found, attempt = self._round.found(), self._attempt
        weighed = self._read_weighed(found.record)
        if attempt is not None:
            time_ms = self._judge_time(found.record, now)
            if time_ms is None:
                return
            weighed = attempt.weigh(found, time_ms)
        # One that was sent may be accepted by some: what it is lost to must be chosen above that.
        lost = weighed in (Next.LOST, Next.NO_NUMBER) and attempt is not None and attempt.identity != b""
        if weighed is Next.PROPOSE:
            self._propose(found, now)
        elif weighed in (Next.UNKNOWN, Next.BLOCKED) or found.record is None or (found.chosen and not lost):
            self._conclude(Next.UNKNOWN if lost and found.record is None else weighed, found.record, now)
        else:
            self._settle(found.record, weighed, now)

    def _read_weighed(self, record: Record | None) -> Next:
        """What a read does by what the row holds."""
        blocked = record is not None and record.intent and not self._task.as_is
        return Next.BLOCKED if blocked else Next.STORED

    def _chosen(self, now: Instant) -> None:
        """A quorum has accepted the record: let all learn it."""
        row, record = self._task.row, self._record
        self._announcements.add(self._round.quorum.replicas, row, ballot_of(record.blob))
        if self._following:
            self._skips.keep(row, Skip(self._round.since, self._following, record))
        self._conclude(self._after, record, now)

    def _conclude(self, weighed: Next, record: Record | None, now: Instant) -> None:
        if weighed is Next.BLOCKED and record is not None:
            self._end(Blocked(record, self._attempt), now)
        elif weighed is Next.UNKNOWN:
            self._end(undecided(self._identity(), record, chosen=self._round.found().chosen), now)
        else:
            required, states = self._round.required, self._round.states(self._context.peers.number_of)
            self.shown = Shown(self._asked_s, record, required)
            self._end(concluded(weighed, record, self._attempt, self._judged_ms, required, states), now)

    def _timed_out(self) -> RequestFailed:
        if self._attempt is None:
            return ReadTimeout(UNREAD, None, None, None)
        late = "too few replicas have accepted it in time"
        return unknown(self._identity(), None, late) if self._sent else contended()

    def _identity(self) -> Identity:
        """As which the write is to be repeated."""
        write, attempt = self._task.write, self._attempt
        assert write is not None
        assert attempt is not None
        return write.repeated_as(self._context.digester, attempt.identity)

    def _judge_time(self, record: Record | None, now: Instant) -> int | None:
        """When what expires is judged; None if that is not known: then it has ended."""
        expires = record is not None and record.expires_ms
        time_ms = self._context.peers.clock.now_ms(now) if expires else 0
        self._judged_ms = time_ms or 0
        if time_ms is None:
            skew = self._context.stamper.expiry_unknown(now)
            self._end(self._timed_out() if self._sent else skew, now)
        return time_ms

    def _end(self, result: Result, now: Instant) -> None:
        self._phase, self._answered = Phase.ENDED, True
        self._context.stamper.parked.pop(self, None)
        self._context.operations.drop(self)
        self._report(result, now)
