"""python -m tests.model.registers [RUNS [all | design | NAME ...]] [--first SEED]: play seeds, or leave rules
out.

500              the design, with what was met in it
500 all          the design, then without each rule in turn: which seed notices
500 'no joint'   without that rule
"""

import argparse
import sys
import time
from collections import Counter

from tests.model.registers.breakages.known import BREAKAGES, HARMLESS, catch
from tests.model.registers.stage import STAGED
from tests.model.registers.world import play


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.model.registers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [breakage.name for breakage in BREAKAGES]
    parser.add_argument("runs", type=int, nargs="?", default=100)
    parser.add_argument("what", nargs="*", choices=["all", "design", *names, []], metavar="NAME")
    parser.add_argument("--first", type=int, default=0, metavar="SEED")
    return parser.parse_args()


def main() -> int:
    given = arguments()
    seeds = range(given.first, given.first + given.runs)
    failed = 0
    if not given.what or {"all", "design"} & {*given.what}:
        failed += play_all(seeds)
    for breakage in BREAKAGES:
        if "all" in given.what or breakage.name in given.what:
            failed += not try_without(breakage.name, seeds)
    return int(failed > 0)


def play_all(seeds: range) -> int:
    counts: Counter[str] = Counter()
    began_s, violations = time.monotonic(), 0
    for seed in seeds:
        if violation := play(seed, counts):
            violations += 1
            print(f"{seed}: {violation}", flush=True)
    for what, count in sorted(counts.items()):
        print(f"{what:40} {count:9,}")
    print(f"{len(seeds)} runs, {violations} violations, {time.monotonic() - began_s:.1f} s", flush=True)
    return violations


def try_without(name: str, seeds: range) -> bool:
    """Whether it was noticed, or is known to do no harm."""
    breakage = next(each for each in BREAKAGES if each.name == name)
    seed, law = catch(breakage, seeds)
    if seed is not None:
        print(f"{name:72} seed {seed}: {law}"[:150], flush=True)
        return True
    reason = HARMLESS.get(name) or (
        f"by {STAGED[name].__name__}" if name in STAGED else "for no known reason"
    )
    print(f"{name:72} not caught  {reason}", flush=True)
    return name in HARMLESS or name in STAGED


if __name__ == "__main__":
    sys.exit(main())
