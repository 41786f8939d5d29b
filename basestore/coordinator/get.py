"""Get: what one get does beside its read (`quorum_read.py`): how stale the answer may be, and more of
the replicas if that is staler than the caller takes.

What a replica holds misses no write at or below its stable stamp. So an answer of one replica lacks
only writes that were made after that stamp by their coordinators' clocks, which are at most twice the
drift bound from this one's: the bound is the time from the stamp to now, and that. It is not known
while there is no stable stamp, or while clocks are further apart than the bound. What a quorum has
confirmed is not stale at all.
"""

from typing import TYPE_CHECKING

from basestore.cluster.outbox import Outbox
from basestore.cluster.peers import Peers
from basestore.consistency import Level
from basestore.coordinator.quorum_read import Aim, Finding
from basestore.errors import RequestFailed, TooStale, Unavailable
from basestore.instant import Instant
from basestore.metrics import FAILURES
from basestore.protocol.client import Get
from repair.clock import HybridClock
from repair.rule import Rule
from repair.version import COUNTER_BITS

if TYPE_CHECKING:
    from basestore.coordinator.coordinator import Coordinator

UNKNOWN = -1


def stale_ms_of(stable: int, clock: HybridClock, peers: Peers, now: Instant) -> int:
    """How stale, in ms at most, what a replica with this stable stamp holds is; UNKNOWN when nobody can
    say."""
    drift_ms = clock.drift_ms_max
    apart = any(abs(peer.offset_ms or 0) > drift_ms for peer in peers.others)
    if not stable or apart or peers.clock_jumped or peers.skew_ms is not None:
        return UNKNOWN
    newest = max(clock.last, now.wall_ms << COUNTER_BITS)
    return max(0, (newest - stable) >> COUNTER_BITS) + 1 + 2 * drift_ms


class ClientGet:
    """One get of a client."""

    __slots__ = (
        "_aim", "_begun", "_bounded", "_coordinator", "_escalated", "_level", "_outbox", "_request", "_row",
        "_rule",
    )  # fmt: skip

    def __init__(
        self, coordinator: "Coordinator", outbox: Outbox, request: Get, level: Level, row: bytes, rule: Rule,
        now: Instant,
    ) -> None:  # fmt: skip
        self._coordinator = coordinator
        self._outbox = outbox
        self._request = request
        self._level = level
        self._row = row
        self._rule = rule
        self._begun = now
        self._bounded = request.tell or request.stale_ms_max > 0  # how stale it may be matters
        self._escalated = False

    def begin(self, compare: bool, now: Instant) -> None:
        """Read; Unavailable."""
        request = self._request
        told = self._bounded or self._rule.final_when_stable
        self._aim = Aim(0, request.floor, compare, request.repair, told)
        self._read(self._level, now)

    def _read(self, level: Level, now: Instant) -> None:
        deadline = self._begun.monotonic + self._request.timeout_ms / 1e3
        self._coordinator.read(self._row, self._rule, level, deadline, self._report, now, self._aim)

    def _report(self, result: Finding | RequestFailed, now: Instant) -> None:
        request = self._request
        if isinstance(result, RequestFailed):
            self._fail(_too_stale(request, str(result)) if self._escalated else result, now)
            return
        if not self._bounded:
            self._answer(result, UNKNOWN, now)
            return
        stale_ms = 0
        if self._level is Level.ONE and not self._escalated:
            stale_ms = self._coordinator.stale_ms(result.stable, now)
        if request.stale_ms_max and not 0 <= stale_ms <= request.stale_ms_max:
            self._escalate(now)
        else:
            self._answer(result, stale_ms, now)

    def _escalate(self, now: Instant) -> None:
        """One replica's answer is too stale: read at QUORUM, in the time that is left."""
        self._escalated = True
        self._coordinator.metrics.count("reads_escalated")
        try:
            self._read(Level.QUORUM, now)
        except Unavailable as error:
            self._fail(_too_stale(self._request, str(error)), now)

    def _answer(self, finding: Finding, stale_ms: int, now: Instant) -> None:
        coordinator, request = self._coordinator, self._request
        answer, size = finding.reply(request.id, self._begun.wall_ms)
        if self._bounded:
            answer = answer._replace(stable=finding.stable, stale_ms=stale_ms, escalated=self._escalated)
        coordinator.answer_bytes += (size - coordinator.answer_bytes) // 8
        seconds = now.monotonic - self._begun.monotonic
        coordinator.metrics.answered("get", self._level, "found" if answer.found else "missing", seconds)
        coordinator.hand_over(self._outbox, answer, size)

    def _fail(self, error: RequestFailed, now: Instant) -> None:
        seconds = now.monotonic - self._begun.monotonic
        self._coordinator.metrics.answered("get", self._level, FAILURES[error.code], seconds)
        self._coordinator.refuse(self._outbox, self._request.id, error)


def _too_stale(request: Get, why: str) -> TooStale:
    reason = why.partition(". ")[0].partition("; nothing was done")[0]
    return TooStale(
        f"one replica's answer may be staler than {request.stale_ms_max} ms, and a quorum could not be read: "
        f"{reason}. Start the missing nodes (see `basestore status`), or take a staler answer"
    )
