"""Idle: what a cluster costs that nobody uses, and what one session does in which nothing differs.

    nodes      three real nodes on loopback hold the same records. Once all of it is proven and stable (their
               closed stamps follow the clock by a lag), nothing is asked of them for a while: counted is the
               processor time of each process, and how many sessions they had
    a session  two nodes in this process, as `pair.py` carries their frames: the processor time of both sides
               while they compare, RocksDB's and that of the syncs included, for each partition. From each
               moment of it what a moment takes in which nothing is compared is taken off

A session is one partition that two replicas compare, however many of them one message is about.
"""

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from basestore import sync
from basestore.config import PARTITIONS_DEFAULT
from basestore.errors import BasestoreError
from basestore.metrics import Metrics
from benchmarks.accounting import cpu_ns
from benchmarks.cluster import Cluster, ClusterFailed, start_cluster
from benchmarks.load import VALUE_BYTES, key
from benchmarks.machine import interpreter, load_average
from benchmarks.pair import TICK_S, Pair, PairFailed, apply_all
from benchmarks.reconciling import Data

KEYS = 1000
REST_S = 30  # stable stamps pass the last write, and what follows from that is done
SECONDS_MAX = 600
PAIR_S = 120.0  # by the clock of the pair
PAIR_REST_S = 30.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Idle:
    """Milliseconds of processor time a second, by node and together, over so many seconds; sessions a second
    of all nodes; microseconds that one session takes on both sides in process."""

    seconds: float
    nodes_ms: list[float]
    sum_ms: float
    sessions_per_s: float
    session_us: float
    interpreter: str
    load: float


def measure_idle(rest_s: float, seconds: float, parent: Path | None, say: Say) -> Idle:
    """Both parts; ClusterFailed, PairFailed."""
    say("two nodes in this process")
    session_us = measure_session(parent)
    with start_cluster(parent, "sync") as cluster:
        say(f"three nodes come to rest, {rest_s:.0f} s")
        _fill(cluster)
        time.sleep(rest_s)
        say(f"and rest, {seconds:.0f} s")
        had = _sessions(cluster)
        began_s, before = time.monotonic(), [cpu_ns(pid) for pid in cluster.pids]
        time.sleep(seconds)
        past_s, after = time.monotonic() - began_s, [cpu_ns(pid) for pid in cluster.pids]
        cluster.check()
        sessions = (_sessions(cluster) - had) / 2 / past_s  # both sides count
    nodes_ms = [round((b - a) / 1e6 / past_s, 2) for a, b in zip(before, after, strict=True)]
    return Idle(
        round(past_s, 1), nodes_ms, round(sum(nodes_ms), 2), round(sessions, 1), session_us, interpreter(),
        load_average(),
    )  # fmt: skip


def _fill(cluster: Cluster) -> None:
    with sync.connect(cluster.endpoints) as store:
        store.set_many([(key(place), bytes(VALUE_BYTES)) for place in range(KEYS)])


def _sessions(cluster: Cluster) -> int:
    total = 0
    for endpoint in cluster.endpoints:
        with sync.connect(endpoint) as store:
            counts = Metrics.of(store.node_counters().facts).counts
        total += sum(counts[f"exchanges_{kind}"] for kind in ("same", "delta", "full"))
    return total


def measure_session(parent: Path | None) -> float:
    """Microseconds of both sides for each partition in which nothing differs, with as many as usual."""
    with TemporaryDirectory(prefix="basestore-idle-", dir=parent) as directory:
        pair = Pair.open(Path(directory), PARTITIONS_DEFAULT)
        records = Data(PARTITIONS_DEFAULT).records(range(KEYS), pair.now.wall_ms)
        for node in pair.nodes:
            apply_all(node, records, pair.now)
        for _ in range(round(PAIR_REST_S / TICK_S)):
            pair.tick()
        silent: list[int] = []
        spoken: list[int] = []
        sessions = 0
        for _ in range(round(PAIR_S / TICK_S)):
            before, began_ns = _same(pair), time.thread_time_ns()
            pair.tick()
            took_ns, same = time.thread_time_ns() - began_ns, _same(pair) - before
            (spoken if same else silent).append(took_ns)
            sessions += same
        pair.close()
    if not sessions:
        raise PairFailed("the nodes had nothing to say to each other")
    extra_ns = sum(spoken) - len(spoken) * statistics.median(silent)
    return round(extra_ns / 1e3 / (sessions / 2), 1)


def _same(pair: Pair) -> int:
    return sum(int(node.metrics.counts["exchanges_same"]) for node in pair.nodes)


def text(idle: Idle) -> str:
    nodes = ", ".join(f"{each:.2f}" for each in idle.nodes_ms)
    return "\n".join(
        [
            f"{idle.interpreter}, load {idle.load}",
            f"an idle cluster of three: {idle.sum_ms:.2f} ms of CPU a second ({nodes})",
            f"  over {idle.seconds} s, with {idle.sessions_per_s:g} sessions a second, of one partition each",
            f"a session in which nothing differs: {idle.session_us:g} µs of CPU on both sides, in process",
        ]
    )


@click.command("idle")
@click.option("--seconds", default=30, show_default=True, type=click.IntRange(1, SECONDS_MAX),
              help="How long the idle cluster is watched.")  # fmt: skip
@click.option("--rest", default=REST_S, show_default=True, type=click.IntRange(0, SECONDS_MAX),
              help="How many seconds it is left alone before.")  # fmt: skip
@click.option("--directory", type=click.Path(exists=True, file_okay=False, writable=True, path_type=Path),
              help="Where to make the stores.  [default: where temporary files go]")  # fmt: skip
@click.option("-o", "--output", default="text", show_default=True, type=click.Choice(["text", "json"]),
              help="How to print: text, or one object.")  # fmt: skip
def idle_command(seconds: int, rest: int, directory: Path | None, output: str) -> None:
    """What a cluster of three costs that nobody uses, and a session in which nothing differs.

    Three nodes on loopback come to rest, and are watched; two more run in this process, without sockets.
    """
    try:
        idle = measure_idle(rest, seconds, directory, lambda note: click.echo(note, err=True))
    except (ClusterFailed, PairFailed, BasestoreError) as failure:
        raise click.ClickException(str(failure)) from failure
    click.echo(json.dumps(asdict(idle), indent=1) if output == "json" else text(idle))
