"""Clockwork: the only time and the only chance of a drill.

What is to happen is kept in a heap, by its moment and then by the order in which it was planned. Time stands
still while something happens, and then leaps to what is next: seconds of a cluster pass in a moment. Chance
comes from the seed alone, by concern, so that a question more does not change what the network does.
"""

from collections.abc import Callable
from hashlib import blake2b
from heapq import heappop, heappush
from typing import Any

_BITS = 53  # as many as a float keeps


class Clockwork:
    """`now_s`: seconds since the drill began."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._planned = 0
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []

    def at(self, moment_s: float, action: Callable[..., None], *arguments: Any) -> None:
        """Have something happen then, or now, if that has passed."""
        self._planned += 1
        heappush(self._heap, (max(moment_s, self.now_s), self._planned, action, arguments))

    def after(self, delay_s: float, action: Callable[..., None], *arguments: Any) -> None:
        self.at(self.now_s + delay_s, action, *arguments)

    def run(self, until: Callable[[], bool], patience_s: float) -> bool:
        """Let things happen until it is so, or for so long at most. Whether it is so."""
        end_s = self.now_s + patience_s
        while not until():
            if not self._heap or self._heap[0][0] > end_s:
                self.now_s = end_s
                return False
            self.now_s, _, action, arguments = heappop(self._heap)
            action(*arguments)
        return True


class Chance:
    """What one concern of one seed draws."""

    def __init__(self, seed: int, concern: str) -> None:
        self._source = f"{seed}/{concern}".encode()
        self._drawn = 0

    def bytes(self, count: int) -> bytes:
        """At most 64 of them."""
        self._drawn += 1
        return blake2b(self._source + b"/%d" % self._drawn, digest_size=count).digest()

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * (int.from_bytes(self.bytes(8)) >> (64 - _BITS)) / (1 << _BITS)
