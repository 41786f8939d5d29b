"""The feature level rises at an operator's word, once all members speak it, and never falls."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from basestore.config import BucketOptions
from basestore.consistency import Level, Outcome
from basestore.errors import ConfigurationError, InvalidRequest, Overloaded
from basestore.protocol.client import Set
from basestore.protocol.limits import WIRE_HIGHEST, ProtocolError
from basestore.protocol.operator import FinishUpgrade
from basestore.replica.store_facts import LEVEL
from basestore.results.nodes import Upgrade, upgrade
from tests.worlds.deferring import defer
from tests.worlds.world import Call, World

OLD, NEW = 8, 9


def speak(world: World, at: int, wire: int) -> None:
    """From its next start on."""
    world.configs[at] = replace(world.configs[at], wire_highest=wire)


def begun(*spoken: int, **options: BucketOptions) -> World:
    """A new cluster whose nodes speak these versions."""
    world = World(3, born=False, bucket_options=options)
    for at, wire in enumerate(spoken):
        speak(world, at, wire)
        world.start(at)
    world.run(1)
    return world


def roll(world: World, at: int, wire: int) -> None:
    """Stop a node, and start it as a release that speaks this version."""
    world.stop(at)
    speak(world, at, wire)
    world.start(at)
    world.run(1)


def levels(world: World) -> list[int]:
    return [node.feature_level.level for node in world.running]


def finish(world: World, at: int = 0) -> Upgrade:
    call = world.ask(at, FinishUpgrade)
    world.settle()
    return upgrade(call.reply())


def refusal(world: World) -> str:
    """What is said of a write that is to be deferred."""
    call = defer(world, 0)
    world.settle()
    with pytest.raises(InvalidRequest) as refused:
        call.receipt()
    return str(refused.value)


def upgraded(**options: BucketOptions) -> World:
    """A cluster that began at OLD, of nodes that speak NEW by now."""
    world = begun(OLD, OLD, OLD, **options)
    for at in range(3):
        roll(world, at, NEW)
    return world


@pytest.mark.parametrize(("spoken", "level"), [((NEW,) * 3, NEW), ((NEW, OLD, NEW), OLD), ((OLD,) * 3, OLD)])
def test_a_new_cluster_begins_at_what_all_its_members_speak(spoken: Sequence[int], level: int) -> None:
    world = begun(*spoken)
    assert levels(world) == [level] * 3
    assert [world.engines[at].get(LEVEL) for at in range(3)] == [level.to_bytes(2)] * 3
    assert world.state(0).as_json()["feature_level"] == level


def test_who_was_not_heard_yet_may_be_of_any_release() -> None:
    world = begun(NEW, NEW)
    assert levels(world) == [0, 0]
    assert world.state(0).as_json()["feature_level"] is None
    told = refusal(world)
    assert "the cluster's feature level is not known yet, and this needs 9 (n3 is not reached" in told
    speak(world, 2, OLD)
    world.start(2)
    world.run(1)
    assert levels(world) == [OLD] * 3


def test_nodes_are_upgraded_one_by_one_and_go_back_until_an_operator_has_said_so() -> None:
    world = begun(OLD, OLD, OLD)
    for wire in (NEW, OLD, NEW):
        for at in range(3):
            roll(world, at, wire)
            world.put(at, f"k{at}", f"{wire}", Level.ALL)
    assert levels(world) == [OLD] * 3
    done = finish(world, 1)
    assert done
    assert done.as_json() == {"finished": True, "feature_level": NEW, "behind": []}
    world.run(1)
    assert levels(world) == [NEW] * 3
    roll(world, 0, NEW)
    assert levels(world) == [NEW] * 3


def test_who_speaks_less_is_named_and_hinders_it() -> None:
    world = upgraded()
    roll(world, 1, OLD)
    done = finish(world)
    assert not done
    assert done == Upgrade(OLD, ("n2 speaks no version above 8",))
    assert finish(world, 1) == Upgrade(OLD, ("n2 speaks no version above 8",))
    world.run(1)
    assert levels(world) == [OLD] * 3


def test_who_is_away_may_come_back_as_an_older_release() -> None:
    world = upgraded()
    world.stop(2)
    world.run(1)
    assert finish(world) == Upgrade(OLD, ("n3 is not reached, and may come back as an older release",))
    speak(world, 2, OLD)
    world.start(2)
    world.run(1)
    assert finish(world) == Upgrade(OLD, ("n3 speaks no version above 8",))


def test_who_is_silent_is_not_reached() -> None:
    world = upgraded()
    world.isolate(2)
    world.run(5)
    assert finish(world) == Upgrade(OLD, ("n3 is not reached, and may come back as an older release",))
    world.rejoin(2)
    world.run(1)
    assert finish(world)


def test_a_link_that_is_new_says_nothing_of_what_is_spoken_on_it() -> None:
    world = upgraded()
    for source in (1, 2):
        world.hold(source, 0)
        world.link(0, source)  # in the place of one that stands
    world.settle()
    assert {peer.wire for peer in world.node(0).peers.others} == {0}
    assert not finish(world)


def test_the_level_holds_and_is_told_once_it_is_durable() -> None:
    world = upgraded()
    world.freeze(0)
    call = world.ask(0, FinishUpgrade)
    world.run(1)
    assert not call.done
    assert levels(world) == [OLD] * 3
    assert "needs 9 (all nodes speak it by now)" in refusal(world)
    world.thaw(0)
    world.run(1)
    assert upgrade(call.reply()) == Upgrade(NEW, ())
    assert levels(world) == [NEW] * 3


def test_a_store_opens_under_no_node_that_speaks_less_than_its_level() -> None:
    world = upgraded()
    finish(world)
    world.run(1)
    before = world.copy_store(0)
    with pytest.raises(ConfigurationError) as refused:
        roll(world, 0, OLD)
    told = str(refused.value)
    assert "version 9 of the wire can read" in told
    assert "this node speaks 8 at most. Nothing was changed. Set [node] wire_highest to 9" in told
    assert world.copy_store(0).keys() == before.keys()
    speak(world, 0, NEW)
    world.start(0)
    world.run(1)
    assert levels(world) == [NEW] * 3


def test_a_store_of_a_later_release_asks_for_that() -> None:
    world = World(1)
    world.stop(0)
    world.engines[0].apply({LEVEL: (WIRE_HIGHEST + 1).to_bytes(2)})
    with pytest.raises(ConfigurationError, match="Start a later release"):
        world.start(0)


def test_a_store_from_before_there_were_levels_is_of_the_lowest() -> None:
    world = World(1, logged=True)
    assert levels(world) == [WIRE_HIGHEST]
    world.stop(0)
    world.engines[0].apply({LEVEL: None})
    world.start(0)
    world.run(1)
    assert levels(world) == [OLD]


@pytest.mark.parametrize("level", [OLD, NEW])
def test_a_new_store_takes_over_the_level_that_the_others_tell(level: int) -> None:
    world = upgraded()
    if level == NEW:
        finish(world)
    world.wipe(2)
    world.start(2)
    world.run(1)
    assert levels(world) == [level] * 3


def test_who_was_left_behind_is_not_heard() -> None:
    world = upgraded()
    finish(world)
    world.wipe(2)
    speak(world, 2, OLD)
    world.start(2)
    with pytest.raises(ProtocolError, match="level is 9, and n3 speaks no version above 8: upgrade it"):
        world.settle()


def test_nothing_is_deferred_before_no_older_release_can_come_to_read_it() -> None:
    world = upgraded()
    told = refusal(world)
    assert "the cluster's feature level is 8, and this needs 9 (all nodes speak it by now)" in told
    assert "and none is kept from that by `wire_highest` in its file: `basestore upgrade finish`" in told
    assert told.endswith("`basestore upgrade finish`. Until then write without defer")
    roll(world, 1, OLD)
    assert "this needs 9 (n2 speaks no version above 8)" in refusal(world)
    assert not world.node(0).hints.deferred_bytes
    roll(world, 1, NEW)
    finish(world)
    call = defer(world, 0)
    world.settle()
    assert call.receipt().outcome is Outcome.DEFERRED


def shed(world: World, wire: int = WIRE_HIGHEST) -> Call:
    """A write that does not ask to be deferred, by a client that speaks this version, at a busy node."""
    client = world.clients[0]
    assert client is not None
    client.outbox.version = wire
    request = Set(client.number(), "default", b"k", b"v", Level.ANY, 1000, 0, b"proposed", False)
    world.node(0).deferred_writes.defer_all(client.outbox, [request], world.now(0))
    world.settle()
    return Call(client, request.id, Level.ANY)


def test_a_bucket_defers_nothing_by_itself_before_nor_for_who_could_not_be_told() -> None:
    world = upgraded(default=BucketOptions(defer=True))
    with pytest.raises(Overloaded):
        shed(world).receipt()
    finish(world)
    with pytest.raises(Overloaded):
        shed(world, OLD).receipt()
    assert shed(world).receipt().outcome is Outcome.DEFERRED
