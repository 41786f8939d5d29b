"""Watch: what it costs to be told of each write, and how soon one is told.

Three node processes of ours on loopback. Some threads of this process write, each with a connection and one
write under way, as fast as they can or at a given rate; others watch. In each round a window without watchers
stands beside one with them: what the nodes' processors spend more for each event is the price. The lag of an
event is the time from its write's acknowledgement, as its writer sees it, to when the watcher has it; one
that is told sooner counts as 0. All threads share one interpreter, so figures under load are those of clients
that are busy too.
"""

import json
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import click

from basestore import sync
from basestore.errors import ConfigurationError, RequestFailed, Unreachable
from basestore.results.receipts import Change, Progress
from benchmarks.accounting import cpu_ns_of
from benchmarks.cluster import Cluster, ClusterFailed, start_cluster
from benchmarks.levels import counts

WARM_UP_S = 0.5
BEGIN_S_MAX = 20.0
VALUE = b"x" * 100
WATCHERS = "1,4"
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Row:
    """Medians over all rounds. `cpu_us`: of all nodes, for each event more than without watchers."""

    watchers: int
    writers: int
    writes_per_s: float
    writes_alone_per_s: float
    events_per_s: float
    cpu_us: float | None
    lag_p50_ms: float | None
    lag_p99_ms: float | None


@dataclass(slots=True)
class _Window:
    """What was done in one. `acknowledged`: when, by key."""

    writes: int = 0
    events: int = 0
    seconds: float = 0.0
    cpu_ns: int = 0
    acknowledged: dict[bytes, float] = field(default_factory=dict)
    heard: list[tuple[bytes, float]] = field(default_factory=list)

    def lags_ms(self) -> list[float]:
        told = ((self.acknowledged.get(key), at) for key, at in self.heard)
        return sorted(max(0.0, at - acked) * 1e3 for acked, at in told if acked is not None)


class _Watcher(threading.Thread):
    """Watches until it is told to stop, or the cluster ends."""

    def __init__(self, endpoint: str, prefix: bytes) -> None:
        super().__init__(daemon=True)
        self._endpoint, self._prefix = endpoint, prefix
        self.begun, self.stopped = threading.Event(), False
        self.heard: list[tuple[bytes, float]] = []

    def run(self) -> None:
        with suppress(RequestFailed, Unreachable), sync.connect(self._endpoint) as store:
            for event in store.watch(self._prefix):
                if isinstance(event, Change):
                    self.heard.append((event.key, time.monotonic()))
                elif isinstance(event, Progress):
                    self.begun.set()
                if self.stopped:
                    return


def _write(endpoint: str, prefix: bytes, pause_s: float, window: _Window, stop: threading.Event) -> None:
    with sync.connect(endpoint) as store:
        number = 0
        while not stop.is_set():
            key = prefix + b"%d" % number
            store.set(key, VALUE)
            window.acknowledged[key] = time.monotonic()
            window.writes += 1
            number += 1
            if pause_s:
                time.sleep(pause_s)


def _measure(
    cluster: Cluster, run: bytes, watchers: int, writers: int, pause_s: float, seconds: float
) -> _Window:
    """One window; the watchers are at the nodes in turn."""
    prefix = b"watched/" + run
    watching = [_Watcher(cluster.endpoints[at % len(cluster.endpoints)], prefix) for at in range(watchers)]
    for watcher in watching:
        watcher.start()
    if not all(watcher.begun.wait(BEGIN_S_MAX) for watcher in watching):
        raise ClusterFailed("a watch did not begin in time")
    window, stop = _Window(), threading.Event()
    parts = [_Window() for _ in range(writers)]
    threads = [
        threading.Thread(
            target=_write,
            args=(cluster.endpoints[at % 3], prefix + b"%d/" % at, pause_s, part, stop),
            daemon=True,
        )
        for at, part in enumerate(parts)
    ]
    for thread in threads:
        thread.start()
    time.sleep(WARM_UP_S)
    before, began = cpu_ns_of(cluster.pids), time.monotonic()
    writes = sum(part.writes for part in parts)
    time.sleep(seconds)
    window.writes = sum(part.writes for part in parts) - writes
    window.seconds, window.cpu_ns = time.monotonic() - began, cpu_ns_of(cluster.pids) - before
    ended = began + window.seconds
    stop.set()
    for thread in threads:
        thread.join()
    time.sleep(WARM_UP_S)
    for part in parts:
        window.acknowledged.update(part.acknowledged)
    for watcher in watching:
        watcher.stopped = True
        window.heard += [(key, at) for key, at in watcher.heard if began <= at < ended]
    window.events = len(window.heard)
    cluster.check()
    return window


