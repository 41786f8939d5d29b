"""Upgrade: the command by which an operator says that all nodes of a cluster run a new release, for good.

Owns the words. Whether all do is for the nodes to say: what hinders is named, and nothing is changed then.
"""

import json
from typing import TYPE_CHECKING

import click

from basestore.cli import exits
from basestore.cli.options import Target, share
from basestore.cli.requests import open_store

if TYPE_CHECKING:
    from basestore.results.nodes import Upgrade


@click.group("upgrade")
def upgrade_command() -> None:
    """Upgrade a cluster, node by node.

    Stop a node, start it with the new release, see `basestore status`, go on with the next. Nodes of both
    releases work together, and each may go back, until you say that the upgrade is finished.
    """


@upgrade_command.command("finish")
@share("endpoint", "timeout", "output")
def finish(target: Target) -> int:
    """Say that all nodes run the new release, for good.

    The feature level rises to the version that all speak: what only the new release can read may be stored
    from then on, and no node can go back to an older one. Every node must be up, and speak it: otherwise
    those that hinder it are named, nothing is changed, and it ends with 3.

    \b
    Example:
        basestore upgrade finish
    """
    with open_store(target) as store:
        done = store.finish_upgrade()
    click.echo(json.dumps(done.as_json(), indent=2) if target.json else _line(done))
    for each in done.behind:
        target.remark(f"  {each}")
    return exits.DONE if done else exits.REFUSED


def _line(done: "Upgrade") -> str:
    if done:
        return f"the feature level is {done.level}: no node can go back to a release that does not speak it"
    return f"nothing was changed, the feature level is {done.level or 'not known yet'}:"
