"""Speculation: what it does to the tail of reads that one node is slow, and that a read which takes
longer than usual asks another replica.

Owns the course of the measurement. Two clusters run side by side, alike but for one thing: in one
of them reads are speculative, in the other they wait for the replicas they have chosen. In each, n1
and n2 reach n3 through a relay (`relay.py`), which can make its answers late. A paced client
(`paced.py`) reads through n1 and n2, at QUORUM; only one cluster is asked at a time. Its windows
take turns, for the speed of a machine drifts:

    healthy   reads are speculative, and nobody is slow
    off       n3 is slow, reads are not speculative
    on        n3 is slow, reads are speculative

A node knows what is usual from the latest answers of its peers, so each cluster is warmed up first.
"""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import click
import trio

from basestore import BasestoreError, Store
from basestore.config import NodeConfig
from benchmarks.cluster import Cluster, ClusterFailed, start_cluster
from benchmarks.load import Preload, key, preload
from benchmarks.paced import Ledger, PacedClient, Samples, connections, ratio
from benchmarks.relay import RelayProcess

SLOW = 2  # the place of n3
SHARES = {"p50": 0.5, "p99": 0.99, "p999": 0.999}

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do: `rounds` windows of `seconds` for each of the three cases."""

    delay_s: float
    rate_per_s: float
    seconds: float
    rounds: int
    warm_up_s: float
    keys: int
    parent: Path | None


@dataclass(frozen=True, slots=True)
class RelayedCluster:
    """A cluster, and the relay before its n3."""

    cluster: Cluster
    relay: RelayProcess

    def slow_down(self, delay_s: float) -> None:
        """From now on what n3 says takes so much longer."""
        self.relay.lead_to(self.cluster.endpoints[SLOW], delay_s)


class Side(NamedTuple):
    """One of the two clusters, and the client that asks it."""

    relayed: RelayedCluster
    stores: Sequence[Store]
    client: PacedClient


@dataclass(slots=True)
class Case:
    """One of the three, and what was found: the samples of all its windows, and how many of its
    reads asked a further replica because they took long."""

    name: str
    speculative: bool
    slow: bool
    samples: Samples
    retries: int = 0

    @property
    def extra_share(self) -> float | None:
        """Of its reads, those that asked a further replica."""
        reads = len(self.samples.reads_ns)
        return round(self.retries / reads, 4) if reads else None


@contextmanager
def start_relayed(parent: Path | None, *, speculative: bool) -> Iterator[RelayedCluster]:
    """A new cluster whose n1 and n2 reach n3 through a relay; ClusterFailed."""
    with RelayProcess() as relay:

        def program(config: NodeConfig) -> Sequence[str]:
            slow = config.cluster.members[SLOW].address
            relay.lead_to(slow, 0.0)
            alterations = {"detours": {slow: relay.address}, "speculative": speculative}
            return (sys.executable, "-m", "benchmarks.altered", json.dumps(alterations))

        with start_cluster(parent, "sync", program=program) as cluster:
            yield RelayedCluster(cluster, relay)


# --- the course ----------------------------------------------------------------------------------


async def measure(plan: Plan, on: RelayedCluster, off: RelayedCluster, say: Say) -> list[Case]:
    """Run the plan on two new clusters. ClusterFailed, or the error of a client."""
    cases = [
        Case("healthy", True, False, Samples()),
        Case("off", False, True, Samples()),
        Case("on", True, True, Samples()),
    ]
    keys = [key(number) for number in range(plan.keys)]
    for each in (on, off):
        await preload(Preload(each.cluster.endpoints, plan.keys))
        each.cluster.wait_quiet()
    async with (
        connections(on.cluster.endpoints[:SLOW]) as stores_on,
        connections(off.cluster.endpoints[:SLOW]) as stores_off,
    ):
        sides = {
            speculative: Side(relayed, stores, PacedClient(stores, keys, Ledger(), plan.rate_per_s, 0.0))
            for speculative, relayed, stores in ((True, on, stores_on), (False, off, stores_off))
        }
        say(f"warming up: {plan.rate_per_s:g} reads a second for {plan.warm_up_s:g} s of each cluster")
        for side in sides.values():
            await side.client.ask_for(plan.warm_up_s)
        for number in range(1, plan.rounds + 1):
            for case in cases:
                say(f"round {number} of {plan.rounds}: {case.name}, {plan.seconds:g} s")
                await _run(plan, case, sides[case.speculative])
    return cases


async def _run(plan: Plan, case: Case, side: Side) -> None:
    """One window of a case."""
    side.relayed.slow_down(plan.delay_s if case.slow else 0.0)
    retries = await _retries(side.stores)
    case.samples += await side.client.ask_for(plan.seconds)
    case.retries += await _retries(side.stores) - retries
    side.relayed.slow_down(0.0)
    side.relayed.cluster.check()


async def _retries(stores: Sequence[Store]) -> int:
    """How many reads have asked a further replica so far, as the nodes count them."""
    states = [await store.node_counters() for store in stores]
    return sum(int(state.facts.get("count speculative_retries", "0")) for state in states)


# --- the report ----------------------------------------------------------------------------------


def as_fields(plan: Plan, cases: Sequence[Case]) -> dict[str, Any]:
    """For JSON: one flat object. What cannot be said, because no read ended well, is None."""
    fields: dict[str, Any] = {"delay_ms": plan.delay_s * 1e3, "rate_per_s": plan.rate_per_s}
    for case in cases:
        fields[f"{case.name}_reads"] = len(case.samples.reads_ns)
        for name, share in SHARES.items():
            fields[f"{case.name}_{name}_ms"] = case.samples.read_ms(share)
        fields[f"{case.name}_extra_share"] = case.extra_share
        fields[f"{case.name}_errors"] = sum(case.samples.errors.values())
    fields["p99_on_to_off"] = ratio(fields["on_p99_ms"], fields["off_p99_ms"])
    return fields


def as_text(plan: Plan, cases: Sequence[Case]) -> str:
    fields = as_fields(plan, cases)
    titles = {
        "healthy": "all nodes healthy",
        "off": "one slow node, speculation off",
        "on": "one slow node, speculation on",
    }
    lines = [
        f"reads at QUORUM through n1 and n2, {plan.rate_per_s:g} a second; slow: n3's answers come "
        f"{plan.delay_s * 1e3:g} ms later",
        "",
        "                                  reads  p50 ms  p99 ms  p99.9 ms  asked one more  errors",
    ]
    for case in cases:
        p50, p99, p999 = (_number(case.samples.read_ms(share)) for share in SHARES.values())
        extra = "-" if case.extra_share is None else f"{case.extra_share:.1%}"
        lines.append(
            f"{titles[case.name]:<31} {len(case.samples.reads_ns):>7,} {p50:>7} {p99:>7} {p999:>9} "
            f"{extra:>15} {fields[case.name + '_errors']:>7,}"
        )
    return "\n".join(lines)


def _number(milliseconds: float | None) -> str:
    return "-" if milliseconds is None else f"{milliseconds:.2f}"


# --- the command ---------------------------------------------------------------------------------


@click.command("speculation")
@click.option("--delay-ms", default=50.0, show_default=True, type=click.FloatRange(1, 1000),
              help="How much later the slow node's answers come.")  # fmt: skip
@click.option("--rate", default=300.0, show_default=True, type=click.FloatRange(1, 10_000),
              help="Reads a second.")  # fmt: skip
@click.option("--seconds", default=5.0, show_default=True, type=click.FloatRange(0.1, 600),
              help="Length of a window.")  # fmt: skip
@click.option("--rounds", default=4, show_default=True, type=click.IntRange(1, 1000),
              help="Windows of each case.")  # fmt: skip
@click.option("--warm-up", default=8.0, show_default=True, type=click.FloatRange(0.1, 600),
              help="Seconds of reads beforehand, for nodes to learn what is usual.")  # fmt: skip
@click.option("--keys", default=10_000, show_default=True, type=click.IntRange(1, 10_000_000),
              help="Number of keys; all are written beforehand.")  # fmt: skip
@click.option("--directory", type=click.Path(exists=True, file_okay=False, writable=True, path_type=Path),
              help="Where to make the stores.  [default: where temporary files go]")  # fmt: skip
@click.option("-o", "--output", default="text", show_default=True, type=click.Choice(["text", "json"]),
              help="How to print.")  # fmt: skip
def speculation_command(
    delay_ms: float,
    rate: float,
    seconds: float,
    rounds: int,
    warm_up: float,
    keys: int,
    directory: Path | None,
    output: str,
) -> None:
    """The tail of reads while one node is slow, with and without speculative retries.

    Two clusters of three node processes on loopback, of which one is asked at a time. The client
    reads at a steady rate that does not wait for answers. A node looks at what is late every 5 ms,
    so a retry comes 5 to 10 ms after the read at the earliest.
    """
    plan = Plan(delay_ms / 1e3, rate, seconds, rounds, warm_up, keys, directory)

    def say(text: str) -> None:
        click.echo(text, err=True)

    try:
        with (
            start_relayed(directory, speculative=True) as on,
            start_relayed(directory, speculative=False) as off,
        ):
            cases = trio.run(measure, plan, on, off, say)
    except (ClusterFailed, BasestoreError, OSError) as failure:
        raise click.ClickException(str(failure)) from failure
    for case in cases:
        for text, count in case.samples.errors.items():
            say(f"{case.name}: {count} times {text}")
    click.echo(json.dumps(as_fields(plan, cases), indent=1) if output == "json" else as_text(plan, cases))
