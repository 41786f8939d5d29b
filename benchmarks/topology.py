"""Topology: what data requests notice of it when the metadata group has its hands full, or is not there.

A paced client (`paced.py`) reads and writes at QUORUM. Its windows take turns, for the speed of a machine
drifts: each round begins with a quiet one, and what is found in the others is held against that.

    three nodes   changes      a bucket is created and dropped again, all the time, at each node in turn
                  leader       the leader is killed and started again, all the time, wherever it then is;
                               the client asks the other two
                  follower     the same, but a node that does not lead: that a replica is away and comes back
                               is to be seen here too, so what `leader` adds to this is the group's
    five nodes    majority     two of the three voters are frozen, and with them any majority
                  bystanders   two that are no voters are, instead

Of the five, two keep their data in memory, and so are no voters. There the client asks for keys of which both
two that are frozen hold one replica of three, through the node that never is.
"""

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Final

import click
import trio

from basestore import BasestoreError
from basestore.cluster.placement import Placement
from basestore.config import NodeConfig
from basestore.config_file import load
from basestore.server.local_cluster import config_path
from benchmarks.cluster import Cluster, ClusterFailed, start_cluster
from benchmarks.disturbed import FIVE_CASES, FROZEN, THREE_CASES, VOTERS, Bench, Case, Disturbance
from benchmarks.load import Preload, key, preload
from benchmarks.machine import interpreter, load_average
from benchmarks.paced import Samples, connections, ratio
from benchmarks.report import percentile_ms

