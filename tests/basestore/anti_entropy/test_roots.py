"""Many partitions compared by one message: what is concluded where nothing differs, and what is left to
exchanges of their own.

Covers `anti_entropy/roots.py`, and with it the rounds of `scheduler.py`.
"""

from collections.abc import Callable
from unittest.mock import patch

import pytest

from basestore.anti_entropy import roots
from basestore.anti_entropy.roots import REST_S, SILENCE_S_MAX
from basestore.consistency import Level
from basestore.protocol.anti_entropy import Entries, Roots, Same, SameRoots, Syn
from basestore.protocol.codec import Message
from basestore.protocol.limits import ProtocolError
from basestore.protocol.replication import DIRECT, Apply, Rejected
from basestore.repair.certificate import Certificate
from basestore.repair.version import Record
from tests.worlds.exchanges import WORDS, check_summaries, kinds, write
from tests.worlds.world import Sent, World, travel

PARTITIONS = 6


def proven(count: int = 2) -> World:
    """Nodes that hold some partitions, and a certificate of each with each other."""
    world = World(count, partitions=PARTITIONS, drift_ms_max=200, hint_bytes_max=0)
    write(world, 30, "key")
    for one in range(count):
        for other in range(one):
            for partition in range(PARTITIONS):
                world.node(one).scheduler.wish(other, partition)
            world.run(0.3)
    world.log.clear()
    return world


def name(world: World, opener: int = 0, other: int = 1) -> None:
    """A node is to compare all partitions with another, as in a round."""
    world.node(opener).exchanges.roots.ask(other, list(range(PARTITIONS)), PARTITIONS)


def compare(world: World, opener: int = 0, other: int = 1) -> list[Message]:
    """It does, whether they are at rest or not; what was said."""
    world.log.clear()
    name(world, opener, other)
    with patch.object(roots, "REST_S", 0.0):
        world.run(0.3)
    return said(world)


def said(world: World) -> list[Message]:
    return [sent.message for sent in world.log if isinstance(sent.message, WORDS)]


def certificates(world: World, index: int, other: int) -> list[Certificate | None]:
    return [world.node(index).certificates.certificate(each, other) for each in range(PARTITIONS)]


def mismatches(world: World) -> int:
    return sum(node.metrics.counts["mismatches"] for node in world.running)


def check_equal(world: World) -> None:
    """All nodes hold the same, and their sums fit."""
    assert not mismatches(world)
    for index, node in enumerate(world.running):
        check_summaries(world, index)
        for partition, summary in node.summaries.of.items():
            assert summary.root == world.node(0).summaries.of[partition].root


def key_in(world: World, partition: int) -> str:
    return next(key for key in map(str, range(1000)) if int.from_bytes(world.row(key)[:2]) == partition)


def test_while_a_disk_does_not_keep_up_what_a_peer_has_asked_waits_and_holds_up_no_step() -> None:
    world = proven()
    disk = world.node(1).group_commit
    with patch.object(disk, "note_stuck"):  # no sync of its own says otherwise
        disk.stuck_s = 5.0
        disk.weigh()
        assert kinds(compare(world)) == [Roots]
        disk.stuck_s = 0.0
        disk.weigh()
        world.run(0.3)
    assert kinds(said(world)) == [Roots, SameRoots]
    for partition in range(PARTITIONS):  # what has been said since was not so yet when they were named
        last = world.node(1).certificates.last_exchange(partition, 0)
        assert last is not None
        assert world.monotonic - last.begun_s > 0.5


# --- what is concluded ---------------------------------------------------------------------------


@pytest.mark.parametrize("opener", [0, 1])
def test_all_that_are_the_same_are_proven_by_two_messages(opener: int) -> None:
    world = proven()
    write(world, 40, "more")
    world.run(4)
    assert kinds(compare(world, opener, 1 - opener)) == [Roots, SameRoots]
    for index in (0, 1):
        node = world.node(index)
        for partition, held in enumerate(certificates(world, index, 1 - index)):
            summary = node.summaries.of[partition]
            assert held is not None
            assert held.mine == summary.sequence
            assert held.theirs == world.node(1 - index).summaries.of[partition].sequence
            assert held.my_closed == summary.closed
            last = node.certificates.last_exchange(partition, 1 - index)
            assert last is not None
            assert last.peer_whole
            assert world.monotonic - last.begun_s < 0.5
    assert world.node(0).metrics.counts["exchanges_same"] >= PARTITIONS


