"""Moves: the commands that show how far partitions have come that move, take moves back, and have members
share anew; and what all commands do that set moves going.

Such a command ends once its change is decided; what follows goes on by itself, while everything is served.
With --wait it ends when all is done. Owns the words and the tables.
"""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from basestore.cli import exits, text
from basestore.cli.options import Target, command, share
from basestore.cli.stores import open_store
from basestore.cli.topology.changes import REPEAT, changing, show
from basestore.cli.topology.leaving import held_up
from basestore.cli.topology.topology import topology_command
from basestore.errors import NoLeader, RequestFailed, Unreachable

if TYPE_CHECKING:
    from basestore.results.moves import ClusterMoves, MemberChange, Move, Plan
    from basestore.results.topology import Decided
    from basestore.sync import SyncStore

COLUMNS = 80
UNKNOWN = "unknown"
SHOWN = 20
LOOK_S = 0.5
WAIT_S = 3600.0
WAITING = "With --wait: how long to wait for the moves. [default: 1h]"
_MOVES = ("PARTITION", "STAGE", "FOR", "LEFT", "REPLICAS", "TO", "WAITS FOR")
_FLOWS = ("FROM", "TO", "PARTITIONS", "RECORDS", "BYTES")
_HELD = ("MEMBER", "HOLDS", "WILL HOLD")
WAIT = click.option("--wait", is_flag=True, help="Wait until all is done; 4 if that is not by --timeout.")
PLAN = click.option(
    "--plan", "only_plan", is_flag=True, help="Only show what would move, from whom to whom, and how much."
)


def asked(
    target: Target, change: Callable[[], "MemberChange"], words: str, *, only_plan: bool, wait: bool,
    repeat: str | None,
) -> int:  # fmt: skip
    """What the commands have in common that set moves going. `words`: what is so once it is decided."""
    if only_plan and (wait or repeat is not None):
        raise click.UsageError("--plan does nothing, so there is nothing to wait for, or to repeat")
    wait_s = target.patience(WAIT_S) if wait else None
    target = replace(target, patience_s=None)  # no question waits for as long
    if not only_plan:
        return made(target, change(), words, wait_s=wait_s, repeat=repeat)
    with open_store(target) as store:
        plan = store.plan(change())
    click.echo(json.dumps(plan.as_json(), indent=2) if target.json else plan_in_words(plan))
    return exits.DONE


def made(
    target: Target, change: "MemberChange", words: str, *, wait_s: float | None = None, repeat: str | None
) -> int:
    """Have the change decided, and say so; then wait, if that is wanted, so long at most."""
    until_s = None if wait_s is None else time.monotonic() + wait_s
    with changing(target) as store:
        done = _decided(target, store, change, until_s, repeat)
        if until_s is None or not target.json:  # else what is shown is where it has come to
            show(target, done, words)
    if until_s is None:
        return exits.DONE
    try:
        with open_store(target) as store:
            return _waited(target, store, done.epoch, until_s)
    except KeyboardInterrupt:
        exits.say("It goes on by itself: see `basestore topology moves`.")
        raise


def _decided(
    target: Target, store: "SyncStore", change: "MemberChange", until_s: float | None, repeat: str | None
) -> "Decided":
    """Who waits anyway waits for a leader too: an election may outlast a question."""
    while True:
        try:
            return store.change_members(change, repeat=repeat)
        except NoLeader as error:  # nothing was changed
            if until_s is None or time.monotonic() >= until_s:
                raise
            target.remark(f"{error}; waiting on")
        time.sleep(LOOK_S)


def _waited(target: Target, store: "SyncStore", epoch: int, until_s: float) -> int:
    """Until all is done that the change of this epoch has set going."""
    said = set[str]()
    while True:
        try:
            told = store.moves()
            if told.epoch >= epoch and told.done:
                if _none_goes(store):
                    if target.json:
                        click.echo(json.dumps(told.as_json(), indent=2))
                    target.remark(f"all is done, at epoch {told.epoch}")
                    return exits.DONE
                for words in set(held_up(store)) - said:
                    said.add(words)
                    target.remark(f"{words}; waiting on")
            if time.monotonic() >= until_s:
                target.remark("It is not done yet, and goes on by itself:")
                click.echo(_shown(target, told))
                return exits.UNKNOWN
        except (RequestFailed, Unreachable) as error:
            if time.monotonic() >= until_s:
                raise
            target.remark(f"{error}; waiting on")
        time.sleep(LOOK_S)


def _none_goes(store: "SyncStore") -> bool:
    """Whether nobody is about to leave."""
    from basestore.results.moves import GOING

    return all(member.standing not in GOING for member in store.topology().members)


def plan_in_words(plan: "Plan") -> str:
    """For people."""
    lines = ["Nothing would move: each member has its share."]
    if plan.moves:
        partitions = text.counted(len(plan.moves), "partition")
        lines = [f"{text.counted(plan.seats, 'replica')} of {partitions} would move, {_copied(plan)}:"]
        flows = [
            (
                each.source or "-",
                each.to or "-",
                each.partitions,
                _about(each.records),
                _about_bytes(each.bytes),
            )
            for each in plan.flows
        ]
        lines += ["", text.table(_FLOWS, flows)]
    rows = [(name, now, then) for name, (now, then) in plan.held.items()]
    lines += ["", text.table(_HELD, rows)]
    return "\n".join(lines + (["", plan.remark] if plan.remark else []))


