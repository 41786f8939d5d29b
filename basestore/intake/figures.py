"""Figures: how the intake stands, in numbers, for whoever watches it.

    offered     requests that clients have sent, since the store was opened
    admitted    of these, those that were begun, or kept for later (`defer`)
    shed        those that were refused unopened; what is neither waits, or its caller has gone

Counting costs the intake what it does anyway; all else here is worked out when somebody asks, but for the
shed of the last minute (`Lately`), of which a note is taken once a second. Changes nothing.
"""

from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from basestore.protocol.envelopes import CLASSES

NOTE_S: Final = 1.0
NOTES: Final = 60
UNKNOWN: Final = -1  # in place of a number


class Lately:
    """What was counted in the last minute, of numbers that only grow, and begin at 0."""

    def __init__(self, numbers: int = len(CLASSES)) -> None:
        self._notes: deque[tuple[int, ...]] = deque([(0,) * numbers], maxlen=NOTES)
        self._due_s = 0.0

    def tick(self, counts: Sequence[int], now_s: float) -> None:
        """Take a note, if it is time."""
        if now_s >= self._due_s:
            self._due_s = max(self._due_s + NOTE_S, now_s)  # though ticks come late
            self._notes.append(tuple(counts))

    def of(self, counts: Sequence[int]) -> tuple[int, ...]:
        """How much was added to each."""
        return tuple(now - then for now, then in zip(counts, self._notes[0], strict=True))


class Figures(NamedTuple):
    """Of one node, at one moment; what is a tuple is by class.

    shed_lately     in the last minute
    most_shed       the tenants of whom most was shed in it, and how many requests
    under_way       begun, and not answered yet; of the classes but `admin` at most about `requests_max`
    waiting         not begun yet, in `unopened_bytes`
    window          how many requests a client should have under way that has the fewest; None: there is none
    retry_ms        when what is refused now may be done
    """

    offered: tuple[int, ...]
    admitted: tuple[int, ...]
    shed: tuple[int, ...]
    shed_lately: tuple[int, ...]
    under_way: tuple[int, ...]
    waiting: tuple[int, ...]
    requests_max: int
    unopened_bytes: int
    window: int | None
    brownout: int
    retry_ms: int
    most_shed: tuple[tuple[str, int], ...] = ()

    def facts(self) -> dict[str, str]:
        """For `basestore status`, as names and values."""
        facts = {
            "requests max": str(self.requests_max),
            "unopened bytes": str(self.unopened_bytes),
            "window": "" if self.window is None else str(self.window),
            "brownout": str(self.brownout),
            "retry ms": str(self.retry_ms),
        }
        for what in ("offered", "admitted", "shed", "shed_lately", "under_way", "waiting"):
            name = what.replace("_", " ")
            facts |= {f"{name} {kind}": str(n) for kind, n in zip(CLASSES, getattr(self, what), strict=True)}
        ranked = enumerate(self.most_shed, 1)
        return facts | {f"most shed {rank}": f"{count} {tenant}" for rank, (tenant, count) in ranked}


class Door(NamedTuple):
    """How one request fared: its class, how long it waited until it was begun, how many its connection should
    have under way, and how much this node leaves out; UNKNOWN for what cannot be told."""

    kind: int = UNKNOWN
    waited_ms: int = UNKNOWN
    window: int = UNKNOWN
    brownout: int = UNKNOWN
