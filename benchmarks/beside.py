"""Beside: what a write and a read cost here, and what they cost in Redis and in Dynomite on this machine.

Owns the plan of the measurement. All systems run at the same time with the same durability, and hold the
same number of keys; each window belongs to one of them and one operation, and the windows are interleaved:
in every round each system has its turn, beginning with another one. A ratio is taken within a round, to
Redis in that round, and what is printed are medians over the rounds.

What is compared is the servers' processor time for an operation, of all processes of a system together.
Operations a second are not comparable: our load is a Python client on the same machine and takes most of
it, theirs is a generator in C.
"""

import json
import shutil
import statistics
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar, cast, get_args

import click

from basestore.config import Durability
from basestore.errors import ConfigurationError
from benchmarks.cluster import ClusterFailed, wait_quiet
from benchmarks.limits import Limits, measure_limits
from benchmarks.load import KEYS_DEFAULT, VALUE_BYTES, LoadFailed, LoadProcess
from benchmarks.machine import interpreter
from benchmarks.paced import ratio
from benchmarks.resp import CannotMeasure, compiled
from benchmarks.systems import CELLS, READ_ONE, REDIS, WRITE, Cell, Plan, Sample, System, started


@dataclass(frozen=True, slots=True)
class BesideRow:
    """Medians over the rounds, but for `errors`, which is a sum. `asked` is what the clients say;
    `to_redis` is the servers' time for it to that of Redis in the same round: of a write to SET + WAIT 1,
    of a read at any level to GET."""

    system: str
    version: str
    operation: str
    level: str
    asked: str
    durability: str
    connections: int
    rounds: int
    ops_per_s: float
    server_cpu_us: float | None
    client_cpu_us: float | None
    p50_ms: float | None
    p99_ms: float | None
    errors: int
    to_redis: float | None
    load: float
    interpreter: str


# --- the measurement -----------------------------------------------------------------------------

_Asked = TypeVar("_Asked")
Say = Callable[[str], None]
Samples = dict[tuple[str, Cell], list[Sample]]


def measure(plan: Plan, say: Say) -> tuple[list[BesideRow], Limits]:
    """Run the plan; `say` is told what comes next. CannotMeasure, ClusterFailed, LoadFailed."""
    rows: list[BesideRow] = []
    with tempfile.TemporaryDirectory(prefix="basestore-beside-", dir=plan.parent) as directory:
        limits = measure_limits(Path(directory))
    with ExitStack() as stack:
        load = stack.enter_context(LoadProcess())
        generator = stack.enter_context(compiled()) if plan.redis is not None else None
        for durability in plan.durabilities:
            say(f"starting three of each, durability {durability}")
            with started(plan, durability, load, generator) as systems:
                for system in systems:
                    say(f"{system.name} {system.version}: writing {plan.keys:,} keys")
                    system.fill()
                samples = _interleaved(plan, systems, say)
                rows += [
                    make_row(plan, durability, system, cell, samples)
                    for cell in CELLS
                    for system in systems
                    if cell in system.asked
                ]
    return rows, limits


def _interleaved(plan: Plan, systems: Sequence[System], say: Say) -> Samples:
    """A list over the rounds for each system and cell."""
    samples: Samples = {(system.name, cell): [] for system in systems for cell in system.asked}
    for number in range(plan.rounds):
        say(f"round {number + 1} of {plan.rounds}")
        for cell in CELLS:
            for system in turned(systems, number):
                if cell not in system.asked:
                    continue
                for other in systems:
                    wait_quiet(other.pids)
                sample, errors = system.sample(cell, seed=number + 1)
                samples[system.name, cell].append(sample)
                for text in errors:
                    say(f"{system.name}, {system.asked[cell]}: {text}")
    return samples


def turned(asked: Sequence[_Asked], by: int) -> list[_Asked]:
    """The same, beginning with another one."""
    by %= len(asked)
    return [*asked[by:], *asked[:by]]


def make_row(plan: Plan, durability: str, system: System, cell: Cell, samples: Samples) -> BesideRow:
    """What the rounds showed."""
    own = samples[system.name, cell]
    first = samples.get((REDIS, WRITE if cell.operation == "write" else READ_ONE), [])
    ratios = [ratio(mine.server_cpu_us, redis.server_cpu_us) for mine, redis in zip(own, first, strict=False)]
    return BesideRow(
        system.name, system.version, cell.operation, cell.level, system.asked[cell], durability,
        plan.connections, len(own),
        round(statistics.median(sample.ops_per_s for sample in own), 1),
        _median([sample.server_cpu_us for sample in own], 2),
        _median([sample.client_cpu_us for sample in own], 2),
        _median([sample.p50_ms for sample in own], 4),
        _median([sample.p99_ms for sample in own], 4),
        sum(sample.errors for sample in own),
        _median(ratios, 2),
        statistics.median(sample.load for sample in own),
        interpreter(),
    )  # fmt: skip


def _median(values: Sequence[float | None], digits: int) -> float | None:
    """Of those that can be said."""
    said = [value for value in values if value is not None]
    return round(statistics.median(said), digits) if said else None


# --- the report ----------------------------------------------------------------------------------

HEADING = (
    "durability  system     asked                   ops/s  server us  client us   p50 ms   p99 ms  "
    "to Redis  errors"
)


