"""Buckets: the commands that create, drop and list the buckets of a cluster.

Owns the words. A bucket has a number, which is never given to another: what is made anew under a name that
was dropped is another bucket, and empty. Whether a change may be is for the metadata group to say.
"""

import json
from typing import TYPE_CHECKING

import click

from basestore.cli import exits, text
from basestore.cli.options import Group, Target, share
from basestore.cli.stores import open_store
from basestore.cli.topology.changes import REPEAT, changing, confirm, show

if TYPE_CHECKING:
    from basestore.results.topology import ClusterBucket

_HEADER = ("NUMBER", "NAME", "RULE", "OPTIONS")
_LOST = (
    "All keys of bucket {name} are lost, on all nodes, for good, with all hints for them. Requests that name "
    "it are refused from then on. A bucket that is created under this name later is another one, and empty."
)


@click.group("bucket", cls=Group)
def bucket_command() -> None:
    """Create, drop and list buckets.

    A bucket is a keyspace of its own, with one rule for conflicts. A majority of the metadata group's voters
    decides what buckets there are (see `basestore topology`), while all nodes run. Those that were in the
    configuration files when the cluster was born are there from the start.
    """


@bucket_command.command("create")
@share("endpoint", "timeout", "output")
@click.argument("name")
@click.option(
    "--rule",
    type=click.Choice(["last-write-wins", "first-write-wins", "register"]),
    default="last-write-wins",
    show_default=True,
    help="Which of two writes of a key stays; register: each is agreed on by more than half of the replicas, "
    "and may depend on what the key holds. It is for life.",
)
@click.option(
    "--agreed",
    is_flag=True,
    help="With first-write-wins: each write is agreed on by more than half of the replicas, and the first is "
    "final at once.",
)
@click.option(
    "--degrade-s",
    type=click.IntRange(min=0),
    default=0,
    metavar="SECONDS",
    help="Answer a read whose level is not reached by one replica, if that is surely no staler than this. "
    "[default: never]",
)
@click.option("--defer", is_flag=True, help="Keep writes at level any for later while a node is overloaded.")
@click.option(
    "--requests-per-s",
    type=click.IntRange(min=0),
    default=0,
    metavar="COUNT",
    help="Take so many requests a second, at each node. [default: no limit]",
)
@click.option(
    "--key-requests-per-s",
    type=click.IntRange(min=0),
    default=0,
    metavar="COUNT",
    help="Of these, so many for one key. [default: no limit]",
)
@REPEAT  # fmt: skip
def create(
    target: Target,
    name: str,
    rule: str,
    agreed: bool,
    degrade_s: int,
    defer: bool,
    requests_per_s: int,
    key_requests_per_s: int,
    repeat: str | None,
) -> int:
    """Create the bucket NAME.

    It ends with 0 once that is decided, and prints the epoch from which on the bucket is there; a node that
    follows behind learns of it with the next message of another. What a node's own file says of this bucket's
    options counts for that node.

    Ends with 2 if there is a bucket of this name, with 3 if there is nobody to decide it, and nothing was
    done, and with 4 if it is not known: then give the same command with --repeat, as the error says. That
    `basestore topology history` does not show it proves nothing.

    \b
    Example:
        basestore bucket create carts
        basestore bucket create orders --rule first-write-wins
        basestore bucket create owners --rule first-write-wins --agreed
        basestore bucket create leaders --rule register
    """
    with changing(target) as store:
        done = store.create_bucket(
            name, rule=rule, agreed=agreed, degrade_s=degrade_s, defer=defer, requests_per_s=requests_per_s,
            key_requests_per_s=key_requests_per_s, repeat=repeat,
        )  # fmt: skip
    return show(target, done, f"bucket {_shown(name)} is there under number {done.number}")


@bucket_command.command("drop")
@share("endpoint", "timeout", "output")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Ask nothing.")
@REPEAT
def drop(target: Target, name: str, yes: bool, repeat: str | None) -> int:
    """Drop the bucket NAME, with all that it holds.

    All its keys are lost, on all nodes, for good. A node that is down purges them when it is back, and shows
    nothing of them till then: a bucket that is created under this name later is another one, and empty.

    On a terminal the name is to be typed once more. Ends with 2 if there is no such bucket, or it is built
    in; other exit codes are those of `basestore bucket create`.

    \b
    Example:
        basestore bucket drop carts --yes
    """
    if not yes:
        confirm(name, _LOST.format(name=_shown(name)), "--yes")
    with changing(target) as store:
        done = store.drop_bucket(name, repeat=repeat)
    return show(target, done, f"bucket {_shown(name)}, number {done.number}, is no more")


@bucket_command.command("list")
@share("endpoint", "timeout", "output", "mode")
def listing(target: Target) -> int:
    """List all buckets.

    OPTIONS are those that were given when it was created; a node whose file has its own of a bucket goes by
    these.

    `basestore topology --help` says what --mode means.
    """
    with open_store(target) as store:
        told = store.topology(target.mode)
    if target.json:
        facts = {"epoch": told.epoch, "mode": told.mode, "heard_ms": told.heard_ms}
        click.echo(json.dumps(facts | {"buckets": [each.as_json() for each in told.buckets]}, indent=2))
        return exits.DONE
    click.echo(text.table(_HEADER, [row(bucket) for bucket in told.buckets]))
    if told.mode == "stale":
        target.remark(f"epoch {told.epoch}: {told.caveat}")
    return exits.DONE


def row(bucket: "ClusterBucket") -> tuple[object, ...]:
    """A line of the table."""
    options = bucket.as_json()["options"]
    given = [f"{name} {'yes' if value is True else value}" for name, value in options.items() if value]
    return (bucket.number, _shown(bucket.name), bucket.rule, ", ".join(given) or "-")


def _shown(name: str) -> str:
    return text.printable(name.encode("utf-8", "surrogateescape"))
