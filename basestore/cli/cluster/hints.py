"""Hints: the command that shows the writes that nodes keep for others, and has them delivered.

Hinted handoff (DeCandia et al., "Dynamo", 2007, section 4.6) goes on by itself; an operator may end its
pauses (`replay`), and have late hints decided (`replay --late`). This module asks the nodes and shows what
they say; it keeps and decides no hint, `handoff` does.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from basestore.cli import exits, text
from basestore.cli.options import Target, command, share
from basestore.cli.stores import open_store, with_file

if TYPE_CHECKING:
    from basestore.results.hints import HintPile, NodeHints
    from basestore.sync import SyncStore

_HEADER = ("NODE", "FOR", "HINTS", "BYTES", "ONLY COPIES", "DEFERRED", "LATE", "OLDEST", "DEBT", "")
_PAUSE_S = 0.1


@command("hints")
@share("endpoint", "timeout", "output")
@click.argument("action", type=click.Choice(["replay"]), metavar="[replay]", required=False)
@click.option("--node", metavar="NAME", help="Only the hints that this node keeps. [default: all nodes]")
@click.option("--late", is_flag=True, help="With replay: decide the hints that come too late.")
def hints_command(target: Target, action: str | None, node: str | None, late: bool) -> int:
    """Show the hints that each node keeps for others; with replay, deliver them now.

    A hint is a write kept for a replica that could not be reached. It is delivered, and then gone,
    when that replica is back; a replica that refuses is left alone for a while. `replay` ends such
    pauses, and prints what is delivered now and what has to wait.

    ONLY COPIES are of writes at level any that no replica is known to hold. DEFERRED ones are of writes
    that the node took while it was overloaded (`basestore set --defer`), and sends to replicas in turn.
    DEBT counts the partitions of which a replica may lack writes without a hint for them, because there
    was no room for it or because it became too old; it ends once anti-entropy has proven that nothing
    is lacking.

    LATE hints are only copies that their replica takes no more, for it has been proven meanwhile what
    it holds. `replay --late` has each decided: what beats it by now makes it void, otherwise its value is
    written anew, as a new write; how many of each is said. If a later delete of the key was purged
    meanwhile, nothing shows that any more, and the value comes back: look with `basestore get` first if
    that matters.

    \b
    Example:
        basestore hints
        basestore hints replay --node n1
        basestore hints replay --late
    """
    if late and action is None:
        raise click.UsageError("--late goes with replay: basestore hints replay --late")
    with open_store(target) as store:
        first = nodes = store.hints(replay=action is not None, late=late, node=node)
        before = _late(nodes)
        if late and before:
            nodes = _decided(store, node, target.timeout_s)
        if not all(each.answered for each in nodes):
            states = store.status()
            nodes = [replace(each, reason=with_file(each.reason, each.node, states)) for each in nodes]
    if target.json:
        click.echo(json.dumps([each.as_json() for each in nodes], indent=2))
    else:
        click.echo(text.table(_HEADER, [row for each in nodes for row in rows(each)]))
    if late and before:
        target.remark(decisions(first, nodes))
        if _late(nodes):
            target.remark(
                "Those that are left could not be decided: see `basestore status`, and repeat this."
            )
            return exits.UNKNOWN
    elif action is not None:
        target.remark(begun(nodes))
    return exits.DONE if any(each.answered for each in nodes) else exits.UNREACHABLE


def _late(nodes: "list[NodeHints]") -> int:
    return sum(pile.late for node in nodes for pile in node.piles)


def decisions(before: "list[NodeHints]", after: "list[NodeHints]") -> str:
    """How the late hints were decided. One that was being decided already counts as well."""
    first = {node.node: node for node in before}
    # A node that was not heard both times has no difference to tell.
    pairs = [(first[node.node], node) for node in after if node.answered and first[node.node].answered]
    rewritten = sum(now.rewritten - then.rewritten for then, now in pairs)
    superseded = sum(now.superseded - then.superseded for then, now in pairs)
    return (
        f"{text.counted(_late(before), 'late hint')}: {rewritten} written anew, {superseded} superseded by "
        f"what a quorum holds, {_late(after)} left"
    )


def begun(nodes: "list[NodeHints]") -> str:
    """What a replay has begun, and what it could not."""
    piles = [pile for node in nodes for pile in node.piles]
    delivered = sum(pile.count - pile.late for pile in piles if pile.alive)
    waiting = {pile.peer: pile.count - pile.late for pile in piles if not pile.alive}
    line = f"{text.counted(delivered, 'hint')} being delivered"
    if names := sorted(name for name, count in waiting.items() if count):
        line += f"; others wait until {text.listed(names)} {'is' if len(names) == 1 else 'are'} up"
    if late := _late(nodes):
        line += f"; {text.counted(late, 'late hint')} left as they are: basestore hints replay --late"
    return line


def _decided(store: "SyncStore", node: str | None, timeout_s: float) -> "list[NodeHints]":
    """Wait until no late hints are left, or time is up."""
    deadline = time.monotonic() + timeout_s
    while True:
        nodes = store.hints(node=node)
        if not _late(nodes) or time.monotonic() > deadline:
            return nodes
        time.sleep(_PAUSE_S)


def rows(node: "NodeHints") -> Iterator[tuple[object, ...]]:
    if node.asked_ms is None:
        yield (node.node, "-", "-", "-", "-", "-", "-", "-", "-", node.reason)
    elif not node.piles:
        yield (node.node, "-", 0, 0, 0, 0, 0, "-", "-", "")
    for pile in node.piles:
        yield _row(node, pile, node.asked_ms or 0)


def _row(node: "NodeHints", pile: "HintPile", asked_ms: int) -> tuple[object, ...]:
    oldest = "-" if pile.oldest_ms is None else text.age(asked_ms - pile.oldest_ms)
    note = ""
    if pile.count and pile.count == pile.late:
        note = "too late: basestore hints replay --late"
    elif pile.count:
        note = "being delivered" if pile.alive else f"until {pile.peer} is up"
    return (
        node.node, pile.peer, pile.count, pile.bytes, pile.only_copies, pile.deferred, pile.late,
        oldest, _debt(pile, asked_ms), note,
    )  # fmt: skip


def _debt(pile: "HintPile", asked_ms: int) -> str:
    if not pile.debt:
        return "-"
    since = text.age(asked_ms - min(pile.debt.values()))
    return f"{text.counted(len(pile.debt), 'partition')} since {since}"
