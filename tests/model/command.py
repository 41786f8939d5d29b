"""Command: plays the seeds of a model, or leaves its rules out, and says who notices.

500               the design, with what was met in it
500 all           the design, then without each rule in turn: which seed notices
500 'NAME' ...    without that rule
"""

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from tests.model.laws import Violation
from tests.model.patches import Breakage, broken

Play = Callable[[int, Counter[str]], Violation | None]


def catch(play: Play, breakage: Breakage, seeds: Iterable[int]) -> tuple[int | None, str]:
    """The first of these seeds that notices, and what."""
    with broken(breakage):
        for seed in seeds:
            if violation := play(seed, Counter()):
                return seed, str(violation)
    return None, ""


def run(name: str, play: Play, breakages: list[Breakage], harmless: Mapping[str, str]) -> int:
    parser = argparse.ArgumentParser(
        prog=f"python -m {name}", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [breakage.name for breakage in breakages]
    parser.add_argument("runs", type=int, nargs="?", default=100)
    parser.add_argument("what", nargs="*", choices=["all", "design", *names, []], metavar="NAME")
    parser.add_argument("--first", type=int, default=0, metavar="SEED")
    given = parser.parse_args()
    seeds = range(given.first, given.first + given.runs)
    failed = 0
    if not given.what or {"all", "design"} & {*given.what}:
        failed += play_all(play, seeds)
    for breakage in breakages:
        if "all" in given.what or breakage.name in given.what:
            failed += not try_without(play, breakage, seeds, harmless)
    return int(failed > 0)


def play_all(play: Play, seeds: range) -> int:
    counts: Counter[str] = Counter()
    began_s, violations = time.monotonic(), 0
    for seed in seeds:
        if violation := play(seed, counts):
            violations += 1
            print(f"{seed}: {violation}", flush=True)
    for what, count in sorted(counts.items()):
        print(f"{what:50} {count:9,}")
    print(f"{len(seeds)} runs, {violations} violations, {time.monotonic() - began_s:.1f} s", flush=True)
    return violations


def try_without(play: Play, breakage: Breakage, seeds: range, harmless: Mapping[str, str]) -> bool:
    """Whether it was noticed, or it is known why not."""
    seed, law = catch(play, breakage, seeds)
    if seed is not None:
        print(f"{breakage.name:64} seed {seed}: {law}"[:150], flush=True)
        return True
    print(f"{breakage.name:64} not caught  {harmless.get(breakage.name, 'for no known reason')}", flush=True)
    return breakage.name in harmless
