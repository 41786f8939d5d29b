"""Serial: what a compare-and-set costs beside a quorum write, and beside a transaction of etcd.

Owns the plan of the measurement: three nodes of ours and three members of etcd run side by side, with the
same number of keys; in every round each thing that is asked has a window, with each number of clients, and
another one begins. Ratios are taken within a round. What one request makes nodes say and sync is counted
afterwards, with clusters of its own (`serial_traffic.py`).
"""

import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from basestore.errors import ConfigurationError, RequestFailed, Unreachable
from benchmarks.accounting import cpu_ns_of
from benchmarks.beside import turned
from benchmarks.closed_loop import LoopFailed, Window, measure
from benchmarks.cluster import ClusterFailed, start_cluster, wait_quiet
from benchmarks.etcd import etcd_version, start_etcd
from benchmarks.levels import counts
from benchmarks.limits import measure_limits
from benchmarks.machine import load_average
from benchmarks.register_systems import EtcdRegisters, OurRegisters, RegisterSystem
from benchmarks.resp import CannotMeasure
from benchmarks.serial_report import Cell, Found, Sample, as_text, make_row
from benchmarks.serial_traffic import TrafficRow, measure_traffic

WARM_UP_S = 0.3
IDLE_S = 1.0
CLIENTS = "1,8,64"
CONTENDERS = "1,4,16,64"
RECORDS_DEFAULT = 2000
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure. `clients` with keys of their own, `contenders` for one key; `etcd`: its program, or
    None; `parent` is where the systems' directories are made, or None."""

    clients: Sequence[int]
    contenders: Sequence[int]
    window_s: float
    rounds: int
    records: int
    parent: Path | None
    etcd: str | None
    traffic: bool

    def __str__(self) -> str:
        return f"{self.rounds} rounds of windows of {self.window_s:g} s; {self.records:,} old rows"


class _Rounds:
    """What was measured so far, by cell: in the order of the first round."""

    def __init__(self, plan: Plan, systems: Sequence[RegisterSystem], say: Say) -> None:
        self._plan, self._systems, self._say = plan, systems, say
        self.samples: dict[Cell, list[Sample]] = {}
        self.idle_ms: dict[str, list[float]] = {system.name: [] for system in systems}

    def make(self, number: int) -> None:
        """One round: with each number of clients, all that is asked, of one system after the other."""
        self._say(f"round {number + 1} of {self._plan.rounds}")
        for shared in (False, True):
            for count in self._plan.contenders if shared else self._plan.clients:
                asked = [
                    (system, each)
                    for system in self._systems
                    for each in (system.shared if shared else system.own)
                ]
                for system, each in turned(asked, number):
                    self._window(system, each, count)
        for system in self._systems:
            wait_quiet(system.pids)
        before, began = [cpu_ns_of(system.pids) for system in self._systems], time.monotonic()
        time.sleep(IDLE_S)
        for system, ns in zip(self._systems, before, strict=True):
            spent_s = time.monotonic() - began
            self.idle_ms[system.name].append((cpu_ns_of(system.pids) - ns) / 1e6 / spent_s)

    def _window(self, system: RegisterSystem, asked: str, count: int) -> None:
        clients = system.clients(asked, count)
        for other in self._systems:
            wait_quiet(other.pids)
        load = load_average()
        window: Window = measure(clients, system.pids, WARM_UP_S, self._plan.window_s)
        system.check()
        for text, times in window.errors.items():
            self._say(f"{system.name}, {asked}, {count} clients: {times} times {text}")
        self.samples.setdefault((system.name, asked, count), []).append(Sample.of(window, load))


