"""Reconciling: how two replicas find and mend what one of them lacks.

Owns the course of the measurement: n records of one origin, numbered without gaps, are written to both
nodes of a pair, but d of them do not reach the second: spread at random, or one run of them (an
outage). Then the nodes' own anti-entropy is left to find them, and what it says meanwhile is counted
(`pair.py`) until both hold the certificate. It must have mended all: otherwise there is no figure, but an
error.

    since empty    the last certificate was made before any of the n writes, so all of them are compared
    since recent   it was made when n records were on both; then d more were written, which reached the
                   first node only

Between the writes and the repair the link is down for ten minutes: stamps are then as far apart as they
are in practice, and take as many bytes.

Every pair of stores is a copy of one that lacks all that any of the cells lacks; the second node is then
given, late, what it shall not lack. Round trips and bytes follow from the data, whose losses are drawn
with a fixed seed. Time and processor time include the stores' and are this machine's. Time is from the
first Syn to the later certificate, with no network in between; nodes give anti-entropy a bounded share
of each tick, so with many changes it is that share, rather than work, that takes time.
"""

import os
import random
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from basestore.cluster.placement import Placement
from basestore.node import Node
from basestore.repair.certificate import LastExchange
from basestore.repair.version import COUNTER_BITS, Digester, Record, Version
from benchmarks.load import VALUE_BYTES, key
from benchmarks.pair import TICK_S, Meter, Pair, PairFailed, apply_all, two_members
from benchmarks.rivals import DigestTree

Pattern = Literal["none", "random", "outage"]
Since = Literal["empty", "recent"]
Say = Callable[[str], None]

SEED = 1987
ORIGIN = 7 << 48 | 1  # a member that is not there
BATCH_ROWS = 2000
VALUES = 1000
CERTIFIED_S_MAX = 1800.0
REOPENED_S = 1.0
DOWN_S = 600.0


@dataclass(frozen=True, slots=True)
class Cell:
    """One difference to be found: `differences` of `keys` records."""

    keys: int
    differences: int
    pattern: Pattern
    since: Since

    @property
    def lacking(self) -> Sequence[int]:
        """The records that the second node lacks, by their places."""
        if self.since == "recent":
            return range(self.keys, self.keys + self.differences)
        if self.pattern == "outage":
            first = (self.keys - self.differences) // 3
            return range(first, first + self.differences)
        drawn = random.Random(f"{SEED}/{self.keys}/{self.differences}")
        return sorted(drawn.sample(range(self.keys), self.differences))


@dataclass(frozen=True, slots=True)
class Found:
    """What a cell took. `kind`: how the exchange ended; `cpu_ms` of both sides."""

    cell: Cell
    kind: str
    metadata_bytes: int
    entry_bytes: int
    frames: int
    round_trips: float
    records_sent: int
    unneeded_rows: int
    cpu_ms: float
    certified_s: float
    tree_8_bytes: int
    tree_16_bytes: int


def plan_cells(keys: Iterable[int], differences: Sequence[int], patterns: Sequence[Pattern]) -> list[Cell]:
    """Every cell that makes sense; a difference of more than half the records does not."""
    cells = []
    for count in keys:
        for lost in differences:
            if not lost:
                cells += [Cell(count, 0, "none", "empty"), Cell(count, 0, "none", "recent")]
            elif lost <= count // 2:
                cells += [Cell(count, lost, pattern, "empty") for pattern in patterns]
                cells += [Cell(count, lost, "outage", "recent")] if "outage" in patterns else []
    return cells


def measure(cells: Sequence[Cell], parent: Path | None, say: Say) -> Iterator[Found]:
    """Run all cells, those of one number of keys on copies of the same stores. PairFailed."""
    for keys in dict.fromkeys(cell.keys for cell in cells):
        mine = [cell for cell in cells if cell.keys == keys]
        with TemporaryDirectory(prefix="basestore-repair-", dir=parent) as directory:
            base = Base(Path(directory) / "base", mine, say)
            for cell in mine:
                say(f"{keys:,} records, {cell.differences:,} lacking, {cell.pattern}, since {cell.since}")
                yield base.run(cell, Path(directory) / "copy")


# --- data ----------------------------------------------------------------------------------------


class Data:
    """Records by their places, sealed when they are asked for."""

    def __init__(self, partitions: int = 1) -> None:
        cluster = two_members(partitions)
        self._placement = Placement.of(cluster)
        self._digester = Digester(cluster.key)
        source = random.Random(SEED)
        self._values = [source.randbytes(VALUE_BYTES) for _ in range(VALUES)]

    def row(self, place: int) -> bytes:
        return self._placement.row(b"default", key(place))

    def records(self, places: Iterable[int], wall_ms: int) -> list[tuple[bytes, bytes]]:
        """Rows and records, as written about then."""
        records = []
        for place in places:
            row = self.row(place)
            stamp = (wall_ms << COUNTER_BITS) + place
            version, value = Version(stamp, ORIGIN, place + 1), self._values[place % VALUES]
            records.append((row, Record.seal(self._digester, row, version, value).blob))
        return records


