"""Levels: what a write and a read cost at each level, with one client and with many.

Owns the plan of the measurement: which cells there are and in which order they are run. For each
durability a new cluster is started and every key written; then the cells follow, each after the
nodes have come to rest. The limits of the machine are taken in the same directory. The cell that
they bound is measured in slices, with the limits in between: a disk that others use too changes
from one second to the next.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast, get_args

import click

from basestore.config import Durability
from benchmarks.cluster import NODES, Cluster, ClusterFailed, start_cluster
from benchmarks.limits import Limits, measure_limits
from benchmarks.load import KEYS_DEFAULT, VALUE_BYTES, LoadFailed, LoadProcess, Preload, Run
from benchmarks.machine import interpreter, load_average
from benchmarks.report import Row, as_json, limits_text, make_row, table

Operation = Literal["write", "read", "set_many", "get_many"]
WRITE_LEVELS = ("any", "one", "quorum", "all")
READ_LEVELS = WRITE_LEVELS[1:]
LEVELS: dict[Operation, tuple[str, ...]] = {
    "write": WRITE_LEVELS,
    "read": READ_LEVELS,
    "set_many": WRITE_LEVELS,
    "get_many": READ_LEVELS,
}
MANY = 64  # keys in a call of set_many or get_many
CLIENTS = (1, 16, 64, 256)
CLIENTS_MAX = 2000
WARM_UP_S = 0.5
SLICES = 4
SEED = 2007
DISK_MS_MIN = 0.02


@dataclass(frozen=True, slots=True)
class Cell:
    """One operation at one level with so many callers over so many connections."""

    operation: Operation
    level: str
    clients: int
    connections: int

    @property
    def batch(self) -> int:
        """Keys a call."""
        return MANY if self.operation in ("set_many", "get_many") else 1

    @property
    def bounded(self) -> bool:
        """Whether, with durability sync, the machine's limits bound it."""
        return self == Cell("write", "quorum", 1, 1)

    def __str__(self) -> str:
        callers, connections = _counted(self.clients, "caller"), _counted(self.connections, "connection")
        return f"{self.operation} {self.level}, {callers} over {connections}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure. `parent` is where the clusters' directories are made, or None."""

    cells: Sequence[Cell]
    durabilities: Sequence[Durability]
    window_s: float
    keys: int
    parent: Path | None


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def plan_cells(
    operations: Sequence[Operation], levels: Sequence[str], clients: Sequence[int], connections: int | None
) -> list[Cell]:
    """Every combination that exists: there is no read at level any. Without a number of connections: over
    one that all callers share, and over one each; nobody has more than one."""
    return [
        Cell(operation, level, count, number)
        for operation in operations
        for level in LEVELS[operation]
        if level in levels
        for count in clients
        for number in dict.fromkeys((1, count) if connections is None else (min(connections, count),))
    ]


def measure(plan: Plan, progress: "_Progress") -> tuple[list[Row], Limits]:
    """Run the plan. `progress` is told of each cell before it is run. ClusterFailed, LoadFailed."""
    rows: list[Row] = []
    limits: Limits | None = None
    with LoadProcess() as load:
        for durability in plan.durabilities:
            progress(f"starting three nodes, durability {durability}")
            with start_cluster(plan.parent, durability) as cluster:
                progress.note(f"processes {', '.join(map(str, cluster.pids))} in {cluster.directory}")
                taken_s = load.preload(Preload(cluster.endpoints, plan.keys))
                progress.note(f"{plan.keys:,} keys written in {taken_s:.1f} s")
                cluster.wait_quiet()
                if limits is None:
                    limits = measure_limits(cluster.directory)
                for cell in plan.cells:
                    progress(f"{cell}, {durability}")
                    row, taken = _measure_cell(plan, cell, cluster, load, progress)
                    rows.append(row)
                    limits = taken or limits
    assert limits is not None
    return rows, limits


def _measure_cell(
    plan: Plan, cell: Cell, cluster: Cluster, load: LoadProcess, progress: "_Progress"
) -> tuple[Row, Limits | None]:
    """One row; and the limits, if they bound it."""
    cluster.wait_quiet()
    load_before = load_average()
    bounded = cell.bounded and cluster.durability == "sync"
    slices = SLICES if bounded else 1
    order = Run(
        cluster.endpoints, cluster.pids, cell.operation, cell.level, cell.clients, cell.connections,
        cell.batch, plan.keys, SEED, WARM_UP_S, plan.window_s / slices,
    )  # fmt: skip
    measured = load.run(order)
    limits = measure_limits(cluster.directory) if bounded else None
    for number in range(1, slices):
        measured += load.run(replace(order, seed=SEED + number))
        assert limits is not None
        limits += measure_limits(cluster.directory)
    cluster.check()
    for text, count in measured.errors.items():
        progress.note(f"{cell}: {count} times {text}")
    limit_ms = limits.total_ms if limits is not None else None
    return make_row(order, cluster.durability, measured, load_before, limit_ms), limits


# --- the command ---------------------------------------------------------------------------------


def _listed(
    choices: Sequence[str],
) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """A callback that splits at commas and accepts only `choices`."""

    def split(_context: click.Context, _parameter: click.Parameter, text: str) -> list[str]:
        words = [word.strip().lower() for word in text.split(",")]
        for word in words:
            if word not in choices:
                raise click.BadParameter(f"{word!r} is none of {', '.join(choices)}")
        return [choice for choice in choices if choice in words]

    return split


