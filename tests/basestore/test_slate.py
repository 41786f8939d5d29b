"""The slate beside a dumb twin that keeps everything: random changes, refused batches, crashes between any
two commits, flushes in the smallest slices; and what is left of the log is what the twin has above the
floor."""

import copy
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from basestore.errors import StorageError
from basestore.journal import Journal
from basestore.ledgers import Ledgers
from basestore.page import stored_ledger
from basestore.storage.engine import LOG, NODE, PACK, Engine
from basestore.storage.memory import MemoryEngine
from basestore.storage.rocks import RocksEngine
from repair.digest import LEDGER_BYTES, MASK, Ledger, digest_of, due_of, leaf_of
from repair.version import KEY_BYTES, VERSION_BYTES, Digester, Record, Version, is_tombstone
from tests.simulation.disk import Disk

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
    """Ledgers on an engine, and `told`, which is put back whenever a batch is not stored."""

    def __init__(self, engine: Engine, seed: int, slices: tuple[int, int, int] = (20, 3, 2)) -> None:
        self.random = random.Random(seed)
        self.engine = engine
        self.slices = slices
        self.told = {partition: Told() for partition in PARTITIONS}
        self.stored = copy.deepcopy(self.told)
        self.stamp = 0
        self.flushes = 0
        self.open()

    def open(self) -> None:
        self.journal = Journal(self.engine, b"g", waits=False, failed=self._undo)
        self.ledgers = Ledgers(self.journal, PARTITIONS)
        slate = self.ledgers.slate
        entries, lines, slate.slice_nodes = self.slices
        slate.flush_at_bytes, slate.slice_bytes = entries * ENTRY_BYTES, lines * ENTRY_BYTES

    def _undo(self) -> None:
        self.ledgers.undo()
        self.told = copy.deepcopy(self.stored)

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
        self.ledgers.flush(self._passed)
        self.ledgers.write()
        before = self.journal.sequence
        self.journal.commit()
        if self.journal.sequence > before:
            self.stored = copy.deepcopy(self.told)

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
        sequence = self.ledgers.enter(row, head, held, due, due_of(held, 0) if held else 0)
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
        self.ledgers.correct(partition, sums, told.count, told.live)

    def forget(self, partition: int) -> None:
        """A row was found damaged; what comes in its place replaces nothing."""
        told = self.told[partition]
        if told.held:
            row = self.random.choice(sorted(told.held))
            sequence = told.held.pop(row)[-8:]
            self.ledgers.forget_slot(row, sequence)
            told.lines.pop(int.from_bytes(sequence), None)

    def touch(self, partition: int) -> None:
        told, ledger = self.told[partition], self.ledgers.of[partition]
        told.stable += self.random.randrange(3)
        told.closed = told.stable + 1
        ledger.stable, ledger.closed = told.stable, told.closed
        self.ledgers.touch(partition)

    # --- what must hold ----------------------------------------------------------------------

    def check(self) -> None:
        agree(self.ledgers, self.told)
        for partition in PARTITIONS:
            ledger, row = self.ledgers.of[partition], stored_ledger(self.engine, partition.to_bytes(2))
            assert (ledger.floor, ledger.spilled) == (row.floor, row.spilled)

    def check_reopened(self) -> None:
        """What a store would have that is opened now is what this one has."""
        here, opened = self.ledgers, Ledgers(self.journal, PARTITIONS)
        for partition in PARTITIONS:
            before, after = here.of[partition], opened.of[partition]
            assert after.encode() == before.encode()
            assert nonzero(after) == nonzero(before)
            assert opened.log(partition, 0, ALL) == here.log(partition, 0, ALL)
        assert opened.slate.bytes == here.slate.bytes


def nonzero(ledger: Ledger) -> dict[int, int]:
    return {leaf: total for leaf, total in ledger.leaves.items() if total}


def agree(ledgers: Ledgers, twin: dict[int, Told]) -> None:
    for partition, told in twin.items():
        ledger = ledgers.of[partition]
        assert (ledger.sequence, ledger.count, ledger.live) == (told.sequence, told.count, told.live)
        assert nonzero(ledger) == {leaf: total for leaf, total in told.leaves.items() if total}
        assert ledger.root == sum(told.leaves.values()) & MASK
        assert (ledger.closed, ledger.stable) == (told.closed, told.stable)
        assert ledger.floor <= told.safe
        slots = ledgers.log(partition, 0, ALL)
        log = dict(slots)
        assert list(log) == sorted(log)
        assert log.items() <= told.lines.items()
        assert log.keys() >= {sequence for sequence in told.lines if sequence > ledger.floor}
        after = told.sequence // 2
        behind = [slot for slot in slots if slot[0] > after]
        assert ledgers.log(partition, after, 3) == behind[:3]
        assert ledgers.log(partition, after, ALL) == behind


