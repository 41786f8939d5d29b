"""Course: how a batch comes to its end, whoever sees to that.

    hold      each partition that is written to gets its part: at a quorum of its replicas, as a first
              delivery, before anything is applied anywhere
    commit    once it is held by a quorum of each: every store applies the rows that it holds
    finish    once they are applied at a quorum of each: tombstones in the place of the parts

The coordinator does this; and whoever holds a part for long goes on with it (`bring`), for there is nothing
that the coordinator alone knows. Versions are given, so it does no harm that two do it. `bring` asks all
replicas of all partitions, and takes one step:

    done somewhere              tombstones, to who may hold it yet
    committed somewhere, or
    held by a quorum of each    commit, and then finish
    never, of all of one        given up: tombstones. They are at a quorum of some partition before anybody is
                                told that nothing was applied
    else, held by some          copies, to the others of their partition: who holds it vouches for them
    else                        nothing: it may be on its way

Who goes on with one that is old has it refused where it is not held (`parts.py`). One replica that does not
answer is waited for, where no quorum of its partition holds it. Meanwhile closed stamps wait there: space is
paid, correctness never.
"""

import enum
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from basestore.batches.part import APPLIED, GIVEN_UP, OVER, Ended, Known
from basestore.batches.round import Answers, Make, Round, saying
from basestore.batches.verdicts import (
    Facts,
    ended,
    facts_of,
    is_applied,
    is_committed,
    is_dead,
    is_sealed,
    may_commit,
    nothing_was_purged,
)
from basestore.cluster.outbox import SMALL_BYTES
from basestore.consistency import Level, Quorum
from basestore.coordinator.context import Context, park
from basestore.errors import ClockSkew
from basestore.instant import Instant
from basestore.protocol.groups import COMMIT, COMMITTED, HELD, LOOK, NEVER, NONE, AskPart, HoldPart
from basestore.protocol.replication import DIRECT, Apply
from basestore.repair.clock import NotYet
from basestore.repair.version import Record, Version

ROUND_S: Final = 2.0


class How(enum.Enum):
    """How a batch has ended, so far as can be told; NOT_YET: it has not."""

    STORED = "stored"
    BY_QUORUM = "it is applied by a quorum, and whether by all replicas cannot be told any more"
    NOTHING = "nothing of it was applied, nor will be"
    UNKNOWN = "it is over, and nobody knows how"
    NOT_YET = "it goes on"


class End(NamedTuple):
    """And what is known of the batch by then."""

    how: How
    facts: Facts


Report = Callable[[End, Instant], None]


