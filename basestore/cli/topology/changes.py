"""Changes: what the commands have in common that change what a cluster is.

A change is decided by a majority of the metadata group's voters, or not at all; who asked for it and was not
answered in time does not know which. It has an *identity*, drawn once for a command, under which it can be
asked for again and happens once. Owns these words; what became of it is the client's to say.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from basestore.cli import exits
from basestore.cli.options import Target
from basestore.cli.stores import open_store

if TYPE_CHECKING:
    from basestore.results.topology import Decided
    from basestore.sync import SyncStore

REPEAT = click.option(
    "--repeat",
    metavar="IDENTITY",
    help="Ask again for a change whose outcome is not known: the identity that its error named. It happens "
    "once. All else must be as it was.",
)


@contextmanager
def changing(target: Target) -> Iterator["SyncStore"]:
    """A store to ask for a change. Who interrupts that should know that it may have been decided."""
    try:
        with open_store(target) as store:
            yield store
    except KeyboardInterrupt:
        exits.say("The change may have been decided: see `basestore topology history`.")
        raise


def show(target: Target, done: "Decided", words: str) -> int:
    """What was done, `words`, and the epoch that it was decided under."""
    click.echo(
        json.dumps(done.as_json(), indent=2) if target.json else f"{words}, from epoch {done.epoch} on"
    )
    return exits.DONE


def stdin_is_terminal() -> bool:
    return sys.stdin.isatty()


def confirm(word: str, what: str, option: str) -> None:
    """Have somebody at a terminal type this word, who was told what it means; where nobody can be asked, the
    option that says it is named."""
    if not stdin_is_terminal():
        raise click.UsageError(f"nobody can be asked here whether that is meant: say so with {option}")
    exits.say(what)
    typed = click.prompt(f"Type {word} to go on", err=True, default="", show_default=False)
    if typed != word:
        raise click.ClickException(f"{typed!r} is not {word}: nothing was done")
