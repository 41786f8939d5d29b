"""python -m tests.model.watch [RUNS [all | NAME ...]]: play seeds, or leave rules out.

500        the design, with what was met in it
500 all    the design, then without each rule in turn: which seed notices
"""

import argparse
import sys
import time
from collections import Counter

from tests.model.watch.breakages import BREAKAGES, catch
from tests.model.watch.world import play


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.model.watch", description=__doc__)
    names = [breakage.name for breakage in BREAKAGES]
    parser.add_argument("runs", type=int, nargs="?", default=200)
    parser.add_argument("what", nargs="*", choices=["all", *names, []], metavar="NAME")
    given = parser.parse_args()
    failed, counts, began_s = 0, Counter[str](), time.monotonic()
    for seed in range(given.runs):
        if violation := play(seed, counts):
            failed += 1
            print(f"{seed}: {violation}", flush=True)
    for what, count in sorted(counts.items()):
        print(f"{what:30} {count:9,}")
    print(f"{given.runs} runs, {failed} violations, {time.monotonic() - began_s:.1f} s", flush=True)
    for breakage in BREAKAGES:
        if "all" in given.what or breakage.name in given.what:
            noticed, law = catch(breakage, range(given.runs))
            failed += noticed is None
            print(f"{breakage.name:60} seed {noticed}: {law}"[:150], flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
