"""Members that come and leave while nodes run: what they are given, what they give up, what is said of them.
Covers `cluster/peers.py` and all rooms that keep something by member."""

from dataclasses import replace

import pytest

from basestore.cluster.outbox import Outbox
from basestore.cluster.placement import Placement
from basestore.consistency import Level
from basestore.errors import ConfigurationError, Unavailable
from basestore.membership import metadata_group
from basestore.protocol.anti_entropy import KnownLosses, LossRow
from basestore.protocol.limits import ProtocolError
from basestore.protocol.membership import At, Base
from basestore.protocol.operator import Inspect, Trace
from basestore.protocol.replication import Keep, Kept, Rejected
from basestore.storage import keyspace
from basestore.topology.changes import (
    AddMember,
    DrainMember,
    RemoveMember,
    ReplaceMember,
    SetReplication,
    SetSetting,
    Standing,
)
from basestore.topology.topology import MemberEntry
from tests.worlds.changing import change, leaders, voters
from tests.worlds.following import converged
from tests.worlds.moving import FIRST, KEYS, asked, finish, loaded, loads, read, stored, topology
from tests.worlds.world import TICK_S, World, travel


def leader(world: World) -> int:
    (name,) = leaders(world)
    return next(at for at, node in enumerate(world.nodes) if node is not None and node.name == name)


def come(world: World, *, name: str = "", start: bool = True) -> int:
    """A member is added and started; its index."""
    index = len(world.nodes)
    member = AddMember(name or f"n{index + 1}", f"127.0.0.1:{7400 + index}", "", 1, b"")
    outcome = change(world, leader(world), member)
    assert not outcome.error, outcome.error
    assert world.add(outcome.number, name=name) == index
    if start:
        world.start(index)
    return index


def leave(world: World, index: int, at: int = 0, *, dead: bool = False) -> None:
    number = world.member(index).number
    asked(world, RemoveMember(number) if dead else DrainMember(number), at)
    finish(world, at)
    gone = topology(world, at).member(number)
    assert gone is not None
    assert gone.standing is Standing.LEFT


def names(world: World) -> set[tuple[str, ...]]:
    """Whom the nodes that run, and have not left, know as members."""
    return {
        tuple(sorted(peer.name for peer in node.peers.present))
        for node in world.running
        if not node.peers.left
    }


def same_topology(world: World) -> bool:
    told = [node.membership.group.topology for node in world.running if not node.peers.left]
    return all(each == told[0] for each in told)


def test_a_member_comes_and_is_given_its_share() -> None:
    world = loaded(3)
    new = come(world)
    finish(world)
    assert same_topology(world)
    assert loads(world)[world.member(new).number] == 6  # 24 seats, of four members
    assert [node.linked for node in world.running] == [True] * 4
    assert [node.state for node in world.running] == ["up"] * 4
    assert read(world, new, Level.ALL) == FIRST
    assert stored(world, new)
    assert world.put(new, "written at it", "v").acknowledged >= 2
    assert world.look(0, "written at it").value == b"v"
    assert converged(world, new, timeout_s=20).proven


def test_a_member_that_was_added_and_is_not_started_holds_nobody_up() -> None:
    world = loaded(3)
    new = come(world, start=False)
    world.run(5.0)
    assert loads(world).keys() == {world.member(at).number for at in range(3)}
    assert not world.node(0).linked
    assert read(world, level=Level.ALL) == FIRST
    assert world.put(0, KEYS[0], "now", Level.ALL).acknowledged == 3
    world.restart(0)
    world.run(3.0)
    assert world.node(0).state == "up"
    assert world.node(0).peers.clock.confirmed
    assert world.look(0, KEYS[0], Level.ALL).value == b"now"
    # Nothing that all members must agree on is taken for agreed.
    assert any("n4 is not reached" in text for text in world.node(0).feature_level.behind(1))
    world.start(new)
    finish(world)
    assert world.node(0).linked
    assert world.member(new).number in loads(world)


