"""Summaries on both engines: written with the record, and there again after a crash."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from basestore.anti_entropy.scrub import Scrub
from basestore.cluster.outbox import Outbox
from basestore.errors import StorageError
from basestore.protocol.replication import DIRECT, Apply
from basestore.repair.clock import HybridClock
from basestore.repair.rule import Rule
from basestore.repair.version import HEAD_BYTES, KEY_BYTES, VERSION_BYTES, Digester, Record, Version
from basestore.replica.group_commit import GroupCommit
from basestore.replica.replica import LOOK_BYTES_MAX, Replica
from basestore.replica.summaries import Summaries
from basestore.storage import keyspace
from basestore.storage.engine import Engine
from basestore.storage.keyspace import DATA, SEQUENCE_BYTES, SUMMARY
from basestore.storage.memory import MemoryEngine
from basestore.storage.rocks import RocksEngine
from basestore.topology.buckets import Buckets
from tests.worlds.disk import Disk

DIGESTER = Digester(bytes(KEY_BYTES))
PARTITIONS = range(4)


@pytest.fixture(params=["memory", "rocks"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    made: Engine = MemoryEngine() if request.param == "memory" else RocksEngine(tmp_path / "store")
    yield made
    made.close()


class Store:
    """A replica on an engine, as a node opens it."""

    def __init__(self, engine: Engine) -> None:
        self.group_commit = GroupCommit(engine, b"g", waits=False)
        self.summaries = Summaries(self.group_commit, PARTITIONS)
        self.replica = Replica(
            self.group_commit,
            self.summaries,
            Buckets({"x": Rule.LAST_WRITE_WINS}),
            DIGESTER,
            HybridClock(0, 1 << 40),
        )
        self.outbox = Outbox(set())

    def put(self, key: bytes, stamp: int, *, tombstone: bool = False, expires_ms: int = 0) -> bytes:
        record = sealed(key, stamp, tombstone=tombstone, expires_ms=expires_ms)
        self.replica.apply(self.outbox, Apply(1, row_of(key), record.blob, DIRECT, 0), 1)
        return record.head

    def commit(self) -> None:
        self.summaries.summary_log.write()
        self.group_commit.commit()
        self.group_commit.engine.sync()
        self.group_commit.durable(self.group_commit.sequence)

    def checkpoint(self, passed: int = 0) -> None:
        """Write all that is older than the last commit, in slices as small as can be."""
        summary_log = self.summaries.summary_log
        summary_log.slice_bytes = summary_log.slice_nodes = 1
        summary_log.checkpoint_at_bytes = 0
        self.summaries.summary_log.checkpoint(lambda partition: passed)
        while summary_log.checkpointing:
            self.commit()
            self.summaries.summary_log.checkpoint(lambda partition: passed)
        self.commit()

    def facts(self) -> list[tuple[bytes, dict[int, int]]]:
        summaries = self.summaries.of.values()
        return [(each.encode(), {k: v for k, v in each.leaves.items() if v}) for each in summaries]


def row_of(key: bytes) -> bytes:
    return (key[0] % len(PARTITIONS)).to_bytes(2) + b"\1x" + key


def sealed(key: bytes, stamp: int, *, tombstone: bool = False, expires_ms: int = 0) -> Record:
    value = b"" if tombstone else b"value"
    version = Version(stamp << 16, 1, stamp)
    return Record.seal(DIGESTER, row_of(key), version, value, tombstone=tombstone, expires_ms=expires_ms)


def test_an_opened_store_has_its_summaries_without_looking_at_a_record(engine: Engine) -> None:
    store = Store(engine)
    for number in range(50):
        store.put(bytes((number % 20,)), number + 1, tombstone=number % 7 == 0)
    store.commit()
    opened = Store(engine)
    assert opened.facts() == store.facts()
    assert opened.summaries.records == sum(each.live for each in store.summaries.of.values())
    assert not opened.summaries.damaged


def test_the_log_holds_what_stands_in_the_order_in_which_it_came(engine: Engine) -> None:
    store = Store(engine)
    for stamp, key in enumerate((b"\0a", b"\0b", b"\0a", b"\1z", b"\0c"), 1):
        store.put(key, stamp)
    store.commit()
    log = store.summaries.summary_log.log(0, 0, 9)
    assert [(sequence, line[VERSION_BYTES:]) for sequence, line in log] == [
        (2, row_of(b"\0b")), (3, row_of(b"\0a")), (4, row_of(b"\0c")),
    ]  # fmt: skip
    assert [sequence for sequence, _ in store.summaries.summary_log.log(0, 2, 1)] == [3]
    assert [line[VERSION_BYTES:] for _, line in store.summaries.summary_log.log(1, 0, 9)] == [row_of(b"\1z")]


def test_what_is_due_goes_once_that_is_stable_and_nothing_else(engine: Engine) -> None:
    store = Store(engine)
    store.put(b"\0value", 1)
    store.put(b"\0dead", 2, tombstone=True)
    store.put(b"\0brief", 3, expires_ms=5)
    store.put(b"\0late", 9, tombstone=True)
    store.put(b"\0again", 4, tombstone=True)
    store.put(b"\0again", 6)
    store.commit()
    summary = store.summaries.of[0]
    summary.stable = summary.closed = 5 << 16
    assert store.replica.purge(0, summary.stable, 1) == (1, 1)
    assert summary.purged == 0
    store.commit()
    assert store.replica.purge(0, summary.stable, 9) == (1, 1)
    store.commit()
    assert summary.purged == summary.stable
    held = {key[len(DATA) + 4 :] for key, _ in engine.scan(DATA, b"s")}
    assert held == {b"\0value", b"\0late", b"\0again"}
    assert summary.count == 3
    assert Store(engine).facts() == store.facts()


def test_what_has_gone_and_comes_again_goes_again_after_a_crash_too(engine: Engine) -> None:
    store = Store(engine)
    store.put(b"\0dead", 2, tombstone=True)
    store.commit()
    stable = store.summaries.of[0].stable = store.summaries.of[0].closed = 5 << 16
    store.replica.purge(0, stable, 9)
    assert store.replica.all_purged(0, stable)
    store.commit()
    # Who has not purged it yet gives it in an exchange to one that doubts what it had.
    store.replica.take_over(row_of(b"\0dead"), sealed(b"\0dead", 2, tombstone=True))
    assert not store.replica.all_purged(0, stable)
    store.commit()
    opened = Store(engine)
    assert not opened.replica.all_purged(0, stable)
    assert opened.replica.purge(0, stable, 9) == (1, 1)
    assert opened.replica.all_purged(0, stable)


def test_a_slice_of_rows_is_bounded_by_what_they_take_too_and_a_scrub_still_sees_all(engine: Engine) -> None:
    store = Store(engine)
    for number in range(20):
        row = row_of(b"\0%d" % number)
        version = Version(number + 1 << 16, 1, number)
        record = Record.seal(DIGESTER, row, version, bytes(1 << 20))
        store.replica.apply(store.outbox, Apply(1, row, record.blob, DIRECT, 0), 1)
    store.commit()
    scrub, slices = Scrub(store.summaries, store.replica, 0, 0.0), 1
    assert len(store.replica.scan(*keyspace.records_of(0), 500)) == LOOK_BYTES_MAX >> 20
    while scrub.advance(500):
        slices += 1
    assert slices == 4
    assert scrub.finish() == 0
    assert store.summaries.of[0].count == 20


def test_a_crash_takes_record_and_summary_together() -> None:
    engine = Disk()
    store = Store(engine)
    store.put(b"\0a", 1)
    store.commit()
    before = store.facts()
    store.put(b"\0a", 2)
    store.summaries.summary_log.write()
    store.group_commit.commit()
    engine.crash()
    assert Store(engine).facts() == before


def test_sums_that_do_not_fit_are_noticed_when_the_store_is_opened() -> None:
    engine = MemoryEngine()
    store = Store(engine)
    store.put(b"\0a", 1)
    store.put(b"\1b", 1)
    store.commit()
    store.checkpoint()
    store.summaries.of[1].root ^= 1
    engine.apply({SUMMARY + (1).to_bytes(2): store.summaries.of[1].encode()})
    assert Store(engine).summaries.damaged == {1}
    engine.apply({SUMMARY + (1).to_bytes(2): b"short"})
    with pytest.raises(StorageError, match="partition 1"):
        Store(engine)


def test_watches_hear_of_a_change_before_it_is_made() -> None:
    store = Store(MemoryEngine())
    heard: list[tuple[bytes, bytes, bytes]] = []

    class Ear:
        def note(self, row: bytes, held: bytes, head: bytes) -> None:
            heard.append((row, held, head))

    ear = Ear()
    store.summaries.watch(0, ear)
    first = store.put(b"\0a", 1)
    second = store.put(b"\0a", 2)
    store.put(b"\1b", 3)
    store.summaries.unwatch(0, ear)
    store.put(b"\0a", 4)
    row = row_of(b"\0a")
    assert heard == [(row, b"", first), (row, first + (1).to_bytes(8), second)]
    assert len(heard[1][1]) == HEAD_BYTES + SEQUENCE_BYTES
