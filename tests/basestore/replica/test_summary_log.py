"""The summary log beside a dumb twin that keeps everything: random changes, batches that are refused
and grow, crashes between any two commits, checkpoints in the smallest slices; and what is left of the log is
what the twin has above the floor."""

import copy
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from basestore.errors import StorageError
from basestore.repair.digest_tree import MASK, Summary, digest_of, due_of, leaf_of
from basestore.repair.version import KEY_BYTES, VERSION_BYTES, Digester, Record, Version, is_tombstone
from basestore.replica.apply_log import stored_summary
from basestore.replica.group_commit import GroupCommit
from basestore.replica.summaries import Summaries
from basestore.storage.engine import Engine
from basestore.storage.keyspace import LOG, LOG_RECORD, NODE
from basestore.storage.memory import MemoryEngine
from basestore.storage.rocks import RocksEngine
from tests.worlds.disk import Disk

DIGESTER = Digester(bytes(KEY_BYTES))
PARTITIONS = range(3)
ENTRY_BYTES = 135  # of a small record
ALL = 1 << 60


@dataclass
class Told:
    """What is to be known of one partition."""

    sequence: int = 0
    count: int = 0
    live: int = 0
    leaves: dict[int, int] = field(default_factory=dict)
    lines: dict[int, bytes] = field(default_factory=dict)
    held: dict[bytes, bytes] = field(default_factory=dict)  # head and sequence by row
    closed: int = 0
    stable: int = 0
    safe: int = 0  # the most that was ever proven


class Twins:
    """Summaries on an engine, and `told`: what all that was entered amounts to, stored or not."""

    def __init__(self, engine: Engine, seed: int, slices: tuple[int, int, int] = (20, 3, 2)) -> None:
        self.random = random.Random(seed)
        self.engine = engine
        self.slices = slices
        self.told = {partition: Told() for partition in PARTITIONS}
        self.stamp = 0
        self.checkpoints = 0
        self.open()

    def open(self) -> None:
        self.group_commit = GroupCommit(self.engine, b"g", waits=False)
        self.summaries = Summaries(self.group_commit, PARTITIONS)
        summary_log = self.summaries.summary_log
        entries, lines, summary_log.slice_nodes = self.slices
        summary_log.checkpoint_at_bytes, summary_log.slice_bytes = entries * ENTRY_BYTES, lines * ENTRY_BYTES

    # --- one step ----------------------------------------------------------------------------

    def step(self) -> None:
        """Change something, and commit, which may be refused."""
        chance = self.random
        for _ in range(chance.choice([0, 1, 1, 2, 5])):
            change = chance.choice([self.put] * 6 + [self.drop, self.correct, self.forget, self.touch])
            change(chance.choice(PARTITIONS))
        self.commit()

    def commit(self) -> None:
        for told in self.told.values():
            proven = self.random.choice([0, told.safe, self.random.randrange(told.sequence + 1)])
            told.safe = max(told.safe, proven)
        if not self.group_commit.stalled:
            self.summaries.summary_log.checkpoint(self._passed)
        self.summaries.summary_log.write()
        self.group_commit.offer_again()
        self.group_commit.commit()

    def _passed(self, partition: int) -> int:
        """A certificate may be gone, and is then made anew at a greater sequence."""
        return self.random.choice([0, self.told[partition].safe])

    def put(self, partition: int) -> None:
        self.stamp += 1
        row = partition.to_bytes(2) + b"\1x" + bytes((self.random.randrange(30),))
        tombstone = self.random.random() < 0.2
        record = Record.seal(DIGESTER, row, Version(self.stamp, 1, self.stamp), b"", tombstone=tombstone)
        self._enter(partition, row, record.head)

    def drop(self, partition: int) -> None:
        if self.told[partition].held:
            self._enter(partition, self.random.choice(sorted(self.told[partition].held)), b"")

    def _enter(self, partition: int, row: bytes, head: bytes) -> None:
        told = self.told[partition]
        held = told.held.pop(row, b"")
        due = due_of(head, 0) if head else 0
        self.summaries.note_due(row, due, due_of(held, 0) if held else 0)
        (sequence,) = self.summaries.enter((row,), (head,), (held,))
        told.sequence += 1
        assert int.from_bytes(sequence) == told.sequence
        leaf = leaf_of(row)
        told.leaves[leaf] = (told.leaves.get(leaf, 0) + digest_of(head) - digest_of(held)) & MASK
        if held:
            told.lines.pop(int.from_bytes(held[-8:]), None)
            told.count -= 1
            told.live -= not is_tombstone(held)
        if head:
            told.lines[told.sequence] = head[:VERSION_BYTES] + row
            told.held[row] = head + sequence
            told.count += 1
            told.live += not is_tombstone(head)

    def correct(self, partition: int) -> None:
        """A scrub finds that some sums are wrong, or only a count."""
        told, chance = self.told[partition], self.random
        sums = {chance.randrange(4096): chance.getrandbits(128) for _ in range(chance.choice([0, 1, 3]))}
        told.leaves |= sums
        told.count += chance.choice([0, 1])
        told.live = min(told.count, told.live + 1)
        self.summaries.summary_log.correct(partition, sums, told.count, told.live)

    def forget(self, partition: int) -> None:
        """A row was found damaged; what comes in its place replaces nothing."""
        told = self.told[partition]
        if told.held:
            row = self.random.choice(sorted(told.held))
            sequence = told.held.pop(row)[-8:]
            self.summaries.summary_log.forget(row, sequence)
            told.lines.pop(int.from_bytes(sequence), None)

    def touch(self, partition: int) -> None:
        told, summary = self.told[partition], self.summaries.of[partition]
        told.stable += self.random.randrange(3)
        told.closed = told.stable + 1
        summary.stable, summary.closed = told.stable, told.closed
        self.summaries.touch(partition)

    # --- what must hold ----------------------------------------------------------------------

    def check(self) -> None:
        agree(self.summaries, self.told)
        for partition in PARTITIONS:
            summary, row = self.summaries.of[partition], stored_summary(self.engine, partition.to_bytes(2))
            assert (summary.floor, summary.spilled) == (row.floor, row.spilled)

    def check_reopened(self) -> None:
        """What a store would have that is opened now is what this one has."""
        here, opened = self.summaries, Summaries(self.group_commit, PARTITIONS)
        for partition in PARTITIONS:
            before, after = here.of[partition], opened.of[partition]
            assert after.encode() == before.encode()
            assert nonzero(after) == nonzero(before)
            assert opened.summary_log.log(partition, 0, ALL) == here.summary_log.log(partition, 0, ALL)
        assert opened.summary_log.bytes == here.summary_log.bytes


