"""What an acceptor keeps, and for how long. Covers `registers/acceptors.py`, and that closed stamps stay
below what it has accepted (`anti_entropy/closed_stamps.py`)."""

from unittest.mock import patch

import pytest

from basestore.protocol.client import OUTCOME_STORED
from basestore.protocol.replication import COPY, DIRECT, Accept, Apply, Learn, Prepare, Promised, Rejected
from basestore.registers import learning
from basestore.registers.acceptors import FINISH_S
from basestore.repair.paxos import Acceptor, ballot_of
from basestore.repair.version import Record
from basestore.rows import row_partition
from basestore.storage import keyspace
from tests.worlds.registers import ADD, IF_ABSENT, RegisterWorld
from tests.worlds.world import Sent


def state(world: RegisterWorld, index: int, key: str) -> Acceptor | None:
    stored = world.node(index).group_commit.get(keyspace.acceptor(world.row(key, "cas")))
    return Acceptor.decode(stored) if stored is not None else None


def closed(world: RegisterWorld, index: int, key: str) -> int:
    return world.node(index).summaries.of[row_partition(world.row(key, "cas"))].closed


def left_unlearned(world: RegisterWorld, key: str) -> bytes:
    """A write that a quorum accepts and nobody learns. Returns its ballot."""
    home = world.home(key)
    world.lose = lambda sent: isinstance(sent.message, Learn)
    world.put_register(home, key, "first")
    # It tells itself as it tells others; so what it is told to learn is of a ballot that nobody has used.
    with patch.object(learning, "Learn", lambda rows, ballots: Learn(rows, [bytes(16) for _ in ballots])):
        stored = world.put_register(home, key, "left")
        world.settle()
    return ballot_of(stored.order)


def test_what_is_learned_is_kept_as_a_record_and_not_as_accepted_any_more() -> None:
    world = RegisterWorld()
    stored = world.put_register(0, "k", "1")
    world.settle()
    for index in range(3):
        held = state(world, index, "k")
        assert held is not None
        assert ballot_of(held.accepted) <= ballot_of(stored.order)
        assert world.node(index).registers.acceptors.count == 0
        assert held.promised > ballot_of(stored.order)  # of the next write
        record = world.stored(index, "k", "cas")
        assert isinstance(record, Record)
        assert record.blob[:24] == stored.order


def test_a_promise_goes_once_it_is_closed_and_nothing_of_a_row_is_left_beyond_its_record() -> None:
    world = RegisterWorld(reconcile=True)
    world.put_register(0, "k", "1")
    world.run(world.cluster.closed_lag_ms / 1e3 + 5)
    assert [state(world, index, "k") for index in range(3)] == [None] * 3
    assert world.put_register(0, "k", "2").outcome == OUTCOME_STORED


def test_nothing_is_promised_or_accepted_at_or_below_what_is_closed() -> None:
    world = RegisterWorld(reconcile=True)
    world.put_register(0, "k", "1")
    world.run(world.cluster.closed_lag_ms / 1e3 + 5)
    row, index = world.row("k", "cas"), world.home("k")
    low = (closed(world, index, "k") >> 1).to_bytes(8) + bytes(8)
    node = world.node(index)
    outbox = node.peers.all[node.me].outbox
    node.registers.acceptors.prepare(node.me, outbox, Prepare(1, row, low, 0), world.now(index))
    (refused,) = outbox.take()
    assert refused.ballot > low  # type: ignore[attr-defined]
    assert int.from_bytes(refused.ballot[:8]) >= closed(world, index, "k")  # type: ignore[attr-defined]


def test_closed_stamps_stay_below_what_is_accepted_and_not_learned() -> None:
    world = RegisterWorld(reconcile=True)
    ballot = left_unlearned(world, "k")
    stamp = int.from_bytes(ballot[:8])
    for index in range(3):
        world.node(index).registers.acceptors.finish = lambda row, now: None
    world.run(world.cluster.closed_lag_ms / 1e3 + 10)
    holding = [index for index in range(3) if state(world, index, "k") and state(world, index, "k").accepted]  # type: ignore[union-attr]
    assert len(holding) >= 2
    assert all(closed(world, index, "k") < stamp for index in holding)
    assert world.node(holding[0]).registers.acceptors.count == 1


