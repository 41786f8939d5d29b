"""Get: what one get does beside its read (`quorum_read.py`).

Owns how stale the answer may be, and reads more of the replicas if that is staler than the caller takes. What
a quorum has confirmed is not stale at all; `Stamper.stale_ms` bounds how stale one replica's answer is. It
weighs no replies, and repairs nothing: the read does. And where a read finds that what a session has seen is
gone, and that may still be on its way, it has `explain.py` ask all members first.

The reverse is a *degraded* read: where the level cannot be reached, one replica answers, if its answer is
surely fresh enough for the caller; that is said in the answer. Asked for a quorum in 1 s, or what was
written 60 s ago:

    quorum answers              that is it
    600 ms are over, or nothing can be asked (Unavailable), or too many refuse
                                read at ONE
    that is stale by at most 23.9 s      answered, degraded
    by 61 s, or nobody can tell          the first error, with that said in it
    the node's brownout is 2    the other way round: at ONE first, then a quorum in the time that is left
"""

from typing import Any

from basestore.cluster.outbox import SMALL_BYTES, Outbox
from basestore.consistency import Level
from basestore.coordinator.admission import ONE, admit_get
from basestore.coordinator.context import TOO_MUCH_ASKED, Context, Load, refuse
from basestore.coordinator.explain import look_for, may_come
from basestore.coordinator.finding import Aim, Finding
from basestore.coordinator.quorum_read import QuorumRead, read
from basestore.coordinator.stamper import STALENESS_UNKNOWN
from basestore.errors import Overloaded, ReadTimeout, ReplicaFailure, RequestFailed, TooStale, Unavailable
from basestore.instant import Instant
from basestore.metrics import FAILURES
from basestore.protocol.client import FINAL, LOSSY, Get, Got
from basestore.repair.intents import before
from basestore.repair.rule import Rule
from basestore.repair.version import VERSION_BYTES
from basestore.rows import row_partition

DEGRADED_SINCE = 9  # version of the wire
GOLDEN = 0.6180339887498949
ASKED_SHARE = 0.6  # of its time that a read which may be degraded has at the level that was asked for
BROWNOUT_DEGRADING = 2
_DEGRADED = {Level.QUORUM: "reads_degraded_quorum", Level.ALL: "reads_degraded_all"}
TOO_FEW = (Unavailable, ReadTimeout, ReplicaFailure)  # replicas, for the level
WRITES_LOST = (
    "how stale the answer may be cannot be told, for writes of its partition may be lost (see `basestore "
    "status`). Read without a bound, or accept the loss with `basestore repair --accept-loss`"
)


def get(context: Context, outbox: Outbox, request: Get, now: Instant) -> None:
    """Begin; InvalidRequest or RequestFailed when nothing was begun."""
    level, row, rule = admit_get(context, request, now)
    if context.options and level is not ONE and not (request.degrade_ms or request.stale_ms_max):
        # Nothing is degraded for who could not be told.
        options = context.options.get(request.bucket) if outbox.version >= DEGRADED_SINCE else None
        request = request._replace(degrade_ms=1000 * options.degrade_s) if options else request
    compare = request.repair and compares(context, level)
    kind = DegradableGet if request.degrade_ms > 0 else ClientGet
    kind(context, outbox, request, level, row, rule, now).begin(compare, now)


def compares(context: Context, level: Level) -> bool:
    """Whether the replicas that a read need not ask are compared behind it: at ONE that is drawn by lot, and
    left out in a brownout."""
    return level is not ONE or (_draw_lot(context.load) < context.read_repair and not context.load.brownout)


def _draw_lot(load: Load) -> float:
    """A number between 0 and 1: multiples of the golden ratio, spread so evenly that no rhythm of the
    callers falls in with them."""
    load.lot = (load.lot + GOLDEN) % 1.0
    return load.lot