class Course:
    """Of one batch, at one node. `level`: that it is to be applied at."""

    def __init__(self, context: Context, known: Known, level: Level = Level.QUORUM) -> None:
        self._context, self.known, self._level = context, known, level

    def quorum(self, partition: int, level: Level) -> Quorum:
        return self._context.placement.quorums[partition][level]

    def _ask(
        self, make: Make, enough: Callable[[Answers], bool], ended: Callable[[Answers, Instant], None],
        seconds: float, now: Instant,
    ) -> None:  # fmt: skip
        Round(self._context, self.known, make, enough, ended).begin(seconds, now)

    def hold(
        self, records: dict[int, Record], ended: Callable[[Answers, Instant], None], seconds: float,
        now: Instant,
    ) -> None:  # fmt: skip
        """Have each replica hold its part. They come to `ended` that way, if a quorum of each does."""
        until_ms = now.wall_ms + round(seconds * 1e3)

        def make(request: int, partition: int, member: int) -> HoldPart:
            return HoldPart(request, self.known.row(partition), records[partition].blob, b"", until_ms)

        self._ask(make, self.may_commit, ended, seconds, now)

    def may_commit(self, answers: Answers) -> bool:
        return may_commit(answers, self.quorum)

    def commit(self, ended: Callable[[bool, Instant], None], seconds: float, now: Instant) -> None:
        """It is held by a quorum of each. Tells whether it is applied at the level."""
        until_ms = now.wall_ms + round(seconds * 1e3)

        def make(request: int, partition: int, member: int) -> AskPart:
            return AskPart(request, self.known.row(partition), self.known.ballot, COMMIT, until_ms)

        def heard(answers: Answers, now: Instant) -> None:
            ended(self._is_applied(answers), now)

        self._ask(make, self._is_applied, heard, seconds, now)

    def _is_applied(self, answers: Answers) -> bool:
        return is_applied(answers, self.quorum, self._level)

    def finish(
        self, how: int, facts: Facts, report: Callable[[bool, Instant], None], now: Instant, *,
        known: Answers | None = None,
    ) -> None:  # fmt: skip
        """Tombstones, to all; or, of those that are `known`, to who holds a part or would take one: others
        may have had a tombstone, and purged it. Tells whether a quorum of a partition has them."""
        try:
            tombstones = self._tombstones(how, facts, now)
        except NotYet:
            again = partial(self.finish, how, facts, report, known=known)
            park(
                self._context, SMALL_BYTES, now.monotonic + ROUND_S, again, lambda _, now: report(False, now)
            )
            return
        except ClockSkew:
            report(False, now)  # whoever holds it goes on with it
            return

        def make(request: int, partition: int, member: int) -> Apply | None:
            if known is not None and member not in saying(known[partition], NONE, HELD, COMMITTED):
                return None
            return Apply(request, self.known.row(partition), tombstones[partition], DIRECT, 0)

        def heard(answers: Answers, now: Instant) -> None:
            report(is_sealed(answers, self.quorum), now)

        self._ask(make, lambda answers: False, heard, ROUND_S, now)

    def _tombstones(self, how: int, facts: Facts, now: Instant) -> dict[int, bytes]:
        """By partition; ClockSkew or NotYet."""
        stamper, known = self._context.stamper, self.known
        stamper.observe(known.ballot, now)  # that of another clock, which may be ahead
        versions = map(Version.decode, stamper.stamps(known.partitions, now))
        tombstones = dict[int, bytes]()
        for partition, version in zip(known.partitions, versions, strict=True):
            number, row = facts.numbers.get(partition, 0), known.row(partition)
            value = Ended(how, number, known.stamp, known.origin, facts.check).encode()
            record = Record.seal(self._context.digester, row, version, value, tombstone=True)
            tombstones[partition] = record.blob
        return tombstones

    # --- to its end ------------------------------------------------------------------------------

    def bring(self, report: Report, now: Instant, seconds: float = ROUND_S, first: int = LOOK) -> None:
        """One step towards the end, whoever has begun it. `first`: as in `AskPart`."""
        until_ms = now.wall_ms + round(seconds * 1e3)

        def make(request: int, partition: int, member: int) -> AskPart:
            return AskPart(request, self.known.row(partition), self.known.ballot, first, until_ms)

        self._ask(make, lambda answers: False, partial(self._go_on, report, seconds), seconds, now)

    def _go_on(self, report: Report, seconds: float, answers: Answers, now: Instant) -> None:
        facts = facts_of(self.known, answers)
        over = ended(answers)
        if over is not None:
            self.finish(over.how, facts, self._ignore, now, known=answers)
            how = _HOW[over.how]
            report(End(How.BY_QUORUM if how is How.STORED and self._level is Level.ALL else how, facts), now)
        elif is_committed(answers) or self.may_commit(answers):
            if not self.may_commit(answers):
                self._spread(answers, now)  # ahead of the word that it is committed
            self.commit(partial(self._committed, report, facts), seconds, now)
        elif is_dead(answers, self.quorum):
            self._give_up(report, answers, now)
        else:
            self._spread(answers, now)
            report(End(How.NOT_YET, facts), now)

    def _committed(self, report: Report, facts: Facts, applied: bool, now: Instant) -> None:
        if applied:
            self.finish(APPLIED, facts, self._ignore, now)
        report(End(How.STORED if applied else How.NOT_YET, facts), now)

    def _give_up(self, report: Report, answers: Answers, now: Instant) -> None:
        """Where a tombstone may be gone, so may the batch that it was of, with its rows applied."""
        sure = nothing_was_purged(answers, self.known.stamp)
        facts = facts_of(self.known, answers)

        def sealed(is_sealed: bool, now: Instant) -> None:
            how = (How.NOTHING if is_sealed else How.NOT_YET) if sure else How.UNKNOWN
            report(End(how, facts), now)

        if sure:
            self._context.metrics.count("batches_given_up")
        self.finish(GIVEN_UP if sure else OVER, facts, sealed, now, known=None if sure else answers)

    def _spread(self, answers: Answers, now: Instant) -> None:
        """Copies, to who does not hold it, where somebody does."""
        until_ms = now.wall_ms + round(ROUND_S * 1e3)

        def make(request: int, partition: int, member: int) -> HoldPart | None:
            of = answers[partition]
            holders = saying(of, HELD, COMMITTED)
            if not holders or member not in saying(of, NONE, NEVER):
                return None
            holder = of[holders[0]]
            return HoldPart(request, self.known.row(partition), holder.record, holder.store, until_ms)

        if any(saying(of, HELD, COMMITTED) and saying(of, NONE, NEVER) for of in answers.values()):
            self._context.metrics.count("batches_spread")
            self._ask(make, lambda answers: False, lambda answers, now: None, ROUND_S, now)

    def _ignore(self, sealed: bool, now: Instant) -> None:
        """Whoever holds it yet goes on with it."""


_HOW: Final = {APPLIED: How.STORED, GIVEN_UP: How.NOTHING, OVER: How.UNKNOWN}
