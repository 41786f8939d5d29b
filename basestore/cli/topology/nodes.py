"""Nodes: the commands about one node as a member of its cluster: that it gives up its place, and that it
rebuilds its group.

Owns the words, that nobody does it by mistake, and that a group is rebuilt on a store on which no node runs.
What is done to that is the business of `membership/rebuilding.py`; that a member goes, the cluster decides.
"""

import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import click

from basestore.cli import exits
from basestore.cli.options import Group, Target, share
from basestore.cli.topology.changes import REPEAT, confirm
from basestore.cli.topology.moves import PLAN, WAIT, WAITING, asked

if TYPE_CHECKING:
    from basestore.config import NodeConfig

ID_DIGITS = 8
_MEANS = (
    "This puts a new metadata group in the place of the one of cluster {cluster}, with {name} for its only "
    "voter. What the old group has decided and this store has not heard of is lost: settings, and buckets "
    "with all that they hold. Should a majority of the old group be there after all, two groups go on, and "
    "nodes that follow one refuse those that follow the other. All other data stay. Do it once, on the node "
    "whose epoch is the latest (basestore topology --mode stale), when a majority of the voters is lost for "
    "good."
)
_FOLLOW = (
    "This lets {name} leave the metadata group of cluster {cluster} for one that was put in its place by "
    "`basestore node rebuild-group` on another node. What only the old one has decided it forgets: "
    "settings, and buckets with all that they hold. All other data stay."
)


@click.group("node", cls=Group)
def node_command() -> None:
    """See to one node as a member of its cluster."""


@node_command.command("drain")
@share("endpoint", "output", timeout=WAITING)
@click.argument("name")
@PLAN
@WAIT
@REPEAT
def drain(target: Target, name: str, only_plan: bool, wait: bool, repeat: str | None) -> int:
    """Have the member NAME give up all that it holds to others, and leave.

    It must be up: others prove with it that they have all. Once it has left, stop it; nothing of its store
    is needed any more. Until then `basestore topology cancel` takes it back.

    \b
    Example:
        basestore node drain n3 --plan
        basestore node drain n3 --wait --timeout 30m
    """
    from basestore.results.moves import drained

    words = f"{name} is being drained"
    return asked(target, lambda: drained(name), words, only_plan=only_plan, wait=wait, repeat=repeat)


@node_command.command("remove")
@share("endpoint", "output", timeout=WAITING)
@click.argument("name")
@click.option("--dead", is_flag=True, help="It does not come back: this must be said.")
@PLAN
@WAIT
@REPEAT
def remove(target: Target, name: str, dead: bool, only_plan: bool, wait: bool, repeat: str | None) -> int:
    """Give up the member NAME for dead: others are given copies of what it held, and nobody waits for it.

    What only it had is lost: of writes that a quorum acknowledged nothing, as long as no more members of a
    partition are dead than its quorum can spare. Otherwise that is a loss, which `basestore converged`
    names. Its store must not be started again.

    \b
    Example:
        basestore node remove n3 --dead --wait
    """
    from basestore.results.moves import removed

    if not dead:
        raise click.UsageError(
            f"a member that is up is drained, which loses nothing: `basestore node drain {name}`; if it does "
            f"not come back, say so with --dead"
        )
    words = f"{name} is given up for dead"
    return asked(target, lambda: removed(name), words, only_plan=only_plan, wait=wait, repeat=repeat)


@node_command.command("replace")
@share("endpoint", "output", timeout=WAITING)
@click.argument("name")
@click.option("--by", metavar="OTHER", required=True, help="A member that holds none of its partitions.")
@click.option("--dead", is_flag=True, help="NAME does not come back: nobody waits for it.")
@PLAN
@WAIT
@REPEAT
def replace(
    target: Target, name: str, by: str, dead: bool, only_plan: bool, wait: bool, repeat: str | None
) -> int:
    """Have the member OTHER take exactly the place of NAME, which then leaves.

    A member that is up is given its share by itself, and OTHER must hold none of NAME's partitions yet:
    have it join with --no-serve, give this command, and start it then (`basestore serve`).

    With --dead as `basestore node remove --dead`: what only NAME had is lost.

    \b
    Example:
        basestore join 127.0.0.1:7400 --name n4 --address 127.0.0.1:7403 --dir data --from data/n1.toml \\
            --no-serve
        basestore node replace n3 --by n4 --dead
        basestore serve --config data/n4.toml
    """
    from basestore.results.moves import replaced

    words = f"{by} is to take the place of {name}"
    change = lambda: replaced(name, by, dead=dead)  # noqa: E731
    return asked(target, change, words, only_plan=only_plan, wait=wait, repeat=repeat)


@node_command.command("rebuild-group")
@click.option(
    "--config", type=click.Path(path_type=Path), required=True, metavar="FILE", help="The node's TOML file."
)
@click.option("--follow", is_flag=True, help="Go over to the group that was rebuilt on another node.")
@click.option(
    "--cluster", metavar="ID", help=f"The first {ID_DIGITS} digits of the cluster's id: ask nothing."
)
def rebuild_group(config: Path, follow: bool, cluster: str | None) -> int:
    """Put a metadata group in the place of one whose majority is lost for good.

    The node must not run. Without a majority of the voters nothing can be changed in what the cluster is
    (buckets, settings, members); data are served all the same, so there is no haste: first try to bring the
    voters back.

    On one node, that with the latest epoch (`basestore topology --mode stale`): the new group goes on from
    what its store knows to be decided, and what it has not heard of is lost. Then start it; and on each other
    node that is left, stop it, give this with --follow, and start it.

    On a terminal the digits are to be typed that the question shows, the first ones of the cluster's id.

    \b
    Example:
        basestore node rebuild-group --config /etc/basestore/n1.toml
        basestore node rebuild-group --config /etc/basestore/n2.toml --follow
    """
    from basestore.config_file import load

    node = load(config)
    digits = node.cluster.id.hex()[:ID_DIGITS]
    if cluster is None:
        means = (_FOLLOW if follow else _MEANS).format(cluster=digits, name=node.name)
        confirm(digits, means, f"--cluster {digits}")
    elif cluster != digits:
        raise click.UsageError(f"{config} is of cluster {digits}, not of {cluster}: nothing was done")
    exits.announce(_worked_on(node, follow=follow))
    return exits.DONE


def _worked_on(node: "NodeConfig", *, follow: bool) -> str:
    """What became of the group of a node's store, in words. StorageError when the store is in use."""
    from basestore.membership import rebuilding
    from basestore.protocol.membership import GROUP_BYTES
    from basestore.storage.open import open_existing

    engine = open_existing(node)
    try:
        if follow:
            return rebuilding.follow(engine, node)
        skipped = rebuilding.SKIPPED_MIN + secrets.randbelow(rebuilding.SKIPPED_MIN)
        return rebuilding.rebuild(engine, node, secrets.token_bytes(GROUP_BYTES), skipped)
    finally:
        engine.close()
