"""Mutants: deliberate bugs, each put in by patching the product from outside, and the checkers that
are expected to find it. With none switched on the product is as it is.

    python -m tests.simulation --mutants [NAME ...] [-o json]

Each is played on seeds 0, 1, 2, ... until a checker complains or its time is over; those that need
a certain kind of world pass over the seeds of others.
"""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from typing import NamedTuple

from tests.simulation.mutations import MUTANTS, SURVIVORS, Mutant
from tests.simulation.outcome import play
from tests.simulation.plan import draw

SHARE_MIN = 0.95


class Trial(NamedTuple):
    """What came of a mutant: the checker that found it, or None, after so many seeds, the last of which
    is `seed`."""

    caught_by: str | None
    seeds: int
    cpu_s: float
    seed: int


@contextmanager
def switched_on(mutant: Mutant | None) -> Iterator[None]:
    """The product with this bug in it."""
    with ExitStack() as stack:
        for patch in mutant.patches() if mutant is not None else ():
            stack.enter_context(patch)
        yield


def try_mutant(mutant: Mutant, cpu_s_max: float, first_seed: int = 0) -> Trial:
    """Play it until it is caught by an expected checker."""
    began_s = time.process_time()
    seeds = 0
    with switched_on(mutant):
        for seed in count(first_seed):
            if time.process_time() - began_s >= cpu_s_max:
                break
            if not mutant.suits(draw(seed)):
                continue
            outcome = play(seed)
            seeds += 1
            for violation in outcome.violations:
                if violation.check in mutant.expected:
                    return Trial(violation.check, seeds, time.process_time() - began_s, seed)
    return Trial(None, seeds, time.process_time() - began_s, seed)


def report(names: list[str], cpu_s_max: float, *, as_json: bool) -> int:
    """Try all, or those named; fail unless 95 % are caught or known to survive."""
    chosen = [mutant for mutant in MUTANTS if not names or mutant.name in names]
    trials = {}
    for mutant in chosen:
        trial = trials[mutant.name] = try_mutant(mutant, cpu_s_max)
        if not as_json:
            word = f"caught by {trial.caught_by}" if trial.caught_by else "SURVIVES"
            why = "" if trial.caught_by else SURVIVORS.get(mutant.name, "for no known reason")
            print(
                f"{mutant.name:45} {word:30} {trial.seeds:5} seeds {trial.cpu_s:6.1f} CPU s  {why}",
                flush=True,
            )
    caught = sum(trial.caught_by is not None for trial in trials.values())
    if as_json:
        print(json.dumps({"mutants": {name: trial._asdict() for name, trial in trials.items()}}))
    else:
        print(f"{caught} of {len(trials)} caught")
    return int(caught < SHARE_MIN * len(trials))
