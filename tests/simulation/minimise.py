"""Minimise: a failing plan with as few machines, faults, clients, operations and seconds as still
fail the same check.

Seconds are cut by shares. Of the rest, halves, then ever smaller parts are left out, and what is not
missed stays out (after Zeller and Hildebrandt, "Simplifying and isolating failure-inducing input",
2002); it begins anew as long as something goes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from tests.simulation.kinds import PLANNED, Kind
from tests.simulation.plan import WHOLE, Reduction

SHORTEST_S = 0.7
PLAYS_MAX = 3000


def fails(seed: int, kept: Reduction, check: str, kind: Kind = PLANNED) -> bool:
    """Whether what is left still fails that check."""
    world = kind.world(kind.draw(seed).reduced(kept))
    world.run()
    return any(violation.check == check for violation in world.violations)


@dataclass
class _Search:
    seed: int
    check: str
    tell: Callable[[Reduction], None]
    kept: Reduction
    kind: Kind
    plays: int = 0

    def accept(self, smaller: Reduction) -> bool:
        """Take it if it still fails."""
        if self.plays >= PLAYS_MAX:
            return False
        self.plays += 1
        if not fails(self.seed, smaller, self.check, self.kind):
            return False
        self.kept = smaller
        self.tell(smaller)
        return True

    def shorten(self, whole_s: float) -> bool:
        """Fewer seconds."""
        for share in (0.5, 0.75, 0.9, 0.97):
            seconds = (self.kept.seconds or whole_s) * share
            if seconds >= SHORTEST_S and self.accept(replace(self.kept, seconds=seconds)):
                return True
        return False

    def thin(self, part: str) -> bool:
        """Fewer of `faults`, `clients` or `operations`; whether any could go."""
        items: Any = getattr(self.kept, part)
        before = len(items)
        for size in _sizes(before):
            at = 0
            while at < len(items):
                smaller = items[:at] + items[at + size :]
                changes: dict[str, Any] = {part: smaller}
                if (smaller or part == "faults") and self.accept(replace(self.kept, **changes)):
                    items = smaller
                else:
                    at += size
        return len(items) < before

    def fewer_machines(self, machines: int) -> bool:
        """Without the last machines."""
        now = self.kept.machines or machines
        return any(self.accept(replace(self.kept, machines=count)) for count in range(1, now))

    def name_operations(self) -> None:
        """From now on every operation that is asked is named."""
        world = self.kind.world(self.kind.draw(self.seed).reduced(self.kept))
        world.run()
        self.accept(replace(self.kept, operations=tuple(world.places)))


def minimise(seed: int, check: str, tell: Callable[[Reduction], None], kind: Kind = PLANNED) -> Reduction:
    """The smallest reduction that was found; `tell` hears of each step towards it."""
    plan = kind.draw(seed)
    clients = range(len(plan.clients or plan.registers))
    whole = replace(WHOLE, faults=tuple(range(len(plan.faults))), clients=tuple(clients))
    search = _Search(seed, check, tell, whole, kind)
    smaller = True
    while smaller:
        smaller = search.shorten(plan.seconds)
        smaller |= search.fewer_machines(len(plan.machines))
        smaller |= search.thin("clients")
        smaller |= search.thin("faults")
    search.name_operations()
    if search.kept.operations is not None:
        while search.thin("operations") or search.shorten(plan.seconds):
            pass
        search.thin("faults")
    return search.kept


def _sizes(count: int) -> Iterator[int]:
    """How many to leave out at once."""
    while count > 1:
        count = (count + 1) // 2
        yield count
    if count == 1:
        yield 1
