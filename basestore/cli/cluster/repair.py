"""Repair: the command that has all replicas compare what they hold now, and shows how far they are.

Anti-entropy goes on by itself; this has it done at once. Owns the progress bar and the last line. What is
done and what is not is worked out in `results.repair`; the nodes do the work, and go on with it when this
ends.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from basestore.cli import exits, text
from basestore.cli.cluster.converged import obstacle_line
from basestore.cli.options import Target, command, share
from basestore.cli.stores import open_store

if TYPE_CHECKING:
    from basestore.results.loss import AcceptedLoss
    from basestore.results.nodes import NodeState
    from basestore.results.repair import Repair

_PAUSE_S = 0.1


@command("repair")
@share("endpoint", "output", timeout="How long to wait for the end of it. [default: 10m]")
@click.option("--partition", type=click.IntRange(min=0), help="Only this partition. [default: all]")
@click.option("--full", is_flag=True, help="Check every disk first, and compare all that is held.")
@click.option(
    "--accept-loss", is_flag=True, help="Accept that writes may be lost, as status says; compare nothing."
)
@click.option(
    "--as-is", is_flag=True, help="Take stores that may be old copies as they are; compare nothing."
)
def repair_command(
    target: Target,
    partition: int | None,
    full: bool,
    accept_loss: bool,
    as_is: bool,
) -> int:
    """Let all replicas compare what they hold, now, and bring each other up to date.

    That goes on all the time by itself; this does not wait for its turn, and says when it is done: once
    each pair of replicas of each partition has proven to hold the same since the call. What differs
    decides what it costs, not what is stored; --full reads every record of every disk. Where a partition
    has one replica there is nobody to compare it with, and only --full can say anything.

    Where too few sources were left to recover from, or a record is damaged at all its replicas, writes may
    be lost, and nothing of their partitions is proven any more. Restore what you can first. --accept-loss
    then lets proofs speak again, of what is left, and damaged records be written anew.

    A store that does not lie where it was written may be an old copy, and recovers from the others first. If
    all were moved, or restored together, and nothing newer is left, --as-is takes them as they are (3: none).
    So it takes one that was started again when all others that could confirm it are lost for good.

    Ends with 0 when it is done, and with 4, and who or what stands in the way, when it is not; what was
    begun goes on.

    \b
    Example:
        basestore repair
        basestore repair --partition 7 --full
        basestore repair --accept-loss
    """
    from basestore.results.loss import ACCEPT_S
    from basestore.results.repair import REPAIR_S

    if full + accept_loss + as_is > 1:
        raise click.UsageError("of --full, --accept-loss and --as-is, give one")
    if accept_loss:
        return _accept_loss(target, target.patience(ACCEPT_S), partition)
    if as_is:
        return _take_as_is(target)
    return _repair(target, target.patience(REPAIR_S), partition, full)


def _repair(target: Target, patience_s: float, partition: int | None, full: bool) -> int:
    with open_store(target) as store, _bar(target) as progress:
        done = store.repair(timeout=patience_s, partition=partition, full=full, progress=progress)
    click.echo(json.dumps(done.as_json(), indent=2) if target.json else _line(done, full))
    for obstacle in done.obstacles:
        target.remark(f"  {obstacle_line(obstacle)}")
    if any(obstacle.kind != "alone" for obstacle in done.obstacles):
        target.remark(
            "What was begun goes on. Remove what stands in the way, and repeat this to see it done."
        )
    return exits.DONE if done.complete else exits.UNKNOWN


def _accept_loss(target: Target, patience_s: float, partition: int | None) -> int:
    with open_store(target) as store:
        done = store.accept_loss(timeout=patience_s, partition=partition)
    click.echo(json.dumps(done.as_json(), indent=2) if target.json else _accepted_line(done))
    for obstacle in done.obstacles:
        target.remark(f"  {obstacle_line(obstacle)}")
    if done.accepted and any(obstacle.kind == "lost" for obstacle in done.obstacles):
        target.remark("This was not shown before, and is open: see `basestore status`, and repeat this.")
    if any(obstacle.kind == "down" for obstacle in done.obstacles):
        target.remark("Without it what only it holds cannot be accepted: repeat this when it answers.")
    for name, why in done.unheard.items():
        target.remark(f"  {name} does not answer ({why}): the others will tell it")
    return exits.DONE if done.complete else exits.UNKNOWN


def _accepted_line(done: "AcceptedLoss") -> str:
    if done.until_ms is None:
        return "no loss is open: nothing to accept" if done else "not all partitions were heard of"
    verdict = "accepted" if done.accepted else "not accepted everywhere"
    lossy = text.counted(len(done.partitions), "partition")
    return f"{verdict}  writes up to {text.moment(done.until_ms)} may be lost in {lossy}"


def _take_as_is(target: Target) -> int:
    """Have every member whose store may be a copy take it as it is."""
    with open_store(target) as store:
        states = store.status()
        copied = [state for state in states if state.facts.get("copied")]
        if not copied:
            return _nothing_to_take(target, states)
        for state in copied:
            store.take_as_is(state.node)
        left = {state.node for state in copied}
        deadline = time.monotonic() + target.timeout_s
        while left and time.monotonic() < deadline:
            left = {state.node for state in store.status() if state.facts.get("copied")}
            time.sleep(_PAUSE_S)
    names = text.listed([state.node for state in copied])
    line = f"taken as they are: {names}"
    click.echo(json.dumps({"taken": [s.node for s in copied], "left": sorted(left)}) if target.json else line)
    if left:
        target.remark(f"Not yet: {text.listed(sorted(left))}. See basestore status, and repeat this.")
    return exits.UNKNOWN if left else exits.DONE


def _nothing_to_take(target: Target, states: "list[NodeState]") -> int:
    """That no store waits for the word, and what is the matter with those that do not count."""
    click.echo(json.dumps({"taken": [], "left": []}) if target.json else "nothing was taken as it is")
    for state in states:
        if state.state != "up":
            target.remark(f"  {state.node} is {state.state}: {state.facts.get('reason') or 'see status'}")
    target.remark("No store that answers waits for this word: each is up, or lost what only others can have.")
    return exits.REFUSED


@contextmanager
def _bar(target: Target) -> Iterator[Callable[[int, int], None] | None]:
    """A bar on a terminal; elsewhere nothing."""
    if target.json or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("comparing", total=None)

        def show(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total or None)

        yield show


def _line(done: "Repair", full: bool) -> str:
    """What was done, and what the nodes have counted meanwhile, whose usual rounds go on."""
    did = done.did
    pairs = "? pairs" if done.pairs is None else text.counted(done.pairs, "pair")
    verdict = "repaired" if done else "not all compared" if done.pairs != 0 else "nothing to compare"
    line = f"{verdict}  {done.done} of {pairs} of replicas compared in {done.waited_s:.1f} s"
    if full and done:
        line += ", all records on the disks checked before"
    counts = {
        "records moved": did["records_taken"],
        "records healed": did["records_healed"],
        "sums corrected": did["leaves_corrected"],
    }
    meanwhile = [f"{count:,} {what}" for what, count in counts.items() if count]
    return f"{line}  meanwhile, usual rounds included: {', '.join(meanwhile)}" if meanwhile else line