@pytest.mark.parametrize("seed", range(30))
def test_the_slate_is_what_its_twin_is_through_refusals_and_crashes(seed: int) -> None:
    disk = Disk()
    twins = Twins(disk, seed)
    states = [copy.deepcopy(twins.told)]  # after each commit that is not durable yet
    for _ in range(400):
        disk.full = twins.random.random() < 0.2
        before = twins.journal.sequence
        twins.step()
        twins.check()
        if twins.journal.sequence > before:
            states.append(copy.deepcopy(twins.told))
        if twins.random.random() < 0.1:
            disk.sync()
            states = states[-1:]
        if twins.random.random() < 0.05:
            kept = twins.random.randrange(len(disk.pending) + 1)
            disk.cut(kept)
            twins.told, twins.stored = copy.deepcopy(states[kept]), copy.deepcopy(states[kept])
            states = states[kept : kept + 1]
            twins.flushes += twins.ledgers.slate.flushes
            twins.open()
            twins.check()
        if twins.random.random() < 0.05:
            twins.check_reopened()
    assert twins.flushes > 5
    assert any(ledger.floor for ledger in twins.ledgers.of.values())
    assert any(ledger.spilled for ledger in twins.ledgers.of.values())


@pytest.mark.parametrize("passed", [0, ALL])
def test_a_crash_at_any_commit_of_a_flush_loses_nothing_that_was_stored(passed: int) -> None:
    disk = Disk()
    twins = Twins(disk, 7, slices=(ALL, 2, 1))
    for told in twins.told.values():
        told.safe = ALL
    for _ in range(120):
        twins.step()
    twins.ledgers.slate.flush_at_bytes = 60 * ENTRY_BYTES
    states: list[tuple[dict[bytes, bytes], dict[int, Told]]] = []
    while not states or twins.ledgers.slate.flushing:
        for partition in PARTITIONS:
            twins.put(partition)
        twins.ledgers.flush(lambda partition: passed)
        twins.ledgers.write()
        twins.journal.commit()
        states.append((dict(disk.scan(b"", b"\xff")), copy.deepcopy(twins.told)))
    assert len(states) > 10
    for rows, then in states:
        engine = MemoryEngine()
        engine.apply(rows)
        opened = Ledgers(Journal(engine, b"g", waits=False, failed=lambda: None), PARTITIONS)
        agree(opened, then)
    lines = [key for key in rows if key.startswith(LOG)]
    assert bool(lines) == (not passed)


def test_the_slate_is_what_its_twin_is_on_a_disk(tmp_path: Path) -> None:
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
    slate, rows, most = twins.ledgers.slate, list[int](), 0
    for _ in range(300):
        for _ in range(20):
            twins.put(twins.random.choice(PARTITIONS))
        before = len(twins.journal.rows)
        twins.ledgers.flush(lambda _: 0)
        rows.append(len(twins.journal.rows) - before)
        twins.ledgers.write()
        twins.journal.commit()
        most = max(most, slate.bytes)
    assert slate.flushes > 3
    assert most <= (2 * 500 + 20) * ENTRY_BYTES
    assert max(rows) <= 90  # of 256 nodes, while an eighth of 500 entries comes; of lines 41


def test_long_keys_weigh_what_they_are_long() -> None:
    twins = filled(0, (100, 10, 1))
    slate, most = twins.ledgers.slate, 0
    for number in range(300):
        row = b"\0\0\1x" + number.to_bytes(2) + bytes(1000)
        twins.stamp += 1
        record = Record.seal(DIGESTER, row, Version(twins.stamp, 1, twins.stamp), b"")
        twins.ledgers.enter(row, record.head, b"", 0, 0)
        twins.ledgers.flush(lambda _: 0)
        flushed = sum(len(line or b"") for key, line in twins.journal.rows.items() if key.startswith(LOG))
        assert flushed <= 10 * ENTRY_BYTES + 3 * 1200
        assert twins.journal._open.bytes >= flushed
        twins.ledgers.write()
        twins.journal.commit()
        most = max(most, slate.bytes)
    assert slate.flushes > 2
    assert most <= 2 * 100 * ENTRY_BYTES + 2000


