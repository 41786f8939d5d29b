"""Upgrade: the command by which an operator says that all nodes of a cluster run a new release, for good.

Owns the words, and waits until all have heard it. Whether all do is for the nodes to say: what hinders is
named, and nothing is changed then.
"""

import json
import time
from typing import TYPE_CHECKING, Any

import click

from basestore.cli import exits
from basestore.cli.cluster.status import held_back
from basestore.cli.options import Group, Target, share
from basestore.cli.stores import open_store

if TYPE_CHECKING:
    from basestore.results.nodes import NodeState
    from basestore.sync import SyncStore

_PAUSE_S = 0.1


@click.group("upgrade", cls=Group)
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
    those that hinder it are named (be it that `wire_highest` in a node's file does), nothing is changed, and
    it ends with 3. Otherwise it ends once all nodes have heard it; who follows after the timeout is named.

    \b
    Example:
        basestore upgrade finish
    """
    with open_store(target) as store:
        before = store.status()
        done = store.finish_upgrade()
        following = _following(store, done.level, target.timeout_s) if done else []
    risen = bool(done) and any(_level(state) != done.level for state in before)
    held = [f"{state.node} {text}" for state in before if (text := held_back(state))]
    hindered = [next((text for text in held if text.startswith(each)), each) for each in done.behind]
    if not hindered and not risen:
        hindered = held
    if target.json:
        told: dict[str, Any] = done.as_json() | {"finished": not hindered, "behind": hindered}
        click.echo(json.dumps(told | {"following": following}, indent=2))
    else:
        click.echo(_line(done.level, hindered=bool(hindered), risen=risen))
    for each in hindered:
        target.remark(f"  {each}")
    for name in following:
        target.remark(f"  {name} has not heard of it yet, and follows when it does: basestore status")
    return exits.REFUSED if hindered else exits.DONE


def _following(store: "SyncStore", level: int, timeout_s: float) -> list[str]:
    """Wait until all are at this level, or time is up; who is not yet."""
    deadline = time.monotonic() + timeout_s
    while True:
        left_s = deadline - time.monotonic()
        states = store.status(timeout=max(left_s, _PAUSE_S))
        following = [state.node for state in states if _level(state) < level]
        if not following or left_s <= 0:
            return following
        time.sleep(_PAUSE_S)


def _level(state: "NodeState") -> int:
    """The feature level that a node knows; 0 for none, or if it does not answer."""
    return int(state.facts.get("feature level") or 0)


def _line(level: int, *, hindered: bool, risen: bool) -> str:
    if hindered:
        return f"nothing was changed, the feature level is {level or 'not known yet'}:"
    if not risen:
        return f"nothing to finish: every node already is at feature level {level}, and speaks no more"
    return f"the feature level is {level}: no node can go back to a release that does not speak it"