def nonzero(summary: Summary) -> dict[int, int]:
    return {leaf: total for leaf, total in summary.leaves.items() if total}


def agree(summaries: Summaries, twin: dict[int, Told]) -> None:
    for partition, told in twin.items():
        summary = summaries.of[partition]
        assert (summary.sequence, summary.count, summary.live) == (told.sequence, told.count, told.live)
        assert nonzero(summary) == {leaf: total for leaf, total in told.leaves.items() if total}
        assert summary.root == sum(told.leaves.values()) & MASK
        assert (summary.closed, summary.stable) == (told.closed, told.stable)
        assert summary.floor <= told.safe
        slots = summaries.summary_log.log(partition, 0, ALL)
        log = dict(slots)
        assert list(log) == sorted(log)
        assert log.items() <= told.lines.items()
        assert log.keys() >= {sequence for sequence in told.lines if sequence > summary.floor}
        after = told.sequence // 2
        behind = [slot for slot in slots if slot[0] > after]
        assert summaries.summary_log.log(partition, after, 3) == behind[:3]
        assert summaries.summary_log.log(partition, after, ALL) == behind


@pytest.mark.parametrize("seed", range(30))
def test_the_summary_log_is_what_its_twin_is_through_refusals_and_crashes(seed: int) -> None:
    disk = Disk()
    twins = Twins(disk, seed)
    states = [copy.deepcopy(twins.told)]  # after each commit that is not durable yet
    for _ in range(400):
        disk.full = twins.random.random() < 0.2
        before = twins.group_commit.sequence
        twins.step()
        if not twins.group_commit.stalled:
            twins.check()
        if twins.group_commit.sequence > before:
            states.append(copy.deepcopy(twins.told))
        if twins.random.random() < 0.1:
            disk.sync()
            states = states[-1:]
        if twins.random.random() < 0.05:
            kept = twins.random.randrange(len(disk.pending) + 1)
            disk.cut(kept)
            twins.told = copy.deepcopy(states[kept])
            states = states[kept : kept + 1]
            twins.checkpoints += twins.summaries.summary_log.checkpoints
            twins.open()
            twins.check()
        if twins.random.random() < 0.05 and not twins.group_commit.stalled:
            twins.check_reopened()
    assert twins.checkpoints > 5
    assert any(summary.floor for summary in twins.summaries.of.values())
    assert any(summary.spilled for summary in twins.summaries.of.values())


