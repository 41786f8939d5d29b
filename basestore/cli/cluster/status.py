"""Status: the command that shows what every node of a cluster says of itself.

Owns the table. Every node is asked, and one that does not answer is shown as down; nothing is worked out that
a node did not say, and nothing is changed.
"""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from basestore.cli import exits, text
from basestore.cli.options import Target, command, share
from basestore.cli.stores import open_store, with_file
from basestore.intake.brownout import left_out_at

if TYPE_CHECKING:
    from basestore.results.nodes import HotKey, Limit, NodeState, Pressure

KEY_BYTES_SHOWN = 40
UNLEARNED_MS = 15_000  # what is finished by itself is so by then
_HEADER = ("NODE", "ENDPOINT", "STATE", "RECORDS", "HINTS", "PID", "")


@command("status")
@share("endpoint", "timeout", "output")
@click.option(
    "--check",
    is_flag=True,
    help="End with 3 unless every node is up, its disk keeps up, its clock is sure. It asks whether data are "
    "safe: how busy nodes are (brownout) makes no difference.",
)
def status_command(target: Target, check: bool) -> int:
    """Show all nodes of the cluster.

    Their states, records (expired ones too, until they are purged), the hints that they keep for others, and
    the keys that they are asked for most, if more than about 250 times a second.

    \b
    up         serves
    starting   not yet known to hold all it should; waits for other nodes
    forgetful  may have lost data, recovers it from other nodes
    left       was drained, removed or replaced, and is to be stopped
    down       does not answer

    A node that is asked for more than it can do says so: how many requests are under way, how many it has
    shed (refused unopened) by class, of which addresses most, and what it leaves out in a brownout. With -o
    json all figures are there: offered, admitted, shed, under_way and waiting by class, requests_max, window,
    brownout, most_shed.

    A node that limits buckets or keys says how, for each has limits of its own, and how many requests were
    over them; in JSON as limits. Its shed figures do not count these.

    The last line is of the metadata group, which decides what the cluster is: who leads it in which term, the
    latest epoch and who uses it, and who votes. A node that is behind says by how many entries and since
    when. Without a leader data are served, and changes are refused. In JSON as metadata, as each node sees
    it; null where a node says nothing of it.
    """
    with open_store(target) as store:
        states = store.status()
    for state in states:
        if state.state == "down":
            state.facts["reason"] = with_file(state.facts["reason"], state.node, states)
    if target.json:
        click.echo(json.dumps([state.as_json() for state in states], indent=2))
    else:
        from basestore.cli.cluster.metadata import notes, stranded, summary

        click.echo(text.table(_HEADER, [row(state, notes(state, states)) for state in states]))
        if group := summary(states):
            click.echo(group)
        for words in stranded(states):
            target.remark(words)
        if any(map(_upgrade, states)):
            target.remark("Once all nodes run the new release, for good: basestore upgrade finish")
    if all(state.state == "down" for state in states):
        return exits.UNREACHABLE
    well = all(
        state.state == "up" and not (state.facts.get("disk") or state.facts.get("clock")) for state in states
    )
    return exits.DONE if well or not check else exits.REFUSED


def _upgrade(state: "NodeState") -> str:
    """What it speaks, where that is more than the feature level that it knows; empty otherwise."""
    level = state.facts.get("feature level")
    wire = state.facts.get("wire", "")  # "8 to 11"
    return f"speaks version {wire}, feature level {level}" if level and wire.split()[-1:] != [level] else ""


def held_back(state: "NodeState") -> str:
    """That its file lets it speak less than its release could; empty otherwise."""
    if "release wire" not in state.facts:
        return ""
    file, highest = state.facts.get("config", "its file"), state.facts["wire"].split()[-1]
    return f"speaks no version above {highest}, for {file} sets wire_highest: take that out and restart it"


def _hot(hot: "HotKey") -> str:
    """A key, as far as a line has room for it, and how often it is asked for."""
    key, whole = text.printable(hot.key[:KEY_BYTES_SHOWN]), hot.key_bytes <= KEY_BYTES_SHOWN
    bucket = "" if hot.bucket == "default" else f" in {text.printable(hot.bucket.encode())}"
    return f"{key}{'' if whole else '...'}{bucket} (about {hot.requests_per_s:,}/s)"


def _pressure(pressure: "Pressure") -> list[str]:
    """What a node does about being asked for too much, if it is."""
    notes = []
    if pressure.busy >= pressure.requests_max:
        notes.append(f"full: {pressure.busy:,} of {pressure.requests_max:,} requests under way")
    if any(pressure.shed_lately.values()):
        lately = [f"{count:,} {kind}" for kind, count in pressure.shed_lately.items() if count]
        since = f"{sum(pressure.shed.values()):,} since the node was started"
        notes.append(f"shed in the last minute: {', '.join(lately)} ({since})")
    if pressure.brownout:
        notes.append(
            f"brownout {pressure.brownout}: leaves out {text.listed(left_out_at(pressure.brownout))}"
        )
    return notes


