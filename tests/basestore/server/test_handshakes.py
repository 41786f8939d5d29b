"""Handshakes between two nodes of a cluster as large as one may be.

Covers `server/handshakes.py`.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing

from basestore.config import HOST_BYTES_MAX, MEMBERS_MAX, ClusterConfig, Member, NodeConfig
from basestore.protocol.handshake import CLIENT_HELLO, Welcome
from basestore.protocol.limits import ProtocolError
from basestore.server.handshakes import Handshakes, facts_of
from basestore.server.link import Link
from basestore.topology.changes import AddMember, SetMember, Standing
from basestore.topology.judgement import apply
from basestore.topology.topology import Topology
from basestore.transport.frames import HELLO_BYTES_MAX, pack
from tests.worlds.patience import PATIENCE_S
from tests.worlds.topologies import Log, cluster, entry, founded

pytestmark = pytest.mark.trio

HOST = ("x" * 60 + ".") * 4
MEMBERS = tuple(
    Member(number, f"node-{number}-of-a-cluster-with-long-names", f"{number}.{HOST[:240]}:7400", "zone-name")
    for number in range(MEMBERS_MAX)
)
CLUSTER = ClusterConfig(bytes(16), bytes(32), MEMBERS)


def handshakes(
    cluster: ClusterConfig, place: int, topology: Callable[[], Topology | None] = lambda: None
) -> Handshakes:
    config = NodeConfig(cluster, cluster.members[place].name, Path())
    return Handshakes(
        config,
        lambda level, text: None,
        lambda answer: answer,
        lambda link: None,
        lambda *_: "",
        lambda: (0, topology()),
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


async def test_who_said_hello_before_a_member_left_is_told_of_those_that_are_left() -> None:
    log = Log(founded(cluster(3)))
    log.add(AddMember("n4", "10.0.0.4:7400", "", 1, b""))
    acceptor = handshakes(cluster(3), 0, lambda: log.topology)
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    client = Link(await trio.open_tcp_stream(*listener.socket.getsockname()[:2]))
    accepted = Link(await listener.accept())
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(acceptor.admit, accepted)
            await trio.testing.wait_all_tasks_blocked()
            assert [each.name for each in log.topology.present] == ["n1", "n2", "n3", "n4"]
            log.add(SetMember(4, standing=Standing.LEFT.value))
            await client.send(CLIENT_HELLO)
            welcome = await client.receive_one()
    assert isinstance(welcome, Welcome)
    assert [member.name for member in welcome.members] == ["n1", "n2", "n3"]
    for link in (client, accepted):
        link.close()
    await listener.aclose()


async def test_who_is_filed_and_comes_later_in_the_log_is_looked_for_where_the_file_says() -> None:
    log = Log(founded(cluster(3)))
    n4 = handshakes(cluster(5), 3, lambda: log.topology)
    filed = {each.number: each.address for each in cluster(5).members}
    for _ in range(2):
        assert {number: n4.addresses.to_dial(number) for number in filed} == filed
        log.add(AddMember("n4", filed[4], "", 1, b""))  # and n5 comes behind it


async def test_a_member_is_looked_for_where_the_log_comes_to_say_that_it_is() -> None:
    config = cluster(3)
    topology = founded(config)
    own = NodeConfig(config, "n1", Path())
    of = Handshakes(
        own, lambda *_: None, lambda answer: answer, lambda link: None, lambda *_: "", lambda: (11, topology)
    )
    assert of.addresses.to_dial(2) == "10.0.0.2:7400"
    topology = apply(topology, 2, entry(SetMember(2, address="10.0.0.9:7400")))
    assert (of.addresses.to_dial(2), of.addresses.known(2)) == ("10.0.0.9:7400", "10.0.0.9:7400")
    assert of.addresses.to_dial(3) == "10.0.0.3:7400"
