"""python -m tests.cluster: real nodes under faults, for a chosen time; is what they say true?

Clients run against nodes that are killed, paused, and cut off from each other by a relay; the
simulation's checkers judge what they were told. Exit code 1: a violation, or a run too mild.
The directory with logs, stores and histories is kept after a violation, or with --keep.

With --namespaces each node has a network namespace of its own, and the kernel loses what is cut.
That takes root, unshare, nsenter and ip.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from tests.cluster.namespaces import FAULTS, NamespacedCluster
from tests.cluster.soak import Soak, text

OWN = "BASESTORE_SOAK_IN_NAMESPACE"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seconds", type=float, default=60.0, help="how long clients run under faults")
    parser.add_argument("--seed", type=int, default=1, help="of the faults' plan and of what clients ask")
    parser.add_argument("--nodes", type=int, choices=(3, 5), default=3)
    parser.add_argument("--namespaces", action="store_true", help="instead of a relay between the nodes")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep everything in this new directory")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")
    return parser.parse_args()


def show(line: str) -> None:
    """Progress: one line that is written over, or one after the other where there is no terminal."""
    ending = "\r" if sys.stderr.isatty() else "\n"
    print(line, end=ending, file=sys.stderr, flush=True)


def main() -> int:
    given = arguments()
    if given.namespaces and OWN not in os.environ:  # again, in a namespace of our own
        os.environ[OWN] = "1"
        os.execvp("unshare", ["unshare", "--net", sys.executable, "-m", "tests.cluster", *sys.argv[1:]])
    if given.keep is not None:
        given.keep.mkdir(parents=True)
    root = given.keep or Path(tempfile.mkdtemp(prefix="basestore-soak-"))
    print(f"logs, stores and histories: {root}", file=sys.stderr)
    if given.namespaces:
        soak = Soak(root, given.nodes, given.seed, NamespacedCluster, FAULTS)
    else:
        soak = Soak(root, given.nodes, given.seed)
    report = soak.run(given.seconds, show)
    print(json.dumps(report.as_json()) if given.output == "json" else "\n" + text(report))
    if given.keep is None and not report.violations:
        shutil.rmtree(root)
    else:
        print(f"kept: {root}", file=sys.stderr)
    return int(report.failed)


if __name__ == "__main__":
    sys.exit(main())