def _limits(limits: "list[Limit]") -> list[str]:
    """What a node lets through of buckets and keys, and how much was beyond that."""
    if not limits:
        return []
    told, over = [], []
    for limit in limits:
        bucket = text.printable(limit.bucket.encode())
        rates = [f"{limit.requests_per_s:,}/s"] if limit.requests_per_s else []
        if limit.key_requests_per_s:
            rates.append(f"{limit.key_requests_per_s:,}/s of a key")
        told.append(f"bucket {bucket} {' and '.join(rates)}")
        if limit.clipped_by_bucket_lately:
            over.append(f"bucket {bucket}: {limit.clipped_by_bucket_lately:,}")
        if limit.clipped_by_key_lately:
            over.append(f"keys of {bucket}: {limit.clipped_by_key_lately:,}")
    notes = [f"limits of this node: {', '.join(told)}"]
    if over:
        lately = sum(limit.lately for limit in limits)
        notes.append(f"refused or deferred by a limit in the last minute: {lately:,} ({', '.join(over)})")
    return notes


def _registers(state: "NodeState") -> list[str]:
    """What keeps a node from its part as an acceptor of registers, or what is left of several keys."""
    notes, facts = [], state.facts
    waits_ms = int(facts.get("register rows unlearned age ms") or 0)
    if waits_ms >= UNLEARNED_MS:
        rows = text.counted(int(facts["register rows unlearned"]), "register")
        notes.append(
            f"{rows} with a write that is accepted here and not learned, for {text.age(waits_ms)}: too few "
            f"acceptors answer to finish it. Start the members that are down (basestore explain KEY)"
        )
    open_ms = int(facts.get("transactions open age ms") or 0)
    if open_ms >= UNLEARNED_MS:
        notes.append(
            f"{text.counted(int(facts['transactions open']), 'transaction')} under way, for "
            f"{text.age(open_ms)}: too few acceptors answer, or others are in the way"
        )
    if blocked := int(facts.get("transaction rows blocked", "0")):
        rows = text.counted(blocked, "key")
        notes.append(f"requests for {rows} wait for a transaction that has laid an intent there")
    lies_ms = int(facts.get("batch parts unfinished age ms") or 0)
    if lies_ms >= UNLEARNED_MS:
        parts = text.counted(int(facts["batch parts unfinished"]), "part")
        notes.append(
            f"{parts} of atomic batches unfinished, for {text.age(lies_ms)}: who may hold the others does "
            f"not answer. Start the members that are down"
        )
    if barred := int(facts.get("register partitions barred", "0")):
        notes.append(
            f"no acceptor of registers in {text.counted(barred, 'partition')}, for its store is another than "
            f"before: it is taken in by itself, once it has what the others had accepted. Start the others "
            f"if some are down"
        )
    return notes


def row(state: "NodeState", of_group: Sequence[str] = ()) -> tuple[object, ...]:
    """A line of the table. `of_group`: what is to be noted of its part in the metadata group."""
    records = "-" if state.records is None else state.records
    hints = "-" if state.state == "down" else sum(state.hints.values())
    notes = [state.facts.get("reason", ""), *of_group, _upgrade(state), held_back(state)]
    if recovered := state.facts.get("recovered"):
        notes.append(f"{recovered} partitions recovered")
    if disk := state.facts.get("disk"):
        notes.append(f"disk trouble: {disk}")
    if clock := state.facts.get("clock"):
        notes.append(f"clock trouble: {clock}")
    if jump_ms := state.facts.get("clock jump ms"):
        notes.append(f"clock jumped ahead by {text.age(int(jump_ms))}: what that expires is kept for a day")
    if state.loss is not None:
        notes.append(text.loss(*state.loss))
    if state.facts.get("damaged", "0") != "0":
        notes.append(f"{state.facts['damaged']} damaged records wait to be healed")
    for name, partitions in state.debt.items():
        if partitions:
            notes.append(f"{name} may lack writes of {partitions} partitions (basestore hints)")
    notes += _registers(state)
    if (watchers := int(state.facts.get("watchers", "0"))) and (behind_ms := state.facts["watch lag ms"]):
        notes.append(f"{text.counted(watchers, 'watcher')}, told all up to {text.age(int(behind_ms))} ago")
    if state.pressure is not None:
        notes += _pressure(state.pressure)
    if state.most_shed:
        named = [f"{text.printable(r.tenant.encode())} ({r.requests:,})" for r in state.most_shed]
        notes.append(f"most was shed of {', '.join(named)}")
    notes += _limits(state.limits)
    if deferred := int(state.facts.get("deferred hints", "0")):
        waiting, kept, most = text.counted(deferred, "hint"), state.facts["deferred bytes"], ""
        if bound := state.facts.get("deferred bytes max"):
            most = f", {int(kept):,} of {int(bound):,} bytes"
        notes.append(f"{waiting} of deferred writes to deliver{most} (basestore hints)")
    if state.hot_keys:
        notes.append("hot keys: " + ", ".join(map(_hot, state.hot_keys)))
    if state.stalled_by:
        lag_ms = state.stable_lag_ms
        far = "from the start" if lag_ms is None else f"by {text.age(lag_ms)}"
        stalled = " ".join(state.stalled_by)
        notes.append(f"proofs are held back {far}, because of {stalled} (basestore converged)")
    return (
        state.node, state.endpoint, state.state, records, hints, state.pid or "-",
        "; ".join(note for note in notes if note),
    )  # fmt: skip
