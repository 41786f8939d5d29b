"""What a node says of itself in a handshake: one without a node, for tests of the handshake, and a member's
own, for who connects as that member by hand."""

import json
from pathlib import Path

from basestore.config import ClusterConfig, NodeConfig
from basestore.protocol.handshake import BucketRow, MemberRow, Versions, Welcome
from basestore.protocol.limits import WIRE_HIGHEST, WIRE_LOWEST
from basestore.protocol.proof import Facts
from basestore.server.handshakes import facts_of

NONCE, OTHER_NONCE = b"1" * 16, b"2" * 16
MEMBERS = [
    MemberRow(0, "n1", "127.0.0.1:7400"),
    MemberRow(1, "n2", "127.0.0.1:7401"),
    MemberRow(2, "n3", "127.0.0.1:7402"),
]


def facts(
    name: str,
    *,
    cluster: bytes = b"\xaa" * 16,
    key: bytes = b"k" * 32,
    replication: int = 3,
    diallers: str = "",
    versions: tuple[int, int] = (WIRE_LOWEST, WIRE_HIGHEST),
    address: str = "127.0.0.1:9999",
) -> Facts:
    """Of a node that does not run."""
    text = json.dumps({"cluster id": cluster.hex(), "cluster key": key.hex(), "replication": replication})
    welcome = Welcome(versions[1], cluster, name, 5000, MEMBERS, [BucketRow("once", "first-write-wins")])
    digest = text.encode()[-16:]
    return Facts(Versions(*versions), welcome, digest, text, frozenset(diallers.split()), address, key)


def member_facts(cluster: ClusterConfig, name: str) -> Facts:
    """Of a member of a cluster that runs."""
    return facts_of(NodeConfig(cluster, name, Path()))
