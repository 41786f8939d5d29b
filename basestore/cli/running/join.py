"""Join: the command that adds a node to a cluster that runs, and serves it.

    the key       from another node's file on this machine, or a file of its own; all else the cluster says
    a number      the cluster gives it, by an entry of its log (`AddMember`)
    DIR/n4.toml   names all members, itself included; then it is an ordinary node, and starts as one
    serve         it follows the log, and is given its share of the partitions, once it is there

Each of these is found done if the command is given again, so whatever it is interrupted by, nothing is half
done: it goes on where it was.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from basestore.cli import exits
from basestore.cli.options import command
from basestore.errors import ConfigurationError

if TYPE_CHECKING:
    from basestore.config import Durability, NodeConfig
    from basestore.results.moves import MemberChange
    from basestore.results.topology import ClusterTopology

KEY_BYTES = 32
TIMEOUT_S = 10.0
JOINING = "joining"  # the standing of a member that was added, and is given nothing yet


@command("join")
@click.argument("contact", metavar="ENDPOINT")
@click.option("--name", required=True, help="What it is to be called.")
@click.option("--address", required=True, metavar="HOST:PORT", help="Where others and clients reach it.")
@click.option(
    "--dir", "directory", required=True, metavar="DIR", type=click.Path(file_okay=False, path_type=Path),
    help="Where its file, DIR/NAME.toml, and its data, DIR/NAME, are to lie.",
)  # fmt: skip
@click.option(
    "--from", "source", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The TOML file of another node, for the cluster's key.",
)  # fmt: skip
@click.option(
    "--key-file", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file with the cluster's key alone: 64 hexadecimal digits.",
)  # fmt: skip
@click.option("--zone", default="", help="The zone that it is in. [default: none]")
@click.option(
    "--weight", type=click.IntRange(1, 1_000_000), default=1, show_default=True,
    help="How many partitions it is to hold, beside others.",
)  # fmt: skip
@click.option(
    "--durability", type=click.Choice(["sync", "interval", "memory"]), default="sync", show_default=True,
    help="When it acknowledges a write.",
)  # fmt: skip
@click.option("--listen", default="", metavar="HOST:PORT", help="Where it listens. [default: its address]")
@click.option("--no-serve", is_flag=True, help="Write the file, and do not start the node.")
@click.option("--stop-at-eof", is_flag=True, hidden=True, help="Stop when stdin ends: when a parent died.")
@click.pass_context
def join_command(
    ctx: click.Context, contact: str, name: str, address: str, directory: Path, source: Path | None,
    key_file: Path | None, zone: str, weight: int, durability: str, listen: str, no_serve: bool,
    stop_at_eof: bool,
) -> int:  # fmt: skip
    """Add a node to the cluster that the node at ENDPOINT belongs to, and run it as `basestore serve` does.

    It is given its share of the partitions by itself; `basestore topology moves` shows how far that has come.
    Should it be interrupted, give the same command again; once the file is there, `basestore serve` does.

    \b
    Example:
        basestore join 127.0.0.1:7400 --name n4 --address 127.0.0.1:7403 --dir data --from data/n1.toml
    """
    from basestore.results.moves import added
    from basestore.server.local_cluster import config_of_member

    other, key = _key(source, key_file)
    path = directory / f"{name}.toml"
    if not _is_known(path, name, address):
        member = added(name, address, zone=zone, weight=weight)
        told = _joined(contact, other, member)
        node = config_of_member(told, key, name, directory.absolute(), cast("Durability", durability))
        _write(path, replace(node, listen=listen))
    if no_serve:
        return exits.DONE
    from basestore.cli.running.serving import serve_command

    words = ["--config", str(path), *(["--stop-at-eof"] if stop_at_eof else [])]
    return cast("int", serve_command.main(words, "basestore serve", standalone_mode=False, parent=ctx.parent))


def _key(source: Path | None, key_file: Path | None) -> "tuple[NodeConfig | None, bytes]":
    """The cluster's key, and the configuration that it is of, if it is of one."""
    if (source is None) == (key_file is None):
        raise click.UsageError(
            "the cluster's key is needed: name the file of another node with --from, or one that has the key "
            "alone with --key-file"
        )
    if source is not None:
        from basestore.config_file import load

        node = load(source)
        return node, node.cluster.key
    assert key_file is not None
    try:
        key = bytes.fromhex(key_file.read_text(encoding="ascii").strip())
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise ConfigurationError(f"{key_file} has no key: 64 hexadecimal digits, and nothing else")
    return None, key


def _is_known(path: Path, name: str, address: str) -> bool:
    """Whether its file is there, from an earlier such command; ConfigurationError if it is another's."""
    if not path.exists():
        return False
    from basestore.config_file import load

    node = load(path)
    if (node.name, node.member.address) != (name, address):
        raise ConfigurationError(
            f"{path} is there already, of {node.name} at {node.member.address}: take another --dir or --name"
        )
    return True


def _joined(contact: str, source: "NodeConfig | None", member: "MemberChange") -> "ClusterTopology":
    """The cluster that it is a member of now. InvalidRequest where it cannot be one, ConfigurationError where
    that is not the cluster of whose key the source is."""
    from basestore import sync
    from basestore.config import parse_member_address
    from basestore.results.topology import LEFT

    parse_member_address(member.address)
    with sync.connect(contact, timeout=TIMEOUT_S) as store:
        told = store.topology("consistent")
        if source is not None and source.cluster.id.hex() != told.cluster:
            raise ConfigurationError(
                f"the node at {contact} is of cluster {told.cluster[:8]}, and {source.file} is of another, "
                f"{source.cluster.id.hex()[:8]}: name the file of a node of that cluster"
            )
        held = next((e for e in told.members if e.name == member.name and e.standing != LEFT), None)
        if held is None or (held.address, held.standing) != (member.address, JOINING):
            store.change_members(member)
            told = store.topology("consistent")
    return told


def _write(path: Path, node: "NodeConfig") -> None:
    """Whole, or not at all."""
    from basestore.config_file import dump
    from basestore.storage.durable_files import replace_file

    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(path, dump(node, path.parent))
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be written: {error}. Give the command again with another --dir; {node.name} is a "
            f"member already, and is found to be"
        ) from error
    exits.announce(f"{node.name} has joined under number {node.member.number}; its file is {path}")
