"""Mutants: deliberate bugs, each put in by patching the product from outside, and the checkers that
are expected to find it. With none switched on the product is as it is.

    python -m tests.simulation --mutants [NAME or FAMILY ...] [--jobs N] [-o json]

A family is all whose names begin alike: `moves` those of `moves: no fence` and so on. They are tried side by
side, one a core unless `--jobs` says otherwise. Each is played on seeds 0, 1, 2, ... until a checker
complains or its time is over; those that need a certain kind of world pass over the seeds of others. A
complaint of a checker that was not expected counts if the same seed has none without the mutant. Where a
breakage of the model leaves out the same rule, that is tried first, for half of the time at most. Where a
scripted case shows it (`cases`), or `tests/consensus` leaves it out of the library alone, that is tried once
a fifth of the time is over. One that makes the product crash, and is not meant to, proves nothing: it no
longer fits the product, and the whole run fails.
"""

import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from multiprocessing import get_context
from typing import NamedTuple

from tests.consensus.mutants import MUTANTS as OF_RAFT
from tests.consensus.mutants import caught
from tests.model.breakages import BREAKAGES, catch
from tests.simulation.cases import CASES, shown_by
from tests.simulation.kinds import BATCHES, LOCKS, PLANNED, REGISTERS, TRANSACTIONS, WATCHES, Kind
from tests.simulation.mutations import MUTANTS, SURVIVORS, Mutant, mutant_named
from tests.simulation.outcome import Outcome, play
from tests.simulation.plan import Reduction

SHARE_MIN = 0.95
CRASH = "crash"
OTHERS = ("the model", "a case", "the library")  # what is tried beside whole worlds


class Trial(NamedTuple):
    """What came of a mutant: the checker that found it, or None, after so many seeds, the last of which
    is `seed`. `crash`: how the product fell over, where the mutant is not meant to make it."""

    caught_by: str | None
    seeds: int
    cpu_s: float
    seed: int
    crash: str = ""

    @property
    def how(self) -> str:
        """What found it; empty if nothing has."""
        if self.caught_by is None:
            return ""
        return next((other for other in OTHERS if self.caught_by.startswith(other)), "whole worlds")


@contextmanager
def switched_on(mutant: Mutant | None) -> Iterator[None]:
    """The product with this bug in it."""
    with ExitStack() as stack:
        for patch in mutant.patches() if mutant is not None else ():
            stack.enter_context(patch)
        yield


def seeds_for(mutant: Mutant, first_seed: int = 0) -> Iterator[int]:
    """Seeds of worlds that are apt to show it."""
    return (seed for seed in count(first_seed) if mutant.suits(kind_of(mutant).draw(seed)))


def kind_of(mutant: Mutant) -> Kind:
    """The worlds that it is played in."""
    if mutant.transactions or mutant.batches or mutant.locks:
        return TRANSACTIONS if mutant.transactions else BATCHES if mutant.batches else LOCKS
    return REGISTERS if mutant.registers else WATCHES if mutant.watches else PLANNED


def try_mutant(mutant: Mutant, cpu_s_max: float, first_seed: int = 0) -> Trial:
    """Play it until it is caught by a checker, or crashes when it should not."""
    began_s = time.process_time()
    seeds = seed = 0
    breakage = next((each for each in BREAKAGES if each.name == mutant.model), None)
    if breakage is not None:
        law, _ = catch(breakage, cpu_s_max / 2)
        if law is not None:
            return Trial(f"the model: {law}", seeds, time.process_time() - began_s, seed)
    kept, elsewhere = Reduction(clients=mutant.clients), mutant.rule or mutant.name in CASES
    for seed in seeds_for(mutant, first_seed):
        if time.process_time() - began_s >= (cpu_s_max / 5 if elsewhere else cpu_s_max):
            break
        with switched_on(mutant):
            outcome = play(seed, kept, kind_of(mutant))
        seeds += 1
        caught_by, crash = verdict(mutant, outcome)
        # A law that was not meant to see it may complain of something else.
        surprise = caught_by is not None and caught_by not in mutant.expected
        if crash or (caught_by and not (surprise and play(seed, kept, kind_of(mutant)).violations)):
            return Trial(caught_by, seeds, time.process_time() - began_s, seed, crash)
    with switched_on(mutant):
        if case := shown_by(mutant.name):
            return Trial(f"a case: {case}", seeds, time.process_time() - began_s, seed)
    rule = next((each for each in OF_RAFT if each.name == mutant.rule), None)
    if rule is not None and (found := caught(rule)):
        return Trial(f"the library: {found.partition(':')[0]}", seeds, time.process_time() - began_s, seed)
    return Trial(None, seeds, time.process_time() - began_s, seed)


