"""Events: what happens when, by chance, on one heap; and tasks, which are generators.

A task yields for how long it sleeps, or a `Wait`, and goes on with what that was given. It may stop between
any two steps for a long time (`stalling`), or for good (`end`). Owns no clock but `now`, and all chance.
"""

import heapq
import random
from collections import Counter
from collections.abc import Callable, Generator
from typing import Any, TypeVar

from tests.model.laws import demand

T = TypeVar("T")
EVENTS_MAX = 60_000


class Wait:
    """For what is `given` once."""

    def __init__(self) -> None:
        self.then: Callable[[Any], None] | None = None
        self.is_over = False
        self.value: Any = None

    def give(self, value: Any) -> None:
        if not self.is_over:
            self.is_over, self.value = True, value
            if self.then is not None:
                self.then(value)


Steps = Generator[int | Wait, Any, T]


class Task:
    def __init__(self, steps: Steps[Any], then: Callable[[Any], None]) -> None:
        self.steps = steps
        self.then = then
        self.is_over = False

    def end(self) -> None:
        """Nothing more comes of it."""
        if not self.is_over:
            self.is_over = True
            self.steps.close()


class Events:
    """`losing`, `doubling`, `late`: how many of a hundred messages are lost, come twice, or late."""

    def __init__(self, seed: str, counts: Counter[str]) -> None:
        self.random = random.Random(seed)
        self.counts = counts
        self.now = 0
        self.heap: list[tuple[int, int, Callable[[], None]]] = []
        self.number = 0
        self.stalling = 0.0
        self.losing, self.doubling, self.late = 0, 0, 0
        self.late_max = 400

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def after(self, delay: int, then: Callable[[], None]) -> None:
        self.number += 1
        heapq.heappush(self.heap, (self.now + delay, self.number, then))

    def drain(self, until: int | None = None) -> None:
        """Until nothing more is to happen, or not before then."""
        events = 0
        while self.heap and (until is None or self.heap[0][0] <= until):
            self.now, _, then = heapq.heappop(self.heap)
            then()
            events += 1
            demand(events < EVENTS_MAX, "it comes to no end", self.now)
        if until is not None:
            self.now = max(self.now, until)

    def transmit(self, arrive: Callable[[], None]) -> None:
        """A message: in no order, perhaps late, twice or never."""
        copies = 0 if self.chance(self.losing / 100) else 1 + self.chance(self.doubling / 100)
        for _ in range(copies):
            late = self.chance(self.late / 100)
            self.after(self.random.randint(20, self.late_max) if late else self.random.randint(1, 6), arrive)

    def start(self, steps: Steps[T], then: Callable[[T], None]) -> Task:
        task = Task(steps, then)
        self.after(0, lambda: self.go_on(task, None))
        return task

    def go_on(self, task: Task, value: Any) -> None:
        if task.is_over:
            return
        try:
            step = task.steps.send(value)
        except StopIteration as stop:
            task.is_over = True
            task.then(stop.value)
            return
        stall = self.random.randint(20, 300) if self.chance(self.stalling) else 0
        if isinstance(step, int):
            self.after(step + stall, lambda: self.go_on(task, None))
            return
        step.then = lambda given: self.after(stall, lambda: self.go_on(task, given))
        if step.is_over:
            step.then(step.value)