def _row(watchers: int, writers: int, alone: Sequence[_Window], watched: Sequence[_Window]) -> Row:
    def median(values: Sequence[float]) -> float:
        return round(statistics.median(values), 1)

    more = [
        (each.cpu_ns / each.writes - other.cpu_ns / other.writes) * each.writes / each.events / 1e3
        for each, other in zip(watched, alone, strict=True)
        if each.events and each.writes and other.writes
    ]
    lags = [lag for each in watched for lag in each.lags_ms()]
    cuts = statistics.quantiles(lags, n=100) if len(lags) > 1 else None
    return Row(
        watchers, writers,
        median([each.writes / each.seconds for each in watched]),
        median([each.writes / each.seconds for each in alone]),
        median([each.events / each.seconds for each in watched]),
        median(more) if more else None,
        round(cuts[49], 2) if cuts else None,
        round(cuts[98], 2) if cuts else None,
    )  # fmt: skip


def measure_all(
    watchers: Sequence[int], writers: int, pause_s: float, seconds: float, rounds: int, parent: Path | None,
    say: Say,
) -> list[Row]:  # fmt: skip
    """A row for each number of watchers. ClusterFailed."""
    rows = []
    with start_cluster(parent, "sync") as cluster:
        for count in watchers:
            alone, watched = [], []
            for number in range(rounds):
                say(f"{count} watchers, round {number + 1} of {rounds}")
                run = b"%d/%d/" % (count, number)
                alone.append(_measure(cluster, run + b"alone/", 0, writers, pause_s, seconds))
                cluster.wait_quiet()
                watched.append(_measure(cluster, run, count, writers, pause_s, seconds))
                cluster.wait_quiet()
            rows.append(_row(count, writers, alone, watched))
    return rows


def as_text(rows: Sequence[Row], plan: str) -> str:
    """A table."""
    lines = [plan, "", "watchers  writes/s  alone/s  events/s  CPU us/event  lag p50 ms  p99 ms"]
    for row in rows:
        numbers = (row.writes_per_s, row.writes_alone_per_s, row.events_per_s, row.cpu_us)
        shown = ["-" if number is None else f"{number:,.1f}" for number in numbers]
        lags = ["-" if lag is None else f"{lag:.2f}" for lag in (row.lag_p50_ms, row.lag_p99_ms)]
        lines.append(
            f"{row.watchers:8}  {shown[0]:>8}  {shown[1]:>7}  {shown[2]:>8}  {shown[3]:>12}  {lags[0]:>10}  "
            f"{lags[1]:>6}"
        )
    return "\n".join(lines)


@click.command("watch")
@click.option("--watchers", default=WATCHERS, show_default=True, callback=counts, help="How many watch.")
@click.option("--writers", default=8, show_default=True, type=click.IntRange(1, 256), help="How many write.")
@click.option("--pause", "pause_s", default=0.0, show_default=True, type=click.FloatRange(0, 10),
              help="Seconds that each waits after a write.")  # fmt: skip
@click.option("--seconds", default=2.0, show_default=True, type=click.FloatRange(0.1, 600),
              help=f"Length of a window; {WARM_UP_S:g} s to warm up come before it.")  # fmt: skip
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1, 1000),
              help="Pairs of windows, without watchers and with them.")  # fmt: skip
@click.option("--directory", type=click.Path(exists=True, file_okay=False, writable=True, path_type=Path),
              help="Where to make the stores.  [default: where temporary files go]")  # fmt: skip
@click.option("-o", "--output", default="text", show_default=True, type=click.Choice(["text", "json"]),
              help="How to print: a table, or one object.")  # fmt: skip
def watch_command(
    watchers: list[int], writers: int, pause_s: float, seconds: float, rounds: int, directory: Path | None,
    output: str,
) -> None:  # fmt: skip
    """What a watch costs, and how soon it tells of a write.

    Three processes of basestore on loopback, with durability sync; some write, and some watch all that they
    write. With --pause the writers leave the nodes time, so that the lag is that of a cluster that keeps up.
    """
    try:
        rows = measure_all(watchers, writers, pause_s, seconds, rounds, directory, _say)
    except (ClusterFailed, ConfigurationError, OSError, RequestFailed, Unreachable) as failure:
        raise click.ClickException(str(failure)) from failure
    plan = f"{rounds} rounds of windows of {seconds:g} s; {writers} writers, values of {len(VALUE)} bytes"
    click.echo(
        json.dumps([asdict(row) for row in rows], indent=1) if output == "json" else as_text(rows, plan)
    )


def _say(text: str) -> None:
    click.echo(text, err=True)
