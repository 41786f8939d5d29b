"""Handshakes between two nodes of a cluster as large as one may be.

Covers `server/handshakes.py`.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import trio

from basestore.config import HOST_BYTES_MAX, MEMBERS_MAX, ClusterConfig, Member, NodeConfig
from basestore.protocol.frames import HELLO_BYTES_MAX, pack
from basestore.protocol.limits import ProtocolError
from basestore.server.handshakes import Handshakes, facts_of
from basestore.server.link import Link
from tests.worlds.patience import PATIENCE_S

pytestmark = pytest.mark.trio

HOST = ("x" * 60 + ".") * 4
MEMBERS = tuple(
    Member(number, f"node-{number}-of-a-cluster-with-long-names", f"{number}.{HOST[:240]}:7400", "zone-name")
    for number in range(MEMBERS_MAX)
)
CLUSTER = ClusterConfig(bytes(16), bytes(32), MEMBERS)


def handshakes(cluster: ClusterConfig, place: int) -> Handshakes:
    config = NodeConfig(cluster, cluster.members[place].name, Path())
    return Handshakes(
        config,
        lambda level, text: None,
        lambda answer: answer,
        lambda link: None,
        lambda *_: "",
        lambda: (0, None),
    )


async def met(dialler: Handshakes, acceptor: Handshakes) -> tuple[str, str]:
    """What each complains of."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    told = {}

    async def accepts() -> None:
        link = Link(await listener.accept())
        try:
            await acceptor.admit(link)
        except ProtocolError as error:
            told["acceptor"] = str(error)
        link.close()

    async def dials() -> None:
        link = Link(await trio.open_tcp_stream(*listener.socket.getsockname()[:2]))
        try:
            await dialler.introduce(link, MEMBERS[1].name)
        except ProtocolError as error:
            told["dialler"] = str(error)
        link.close()

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accepts)
            nursery.start_soon(dials)
    await listener.aclose()
    return told.get("dialler", ""), told.get("acceptor", "")


async def test_a_welcome_to_as_many_members_as_there_may_be_is_heard() -> None:
    assert len(MEMBERS[-1].address) < HOST_BYTES_MAX
    welcome = facts_of(NodeConfig(CLUSTER, MEMBERS[0].name, Path())).welcome
    assert len(pack([welcome])) > 4 * HELLO_BYTES_MAX
    assert await met(handshakes(CLUSTER, 0), handshakes(CLUSTER, 1)) == ("", "")


async def test_what_two_configurations_of_so_many_members_differ_in_is_heard_by_both() -> None:
    assert len(CLUSTER.canonical()) > HELLO_BYTES_MAX
    other = handshakes(replace(CLUSTER, replication=5), 1)
    dialler, acceptor = await met(handshakes(CLUSTER, 0), other)
    assert "replication: 3 here, 5 there" in dialler
    assert "replication: 5 here, 3 there" in acceptor