def counts(_context: click.Context, _parameter: click.Parameter, text: str) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    for word in words:
        if not (word.isascii() and word.isdigit() and 1 <= int(word) <= CLIENTS_MAX):
            raise click.BadParameter(f"{word!r} is not a number from 1 to {CLIENTS_MAX}")
    return [int(word) for word in words]


class _Progress:
    """Says on stderr what comes next: in one line on a terminal, otherwise a line each."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._step = 0
        self._before, self._after = ("\r\x1b[K", "") if sys.stderr.isatty() else ("", "\n")

    def __call__(self, text: str) -> None:
        self._step += 1
        line = f"{self._before}[{self._step:>3}/{self._steps}] {text}{self._after}"
        click.echo(line, err=True, nl=False)

    def note(self, text: str) -> None:
        click.echo(f"{self._before}{text}", err=True)


@click.command("levels")
@click.option(
    "--operations",
    default=",".join(LEVELS),
    show_default=True,
    callback=_listed(tuple(LEVELS)),
    help=f"What to measure; calls of set_many and get_many are for {MANY} keys.",
)
@click.option(
    "--levels",
    default="any,one,quorum,all",
    show_default=True,
    callback=_listed(LEVELS["write"]),
    help="Consistency levels; any is for writes only.",
)
@click.option(
    "--clients",
    default=",".join(map(str, CLIENTS)),
    show_default=True,
    callback=counts,
    help="Numbers of concurrent callers.",
)
@click.option(
    "--durability",
    default="sync,memory",
    show_default=True,
    callback=_listed(get_args(Durability)),
    help="Durabilities of the nodes: sync, interval, memory.",
)
@click.option(
    "--seconds",
    default=2.0,
    show_default=True,
    type=click.FloatRange(0.1, 600),
    help="Length of each measured window; half a second to warm up comes before it.",
)
@click.option(
    "--connections",
    type=click.IntRange(1, CLIENTS_MAX),
    help="Connections that all callers together share.  [default: each cell over one, and over one a caller]",
)
@click.option(
    "--keys",
    default=KEYS_DEFAULT,
    show_default=True,
    type=click.IntRange(1, 10_000_000),
    help="Number of keys; all are written beforehand.",
)
@click.option(
    "--directory",
    type=click.Path(exists=True, file_okay=False, writable=True, path_type=Path),
    help="Where to make the stores' directories.  [default: where temporary files go]",
)
@click.option(
    "-o",
    "--output",
    default="text",
    show_default=True,
    type=click.Choice(["text", "json"]),
    help="How to print: a table, or a list of rows.",
)
def levels_command(
    operations: list[str],
    levels: list[str],
    clients: list[int],
    durability: list[str],
    seconds: float,
    connections: int | None,
    keys: int,
    directory: Path | None,
    output: str,
) -> None:
    """Speed, latency and processor time of writes and reads at each level.

    Three node processes on loopback, and one client process whose callers each wait for their
    answer before they ask again. Values of 100 bytes; keys drawn evenly, in the same order in each
    run. Operations are keys: also those of set_many and get_many, but their latencies are those of
    calls. Server CPU is that of all nodes together, per operation, client CPU that of the process with
    all callers.

    How many connections the callers share decides how much travels in one frame, and with it a part of
    the cost: so each cell is measured over one connection, to the first node, and over one a caller,
    each to a node in turn. All that takes some ten minutes; --operations, --levels, --clients,
    --durability and --connections narrow it.
    """
    cells = plan_cells(cast("list[Operation]", operations), levels, clients, connections)
    if not cells:
        raise click.UsageError("nothing to measure: level any is for writes only")
    plan = Plan(cells, cast("list[Durability]", durability), seconds, keys, directory)
    progress = _Progress((len(cells) + 1) * len(durability))
    try:
        rows, limits = measure(plan, progress)
    except (ClusterFailed, LoadFailed) as failure:
        raise click.ClickException(str(failure)) from failure
    progress.note(f"done: {len(rows)} measurements")
    if "sync" in durability and limits.fdatasync_p50_ms < DISK_MS_MIN:
        progress.note("an fdatasync costs nothing here: no disk? Name another place with --directory")
    if output == "json":
        click.echo(limits_text(limits, rows), err=True)
        click.echo(as_json(rows))
    else:
        click.echo(_setting(plan, rows))
        click.echo(table(rows))
        click.echo(limits_text(limits, rows))


def _setting(plan: Plan, rows: Sequence[Row]) -> str:
    """What the table's figures depend on, in words."""
    loads = [row.load for row in rows]
    lines = [
        f"{NODES} nodes, {NODES} replicas, {plan.keys:,} keys, values of {VALUE_BYTES} bytes; windows of "
        f"{plan.window_s:g} s",
        "all callers in one process; connections lead to the nodes in turn; one caller alone is a blocking "
        "client",
        f"{interpreter()}; load of the machine {min(loads):.1f} to {max(loads):.1f}",
    ]
    if any(cell.batch > 1 for cell in plan.cells):
        lines.append(f"a call of set_many or get_many is for {MANY} keys; an operation is one of them")
    return "\n".join([*lines, ""])