class ClientGet:
    """One get of a client."""

    __slots__ = (
        "_aim", "_begun", "_bounded", "_context", "_deadline", "_escalated", "_level", "_outbox", "_request",
        "_row", "_rule", "_sought",
    )  # fmt: skip

    def __init__(
        self, context: Context, outbox: Outbox, request: Get, level: Level, row: bytes, rule: Rule,
        now: Instant,
    ) -> None:  # fmt: skip
        self._context = context
        self._outbox = outbox
        self._request = request
        self._level = level
        self._row = row
        self._rule = rule
        self._begun = now
        self._deadline = now.monotonic + request.timeout_ms / 1e3
        self._bounded = request.tell or request.stale_ms_max > 0  # how stale it may be matters
        self._escalated = False
        self._sought = False  # every member was asked for what the session has seen

    def begin(self, compare: bool, now: Instant) -> None:
        """Read; Unavailable."""
        request = self._request
        told = self._bounded or self._rule.final_when_stable
        self._aim = Aim(request.floor[:VERSION_BYTES], compare, request.repair, told)
        self._begin_read(now)

    def _begin_read(self, now: Instant) -> None:
        self._read(self._level, now)

    def left_group(self, compare: bool) -> QuorumRead:
        """The read of one that was in a group, not begun."""
        request, context = self._request, self._context
        quorum = context.placement.quorums[row_partition(self._row)][self._level]
        self._aim = Aim(request.floor, compare)
        return QuorumRead(context, self._row, self._rule, quorum, self._aim, self._report)

    def _read(self, level: Level, now: Instant) -> None:
        read(self._context, self._row, self._rule, level, self._deadline, self._report, now, self._aim)

    def _report(self, result: Finding | RequestFailed, now: Instant) -> None:
        request = self._request
        if request.floor and not self._sought and may_come(request.floor, result):
            self._sought = True
            floor, deadline = self._aim.floor, self._deadline
            look_for(self._context, self._row, self._rule, floor, result, deadline, self._report, now)
        else:
            self._conclude(result, now)

    def _conclude(self, result: Finding | RequestFailed, now: Instant) -> None:
        request = self._request
        if isinstance(result, RequestFailed):
            self._fail(_too_stale(request, result) if self._escalated else result, now)
            return
        if not self._bounded:
            self._answer(result, STALENESS_UNKNOWN, now)
            return
        # While a loss is open nobody can tell, not even a quorum, what older write is missing.
        stale_ms = LOSSY if result.lossy else 0
        if self._level is ONE and not self._escalated and not result.lossy:
            stale_ms = self._context.stamper.stale_ms(result.stable, now)
        # STALENESS_UNKNOWN and LOSSY are below 0: what is not known is not taken for fresh.
        if request.stale_ms_max and not 0 <= stale_ms <= request.stale_ms_max:
            if result.lossy:
                self._fail(TooStale(WRITES_LOST), now)
            else:
                self._escalate(now)
        else:
            self._answer(result, stale_ms, now)

    def _escalate(self, now: Instant) -> None:
        """One replica's answer is too stale: read at QUORUM, in the time that is left."""
        self._escalated = True
        self._context.metrics.count("reads_escalated")
        try:
            self._read(Level.QUORUM, now)
        except Unavailable as error:
            self._fail(_too_stale(self._request, error), now)

    def _answer(self, finding: Finding, stale_ms: int, now: Instant, because: str = "") -> None:
        """Send what was found; `because`: why that is degraded, if it is. Expiry is judged here, once, by the
        time at which the request came."""
        context, request, record = self._context, self._request, before(finding.record)
        found, value, version, expires_ms = False, b"", b"", 0
        if record is not None:
            time_ms = context.peers.clock.now_ms(self._begun) if record.expires_ms else 0
            if time_ms is None:
                self._fail(context.stamper.expiry_unknown(now), now)
                return
            found = record.live(time_ms)
            value = record.value if found else b""
            version, expires_ms = record.known_as, record.expires_ms
        stable = 0 if finding.lossy else finding.stable
        told: tuple[Any, ...] = ()
        if self._bounded or because:
            told = stable, stale_ms, self._escalated, because != "", because
        answer = Got(
            request.id, found, value, version, expires_ms, finding.required, finding.responded,
            finding.diverged, finding.repaired, finding.final, *told,
        )  # fmt: skip
        if finding.record is not None and self._rule.serial:
            answer = answer._replace(order=finding.record.blob[:VERSION_BYTES])
        size = SMALL_BYTES + len(value)
        context.load.answer_bytes += (size - context.load.answer_bytes) // 8
        seconds = now.monotonic - self._begun.monotonic
        context.metrics.answered("get", self._level, "found" if found else "missing", seconds)
        if self._outbox.roomy:
            self._outbox.put(answer, size)
        else:
            refuse(self._context, self._outbox, request.id, Overloaded(TOO_MUCH_ASKED))

    def _fail(self, error: RequestFailed, now: Instant) -> None:
        seconds = now.monotonic - self._begun.monotonic
        self._context.metrics.answered("get", self._level, FAILURES[error.code], seconds)
        refuse(self._context, self._outbox, self._request.id, error)