def test_what_is_entered_while_a_batch_is_refused_stands_in_the_same_log_record() -> None:
    disk = Disk()
    twins = Twins(disk, 1, slices=(ALL, 1, 1))
    disk.full = True
    for _ in range(3):
        for partition in PARTITIONS:
            twins.put(partition)
        twins.commit()
        assert twins.group_commit.stalled
    disk.full = False
    twins.commit()
    assert len(list(disk.scan(LOG_RECORD, bytes((LOG_RECORD[0] + 1,))))) == 1
    twins.check()
    twins.check_reopened()


@pytest.mark.parametrize("passed", [0, ALL])
def test_a_crash_at_any_commit_of_a_flush_loses_nothing_that_was_stored(passed: int) -> None:
    disk = Disk()
    twins = Twins(disk, 7, slices=(ALL, 2, 1))
    for told in twins.told.values():
        told.safe = ALL
    for _ in range(120):
        twins.step()
    twins.summaries.summary_log.checkpoint_at_bytes = 60 * ENTRY_BYTES
    states: list[tuple[dict[bytes, bytes], dict[int, Told]]] = []
    while not states or twins.summaries.summary_log.checkpointing:
        for partition in PARTITIONS:
            twins.put(partition)
        twins.summaries.summary_log.checkpoint(lambda partition: passed)
        twins.summaries.summary_log.write()
        twins.group_commit.commit()
        states.append((dict(disk.scan(b"", b"\xff")), copy.deepcopy(twins.told)))
    assert len(states) > 10
    for rows, then in states:
        engine = MemoryEngine()
        engine.apply(rows)
        opened = Summaries(GroupCommit(engine, b"g", waits=False), PARTITIONS)
        agree(opened, then)
    lines = [key for key in rows if key.startswith(LOG)]
    assert bool(lines) == (not passed)


def test_the_summary_log_is_what_its_twin_is_on_a_disk(tmp_path: Path) -> None:
    engine = RocksEngine(tmp_path / "store")
    twins = Twins(engine, 1)
    for _ in range(150):
        twins.step()
        twins.check()
    for _ in range(3):
        engine.sync()
        engine.close()
        engine = RocksEngine(tmp_path / "store")
        twins.engine = engine
        twins.open()
        twins.check()
        for _ in range(10):
            twins.step()
    engine.close()


def filled(writes: int, slices: tuple[int, int, int]) -> Twins:
    twins = Twins(MemoryEngine(), 3, slices)
    for _ in range(writes):
        twins.put(0)
    twins.commit()
    return twins


def test_a_flush_outruns_the_writes_and_no_slice_of_it_is_long() -> None:
    twins = filled(0, (500, 1, 1))
    summary_log, rows, most = twins.summaries.summary_log, list[int](), 0
    for _ in range(300):
        for _ in range(20):
            twins.put(twins.random.choice(PARTITIONS))
        before = len(twins.group_commit.rows)
        twins.summaries.summary_log.checkpoint(lambda _: 0)
        rows.append(len(twins.group_commit.rows) - before)
        twins.summaries.summary_log.write()
        twins.group_commit.commit()
        most = max(most, summary_log.bytes)
    assert summary_log.checkpoints > 3
    assert most <= (2 * 500 + 20) * ENTRY_BYTES
    assert max(rows) <= 90  # of 256 nodes, while an eighth of 500 entries comes; of lines 41


def test_long_keys_weigh_what_they_are_long() -> None:
    twins = filled(0, (100, 10, 1))
    summary_log, most = twins.summaries.summary_log, 0
    for number in range(300):
        row = b"\0\0\1x" + number.to_bytes(2) + bytes(1000)
        twins.stamp += 1
        record = Record.seal(DIGESTER, row, Version(twins.stamp, 1, twins.stamp), b"")
        twins.summaries.enter((row,), (record.head,), (b"",))
        twins.summaries.summary_log.checkpoint(lambda _: 0)
        checkpointed = sum(
            len(line or b"") for key, line in twins.group_commit.rows.items() if key.startswith(LOG)
        )
        assert checkpointed <= 10 * ENTRY_BYTES + 3 * 1200
        # private: how full a batch is decides when it is committed, and is not told
        assert twins.group_commit._open.bytes >= checkpointed
        twins.summaries.summary_log.write()
        twins.group_commit.commit()
        most = max(most, summary_log.bytes)
    assert summary_log.checkpoints > 2
    assert most <= 2 * 100 * ENTRY_BYTES + 2000