def test_what_is_concluded_is_what_exchanges_of_their_own_conclude() -> None:
    def one_by_one(world: World, opener: int, other: int) -> None:
        for partition in range(PARTITIONS):
            world.node(opener).scheduler.wish(other, partition)
        world.run(0.3)

    def outcome(way: Callable[[World, int, int], object]) -> object:
        world = proven(3)
        for number in range(4):
            world.run(1.5)
            for opener, other in ((0, 1), (2, 0), (1, 2)):
                way(world, opener, other)
                world.put(number % 3, f"{number}{opener}", "v", Level.ALL)
        world.run(1)
        return [
            (
                node.certificates.certificates(partition), node.certificates.held_back_by(partition),
                summary.sequence, summary.closed, summary.stable, summary.shown, summary.kept,
                node.metrics.counts["exchanges_same"],
            )
            for node in world.running
            for partition, summary in node.summaries.of.items()
        ]  # fmt: skip

    assert outcome(compare) == outcome(one_by_one)


def test_what_is_concluded_is_there_after_a_power_cut() -> None:
    world = proven()
    world.run(4)
    compare(world)
    before = [certificates(world, index, 1 - index) for index in (0, 1)]
    closed = [[summary.closed for summary in node.summaries.of.values()] for node in world.running]
    for index in (0, 1):
        world.restart(index)
    world.run(0.5)
    assert [certificates(world, index, 1 - index) for index in (0, 1)] == before
    after = [[summary.closed for summary in node.summaries.of.values()] for node in world.running]
    assert after == closed


def test_stable_stamps_advance_and_what_is_deleted_is_purged() -> None:
    world = World(3, partitions=PARTITIONS, drift_ms_max=200, hint_bytes_max=0, reconcile=True)
    for number in range(30):
        world.put(0, f"key {number}", "v", Level.ALL)
        world.delete(1, f"key {number}", Level.ALL)
    world.run(14)
    assert [summary.count for node in world.running for summary in node.summaries.of.values()] == [0] * 18
    assert world.sent(Roots)
    check_equal(world)


# --- what is not ---------------------------------------------------------------------------------


