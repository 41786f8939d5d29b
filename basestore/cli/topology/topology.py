"""Topology: the command that shows what a cluster is, and the log of its changes.

Owns the tables. What the cluster is the metadata group has decided, and one node tells; whether that may be
old depends on the mode in which it is read, and is said beside it.
"""

import json
from collections import Counter
from typing import TYPE_CHECKING

import click

from basestore.cli import exits, text
from basestore.cli.options import Group, Target, share
from basestore.cli.stores import open_store

if TYPE_CHECKING:
    from basestore.results.topology import ClusterTopology, History, PartitionSeats

COLUMNS = 80
MOVING_SHOWN = 8
_MEMBERS = ("NAME", "NUMBER", "ADDRESS", "ZONE", "WEIGHT", "STANDING", "PARTITIONS", "GROUP", "LACKS")
_PARTITIONS = ("PARTITION", "REPLICAS", "STAGE", "TO")
_HISTORY = ("EPOCH", "WHEN", "WHAT")


@click.group("topology", cls=Group, invoke_without_command=True)
@share("endpoint", "timeout", "output", "mode")
@click.option("-v", "--all", "everything", is_flag=True, help="Show who holds each partition.")
def topology_command(target: Target, everything: bool) -> int:
    """Show what the cluster is: its members, and who holds its partitions.

    That is decided by a majority of the voters of its metadata group, a few of its members; every node
    follows, and serves data whether or not there is a majority. The epoch is the number of the last entry of
    its log that is in use.

    \b
    --mode default     as it was decided, unless the rates of two clocks differ by more than a third,
                       or one stood still while its machine was suspended
    --mode consistent  as it was decided; a round of messages more
    --mode stale       as the node that is asked knows it, without a majority too; it says how old that
                       may be

    \b
    STANDING    joining, member, draining, dead, or left for good
    PARTITIONS  of which it is a replica
    GROUP       leader, voter or learner of the metadata group
    LACKS       entries that it has not yet, as the node that is asked has heard; ? for who is not
                linked, or has no log yet

    \b
    Example:
        basestore topology -o json | jq '.partitions[7]'
        basestore topology history --after 12
    """
    with open_store(target) as store:
        told = store.topology(target.mode)
    click.echo(json.dumps(told.as_json(), indent=2) if target.json else in_words(told, everything=everything))
    return exits.DONE


@topology_command.command("history")
@share("endpoint", "timeout", "output")
@click.option(
    "--after",
    metavar="ENTRY",
    type=click.IntRange(min=0),
    help="The entries that follow this one. [default: the last ones]",
)
@click.option(
    "-n", "--limit", metavar="COUNT", type=click.IntRange(1, 1000), default=20, show_default=True,
    help="So many entries at most.",
)  # fmt: skip
def history(target: Target, after: int | None, limit: int) -> int:
    """Show the log of what the cluster is: what was asked for, and what became of it.

    EPOCH is the number of the entry, from which on it holds. What was refused is shown as well. It is what
    the node that is asked knows, which may lag behind. A change that is not shown, and whose command has
    ended with 4, may be decided yet: ask for it again with the identity that its error named, and it happens
    once.

    The log is cut now and then: of older entries only what they made is kept.

    \b
    Example:
        basestore topology history -n 5
        basestore topology history --after 12 -o json | jq .entries
    """
    with open_store(target) as store:
        told = store.topology_history(after, limit=limit)
    click.echo(json.dumps(told.as_json(), indent=2) if target.json else history_in_words(told))
    if told.more:
        target.remark(f"There is more: --after {told.entries[-1].epoch}")
    if after is not None and told.first > after + 1:
        target.remark(f"Entries before {told.first} are gone from the log; what they made is kept.")
    return exits.DONE


def in_words(told: "ClusterTopology", *, everything: bool) -> str:
    """All of it, for people."""
    from basestore.results.topology import STILL

    leader = f"{told.leader} leads" if told.leader else "nobody is known to lead"
    lines = [
        f"epoch {told.epoch} of cluster {told.cluster[:8]}, read in mode {told.mode}:",
        f"  {told.caveat}",
        f"metadata group {told.group[:8]}, term {told.term}: {leader}",
        "",
        text.fitting(_MEMBERS, members(told), COLUMNS),
    ]
    each = enumerate(told.partitions)
    shown = [(number, seats) for number, seats in each if everything or seats.stage != STILL]
    rows = [_partition(*pair) for pair in (shown if everything else shown[:MOVING_SHOWN])]
    lines += ["", text.fitting(_PARTITIONS, rows, COLUMNS)] if rows else []
    if len(shown) > len(rows):
        lines.append(f"and {text.counted(len(shown) - len(rows), 'partition')} more: -v")
    return "\n".join(lines)


def members(told: "ClusterTopology") -> list[tuple[object, ...]]:
    """A line of the table each."""
    from basestore.results.topology import LEFT

    held = Counter(name for seats in told.partitions for name in seats.replicas)
    return [
        (
            each.name, each.number, each.address, each.zone or "-", each.weight, each.standing,
            *((0, "-", "-") if each.standing == LEFT else _share(told, held, each.name)),
        )
        for each in told.members
    ]  # fmt: skip


def _share(told: "ClusterTopology", held: Counter[str], name: str) -> tuple[object, ...]:
    return held[name], _part(told, name), _lacks(told, name)


def _part(told: "ClusterTopology", name: str) -> str:
    """What a member is in the metadata group."""
    if name == told.leader:
        return "leader"
    return "voter" if name in told.voters else "learner" if name in told.learners else "-"


def _lacks(told: "ClusterTopology", name: str) -> str:
    lag = told.lag.get(name)
    return "?" if lag is None else f"{lag:,}" if lag else "-"


def _partition(number: int, seats: "PartitionSeats") -> tuple[object, ...]:
    return number, " ".join(seats.replicas), seats.stage, " ".join(seats.to)


def history_in_words(told: "History") -> str:
    """A line for each entry."""
    rows = [
        (each.epoch, "-" if each.wall_ms is None else text.moment(each.wall_ms), each.text)
        for each in told.entries
    ]
    return text.table(_HISTORY, rows)
