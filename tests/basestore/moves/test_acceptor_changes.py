"""Members are bound to the stores that they run on, barred when they come to another, and taken in again.
Covers `moves/acceptor_changes.py`, and what reports, recovery and adoption do for it."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from basestore.consistency import Level
from basestore.membership.rebuilding import SKIPPED_MIN, follow, rebuild
from basestore.moves.acceptor_changes import AcceptorChanges
from basestore.protocol.client import Failed
from basestore.protocol.codec import Message
from basestore.protocol.membership import ChangeTopology, Finished
from basestore.repair.rule import Rule
from basestore.repair.seats import Stage
from basestore.topology.changes import (
    Change,
    CreateBucket,
    DrainMember,
    RemoveMember,
    SetMember,
    TakeIn,
)
from basestore.topology.entries import Suggestion, decode_entry, encode_entry
from basestore.topology.topology import BUCKETS_MAX, Bucket, Dropped, Topology
from tests.worlds.changing import leaders
from tests.worlds.moving import asked, finish, number, topology
from tests.worlds.world import TICK_S, World

WAIT_S = 40.0


def bound(world: World, at: int, *, by: int = 0) -> bool:
    """Whether a node's member is bound to the store that it runs on."""
    member = topology(world, by).member(number(world, at))
    assert member is not None
    return member.store == world.node(at).identity.store


def votes(world: World, at: int) -> dict[int, bool]:
    """Of which partitions, of those that it holds, a node is an acceptor."""
    node = world.node(at)
    seating, store = node.certificates.seating, node.identity.store
    return {partition: seating.votes(partition, store) for partition in seating.seats}


def until(world: World, is_so: Callable[[], bool], within_s: float = WAIT_S) -> None:
    for _ in range(round(within_s / TICK_S)):
        if is_so():
            return
        world.run(TICK_S)
    raise AssertionError("it has not come to be so")


def wiped(world: World, at: int) -> bytes:
    """A node that runs on an empty disk from now on; the store that it ran on before."""
    store = world.node(at).identity.store
    world.wipe(at)
    world.start(at)
    return store


def said(world: World, kind: type) -> list[object]:
    """The changes of this kind in the log, as far as it goes back."""
    raft = next(node for node in world.running if node.name in leaders(world)).membership.group.raft
    assert raft is not None
    entries = [raft.log.entry(index) for index in range(raft.log.base.last + 1, raft.log.last + 1)]
    changes = [decode_entry(each.data).change for each in entries if each.kind.name == "DATA"]
    return [each for each in changes if isinstance(each, kind)]


def at_rest(of: Topology) -> bool:
    return not of.barred and all(seats.stage is Stage.STILL for seats in of.seats)


# --- bound -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_every_member_is_bound_to_its_store_at_first_and_that_changes_nothing_else(count: int) -> None:
    world = World(count, logged=True)
    assert all(bound(world, at) for at in range(count))
    assert all(all(votes(world, at).values()) for at in range(count))
    assert topology(world).barred == {}
    assert {seats.since for seats in topology(world).seats} == {0}
    assert len(said(world, SetMember)) == count
    epoch = topology(world).epoch
    world.run(5)
    assert topology(world).epoch == epoch, "nothing more is to be done"


def test_a_store_that_is_on_no_disk_is_not_bound() -> None:
    world = World(3, durability="memory", logged=True)
    world.run(2)
    assert said(world, SetMember) == []
    assert not any(any(votes(world, at).values()) for at in range(3))


def test_without_a_topology_nobody_is_an_acceptor() -> None:
    world = World(3)
    assert not any(any(votes(world, at).values()) for at in range(3))


def test_below_the_feature_level_nobody_is_bound_and_no_bucket_made() -> None:
    world = World(3, born=False)
    world.configs = [replace(each, wire_highest=11) for each in world.configs]
    for at in range(3):
        world.start(at)
    world.run(1)
    world.found()
    world.run(3)
    assert said(world, SetMember) == []
    assert set(topology(world).buckets) == {"default", "once"}
    entry = encode_entry(Suggestion(CreateBucket("mine", "register", [0, 0, 0, 0]), 7, 0, 0))
    call = world.ask(0, lambda request: ChangeTopology(request, entry, 1000, False))
    world.settle()
    answer = call.reply()
    assert isinstance(answer, Failed)
    error = "no bucket can have rule register yet: the cluster's feature level is 11, and this needs 12"
    assert error in answer.text


def test_a_node_knows_right_at_its_opening_that_it_is_an_acceptor() -> None:
    world = World(3, logged=True)
    world.run(1)
    world.stop(1)
    node = world.start(1, link=False)
    seating = node.certificates.seating
    assert all(seating.votes(partition, node.identity.store) for partition in seating.seats)
    assert not any(seating.votes(partition, b"x" * 16) for partition in seating.seats)
    assert not any(seating.votes(partition, b"") for partition in seating.seats)


