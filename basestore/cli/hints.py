"""Hints: the writes that nodes keep for others, and their delivery at an operator's word."""

import json
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from basestore.cli import exits, text
from basestore.cli.options import Target, share
from basestore.cli.requests import open_store

if TYPE_CHECKING:
    from basestore.piles import HintPile, NodeHints
    from basestore.sync import SyncStore

_HEADER = ("NODE", "FOR", "HINTS", "BYTES", "ONLY COPIES", "LATE", "OLDEST", "DEBT", "")
_PAUSE_S = 0.1


@click.command("hints")
@share("endpoint", "timeout", "output")
@click.argument("action", type=click.Choice(["replay"]), metavar="[replay]", required=False)
@click.option("--node", metavar="NAME", help="Only the hints that this node keeps. [default: all nodes]")
@click.option("--late", is_flag=True, help="With replay: decide the hints that come too late.")
def hints_command(target: Target, action: str | None, node: str | None, late: bool) -> int:
    """Show the hints that each node keeps for others; with replay, deliver them now.

    A hint is a write kept for a replica that could not be reached. It is delivered, and then gone,
    when that replica is back; a replica that refuses is left alone for a while. `replay` ends such
    pauses, and prints what was to be delivered at that moment.

    ONLY COPIES are of writes at level any that no replica is known to hold. DEBT counts the partitions
    of which a replica may lack writes without a hint for them, because there was no room for it or
    because it became too old; it ends once anti-entropy has proven that nothing is lacking.

    LATE hints are only copies that their replica takes no more, for it has been proven meanwhile what
    it holds. `replay --late` has each decided: what beats it by now makes it void, otherwise its value is
    written anew, as a new write. If a later delete of the key was purged meanwhile, nothing shows that any
    more, and the value comes back: look with `basestore get` first if that matters.

    \b
    Example:
        basestore hints
        basestore hints replay --node n1
        basestore hints replay --late
    """
    if late and action is None:
        raise click.UsageError("--late goes with replay: basestore hints replay --late")
    with open_store(target) as store:
        nodes = store.hints(replay=action is not None, late=late, node=node)
        before = _late(nodes)
        if late and before:
            nodes = _decided(store, node, target.timeout_s)
    if target.json:
        click.echo(json.dumps([each.as_json() for each in nodes], indent=2))
    else:
        click.echo(text.table(_HEADER, [row for each in nodes for row in _rows(each)]))
    if late and before:
        left = _late(nodes)
        exits.say(f"{before - left} of {before} late hints were decided")
        if left:
            exits.say("Those that are left could not be yet: see `basestore status`, and repeat this.")
            return exits.UNKNOWN
    return exits.DONE if any(each.answered for each in nodes) else exits.UNREACHABLE


def _late(nodes: "list[NodeHints]") -> int:
    return sum(pile.late for node in nodes for pile in node.piles)


def _decided(store: "SyncStore", node: str | None, timeout_s: float) -> "list[NodeHints]":
    """Wait until no late hints are left, or time is up."""
    deadline = time.monotonic() + timeout_s
    while True:
        nodes = store.hints(node=node)
        if not _late(nodes) or time.monotonic() > deadline:
            return nodes
        time.sleep(_PAUSE_S)


def _rows(node: "NodeHints") -> Iterator[tuple[object, ...]]:
    if node.asked_ms is None:
        yield (node.node, "-", "-", "-", "-", "-", "-", "-", node.reason)
    elif not node.piles:
        yield (node.node, "-", 0, 0, 0, 0, "-", "-", "")
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
        node.node, pile.peer, pile.count, pile.bytes, pile.only_copies, pile.late, oldest,
        _debt(pile, asked_ms), note,
    )  # fmt: skip


def _debt(pile: "HintPile", asked_ms: int) -> str:
    if not pile.debt:
        return "-"
    since = text.age(asked_ms - min(pile.debt.values()))
    return f"{len(pile.debt)} partition{'s' * (len(pile.debt) > 1)} since {since}"