def test_where_one_is_drained_nothing_is_given_to_a_member_that_is_not_there() -> None:
    world = loaded(4)
    new = come(world, start=False)
    leave(world, 3, 0)
    assert loads(world).keys() == {world.member(at).number for at in range(3)}
    world.start(new)
    finish(world)
    assert world.member(new).number in loads(world)
    assert read(world, new, Level.ALL) == FIRST


def test_a_dead_member_is_replaced_by_one_that_is_started_only_then() -> None:
    world = loaded(3)
    assert leader(world) == 0
    world.stop(2)
    world.run(3.0)
    new = come(world, start=False)
    asked(world, ReplaceMember(world.member(2).number, world.member(new).number, True))
    world.run(10.0)  # of two that stay, and are there, one is to be a voter: the dead one goes first
    assert leader(world) == 0
    world.start(new)
    finish(world)
    assert voters(world, 0) == [world.member(at).number for at in (0, 1, new)]
    assert loads(world) == {world.member(at).number: 8 for at in (0, 1, new)}
    assert read(world, new, Level.ALL) == FIRST


def test_of_three_members_a_dead_one_is_removed_where_two_replicas_are_enough() -> None:
    world = loaded(3, replication=2)
    assert leader(world) == 0
    world.stop(2)
    world.run(3.0)
    leave(world, 2, dead=True)
    assert leader(world) == 0
    assert read(world, level=Level.ALL) == FIRST


def test_no_voter_goes_while_those_that_are_there_would_be_no_majority_of_the_rest() -> None:
    world = loaded(3, replication=2)
    world.stop(0)
    world.run(5.0)
    at = leader(world)
    other = ({1, 2} - {at}).pop()
    asked(world, DrainMember(world.member(other).number), at)
    world.run(10.0)
    assert (leader(world), len(voters(world, at))) == (at, 3)
    world.start(0)
    finish(world, at)
    assert loads(world).keys() == {world.member(0).number, world.member(at).number}


def test_a_member_leaves_and_counts_for_nothing_on_all_nodes() -> None:
    world = loaded(4)
    leave(world, 3)
    assert names(world) == {("n1", "n2", "n3")}
    assert [world.node(at).linked for at in range(3)] == [True] * 3
    assert not any(3 in way for way in world.links)
    world.stop(3)
    world.run(5.0)
    assert [world.node(at).linked for at in range(3)] == [True] * 3
    assert world.node(0).peers.clock.confirmed
    assert read(world, level=Level.ALL) == FIRST
    assert converged(world, timeout_s=20).proven


@pytest.mark.parametrize("restarted", [False, True])
def test_members_come_and_leave_twenty_times_under_one_name(restarted: bool) -> None:
    world = loaded(3, partitions=4)
    for turn in range(20):
        new = come(world, name="n4")
        finish(world)
        assert world.member(new).number in loads(world)
        assert world.put(new, KEYS[turn], f"turn {turn}").acknowledged >= 2
        if restarted:
            world.restart(turn % 3)
            world.run(3.0)
        leave(world, new, turn % 3)
        world.wipe(new)
    assert names(world) == {("n1", "n2", "n3")}
    assert same_topology(world)
    assert [node.linked for node in world.running] == [True] * 3
    assert read(world, level=Level.ALL) == [f"turn {turn}" for turn in range(20)] + FIRST[20:]
    assert converged(world, timeout_s=20).proven


def test_the_leader_leaves() -> None:
    world = loaded(4)
    at = leader(world)
    other = (at + 1) % 4
    leave(world, at, other)
    assert leader(world) != at
    assert read(world, other, Level.ALL) == FIRST
    new = come(world)
    finish(world, other)
    assert world.member(new).number in loads(world, other)