# --- barred, and taken in ----------------------------------------------------------------------------


@pytest.mark.parametrize("reconcile", [False, True])
def test_a_wiped_member_is_barred_and_taken_in_once_it_has_met_the_others_anew(reconcile: bool) -> None:
    world = World(3, logged=True, reconcile=reconcile)
    world.put(0, "key", "v", Level.ALL)
    wiped(world, 2)
    until(world, lambda: bool(topology(world).barred))
    assert topology(world).barred == {at: {number(world, 2)} for at in range(4)}
    assert votes(world, 0) == votes(world, 1) == dict.fromkeys(range(4), True)
    since = topology(world).seats[0].since
    until(world, lambda: topology(world, 2).epoch == topology(world).epoch)
    assert votes(world, 2) == dict.fromkeys(range(4), False)
    assert {world.node(2).certificates.seating.tenure(at) for at in range(4)} == {0}
    until(world, lambda: at_rest(topology(world)))
    assert topology(world).seats[0].since > since
    assert bound(world, 2)
    until(world, lambda: topology(world, 2).epoch == topology(world).epoch)
    assert votes(world, 2) == dict.fromkeys(range(4), True)
    assert {world.node(2).certificates.seating.tenure(at) for at in range(4)} == {0}
    assert world.look(2, "key").value == b"v"
    assert topology(world).came == {}


def test_what_is_wiped_is_read_and_written_long_before_it_is_taken_in() -> None:
    world = World(3, logged=True)
    world.put(0, "key", "v", Level.ALL)
    wiped(world, 2)
    for node in world.running:  # nobody ever finishes
        node.certificates.finishing.unfinished = lambda partition, since: True
    until(world, lambda: bool(topology(world).barred))
    assert world.node(2).identity.counts
    assert world.put(2, "key", "w", Level.ALL).acknowledged == 3
    world.run(20)
    assert topology(world).barred == {at: {number(world, 2)} for at in range(4)}


def test_who_is_barred_waits_for_those_that_are_not_and_have_not_finished() -> None:
    world = World(3, logged=True)
    wiped(world, 2)
    unfinished = {0, 3}
    world.node(1).certificates.finishing.unfinished = lambda partition, since: partition in unfinished
    until(world, lambda: bool(topology(world).barred))
    until(world, lambda: set(topology(world).barred) == {0, 3})
    world.run(10)
    assert set(topology(world).barred) == {0, 3}
    unfinished.remove(3)
    until(world, lambda: set(topology(world).barred) == {0})
    unfinished.clear()
    until(world, lambda: at_rest(topology(world)))


def test_a_proof_from_before_the_other_side_had_finished_does_not_count() -> None:
    world = World(3, logged=True, reconcile=True)
    wiped(world, 2)
    lost = list[Message]()

    def loses(sent: object) -> bool:
        message = sent.message  # type: ignore[attr-defined]
        mine = isinstance(message, Finished) and sent.source == 1  # type: ignore[attr-defined]
        lost.extend([message] if mine else [])
        return mine

    world.lose = loses
    until(world, lambda: bool(topology(world).barred))
    world.run(10)  # exchanges go on, and prove that they hold the same
    assert lost
    assert topology(world).barred == {at: {number(world, 2)} for at in range(4)}
    world.lose = lambda sent: False
    world.part(1, 2)
    world.join(1, 2)  # on each new link it is said again
    until(world, lambda: at_rest(topology(world)))


@pytest.mark.parametrize("count", [1, 2])
def test_of_one_or_two_one_that_is_wiped_is_taken_in(count: int) -> None:
    world = World(count, logged=True)
    world.put(0, "key", "v", Level.ALL)
    last = count - 1
    wiped(world, last)
    if count == 1:  # with its disk the log is gone: another group is founded, by which it is bound anew
        until(world, lambda: world.node(0).membership.group.topology is not None)
    else:
        until(world, lambda: bool(topology(world).barred))
    until(world, lambda: at_rest(topology(world)) and bound(world, last))
    until(world, lambda: all(votes(world, last).values()))


def test_two_of_a_partitions_three_that_are_wiped_at_once_are_taken_in() -> None:
    world = World(5, replication=3, logged=True)
    world.put(0, "key", "v", Level.ALL)
    for at in (3, 4):
        wiped(world, at)
    both = {number(world, 3), number(world, 4)}
    until(world, lambda: any(of == both for of in topology(world).barred.values()))
    until(world, lambda: at_rest(topology(world)))
    world.run(1)
    assert all(all(votes(world, at).values()) for at in range(5))


