"""Ranges: fixed ranges of worlds of one kind, as fast tests play them."""

from collections import Counter
from collections.abc import Iterable

from tests.simulation.kinds import Kind
from tests.simulation.outcome import play


def played_well(seeds: Iterable[int], kind: Kind, flag: str) -> Counter[str]:
    """What these worlds have met, in which nothing is wrong. `flag`: that of the command which plays them."""
    counts: Counter[str] = Counter()
    for seed in seeds:
        outcome = play(seed, kind=kind)
        assert not outcome.violations, f"python -m tests.simulation {flag} --seed {seed} --trace"
        counts += outcome.counts
    return counts
