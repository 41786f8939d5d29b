"""Writing: an atomic batch at its coordinator, the node that the client has asked, until that has its answer.

    stamp     all parts, and all rows, behind each other
    hold      for most of its time
    commit    if it is held in time: then the client is told that it is stored
    bring     if not, as whoever comes later would (`course.py`), again and again: it may come to be held yet,
              or be given up
    answer    when its time is over, and that is not known: that it is not known, and by what it can be
              repeated. Whoever holds a part goes on with it

A repetition writes nothing: it looks for what there is of the earlier attempt, and brings that to its end.
Without a version, for its client was told none, only what is still held can be found.
"""

from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from basestore.batches.admission import Admitted, known_as, other_batch
from basestore.batches.course import Course, End, How
from basestore.batches.part import APPLIED, Ended, Known, Part, check_of, part_row, versions_of
from basestore.batches.round import Answers, Round
from basestore.batches.verdicts import Facts, facts_of
from basestore.cluster.operations import Operation
from basestore.coordinator.context import Context
from basestore.errors import InvalidRequest, OutcomeUnknown, RequestFailed, Unavailable
from basestore.instant import Instant
from basestore.protocol.client import WriteBatch
from basestore.protocol.groups import DONE, LOOK, NEVER, AskPart
from basestore.repair.version import Identity, Record, Version
from basestore.rows import row_partition

HOLDING_SHARE: Final = 0.6  # of its time, in which it is to be held
PAUSE_S: Final = 0.25
ROUND_S: Final = 1.0


class Stored(NamedTuple):
    """It is applied. Versions in the order of its contents, empty where they are not known any more."""

    identity: Identity
    versions: list[bytes]


Report = Callable[[Stored | InvalidRequest | RequestFailed, Instant], None]