def test_a_step_larger_than_a_slice_is_flushed_in_several() -> None:
    twins = filled(100, (50, 8, 100))
    twins.summaries.summary_log.checkpoint(lambda _: 0)
    twins.summaries.summary_log.write()
    twins.group_commit.commit()
    log_records = [len(list(twins.engine.scan(LOG_RECORD, b"l")))]
    while twins.summaries.summary_log.checkpointing:
        twins.summaries.summary_log.checkpoint(lambda _: 0)
        twins.summaries.summary_log.write()
        twins.group_commit.commit()
        log_records.append(len(list(twins.engine.scan(LOG_RECORD, b"l"))))
        agree(twins.summaries, twins.told)
        twins.check_reopened()
    assert log_records[:-1] == [1] * (len(log_records) - 1)
    assert len(log_records) > 8
    assert log_records[-1] == 0


def test_a_line_that_is_in_memory_costs_no_row_when_it_is_replaced() -> None:
    twins = filled(0, (ALL, 1, 1))
    for _ in range(50):
        twins.put(0)
        assert not any(key.startswith(LOG) for key in twins.group_commit.rows)
    twins.commit()
    assert [key[:1] for key, _ in twins.engine.scan(b"", b"\xff") if key[:1] in (LOG, NODE, LOG_RECORD)] == [
        LOG_RECORD
    ]


def test_a_flush_writes_the_nodes_that_have_changed_and_no_others() -> None:
    twins = filled(200, (0, 1000, 1000))
    written = []
    for _ in range(2):
        twins.put(1)
        twins.summaries.summary_log.write()
        twins.group_commit.commit()
        nodes: set[bytes] = set()
        while twins.summaries.summary_log.bytes:
            twins.summaries.summary_log.checkpoint(lambda _: 0)
            nodes |= {key for key in twins.group_commit.rows if key.startswith(NODE)}
            twins.summaries.summary_log.write()
            twins.group_commit.commit()
        written.append(nodes)
    assert len(written[0]) > 20
    assert [node[:3] for node in written[1]] == [NODE + b"\0\1"]


def damage_short(stored: bytes) -> bytes:
    return stored[:-1]


def damage_count(stored: bytes) -> bytes:
    return b"\xff" + stored[1:]


@pytest.mark.parametrize("damage", [damage_short, damage_count])
def test_a_log_record_that_cannot_be_read_is_told_by_its_commit(damage: Callable[[bytes], bytes]) -> None:
    twins = filled(3, (ALL, 1, 1))
    ((key, stored),) = twins.engine.scan(LOG_RECORD, b"l")
    twins.engine.apply({key: damage(stored)})
    with pytest.raises(StorageError, match="the store is damaged: log record 1: "):
        twins.open()


def test_a_node_that_cannot_be_read_is_told_by_its_partition() -> None:
    twins = filled(0, (ALL, 1, 1))
    twins.engine.apply({NODE + b"\0\2\7": b"short"})
    with pytest.raises(StorageError, match="the store is damaged: node 7 of partition 2: "):
        twins.open()


def test_what_packs_say_of_a_partition_that_is_not_held_any_more_is_kept() -> None:
    twins = Twins(MemoryEngine(), 3, (10, 3, 2))
    while not twins.summaries.summary_log.checkpoints:
        twins.step()
    for _ in range(10):
        twins.step()
    group_commit = GroupCommit(twins.engine, b"g", waits=False)
    fewer = Summaries(group_commit, [1])
    assert list(fewer.of) == [1]
    fewer.summary_log.checkpoint_at_bytes = 0
    fewer.summary_log.checkpoint(lambda _: 0)
    while fewer.summary_log.checkpointing:
        fewer.summary_log.checkpoint(lambda _: 0)
        fewer.summary_log.write()
        group_commit.commit()
    assert not list(twins.engine.scan(LOG_RECORD, b"l"))
    twins.open()
    agree(twins.summaries, twins.told)
