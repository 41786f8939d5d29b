"""python -m tests.cluster.registers: registers of real nodes in a turmoil; does each write happen once, or
not at all, as its writer was told?

Rounds of writers on keys of their own, on one cluster whose nodes are killed at moments of what they propose,
or at any, stand still, lose their stores, come and leave. After each round all runs again, and what the
writers were told is compared with what there is; at last with what each replica holds. Exit code 1: a
violation.
The directory with logs and stores is kept after that.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.cluster.processes import Cluster
from tests.cluster.register_end import finals, wait_bound, wait_same
from tests.cluster.register_load import RegisterLoad
from tests.cluster.turmoil import Turmoil

ROUND_S = 20.0
KEYS = 3  # chains, and counters
WRITES = 20  # that must go on when all is mended
FAILURES = (AssertionError, subprocess.TimeoutExpired)


class Run:
    """One of them. `complaints`: what is wrong; `counts`: what it has met."""

    def __init__(self, root: Path, seed: int) -> None:
        self.counts: Counter[str] = Counter()
        self.complaints: list[str] = []
        self._root, self._seed = root, seed
        self._held: dict[str, bytes] = {}

    def run(self, seconds: float) -> None:
        """Rounds for so long, or until something is wrong."""
        until_s = time.monotonic() + seconds
        with Cluster(self._root) as cluster:
            turmoil = Turmoil(cluster, self._seed)
            cluster.start()
            cluster.wait_founded()
            wait_bound(cluster.nodes[0], cluster.nodes)
            try:
                while time.monotonic() < until_s and not self.complaints:
                    self._round(cluster, turmoil, min(until_s, time.monotonic() + ROUND_S))
                turmoil.settle()
                self._compare(cluster)
            except FAILURES as failure:
                self.complaints.append(f"{type(failure).__name__}: {failure}")
            self.counts.update(turmoil.counts)
            self.complaints += turmoil.complaints
            self.complaints += [f"{n.log_path}: a traceback" for n in cluster if "Traceback (most" in n.log]

    def _round(self, cluster: Cluster, turmoil: Turmoil, until_s: float) -> None:
        self.counts["rounds"] += 1
        number = self.counts["rounds"]
        keys = [f"{kind} {number}.{at}" for kind in ("chain", "counter") for at in range(KEYS)]
        load = RegisterLoad(
            [node.endpoint for node in cluster], keys, seed=self._seed * 1000 + number, claims=f"{number}."
        )
        with load:
            while time.monotonic() < until_s:
                turmoil.strike()
            turmoil.calm()
            load.wait_for(WRITES)
        turmoil.calm()
        self.counts.update(load.ledger.counts)
        for node in cluster:
            self._held |= finals(node, load.ledger.keys)
            self.complaints += load.ledger.complaints(self._held)
        print(
            f"round {number}: {load.stored} stored, {len(self.complaints)} complaints",
            file=sys.stderr,
            flush=True,
        )

    def _compare(self, cluster: Cluster) -> None:
        """What was there is there, on all replicas."""
        keys = sorted(self._held)
        wait_same(cluster, keys)
        now = finals(cluster.nodes[0], keys)
        self.complaints += [
            f"{key}: {self._held[key]!r} was there, and now {now[key]!r}"
            for key in keys
            if now[key] != self._held[key]
        ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.registers", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seconds", type=float, default=60.0, help="of turmoil [60]")
    parser.add_argument("--seed", type=int, default=1, help="of what happens, and of what is asked [1]")
    given = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="basestore-registers-"))
    begun_s = time.monotonic()
    run = Run(root, given.seed)
    run.run(given.seconds)
    for name in sorted(run.counts):
        print(f"{name:32} {run.counts[name]:>8,}")
    for complaint in run.complaints[:20]:
        print(f"VIOLATION  {complaint[:400]}")
    print(f"seed {given.seed}: {time.monotonic() - begun_s:.0f} s, {len(run.complaints)} violations")
    if run.complaints:
        print(f"kept: {root}", file=sys.stderr)
    else:
        shutil.rmtree(root)
    return int(bool(run.complaints))


if __name__ == "__main__":
    sys.exit(main())
