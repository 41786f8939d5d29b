"""Minimise: a failing plan with as few faults, clients and seconds as still fail the same check."""

from collections.abc import Callable
from dataclasses import replace

from tests.simulation.outcome import play
from tests.simulation.plan import WHOLE, Reduction, draw

SHORTEST_S = 0.7


def fails(seed: int, kept: Reduction, check: str) -> bool:
    """Whether what is left still fails that check."""
    return any(violation.check == check for violation in play(seed, kept).violations)


def minimise(seed: int, check: str, tell: Callable[[Reduction], None]) -> Reduction:
    """The smallest reduction that was found; `tell` hears of each step towards it."""
    plan = draw(seed)
    kept = replace(WHOLE, faults=tuple(range(len(plan.faults))), clients=tuple(range(len(plan.clients))))
    changed = True
    while changed:
        changed = False
        for smaller in _smaller(kept, plan.seconds):
            if fails(seed, smaller, check):
                kept, changed = smaller, True
                tell(kept)
                break
    return kept


def _smaller(kept: Reduction, whole_s: float) -> list[Reduction]:
    """Candidates, the boldest first."""
    assert kept.faults is not None
    assert kept.clients is not None
    seconds = kept.seconds or whole_s
    candidates = []
    for share in (0.5, 0.75, 0.9):
        if seconds * share >= SHORTEST_S:
            candidates.append(replace(kept, seconds=seconds * share))
    size = len(kept.faults)
    while size >= 1:
        for start in range(0, len(kept.faults), size):
            candidates.append(replace(kept, faults=kept.faults[:start] + kept.faults[start + size :]))
        size //= 2
    if len(kept.clients) > 1:
        half = len(kept.clients) // 2
        parts = [kept.clients[:half], kept.clients[half:]]
        parts += [kept.clients[:i] + kept.clients[i + 1 :] for i in range(len(kept.clients))]
        candidates += [replace(kept, clients=clients) for clients in parts]
    return candidates
