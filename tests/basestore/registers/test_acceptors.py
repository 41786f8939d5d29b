"""What an acceptor keeps, and for how long. Covers `registers/acceptors.py`, and that closed stamps stay
below what it has accepted (`anti_entropy/closed_stamps.py`)."""

from unittest.mock import patch

import pytest

from basestore.protocol.client import OUTCOME_STORED
from basestore.protocol.replication import (
    COPY,
    DIRECT,
    Accept,
    Applied,
    Apply,
    Learn,
    Peek,
    Prepare,
    Promised,
    Refused,
    Rejected,
)
from basestore.registers import acceptors
from basestore.registers.acceptors import FINISH_S
from basestore.repair.paxos import Acceptor, ballot_of
from basestore.repair.version import Record, Version
from basestore.rows import row_partition
from basestore.storage import keyspace
from tests.worlds.registers import ADD, IF_ABSENT, RegisterWorld
from tests.worlds.unlearned import ballot, come_again, left_unlearned
from tests.worlds.world import Sent


def state(world: RegisterWorld, index: int, key: str) -> Acceptor | None:
    stored = world.node(index).group_commit.get(keyspace.acceptor(world.row(key, "cas")))
    return Acceptor.decode(stored) if stored is not None else None


def closed(world: RegisterWorld, index: int, key: str) -> int:
    return world.node(index).summaries.of[row_partition(world.row(key, "cas"))].closed


def test_what_is_learned_is_kept_as_a_record_and_not_as_accepted_any_more() -> None:
    world = RegisterWorld()
    stored = world.put_register(0, "k", "1")
    world.settle()
    for index in range(3):
        held = state(world, index, "k")
        assert held is not None
        acceptors = world.node(index).registers.acceptors
        assert (acceptors.standing(world.row("k", "cas"))[0].accepted, acceptors.count) == (b"", 0)
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
    stamp = closed(world, index, "k")
    record = world.stored(index, "k", "cas")
    assert isinstance(record, Record)

    def under(ballot: bytes) -> bytes:
        version = Version.decode(ballot + record.blob[16:24])
        digester = world.node(index).replica.digester
        return Record.seal(digester, row, version, b"2", descent=record.descent).blob

    for low in (ballot(stamp >> 1), ballot(stamp), ballot(stamp, b"\xff")):
        for request in (Prepare(1, row, low, 0), Accept(1, row, under(low), b"", 0)):
            (refused,) = world.answers(index, request)
            assert isinstance(refused, Refused)
            assert refused.ballot >= ballot(stamp, b"\xff")
    (promised,) = world.answers(index, Prepare(1, row, ballot(stamp + 1), 0))
    assert isinstance(promised, Promised)
    (applied,) = world.answers(index, Accept(1, row, under(ballot(stamp + 1)), b"", 0))
    assert isinstance(applied, Applied)


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


def test_an_acceptor_that_turns_out_to_be_another_store_owes_nothing_any_more() -> None:
    world = RegisterWorld()
    left_unlearned(world, "k")
    home, partition = world.home("k"), row_partition(world.row("k", "cas"))
    acceptors = world.node(home).registers.acceptors
    assert acceptors.unfinished(partition, 7)
    with patch.object(acceptors, "accepts", lambda: bytes(16)):  # as once others say that it is a copy
        world.run(0.1)
        assert state(world, world.home("k"), "k") is None
        assert not acceptors.unfinished(partition, 7)
        assert acceptors.count == 0


def test_what_an_earlier_tenure_has_accepted_is_not_learned() -> None:
    world = RegisterWorld()
    home, row = world.home("k"), world.row("k", "cas")
    left = left_unlearned(world, "k")
    before = world.stored(home, "k", "cas")
    come_again(world, home, "k")
    assert world.answers(home, Learn([row], [left])) == []
    assert world.stored(home, "k", "cas") == before


def test_while_its_engine_takes_no_writes_an_acceptor_learns_nothing() -> None:
    world = RegisterWorld()
    home, row = world.home("k"), world.row("k", "cas")
    left = left_unlearned(world, "k")
    node = world.node(home)
    node.group_commit.stalled = True
    node.registers.acceptors.learn(
        node.me, node.peers.all[node.me].outbox, Learn([row], [left]), world.now(home)
    )
    assert not node.group_commit.rows
    node.group_commit.stalled = False
    node.registers.acceptors.learn(
        node.me, node.peers.all[node.me].outbox, Learn([row], [left]), world.now(home)
    )
    assert keyspace.record(row) in node.group_commit.rows


def test_under_interval_what_must_be_sure_waits_for_all_that_is_stored_if_no_key_is_named() -> None:
    world = RegisterWorld(durability="interval")
    node = world.node(0)
    outbox = node.peers.all[node.me].outbox
    node.group_commit.stage(b"other", b"1")
    node.group_commit.commit()
    outbox.take()
    node.group_commit.reply(outbox, Peek(1, b"row", 0))
    assert len(outbox.take()) == 1, "what need not be sure leaves"
    node.group_commit.reply(outbox, Peek(2, b"row", 0), surely=True)
    node.group_commit.commit()
    assert outbox.take() == []
    node.group_commit.durable(node.group_commit.sequence)
    assert [message for message in outbox.take() if isinstance(message, Peek)] == [Peek(2, b"row", 0)]


def test_what_is_accepted_and_deleted_and_purged_since_does_not_come_back_with_a_restart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(acceptors, "SWEEP_S", 1e9)  # what was accepted stays stored longer than the record
    world = RegisterWorld(reconcile=True)
    home = world.home("k")
    third = next(at for at in range(3) if at != home)
    world.put_register(home, "k", "old")
    world.settle()
    world.lose = lambda sent: sent.target == third and isinstance(sent.message, Accept | Prepare | Learn)
    world.done(world.remove(home, "k"))
    world.lose = lambda sent: False
    key = keyspace.record(world.row("k", "cas"))
    world.until(lambda: all(world.node(at).group_commit.get(key) is None for at in range(3)), 90)
    world.restart(third)
    assert world.node(third).registers.acceptors.count == 0
    world.run(8)
    assert {world.found_at(at, "k") for at in range(3)} == {None}
    assert world.put_register(third, "k", "new", IF_ABSENT).outcome == OUTCOME_STORED


def test_a_scan_that_came_while_a_sync_was_under_way_is_answered_when_it_has_ended() -> None:
    world = RegisterWorld(2, replication=2)
    world.put_register(0, "a", "A")
    world.settle()
    world.freeze(1)
    call = world.set(0, "p", "plain")  # node 1 has something that is not durable yet
    world.settle()
    scan = world.scan(0, bucket="cas")
    world.settle()
    assert not scan.done
    world.thaw(1)
    node = world.node(1)
    world.engines[1].sync()
    node.durable(node.group_commit.sequence, world.now(1))
    world.settle()
    assert call.done
    assert scan.done, "the answer of node 1 waits for a batch that is never committed"