def test_a_step_larger_than_a_slice_is_flushed_in_several() -> None:
    twins = filled(100, (50, 8, 100))
    twins.ledgers.flush(lambda _: 0)
    twins.ledgers.write()
    twins.journal.commit()
    packs = [len(list(twins.engine.scan(PACK, b"l")))]
    while twins.ledgers.slate.flushing:
        twins.ledgers.flush(lambda _: 0)
        twins.ledgers.write()
        twins.journal.commit()
        packs.append(len(list(twins.engine.scan(PACK, b"l"))))
        agree(twins.ledgers, twins.told)
        twins.check_reopened()
    assert packs[:-1] == [1] * (len(packs) - 1)
    assert len(packs) > 8
    assert packs[-1] == 0


def test_a_line_that_is_in_memory_costs_no_row_when_it_is_replaced() -> None:
    twins = filled(0, (ALL, 1, 1))
    for _ in range(50):
        twins.put(0)
        assert not any(key.startswith(LOG) for key in twins.journal.rows)
    twins.commit()
    assert [key[:1] for key, _ in twins.engine.scan(b"", b"\xff") if key[:1] in (LOG, NODE, PACK)] == [PACK]


def test_a_flush_writes_the_nodes_that_have_changed_and_no_others() -> None:
    twins = filled(200, (0, 1000, 1000))
    written = []
    for _ in range(2):
        twins.put(1)
        twins.ledgers.write()
        twins.journal.commit()
        nodes: set[bytes] = set()
        while twins.ledgers.slate.bytes:
            twins.ledgers.flush(lambda _: 0)
            nodes |= {key for key in twins.journal.rows if key.startswith(NODE)}
            twins.ledgers.write()
            twins.journal.commit()
        written.append(nodes)
    assert len(written[0]) > 20
    assert [node[:3] for node in written[1]] == [NODE + b"\0\1"]


def damage_short(stored: bytes) -> bytes:
    return stored[:-1]


def damage_count(stored: bytes) -> bytes:
    return b"\xff" + stored[1:]


@pytest.mark.parametrize("damage", [damage_short, damage_count])
def test_a_pack_that_cannot_be_read_is_told_by_its_commit(damage: Callable[[bytes], bytes]) -> None:
    twins = filled(3, (ALL, 1, 1))
    ((key, stored),) = twins.engine.scan(PACK, b"l")
    twins.engine.apply({key: damage(stored)})
    with pytest.raises(StorageError, match="the store is damaged: pack 1: "):
        twins.open()


def test_a_node_that_cannot_be_read_is_told_by_its_partition() -> None:
    twins = filled(0, (ALL, 1, 1))
    twins.engine.apply({NODE + b"\0\2\7": b"short"})
    with pytest.raises(StorageError, match="the store is damaged: node 7 of partition 2: "):
        twins.open()


def test_what_packs_say_of_a_partition_that_is_not_held_any_more_is_kept() -> None:
    twins = Twins(MemoryEngine(), 3, (10, 3, 2))
    while not twins.ledgers.slate.flushes:
        twins.step()
    for _ in range(10):
        twins.step()
    fewer = Ledgers(Journal(twins.engine, b"g", waits=False, failed=lambda: None), [1])
    assert list(fewer.of) == [1]
    fewer.slate.flush_at_bytes = 0
    fewer.flush(lambda _: 0)
    while fewer.slate.flushing:
        fewer.flush(lambda _: 0)
        fewer.write()
        fewer._journal.commit()
    assert not list(twins.engine.scan(PACK, b"l"))
    twins.open()
    agree(twins.ledgers, twins.told)


def test_a_ledger_of_a_store_with_its_whole_log_has_no_floor() -> None:
    ledger = Ledger()
    ledger.sequence, ledger.stable, ledger.floor, ledger.spilled = 9, 7, 5, 6
    old = Ledger.decode(ledger.encode()[: LEDGER_BYTES - 16])
    assert (old.sequence, old.stable, old.floor, old.spilled) == (9, 7, 0, 9)
