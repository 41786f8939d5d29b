"""python -m tests.simulation: play seeds, show one, make one small, try the mutants.

--seed S [--trace]                                                one, and all that happened in it
--seed S --minimise                                               the least of it that still fails
--seed S [--machines 3 --faults 1,4 --clients 0,2 --operations 0.17,2.3 --seconds 3.5]
                                                                  what is left of one
--seeds A..B [--jobs N] [-o json]                                 a range, with what was exercised
--seed S --march N                                                N members come, and as many leave, in a row
... --registers                                                   any of the above, of registers alone
... --watches                                                     any of the above, with some who watch
... --batches                                                     any of the above, of atomic batches, too
... --locks                                                       any of the above, with some who hold locks
... --transactions                                                of several of them at once, too
--mutants [NAME or FAMILY ...] [--jobs N] [-o json]               deliberate bugs, and who finds them
--mutant NAME ...                                                 any of the above with this bug
"""

import argparse
import hashlib
import json
import math
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing import get_context

from tests.simulation import exercise, mutants
from tests.simulation.kinds import BATCHES, LOCKS, PLANNED, REGISTERS, TRANSACTIONS, WATCHES, Kind
from tests.simulation.marches import march
from tests.simulation.minimise import minimise
from tests.simulation.mutations import MUTANTS
from tests.simulation.outcome import Outcome, play, play_plan
from tests.simulation.plan import Reduction

BAR = 40


def numbers(text: str) -> tuple[int, ...]:
    return () if text == "none" else tuple(int(word) for word in text.split(","))


def places(text: str) -> tuple[tuple[int, int], ...]:
    pairs = (word.partition(".") for word in text.split(","))
    return tuple((int(client), int(place)) for client, _, place in pairs)


def seeds(text: str) -> range:
    """A..B, B included."""
    first, dots, last = text.partition("..")
    if not (dots and first.isdecimal() and last.isdecimal() and int(first) <= int(last)):
        raise argparse.ArgumentTypeError(f"{text!r} is no range of seeds; say A..B, as 0..99")
    return range(int(first), int(last) + 1)


def at_least(low: float, kind: type[float] = int) -> Callable[[str], float]:
    """A number that is not less."""

    def number(text: str) -> float:
        value = kind(text)
        if not low <= value < math.inf:
            raise argparse.ArgumentTypeError(f"{text} must be {low} or more")
        return value

    return number


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--seed", type=at_least(0))
    what.add_argument("--seeds", type=seeds, help="a range, A..B, B included")
    names = [mutant.name for mutant in MUTANTS]
    families = {mutants.family(mutant) for mutant in MUTANTS}
    what.add_argument("--mutants", nargs="*", metavar="NAME", choices=[*names, *families, []])
    parser.add_argument("--jobs", type=at_least(1), help="processes; 1 for seeds, one a core for mutants")
    parser.add_argument("--trace", action="store_true")
    parser.add_argument("--minimise", action="store_true")
    parser.add_argument("--faults", type=numbers, help="keep only these faults of the plan, or none")
    parser.add_argument("--clients", type=numbers, help="keep only these clients of the plan")
    parser.add_argument("--machines", type=at_least(1), help="keep only so many machines")
    parser.add_argument("--operations", type=places, help="ask only these: client.place,client.place")
    parser.add_argument("--seconds", type=at_least(0.7, float), help="end the clients' time here")
    parser.add_argument("--march", type=at_least(1), metavar="N", help="N members come, and N leave")
    parser.add_argument("--registers", action="store_true", help="worlds whose clients ask for registers")
    parser.add_argument("--watches", action="store_true", help="worlds in which some watch what is written")
    parser.add_argument("--batches", action="store_true", help="worlds in which some write atomic batches")
    parser.add_argument("--locks", action="store_true", help="worlds in which some hold locks")
    parser.add_argument("--transactions", action="store_true", help="worlds whose clients ask for several")
    parser.add_argument("--mutant", choices=names, metavar="NAME")
    parser.add_argument("--cpu-s", type=float, default=60.0, help="how long to try a mutant")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")
    return parser.parse_args()


def main() -> int:
    given = arguments()
    if given.mutants is not None:
        jobs = given.jobs or len(os.sched_getaffinity(0))
        return mutants.report(given.mutants, given.cpu_s, jobs=jobs, as_json=given.output == "json")
    bug = next((mutant for mutant in MUTANTS if mutant.name == given.mutant), None)
    kind = WATCHES if given.watches else BATCHES if given.batches else LOCKS if given.locks else PLANNED
    kind = TRANSACTIONS if given.transactions else REGISTERS if given.registers else kind
    with mutants.switched_on(bug):
        if given.seeds:
            return play_range(given.seeds, given.jobs or 1, kind, as_json=given.output == "json")
        if given.minimise:
            return shrink(given.seed, given.mutant, kind)
        if given.march:
            return show_march(given.seed, given.march, as_json=given.output == "json")
        kept = Reduction(given.faults, given.clients, given.seconds, given.machines, given.operations)
        return show(given.seed, kept, kind, trace=given.trace, as_json=given.output == "json")


