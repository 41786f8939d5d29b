"""The quick half of the mutants: each must be caught on the first few seeds. And all must fit the product:
one that makes it fall over, and is not meant to, would be taken for one that survives."""

import inspect
from collections import Counter
from typing import Any
from unittest.mock import patch

import pytest

from basestore.anti_entropy.exchanges import Exchanges
from basestore.replica.group_commit import GroupCommit
from tests.model.breakages import BREAKAGES
from tests.simulation import mutants
from tests.simulation.history import Violation
from tests.simulation.mutants import misfit, try_mutant
from tests.simulation.mutations import MUTANTS, SURVIVORS, Mutant, mutant_named
from tests.simulation.outcome import Outcome, play
from tests.simulation.plan import Reduction

QUICK = {  # and from which seed on: one that catches it soon
    "ack before fsync": 8,
    "a read of unsynced data": 8,
    "a hint counted for QUORUM": 0,
    "superseded counted as applied": 0,
    "quorum off by one": 0,
    "a stamp used again": 0,
    "first-write-wins without reading first": 101,
    "a tombstone dropped early": 0,
    "a read that believes the first reply": 0,
    "a deadline ignored": 0,
    "hints are never delivered": 0,
    "a refusal that was done": 0,
    "no places are kept for operators": 0,
}
CPU_S_MAX = 120.0  # a tenth of it is enough
SECONDS = 0.75  # clients, faults, restarts, the reads at the end: worlds twice as long meet no more mutants


@pytest.mark.parametrize(("name", "first_seed"), QUICK.items(), ids=list(QUICK))
def test_a_deliberate_bug_is_caught(name: str, first_seed: int) -> None:
    mutant = mutant_named(name)
    assert try_mutant(mutant, CPU_S_MAX, first_seed).caught_by in mutant.expected


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_mutant_fits_the_product(mutant: Mutant) -> None:
    for each in mutant.patches():
        right, wrong = getattr(each.getter(), each.attribute), each.new  # type: ignore[attr-defined]
        if inspect.isfunction(right) and inspect.isfunction(wrong):
            assert takes(wrong) >= takes(right), f"{each.attribute} is called otherwise"  # type: ignore[attr-defined]
    assert not misfit(mutant, SECONDS)


def takes(function: Any) -> float:
    """How many arguments by position."""
    kinds = [parameter.kind for parameter in inspect.signature(function).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return float("inf")
    return sum(kind in (kind.POSITIONAL_ONLY, kind.POSITIONAL_OR_KEYWORD) for kind in kinds)


def test_a_mutant_that_no_longer_fits_is_not_taken_for_one_that_survives() -> None:
    def stale(self: Any, exchange: Any, *more: Any) -> None:
        self._open[exchange.partition] = exchange.no_such_thing

    # private: any method that is called will do
    mutant = Mutant("stale", {"lost writes"}, lambda: [patch.object(Exchanges, "_close", stale)])
    trial = try_mutant(mutant, CPU_S_MAX)
    assert trial.caught_by is None
    assert "no_such_thing" in trial.crash
    assert "no_such_thing" in misfit(mutant, SECONDS)


@pytest.mark.parametrize(
    ("expected", "without", "caught"), [("acks", True, "acks"), ("", False, "acks"), ("", True, None)]
)
def test_what_an_unexpected_law_says_without_the_mutant_too_is_no_catch(
    expected: str, without: bool, caught: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ack = GroupCommit.ack
    mutant = Mutant("any", {expected}, lambda: [patch.object(GroupCommit, "ack", print)])

    def played(seed: int, kept: Reduction, kind: object) -> Outcome:
        bad = without or GroupCommit.ack is not ack
        return Outcome(seed, "", 0, [Violation("acks", "")] * bad, 0.0, 0.0, Counter())

    monkeypatch.setattr(mutants, "play", played)
    assert try_mutant(mutant, 0.05).caught_by == caught


def test_there_are_enough_mutants_and_each_survivor_has_its_reason() -> None:
    assert len(MUTANTS) >= 120
    names = {mutant.name for mutant in MUTANTS}
    assert len(names) == len(MUTANTS)
    assert names >= SURVIVORS.keys()
    assert {breakage.name for breakage in BREAKAGES} >= {mutant.model for mutant in MUTANTS if mutant.model}


def test_a_mutant_leaves_the_product_as_it_was() -> None:
    before = GroupCommit.ack
    trace = play(9).trace
    mutant = mutant_named("ack before fsync")
    try_mutant(mutant, CPU_S_MAX)
    assert GroupCommit.ack is before
    assert play(9).trace == trace
