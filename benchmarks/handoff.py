"""Handoff: a node is down for thousands of writes, and catches up by hints alone.

Owns the course of the measurement. Three nodes; a paced client (`paced.py`) talks to two of them:

    quiet     all is well: the client is measured
    outage    n3 is killed. Many callers write at QUORUM as fast as they can, each key once, and
              read each key at once through the other node. One key in five is older: n3 holds it,
              but not as it is now
    return    n3 is started again; while the hints are delivered the same client is measured
    quiet     once more, for the speed of a machine drifts
    accounts  every key is read from n3 alone, at ONE and without repair; then at QUORUM from each
              node; then from n3 alone again, for those reads have repaired what they met

With a hint limit that is too small n3 lacks writes after the return, until they are read: the
nodes' debts say in which partitions. Even then every acknowledged write is found at QUORUM.
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import trio

import basestore
from basestore import BasestoreError, Store, sync
from basestore.config import HINT_BYTES_DEFAULT, NodeConfig
from benchmarks.cluster import Cluster, ClusterFailed, start_cluster
from benchmarks.load import PRELOAD_BATCH, TIMEOUT_S, values
from benchmarks.paced import Ledger, PacedClient, Samples, connections, ratio

DOWN = 2  # the place of n3
WRITE_SHARE = 0.5  # of the client that is measured
OLDER_SHARE = 5  # one key in so many was there before the outage
WARM_UP_S = 1.0
DELIVERY_S_MAX = 900.0
POLL_S = 0.1
RATIO_AIM = 1.5

Say = Callable[[str], None]


class HandoffFailed(Exception):
    """The hints were not delivered in time, or keys could not be read. The text says which."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do. `seconds` is the length of each quiet window; `clients` write during the outage."""

    writes: int
    clients: int
    hint_bytes_max: int
    seconds: float
    rate_per_s: float
    parent: Path | None


@dataclass(frozen=True, slots=True)
class Hints:
    """What the nodes keep for n3 at the end of the outage. `debts`: by node, the partitions of
    which n3 may lack writes without a hint for them."""

    count: dict[str, int]
    bytes: dict[str, int]
    debts: dict[str, list[int]]

    @property
    def partitions(self) -> int:
        """In debt at any of the nodes."""
        return len({partition for owed in self.debts.values() for partition in owed})


@dataclass(frozen=True, slots=True)
class Account:
    """What became of the writes that were acknowledged.

    missing        not held by n3 when all hints had been delivered
    lost           read at QUORUM from any one node, an older version or nothing was shown
    missing_after  not held by n3 after those reads
    """

    missing: int
    lost: int
    missing_after: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """All that was found. `quiet` holds the windows before and after."""

    plan: Plan
    acknowledged: int
    written_s: float
    hints: Hints
    delivered_s: float
    quiet: tuple[Samples, Samples]
    busy: Samples
    account: Account
    went_back: int


# --- the course ----------------------------------------------------------------------------------