def test_one_node_grows_to_three_and_shrinks_back_to_one() -> None:
    world = loaded(1, replication=1)
    others = [come(world), come(world)]
    finish(world)
    assert len(loads(world)) == 3
    asked(world, SetReplication(3))
    finish(world)
    assert read(world, others[0], Level.ALL) == FIRST
    world.crash(others[0])
    assert world.put(0, KEYS[0], "with two of three").acknowledged == 2
    world.start(others[0])
    world.run(5.0)
    asked(world, SetReplication(1))
    finish(world)
    for each in others:
        leave(world, each)
        world.stop(each)
    world.restart(0)
    world.run(1.0)
    assert world.node(0).state == "up"
    assert world.node(0).linked
    assert read(world) == ["with two of three", *FIRST[1:]]
    assert world.put(0, KEYS[1], "alone").acknowledged == 1
    assert converged(world, timeout_s=20).proven


def test_a_single_node_that_was_given_a_second_one_starts_without_it() -> None:
    world = loaded(1, replication=1)
    come(world, start=False)
    world.restart(0)
    world.run(3.0)
    assert world.node(0).state == "up"
    assert read(world) == FIRST
    assert world.put(0, KEYS[0], "now").acknowledged == 1


def test_the_clock_of_a_member_that_holds_nothing_has_a_say() -> None:
    world = World(4, replication=2, partitions=1, logged=True)
    holder, away = world.placement.replicas[0]
    world.crash(away)
    world.restart(holder)
    world.run(3.0)
    assert world.node(holder).peers.clock.confirmed
    assert world.put(holder, "key", "v", Level.ONE).acknowledged == 1


def test_the_word_of_one_that_joins_is_waited_for_once_it_was_met() -> None:
    world = World(1, partitions=1, logged=True)
    outcome = change(world, 0, AddMember("n2", "127.0.0.1:7401", "", 0, b""))  # it is to be given nothing
    new = world.add(outcome.number)
    world.start(new)
    world.run(2.0)
    assert topology(world).members[1].standing is Standing.JOINING
    world.crash(new)
    world.restart(0)
    world.run(4.0)
    assert world.node(0).state != "up"
    world.start(new)
    world.run(2.0)
    assert world.node(0).state == "up"