class Writing(Operation):
    """Of one batch."""

    def __init__(self, context: Context, admitted: Admitted, deadline: float, report: Report) -> None:
        super().__init__(2 * admitted.size)
        self._context, self._admitted, self._deadline, self._report = context, admitted, deadline, report
        self._identity = admitted.identity
        self._course: Course | None = None
        self._busy = self._answered = False

    # --- a new one -----------------------------------------------------------------------------

    def begin(self, now: Instant) -> None:
        """ClockSkew or NotYet: then nothing was done."""
        known, check, records = self._stamped(now)
        version = Version(known.stamp, known.origin, records[known.partitions[0]].version.number)
        self._identity = Identity(known.proposal, version, check)
        self._course = Course(self._context, known, self._admitted.level)
        self._wait_until(self._deadline)
        self._busy = True
        facts = Facts({each: record.version.number for each, record in records.items()}, check)
        seconds = (self._deadline - now.monotonic) * HOLDING_SHARE
        self._course.hold(records, partial(self._held, facts), seconds, now)

    def _stamped(self, now: Instant) -> tuple[Known, bytes, dict[int, Record]]:
        """What it is known by, what proves its content, and its parts, by partition."""
        context, contents, partitions = self._context, self._admitted.contents, self._admitted.partitions
        of_rows = [row_partition(content.row) for content in contents]
        encoded = context.stamper.stamps([*partitions, *of_rows], now, together=len(partitions))
        versions = [Version.decode(each) for each in encoded]
        part = versions[0]
        known = Known(self._identity.proposal, part.stamp, part.origin, partitions)
        check = check_of(context.digester, known, contents)
        held: dict[int, tuple[list[bytes], list[bytes]]] = {each: ([], []) for each in partitions}
        for content, version in zip(contents, versions[len(partitions) :], strict=True):
            ttl_ms = content.ttl_ms
            expires_ms = context.stamper.expiry_ms(version, ttl_ms, now) if ttl_ms else 0
            record = Record.seal(
                context.digester, content.row, version, content.value, tombstone=content.tombstone,
                expires_ms=expires_ms,
            )  # fmt: skip
            rows, records = held[row_partition(content.row)]
            rows.append(content.row)
            records.append(record.blob)
        return known, check, {
            partition: self._part(known, check, version, *held[partition])
            for partition, version in zip(partitions, versions, strict=False)
        }  # fmt: skip

    def _part(
        self, known: Known, check: bytes, version: Version, rows: list[bytes], records: list[bytes]
    ) -> Record:
        partition = row_partition(rows[0])
        part = Part(check, known.partitions, tuple(rows), tuple(records))
        digester, row = self._context.digester, known.row(partition)
        return Record.seal(digester, row, version, part.encode(), intent=True)

    def _held(self, facts: Facts, answers: Answers, now: Instant) -> None:
        assert self._course is not None
        if not self._course.may_commit(answers):
            self._rest(now)
            return
        left_s = max(ROUND_S, self._deadline - now.monotonic)
        self._course.commit(partial(self._committed, facts), left_s, now)

    def _committed(self, facts: Facts, applied: bool, now: Instant) -> None:
        assert self._course is not None
        if not applied:
            self._rest(now)
            return
        self._course.finish(APPLIED, facts, lambda sealed, now: None, now)
        self._end(End(How.STORED, facts), now)

    # --- a repeated one --------------------------------------------------------------------------

    def repeat(self, now: Instant) -> None:
        """`other_batch` if it is another than it says."""
        known = known_as(self._context, self._admitted)
        self._wait_until(self._deadline)
        if known is None:
            self._look(now)
        else:
            self._course = Course(self._context, known, self._admitted.level)
            self._bring(now)

    def _look(self, now: Instant) -> None:
        """For what is held under what its client has drawn, whatever its version."""
        proposal, until_ms = self._identity.proposal, now.wall_ms + round(ROUND_S * 1e3)
        partitions = self._admitted.partitions
        at = Known(proposal, 0, 0, partitions)

        def make(request: int, partition: int, member: int) -> AskPart:
            return AskPart(request, at.row(partition), b"", LOOK, until_ms)

        self._busy = True
        Round(self._context, at, make, lambda answers: False, self._found).begin(ROUND_S, now)

    def _found(self, answers: Answers, now: Instant) -> None:
        """Of those that tell most: a part, or else a tombstone."""
        found = [
            (told, partition)
            for partition, of in answers.items()
            for told in of.values()
            if told.state > NEVER
        ]
        if self._answered:
            return
        if not found:
            self._answer(self._unknown("nothing is found of it"), now)
            return
        told, partition = min(found, key=lambda each: each[0].state)
        record, row = Record(told.record), part_row(partition, self._identity.proposal)
        if told.state == DONE:
            over, partitions = Ended.of(record), self._admitted.partitions
            known, check = Known(self._identity.proposal, over.stamp, over.origin, partitions), over.check
        else:
            part = Part.of(row, record)
            known, check = part.known(row, record), part.check
        if check != check_of(self._context.digester, known, self._admitted.contents):
            self._answer(other_batch(self._admitted), now)
            return
        number = facts_of(known, answers).numbers.get(known.partitions[0], 0)
        self._identity = Identity(known.proposal, Version(known.stamp, known.origin, number), check)
        self._course = Course(self._context, known, self._admitted.level)
        self._bring(now)

    # --- on and on -------------------------------------------------------------------------------

    def _wait_until(self, monotonic: float) -> None:
        operations = self._context.operations
        operations.alarm_at(self.ids[0] if self.ids else operations.issue(self), monotonic)

    def _rest(self, now: Instant) -> None:
        self._busy = False
        if not self._answered:
            self._wait_until(now.monotonic + PAUSE_S)

    def alarm(self, now: Instant) -> None:
        if now.monotonic >= self._deadline:
            self._answer(self._unknown("its time was over before that could be told"), now)
        elif not self._busy:
            self._bring(now)

    def _bring(self, now: Instant) -> None:
        self._busy = True
        assert self._course is not None
        self._course.bring(self._end, now, min(ROUND_S, max(0.05, self._deadline - now.monotonic)))

    def _end(self, end: End, now: Instant) -> None:
        if self._answered:
            return
        assert self._course is not None
        if end.how is How.NOT_YET:
            self._rest(now)
        elif end.how is How.STORED:
            rows = [content.row for content in self._admitted.contents]
            versions = versions_of(self._course.known, rows, end.facts.numbers)
            self._answer(Stored(self._identity, versions), now)
        elif end.how is How.NOTHING:
            self._answer(nothing_done(self._identity), now)
        else:
            self._answer(self._unknown(end.how.value), now)

    def _unknown(self, why: str) -> OutcomeUnknown:
        return OutcomeUnknown(
            f"unknown: {why}; the batch is all or nothing in the end. Repeat it as {self._identity} to "
            f"follow it, or read its keys to find out",
            None, self._identity,
        )  # fmt: skip

    def _answer(self, result: Stored | InvalidRequest | RequestFailed, now: Instant) -> None:
        if not self._answered:
            self._answered = True
            self._context.operations.drop(self)
            self._report(result, now)

    def closing(self, now: Instant) -> None:
        self._answer(self._unknown("the node that was asked is stopping"), now)


def doubting(request: WriteBatch, error: InvalidRequest | RequestFailed) -> OutcomeUnknown:
    """Of a repetition that could not be begun: to repeat what makes no sense, or does not any more, as in a
    bucket that was dropped, tells no more."""
    told, then = f"{error}", "repeat it, or read its keys"
    if isinstance(error, InvalidRequest):
        told, then = (
            f"unknown: this repetition is refused: {error}",
            "read its keys, in the buckets that there are",
        )
    told += f". An earlier attempt may have been done, or may be yet: {then}"
    return OutcomeUnknown(told, None, Identity.decode(request.identity))


def nothing_done(identity: Identity) -> Unavailable:
    """The error for the batch with this identity, which was given up. That it names it tells it from what any
    attempt may be refused with."""
    error = Unavailable.because(
        "the batch was not held by enough replicas of each of its keys, and was given up: nothing of it was "
        "applied, nor will be. Write it as a new one"
    )
    error.identity = identity
    return error