FIVE: Final = 5
STEADY: Final = 2  # the place of the node that is never frozen
CONNECTIONS: Final = 4

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do: so many rounds of windows."""

    rate_per_s: float
    seconds: float
    rounds: int
    keys: int
    parent: Path | None


@dataclass(frozen=True, slots=True)
class Row:
    """Medians over the windows of p50 and p99, and over the rounds of their ratios to the quiet window of the
    same round; p999 is of all windows together."""

    nodes: int
    case: str
    operation: str
    requests: int
    p50_ms: float | None
    p99_ms: float | None
    p999_ms: float | None
    p50_to_quiet: float | None
    p99_to_quiet: float | None
    p999_to_quiet: float | None
    done: int
    errors: int


# --- the course ----------------------------------------------------------------------------------


async def measure(
    plan: Plan, cluster: Cluster, cases: dict[str, Disturbance], say: Say
) -> list[Case]:  # fmt: skip
    """All windows of one cluster; ClusterFailed, or the error of a client."""
    nodes = len(cluster.endpoints)
    found = [Case(nodes, name) for name in cases]
    places = range(nodes) if nodes < FIVE else [STEADY] * CONNECTIONS
    keys = _keys(plan, cluster)
    await preload(Preload(cluster.endpoints, plan.keys))
    async with (
        connections(cluster.endpoints) as stores,
        connections([cluster.endpoints[place] for place in places]) as asked,
    ):
        bench = Bench(cluster, stores, asked if nodes == FIVE else stores, keys, plan.rate_per_s)
        await bench.settle()
        await bench.client.ask_for(plan.seconds)  # nodes learn what is usual
        for number in range(1, plan.rounds + 1):
            for case in found:
                await bench.settle()
                say(f"{nodes} nodes, round {number} of {plan.rounds}: {case.name}, {plan.seconds:g} s")
                async with cases[case.name](bench, case):
                    case.windows.append(await bench.client.ask_for(plan.seconds))
                bench.client.stores = bench.asked
                cluster.check()
        if bench.client.ledger.went_back:
            raise ClusterFailed(f"{bench.client.ledger.went_back} reads at QUORUM went back")
    return found


def _keys(plan: Plan, cluster: Cluster) -> list[bytes]:
    """Which the client asks for: all, or those whose quorums stand whichever two nodes are frozen."""
    keys = [key(number) for number in range(plan.keys)]
    if len(cluster.endpoints) < FIVE:
        return keys
    placement = Placement.of(load(config_path(cluster.directory, "n1")).cluster)
    held = {each: placement.replicas[int.from_bytes(placement.row(b"default", each)[:2])] for each in keys}
    return [each for each in keys if all(len(set(held[each]) & set(gone)) <= 1 for gone in FROZEN.values())]


def adapt(config: NodeConfig) -> NodeConfig:
    """Of five nodes: the last two are no voters, for what they hold is not on a disk."""
    return replace(config, durability="memory") if config.member.number > VOTERS else config


# --- the report ----------------------------------------------------------------------------------


def rows(cases: Sequence[Case]) -> list[Row]:
    """Two for each case."""
    return [_row(case, cases[0], writes=writes) for case in cases for writes in (False, True)]


def _row(case: Case, quiet: Case, *, writes: bool) -> Row:
    own, still = (_times(each, writes=writes) for each in (case, quiet))
    p50, p99 = (_shares(own, share) for share in (0.5, 0.99))
    still50, still99 = (_shares(still, share) for share in (0.5, 0.99))
    p999, still999 = (percentile_ms(sorted(chain(*each)), 0.999) for each in (own, still))
    return Row(
        case.nodes, case.name, "set" if writes else "get", sum(map(len, own)),
        _median(p50), _median(p99), p999,
        _median(list(map(ratio, p50, still50))), _median(list(map(ratio, p99, still99))),
        ratio(p999, still999), case.done, sum(sum(each.errors.values()) for each in case.windows),
    )  # fmt: skip


def _times(case: Case, *, writes: bool) -> list[list[int]]:
    """By window, in ascending order."""
    return [sorted(each.writes_ns if writes else each.reads_ns) for each in case.windows]


def _shares(windows: Sequence[list[int]], share: float) -> list[float | None]:
    return [percentile_ms(each, share) for each in windows]


def _median(values: Sequence[float | None]) -> float | None:
    said = [value for value in values if value is not None]
    return round(statistics.median(said), 3) if said else None


def as_text(plan: Plan, found: Sequence[Row]) -> str:
    lines = [
        f"{interpreter()}, load {load_average()}",
        f"get and set at QUORUM, {plan.rate_per_s:g} a second; p50 and p99: medians of {plan.rounds} windows "
        f"of {plan.seconds:g} s; p99.9: of all; x: to the quiet window of the same round",
        "",
        "nodes  case        asked  requests  p50 ms     x  p99 ms     x  p99.9 ms     x   done  errors",
    ]
    for row in found:
        figures = (
            f"{_number(row.p50_ms):>6} {_number(row.p50_to_quiet):>5}  {_number(row.p99_ms):>6} "
            f"{_number(row.p99_to_quiet):>5}  {_number(row.p999_ms):>8} {_number(row.p999_to_quiet):>5}"
        )
        lines.append(
            f"{row.nodes:>5}  {row.case:<10}  {row.operation:<5}  {row.requests:>8,}  {figures}  "
            f"{row.done:>5,} {row.errors:>7,}"
        )
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


# --- the command ---------------------------------------------------------------------------------


def run(plan: Plan, nodes: Sequence[int], say: Say) -> list[Case]:
    """Both clusters, one after the other. ClusterFailed, BasestoreError, OSError."""
    found: list[Case] = []
    for each in nodes:
        say(f"starting {each} nodes")
        cases: dict[str, Any] = FIVE_CASES if each == FIVE else THREE_CASES
        with start_cluster(plan.parent, "sync", adapt=adapt, nodes=each) as cluster:
            own = trio.run(measure, plan, cluster, cases, say)
        for case in own:
            for text, times in sum(
                (window.errors for window in case.windows), start=Samples().errors
            ).items():
                say(f"{case.name}: {times} times {text}")
        found += own
    return found


@click.command("topology")
@click.option("--rate", default=100.0, show_default=True, type=click.FloatRange(1, 10_000),
              help="Requests a second, half of them writes.")  # fmt: skip
@click.option("--seconds", default=10.0, show_default=True, type=click.FloatRange(0.1, 600),
              help="Length of a window.")  # fmt: skip
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1, 1000),
              help="Windows of each case.")  # fmt: skip
@click.option("--keys", default=10_000, show_default=True, type=click.IntRange(100, 10_000_000),
              help="Number of keys; all are written beforehand.")  # fmt: skip
@click.option("--nodes", default="both", show_default=True, type=click.Choice(["3", "5", "both"]),
              help="Of which cluster.")  # fmt: skip
@click.option("--directory", type=click.Path(exists=True, file_okay=False, writable=True, path_type=Path),
              help="Where to make the stores.  [default: where temporary files go]")  # fmt: skip
@click.option("-o", "--output", default="text", show_default=True, type=click.Choice(["text", "json"]),
              help="How to print: a table, or a list of rows.")  # fmt: skip
def topology_command(
    rate: float, seconds: float, rounds: int, keys: int, nodes: str, directory: Path | None, output: str
) -> None:
    """What data requests notice while buckets change, leaders are killed, or no majority is there.

    Three nodes on loopback, then five. A client reads and writes at QUORUM, at a steady rate that does not
    wait for answers; windows in which something happens are held against quiet ones.
    """
    plan = Plan(rate, seconds, rounds, keys, directory)

    def say(text: str) -> None:
        click.echo(text, err=True)

    try:
        cases = run(plan, [3, FIVE] if nodes == "both" else [int(nodes)], say)
    except (ClusterFailed, BasestoreError, OSError) as failure:
        raise click.ClickException(str(failure)) from failure
    found = [row for each in (3, FIVE) if (own := [c for c in cases if c.nodes == each]) for row in rows(own)]
    click.echo(
        json.dumps([asdict(row) for row in found], indent=1) if output == "json" else as_text(plan, found)
    )
