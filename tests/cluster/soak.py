"""Soak: rounds of clients and faults on one cluster, each of them judged.

A round has keys of its own (`r3/hot0`), so its history is whole: clients run, the nemesis strikes,
all is mended, the replicas are compared, the simulation's checkers judge. Rounds are short, because
a scan is judged in time that grows with the history. At the very end the keys of all rounds are
looked at once more.
"""

import json
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster import minimums
from tests.cluster.clients import Clients, Recorder
from tests.cluster.links import LinkedCluster
from tests.cluster.nemesis import KINDS, Kind, Nemesis, Plan
from tests.cluster.processes import NodeProcess
from tests.cluster.relayed import RelayedCluster
from tests.cluster.settling import Found, Unsettled, look_again, settle
from tests.simulation.checkers import judge
from tests.simulation.history import History, Operation, Violation

ROUND_S = 20.0
SIGNS_OF_BUGS = ("Traceback (most recent call last)", "forgetful")  # nobody took a disk away
SHOWN_MAX = 20

Make = Callable[[Path, int], LinkedCluster]
Progress = Callable[[str], None]


@dataclass
class Report:
    """What a soak has met. `seconds` of clients under faults; `directory` holds the evidence."""

    seed: int
    nodes: int
    directory: Path
    kinds: tuple[str, ...]
    seconds: float = 0.0
    elapsed_s: float = 0.0
    rounds: int = 0
    operations: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)

    @property
    def shortfalls(self) -> list[str]:
        return minimums.shortfalls(self.counts, self.seconds, self.kinds)

    @property
    def failed(self) -> bool:
        return bool(self.violations or self.shortfalls)

    def as_json(self) -> dict[str, object]:
        return {
            "seed": self.seed,
            "nodes": self.nodes,
            "seconds": round(self.seconds, 1),
            "elapsed_s": round(self.elapsed_s, 1),
            "rounds": self.rounds,
            "operations": self.operations,
            "counts": dict(sorted(self.counts.items())),
            "violations": [{"check": v.check, "text": v.text} for v in self.violations],
            "shortfalls": self.shortfalls,
            "directory": str(self.directory),
        }


class Soak:
    """One cluster in one directory. `run` it once; then `history` is that of the last round."""

    def __init__(
        self, root: Path, nodes: int, seed: int, make: Make = RelayedCluster, kinds: Sequence[Kind] = KINDS
    ) -> None:
        """`make` makes the cluster, in which faults of these kinds can strike."""
        self.report = Report(seed, nodes, root, tuple(name for name, _ in kinds))
        self.history = History()
        self._root = root
        self._make = make
        self._plan = Plan(seed, nodes, kinds)
        self._settled: Found = {}

    def run(self, seconds: float, progress: Progress = lambda text: None, round_s: float = ROUND_S) -> Report:
        """Rounds, until clients have run for so long, or something is wrong."""
        report = self.report
        begun = time.monotonic()
        rounds = max(1, round(seconds / round_s))
        with self._make(self._root, report.nodes) as cluster:
            cluster.start()
            while report.rounds < rounds and not report.violations:
                self._round(cluster, seconds / rounds)
                progress(self._line(rounds))
            if not report.violations:
                self._look_again(cluster.nodes[report.seed % report.nodes])
            report.counts.update(cluster.links.counts())
            for node in cluster:
                report.violations += (
                    Violation("logs", f"{node.log_path}: {sign!r}")
                    for sign in SIGNS_OF_BUGS
                    if sign in node.log
                )
        report.elapsed_s = time.monotonic() - begun
        return report

    def _round(self, cluster: LinkedCluster, seconds: float) -> None:
        report = self.report
        recorder = Recorder(f"r{report.rounds}/")
        nemesis = Nemesis(cluster, report.counts)
        faults = self._plan.draw(seconds)
        self.history = recorder.history
        try:
            with Clients(recorder, cluster.doors, report.seed):
                nemesis.run(faults, seconds)
                cluster.start()
            found, wrong = settle(cluster, recorder)
            self._settled |= found
        except (Unsettled, AssertionError, subprocess.TimeoutExpired) as failure:
            wrong = [Violation("settling", str(failure))]
        report.violations += [*nemesis.violations, *recorder.violations, *wrong, *judge(recorder.history)]
        report.rounds += 1
        report.seconds += seconds
        report.operations += len(recorder.history.operations)
        report.counts.update(recorder.counts)
        if report.violations:
            write(recorder.history, self._root / f"round {report.rounds}.jsonl")
            (self._root / f"round {report.rounds}.faults").write_text("\n".join(map(str, faults)))

    def _look_again(self, node: NodeProcess) -> None:
        try:
            self.report.violations += look_again(node, self._settled)
        except Unsettled as failure:
            self.report.violations.append(Violation("settling", str(failure)))

    def _line(self, rounds: int) -> str:
        report = self.report
        faults = sum(count for name, count in report.counts.items() if name.startswith("fault:"))
        return (
            f"round {report.rounds} of {rounds}: {report.operations:,} operations, {faults} faults, "
            f"{len(report.violations)} violations"
        )


def write(history: History, path: Path) -> None:
    """The history, a JSON object a line; versions in hexadecimal digits."""
    with path.open("w", encoding="utf-8") as file:
        for op in history.operations:
            file.write(json.dumps(as_json(op)) + "\n")


def as_json(op: Operation) -> dict[str, object]:
    """An operation with all that is known of it."""
    values: dict[str, object] = {name: getattr(op, name) for name in Operation.__slots__}
    values |= {name: value.hex() for name, value in values.items() if isinstance(value, bytes)}
    values |= {"value": op.value.decode(), "level": op.level.name}
    values |= {"after": op.after.decode(), "cursor": None if op.cursor is None else op.cursor.decode()}
    values["page"] = [(key, value.decode(), version.hex()) for key, value, version in op.page]
    return values


def text(report: Report) -> str:
    """The report as a person reads it."""
    width = max(map(len, report.counts), default=0)
    lines = [f"{name:{width}}  {report.counts[name]:>12,}" for name in sorted(report.counts)]
    lines += ["", *(f"TOO RARE  {short}" for short in report.shortfalls)]
    lines += [f"VIOLATION  {violation}" for violation in report.violations[:SHOWN_MAX]]
    rate = report.operations / max(report.seconds, 1e-9)
    lines.append(
        f"seed {report.seed}, {report.nodes} nodes, {report.rounds} rounds: {report.operations:,} operations "
        f"in {report.seconds:.0f} s of faults ({rate:,.0f}/s; {report.elapsed_s:.0f} s in all), "
        f"{len(report.violations)} violations"
    )
    return "\n".join(lines)