async def measure(plan: Plan, cluster: Cluster, say: Say) -> Outcome:
    """Run the plan on a new cluster. HandoffFailed, ClusterFailed, or the error of a client."""
    ledger = Ledger()
    older = [b"older-%08d" % number for number in range(max(1, plan.writes // OLDER_SHARE))]
    newer = [b"newer-%08d" % number for number in range(plan.writes - len(older))]
    near = [endpoint for place, endpoint in enumerate(cluster.endpoints) if place != DOWN]
    await _preload(cluster, older, ledger)
    async with connections(near) as stores:
        client = PacedClient(stores, older, ledger, plan.rate_per_s, WRITE_SHARE)
        say(f"quiet: {plan.rate_per_s:g} requests a second for {plan.seconds:g} s")
        before = await _quiet(plan, cluster, client)
        say(f"n3 is down; {plan.writes:,} writes by {plan.clients} callers, each read at once")
        cluster.kill(DOWN)
        cluster.wait_linked()
        began = time.monotonic()
        acknowledged = await _outage(plan, near, [*older, *newer], ledger, say)
        written_s = time.monotonic() - began
        cluster.wait_quiet()
        hints = _hints(near)
        say(f"n3 is back; {sum(hints.count.values()):,} hints wait for it")
        cluster.start(DOWN)
        cluster.wait_linked()
        busy, delivered_s = await _return(cluster, near, client)
        say("quiet again")
        after = await _quiet(plan, cluster, client)
    cluster.wait_quiet()
    account = _account(cluster, ledger, say)
    return Outcome(
        plan, acknowledged, written_s, hints, delivered_s, (before, after), busy, account, ledger.went_back
    )


async def _preload(cluster: Cluster, keys: Sequence[bytes], ledger: Ledger) -> None:
    """Every older key once, at ALL."""
    pool = values(1)
    items = [(key, pool[number % len(pool)]) for number, key in enumerate(keys)]
    async with basestore.connect(cluster.endpoints, consistency="all", timeout=TIMEOUT_S) as store:
        for start in range(0, len(items), PRELOAD_BATCH):
            batch = items[start : start + PRELOAD_BATCH]
            for (key, _), receipt in zip(batch, await store.set_many(batch), strict=True):
                if isinstance(receipt, BasestoreError):
                    raise receipt
                ledger.note(key, receipt.version)


async def _quiet(plan: Plan, cluster: Cluster, client: PacedClient) -> Samples:
    cluster.wait_quiet()
    await client.ask_for(WARM_UP_S)
    return await client.ask_for(plan.seconds)


async def _outage(
    plan: Plan, endpoints: Sequence[str], keys: Sequence[bytes], ledger: Ledger, say: Say
) -> int:
    """Write every key, and read each at once through the other node. How many were acknowledged;
    the others are not part of any account, though they may have happened."""
    pool = values(2)
    waiting = iter(enumerate(keys))
    failures: list[BasestoreError] = []

    async def call(stores: Sequence[Store]) -> None:
        for number, key in waiting:
            near, far = stores[number % 2], stores[1 - number % 2]
            try:
                await ledger.write(near, key, pool[number % len(pool)])
                await ledger.read(far, key)
            except BasestoreError as error:
                failures.append(error)

    async with connections(endpoints) as stores, trio.open_nursery() as nursery:
        for _ in range(plan.clients):
            nursery.start_soon(call, stores)
    if failures:
        say(f"{len(failures)} of these writes or reads failed, as: {failures[0]}")
    return len(keys) - len(failures)


async def _return(cluster: Cluster, holders: Sequence[str], client: PacedClient) -> tuple[Samples, float]:
    """Measure the client until the holders keep no hint for n3 any more, and how long that takes."""
    busy = Samples()
    stop = trio.Event()
    began = trio.current_time()
    delivered_s = math.inf
    async with connections(holders) as stores, trio.open_nursery() as nursery:
        nursery.start_soon(client.ask_until, stop, busy)
        while trio.current_time() - began < DELIVERY_S_MAX and delivered_s == math.inf:
            states = [await store.node_status() for store in stores]
            if not any(state.hints["n3"] for state in states):
                delivered_s = trio.current_time() - began
            await trio.sleep(POLL_S)
        stop.set()
    cluster.check()
    if delivered_s == math.inf:
        raise HandoffFailed(f"hints are left after {DELIVERY_S_MAX:g} s")
    return busy, delivered_s


def _hints(holders: Sequence[str]) -> Hints:
    found = Hints({}, {}, {})
    for endpoint in holders:
        with sync.connect(endpoint) as store:
            kept = store.node_hints()
        pile = next((pile for pile in kept.piles if pile.peer == "n3"), None)
        found.count[kept.node] = pile.count if pile else 0
        found.bytes[kept.node] = pile.bytes if pile else 0
        found.debts[kept.node] = sorted(pile.debt) if pile else []
    return found


# --- the accounts --------------------------------------------------------------------------------


def _account(cluster: Cluster, ledger: Ledger, say: Say) -> Account:
    say(f"{len(ledger.versions):,} keys are read from n3 alone, from a quorum by each node, from n3 again")
    missing = set(_behind(cluster.endpoints[DOWN], ledger, alone=True))
    lost = {key for endpoint in cluster.endpoints for key in _behind(endpoint, ledger, alone=False)}
    cluster.wait_quiet()
    missing_after = set(_behind(cluster.endpoints[DOWN], ledger, alone=True))
    return Account(len(missing), len(lost), len(missing_after))


def _behind(endpoint: str, ledger: Ledger, *, alone: bool) -> Iterator[bytes]:
    """The keys for which the node shows an older version than was acknowledged, or nothing: as it
    holds them itself, or as it reads them at QUORUM."""
    keys = list(ledger.versions)
    with sync.connect(endpoint, timeout=TIMEOUT_S) as store:
        for start in range(0, len(keys), PRELOAD_BATCH):
            batch = keys[start : start + PRELOAD_BATCH]
            results = (
                store.get_many(batch, consistency="one", repair=False) if alone else store.get_many(batch)
            )
            for key, result in zip(batch, results, strict=True):
                if isinstance(result, BasestoreError):
                    raise HandoffFailed(f"{key!r} could not be read from {endpoint}: {result}") from result
                if result.version is None or result.version < ledger.versions[key]:
                    yield key


# --- the report ----------------------------------------------------------------------------------


def as_fields(outcome: Outcome) -> dict[str, Any]:
    """For JSON: one flat object. What cannot be said, because no request ended well, is None."""
    before, after = outcome.quiet
    quiet, busy, hints = before + after, outcome.busy, outcome.hints
    count = sum(hints.count.values())
    return {
        "writes": outcome.acknowledged,
        "quiet_p50_ms": quiet.any_ms(0.5),
        "quiet_p99_ms": quiet.any_ms(0.99),
        "busy_p50_ms": busy.any_ms(0.5),
        "busy_p99_ms": busy.any_ms(0.99),
        "p99_ratio": ratio(busy.any_ms(0.99), quiet.any_ms(0.99)),
        "read_p99_ratio": ratio(busy.read_ms(0.99), quiet.read_ms(0.99)),
        "write_p99_ratio": ratio(busy.write_ms(0.99), quiet.write_ms(0.99)),
        "delivered_s": round(outcome.delivered_s, 2),
        "copies_per_s": round(count / outcome.delivered_s, 1),
        "missing": outcome.account.missing,
        "missing_after_reads": outcome.account.missing_after,
        "lost": outcome.account.lost,
        "went_back": outcome.went_back,
        "errors": sum((quiet.errors + busy.errors).values()),
        "hint_bytes_max": outcome.plan.hint_bytes_max,
        "hints": count,
        "hints_bytes": sum(hints.bytes.values()),
        "debt_partitions": hints.partitions,
    }


def as_text(outcome: Outcome) -> str:
    """The windows as a table, then what became of the writes."""
    before, after = outcome.quiet
    windows = {"quiet, before": before, "quiet, after": after, "quiet, both": before + after}
    windows["hints delivered"] = outcome.busy
    fields = as_fields(outcome)
    hints, account, written_s = outcome.hints, outcome.account, outcome.written_s
    copies_per_s = fields["copies_per_s"]
    kept = ", ".join(f"{node} {count:,} ({hints.bytes[node]:,} bytes)" for node, count in hints.count.items())
    debts = ", ".join(f"{node} {len(owed)}" for node, owed in hints.debts.items())
    return "\n".join([
        "client at QUORUM            read ms           write ms",
        "                  asked   p50     p99       p50     p99  errors",
        *(_line(name, window) for name, window in windows.items()),
        f"p99 beside the quiet one: reads {fields['read_p99_ratio']}, writes {fields['write_p99_ratio']}, "
        f"together {fields['p99_ratio']} times (aim: {RATIO_AIM})",
        "",
        f"writes acknowledged while n3 was down  {outcome.acknowledged:,} in {written_s:.1f} s",
        f"hints kept for n3                      {kept}",
        f"partitions with debts                  {debts}",
        f"delivered                              in {outcome.delivered_s:.1f} s, {copies_per_s:,} a second",
        f"n3 alone lacks, after delivery         {account.missing:,} of {outcome.acknowledged:,}",
        f"lost at QUORUM, read from each node    {account.lost:,}",
        f"n3 alone lacks, after those reads      {account.missing_after:,}",
        f"reads at QUORUM that went back         {outcome.went_back}",
    ])  # fmt: skip


def _line(name: str, window: Samples) -> str:
    figures = (window.read_ms(0.5), window.read_ms(0.99), window.write_ms(0.5), window.write_ms(0.99))
    read50, read99, write50, write99 = ("-" if each is None else f"{each:.2f}" for each in figures)
    asked = len(window.reads_ns) + len(window.writes_ns)
    errors = sum(window.errors.values())
    return f"{name:<16} {asked:>6} {read50:>6} {read99:>7}  {write50:>7} {write99:>7} {errors:>7}"


# --- the command ---------------------------------------------------------------------------------


@click.command("handoff")
@click.option("--writes", default=50_000, show_default=True, type=click.IntRange(5, 10_000_000),
              help="Writes while n3 is down, each to a key of its own.")  # fmt: skip
@click.option("--clients", default=32, show_default=True, type=click.IntRange(1, 2000),
              help="Callers that write during the outage.")  # fmt: skip
@click.option("--hint-bytes-max", default=HINT_BYTES_DEFAULT, show_default=True, type=click.IntRange(0),
              help="Bytes of hints that each node keeps for n3.")  # fmt: skip
@click.option("--seconds", default=15.0, show_default=True, type=click.FloatRange(0.1, 600),
              help="Length of each quiet window.")  # fmt: skip
@click.option("--rate", default=200.0, show_default=True, type=click.FloatRange(1, 10_000),
              help="Requests a second of the client that is measured, half of them writes.")  # fmt: skip
@click.option("--directory", type=click.Path(exists=True, file_okay=False, writable=True, path_type=Path),
              help="Where to make the stores.  [default: where temporary files go]")  # fmt: skip
@click.option("-o", "--output", default="text", show_default=True, type=click.Choice(["text", "json"]),
              help="How to print.")  # fmt: skip
def handoff_command(
    writes: int,
    clients: int,
    hint_bytes_max: int,
    seconds: float,
    rate: float,
    directory: Path | None,
    output: str,
) -> None:
    """A node that was down catches up by hints; what its return costs a client meanwhile.

    Three node processes on loopback with durability sync. The client that is measured asks two of
    them at QUORUM, at a steady rate that does not wait for answers. Compare its percentiles only
    within one run: the quiet windows before and after say how much the machine itself drifts.
    """
    plan = Plan(writes, clients, hint_bytes_max, seconds, rate, directory)

    def adapt(config: NodeConfig) -> NodeConfig:
        return replace(config, hint_bytes_max=hint_bytes_max)

    def say(text: str) -> None:
        click.echo(text, err=True)

    try:
        with start_cluster(directory, "sync", adapt) as cluster:
            outcome = trio.run(measure, plan, cluster, say)
    except (ClusterFailed, HandoffFailed, BasestoreError) as failure:
        raise click.ClickException(str(failure)) from failure
    click.echo(json.dumps(as_fields(outcome), indent=1) if output == "json" else as_text(outcome))