def batches(places: Iterable[int], rows: int = BATCH_ROWS) -> Iterator[list[int]]:
    """So many at a time."""
    left = iter(places)
    while batch := list(islice(left, rows)):
        yield batch


# --- the course ----------------------------------------------------------------------------------


class Base:
    """Two stores with a certificate from when they were empty, and n records; the second lacks all that any
    of these cells lacks."""

    def __init__(self, directory: Path, cells: Sequence[Cell], say: Say) -> None:
        keys = cells[0].keys
        self._directory = directory
        self._data = Data()
        self._tree = DigestTree()
        self._held_back = {place for cell in cells for place in cell.lacking if place < keys}
        pair = Pair.open(directory)
        reconcile(pair)
        say(f"writing {keys:,} records to both nodes")
        self._written_ms = pair.now.wall_ms
        for places in batches(range(keys)):
            records = self._data.records(places, self._written_ms)
            apply_all(pair.nodes[0], records, pair.now)
            pairs = zip(places, records, strict=True)
            apply_all(pair.nodes[1], (r for place, r in pairs if place not in self._held_back), pair.now)
            for row, _ in records:
                self._tree.add(row)
        self._closed_s = pair.close()

    def run(self, cell: Cell, directory: Path) -> Found:
        """One cell, on a copy."""
        shutil.copytree(self._directory, directory, copy_function=share_tables)
        try:
            pair = Pair.open(directory, at_s=self._closed_s + REOPENED_S)
            found = self._run(cell, pair)
            pair.close()
        finally:
            shutil.rmtree(directory)
        return found

    def _run(self, cell: Cell, pair: Pair) -> Found:
        first, second = pair.nodes
        late = self._held_back.difference(cell.lacking)
        for places in batches(sorted(late)):
            apply_all(second, self._data.records(places, self._written_ms), pair.now)
        if cell.since == "recent":
            reconcile(pair)
            for places in batches(cell.lacking):
                apply_all(first, self._data.records(places, pair.now.wall_ms), pair.now)
        pair.part(DOWN_S)
        taken = reconcile(pair)
        held = [node.summaries.of[0] for node in pair.nodes]
        extra = cell.differences if cell.since == "recent" else 0
        if held[0].root != held[1].root or not held[0].count == held[1].count == cell.keys + extra:
            raise PairFailed(f"not all is mended: {held[0].count:,} and {held[1].count:,} records are held")
        lacking = list(map(self._data.row, cell.lacking))
        trees = [self._tree.metadata_bytes(lacking, sum_bytes) for sum_bytes in (8, 16)]
        return Found(cell, *taken, *trees)


Taken = tuple[str, int, int, int, float, int, int, float, float]


def reconcile(pair: Pair) -> Taken:
    """Let time pass until both nodes hold a new certificate. Returns what that took, as in `Found`."""
    meter = pair.meter = Meter()
    counts = [dict(node.metrics.counts) for node in pair.nodes]
    certified = list(map(_certified, pair.nodes))
    begun_s = cpu_s = 0.0
    for _ in range(round(CERTIFIED_S_MAX / TICK_S)):
        tick_s, tick_cpu_s = time.perf_counter(), time.thread_time()
        begun = meter.begun
        pair.tick()
        if meter.begun and not begun:
            begun_s, cpu_s = tick_s, tick_cpu_s
        if all(_certified(node) != before for node, before in zip(pair.nodes, certified, strict=True)):
            break
        if meter.begun:
            time.sleep(max(0.0, tick_s + TICK_S - time.perf_counter()))
    else:
        raise PairFailed(f"there is no certificate after {CERTIFIED_S_MAX:.0f} s")
    ended_s, ended_cpu_s = time.perf_counter(), time.thread_time()
    pair.meter = None

    def counted(name: str) -> int:
        return sum(n.metrics.counts[name] - old[name] for n, old in zip(pair.nodes, counts, strict=True))

    kinds = [kind for kind in ("same", "delta", "full") if counted(f"exchanges_{kind}")]
    return (
        "+".join(kinds), meter.metadata_bytes, meter.entry_bytes, meter.frames, meter.round_trips,
        counted("records_sent"), counted("records_unneeded"),
        round((ended_cpu_s - cpu_s) * 1e3, 1), round(ended_s - begun_s, 3),
    )  # fmt: skip


def _certified(node: Node) -> LastExchange | None:
    return node.certificates.last_exchange(0, 1 - node.me)


def share_tables(source: str, target: str) -> None:
    """Copy a file of a store; but RocksDB's tables never change, and are linked to."""
    if source.endswith(".sst"):
        os.link(source, target)
    else:
        shutil.copy2(source, target)