def as_text(plan: Plan, rows: Sequence[BesideRow], limits: Limits) -> str:
    """The table, under what its figures depend on."""
    versions = dict.fromkeys(f"{row.system} {row.version}" for row in rows)
    loads = [row.load for row in rows]
    return "\n".join([
        ", ".join(versions),
        f"{interpreter()}; load of the machine {min(loads):.1f} to {max(loads):.1f}",
        fdatasync_text(limits),
        f"{plan.connections} callers, each with a connection of its own; {plan.keys:,} keys, values of "
        f"{VALUE_BYTES} bytes; medians of {plan.rounds} windows of {plan.window_s:g} s",
        "server and client us: processor time of all processes together, per operation; to Redis: server us "
        "to SET + WAIT 1 or GET",
        "ops/s and latencies of basestore are with a client in Python, of the others with one in C",
        "",
        HEADING,
        *map(_line, rows),
    ])  # fmt: skip


def fdatasync_text(limits: Limits) -> str:
    return f"an fdatasync after appending 4 KiB takes {limits.fdatasync_p50_ms:.3f} ms in the same place"


def _line(row: BesideRow) -> str:
    return (
        f"{row.durability:<11} {row.system:<10} {row.asked:<19} {row.ops_per_s:>9,.0f} "
        f"{_number(row.server_cpu_us):>10} {_number(row.client_cpu_us):>10} {_number(row.p50_ms):>8} "
        f"{_number(row.p99_ms):>8} {_number(row.to_redis):>9} {row.errors:>7,}"
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


# --- the command ---------------------------------------------------------------------------------


def found(redis: str, dynomite: str | None, say: Say) -> tuple[str | None, str | None]:
    """The programs that there are; `say` is told how to get what there is not."""
    redis_path = shutil.which(redis)
    if redis_path is None:
        say(f"left out: {redis} is not found; `apt-get install redis-server`, or name it with --redis PATH")
    if dynomite is None:
        say(
            "left out: Dynomite; build it from https://github.com/Netflix/dynomite and name "
            "src/dynomite with --dynomite PATH"
        )
        return redis_path, None
    dynomite_path = shutil.which(dynomite)
    if dynomite_path is None:
        raise click.BadParameter(f"{dynomite} is not a program that can be run", param_hint="--dynomite")
    if redis_path is None:
        say("left out: Dynomite, for it keeps its data in Redis")
        return None, None
    return redis_path, str(Path(dynomite_path).absolute())


@click.command("beside")
@click.option("--redis", default="redis-server", show_default=True, help="Redis' server.")
@click.option("--dynomite", metavar="PATH", help="Dynomite's program.  [default: it is left out]")
@click.option("--durability", default="sync,memory", show_default=True,
              help="sync (Redis: appendfsync always), memory (Redis: no log), or both.")  # fmt: skip
@click.option("--connections", default=64, show_default=True, type=click.IntRange(2, 1000),
              help="Callers, each with a connection of its own.")  # fmt: skip
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1, 1000),
              help="Windows of each system and operation, interleaved.")  # fmt: skip
@click.option("--seconds", default=2.0, show_default=True, type=click.FloatRange(0.1, 600),
              help="Length of a window; half a second to warm up comes before it.")  # fmt: skip
@click.option("--keys", default=KEYS_DEFAULT, show_default=True, type=click.IntRange(1, 10_000_000),
              help="Number of keys; all are written beforehand.")  # fmt: skip
@click.option("--directory", type=click.Path(exists=True, file_okay=False, writable=True, path_type=Path),
              help="Where to make the stores.  [default: where temporary files go]")  # fmt: skip
@click.option("-o", "--output", default="text", show_default=True, type=click.Choice(["text", "json"]),
              help="How to print: a table, or a list of rows.")  # fmt: skip
def beside_command(
    redis: str,
    dynomite: str | None,
    durability: str,
    connections: int,
    rounds: int,
    seconds: float,
    keys: int,
    directory: Path | None,
    output: str,
) -> None:
    """Beside Redis with WAIT 1 and Dynomite with DC_QUORUM, with the same durability.

    Three processes of basestore, a Redis with two replicas, and three nodes of Dynomite with their
    Redises, all on loopback; each is asked in turn. What is not installed is left out, and it is said
    how to get it. Redis and Dynomite are driven by a generator in C, which is compiled with `cc`.
    """

    def say(text: str) -> None:
        click.echo(text, err=True)

    redis_path, dynomite_path = found(redis, dynomite, say)
    plan = Plan(
        _durabilities(durability), seconds, rounds, connections, keys, directory, redis_path, dynomite_path
    )
    try:
        rows, limits = measure(plan, say)
    except (CannotMeasure, ClusterFailed, ConfigurationError, LoadFailed, OSError) as failure:
        raise click.ClickException(str(failure)) from failure
    if output == "json":
        say(fdatasync_text(limits))
        click.echo(json.dumps([asdict(row) for row in rows], indent=1))
    else:
        click.echo(as_text(plan, rows, limits))


def _durabilities(text: str) -> list[Durability]:
    words = [word.strip().lower() for word in text.split(",")]
    for word in words:
        if word not in ("sync", "memory"):
            raise click.BadParameter(f"{word!r} is none of sync, memory", param_hint="--durability")
    return cast("list[Durability]", [each for each in get_args(Durability) if each in words])
