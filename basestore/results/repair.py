"""Repair: anti-entropy at an operator's word, until all of it was done anew.

Anti-entropy (Demers et al., "Epidemic algorithms for replicated database maintenance", 1987) lets pairs of
replicas compare what they hold and exchange what differs; nodes do it in turn all the time.

A pair of replicas is done with a partition when both sides hold a certificate of an exchange that was
begun after the call; in a full repair, one that was begun after both had scrubbed the partition since
the call. All replicas must be whole, and none hold a damaged record. A partition with one replica has no
pair: a full repair checks its disk, and any other can say nothing of it. `Repairing` asks for that until all
is done or time is up; exchanges that end without a result are asked for again. Pure; the client's time is an
argument.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from basestore.protocol.operator import COUNTS, Survey
from basestore.results.cluster_view import SURVEY_MS, Cause, Following, Obstacle, Scope, gathered

REPAIR_S = 600.0


@dataclass(frozen=True, slots=True)
class Repair:
    """What a repair has done.

    complete   whether every pair of replicas of every partition has been compared since the call, or, where
               there is one replica, its disk was checked (`full`)
    pairs      pairs times partitions, of which `done` were; None while not all partitions are known
    did        by name, what all nodes that answer have counted since the call: exchanges, records_taken,
               records_healed, leaves_corrected, exchange_bytes_sent; the usual rounds are among it
    obstacles  what stands in the way, if it is not complete
    """

    complete: bool
    pairs: int | None
    done: int
    waited_s: float
    did: dict[str, int]
    obstacles: tuple[Obstacle, ...]

    def __bool__(self) -> bool:
        return self.complete

    def as_json(self) -> dict[str, Any]:
        """As `basestore repair -o json` prints it."""
        return {
            "complete": self.complete,
            "pairs": self.pairs,
            "done": self.done,
            "waited_s": round(self.waited_s, 3),
            **self.did,
            "obstacles": [each.as_json() for each in self.obstacles],
        }


class Repairing(Following[Repair]):
    """Asks until it is done."""

    def __init__(self, scope: Scope, full: bool, timeout_s: float, now_s: float) -> None:
        super().__init__(scope, timeout_s, now_s)
        self._full = full

    def request(self, request: int) -> Survey:
        """The next request."""
        bucket, key, partition = self._scope
        within_ms = int((self._now_s - self._begun_s) * 1e3)
        return Survey(
            request, bucket, key, partition, self.cluster_view.first, within_ms, self._full, [], SURVEY_MS
        )

    @property
    def progress(self) -> tuple[int, int]:
        """Pairs that are done, and all that are known."""
        undone, total = 0, 0
        for partition in self.cluster_view.partitions:
            pairs = list(self.cluster_view.pairs(partition))
            total += len(pairs)
            undone += sum(not self._done(partition, *pair) for pair in pairs)
        return total - undone, total

    def result(self, now_s: float) -> Repair | None:
        """What became of it, once it is complete or time is up."""
        self._now_s = now_s
        if self.cluster_view.first and now_s < self._deadline:
            return None
        cluster_view = self.cluster_view
        known = cluster_view.heard and len(cluster_view.partitions) == cluster_view.total
        done, pairs = self.progress
        complete = known and done == pairs and all(map(self._settled, cluster_view.partitions))
        never = known and any(map(self._never, cluster_view.partitions))
        if not complete and not never and now_s < self._deadline:
            return None
        obstacles = () if complete else gathered(self._obstacles())
        waited_s = now_s - self._begun_s
        return Repair(complete, pairs if known else None, done, waited_s, self._did(), obstacles)

    def _done(self, partition: int, a: str, b: str) -> bool:
        sides = (self.cluster_view.side(partition, a, b), self.cluster_view.side(partition, b, a))
        return all(
            side is not None and side.begun_s >= self._begun_s and (side.checked or not self._full)
            for side in sides
        ) and (not self._full or self._scrubbed(partition))

    def _settled(self, partition: int) -> bool:
        """Whether its replicas are in a state to have been compared, or checked, at all."""
        compared = self._full or any(self.cluster_view.pairs(partition))
        return compared and self._scrubbed(partition) and not self._troubles(partition)

    def _never(self, partition: int) -> bool:
        """Whether there is nobody to compare the only replica with, or to heal it."""
        if any(self.cluster_view.pairs(partition)):
            return False
        damaged = any(cause.kind == "damaged" for cause in self._troubles(partition))
        return not self._full or (damaged and bool(self.cluster_view.losses(partition)))

    def _troubles(self, partition: int) -> list[Cause]:
        """Replicas that are down or in doubt, or hold what is damaged. Until all was scrubbed each may be."""
        passing = ("memory", "clock") if self._scrubbed(partition) else ("memory", "clock", "damaged")
        return [cause for cause in self.cluster_view.absences(partition) if cause.kind not in passing]

    def _scrubbed(self, partition: int) -> bool:
        """In a full repair: by all its replicas since the call."""
        views = [self.cluster_view.nodes.get(name) for name in self.cluster_view.replicas(partition)]
        return not self._full or all(
            view is not None
            and partition in view.holdings
            and view.holdings[partition].scrubbed_s >= self._begun_s
            for view in views
        )

    def _alone(self, partition: int) -> list[Cause]:
        text = "holds the only replica: there is nobody to compare it with"
        text += "" if self._full else "; --full checks its disk"
        return [Cause("alone", (name,), f"{name} {text}") for name in self.cluster_view.replicas(partition)]

    def _did(self) -> dict[str, int]:
        totals = dict.fromkeys(COUNTS, 0)
        for view in self.cluster_view.nodes.values():
            for name, now, first in zip(COUNTS, view.said.counts, view.first_counts, strict=True):
                totals[name] += max(0, now - first)
        totals["exchanges"] //= 2  # each has two sides
        return totals

    def _obstacles(self) -> Iterator[tuple[int | None, Cause]]:
        cluster_view = self.cluster_view
        for partition in cluster_view.partitions:
            undone = [pair for pair in cluster_view.pairs(partition) if not self._done(partition, *pair)]
            if undone or not self._settled(partition):
                pairs = [
                    Cause("not compared", pair, f"{pair[0]} and {pair[1]} have not been compared yet")
                    for pair in undone
                ]
                causes = self._troubles(partition) or pairs or self._alone(partition)
                yield from ((partition, cause) for cause in causes)
        if len(cluster_view.partitions) < cluster_view.total or not cluster_view.heard:
            yield from ((None, cause) for cause in cluster_view.silent)
