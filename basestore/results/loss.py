"""Loss: an operator accepts that writes may be lost (`replica/losses.py`), so that proofs speak again.

Every member that answers is asked what is lost, then told that all of it is accepted; members tell each
other, so those that do not answer now hear of it when they are back. What is lost after that is another
loss, and is to be accepted anew. Accepting twice is the same as once. Pure; the client's time is an argument.
"""

from dataclasses import dataclass
from typing import Any

from basestore.protocol.operator import NEVER, Survey
from basestore.results.cluster_view import SURVEY_MS, Cause, Following, Obstacle, Scope, gathered, wall_ms_of

ACCEPT_S = 30.0


@dataclass(frozen=True, slots=True)
class AcceptedLoss:
    """What has been accepted.

    complete    whether no loss is open any more, as far as any replica of each partition knows
    partitions  of which one was open
    until_ms    what was written up to then may be lost, in ms since 1970; None: nothing was
    obstacles   what stands in the way, if it is not complete
    unheard     by name, why a member was not heard; the others tell it
    """

    complete: bool
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
            "partitions": list(self.partitions),
            "until_ms": self.until_ms,
            "obstacles": [each.as_json() for each in self.obstacles],
            "unheard": self.unheard,
        }


class Accepting(Following[AcceptedLoss]):
    """Asks until it is done."""

    def __init__(self, scope: Scope, timeout_s: float, now_s: float) -> None:
        super().__init__(scope, timeout_s, now_s)
        self._found: dict[int, int] | None = None  # up to which stamp, by partition, when first heard
        self._told = False  # a whole round of acceptance has been answered

    def request(self, request: int) -> Survey:
        """The next request: in the first round only what there is to accept."""
        bucket, key, partition = self._scope
        accept = self._found is not None
        return Survey(
            request, bucket, key, partition, self.cluster_view.first, NEVER, False, accept, SURVEY_MS
        )

    @property
    def progress(self) -> tuple[int, int]:
        """Partitions of which no loss is open, and all."""
        return self.cluster_view.total - len(self._open()), self.cluster_view.total

    def _open(self) -> dict[int, int]:
        view = self.cluster_view
        losses = {partition: view.losses(partition) for partition in view.partitions}
        return {partition: max(row.upto for row in rows) for partition, rows in losses.items() if rows}

    def result(self, now_s: float) -> AcceptedLoss | None:
        """What became of it, once it is complete or time is up."""
        view = self.cluster_view
        if view.first and now_s < self._deadline:
            return None
        open_ = self._open()
        if view.heard and self._found is None:
            self._found = open_
        elif view.heard:
            self._told = True
        complete = self._told and not open_ and len(view.partitions) == view.total
        if not complete and now_s < self._deadline:
            return None
        found = self._found or {}
        until_ms = wall_ms_of(max(found.values())) if found else None
        obstacles = () if complete else gathered(self._obstacles(open_))
        return AcceptedLoss(complete, tuple(sorted(found)), until_ms, obstacles, dict(view.unheard))

    def _obstacles(self, open_: dict[int, int]) -> list[tuple[int | None, Cause]]:
        view = self.cluster_view
        causes: list[tuple[int | None, Cause]] = []
        causes += [(each, cause) for each in open_ for cause in view.lost(each)]
        if len(view.partitions) < view.total or not view.heard:
            causes += [(None, cause) for cause in view.silent]
        return causes
