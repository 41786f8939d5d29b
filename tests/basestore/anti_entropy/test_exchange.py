"""Exchanges between real nodes, message by message: what they say, and what each kind of trouble ends in.

Covers `anti_entropy/exchange.py`, `exchanges.py`, `comparison.py` and `dialogue.py`.
"""

import pytest

from basestore.anti_entropy.exchanges import SILENCE_S_MAX
from basestore.consistency import Level
from basestore.errors import StorageBusy
from basestore.protocol.anti_entropy import Abort, Certify, Entries, Listing, Same, Sums, Syn, Want
from basestore.protocol.codec import Message, encode
from basestore.replica.apply_log import stored_summary
from basestore.replica.summary_log import CHECKPOINT_AT_BYTES
from basestore.storage.engine import Batch
from basestore.storage.keyspace import NODE, SUMMARY
from tests.worlds.exchanges import WORDS, begin, check_summaries, kinds, talk, two, write
from tests.worlds.stalling import Stalling
from tests.worlds.world import Sent, World


def bytes_of(said: list[Message]) -> int:
    """Metadata: all but entries, each in a frame of its own."""
    return sum(len(encode([message])) for message in said if not isinstance(message, Entries))


def test_two_that_hold_the_same_say_so_in_two_messages_and_80_bytes() -> None:
    world = two()
    write(world, 50, "key")
    talk(world)
    said = talk(world)
    assert kinds(said) == [Syn, Same]
    assert bytes_of(said) <= 80
    for index in (0, 1):
        held = world.node(index).certificates.certificate(0, 1 - index)
        assert held is not None
        assert held.mine == held.theirs == 50


@pytest.mark.parametrize("opener", [0, 1])
@pytest.mark.parametrize("missed_by", [0, 1])
def test_an_outage_is_one_run_whatever_its_length(opener: int, missed_by: int) -> None:
    world = two()
    write(world, 20, "before")
    talk(world)
    write(world, 300, "meanwhile", missed_by=missed_by)
    said = talk(world, opener)
    assert {Listing, Want, Entries, Certify} <= set(kinds(said))
    assert Sums not in kinds(said)
    assert bytes_of(said) <= 200
    brought = [blob for message in said if isinstance(message, Entries) for blob in message.rows[1::3]]
    assert len(brought) == 300
    assert world.node(missed_by).summaries.of[0].count == 320
    assert kinds(talk(world, 1 - opener)) == [Syn, Same]


