"""Latency: how long answers usually take, from the latest few hundred of them. Pure.

Times are counted in buckets that grow by a quarter; every so often all counts are halved, so that
what was long ago weighs less and less. Owns one estimate, the 99th percentile; what is done with it
(asking one replica more) is for the quorum read.
"""

from bisect import bisect_left

LEAST_S = 0.0005
GROWTH = 1.25
BUCKETS = 48
HALVED_AT = 512
_BOUNDS_S = [LEAST_S * GROWTH**step for step in range(BUCKETS)]


class Latency:
    """The 99th percentile of what was added, `p99_s`: an upper bound of its bucket."""

    __slots__ = ("_counts", "_fresh", "p99_s")

    def __init__(self, p99_s: float) -> None:
        """`p99_s` is what is assumed until enough is known."""
        self.p99_s = p99_s
        self._counts = [0] * (BUCKETS + 1)
        self._fresh = 0

    def add(self, seconds: float) -> None:
        """Take note of one answer."""
        self._counts[bisect_left(_BOUNDS_S, seconds)] += 1
        self._fresh += 1
        if self._fresh == HALVED_AT:
            self._weigh()

    def _weigh(self) -> None:
        counts = self._counts
        left = sum(counts) * 0.01
        for bucket in range(BUCKETS, -1, -1):
            left -= counts[bucket]
            if left < 0:
                self.p99_s = _BOUNDS_S[min(bucket, BUCKETS - 1)]
                break
        self._counts = [count // 2 for count in counts]
        self._fresh = 0