def measure_all(plan: Plan, say: Say) -> Found:
    """Run the plan; `say` is told what comes next. CannotMeasure, ClusterFailed, LoopFailed."""
    with tempfile.TemporaryDirectory(prefix="basestore-serial-", dir=plan.parent) as directory:
        limits = measure_limits(Path(directory))
    with ExitStack() as stack:
        cluster = stack.enter_context(start_cluster(plan.parent, "sync"))
        systems: list[RegisterSystem] = [OurRegisters(cluster, plan.records)]
        if plan.etcd is not None:
            etcd = stack.enter_context(start_etcd(plan.parent, plan.etcd))
            systems.append(EtcdRegisters(etcd, plan.records, etcd_version(plan.etcd)))
        for system in systems:
            pids = ", ".join(map(str, system.pids))
            say(f"{system.name} {system.version}: processes {pids}; writing all keys")
            system.fill()
        rounds = _Rounds(plan, systems, say)
        for number in range(plan.rounds):
            rounds.make(number)
    rows = [make_row(rounds.samples, cell) for cell in rounds.samples]
    traffic: list[TrafficRow] = measure_traffic(plan.parent, plan.etcd, say) if plan.traffic else []
    idle_ms = {name: round(statistics.median(each), 1) for name, each in rounds.idle_ms.items()}
    versions = {system.name: system.version for system in systems}
    return Found(rows, traffic, versions, idle_ms, round(limits.fdatasync_p50_ms, 4))


# --- the command ---------------------------------------------------------------------------------


@click.command("serial")
@click.option("--etcd", default="etcd", show_default=True, help="etcd's server.")
@click.option("--clients", default=CLIENTS, show_default=True, callback=counts,
              help="Numbers of clients with keys of their own.")  # fmt: skip
@click.option("--contenders", default=CONTENDERS, show_default=True, callback=counts,
              help="Numbers of clients that share one key.")  # fmt: skip
@click.option("--records", default=RECORDS_DEFAULT, show_default=True, type=click.IntRange(10, 1_000_000),
              help="Old rows: enough that none is written twice in a round.")  # fmt: skip
@click.option("--seconds", default=1.0, show_default=True, type=click.FloatRange(0.1, 600),
              help=f"Length of a window; {WARM_UP_S:g} s to warm up come before it.")  # fmt: skip
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1, 1000),
              help="Windows of each thing that is asked, interleaved.")  # fmt: skip
@click.option("--traffic/--no-traffic", default=True, show_default=True,
              help="Count messages, bytes, round trips and syncs as well.")  # fmt: skip
@click.option("--directory", type=click.Path(exists=True, file_okay=False, writable=True, path_type=Path),
              help="Where to make the stores.  [default: where temporary files go]")  # fmt: skip
@click.option("-o", "--output", default="text", show_default=True, type=click.Choice(["text", "json"]),
              help="How to print: tables, or one object.")  # fmt: skip
def serial_command(
    etcd: str, clients: list[int], contenders: list[int], records: int, seconds: float, rounds: int,
    traffic: bool, directory: Path | None, output: str,
) -> None:  # fmt: skip
    """Compare-and-set beside a quorum write, and beside etcd's transactions.

    Three processes of basestore and three of etcd on loopback, each with durability sync; each is asked in
    turn, by clients in one process that have a connection each and one request under way. What one request
    makes nodes say to each other and sync is counted at relays between them, and how often they wait for each
    other is measured with slow relays. Without etcd ours is measured alone, and it is said how to get it.
    Some eight minutes; --clients, --contenders, --rounds and --no-traffic narrow it.
    """
    program = shutil.which(etcd)
    if program is None:
        _say(f"left out: {etcd} is not found; `apt-get install etcd-server`, or name it with --etcd PATH")
    plan = Plan(clients, contenders, seconds, rounds, records, directory, program, traffic)
    try:
        found = measure_all(plan, _say)
    except (
        CannotMeasure, ClusterFailed, ConfigurationError, LoopFailed, OSError, RequestFailed, Unreachable
    ) as failure:  # fmt: skip
        raise click.ClickException(str(failure)) from failure
    click.echo(json.dumps(asdict(found), indent=1) if output == "json" else as_text(found, str(plan)))


def _say(text: str) -> None:
    click.echo(text, err=True)
