"""Join: the command that adds a node to a cluster that runs, and serves it.

    looked at first   the key, from another node's file on this machine, or a file of its own; that there is
                      room for its file and its data, and nothing else listens at its address; and that who
                      is asked holds the same key. What is wrong is said, and nothing was done
    a number          the cluster gives it, by an entry of its log (`AddMember`)
    DIR/n4.toml       names all members, itself included; then it is an ordinary node, and starts as one
    serve             it follows the log, and is given its share of the partitions, once it is there

Each of these is found done if the command is given again, so whatever it is interrupted by, nothing is half
done: it goes on where it was.
"""

import os
import socket
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from basestore.cli import exits
from basestore.cli.options import command
from basestore.errors import ChangeUnknown, ConfigurationError, Unreachable
from basestore.protocol.limits import ProtocolError

if TYPE_CHECKING:
    from basestore.config import Durability, NodeConfig
    from basestore.results.moves import MemberChange
    from basestore.results.topology import ClusterTopology

KEY_BYTES = 32
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
    if not _is_known(path, name, address, key):
        _check_words(contact, name, address, listen)
        _check_place(path, directory / name)
        if not no_serve:
            _check_port(name, listen or address)
        member = added(name, address, zone=zone, weight=weight)
        told = _joined(contact, other, key, member)
        node = config_of_member(told, key, name, directory.absolute(), cast("Durability", durability))
        _write(path.parent, replace(node, listen=listen))
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


def _is_known(path: Path, name: str, address: str, key: bytes) -> bool:
    """Whether its file is there, from an earlier such command; ConfigurationError if it is another's."""
    if not path.exists():
        return False
    from basestore.config_file import load

    node = load(path)
    if (node.name, node.member.address) != (name, address):
        raise ConfigurationError(
            f"{path} is there already, of {node.name} at {node.member.address}: take another --dir or --name"
        )
    if node.cluster.key != key:
        raise ConfigurationError(
            f"{path} is there already, of a node of another cluster ({node.cluster.id.hex()[:8]}), or with "
            f"another key than you name: take another --dir or --name"
        )
    return True


def _check_words(contact: str, name: str, address: str, listen: str) -> None:
    """ConfigurationError for a name or an address that a file could not have."""
    from basestore.config import parse_address, parse_member_address

    parse_address(contact)
    parse_member_address(address)
    if listen:
        parse_address(listen)
    if not name or Path(name).name != name:
        raise ConfigurationError(
            f"{name!r} cannot be the name of a file and a directory: take another --name"
        )


def _check_place(path: Path, data: Path) -> None:
    """ConfigurationError unless its file and its data can lie there, as far as can be told."""
    there = next(each for each in (path.parent.absolute(), *path.parent.absolute().parents) if each.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise ConfigurationError(f"{there} is no directory in which you may write: take another --dir")
    if data.exists() and (not data.is_dir() or any(data.iterdir())):
        raise ConfigurationError(
            f"{data} is there already, and not empty: it may be the store of another node, or of one that "
            f"has left. Remove it if nobody needs it, or take another --dir or --name"
        )


def _check_port(name: str, address: str) -> None:
    """ConfigurationError where the node could not listen."""
    from basestore.config import parse_address
    from basestore.server.listening import why_not

    try:
        socket.create_server(parse_address(address)).close()
    except OSError as error:
        raise ConfigurationError(
            f"{name} could not listen on {address}: {why_not(error)}. Take another --address, or name with "
            f"--listen where it is to listen on this machine; or write its file with --no-serve, and start "
            f"it where that address is"
        ) from error


def _joined(
    contact: str, source: "NodeConfig | None", key: bytes, member: "MemberChange"
) -> "ClusterTopology":
    """The cluster that it is a member of now. InvalidRequest where it cannot be one, ConfigurationError where
    that is not the cluster of whose key the source is, or the key is another."""
    from basestore import sync
    from basestore.results.topology import LEFT

    with sync.connect(contact) as store:
        told = store.topology("consistent")
        if source is not None and source.cluster.id.hex() != told.cluster:
            raise ConfigurationError(
                f"the node at {contact} is of cluster {told.cluster[:8]}, and {source.file} is of another, "
                f"{source.cluster.id.hex()[:8]}: name the file of a node of that cluster"
            )
        check_key(contact, key, told)
        held = next((e for e in told.members if e.name == member.name and e.standing != LEFT), None)
        if held is None or (held.address, held.standing) != (member.address, JOINING):
            try:
                store.change_members(member)
            except ChangeUnknown as error:
                raise ChangeUnknown(
                    f"timeout: whether {member.name} was added is not known here, and it may be yet. Give "
                    f"the same command again: it is found if it was, and added once"
                ) from error
            told = store.topology("consistent")
        elif (held.zone, held.weight) != (member.zone, member.weight):
            raise ConfigurationError(
                f"{member.name} was added already, in zone {held.zone!r} with weight {held.weight}: give "
                f"these, or have it removed (`basestore node remove {member.name} --dead`) and add it anew"
            )
    return told


def check_key(contact: str, key: bytes, told: "ClusterTopology") -> None:
    """ConfigurationError unless the node there proves that it holds this key, too."""
    import trio

    from basestore.config import ClusterConfig, Member, NodeConfig
    from basestore.server.handshakes import NotMet, meet

    # A proof is of nothing else: who the members are matters only afterwards.
    alone = ClusterConfig(
        bytes.fromhex(told.cluster), key, (Member(0, "", contact),), 1, len(told.partitions)
    )
    try:
        trio.run(meet, contact, NodeConfig(alone, "", Path()))
    except NotMet as error:
        raise ConfigurationError(
            f"the node at {contact} does not hold the key that you name, or is of another cluster than it "
            f"says ({error}): name the key of that cluster. Nothing was done"
        ) from error
    except (OSError, ProtocolError, trio.TooSlowError) as error:
        raise Unreachable(
            f"the node at {contact} has not proven that it holds the cluster's key: "
            f"{str(error) or 'it was too slow'}. Nothing was done. Give the command again, or name another "
            f"node"
        ) from error


def _write(directory: Path, node: "NodeConfig") -> None:
    """Whole, or not at all."""
    from basestore.server.local_cluster import config_path, write_config

    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = write_config(directory, node)
    except OSError as error:
        raise ConfigurationError(
            f"{config_path(directory, node.name)} cannot be written: {error}. Give the command again with "
            f"another --dir; {node.name} is a member already, and is found to be"
        ) from error
    exits.announce(f"{node.name} has joined under number {node.member.number}; its file is {path}")
