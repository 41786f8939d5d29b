"""Loss: what may be lost of some writes, and an operator accepts it, so that proofs speak again.

Every member that answers is asked what is lost, then told which losses are accepted: those that were shown,
up to the moments that were shown. Members tell each other, so those that do not answer now hear of it when
they are back. What is found lost meanwhile is another loss, stays open, and is to be accepted anew. Accepting
twice is the same as once.

`Missing` asks what is lost of writes that somebody rests on, as an import that goes on behind them. That is
known at once (`replica/losses.py`, `anti_entropy/birth.py`); a proof that they are everywhere takes time.
Pure; the client's time is an argument.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from basestore.errors import ReadTimeout
from basestore.protocol.anti_entropy import LossRow
from basestore.protocol.operator import NEVER, PAGE_PARTITIONS, Survey
from basestore.results.cluster_view import SURVEY_MS, Cause, Following, Obstacle, Scope, gathered, wall_ms_of
from basestore.results.receipts import Writes

ACCEPT_S = 30.0
MISSING_S = 30.0
AT_ONCE_MS = 200
SILENT_S = 5.0  # members that do not answer are waited for, once all is accepted that others know of
ROWS_MAX = 1000  # in one request; what is left over goes with the next round


@dataclass(frozen=True, slots=True)
class AcceptedLoss:
    """What has been accepted.

    complete    whether no loss is open any more, as far as any replica of each partition knows
    accepted    whether all that was shown is accepted: what is open then was found since
    partitions  of which one was open
    until_ms    what was written up to then may be lost, in ms since 1970; None: nothing was
    obstacles   what stands in the way, if it is not complete
    unheard     by name, why a member was not heard that need not be, for others have its partitions, and
                tell it; one that must be heard is an obstacle
    """

    complete: bool
    accepted: bool
    partitions: tuple[int, ...]
    until_ms: int | None
    obstacles: tuple[Obstacle, ...]
    unheard: dict[str, str]

    def __bool__(self) -> bool:
        return self.complete

    def as_json(self) -> dict[str, Any]:
        """As `basestore repair --accept-loss -o json` prints it."""
        return {
            "complete": self.complete,
            "accepted": self.accepted,
            "partitions": list(self.partitions),
            "until_ms": self.until_ms,
            "obstacles": [each.as_json() for each in self.obstacles],
            "unheard": self.unheard,
        }


class Accepting(Following[AcceptedLoss]):
    """Asks until it is done."""

    def __init__(self, scope: Scope, timeout_s: float, now_s: float) -> None:
        super().__init__(scope, timeout_s, now_s)
        self._shown: list[LossRow] | None = None  # those that were open when a whole round was first heard

    def request(self, request: int) -> Survey:
        """The next request: in the first round only what there is to accept."""
        bucket, key, partition = self._scope
        first, accepted = self.cluster_view.first, self._unaccepted()
        if self.cluster_view.total > 1:  # a page of them
            accepted = [row for row in accepted if first <= row.partition < first + PAGE_PARTITIONS]
        return Survey(request, bucket, key, partition, first, NEVER, False, accepted[:ROWS_MAX], SURVEY_MS)

    @property
    def progress(self) -> tuple[int, int]:
        """Partitions of which no loss is open, and all."""
        return self.cluster_view.total - len({row.partition for row in self._open()}), self.cluster_view.total

    def _open(self) -> list[LossRow]:
        view = self.cluster_view
        return [row for partition in view.partitions for row in view.losses(partition)]

    def _unaccepted(self) -> list[LossRow]:
        """What was shown, and is not yet said to be accepted."""
        view = self.cluster_view

        def accepted(shown: LossRow) -> bool:
            known = view.losses(shown.partition, accepted=True)
            return any(row[:3] == shown[:3] and row.accepted >= shown.upto for row in known)

        return [row for row in self._shown or () if not accepted(row)]

    def result(self, now_s: float) -> AcceptedLoss | None:
        """What became of it, once it is complete, something new is open, or time is up."""
        view = self.cluster_view
        if view.first and now_s < self._deadline:
            return None
        if view.heard and self._shown is None:
            self._shown = self._open()
        open_, shown = self._open(), self._shown or []
        accepted = self._shown is not None and not self._unaccepted()
        complete = accepted and not open_ and len(view.partitions) == view.total
        silent = accepted and bool(view.unheard) and now_s >= self._begun_s + SILENT_S
        if not complete and not silent and not (accepted and open_) and now_s < self._deadline:
            return None
        until_ms = wall_ms_of(max(row.upto for row in shown)) if shown else None
        obstacles = () if complete else gathered(self._obstacles(open_))
        partitions = tuple(sorted({row.partition for row in shown}))
        named = {name for obstacle in obstacles for name in obstacle.nodes if obstacle.kind == "down"}
        unheard = {name: why for name, why in view.unheard.items() if name not in named}
        return AcceptedLoss(complete, accepted, partitions, until_ms, obstacles, unheard)

    def _obstacles(self, open_: list[LossRow]) -> list[tuple[int | None, Cause]]:
        view = self.cluster_view
        partitions = dict.fromkeys(row.partition for row in open_)
        causes: list[tuple[int | None, Cause]] = []
        causes += [(each, cause) for each in partitions for cause in view.lost(each)]
        if len(view.partitions) < view.total or not view.heard:
            causes += [(None, cause) for cause in view.silent]
        return causes


class Missing(Following[tuple[Obstacle, ...]]):
    """Asks whether any of these writes, by partition, may be gone with a disk, and why. A replica that is not
    up does not know yet: it is waited for, and if that takes too long it is named. Of a partition all of
    whose replicas stay away nothing is known, and nothing said: who is back will tell. Without partitions: of
    all whether such writes would be, and that of those that answer at once."""

    def __init__(self, written: Mapping[int, Writes] | Writes, timeout_s: float, now_s: float) -> None:
        super().__init__(Scope("default", b"", -1), timeout_s, now_s)
        self._written = written

    def request(self, request: int) -> Survey:
        """The next request."""
        within_ms = AT_ONCE_MS if isinstance(self._written, Writes) else SURVEY_MS
        return Survey(request, *self._scope, self.cluster_view.first, NEVER, False, [], within_ms)

    @property
    def progress(self) -> tuple[int, int]:
        """Partitions that a replica has told of, and all."""
        return len(self.cluster_view.partitions), self.cluster_view.total

    def result(self, now_s: float) -> tuple[Obstacle, ...] | None:
        """What stands against them, once it is known; ReadTimeout when it cannot be learned in time."""
        view, written = self.cluster_view, self._written
        doubts: list[tuple[int | None, Cause]] = []
        waits = False
        if isinstance(written, Writes):
            written = dict.fromkeys(range(view.total), written)
        else:
            doubts = view.in_doubt(written)
            up = {each for node in view.nodes.values() if node.said.state == "up" for each in node.holdings}
            waits = (bool(doubts) or not written.keys() <= up) and now_s < self._begun_s + SILENT_S
        if now_s < self._deadline and (view.first or not view.heard or waits):
            return None
        if not view.heard:
            text = "no node told in time what is lost. Look at `basestore status`, and try again"
            raise ReadTimeout(text, None, None, None)
        lacking = [
            (partition, cause)
            for partition, writes in written.items()
            for cause in view.may_lack(partition, writes)
        ]
        return gathered(lacking + doubts)
