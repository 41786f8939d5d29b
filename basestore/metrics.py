"""Metrics: what a node has done, counted by the names that operators know. Pure.

The stories count as they go; `scrape.py` renders it in Prometheus's format.
"""

from collections import Counter


class Metrics:
    """Counters of one node since it was started."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.requests: Counter[tuple[str, str, str]] = Counter()  # by operation, level and outcome

    def count(self, name: str, amount: int = 1) -> None:
        """Something happened."""
        self.counts[name] += amount

    def answered(self, operation: str, level: int, outcome: str, seconds: float) -> None:
        """A client has had its answer, `seconds` after it asked."""

    def reached(self, operation: str, level: int, seconds: float) -> None:
        """A request would have met this level by now, `seconds` after it was asked: its ideal-level
        latency, whatever level was asked for."""