@pytest.mark.parametrize("compacted", [False, True])
def test_who_was_away_while_members_came_and_left_catches_up(
    compacted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = loaded(4)
    last = topology(world, 2).epoch
    world.stop(2)
    first = come(world)
    world.run(5.0)
    asked(world, RemoveMember(world.member(first).number))
    world.run(5.0)
    second = come(world, name=world.member(first).name)
    world.run(5.0)
    if compacted:  # so that it is given a snapshot
        monkeypatch.setattr(metadata_group, "COMPACT_AT", 1)
        asked(world, SetSetting("a", "b"))
    world.start(2)
    finish(world)
    history = world.node(2).membership.group.log.history
    assert (history.first is None or history.first > last + 1) is compacted
    assert same_topology(world)
    assert names(world) == {("n1", "n2", "n3", "n4", "n5")}
    assert world.member(second).number in loads(world)
    assert read(world, 2, Level.ALL) == FIRST
    assert converged(world, 2, timeout_s=20).proven


# --- what is kept by member ----------------------------------------------------------------------


def piles(world: World, at: int) -> dict[str, int]:
    """Hints that a node keeps, by the name of whom they are for."""
    node = world.node(at)
    return {node.peers.all[pile.index].name: pile.count for pile in node.hints.piles if pile.count}


def owed(world: World, at: int) -> int:
    return sum(map(len, world.node(at).debts.of))


def test_hints_for_a_member_that_has_left_go_to_those_that_hold_its_rows() -> None:
    world = loaded(4)
    world.stop(3)
    for key in KEYS:
        world.put(0, key, f"{key} again", Level.ANY)
    assert piles(world, 0).keys() == {"n4"}
    leave(world, 3, dead=True)
    assert piles(world, 0) == {}
    assert owed(world, 0) == 0
    assert read(world, level=Level.ALL) == [f"{key} again" for key in KEYS]


@pytest.mark.parametrize("level", [Level.ONE, Level.QUORUM])
def test_what_only_the_dead_have_had_is_known_to_be_lost(level: Level) -> None:
    world = loaded(4)
    key = next(each for each in KEYS if 3 in world.replicas(each))
    for other in set(range(3)) - set(world.replicas(key) if level is Level.QUORUM else ()):
        world.hold(3, other)
    told = world.put(3, key, "at one that dies", level)
    world.crash(3)
    leave(world, 3, dead=True)
    result = converged(world, receipt=told, timeout_s=20)
    kept = level is Level.QUORUM
    assert result.proven == kept, result.obstacles
    assert {each.kind for each in result.obstacles} == (set() if kept else {"lost"})
    assert (world.look(0, key).value == b"at one that dies") == kept
    assert converged(world, timeout_s=20).proven  # no quorum's word was broken: nobody has to accept it


def test_what_went_with_a_store_is_known_of_a_partition_that_is_in_doubt_besides_too() -> None:
    world = loaded(3, partitions=2)
    node, number = world.node(0), world.member(0).number
    node.summaries.make_unfit(0)
    node.recovery.note_losses(world.now(0))
    world.run(1.0)
    for partition in range(2):
        (loss,) = world.node(1).losses.known(partition)
        assert (loss.number, loss.sources >= loss.needed) == (number, partition == 0)
        assert loss.open == (partition == 1)  # here nobody was asked


@pytest.mark.parametrize("taken_over", [False, True])
def test_hints_that_a_crash_has_left_for_a_former_member_go_after_the_next_opening(taken_over: bool) -> None:
    world = loaded(4)
    world.stop(3)
    for key in KEYS:
        world.put(0, key, f"{key} again", Level.ANY)
    kept = world.copy_store(0)
    world.stop(1)  # without it nothing moves, so the hints stay
    left = {key: value for key, value in kept.items() if key in keys_of(world, 0)}
    assert left
    world.start(1)
    leave(world, 3, dead=True)
    assert not keys_of(world, 0)
    world.stop(0)
    world.engines[0].apply(left)
    world.engines[0].sync()
    world.start(0)
    if taken_over:
        world.run(5.0)
        come(world, name="n4")
        finish(world)
    world.run(5.0)
    remembered = {keyspace.peer("n4")} if taken_over else set()
    assert keys_of(world, 0) == remembered
    assert piles(world, 0) == {}
    assert owed(world, 0) == 0
    assert read(world, level=Level.ALL) == [f"{key} again" for key in KEYS]


def keys_of(world: World, at: int) -> set[bytes]:
    """What a store keeps of n4 as hints, debts or memory."""
    prefix = keyspace.member_prefix("n4")
    spans = (keyspace.hints_for(prefix), keyspace.ages(prefix, late=False), keyspace.debts_of(prefix))
    found = {key for span in spans for key, _ in world.engines[at].scan(*span)}
    memory = keyspace.peer("n4")
    return found | ({memory} if world.engines[at].get(memory) is not None else set())


def test_who_takes_the_name_of_a_former_member_takes_over_its_pile_and_is_not_taken_for_it() -> None:
    world = loaded(4)
    world.stop(3)
    asked(world, SetSetting("moves.at_once", "1"))
    asked(world, RemoveMember(world.member(3).number))
    finish(world)
    node, old = world.node(0), world.member(3).number
    before = node.identity.store_of("n4")
    assert before == b""
    new = come(world, name="n4")
    finish(world)
    peers = node.peers
    assert peers.named["n4"].number == world.member(new).number
    assert peers.all[peers.index_of[old]].gone
    assert world.node(new).hints.piles[0].index == 0
    world.stop(new)
    for key in KEYS:
        world.put(0, key, f"{key} again")
    kept = piles(world, 0)
    assert kept.keys() == {"n4"}
    assert {pile.index for pile in node.hints.piles if pile.count} == {peers.named["n4"].index}
    world.start(new)
    world.run(5.0)
    assert piles(world, 0) == {}
    assert read(world, new, Level.ALL) == [f"{key} again" for key in KEYS]


@pytest.mark.parametrize("restarted", [False, True])
def test_messages_that_name_a_former_member_are_heard(restarted: bool) -> None:
    world = loaded(4)
    leave(world, 3)
    world.stop(3)
    if restarted:
        world.restart(0)
        world.run(3.0)
    node, now, row = world.node(0), world.now(0), world.row(KEYS[0])
    number, to = world.member(3).number, world.links[0, 1]
    record = next(found for at in range(3) if (found := world.stored(at, KEYS[0])) is not None)
    answers = Outbox(set())
    node.hints.keep(answers, Keep(7, number, row, record.blob, True, [number]))
    assert answers.take() == [Kept(7, number, False)]
    at = node.peers.index_of[world.member(1).number]
    node.receive(at, to, travel([KnownLosses([LossRow(0, number, 1, 2, 5, 5)])]), now)
    assert any(loss.number == number for loss in node.losses.known(0))
    with pytest.raises(ProtocolError, match="does not have"):
        node.receive(at, to, travel([KnownLosses([LossRow(0, number - 1, 1, 2, 5, 5)])]), now)
    world.run(1.0)
    assert read(world, level=Level.ALL) == FIRST


def test_a_number_that_was_not_given_here_yet_is_no_breach() -> None:
    world = loaded(3)
    node, later = world.node(0), world.member(2).number + 1
    said = KnownLosses([LossRow(0, later, 1, 2, 5, 5)])
    node.receive(1, world.links[0, 1], travel([said]), world.now(0))
    assert any(loss.number == later for loss in node.losses.known(0))


# --- the one that joins --------------------------------------------------------------------------


def test_who_joins_answers_nothing_before_it_has_heard_what_the_cluster_is() -> None:
    world = World(5, replication=1, partitions=8, logged=True)
    for key in KEYS:
        world.put(0, key, f"{key} at first")
    world.lose = lambda sent: isinstance(sent.message, Base)
    new = come(world)
    world.run(5.0)
    node = world.node(new)
    assert node.membership.group.topology is None
    assert node.state != "up"
    assert not node.membership.group.group  # it has founded none
    mine = Placement.of(node.config.cluster)
    supposed = [key for key in KEYS if new in mine.replicas[int.from_bytes(world.row(key)[:2])]]
    assert supposed  # its file's placement would give it some
    for level in (Level.ANY, Level.ONE):
        call = world.set(new, supposed[0], "lost", level)
        world.settle()
        with pytest.raises(Unavailable, match=r"does not know yet what the cluster is.* ask n1"):
            call.receipt()
    read_at = world.get(new, KEYS[0], Level.ONE)
    world.settle()
    with pytest.raises(Unavailable, match="does not know yet"):
        read_at.read()
    assert not stored(world, new)
    assert world.state(new).state != "up"  # what is asked of itself it answers
    world.lose = lambda sent: False
    world.run(5.0)
    finish(world)
    assert read(world, new) == FIRST
    assert world.member(new).number in loads(world)


def test_who_joins_and_ends_before_it_is_told_of_its_own_entry_goes_on_from_there() -> None:
    world = loaded(3)
    world.lose = lambda sent: isinstance(sent.message, At) and bool(sent.message.entries)
    new = come(world)
    world.run(1.0)
    of, number = topology(world, new), world.member(new).number
    assert of.member(number) is None
    world.restart(new)
    assert topology(world, new) == of
    world.lose = lambda sent: False
    finish(world)
    assert number in loads(world)
    assert read(world, new) == FIRST
    assert same_topology(world)


@pytest.mark.parametrize(("name", "why"), [("n4", "no member is called"), ("n9", "opens its own store")])
def test_the_store_that_a_former_member_has_left_is_not_that_of_one_that_comes(name: str, why: str) -> None:
    world = loaded(4)
    world.stop(3)
    leave(world, 3, dead=True)
    new = come(world, name=name, start=False)
    world.engines[new] = world.engines[3]
    with pytest.raises(ConfigurationError, match=why):
        world.start(new)


def test_who_has_another_number_than_the_log_gave_it_does_not_follow() -> None:
    world = loaded(3)
    first = come(world)
    finish(world)
    world.stop(first)
    number = world.member(first).number
    wrong = world.add(number, name="n9")  # the number of another
    node = world.start(wrong, link=False)
    topology_ = topology(world)
    said = Base(b"g" * 16, b"", topology_.epoch, 1, b"", topology_.encode())
    with pytest.raises(ProtocolError, match="n9, number 18, by its file, and the cluster has no such member"):
        node.membership.group.check_snapshot(said)
    renamed = world.add(number + 1, name="n4")
    other = world.start(renamed, link=False)
    gone = replace(topology_, members=(*topology_.members, MemberEntry(number + 1, "n7", "h:1")))
    said = Base(b"g" * 16, b"", gone.epoch, 1, b"", gone.encode())
    with pytest.raises(ProtocolError, match="the cluster has n4 as number 18"):
        other.membership.group.check_snapshot(said)


# --- the one that has left -----------------------------------------------------------------------


def test_who_has_left_says_so_serves_nothing_and_is_not_started_again() -> None:
    world = loaded(4)
    leave(world, 3)
    node = world.node(3)
    assert node.peers.left
    assert (node.state, node.linked) == ("left", False)
    assert "has left the cluster" in node.reason
    client = world.clients[3]
    assert client is not None
    client.collect()
    assert client.parted
    assert world.state(3).state == "left"
    for call in (world.set(3, KEYS[0], "v", Level.ANY), world.set(3, KEYS[0], "v")):
        world.settle()
        with pytest.raises(Unavailable, match=r"has left the cluster.*Ask n1 at 127.0.0.1:7400"):
            call.receipt()
    world.stop(3)
    with pytest.raises(
        ConfigurationError, match=r"n4, number 24, has left the cluster, by epoch .* another number"
    ):
        world.start(3)


def test_who_has_left_says_so_to_a_member_that_asks_what_it_holds_and_does_not_know_it_yet() -> None:
    world = loaded(4)
    asked(world, DrainMember(world.member(3).number))
    while not world.node(3).peers.left:
        world.run(TICK_S)
    link = world.links[3, 0]
    link.take()
    questions = travel([Inspect(7, 0, 8, -1, False, []), Trace(8, world.row(KEYS[0]))])
    world.node(3).receive(0, link, questions, world.now(3))
    world.node(3).step(world.now(3))
    said = "it has left the cluster"
    assert travel(link.take()) == [Rejected(7, said, False), Rejected(8, said, False)]


def test_who_was_away_when_it_left_is_linked_with_nobody() -> None:
    world = loaded(4)
    world.stop(3)
    leave(world, 3, dead=True)
    world.start(3)
    world.run(5.0)
    assert not any(3 in way for way in world.links)
    assert world.node(3).state == "starting"
    assert [world.node(at).linked for at in range(3)] == [True] * 3


def test_who_was_cut_off_when_it_left_serves_nothing_once_it_hears_so() -> None:
    world = loaded(4)
    for other in range(3):
        world.part(3, other)
    world.run(5.0)
    leave(world, 3, dead=True)
    assert not world.node(3).peers.left  # nobody lets it in, so its log never tells it
    world.node(3).introductions.dismiss(0, world.now(3))
    for call in (world.set(3, KEYS[0], "v", Level.ONE), world.get(3, KEYS[0], Level.ONE)):
        world.settle()
        with pytest.raises(Unavailable, match=r"has left the cluster.*Ask n1"):
            call.receipt()


def test_who_comes_later_and_learns_of_a_former_member_knows_the_store_of_who_has_its_name() -> None:
    world = loaded(4)
    world.stop(3)
    asked(world, RemoveMember(world.member(3).number))
    finish(world)
    same = come(world, name="n4")
    finish(world)
    last = come(world)
    finish(world)
    assert world.node(last).identity.store_of("n4") == world.node(same).identity.store
