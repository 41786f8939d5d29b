"""What clients may ask of the cluster itself, and what a node answers. Covers `topology_requests.py`, and
whose words `asking.py` takes."""

import pytest

from basestore.membership.metadata_group import COMPACT_BYTES
from basestore.protocol.client import Failed
from basestore.protocol.limits import ProtocolError
from basestore.protocol.membership import (
    STALE,
    ChangeTopology,
    ReadTopology,
    Suggest,
    TopologyChanged,
    TopologyTold,
)
from basestore.topology.changes import (
    SETTINGS_BYTES_MAX,
    Change,
    Founded,
    SetMember,
    SetSetting,
    UnsetSetting,
)
from basestore.topology.entries import Suggestion, encode_entry
from basestore.topology.topology import Topology
from tests.worlds.changing import create
from tests.worlds.world import Call, World

MOVED_AWAY = SetMember(1, "10.0.0.9:7400")
NOT_TO_ASK_FOR = [
    pytest.param(MOVED_AWAY, 1, "this is another change, which the leader alone makes", id="not of users"),
    pytest.param(Founded(), 1, "this is another change, which the leader alone makes", id="of the leader"),
    pytest.param(UnsetSetting("x" * 9999), 1, "the key of a setting has 1 to", id="refused anyway"),
    pytest.param(SetSetting("k", "v"), 0, "has no id", id="unnamed"),
]
OF_ITS_OWN = [
    (SetSetting("moves.at_once", "banana"), "moves.at_once is a whole number from 1 to"),
    (SetSetting("moves.at_onec", "8"), "moves.at_once, moves.at_once_to, moves.at_once_from. Take one of"),
]


def entry_of(change: Change, identity: int = 7) -> bytes:
    return encode_entry(Suggestion(change, identity, 0, 0))


def ask(world: World, at: int, change: Change, identity: int = 7, timeout_ms: int = 900) -> Call:
    entry = entry_of(change, identity)
    return world.ask(at, lambda request: ChangeTopology(request, entry, timeout_ms, False))


def last(world: World) -> list[int]:
    """Entries of the log, by node."""
    return [node.membership.group.raft.log.last for node in world.running]  # type: ignore[union-attr]


@pytest.mark.parametrize(("change", "identity", "words"), NOT_TO_ASK_FOR)
@pytest.mark.parametrize("at", [0, 1])
def test_what_a_client_must_not_ask_for_is_refused_and_comes_into_no_log(
    change: Change, identity: int, words: str, at: int
) -> None:
    world = World(3, logged=True)
    before = last(world)
    call = ask(world, at, change, identity)
    world.run(0.5)
    answer = call.reply()
    assert isinstance(answer, Failed)
    assert (answer.code, words in answer.text) == (1, True)
    assert last(world) == before


@pytest.mark.parametrize(("change", "identity", "words"), NOT_TO_ASK_FOR)
def test_nor_does_a_leader_take_it_from_a_member(change: Change, identity: int, words: str) -> None:
    world = World(3, logged=True)
    before, node = last(world), world.node(0)
    hear, outbox = node.membership.asking.handlers[Suggest], node.peers.all[1].outbox
    with pytest.raises(ProtocolError, match=words):
        hear(1, outbox, Suggest(entry_of(change, identity)), world.now(0))
    world.run(0.5)
    assert last(world) == before


@pytest.mark.parametrize(("change", "words"), OF_ITS_OWN)
def test_a_setting_of_basestores_own_that_makes_no_sense_is_refused_where_it_is_asked_for(
    change: SetSetting, words: str
) -> None:
    world = World(3, logged=True)
    before = last(world)
    call = ask(world, 1, change)
    world.run(0.5)
    answer = call.reply()
    assert isinstance(answer, Failed)
    assert words in answer.text
    assert last(world) == before
    # An earlier release lets it in: then every node passes over it, as that one does.
    world.node(0).membership.asking.handlers[Suggest](
        1, world.node(0).peers.all[1].outbox, Suggest(entry_of(change)), world.now(0)
    )
    world.run(0.5)
    settings = {node.membership.group.topology.settings[change.key] for node in world.running}  # type: ignore[union-attr]
    assert settings == {change.value}
    call = ask(world, 1, UnsetSetting(change.key), 8)
    world.run(0.5)
    assert isinstance(call.reply(), TopologyChanged)


def test_large_entries_are_compacted_before_there_are_many() -> None:
    world = World(1, logged=True)
    value = "v" * (SETTINGS_BYTES_MAX - 100)
    for identity in range(1, 3 * COMPACT_BYTES // len(value)):
        call = ask(world, 0, SetSetting("k", value), identity)
        world.run(0.1)
        assert isinstance(call.reply(), TopologyChanged)
        log = world.node(0).membership.group.raft.log  # type: ignore[union-attr]
        held = sum(len(log.entry(index).data) for index in range(log.base.last + 1, log.last + 1))
        assert held <= COMPACT_BYTES


def test_a_client_that_speaks_an_older_version_is_told_of_no_rule_that_it_cannot_know() -> None:
    """It could read nothing of all that it was told."""
    world = World(1, logged=True)
    create(world, "leaders", rule="register")
    client = world.clients[0]
    assert client is not None
    for version in (12, 11, 12):  # what was made for one is not for the other
        client.outbox.version = version
        call = world.ask(0, lambda request: ReadTopology(request, STALE, 900))
        world.run(0.1)
        answer = call.reply()
        assert isinstance(answer, TopologyTold)
        buckets = Topology.decode(answer.topology).buckets
        assert (buckets.keys() >= {"default", "once"}, "leaders" in buckets) == (True, version == 12)
