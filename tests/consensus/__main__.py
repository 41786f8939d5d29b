"""python -m tests.consensus: play seeds of a simulated Raft group, or try the mutants.

--seeds A..B [--jobs N]              a range, B included, with what was exercised
--mutants [NAME ...] [--jobs N]      Raft with a rule left out, and how that is found out
"""

import argparse
import sys
from collections import Counter
from multiprocessing import get_context

from tests.consensus.mutants import MUTANTS, Mutant, caught
from tests.consensus.trial import Trial, play


def seeds(text: str) -> range:
    """A..B, B included."""
    first, dots, last = text.partition("..")
    if not (dots and first.isdecimal() and last.isdecimal() and int(first) <= int(last)):
        raise argparse.ArgumentTypeError(f"{text!r} is no range of seeds; say A..B, as 0..99")
    return range(int(first), int(last) + 1)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.consensus", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--seeds", type=seeds)
    names = [mutant.name for mutant in MUTANTS]
    what.add_argument("--mutants", nargs="*", metavar="NAME", choices=[*names, []])
    parser.add_argument("--jobs", type=int, default=1)
    given = parser.parse_args()
    with get_context("fork").Pool(given.jobs) as pool:
        if given.seeds:
            return report(list(pool.imap(play, given.seeds, chunksize=8)))
        chosen = [mutant for mutant in MUTANTS if not given.mutants or mutant.name in given.mutants]
        return report_mutants(chosen, list(pool.imap(caught, chosen, chunksize=1)))


def report(trials: list[Trial]) -> int:
    counts: Counter[str] = Counter()
    for trial in trials:
        counts += trial.counts
        if trial.failure:
            print(f"seed {trial.seed}: {trial.failure}")
    failures = sum(bool(trial.failure) for trial in trials)
    print(", ".join(f"{count:,} {name}" for name, count in sorted(counts.items())))
    print(f"{len(trials):,} seeds, {failures} violations")
    return bool(failures)


def report_mutants(chosen: list[Mutant], found: list[str]) -> int:
    for mutant, how in zip(chosen, found, strict=True):
        print(f"{mutant.name:26} {how or 'NOT CAUGHT'}   ({mutant.about})")
    print(f"{sum(map(bool, found))} of {len(chosen)} caught")
    return not all(found)


if __name__ == "__main__":
    sys.exit(main())