@pytest.mark.parametrize("missed_by", [0, 1])
def test_what_differs_is_compared_by_exchanges_of_its_own_at_once(missed_by: int) -> None:
    world = proven()
    lacking = (2, 4)
    world.part(0, 1)
    for partition in lacking:
        world.set(1 - missed_by, key_in(world, partition), "value", Level.ONE)
    world.settle()
    world.run(1.2)
    world.join(0, 1)
    world.run(0.6)
    talked = compare(world)
    assert {each.partition for each in talked if isinstance(each, Syn)} == set(lacking)
    (answer,) = [each for each in talked if isinstance(each, SameRoots)]
    assert answer.places == [place for place in range(PARTITIONS) if place not in lacking]
    assert sum(len(each.rows) // 3 for each in talked if isinstance(each, Entries)) == 2
    check_equal(world)
    assert kinds(compare(world)) == [Roots, SameRoots]


def test_only_so_many_exchanges_of_their_own_are_opened_in_a_round() -> None:
    world = proven()
    for partition in range(PARTITIONS):
        world.plant(0, key_in(world, partition), "v", world.stamp())
    world.log.clear()
    world.node(0).exchanges.roots.ask(1, [3, 1, 0, 2, 5, 4], 2)
    world.run(0.3)
    assert [each.partition for each in said(world) if isinstance(each, Syn)] == [3, 1]


def test_what_the_other_side_is_comparing_just_now_is_not_the_same() -> None:
    world = proven(3)
    world.hold(2, 1)
    world.node(1).scheduler.wish(2, 3)
    world.run(0.1)
    (answer,) = [each for each in compare(world) if isinstance(each, SameRoots)]
    assert answer.places == [0, 1, 2, 4, 5]
    world.release(2, 1)
    world.run(1)
    assert kinds(compare(world)) == [Roots, SameRoots]


@pytest.mark.parametrize("index", [0, 1])
def test_what_is_to_be_scrubbed_first_is_not_proven(index: int) -> None:
    world = proven()
    before = certificates(world, 1 - index, index)[2]
    with patch.object(world.node(index).maintenance, "work", lambda *_: None):
        world.node(index).maintenance.suspect(2)
        compare(world)
    assert certificates(world, 1 - index, index)[2] is before


def test_a_proof_that_was_withdrawn_meanwhile_stays_withdrawn() -> None:
    world = proven()
    world.hold(1, 0)
    name(world)
    world.run(0.1)
    world.node(0).certificates.withdraw(3, 1)
    world.release(1, 0)
    world.run(0.3)
    assert [held is None for held in certificates(world, 0, 1)] == [each == 3 for each in range(PARTITIONS)]


def test_a_proof_that_was_made_meanwhile_is_not_replaced_by_an_older_one() -> None:
    world = proven()
    world.hold(1, 0)
    name(world)
    world.run(0.1)
    held = world.node(0).certificates.certificate(3, 1)
    assert held is not None
    newer = held._replace(mine=held.mine + 5)
    world.node(0).certificates.certify(3, 1, newer)
    world.release(1, 0)
    world.run(0.3)
    assert world.node(0).certificates.certificate(3, 1) is newer


def test_a_write_behind_the_snapshot_is_not_covered_and_one_below_what_was_closed_is_refused() -> None:
    world = proven()
    world.run(4)
    late = Record.seal(world.digester, world.row("late"), world.stamp(-3900), b"v")
    partition = int.from_bytes(world.row("late")[:2])
    world.hold(1, 0)
    name(world)
    world.run(0.1)
    answers: list[Sent] = []
    world.listeners.append(answers.append)
    apply = Apply(1 << 40, world.row("late"), late.blob, DIRECT, 0)
    world.node(0).receive(1, world.links[0, 1], [apply], world.now(0))
    world.plant(0, key_in(world, 4), "v", world.stamp())
    world.release(1, 0)
    world.run(0.3)
    assert world.stored(0, "late") is None
    assert [each.message for each in world.sent(Rejected, 0)]
    held = world.node(0).certificates.certificate(4, 1)
    assert held is not None
    assert held.mine == world.node(0).summaries.of[4].sequence - 1
    assert late.stamp <= world.node(0).summaries.of[partition].closed
    world.node(1).scheduler.wish(0, 4)
    world.run(0.3)
    check_equal(world)


def test_stores_that_are_not_agreed_on_prove_nothing() -> None:
    world = proven()
    before = certificates(world, 1, 0)
    store = world.node(1).identity.store
    with patch.object(world.node(0).certificates, "stores", lambda member: store + bytes(16)):
        name(world)
        world.run(0.02)
        world.turn()
        assert [each.places for each in said(world) if isinstance(each, SameRoots)] in ([[]], [])
    assert certificates(world, 1, 0) == before


def test_a_store_that_was_replaced_meanwhile_proves_nothing() -> None:
    world = proven()
    world.hold(1, 0)
    name(world)
    world.run(0.1)
    node = world.node(0)
    with patch.object(node.certificates, "stores", lambda member: bytes(32)):
        world.release(1, 0)
        world.turn()
        world.turn()
    world.run(0.3)
    last = node.certificates.last_exchange(2, 1)
    assert last is not None
    assert last.begun_s < world.monotonic - 0.4


@pytest.mark.parametrize("side", [0, 1])
def test_a_store_that_is_not_whole_names_nothing_and_is_told_nothing(side: int) -> None:
    world = proven()
    before = [certificates(world, index, 1 - index) for index in (0, 1)]
    with patch.object(type(world.node(side).identity), "counts", property(lambda self: self is not doubted)):
        doubted = world.node(side).identity
        talked = compare(world)
    assert [each.places for each in talked if isinstance(each, SameRoots)] == [[]] * side
    assert Roots in kinds(talked) or not side
    after = [certificates(world, index, 1 - index) for index in (0, 1)]
    for old, new in zip(before, after, strict=True):
        assert old == new or side  # what came of exchanges of their own is their affair


def test_more_than_was_ever_held_is_no_proof_but_a_sign_of_loss() -> None:
    world = World(3, partitions=4, drift_ms_max=200, reconcile=True)
    world.put(0, "key", "value")
    world.run(6)
    copy = world.copy_store(2)
    for number in range(5):
        world.put(0, f"lost {number}", "value")
    for node in (world.node(0), world.node(1)):
        node.identity.hear_sequence = lambda *_: None  # type: ignore[method-assign]
    world.run(4)
    assert world.sent(Roots)
    world.restore(2, copy)
    world.start(2)
    world.run(8)
    assert world.node(2).state == "up"
    assert [world.stored(2, f"lost {number}") is not None for number in range(5)] == [True] * 5
    check_equal(world)


@pytest.mark.parametrize("field", ["stable", "closed"])
@pytest.mark.parametrize("kind", [Roots, SameRoots])
def test_a_stamp_of_the_future_is_not_believed(field: str, kind: type[Message]) -> None:
    world = proven()
    index = 0 if kind is SameRoots else 1
    before = certificates(world, index, 1 - index)
    node, receive = world.node(index), world.node(index).receive

    def alter(member: int, outbox: object, messages: list[Message], now: object) -> object:
        changed = [m._replace(**{field: [1 << 63]}) if type(m) is kind else m for m in messages]
        return receive(member, outbox, changed, now)  # type: ignore[arg-type]

    node.receive = alter  # type: ignore[method-assign, assignment]
    world.node(0).exchanges.roots.ask(1, range(PARTITIONS), 0)
    world.run(0.3)
    assert world.sent(kind)
    assert certificates(world, index, 1 - index) == before
    assert all(summary.stable < 1 << 63 for summary in node.summaries.of.values())


def test_what_is_not_held_by_both_may_not_be_named() -> None:
    world = proven()
    named = Roots(1, b"s" * 4, [PARTITIONS], bytes(16), [0], [0], [0], [0], [0], [])
    with pytest.raises(ProtocolError):
        world.node(1).receive(0, world.links[1, 0], [named], world.now(1))


def test_an_answer_about_more_than_was_named_is_refused() -> None:
    world = proven()
    world.hold(1, 0)
    name(world)
    world.run(0.1)
    (asked,) = [each for each in said(world) if isinstance(each, Roots)]
    answer = SameRoots(asked.number, [PARTITIONS], [0], [0], [0], [0], [])
    with pytest.raises(ProtocolError):
        world.node(0).receive(1, world.links[0, 1], [answer], world.now(0))


# --- purge ---------------------------------------------------------------------------------------


def test_what_only_one_side_has_purged_yet_is_no_difference() -> None:
    world = World(2, partitions=PARTITIONS, drift_ms_max=200, hint_bytes_max=0)
    write(world, 20, "key")
    for number in range(20):
        world.delete(0, f"key {number}", Level.ALL)
    world.settle()
    for partition in range(PARTITIONS):
        world.node(0).scheduler.wish(1, partition)
    world.run(0.3)
    # private: one side lags behind
    with patch.object(world.node(1).maintenance, "_purge", lambda *_: None):
        for _ in range(6):
            world.run(1)
            compare(world, 1, 0)
            compare(world, 0, 1)
    assert world.node(0).summaries.of[0].count == 0
    world.run(1)
    compare(world)
    assert kinds(compare(world)) == [Roots, SameRoots]
    assert [summary.count for node in world.running for summary in node.summaries.of.values()] == [0] * 12
    check_equal(world)


def test_what_is_known_not_to_be_due_is_not_looked_for() -> None:
    world = proven()
    for number in range(10):
        world.set(0, f"short {number}", "v", Level.ALL, ttl_s=9.0)
    world.settle()
    scans = 0
    node = world.node(0)
    due = node.summaries.due

    def counted(partition: int, upto: int, most: int) -> list[tuple[int, bytes]]:
        nonlocal scans
        scans += 1
        return due(partition, upto, most)

    node.summaries.due = counted  # type: ignore[method-assign]
    for _ in range(30):
        world.run(0.4)
        compare(world)
    early = scans
    assert early <= 4 * PARTITIONS
    for _ in range(30):
        world.run(0.4)
        compare(world)
    assert [node.summaries.of[each].count for each in range(PARTITIONS)] == [
        world.node(1).summaries.of[each].count for each in range(PARTITIONS)
    ]
    assert sum(summary.count for summary in node.summaries.of.values()) == 30
    check_equal(world)


# --- durability, and what gets lost -------------------------------------------------------------


def test_nothing_is_named_that_is_not_durable() -> None:
    world = proven()
    world.freeze(0)
    world.set(0, "unsynced", "value", Level.ONE)
    compare(world)
    assert not world.sent(Roots)
    world.thaw(0)
    world.run(0.3)
    assert world.sent(SameRoots)


def test_nothing_is_said_to_be_the_same_that_is_not_durable() -> None:
    world = proven()
    world.freeze(1)
    compare(world)
    assert world.sent(Roots)
    assert not world.sent(SameRoots)
    world.thaw(1)
    world.run(0.3)
    assert world.sent(SameRoots)


@pytest.mark.parametrize("kind", [Roots, SameRoots])
def test_a_message_that_is_lost_does_no_harm_and_is_not_waited_for_for_ever(kind: type[Message]) -> None:
    world = proven()
    world.lose = lambda sent: isinstance(sent.message, kind)
    compare(world)
    world.lose = lambda _: False
    assert Roots not in kinds(compare(world))  # an answer is awaited
    world.run(SILENCE_S_MAX + 1)
    assert not world.node(0).exchanges.roots.named
    assert kinds(compare(world)) == [Roots, SameRoots]
    check_equal(world)


@pytest.mark.parametrize("kind", [Roots, SameRoots])
def test_a_message_that_comes_twice_does_no_harm(kind: type[Message]) -> None:
    world = proven()
    compare(world)
    (again,) = [sent for sent in world.log if isinstance(sent.message, kind)]
    node, link = world.node(again.target), world.links[again.target, again.source]
    world.plant(again.target, "since", "v", world.stamp())
    before = certificates(world, again.target, again.source)
    node.receive(again.source, link, [again.message], world.now(again.target))
    world.run(0.3)
    partition = int.from_bytes(world.row("since")[:2])
    after = certificates(world, again.target, again.source)
    assert after[partition] == before[partition]
    world.node(0).scheduler.wish(1, partition)
    world.run(0.3)
    check_equal(world)


@pytest.mark.parametrize("index", [0, 1])
def test_a_crash_in_the_middle_does_no_harm(index: int) -> None:
    for turns in range(1, 9):
        world = proven()
        world.plant(0, "alone", "v", world.stamp())
        name(world)
        world.monotonic += 0.05
        world.node(0).tick(world.now(0))
        for _ in range(turns):
            world.turn()
        world.restart(index)
        world.run(1)
        compare(world, 1, 0)
        compare(world)
        assert kinds(compare(world)) == [Roots, SameRoots]
        assert world.values("alone") == [b"v", b"v"]
        check_equal(world)


def test_both_may_name_the_same_to_each_other_at_once() -> None:
    world = proven()
    world.run(4)
    name(world, 0, 1)
    name(world, 1, 0)
    world.run(0.3)
    assert len(world.sent(SameRoots)) == 2
    for partition in range(PARTITIONS):
        ours, theirs = certificates(world, 0, 1)[partition], certificates(world, 1, 0)[partition]
        assert ours is not None
        assert theirs is not None
        assert (ours.mine, ours.theirs) == (theirs.theirs, theirs.mine)
    assert kinds(compare(world)) == [Roots, SameRoots]


def test_three_in_a_ring_do_not_wait_for_each_other() -> None:
    world = proven(3)
    for opener in range(3):
        name(world, opener, (opener + 1) % 3)
    world.run(0.3)
    answers = [each.message for each in world.sent(SameRoots)]
    assert [each.places for each in answers if isinstance(each, SameRoots)] == [[0, 1, 2, 3, 4, 5]] * 3
    assert not world.sent(Syn)


# --- rounds --------------------------------------------------------------------------------------


def test_what_is_at_rest_is_compared_every_few_seconds_and_what_has_changed_in_every_round() -> None:
    world = World(2, partitions=PARTITIONS, drift_ms_max=200, reconcile=True)
    write(world, 30, "key")
    world.run(12)
    world.log.clear()
    world.run(10 * REST_S)
    assert 6 <= len(world.sent(Roots)) <= 10
    assert not world.sent(Syn)
    before = len(world.sent(Roots))
    for number in range(30):
        world.put(0, f"key {number % 7}", f"{number}")
        world.run(0.2)
    assert len(world.sent(Roots)) - before >= 5


@pytest.mark.parametrize("hot", [24, 64])
def test_under_load_what_is_at_rest_has_its_turn_however_much_changes(hot: int) -> None:
    partitions = 64
    world = World(2, partitions=partitions, drift_ms_max=200, hint_bytes_max=0, reconcile=True)
    keys = {int.from_bytes(world.row(f"k{number}")[:2]): f"k{number}" for number in range(2000)}
    world.run(15)
    for tick in range(400):
        for number in (0, 1):
            world.set(number, keys[(2 * tick + number) % hot], "v")
        world.run(0.05)
    now_ms = world.now(0).wall_ms
    ages_s = [
        (now_ms - certificate.made_ms) / 1e3
        for partition in range(partitions)
        if (certificate := world.node(0).certificates.certificate(partition, 1)) is not None
    ]
    assert len(ages_s) == partitions
    assert max(ages_s) < 10


def test_an_answer_that_says_stamps_of_nothing_is_refused() -> None:
    world = proven()
    with pytest.raises(ProtocolError, match="different lengths"):
        travel([SameRoots(1, [], [], [1, 2], [], [], [])])
    answer = SameRoots(1, [], [], [1], [], [], [])
    assert world.node(0).receive(1, world.links[0, 1], travel([answer]), world.now(0)) is None


def test_one_partition_alone_is_compared_by_an_exchange_of_its_own() -> None:
    world = proven()
    world.node(0).exchanges.roots.ask(1, [4], 1)
    world.run(0.3)
    assert kinds(said(world)) == [Syn, Same]