def verdict(mutant: Mutant, outcome: Outcome) -> tuple[str | None, str]:
    """The checker that complains, an expected one first; or else a crash that is not expected: it ended the
    world before any could."""
    complaints = [violation.check for violation in outcome.violations]
    caught_by = next((check for check in complaints if check in mutant.expected), None)
    caught_by = caught_by or next((check for check in complaints if check != CRASH), None)
    if caught_by is not None:
        return caught_by, ""
    return None, next((found.text for found in outcome.violations if found.check == CRASH), "")


def misfit(mutant: Mutant, seconds: float) -> str:
    """How the product falls over in the first seconds of a world that suits the mutant, if it is not meant
    to; empty when it does not."""
    seed = next(seeds_for(mutant))
    kind = kind_of(mutant)
    faults = tuple(at for at, fault in enumerate(kind.draw(seed).faults) if fault.at < seconds)
    with switched_on(mutant):
        return verdict(mutant, play(seed, Reduction(faults, mutant.clients, seconds), kind))[1]


def family(mutant: Mutant) -> str:
    """What its name begins with, as others' do."""
    return mutant.name.partition(": ")[0]


def report(names: list[str], cpu_s_max: float, *, jobs: int, as_json: bool) -> int:
    """Try all, or those named, or of families that are; fail unless 95 % are caught and none crashes that is
    not meant to."""
    chosen = [each.name for each in MUTANTS if not names or not {each.name, family(each)}.isdisjoint(names)]
    trials = {}
    # Processes, each used once: a mutant must find the product as it is, and its CPU time is its own.
    with get_context("fork").Pool(jobs, maxtasksperchild=1) as pool:
        for name, trial in pool.imap(_try_named, [(name, cpu_s_max) for name in chosen], chunksize=1):
            trials[name] = trial
            if not as_json:
                print(line(name, trial), flush=True)
    caught = sum(trial.caught_by is not None for trial in trials.values())
    if as_json:
        print(json.dumps({"mutants": {name: trial._asdict() for name, trial in trials.items()}}))
    else:
        found = Counter(trial.how for trial in trials.values() if trial.how)
        by = ", ".join(f"{count} by {how}" for how, count in found.most_common())
        print(f"{caught} of {len(trials)} caught: {by}" if by else f"none of {len(trials)} caught")
    crashed = any(trial.crash for trial in trials.values())
    return int(crashed or caught < SHARE_MIN * len(trials))


def _try_named(task: tuple[str, float]) -> tuple[str, Trial]:
    name, cpu_s_max = task
    return name, try_mutant(mutant_named(name), cpu_s_max)


def line(name: str, trial: Trial) -> str:
    """What came of one, for people."""
    found, _, case = (trial.caught_by or "").partition(": ")
    word = f"caught by {found}" if found else "SURVIVES"
    why = case if found else SURVIVORS.get(name, "for no known reason")
    if trial.crash:
        word, why = "DOES NOT FIT", trial.crash
    return f"{name:60} {word:30} {trial.seeds:5} seeds {trial.cpu_s:6.1f} CPU s  {why}"
