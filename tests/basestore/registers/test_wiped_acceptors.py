"""Acceptors whose store is lost, or whose seats move: over real nodes, with their topology. Covers
`registers/acceptors.py` with `cluster/finishing.py` and `moves/acceptor_changes.py`."""

import pytest

from basestore.protocol.client import OUTCOME_STORED, Failed
from basestore.protocol.replication import Accept, Prepare, Refused, Rejected
from basestore.registers.acceptors import NOT_BOUND
from basestore.repair.paxos import ballot_of
from basestore.repair.seats import Stage
from basestore.repair.version import Record, Version
from basestore.rows import row_partition
from basestore.topology.changes import DrainMember
from tests.worlds.moving import asked, topology
from tests.worlds.registers import IF_VERSION, RegisterWorld
from tests.worlds.unlearned import accepted_by, promised_by_all, unfinished


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_a_wiped_acceptor_counts_for_no_round_until_it_is_taken_in(count: int) -> None:
    world = RegisterWorld(count, replication=count, reconcile=True)
    stored = world.put_register(0, "k", "1")
    world.settle()
    index = (world.home("k") + count - 1) % count
    row, held = world.row("k", "cas"), world.stored(index, "k", "cas")
    assert isinstance(held, Record)
    world.lose_store(index)
    refusals, lost_s = list[object](), world.monotonic
    while not world.votes(index, "k"):
        assert world.monotonic < lost_s + 60, "it is not taken in"
        if world.node(index).state == "up":
            version = Version((world.now(index).wall_ms + 500) << 16, 7, 1)
            record = Record.seal(world.digester, row, version, b"x", descent=held.descent).blob
            prepare, accept = Prepare(1, row, ballot_of(record), 0), Accept(2, row, record, b"", 0)
            refusals += world.answers(index, prepare, accept)
        world.run(0.05)
    assert refusals
    assert {*refusals} == {Rejected(1, NOT_BOUND, True), Rejected(2, NOT_BOUND, True)}
    assert world.node(index).state == "up"
    if count > 1:
        assert world.found_at(index, "k") == b"1"
        assert world.put_register(index, "k", "2", IF_VERSION, stored.version).outcome == OUTCOME_STORED
        assert world.found_at(0, "k") == b"2"
    else:  # what its only store held is lost, and that is noted
        assert world.found_at(index, "k") is None
        assert world.node(index).summaries.of[row_partition(world.row("k", "cas"))].lost


def test_registers_go_on_with_the_other_acceptors_meanwhile() -> None:
    world = RegisterWorld()
    world.put_register(0, "k", "1")
    index = (world.home("k") + 1) % 3
    world.lose_store(index)
    meanwhile = 0
    while not world.votes(index, "k"):
        assert world.put_register(world.home("k"), "k", "2").outcome == OUTCOME_STORED
        meanwhile += 1
        world.run(0.1)
    assert meanwhile > 1
    assert world.put_register(index, "k", "3").outcome == OUTCOME_STORED


def test_what_the_wiped_store_and_another_had_accepted_is_not_lost() -> None:
    """Chosen by the two, and learned by nobody: the third knows nothing of it."""
    world = RegisterWorld(reconcile=True)
    home = world.home("k")
    world.put_register(home, "k", "0")
    world.settle()
    other, third = [at for at in range(3) if at != home]
    accepted_by(world, "k", "chosen", home, other)
    world.lose_store(other)
    world.until(lambda: world.votes(other, "k"), 60)
    world.crash(home)  # who knows it, but for what was finished
    world.run(8)
    assert world.found_at(third, "k") == b"chosen"
    assert world.found_at(other, "k") == b"chosen"


def test_nobody_is_taken_in_while_those_that_are_left_have_something_to_finish() -> None:
    world = RegisterWorld(reconcile=True)
    home = world.home("k")
    world.put_register(home, "k", "0")
    world.settle()
    other = next(at for at in range(3) if at != home)
    accepted_by(world, "k", "chosen", home, other)
    acceptors = world.node(home).registers.acceptors
    finish, acceptors.finish = acceptors.finish, lambda row, now: None
    world.lose_store(other)
    world.run(30)
    assert world.node(other).state == "up"
    assert not world.votes(other, "k")
    acceptors.finish = finish
    world.until(lambda: world.votes(other, "k"), 30)


def test_what_one_acceptor_is_left_with_is_finished_though_no_quorum_is_left() -> None:
    world = RegisterWorld(5, reconcile=True)
    home, *others = world.replicas("k", "cas")
    world.put_register(home, "k", "0")
    world.settle()
    accepted_by(world, "k", "left", home)
    for index in others:
        world.lose_store(index)
    world.until(lambda: all(world.votes(index, "k") for index in (home, *others)), 90)
    world.crash(home)
    world.run(8)
    assert {world.found_at(index, "k") for index in others} == {b"left"}


