"""python -m tests.model: play seeds, or the protocol with a rule left out.

--runs 200 [--seed S] [--rule last|first] [--places 3|5]    a range, with what was met in it
--seed S --rule R --places N [--corrupt]                    one seed
--break NAME ...                                            any of the above without this rule
--breakages [NAME ...] [--cpu-s 20]                         each, and by which law it is caught
"""

import argparse
import sys
import time
from collections import Counter

from basestore.repair.rule import Rule
from tests.model.breakages import BREAKAGES, HARMLESS, catch
from tests.model.patches import broken
from tests.model.trial import STEPS, Trial, never_met, play, trials

RULES = {"last": Rule.LAST_WRITE_WINS, "first": Rule.FIRST_WRITE_WINS}
RUNS_MIN = 100  # from which on every branch must have been met


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.model",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [breakage.name for breakage in BREAKAGES]
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="the first")
    parser.add_argument("--rule", choices=RULES)
    parser.add_argument("--places", type=int, choices=(3, 5), help="how many replicas")
    parser.add_argument("--corrupt", action="store_true", help="damage rows in silence")
    parser.add_argument("--break", choices=names, dest="breakage", metavar="NAME")
    parser.add_argument("--breakages", nargs="*", choices=[*names, []], metavar="NAME")
    parser.add_argument("--cpu-s", type=float, default=20.0, help="how long to try a breakage")
    return parser.parse_args()


def main() -> int:
    given = arguments()
    if given.breakages is not None:
        return try_breakages(given.breakages, given.cpu_s)
    rule = RULES.get(given.rule)
    chosen = list(trials(given.seed, given.runs, rule, given.places))
    if given.corrupt:
        chosen = [trial._replace(corrupt=True) for trial in chosen]
    with broken(next((breakage for breakage in BREAKAGES if breakage.name == given.breakage), None)):
        return play_all(chosen)


def play_all(chosen: list[Trial]) -> int:
    counts: Counter[str] = Counter()
    began_s = time.monotonic()
    violations = 0
    for trial in chosen:
        if violation := play(trial, counts):
            violations += 1
            print(f"{trial}: {violation}")
    for branch, count in sorted(counts.items()):
        print(f"{branch:40} {count:9,}")
    missed = never_met(counts, {trial.rule for trial in chosen}) if len(chosen) >= RUNS_MIN else []
    for branch in missed:
        print(f"NEVER MET  {branch}")
    print(
        f"{len(chosen)} runs of {STEPS:,} steps, {violations} violations, {time.monotonic() - began_s:.1f} s"
    )
    return int(violations > 0 or len(missed) > 0)


def try_breakages(names: list[str], cpu_s: float) -> int:
    """All, or those named; fail when one is not caught and nothing says why that is no harm."""
    unexplained = 0
    for breakage in BREAKAGES:
        if names and breakage.name not in names:
            continue
        law, where = catch(breakage, cpu_s)
        if law is None:
            unexplained += breakage.name not in HARMLESS
            print(
                f"{breakage.name:40} not caught  {HARMLESS.get(breakage.name, 'for no known reason')}",
                flush=True,
            )
        else:
            print(f"{breakage.name:40} {law:40} {where}", flush=True)
    return int(unexplained > 0)


if __name__ == "__main__":
    sys.exit(main())