class DegradableGet(ClientGet):
    """One that a single replica may answer, if the level is not reached."""

    __slots__ = ("_at_one", "_doubt", "_failure", "_last_s", "_tried")

    def _begin_read(self, now: Instant) -> None:
        self._at_one = self._tried = False
        self._doubt = ""  # why one replica's answer did not do
        self._failure: RequestFailed | None = None
        self._last_s = self._deadline
        share = ASKED_SHARE
        if self._context.load.brownout >= BROWNOUT_DEGRADING:
            self._descend(1 - share, now)
            return
        self._deadline = self._part(share)
        try:
            self._read(self._level, now)
        except Unavailable as error:
            self._failure = error
            self._descend(1.0, now)

    def _part(self, share: float) -> float:
        """When so much of its time is over."""
        return self._begun.monotonic + share * (self._last_s - self._begun.monotonic)

    def _descend(self, share: float, now: Instant) -> None:
        """Read at ONE, until so much of the time is over."""
        self._at_one = self._tried = True
        self._deadline = self._part(share)
        aim = degraded_aim(self._aim)
        try:
            read(self._context, self._row, self._rule, ONE, self._deadline, self._report, now, aim)
        except Unavailable as error:
            self._stand_in(error, now)

    def _conclude(self, result: Finding | RequestFailed, now: Instant) -> None:
        if self._at_one:
            self._stand_in(result, now)
        elif isinstance(result, TOO_FEW) and not (self._tried or self._sought):
            self._failure = result
            self._descend(1.0, now)
        else:
            super()._conclude(result, now)

    def _stand_in(self, result: Finding | RequestFailed, now: Instant) -> None:
        """What one replica has said: answer that, or fail as the level has, or read at the level now."""
        self._at_one = False
        stale_ms = STALENESS_UNKNOWN
        if isinstance(result, Finding) and not result.lossy:
            stale_ms = self._context.stamper.stale_ms(result.stable, now)
        self._doubt = doubt_about(result, stale_ms, self._request.degrade_ms, self._rule)
        if isinstance(result, Finding) and not self._doubt:
            self._context.metrics.count(_DEGRADED[self._level])
            replicas = len(self._context.placement.replicas[row_partition(self._row)])
            self._answer(result, stale_ms, now, _because(self._failure, replicas))
        elif self._failure is not None:
            self._fail(self._failure, now)
        else:
            self._deadline = self._last_s
            self._sought = False  # what this read finds gone may still be on its way, as before
            try:
                self._read(self._level, now)
            except Unavailable as error:
                self._fail(error, now)

    def _fail(self, error: RequestFailed, now: Instant) -> None:
        if self._doubt:
            error.args = (f"{error}. {self._doubt}",)
        super()._fail(error, now)


def degraded_aim(aim: Aim) -> Aim:
    """What a read at ONE must reach in place of the level: no less than the session has seen."""
    return aim._replace(compare=False, stable=True)


def doubt_about(result: Finding | RequestFailed, stale_ms: int, degrade_ms: int, rule: Rule) -> str:
    """Why what one replica has said may not stand for what the level would have; empty when it may."""
    if isinstance(result, RequestFailed):
        return f"Nor can it be degraded to a read at one: {_reason(result)}"
    degraded = "A read at one will not do instead"
    if result.lossy:
        return f"{degraded}: writes of its partition may be lost (see `basestore status`)"
    # Who asks there wants to know who was first: what is not final may be another, or none yet.
    if rule.final_when_stable and result.final != FINAL:
        return f"{degraded}: where the first write wins it must be final, and this is not"
    if stale_ms < 0:
        return f"{degraded}: how stale it may be is not known, for there is no proof yet, or clocks are apart"
    if stale_ms > degrade_ms:
        stale_s, degrade_s = stale_ms / 1e3, degrade_ms / 1e3
        return (
            f"{degraded}: it may be stale by {stale_s:.3f} s, more than the {degrade_s:g} s that are allowed"
        )
    return ""


def _because(failure: RequestFailed | None, replicas: int) -> str:
    """Why a read was degraded."""
    if failure is None:
        return "this node is overloaded"
    if isinstance(failure, Unavailable):
        return f"{failure.alive} of {replicas} replicas {'is' if failure.alive == 1 else 'are'} alive"
    if isinstance(failure, ReadTimeout):
        return _reason(failure).removeprefix("timeout: ")
    return "too many replicas refused or were lost"


def _reason(error: RequestFailed) -> str:
    """What it says, less what to do about it."""
    return str(error).partition(". ")[0].partition("; nothing was done")[0]


def _too_stale(request: Get, error: RequestFailed) -> TooStale:
    return TooStale(
        f"one replica's answer may be staler than {request.stale_ms_max} ms, and a quorum could not be read: "
        f"{_reason(error)}. Start the missing nodes (see `basestore status`), or take a staler answer"
    )