def show(seed: int, kept: Reduction, kind: Kind, *, trace: bool, as_json: bool) -> int:
    """Play one seed, perhaps with all that happened."""
    if trace:
        plan = kind.draw(seed).reduced(kept)
        world = kind.world(plan, recording=True)
        world.run()
        print("\n".join(world.lines))
        print(f"theme {plan.theme}, {plan.replication} replicas of {len(plan.machines)}, {plan.durability}")
        print(plan.network)
        for fault in plan.faults:
            print(fault)
    return told(play(seed, kept, kind), as_json=as_json)


def show_march(seed: int, count: int, *, as_json: bool) -> int:
    """Play one in which so many members come and leave."""
    outcome = play_plan(march(seed, count))
    if not as_json:
        counts = Counter({name: n for name, n in outcome.counts.items() if name.startswith("members: ")})
        print(exercise.table(counts))
    return told(outcome, as_json=as_json)


def told(outcome: Outcome, *, as_json: bool) -> int:
    """Whether it fails."""
    if as_json:
        print(json.dumps(summary([outcome])))
    else:
        print(
            f"seed {outcome.seed}: {outcome.operations} operations in {outcome.seconds:.1f} simulated s,",
            end=" ",
        )
        print(f"{outcome.cpu_s:.2f} CPU s, trace {outcome.trace}")
        for violation in outcome.violations:
            print(violation)
    return bool(outcome.violations)


def shrink(seed: int, mutant: str | None, kind: Kind) -> int:
    """Find the least of a failing seed that still fails."""
    outcome = play(seed, kind=kind)
    if not outcome.violations:
        print(f"seed {seed} does not fail")
        return 0
    check = outcome.violations[0].check
    kept = minimise(seed, check, lambda reduction: print(f"  {reduction}", flush=True), kind)
    bug = f" --mutant {mutant!r}" if mutant else ""
    bug += " --registers" if kind is REGISTERS else " --transactions" if kind is TRANSACTIONS else ""
    print(f"python -m tests.simulation --seed {seed}{bug} {kept} --trace    # {check}")
    return 1


def play_range(seeds: range, jobs: int, kind: Kind, *, as_json: bool) -> int:
    """Play many; fail on any violation, and when too little was exercised."""
    outcomes = []
    began_s = time.monotonic()
    for outcome in played(seeds, jobs, kind):
        outcomes.append(outcome)
        for violation in outcome.violations if not as_json else ():
            print(f"\rseed {outcome.seed}: {violation}")
        if sys.stderr.isatty():
            done = len(outcomes) * BAR // len(seeds)
            left_s = (time.monotonic() - began_s) / len(outcomes) * (len(seeds) - len(outcomes))
            bar = "#" * done + "." * (BAR - done)
            print(f"\r{bar} {len(outcomes)}/{len(seeds)}, {left_s:.0f} s left ", end="", file=sys.stderr)
    counts: Counter[str] = Counter()
    for outcome in outcomes:
        counts += outcome.counts
    of_registers = exercise.OF_TRANSACTIONS if kind is TRANSACTIONS else exercise.OF_REGISTERS
    least = exercise.MINIMUMS if kind is PLANNED else of_registers
    short = exercise.shortfalls(counts, len(outcomes), least)
    result = summary(outcomes)
    if as_json:
        print(json.dumps({**result, "shortfalls": short}))
    else:
        print(f"\n{exercise.table(counts)}\n")
        print(*(f"TOO RARE  {text}" for text in short), sep="\n")
        told = ", ".join(f"{result[name]:,} {name}" for name in ("seeds", "operations", "operations_per_s"))
        print(f"{told}, {result['simulated_hours']:.2f} simulated hours, ", end="")
        violations = sum(len(outcome.violations) for outcome in outcomes)
        print(f"{violations} violations, trace {result['trace']}")
    return bool(short or result["violations"])


def played(seeds: range, jobs: int, kind: Kind) -> Iterator[Outcome]:
    if jobs <= 1:
        yield from (play(seed, kind=kind) for seed in seeds)
        return
    with get_context("fork").Pool(jobs) as pool:  # with a bug, if there is one, in every process
        yield from pool.imap(partial(play, kind=kind), seeds, chunksize=4)


def summary(outcomes: list[Outcome]) -> dict[str, object]:
    """What `-o json` prints. The rate is of one core."""
    operations = sum(outcome.operations for outcome in outcomes)
    return {
        "seeds": len(outcomes),
        "operations": operations,
        "violations": [
            {"seed": outcome.seed, "check": violation.check, "text": violation.text}
            for outcome in outcomes
            for violation in outcome.violations
        ],
        "simulated_hours": sum(outcome.seconds for outcome in outcomes) / 3600,
        "operations_per_s": int(operations / max(1e-9, sum(outcome.cpu_s for outcome in outcomes))),
        "trace": digest_of(outcomes),
    }


def digest_of(outcomes: list[Outcome]) -> str:
    """One hash for a range: of its traces, in order."""
    if len(outcomes) == 1:
        return outcomes[0].trace
    return hashlib.sha256("".join(outcome.trace for outcome in outcomes).encode()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