def test_a_promise_is_not_forgotten_as_one_store_after_the_other_is_lost() -> None:
    """Who takes the place of those that have promised takes no ballot up to theirs."""
    world = RegisterWorld(5, reconcile=True)
    world.put_register(0, "k", "0")
    world.settle()
    row, replicas, high = promised_by_all(world, "k")
    for at in replicas:
        world.lose_store(at)
        world.until(lambda at=at: world.votes(at, "k"), 60)  # type: ignore[misc]
        assert world.node(at).registers.acceptors.floors.of(row_partition(row)) >= high
    (answer,) = world.answers(world.home("k"), Prepare(2, row, high[:15] + b"\xfe", 0))
    assert isinstance(answer, Refused)


def test_what_seats_that_move_had_accepted_is_finished_before_they_go() -> None:
    world = RegisterWorld(4, replication=3, reconcile=True)
    key = next(f"k{n}" for n in range(100) if 0 in world.replicas(f"k{n}", "cas")[1:])
    home = world.home(key)
    world.put_register(home, key, "0")
    world.settle()
    accepted_by(world, key, "chosen", home, 0)
    partition = row_partition(world.row(key, "cas"))
    asked(world, DrainMember(world.member(0).number), home)
    world.until(lambda: 0 not in world.node(home).context.placement.replicas[partition], 120)
    world.crash(home)
    world.run(8)
    assert world.found_at(next(at for at in range(1, 4) if at != home), key) == b"chosen"


def test_what_both_replicas_forget_while_they_hand_over_is_with_who_comes() -> None:
    """None of the old ones is left, so nobody is taken in before it has what the new one has accepted."""
    world = RegisterWorld(6, replication=2, reconcile=True)
    at, other = world.replicas("k", "cas")
    asker = next(each for each in range(6) if each not in (at, other))
    world.put_register(at, "k", "0")
    world.settle()
    partition = row_partition(world.row("k", "cas"))
    asked(world, DrainMember(world.member(other).number), asker)
    world.until(lambda: topology(world, asker).seats[partition].stage is Stage.JOINT, 120)
    (comes,) = (index for index in range(6) if index != at and world.member(index).number in
                topology(world, asker).seats[partition].new)  # fmt: skip
    acceptors = world.node(comes).registers.acceptors
    finish, acceptors.finish = acceptors.finish, lambda row, now: None
    accepted_by(world, "k", "chosen", at, other, comes)
    for index in (at, other):
        world.lose_store(index)
    world.run(30)
    assert not world.votes(at, "k")
    assert not world.votes(other, "k")
    acceptors.finish = finish
    world.until(lambda: topology(world, asker).seats[partition].stage is Stage.STILL, 120)
    world.until(lambda: partition not in topology(world, asker).barred, 60)
    assert world.found_at(asker, "k") == b"chosen"


def test_what_is_asked_of_a_wiped_majority_is_refused_until_it_is_taken_in() -> None:
    world = RegisterWorld(5, reconcile=True)
    world.put_register(0, "k", "1")
    world.settle()
    home, *others = world.replicas("k", "cas")
    for index in others:
        world.wipe(index)
    for index in others:
        world.start(index)
    call = world.write(home, "k", "2")
    world.run(1.5)
    answer = call.reply()
    assert isinstance(answer, Failed), answer
    world.until(lambda: all(world.votes(index, "k") for index in (home, *others)), 90)
    assert world.found_at(home, "k") == b"1"


def test_a_store_that_is_found_rolled_back_while_acceptors_change_ends_no_node() -> None:
    world = RegisterWorld(reconcile=True)
    home = world.home("k")
    other, third = [at for at in range(3) if at != home]
    world.put_register(home, "k", "0")
    world.settle()
    unfinished(world)
    accepted_by(world, "k", "left", home, other)
    world.lose_store(third)  # barred, and not taken in: there is something to finish
    unfinished(world)
    world.run(3)
    assert world.node(other).certificates.seating.barred
    copy = world.copy_store(other)
    for number in range(5):
        world.put(home, f"p{number}", "plain")
        world.run(1)
    world.restore(other, copy)  # an older state of its disk
    world.start(other, link=False)
    unfinished(world)
    world.run(0.3)  # it sees what it has to finish, by itself
    for at in (home, third):
        world.link(other, at)
    world.run(5)
    assert all(node is not None and node.state != "left" for node in world.nodes)


def test_what_was_promised_before_a_restart_is_in_the_floor_behind_it() -> None:
    world = RegisterWorld(5, reconcile=True)
    world.put_register(0, "k", "0")
    world.settle()
    row, replicas, high = promised_by_all(world, "k")
    for at in replicas:
        world.restart(at)
    world.run(1)
    for at in replicas:
        assert world.node(at).registers.acceptors.floors.of(row_partition(row)) >= high