def test_without_a_certificate_only_the_leaves_that_differ_are_listed() -> None:
    world = two()
    write(world, 200, "both")
    write(world, 1, "one", missed_by=1)
    said = talk(world)
    assert kinds(said)[:3] == [Syn, Sums, Sums]
    listings = [message for message in said if isinstance(message, Listing)]
    assert len(listings) == 1
    assert len(listings[0].leaves) == 2
    assert sum(len(message.rows) // 3 for message in said if isinstance(message, Entries)) == 1
    assert world.node(1).metrics.counts["exchanges_full"] == 1


def test_a_side_that_holds_nothing_is_sent_everything_without_a_list() -> None:
    world = two()
    write(world, 40, "key", missed_by=1)
    said = talk(world, 1)
    assert Sums not in kinds(said)
    assert world.node(1).summaries.of[0].count == 40


def test_both_sides_bring_what_the_other_lacks_and_of_one_row_the_winner() -> None:
    world = two()
    write(world, 5, "both")
    talk(world)
    world.part(0, 1)
    for index in (0, 1):
        world.set(index, f"of {index}", "value", Level.ONE)
        world.set(index, "contested", f"of {index}", Level.ONE)
        world.settle()
    world.run(1.2)
    world.join(0, 1)
    world.run(0.6)
    talk(world)
    assert world.values("of 0") == world.values("of 1") == [b"value", b"value"]
    assert world.values("contested") == [b"of 1", b"of 1"]
    for index in (0, 1):
        check_summaries(world, index)
    assert not any(node.metrics.counts["mismatches"] for node in world.running)


def test_what_is_written_while_an_exchange_is_open_is_no_false_alarm() -> None:
    world = two()
    write(world, 30, "key")
    talk(world)
    write(world, 30, "key", missed_by=1)
    world.node(0).scheduler.wish(1, 0)
    for number in range(30):
        world.set(number % 2, f"key {number}", "newer", Level.ONE)
        world.set(0, f"other {number}", "value", Level.ONE)
        world.monotonic += 0.05
        for index in (0, 1):
            world.node(index).tick(world.now(index))
            world.turn()
    world.settle()
    world.run(1)
    talk(world)
    assert not any(node.metrics.counts["mismatches"] for node in world.running)
    assert world.node(0).summaries.of[0].root == world.node(1).summaries.of[0].root
    for index in (0, 1):
        check_summaries(world, index)


@pytest.mark.parametrize("lost", range(1, 7))
def test_an_exchange_of_which_a_message_is_lost_does_no_harm(lost: int) -> None:
    world = two()
    write(world, 20, "before")
    talk(world)
    write(world, 100, "meanwhile", missed_by=1)
    count = 0

    def lose(sent: Sent) -> bool:
        nonlocal count
        count += isinstance(sent.message, WORDS)
        return isinstance(sent.message, WORDS) and count == lost

    world.lose = lose
    talk(world)
    assert count >= lost
    world.lose = lambda _: False
    world.run(16)
    assert not any(node.exchanges.count for node in world.running)
    talk(world)
    assert kinds(talk(world)) == [Syn, Same]
    assert world.node(1).summaries.of[0].count == 120
    assert not any(node.metrics.counts["mismatches"] for node in world.running)


@pytest.mark.parametrize("index", [0, 1])
def test_a_crash_in_the_middle_of_an_exchange_does_no_harm(index: int) -> None:
    for turns in range(1, 14, 2):
        world = two()
        write(world, 10, "before")
        talk(world)
        write(world, 50, "meanwhile", missed_by=1)
        begin(world, turns)
        world.restart(index)
        world.run(1)
        check_summaries(world, index)
        talk(world, 1)
        assert kinds(talk(world)) == [Syn, Same]
        assert world.node(1).summaries.of[0].count == 60


def test_nothing_is_said_of_what_is_not_durable() -> None:
    world = two()
    write(world, 5, "key")
    talk(world)
    world.freeze(0)
    world.set(0, "unsynced", "value", Level.ONE)
    world.settle()
    world.log.clear()
    world.node(0).scheduler.wish(1, 0)
    world.run(0.3)
    assert not world.sent(Syn)
    world.thaw(0)
    world.run(0.3)
    assert world.sent(Syn)


def test_a_record_that_vanished_from_the_disk_is_noticed_by_a_scrub_and_brought_back() -> None:
    world = two()
    write(world, 50, "key")
    talk(world)
    row = world.row("key 7")
    engine = world.engines[1]
    engine.apply({b"r" + row: None})
    engine.sync()
    world.node(1).replica.marks.clear()
    assert kinds(talk(world)) == [Syn, Same]  # the sums still say what was stored
    world.node(1).maintenance.examine(0)
    world.run(0.5)
    assert world.node(1).metrics.counts["leaves_corrected"] == 1
    assert Sums in kinds(talk(world))
    assert world.values("key 7") == [b"value", b"value"]
    assert kinds(talk(world)) == [Syn, Same]


def test_a_sum_gone_wrong_is_an_alarm_that_leads_to_a_scrub_and_then_to_the_truth() -> None:
    world = two()
    write(world, 50, "key")
    talk(world)
    summary = world.node(1).summaries.of[0]
    summary.root, summary.leaves[9] = summary.root + 12345, summary.leaves.get(9, 0) + 12345
    talk(world)
    assert [node.metrics.counts["mismatches"] for node in world.running] == [1, 1]
    world.run(0.5)
    assert world.node(1).metrics.counts["leaves_corrected"] == 1
    talk(world)
    assert kinds(talk(world)) == [Syn, Same]
    assert [node.metrics.counts["mismatches"] for node in world.running] == [1, 1]


def test_a_spoilt_record_is_found_by_a_scrub_healed_and_compared_again() -> None:
    world = World(3, partitions=1, reconcile=True)
    for number in range(30):
        world.set(0, f"key {number}", "value")
    world.settle()
    world.run(3)
    world.spoil(1, "key 3")
    world.node(1).maintenance.examine(0)
    world.run(12)
    assert world.values("key 3") == [b"value"] * 3
    assert world.node(1).metrics.counts["records_healed"] == 1
    assert not world.node(1).replica.damaged
    before = world.node(1).summaries.of[0].stable
    world.run(10)
    assert world.node(1).summaries.of[0].stable > before
    check_summaries(world, 1)
    assert not any(node.metrics.counts["mismatches"] for node in world.running)


def test_every_partition_is_scrubbed_within_a_week() -> None:
    world = World(2, partitions=3, reconcile=True)
    world.set(0, "key", "value")
    world.run(2)
    assert not world.node(0).metrics.counts["partitions_scrubbed"]
    for index in (0, 1):
        world.skew_ms[index] += 8 * 24 * 3600 * 1000
    world.run(3)
    assert world.node(0).metrics.counts["partitions_scrubbed"] == 3
    world.restart(0)
    world.run(3)
    assert not world.node(0).metrics.counts["partitions_scrubbed"]


def test_a_store_without_other_replicas_purges_what_it_has_closed() -> None:
    world = World(1, partitions=1, drift_ms_max=200)
    world.set(0, "key", "value", Level.ONE)
    world.delete(0, "key", Level.ONE)
    world.settle()
    assert world.node(0).summaries.of[0].count == 1
    world.run(4)
    assert world.node(0).summaries.of[0].count == 0


def recovered(world: World, index: int) -> None:
    world.run(3)
    assert world.node(index).state == "up"


def test_a_restored_backup_drops_what_the_others_have_purged() -> None:
    world = World(3, partitions=1, drift_ms_max=200, reconcile=True)
    for number in range(20):
        world.set(0, f"key {number}", "value")
    world.settle()
    copy = world.copy_store(2)
    for number in range(10):
        world.delete(0, f"key {number}")
    world.set(0, "key 15", "newer")
    world.run(6)
    assert world.stored(0, "key 3") is None
    world.restore(2, copy)
    assert world.stored(2, "key 3") is not None
    world.start(2)
    recovered(world, 2)
    assert [world.stored(index, "key 3") for index in range(3)] == [None] * 3
    assert world.values("key 15") == [b"newer"] * 3
    assert world.node(2).metrics.counts["records_dropped"] == 10
    assert not any(node.metrics.counts["mismatches"] for node in world.running)


def test_a_backup_of_a_store_that_was_given_up_brings_nothing_of_its_own() -> None:
    world = World(3, partitions=1, drift_ms_max=200, hint_bytes_max=0, reconcile=True)
    world.set(0, "both", "value")
    world.settle()
    world.part(0, 2)
    world.part(1, 2)
    world.set(2, "of the old store alone", "value", Level.ONE)
    world.run(1.2)
    copy = world.copy_store(2)
    world.wipe(2)
    world.cut.clear()
    world.start(2)
    recovered(world, 2)
    world.run(4)
    world.restore(2, copy)
    world.start(2)
    recovered(world, 2)
    assert world.node(2).metrics.counts["records_dropped"] == 2  # it begins with nothing
    assert [world.stored(index, "of the old store alone") for index in range(3)] == [None] * 3
    assert world.values("both") == [b"value"] * 3


def test_a_store_that_peers_have_proof_of_having_held_more_starts_over() -> None:
    world = World(3, partitions=1, drift_ms_max=200, reconcile=True)
    world.put(0, "key", "value")
    world.run(3)
    copy = world.copy_store(2)
    world.log.clear()
    for number in range(5):
        world.put(0, f"lost {number}", "value")
    for index in (0, 1):  # certified with the others, and they have heard no later sequence of the store
        world.node(index).scheduler.wish(2, 0)
    for node in (world.node(0), world.node(1)):
        node.identity.hear_sequence = lambda *_: None  # type: ignore[method-assign]
    world.run(1)
    world.restore(2, copy)
    world.start(2)
    world.run(6)
    assert world.node(2).state == "up"
    assert [world.stored(2, f"lost {number}") is not None for number in range(5)] == [True] * 5
    assert not any(node.metrics.counts["mismatches"] for node in world.running)


def test_two_restored_backups_bring_nothing_back_between_them() -> None:
    world = World(3, partitions=1, drift_ms_max=200, reconcile=True)
    world.put(0, "key", "value")
    world.run(1)
    copies = [world.copy_store(index) for index in (0, 1)]
    world.delete(2, "key")
    world.run(8)
    assert [world.stored(index, "key") for index in range(3)] == [None] * 3
    for index in (0, 1):
        world.restore(index, copies[index])
    for index in (0, 1):
        world.start(index)
    world.run(12)
    assert [node.state for node in world.running] == ["up"] * 3
    assert [world.stored(index, "key") for index in range(3)] == [None] * 3


def test_a_stamp_is_told_only_once_it_is_durable() -> None:
    world = two()
    write(world, 5, "key")
    talk(world)
    world.run(7)
    world.freeze(0)
    world.log.clear()
    world.node(0).scheduler.wish(1, 0)
    world.run(0.3)
    assert not world.sent(Syn)
    world.thaw(0)
    world.run(0.3)
    assert world.sent(Syn)
    summary = world.node(0).summaries.of[0]
    assert summary.shown == summary.stable


def test_a_clock_that_nobody_has_agreed_with_closes_nothing() -> None:
    world = World(3, partitions=1, drift_ms_max=200, reconcile=True)
    world.put(0, "key", "value")
    world.run(3)
    world.skew_ms[0] = 3_600_000
    world.run(5)
    before = world.node(0).summaries.of[0].closed
    for other in (1, 2):
        world.unlink(0, other)
        world.link(0, other)
    world.run(5)
    assert world.node(0).summaries.of[0].closed <= before + (3000 << 16)


def test_a_clock_that_less_than_a_majority_agrees_with_closes_nothing() -> None:
    world = World(5, replication=5, partitions=1, reconcile=True)
    world.run(3)
    closed = world.node(0).summaries.of[0].closed
    world.run(5)
    assert world.node(0).summaries.of[0].closed > closed
    world.crash(3)
    world.crash(4)
    world.skew_ms[2] = 3_600_000  # so of five clocks two agree
    world.run(3)
    closed = world.node(0).summaries.of[0].closed
    world.run(5)
    assert world.node(0).summaries.of[0].closed == closed


def test_an_exchange_that_has_much_to_look_at_is_not_taken_for_silent() -> None:
    world = two()
    write(world, 20, "key")
    write(world, 3, "other", missed_by=1)
    world.node(0).scheduler.wish(1, 0)
    world.run(0.05)
    node = world.node(0)
    for _ in range(400):  # twenty seconds in which the opener has no rows to spend
        world.monotonic += 0.05
        for index in (0, 1):
            world.node(index).tick(world.now(index))
        # private: what a tick may spend is for nobody else to set
        node.scheduler._pace.spend(1 << 40)
        world.settle()
    world.run(1)
    assert world.node(1).summaries.of[0].count == 23
    assert world.node(0).metrics.counts["exchanges_aborted"] == 0


def test_what_a_scrub_has_set_right_in_a_refused_batch_is_stored_later() -> None:
    world = two()
    write(world, 50, "key")
    talk(world)
    engine = world.engines[1]
    engine.apply({b"r" + world.row("key 7"): None})
    engine.sync()
    world.node(1).replica.marks.clear()
    apply = engine.apply
    refused: list[Batch] = []

    def busy(batch: Batch) -> None:
        if not refused and any(key.startswith(b"mscrubbed/") for key in batch):
            refused.append(batch)
            raise StorageBusy("stalled")
        apply(batch)

    engine.apply = busy  # type: ignore[method-assign]
    world.node(1).maintenance.examine(0)
    world.run(1)
    assert refused
    talk(world)
    assert world.values("key 7") == [b"value", b"value"]


# --- logs that begin at a floor ------------------------------------------------------------------


def checkpoint(world: World, index: int) -> None:
    """The node's summary log gives up all that it has stored."""
    summary_log = world.node(index).summaries.summary_log
    summary_log.checkpoint_at_bytes = 0
    world.settle()
    summary_log.checkpoint_at_bytes = CHECKPOINT_AT_BYTES
    assert not summary_log.checkpointing


@pytest.mark.parametrize("lost", ["root", "node"])
def test_sums_on_the_disk_that_do_not_fit_are_set_right_by_one_scrub(lost: str) -> None:
    world = World(2, partitions=1, drift_ms_max=200, hint_bytes_max=0, reconcile=True)
    write(world, 50, "key")
    world.run(3)
    checkpoint(world, 1)
    world.stop(1)
    engine = world.engines[1]
    if lost == "root":
        summary = stored_summary(engine, b"\0\0")
        summary.root ^= 1
        engine.apply({SUMMARY + b"\0\0": summary.encode()})
    else:
        engine.apply({next(engine.scan(NODE, b"\xff"))[0]: None})
    engine.sync()
    world.start(1)
    assert world.node(1).summaries.damaged == {0}
    world.run(5)
    mismatches = [node.metrics.counts["mismatches"] for node in world.running]
    before = world.node(1).summaries.of[0].stable
    check_summaries(world, 1)
    world.run(10)
    assert [node.metrics.counts["mismatches"] for node in world.running] == mismatches
    assert world.node(1).summaries.of[0].stable > before
    world.restart(1)
    assert not world.node(1).summaries.damaged


def test_what_every_other_replica_has_is_dropped_from_the_log_and_the_rest_is_kept() -> None:
    world = World(3, partitions=1, drift_ms_max=200, hint_bytes_max=0)
    write(world, 30, "all")
    for one, other in ((0, 1), (0, 2)):
        world.node(one).scheduler.wish(other, 0)
        world.run(0.3)
    world.part(0, 2)
    for number in range(20):
        world.set(0, f"missed {number}", "value", Level.ONE)
    world.settle()
    world.run(1.2)
    for index in range(3):
        checkpoint(world, index)
        check_summaries(world, index)
    assert [world.node(index).summaries.of[0].floor for index in range(3)] == [30, 0, 0]
    assert [world.node(index).summaries.of[0].spilled for index in range(3)] == [50, 50, 30]
    assert [sequence for sequence, _ in world.node(0).summaries.summary_log.log(0, 0, 99)] == list(
        range(31, 51)
    )
    world.join(0, 2)
    world.run(0.6)
    world.log.clear()
    world.node(0).scheduler.wish(2, 0)
    world.run(0.3)
    assert not world.sent(Sums)
    said = [sent.message for sent in world.sent(Entries)]
    assert sum(len(each.rows) // 3 for each in said if isinstance(each, Entries)) == 20
    assert world.node(2).summaries.of[0].count == 50


@pytest.mark.parametrize("opener", [0, 1])
@pytest.mark.parametrize("dropped_by", [0, 1])
def test_a_base_below_the_floor_is_not_listed_from(opener: int, dropped_by: int) -> None:
    world = two()
    write(world, 20, "before")
    talk(world)
    write(world, 30, "meanwhile", missed_by=1 - dropped_by)
    world.node(dropped_by).certificates.passed = lambda partition: 35  # type: ignore[method-assign]
    checkpoint(world, dropped_by)
    assert world.node(dropped_by).summaries.of[0].floor == 35
    said = talk(world, opener)
    assert Sums in kinds(said)
    assert (said[0].mine == -1) == (opener == dropped_by)  # type: ignore[attr-defined]
    assert world.node(1 - dropped_by).summaries.of[0].count == 50
    for index in (0, 1):
        check_summaries(world, index)
        assert not world.node(index).metrics.counts["mismatches"]
    write(world, 5, "later", missed_by=1 - dropped_by)
    assert Sums not in kinds(talk(world, opener))
    assert kinds(talk(world, 1 - opener)) == [Syn, Same]


def test_a_peer_that_lists_from_below_the_floor_is_refused_once() -> None:
    world = two()
    write(world, 20, "before")
    talk(world)
    write(world, 10, "meanwhile", missed_by=0)
    world.node(0).summaries.of[0].floor = 19
    held = world.node(1).certificates.certificate(0, 0)
    assert held is not None
    world.node(1).certificates.certify(0, 0, held._replace(mine=21, theirs=18))
    world.settle()
    said = talk(world)
    assert Abort in kinds(said)
    assert "does not reach back" in "".join(each.reason for each in said if isinstance(each, Abort))
    assert world.node(0).summaries.of[0].count == 20
    assert Sums in kinds(talk(world))
    assert world.node(0).summaries.of[0].count == 30
    assert kinds(talk(world)) == [Syn, Same]


def test_summary_logs_are_checkpointed_while_exchanges_are_open() -> None:
    for turns in range(1, 20):
        world = two()
        write(world, 30, "before")
        talk(world)
        write(world, 60, "meanwhile", missed_by=1)
        begin(world, turns)
        for index in (0, 1):
            summary_log = world.node(index).summaries.summary_log
            summary_log.checkpoint_at_bytes, summary_log.slice_bytes, summary_log.slice_nodes = 0, 500, 4
            world.set(index, f"key of {index}", "value", Level.ONE)
        world.settle()
        assert all(node.summaries.summary_log.checkpoints for node in world.running)
        assert kinds(talk(world)) == [Syn, Same]
        for index in (0, 1):
            check_summaries(world, index)
            assert world.node(index).summaries.of[0].count == 92
        assert not any(node.metrics.counts["mismatches"] for node in world.running)


def test_a_store_that_stalls_in_the_middle_does_not_keep_the_others_apart() -> None:
    world = World(3, partitions=1)
    for number in range(300):
        world.plant(1, f"k{number}", "v", world.stamp(1))
    begin(world, 3, ticking=(0, 1, 2))
    stall = Stalling(world, 0)
    world.run(1)
    assert world.node(0).group_commit.stalled
    world.node(1).scheduler.wish(2, 0)
    world.run(SILENCE_S_MAX + 5)
    assert world.node(2).summaries.of[0].count == 300
    stall.end()