@pytest.mark.parametrize("crash", [False, True])
def test_what_is_left_is_finished_and_closed_stamps_go_on(crash: bool) -> None:
    world = RegisterWorld(reconcile=True)
    ballot = left_unlearned(world, "k")
    world.lose = lambda sent: False
    for index in range(3) if crash else ():
        world.restart(index)
    world.run(FINISH_S + 5)
    assert [world.node(index).registers.acceptors.count for index in range(3)] == [0] * 3
    assert world.values("k", "cas") == [b"left"] * 3
    assert world.found_at(0, "k") == b"left"
    world.run(world.cluster.closed_lag_ms / 1e3 + 5)
    assert all(closed(world, index, "k") > int.from_bytes(ballot[:8]) for index in range(3))


def test_what_was_promised_and_accepted_outlives_a_crash() -> None:
    world = RegisterWorld()
    left_unlearned(world, "k")
    held = [state(world, index, "k") for index in range(3)]
    for index in range(3):
        world.restart(index)
    assert [state(world, index, "k") for index in range(3)] == held
    world.run(2)
    assert world.found_at(1, "k") == b"left"


@pytest.mark.parametrize("durability", ["sync", "interval"])
def test_nothing_is_said_before_it_is_durable(durability: str) -> None:
    world = RegisterWorld(durability=durability)
    world.freeze(0, 1, 2)
    call = world.write(world.home("k"), "k", "1")
    world.settle()
    assert not world.sent(Promised)
    assert not call.done
    world.thaw(0, 1, 2)
    assert world.done(call).outcome == OUTCOME_STORED


def test_a_plain_write_is_not_taken_by_the_way_of_a_first_delivery() -> None:
    """Else a plain writer could pass by what is agreed."""
    world = RegisterWorld()
    stored = world.put_register(0, "k", "1")
    world.settle()
    record = world.stored(0, "k", "cas")
    assert isinstance(record, Record)
    node = world.node(1)
    outbox = node.peers.all[0].outbox
    outbox.take()
    later = Record.seal(
        world.digester, world.row("k", "cas"), record.version._replace(stamp=record.stamp + 1), b"plain"
    )
    node.receive(0, outbox, [Apply(7, world.row("k", "cas"), later.blob, DIRECT, 0)], world.now(1))
    world.node(1).step(world.now(1))
    assert [type(each) for each in outbox.take()] == [Rejected]
    node.receive(0, outbox, [Apply(8, world.row("k", "cas"), record.blob, COPY, 0)], world.now(1))
    assert world.found_at(0, "k") == b"1"
    assert stored.order == record.blob[:24]


def test_a_record_that_was_damaged_on_its_way_is_not_accepted() -> None:
    world = RegisterWorld()
    world.put_register(0, "k", "0")
    spoilt: list[Sent] = []

    def spoil(sent: Sent) -> bool:
        if isinstance(sent.message, Accept) and not spoilt:
            spoilt.append(sent)
            blob = sent.message.record
            world.ways[sent.source, sent.target].append(sent.message._replace(record=blob[:-1] + b"?"))
            return True
        return False

    world.lose = spoil
    assert world.put_register(world.home("k"), "k", "11", ADD).outcome == OUTCOME_STORED
    assert spoilt
    assert world.found_at(1, "k") == b"11"


def test_a_ballot_far_ahead_of_the_clock_is_not_promised() -> None:
    world = RegisterWorld()
    world.put_register(0, "k", "1")
    node = world.node(1)
    outbox = node.peers.all[0].outbox
    outbox.take()
    ahead = ((world.now(1).wall_ms + 3_600_000) << 16).to_bytes(8) + bytes(8)
    node.receive(0, outbox, [Prepare(9, world.row("k", "cas"), ahead, 0)], world.now(1))
    node.step(world.now(1))
    (rejected,) = outbox.take()
    assert isinstance(rejected, Rejected)
    assert "ahead" in rejected.reason
    assert world.put_register(1, "k", "2").outcome == OUTCOME_STORED


def test_a_deleted_register_is_purged_everywhere_and_begins_anew() -> None:
    world = RegisterWorld(reconcile=True)
    world.put_register(0, "k", "1")
    world.done(world.remove(0, "k"))
    row = keyspace.record(world.row("k", "cas"))
    world.until(lambda: all(world.node(index).group_commit.get(row) is None for index in range(3)), 90)
    assert world.found_at(2, "k") is None
    assert world.put_register(1, "k", "2", IF_ABSENT).outcome == OUTCOME_STORED