def _copied(plan: "Plan") -> str:
    if plan.records is None:
        return "how much is copied for that is not known"
    size = "of a size that is not known" if plan.bytes is None else text.size(plan.bytes)
    return f"for which about {_about(plan.records)} records are copied, {size}"


def _about(count: int | None) -> str:
    """No more digits than are known."""
    return UNKNOWN if count is None else f"{float(f'{count:.2g}'):,.0f}"


def _about_bytes(count: int | None) -> str:
    return UNKNOWN if count is None else text.size(count)


# --- the commands ----------------------------------------------------------------------------------


@topology_command.command("moves")
@share("endpoint", "output", timeout=WAITING)
@click.option("-v", "--all", "everything", is_flag=True, help="Show all moves.")
@WAIT
def moves(target: Target, everything: bool, wait: bool) -> int:
    """Show which partitions are moved from member to member, and how far they have come.

    Everything is served meanwhile. With -o json the list of `moves` is empty when all is done.

    \b
    STAGE      waits: it is to begin; fill: who comes is given what is held; joint: who holds it and
               who is to are both asked, until all is proven to be there
    FOR        how long it has been in that stage, as the leader has seen
    LEFT       records that are lacking yet, about
    WAITS FOR  members; for one that is down for good: `basestore node remove NAME --dead`

    \b
    Example:
        basestore topology moves
        basestore topology moves -o json | jq '.moves | length'
        basestore topology moves --wait --timeout 10m
    """
    wait_s = target.patience(WAIT_S) if wait else None
    target = replace(target, patience_s=None)
    if wait_s is not None:
        with open_store(target) as store:
            return _waited(target, store, 0, time.monotonic() + wait_s)
    with open_store(target) as store:
        told, view = store.moves(), store.node_status().metadata
        held = [] if target.json or not told.done else list(held_up(store))
    stranded = view.stranded if view is not None else {}
    if target.json:
        left = {"stranded": {name: of._asdict() for name, of in stranded.items()}}
        click.echo(json.dumps(told.as_json() | left, indent=2))
        return exits.DONE
    click.echo(_shown(target, told, everything=everything))
    for name, of in stranded.items():
        target.remark(text.stranded(name, *of))
    for words in held:
        target.remark(words)
    if told.leader is None and not told.done:
        target.remark("No leader is reached: for whom they wait is not known, and nothing goes on meanwhile")
    return exits.DONE


def _shown(target: Target, told: "ClusterMoves", *, everything: bool = False) -> str:
    if target.json:
        return json.dumps(told.as_json(), indent=2)
    if told.done:
        return f"nothing moves, at epoch {told.epoch}"
    rows = [_row(move) for move in (told.moves if everything else told.moves[:SHOWN])]
    lines = [text.fitting(_MOVES, rows, COLUMNS)] if rows else []
    if len(told.moves) > len(rows):
        lines.append(f"and {text.counted(len(told.moves) - len(rows), 'partition')} more: -v")
    return "\n".join(lines + (["a plan is to be made yet"] if told.unplanned else []))


def _row(move: "Move") -> tuple[object, ...]:
    left = "-" if move.left is None else f"{move.left:,}"
    waits_for = " ".join(move.waits_for) or "-"
    return (
        move.partition, move.stage, text.age(int(move.stage_s * 1e3)), left, " ".join(move.replicas),
        " ".join(move.to), waits_for,
    )  # fmt: skip


@topology_command.command("cancel")
@share("endpoint", "timeout", "output")
@click.argument("partitions", metavar="[PARTITION]...", nargs=-1, type=click.IntRange(min=0))
@REPEAT
def cancel(target: Target, partitions: tuple[int, ...], repeat: str | None) -> int:
    """Take moves back: each PARTITION, or all, stay with those that hold them now.

    What is under way goes back once these are known to have all that they must, which takes a moment; see
    `basestore topology moves`. Moves that have ended are not undone: that takes a new one. With all of them
    taken back nobody is drained any more either; who was said to be dead stays so.

    \b
    Example:
        basestore topology cancel 7 12
    """
    from basestore.results.moves import cancelled

    words = f"{text.counted(len(partitions), 'move')} cancelled" if partitions else "all moves are cancelled"
    return made(target, cancelled(partitions), words, repeat=repeat)


@topology_command.command("replication")
@share("endpoint", "output", timeout=WAITING)
@click.argument("replicas", type=click.IntRange(1, 15))
@PLAN
@WAIT
@REPEAT
def replication(target: Target, replicas: int, only_plan: bool, wait: bool, repeat: str | None) -> int:
    """Have each partition held by as many members as REPLICAS says.

    \b
    Example:
        basestore topology replication 5 --wait
    """
    from basestore.results.moves import replicated

    words = f"each partition is to have {text.counted(replicas, 'replica')}"
    return asked(target, lambda: replicated(replicas), words, only_plan=only_plan, wait=wait, repeat=repeat)


@command("rebalance")
@share("endpoint", "output", timeout=WAITING)
@PLAN
@WAIT
@REPEAT
def rebalance_command(target: Target, only_plan: bool, wait: bool, repeat: str | None) -> int:
    """Share the partitions among the members anew, by their weights and zones, moving as little as can be.

    A member that has joined, or is drained, needs no such command.

    \b
    Example:
        basestore rebalance --plan
        basestore rebalance --wait --timeout 10m
    """
    from basestore.results.moves import rebalanced

    words = "who holds what is planned anew"
    return asked(target, rebalanced, words, only_plan=only_plan, wait=wait, repeat=repeat)