def test_of_a_partition_whose_members_are_all_barred_each_is_taken_in_once_it_is_fit() -> None:
    world = World(5, replication=1, partitions=8, logged=True)
    voting = {voter.number for voter in world.node(0).membership.group.raft.voters}  # type: ignore[union-attr]
    assert voting == {number(world, at) for at in range(5)}
    wiped(world, 4)
    until(world, lambda: bool(topology(world).barred))
    theirs = {at for at, seats in enumerate(topology(world).seats) if number(world, 4) in seats.old}
    assert set(topology(world).barred) == theirs
    until(world, lambda: at_rest(topology(world)))


def test_one_that_is_wiped_again_before_it_was_taken_in_is_taken_in_with_its_last_store() -> None:
    world = World(3, logged=True)
    held = [wiped(world, 2)]
    for node in world.running:
        node.certificates.finishing.unfinished = lambda partition, since: True
    until(world, lambda: bool(topology(world).barred))
    since = topology(world).seats[0].since
    held.append(wiped(world, 2))
    until(world, lambda: bound(world, 2))
    assert topology(world).seats[0].since > since
    assert topology(world).barred == {at: {number(world, 2)} for at in range(4)}
    for node in world.running:
        node.certificates.finishing.unfinished = lambda partition, since: False
    until(world, lambda: at_rest(topology(world)))
    assert bound(world, 2)
    assert len({*held, world.node(2).identity.store}) == 3


def test_one_that_is_dead_by_an_operators_word_is_not_waited_for() -> None:
    world = World(4, replication=3, partitions=4, logged=True, reconcile=True)
    for node in world.running:
        node.certificates.finishing.unfinished = lambda partition, since: True
    wiped(world, 3)
    until(world, lambda: bool(topology(world).barred))
    world.crash(2)
    for node in world.running:
        node.certificates.finishing.unfinished = lambda partition, since: False
    world.run(10)
    both = {number(world, 2), number(world, 3)}
    waiting = {at for at, seats in enumerate(topology(world).seats) if both <= {*seats.old}}
    assert set(topology(world).barred) == waiting != set()
    asked(world, RemoveMember(number(world, 2)))
    finish(world)
    until(world, lambda: at_rest(topology(world)))


def test_one_that_is_dead_while_it_is_barred_leaves_and_is_not_barred_any_more() -> None:
    world = World(4, replication=3, partitions=4, logged=True, reconcile=True)
    wiped(world, 3)
    until(world, lambda: bool(topology(world).barred))
    world.crash(3)
    world.run(6)
    asked(world, RemoveMember(number(world, 3)))
    finish(world)
    assert topology(world).barred == {}


def test_who_leads_next_goes_on_where_the_leader_was() -> None:
    world = World(4, replication=3, logged=True)
    for node in world.running:
        node.certificates.finishing.unfinished = lambda partition, since: True
    wiped(world, 3)
    until(world, lambda: bool(topology(world).barred))
    first = next(at for at in range(4) if world.node(at).name == leaders(world)[0])
    world.crash(first)
    world.run(12)
    assert topology(world, 3).barred
    world.start(first)
    world.run(2)
    for node in world.running:
        node.certificates.finishing.unfinished = lambda partition, since: False
    until(world, lambda: at_rest(topology(world, first)))


def test_nobody_counts_by_a_group_that_was_rebuilt_before_it_was_bound_by_that() -> None:
    world = World(3, logged=True)
    world.run(1)
    for at in range(3):
        world.stop(at)
    world.wipe(2)
    rebuild(world.engines[0], world.configs[0], b"n" * 16, SKIPPED_MIN)
    follow(world.engines[1], world.configs[1])
    for at in range(3):
        world.start(at)
    until(world, lambda: bound(world, 2) and number(world, 2) in topology(world).barred.get(0, ()))
    until(world, lambda: at_rest(topology(world)))


