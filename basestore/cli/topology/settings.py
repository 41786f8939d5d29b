"""Settings: the commands that show and change the settings of a cluster, which are its users' own.

Owns the words. A setting is part of what the cluster is: every node has all of them, and a majority of the
metadata group decides. basestore itself goes by those that begin with `moves.` (`topology/own_settings.py`).
"""

import json
import sys
from typing import TYPE_CHECKING

import click

from basestore.cli import exits, streams, text
from basestore.cli.options import Group, Target, share
from basestore.cli.stores import open_store
from basestore.cli.topology.changes import REPEAT, changing, show

if TYPE_CHECKING:
    from basestore.results.topology import ClusterTopology


@click.group("settings", cls=Group)
def settings_command() -> None:
    """Show and change settings: facts of the whole cluster that are your own.

    \b
    Take a setting for what is small, read by everybody and rarely changed: a feature that is on, the
        address of a service, a schema's version. All settings together have at most 64 KiB, every node
        keeps them, and a change needs a majority of the metadata group's voters.
    Take a key (`basestore set`) for data: it scales with the nodes, has levels and a lifetime, and can be
        written while there is no such majority.

    A setting is text, under a name of at most 256 bytes. basestore itself goes by moves.at_once,
    moves.at_once_to and moves.at_once_from: how many partitions move at once, in the cluster (64), to
    one member (16) and of one (32). They are whole numbers, and other names do not begin with `moves.`.
    """


@settings_command.command("get")
@share("endpoint", "timeout", "output", "mode")
@click.argument("key", required=False)
def get(target: Target, key: str | None) -> int:
    """Print the setting KEY, or all of them.

    `basestore topology --help` says what --mode means; how old what is read in mode stale may be is said on
    stderr.

    Ends with 1 if there is no such setting.

    \b
    Example:
        basestore settings get
        basestore settings get checkout/new-flow --mode stale
    """
    with open_store(target) as store:
        told = store.topology(target.mode)
    if target.mode == "stale":
        target.remark(f"epoch {told.epoch}: {told.caveat}")
    if key is None:
        _show_all(target, told)
        return exits.DONE
    value = told.settings.get(key)
    if target.json:
        click.echo(json.dumps(_facts(told) | {"key": key, "value": value}, indent=2))
    elif value is not None:
        click.echo((streams.for_terminal(value.encode()) if sys.stdout.isatty() else None) or value)
    if value is None:
        target.remark("There is no such setting. Those that there are: basestore settings get")
        return exits.NOT_FOUND
    return exits.DONE


@settings_command.command("set")
@share("endpoint", "timeout", "output")
@click.argument("key")
@click.argument("value")
@REPEAT
def set_(target: Target, key: str, value: str, repeat: str | None) -> int:
    """Set KEY to VALUE.

    It ends with 0 once that is decided, and prints the epoch from which on it holds. Ends with 2 if it is
    refused (too long, say), with 3 if there is nobody to decide it, and nothing was done, and with 4 if it is
    not known: then give the same command with --repeat, as the error says.

    \b
    Example:
        basestore settings set checkout/new-flow on
    """
    with changing(target) as store:
        done = store.set_setting(key, value, repeat=repeat)
    return show(target, done, f"{_shown(key)} is set")


@settings_command.command("unset")
@share("endpoint", "timeout", "output")
@click.argument("key")
@REPEAT
def unset(target: Target, key: str, repeat: str | None) -> int:
    """Take KEY from the settings.

    Ends with 2 if there is no such setting; other exit codes are those of `basestore settings set`.
    """
    with changing(target) as store:
        done = store.unset_setting(key, repeat=repeat)
    return show(target, done, f"{_shown(key)} is set no more")


def _show_all(target: Target, told: "ClusterTopology") -> None:
    if target.json:
        click.echo(json.dumps(_facts(told) | {"settings": dict(told.settings)}, indent=2))
        return
    for name, value in sorted(told.settings.items()):
        click.echo(f"{_shown(name)}\t{_shown(value)}")


def _facts(told: "ClusterTopology") -> dict[str, object]:
    return {"epoch": told.epoch, "mode": told.mode, "heard_ms": told.heard_ms}


def _shown(value: str) -> str:
    return text.printable(value.encode("utf-8", "surrogateescape"))
