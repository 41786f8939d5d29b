"""Clockwork: the only time and the only chance of a simulated world.

Events are kept in a heap, by time and then by the order in which they were planned. Every concern
draws from a stream of its own, so that a fault more does not reshuffle what the clients do. Streams
use only `random()` and `getrandbits`, which are the same in every version of Python.
"""

import math
import random
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from typing import Any, TypeVar

T = TypeVar("T")


Event = tuple[float, int, Callable[..., None], tuple[Any, ...]]  # time, order, action, arguments
NEAR_PER_S = 16  # a power of two: no division rounds


class Clockwork:
    """A heap of events. `now` is in seconds since the world began."""

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[Event] = []
        self._planned = 0
        self._waiting: dict[int, list[tuple[Callable[..., bool], Event]]] = {}  # by when they are near

    def at(self, time: float, action: Callable[..., None], *arguments: Any) -> None:
        """Call `action` at that time, or now if it has passed."""
        self._planned += 1
        now = self.now
        heappush(self._heap, (time if time > now else now, self._planned, action, arguments))

    def after(self, delay: float, action: Callable[..., None], *arguments: Any) -> None:
        self._planned += 1
        heappush(self._heap, (self.now + delay, self._planned, action, arguments))

    def in_vain(
        self, delay: float, needed: Callable[..., bool], action: Callable[..., None], *arguments: Any
    ) -> None:
        """As `after`, for what mostly comes to nothing: only what is still `needed`, by its arguments, when
        its time is near gets into the heap. What is not needed any more must never be again."""
        self._planned += 1
        time = self.now + delay
        near = int(time * NEAR_PER_S)
        if near <= int(self.now * NEAR_PER_S):
            heappush(self._heap, (time, self._planned, action, arguments))
            return
        waiting = self._waiting.get(near)
        if waiting is None:
            waiting = self._waiting[near] = []
            # Before all else at its moment: then each still comes in its turn.
            heappush(self._heap, (near / NEAR_PER_S, 0, self._near, (near,)))
        waiting.append((needed, (time, self._planned, action, arguments)))

    def _near(self, near: int) -> None:
        for needed, event in self._waiting.pop(near):
            if needed(*event[3]):
                heappush(self._heap, event)

    def run(self, until: float) -> None:
        """Let everything happen up to that time."""
        heap, pop = self._heap, heappop
        while heap and heap[0][0] <= until:
            self.now, _, action, arguments = pop(heap)
            action(*arguments)
        self.now = max(self.now, until)


class Stream:
    """Chance for one concern of one seed."""

    __slots__ = ("bits", "random")
    # `exponential` and `tail` draw at every message: neither calls another method.

    def __init__(self, seed: int, concern: str) -> None:
        source = random.Random(f"{seed}/{concern}")
        self.random = source.random
        self.bits = source.getrandbits

    def chance(self, probability: float) -> bool:
        return self.random() < probability

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * self.random()

    def below(self, count: int) -> int:
        return int(self.random() * count)

    def exponential(self, mean: float) -> float:
        return -math.log(1.0 - self.random()) * mean

    def tail(self, mean: float, heavy: float) -> float:
        """A delay: exponential, but now and then (with chance `heavy`) forty times as long."""
        random = self.random
        if random() < heavy:
            mean *= 40
        return -math.log(1.0 - random()) * mean

    def pick(self, choices: Sequence[T]) -> T:
        return choices[int(self.random() * len(choices))]

    def weighted(self, choices: Sequence[tuple[T, float]]) -> T:
        """One of the pairs' first halves, with chances in proportion to the second halves."""
        left = self.random() * sum(weight for _, weight in choices)
        for choice, weight in choices:
            left -= weight
            if left < 0:
                return choice
        return choices[-1][0]

    def bytes(self, count: int) -> bytes:
        return self.bits(8 * count).to_bytes(count)
