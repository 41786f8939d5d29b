"""Overload: what nodes still do in time when they are asked for many times what they can do.

Owns the course of the measurement, the same for one node (`memory`, ONE) and for three (`sync`, QUORUM, the
load spread over them). A closed loop finds the peak; then so many times that peak are offered in an open
loop (`open_loop.py`), by own clients and by hostile ones in turn; at the end a polite tenant, another
address, asks for a tenth of its share beside a greedy one. The peak is found again in the middle and at the
end, for the speed of a machine drifts: loads are held against all of it.

Each load has connections of its own, warms up, is measured for a window, and is heard out for a second; the
nodes come to rest before the next one.
"""

import importlib
import json
import os
import re
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click

from basestore.config import Durability, NodeConfig
from basestore.consistency import Level
from basestore.server.local_cluster import HOST, free_ports
from benchmarks.cluster import Cluster, ClusterFailed, start_cluster
from benchmarks.machine import interpreter, load_average
from benchmarks.open_loop import Driven, Frames, LoadLost, Tenant, drive
from benchmarks.overload_report import Phase, Row, make_rows, table, total

FACTORS = (0.5, 1.0, 2.0, 5.0, 10.0)
POLITE_FACTORS = (5.0, 10.0)
POLITE_SHARE = 0.05  # of the peak: a tenth of one of two tenants' share
UNDER_WAY = 256
CONNECTIONS = 15  # so many for each of three nodes
POLITE_CONNECTIONS = 3
GREEDY, POLITE = "127.0.0.1", "127.0.0.2"
LOOK_S = 1.0
LOOK_RSS_S = 0.1
HTTP_S_MAX = 2.0
PEER_DEAD = re.compile(rb"^basestore_peer_alive\{[^}]*\} 0", re.MULTILINE)

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Setting:
    """A cluster that is measured."""

    name: str
    nodes: int
    durability: Durability
    level: Level