# --- while seats move --------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", [Stage.FILL, Stage.JOINT])
@pytest.mark.parametrize("who", ["stays", "comes", "leaves"])
def test_one_is_barred_while_its_partitions_move(stage: Stage, who: str) -> None:
    world = World(5, replication=3, partitions=4, logged=True, reconcile=True)
    for key in range(30):
        world.put(0, f"key {key}", "v", Level.ALL)
    free = next(at for at in range(4, -1, -1) if at)  # it is drained
    for node in world.running:
        node.certificates.finishing.unfinished = lambda partition, since: True
    if stage is Stage.FILL:  # it does not go on
        world.lose = lambda sent: type(sent.message).__name__ == "MoveReport"
        for node in world.running:
            node.moves.reports.of = lambda *args: None  # type: ignore[method-assign]
    asked(world, DrainMember(number(world, free)))
    until(world, lambda: any(seats.stage is stage for seats in topology(world).seats))
    seats = next(seats for seats in topology(world).seats if seats.stage is stage)
    chosen = {
        "stays": [e for e in seats.old if e in seats.new],
        "comes": [e for e in seats.new if e not in seats.old],
        "leaves": [e for e in seats.old if e not in seats.new],
    }[who]
    leader = {number(world, at) for at in range(5) if world.node(at).name == leaders(world)[0]}
    index = {number(world, at): at for at in range(5)}[
        next(e for e in chosen if {e} != leader or who != "stays")
    ]
    wiped(world, index)
    by = next(at for at in range(5) if at != index)
    until(world, lambda: bound(world, index, by=by))
    held = {at for at, of in enumerate(topology(world, by).seats) if number(world, index) in of.both}
    assert {at for at, of in topology(world, by).barred.items() if number(world, index) in of} == held
    world.lose = lambda sent: False
    for at in range(5):
        node = world.node(at)
        node.certificates.finishing.unfinished = lambda partition, since: False
        vars(node.moves.reports).pop("of", None)
    finish(world, by)
    until(world, lambda: at_rest(topology(world, by)))
    assert {world.look(by, f"key {key}").value for key in range(30)} == {b"v"}


def test_a_move_waits_for_sources_that_have_not_finished() -> None:
    world = World(4, replication=3, partitions=2, logged=True, reconcile=True)
    seats = topology(world).seats[0].old
    index = {number(world, at): at for at in range(4)}
    leaves = next(e for e in seats if world.node(index[e]).name != leaders(world)[0])
    for each in seats:
        world.node(index[each]).certificates.finishing.unfinished = lambda partition, since: not partition
    asked(world, DrainMember(leaves))
    until(world, lambda: topology(world).seats[0].stage is Stage.JOINT)
    world.run(15)
    assert topology(world).seats[0].stage is Stage.JOINT
    for each in seats:
        world.node(index[each]).certificates.finishing.unfinished = lambda partition, since: False
    finish(world)


# --- what costs nothing ------------------------------------------------------------------------------


def test_in_the_steady_state_nothing_is_said() -> None:
    world = World(3, logged=True, reconcile=True)
    world.run(10)
    assert world.sent(Finished) == []
    wiped(world, 2)
    until(world, lambda: bool(topology(world).barred))
    until(world, lambda: at_rest(topology(world)))
    world.run(1)
    count = len(world.sent(Finished))
    assert count
    world.run(20)
    assert len(world.sent(Finished)) == count


def test_many_partitions_are_taken_in_by_few_entries() -> None:
    world = World(3, partitions=600, logged=True, reconcile=True)
    wiped(world, 2)
    until(world, lambda: bool(topology(world).barred), 120.0)
    until(world, lambda: at_rest(topology(world)), 120.0)
    entries = [each for each in said(world, TakeIn) if isinstance(each, TakeIn)]
    assert sum(len(each.rows) for each in entries) == 600
    assert max(len(each.rows) for each in entries) <= 256
    assert len(entries) <= 60


# --- the bucket --------------------------------------------------------------------------------------


def test_a_bucket_that_serial_writes_need_is_there_from_the_level_on() -> None:
    world = World(3, logged=True)
    bucket = topology(world).buckets["cas"]
    assert bucket.rule.serial
    assert len(said(world, CreateBucket)) == 1
    world.run(3)
    assert len(said(world, CreateBucket)) == 1
    assert "cas" in world.node(1).context.buckets.by_name


def chosen(world: World, of: Topology) -> Change | None:
    """What the leader would have decided next, were this the cluster."""
    node = world.node(0)
    acceptors = AcceptorChanges(node.peers, node.certificates.store, node.feature_level, {})
    return acceptors.next(of, lambda partition, seats: {})


def test_a_bucket_of_that_name_that_users_have_made_or_dropped_stays_as_it_is() -> None:
    world = World(3, logged=True)
    without = {name: each for name, each in topology(world).buckets.items() if name != "cas"}
    of = replace(topology(world), buckets=without)
    assert chosen(world, of) == CreateBucket("cas", "register", [0, 0, 0, 0])
    theirs = Bucket(9, "cas", Rule.LAST_WRITE_WINS, b"label")
    assert chosen(world, replace(of, buckets={**without, "cas": theirs})) is None
    assert chosen(world, replace(of, dropped=(Dropped(9, b"label", 1, "cas"),))) is None
    many = {f"b{n}": replace(theirs, name=f"b{n}", number=n) for n in range(3, BUCKETS_MAX + 1)}
    assert chosen(world, replace(of, buckets={**without, **many})) is None
    world.node(0).feature_level.level = 11
    assert chosen(world, of) is None
