"""Acceptors whose store is lost, or whose seats move: over real nodes, with their topology. Covers
`registers/acceptors.py` with `cluster/finishing.py` and `moves/acceptors.py`."""

import pytest

from basestore.protocol.client import OUTCOME_STORED, Failed
from basestore.protocol.replication import Prepare, Refused
from basestore.repair.paxos import ballot_of
from basestore.repair.seats import Stage
from basestore.rows import row_partition
from basestore.topology.changes import DrainMember
from tests.worlds.moving import asked, topology
from tests.worlds.registers import IF_VERSION, RegisterWorld


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_a_wiped_acceptor_counts_for_no_round_until_it_is_taken_in(count: int) -> None:
    world = RegisterWorld(count, replication=count, reconcile=True)
    stored = world.put_register(0, "k", "1")
    world.settle()
    index = (world.home("k") + count - 1) % count
    world.lose_store(index)
    assert not world.votes(index, "k")
    world.until(lambda: world.votes(index, "k"), 60)
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
    world.run(2)
    while not world.votes(index, "k"):
        assert world.put_register(world.home("k"), "k", "2").outcome == OUTCOME_STORED
        world.run(0.1)
    assert world.put_register(index, "k", "3").outcome == OUTCOME_STORED


def test_what_the_wiped_store_and_another_had_accepted_is_not_lost() -> None:
    """Chosen by the two, and learned by nobody: the third knows nothing of it."""
    world = RegisterWorld(reconcile=True)
    home = world.home("k")
    world.put_register(home, "k", "0")
    world.settle()
    other, third = [at for at in range(3) if at != home]
    world.accepted_by("k", "chosen", home, other)
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
    world.accepted_by("k", "chosen", home, other)
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
    world.accepted_by("k", "left", home)
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
    row, index, replicas = world.row("k", "cas"), world.home("k"), world.replicas("k", "cas")
    high = (world.now(index).wall_ms + 1500 << 16).to_bytes(8) + b"\xff" * 8
    world.lose = lambda sent: isinstance(sent.message, Prepare)
    for at in replicas:
        acceptors = world.node(at).registers.acceptors
        outbox = world.node(at).peers.all[world.node(at).me].outbox
        acceptors.prepare(world.node(at).me, outbox, Prepare(1, row, high, 0), world.now(at))
    world.settle()
    world.lose = lambda sent: False
    for at in replicas:
        world.lose_store(at)
        world.until(lambda at=at: world.votes(at, "k"), 60)  # type: ignore[misc]
        assert world.node(at).registers.acceptors.floor(row_partition(row)) >= high
    acceptors, (low, _) = world.node(index).registers.acceptors, (high[:15], high[15:])
    outbox = world.node(index).peers.all[world.node(index).me].outbox
    acceptors.prepare(world.node(index).me, outbox, Prepare(2, row, low + b"\xfe", 0), world.now(index))
    assert [type(each) for each in outbox.take()] == [Refused]


def test_what_seats_that_move_had_accepted_is_finished_before_they_go() -> None:
    world = RegisterWorld(4, replication=3, reconcile=True)
    key = next(f"k{n}" for n in range(100) if 0 in world.replicas(f"k{n}", "cas")[1:])
    home = world.home(key)
    world.put_register(home, key, "0")
    world.settle()
    world.accepted_by(key, "chosen", home, 0)
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
    world.accepted_by("k", "chosen", at, other, comes)
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


def test_ballots_begin_versions() -> None:
    world = RegisterWorld()
    stored = world.put_register(0, "k", "1")
    assert ballot_of(stored.order) == stored.order[:16]