SETTINGS = {
    "one": Setting("one", 1, "memory", Level.ONE),
    "three": Setting("three", 3, "sync", Level.QUORUM),
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do: of each load, how long it warms up and how long it is measured; how often the peak is
    found; whether the nodes come to rest in between."""

    settings: Sequence[Setting]
    factors: Sequence[float]
    polite_factors: Sequence[float]
    warm_up_s: float
    window_s: float
    quick: bool
    parent: Path | None


class Watch:
    """Looks at the nodes while a load runs: their memory, and in their metrics whether a member counts as
    dead. In a thread, for a node under load may be slow to answer."""

    def __init__(self, pids: Sequence[int], ports: Sequence[int]) -> None:
        self._pids, self._ports = pids, ports
        self._base = [rss_bytes(pid) for pid in pids]
        self.rss_growth_bytes = 0
        self.peers_dead = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    @contextmanager
    def running(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join()

    def _look(self) -> None:
        look_at = 0.0
        while not self._stop.wait(LOOK_RSS_S):
            for pid, base in zip(self._pids, self._base, strict=True):
                self.rss_growth_bytes = max(self.rss_growth_bytes, rss_bytes(pid) - base)
            if time.monotonic() >= look_at and len(self._ports) > 1:
                look_at = time.monotonic() + LOOK_S
                self.peers_dead = self.peers_dead or any(map(misses_a_peer, self._ports))


def rss_bytes(pid: int) -> int:
    """Resident memory of a process; 0 if there is none."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def misses_a_peer(port: int) -> bool:
    """Whether the node whose metrics are shown there takes a member for dead; one that does not answer is
    not known to."""
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/metrics", timeout=HTTP_S_MAX) as page:
            return PEER_DEAD.search(page.read()) is not None
    except OSError:
        return False


# --- the course ----------------------------------------------------------------------------------


class Course:
    """The loads on one cluster."""

    def __init__(
        self, plan: Plan, setting: Setting, cluster: Cluster, ports: Sequence[int], say: Say
    ) -> None:
        self._plan, self._name, self._cluster, self._ports, self._say = (
            plan,
            setting.name,
            cluster,
            ports,
            say,
        )
        self._frames = Frames(setting.level, 1)
        self.phases: list[Phase] = []

    def run(self) -> list[Row]:
        before = load_average()
        peak = self._peak()
        for factor in self._plan.factors:
            for clients in ("own", "hostile"):
                self._offer(clients, factor, peak, polite=False)
            if factor == 2.0:
                self._peak()
        for factor in self._plan.polite_factors:
            self._offer("hostile", factor, peak, polite=True)
        if not self._plan.quick:
            self._peak()
        return make_rows(self._name, self.phases, max(before, load_average()))

    def _peak(self) -> float:
        self._say(f"{self._name}: the peak, {UNDER_WAY} writes under way")
        driven = self._drive("own", 0.0, [Tenant(GREEDY, CONNECTIONS, own=True, under_way=UNDER_WAY)])
        peak = len(total(driven).good_s) / driven.window_s
        if not peak:
            raise LoadLost("nothing was stored in time, even of what the nodes had asked for")
        return peak

    def _offer(self, clients: str, factor: float, peak: float, *, polite: bool) -> None:
        beside = ", a polite tenant beside" if polite else ""
        self._say(
            f"{self._name}: {factor:g} times the peak, {factor * peak:,.0f} a second, {clients}{beside}"
        )
        tenants = [Tenant(GREEDY, CONNECTIONS, clients == "own", factor * peak)]
        if polite:
            tenants.append(Tenant(POLITE, POLITE_CONNECTIONS, own=True, per_s=POLITE_SHARE * peak))
        self._drive(clients, factor, tenants)

    def _drive(self, clients: str, factor: float, tenants: Sequence[Tenant]) -> Driven:
        plan, cluster = self._plan, self._cluster
        if not plan.quick:
            cluster.wait_quiet()
        cluster.wait_linked()  # a member that was taken for dead under the last load counts again
        watch = Watch(cluster.pids, self._ports)
        with watch.running():
            driven = drive(
                tenants, cluster.endpoints, cluster.pids, self._frames, plan.warm_up_s, plan.window_s
            )
        cluster.check()
        phase = Phase(clients, factor, len(tenants) > 1, driven, watch.rss_growth_bytes, watch.peers_dead)
        self.phases.append(phase)
        counted = total(driven)
        self._say(
            f"    {len(counted.good_s) / driven.window_s:,.0f} in time; late {counted.late:,}, "
            f"shed {counted.shed:,}, failed {counted.failed:,}, unsent {counted.unsent:,}, "
            f"lost {counted.lost:,}; CPU s: nodes {driven.nodes_cpu_s:.2f}, "
            f"generator {driven.generator_cpu_s:.2f} of {driven.window_s:.1f}"
            + (f"; {counted.closed} connections ended" if counted.closed else "")
        )
        return driven


def measure(plan: Plan, say: Say) -> list[Row]:
    rows = []
    for setting in plan.settings:
        ports = free_ports(setting.nodes)
        left = iter(ports)

        def adapt(config: NodeConfig, left: Iterator[int] = left) -> NodeConfig:
            return replace(config, metrics=f"{HOST}:{next(left)}")

        with start_cluster(plan.parent, setting.durability, adapt, nodes=setting.nodes) as cluster:
            rows += Course(plan, setting, cluster, ports, say).run()
    return rows


# --- the command ---------------------------------------------------------------------------------


@click.command("overload")
@click.option("--cluster", "clusters", default=["one", "three"], show_default=True, multiple=True,
              type=click.Choice(list(SETTINGS)),
              help="one: a node with durability memory, at ONE; three: with sync, at QUORUM.")  # fmt: skip
@click.option("--seconds", default=6.0, show_default=True, type=click.FloatRange(0.2, 600),
              help="Length of each measured window.")  # fmt: skip
@click.option("--quick", is_flag=True, help="A few seconds in all: to see that it works, not for figures.")
@click.option("--plot", type=click.Path(dir_okay=False, writable=True, path_type=Path), metavar="FILE",
              help="Draw the curves too, as .svg, .png or .pdf; needs matplotlib.")  # fmt: skip
@click.option("--directory", type=click.Path(exists=True, file_okay=False, writable=True, path_type=Path),
              help="Where to make the stores.  [default: where temporary files go]")  # fmt: skip
@click.option("-o", "--output", default="text", show_default=True, type=click.Choice(["text", "json"]),
              help="How to print: a table, or a list of rows.")  # fmt: skip
def overload_command(
    clusters: Sequence[str],
    seconds: float,
    quick: bool,
    plot: Path | None,
    directory: Path | None,
    output: str,
) -> None:
    """What is still done in time when more is asked than can be done.

    Writes of 100 bytes in frames of 4, in time within 500 ms of when they were to be sent. The peak is what a
    closed loop gets that keeps 256 under way; offered are 0.5, 1, 2, 5 and 10 times as many, by own clients,
    which keep to the windows that nodes tell, and by hostile ones, which go on sending. Beside a greedy
    tenant at 5 and 10 times the peak a polite one asks for a tenth of its share.

    Each of 15 loads a cluster takes 2 s to warm up, 6 s of window and a second or two until all is quiet:
    five to six minutes for both clusters.
    """
    draw = None if plot is None else _plotter()
    settings = [SETTINGS[name] for name in dict.fromkeys(clusters)]
    if quick:
        plan = Plan(settings, (0.5, 5.0), (5.0,), 0.3, 0.7, quick, directory)
    else:
        plan = Plan(settings, FACTORS, POLITE_FACTORS, 2.0, seconds, quick, directory)
    try:
        rows = measure(plan, _say)
    except (ClusterFailed, LoadLost) as failure:
        raise click.ClickException(str(failure)) from failure
    if output == "json":
        click.echo(json.dumps([asdict(row) for row in rows], indent=1))
    else:
        click.echo(f"windows of {plan.window_s:g} s; {interpreter()}\n\n{table(rows)}")
    if draw is not None:
        draw(plot, rows)


def _plotter() -> Callable[[Any, Sequence[Row]], None]:
    """Found before anything is measured."""
    try:
        draw: Callable[[Any, Sequence[Row]], None] = importlib.import_module("benchmarks.overload_plot").draw
    except ModuleNotFoundError as absent:
        raise click.ClickException(
            f"--plot needs {absent.name}, which is not installed: pip install matplotlib"
        ) from absent
    return draw


def _say(text: str) -> None:
    click.echo(text, err=True)
