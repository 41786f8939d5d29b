"""Clients of an older release are told of no bucket whose rule they do not know. Covers
`protocol/handshake.py`, `membership/adoption.py` and `membership/topology_requests.py`."""

import pytest

from basestore.protocol.codec import Decoder
from basestore.protocol.handshake import BucketRow, Renewed, Welcome
from basestore.protocol.membership import STALE, ReadTopology, TopologyTold
from basestore.topology.topology import Topology
from tests.worlds.changing import create
from tests.worlds.world import World

ROWS = [
    BucketRow("agreed", "first-write-wins-agreed"), BucketRow("cas", "register"),
    BucketRow("cas\x003", "register"), BucketRow("once", "first-write-wins"),
]  # fmt: skip


@pytest.mark.parametrize(("version", "names"), [(11, ["once"]), (12, ["agreed", "cas", "cas\x003", "once"])])
def test_who_is_let_in_hears_of_what_it_knows(version: int, names: list[str]) -> None:
    welcome = Welcome(12, b"c" * 16, "n1", 5000, [], ROWS).heard_in(version)
    assert (welcome.version, [row.name for row in welcome.buckets]) == (version, names)
    assert [row.name for row in Renewed([], ROWS).heard_in(version).buckets] == names


@pytest.mark.parametrize(("version", "serial"), [(10, False), (11, False), (12, True)])
def test_so_does_who_is_told_that_they_have_changed_and_who_comes_later(version: int, serial: bool) -> None:
    world = World(3, logged=True)
    node = world.node(0)
    here = node.open_client(decoder=Decoder(version))
    (first,) = here.take()
    assert isinstance(first, Renewed)
    assert ("cas" in {row.name for row in first.buckets}) is serial
    create(world, "carts")
    world.settle()
    (renewed,) = here.take()
    assert isinstance(renewed, Renewed)
    (greeted,) = node.open_client(decoder=Decoder(version)).take()
    assert renewed == greeted
    names = {row.name for row in renewed.buckets}
    assert "carts" in names
    assert ("cas" in names) is serial


@pytest.mark.parametrize(("version", "serial"), [(11, False), (12, True)])
def test_what_is_told_of_the_cluster_can_be_read_by_who_asks(version: int, serial: bool) -> None:
    world = World(3, logged=True)
    client = world.clients[0]
    assert client is not None
    for each in (version, 12, version):
        client.outbox.version = each
        call = world.ask(0, lambda request: ReadTopology(request, STALE, 1000))
        world.settle()
        answer = call.reply()
        assert isinstance(answer, TopologyTold)
        assert ("cas" in Topology.decode(answer.topology).buckets) is (serial or each == 12)
