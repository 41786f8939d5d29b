"""Crash states by the thousand: `python -m tests.crashes --states 2000 --flips 200 --seed 7`.

Prints, by family and fate, how many states opened as whole, as forgetful, or were refused, and the
same for flipped bits by kind of file; `-o json` for a program. Exit code 1 when something is wrong.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from tests.crashes.campaign import Report, Workplace, quick_directory, try_flips, try_states
from tests.crashes.opener import Opener
from tests.crashes.recording import Recorder
from tests.crashes.states import draw

BURSTS = 100


def show(title: str, report: Report) -> None:
    """A table, then what is wrong."""
    outcomes = sorted(report.outcomes())
    print(f"{title:24}" + "".join(f"{outcome:>24}" for outcome in outcomes))
    for row, counts in sorted(report.table.items()):
        print(f"{row:24}" + "".join(f"{counts[outcome]:>24}" for outcome in outcomes))
    print(f"{report.total} in all, {report.behind} behind what was acknowledged")
    for complaint in report.complaints:
        print(f"WRONG {complaint}")
    print()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crashes", description="Crash states of a store.")
    parser.add_argument("--states", type=int, default=1000, help="how many states of a power cut")
    parser.add_argument("--flips", type=int, default=100, help="how many flipped bits in each kind of file")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-o", choices=["text", "json"], default="text", dest="form")
    arguments = parser.parse_args()
    began_s = time.monotonic()
    with quick_directory() as place, Opener() as opener:
        root = Path(place)
        operations = Recorder(root).record(root / "store", "tests.crashes.load", arguments.seed, BURSTS)
        workplace = Workplace(root, opener)
        states = try_states(operations, draw(operations, arguments.states, arguments.seed), workplace)
        flips = try_flips(operations, arguments.flips, arguments.seed, workplace)
    reports = {"state of a power cut": states, "flipped bit in": flips}
    if arguments.form == "json":
        tables = {
            title: {"table": report.table, "behind": report.behind, "complaints": report.complaints}
            for title, report in reports.items()
        }
        print(json.dumps({**tables, "seconds": round(time.monotonic() - began_s, 1)}))
    else:
        for title, report in reports.items():
            show(title, report)
        print(f"{time.monotonic() - began_s:.1f} s")
    return 1 if states.complaints or flips.complaints else 0


if __name__ == "__main__":
    sys.exit(main())
