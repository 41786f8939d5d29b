"""Watch: the command that prints what changes, until it is interrupted.

Owns how an event looks: a line for each, at once. Where its node is lost it goes on at another, by the last
token; that is printed too, so that a later command can.
"""

import json
from typing import TYPE_CHECKING

import click

from basestore.cli import exits, text
from basestore.cli.options import Target, command, data, duration, share
from basestore.cli.stores import open_store

if TYPE_CHECKING:
    from basestore.results.receipts import Event

_PATIENCE_S = 60.0


@command("watch")
@share("endpoint", "bucket", "timeout", "output")
@click.argument("prefix", type=data, default="")
@click.option("--from", "token", metavar="TOKEN", help="Go on from the token that an earlier watch printed.")
@click.option("--everything", is_flag=True, help="Begin with all that is held. [default: with what comes]")
@click.option("--count", type=click.IntRange(min=1), help="End after so many changes. [default: never]")
@click.option(
    "--for", "length_s", type=duration, help="End after so long, with the next event. [default: never]"
)
@click.option(
    "--patience",
    type=duration,
    default=_PATIENCE_S,
    help="Give up where no node answers for so long. [default: 1m]",
)
def watch_command(
    target: Target,
    prefix: bytes,
    token: str | None,
    everything: bool,
    count: int | None,
    length_s: float | None,
    patience: float,
) -> int:
    """Print what changes of the keys that begin with PREFIX, or of all keys.

    A line is `set KEY VALUE`, `deleted KEY`, or, on stderr, `progress`: every change up to that time has been
    printed; with --from its token another watch goes on there, at any node. `gap`: deletions up to that time
    may be missing, for they were purged before they could be printed: scan, to find out what is left. A
    change that was replaced before it could be printed may be left out; one may be printed twice.

    \b
    Example:
        basestore watch user/
        basestore watch user/ -o json | while read -r event; do ...; done
        basestore watch user/ --from AQAAAAAAAAAAAAAAAAAAAAAsSk6EzSYpwAdkZWZhdWx0...
    """
    from time import monotonic

    from basestore.results.receipts import Change

    until_s = None if length_s is None else monotonic() + length_s
    with open_store(target) as store:
        for event in store.watch(
            prefix, bucket=target.bucket, token=token, everything=everything, timeout=target.patience_s,
            patience=patience,
        ):  # fmt: skip
            _show(target, event)
            if count is not None and isinstance(event, Change):
                count -= 1
                if not count:
                    break
            if until_s is not None and monotonic() >= until_s:
                break
    return exits.DONE


def _show(target: Target, event: "Event") -> None:
    """At once: who reads may wait for it."""
    from basestore.results.receipts import Change, Progress

    if target.json:
        click.echo(json.dumps(event.facts()))
    elif isinstance(event, Change):
        key = text.printable(event.key)
        click.echo(f"deleted {key}" if event.value is None else f"set {key} {text.printable(event.value)}")
    elif isinstance(event, Progress):
        when = text.moment(event.stable_ms) if event.stable_ms else "none proven yet"
        unserved = f", but for {event.unserved} partitions that no replica tells of" if event.unserved else ""
        exits.say(f"progress {when}{unserved} --from {event.token}")
    else:
        when = text.moment(event.stable_ms) if event.stable_ms else "now, or was written,"
        exits.say(f"gap: what was deleted until {when} may be missing; scan to find out what is left")
