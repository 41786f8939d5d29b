"""Detectors that lie: whatever they say, no promise is broken, for a verdict decides only what is
worth waiting for."""

from collections import Counter
from collections.abc import Callable
from math import inf, sin
from typing import Any

import pytest

from basestore.cluster.failure_detector import FailureDetector
from tests.simulation.outcome import play
from tests.simulation.world import PlannedWorld

SEEDS = range(7, 12)
_heal, _phi = PlannedWorld.heal, FailureDetector.phi
Verdict = Callable[[float], float]


def trusting(now_s: float) -> float:
    """Nobody is ever gone."""
    return 0.0


def moody(now_s: float) -> float:
    """By whim, three times a second, everyone is gone; every node has whims of its own."""
    return inf if sin(int(now_s * 3) * 12.9898) * 43758.5453 % 1 < 0.2 else 0.0


def gloomy(now_s: float) -> float:
    """As `moody`, and most of the time."""
    return inf if sin(int(now_s * 3) * 12.9898) * 43758.5453 % 1 < 0.7 else 0.0


@pytest.mark.parametrize("verdict", [trusting, moody, gloomy])
def test_whatever_the_detectors_say_no_promise_is_broken(
    verdict: Verdict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the faults end; then they must tell the truth, or the cluster would never be well."""
    lying, counts = True, Counter[str]()

    def phi(self: FailureDetector, now_s: float) -> float:
        return verdict(now_s) if lying else _phi(self, now_s)

    def heal(self: Any) -> None:
        nonlocal lying
        lying = False
        _heal(self)

    monkeypatch.setattr(FailureDetector, "phi", phi)
    monkeypatch.setattr(PlannedWorld, "heal", heal)
    for seed in SEEDS:
        lying = True
        outcome = play(seed)
        assert not outcome.violations, f"seed {seed}"
        counts += outcome.counts
    assert counts["set QUORUM stored"] > 20 * len(SEEDS)  # small worlds among them
    assert counts["get QUORUM found"] > 100 * len(SEEDS)
