"""Storage engines behind one contract, and what each promises beyond it.

Covers `storage/rocks.py`, `rocks_damage.py` and `memory.py`.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from basestore.config import NodeConfig
from basestore.errors import StorageError
from basestore.node import Node
from basestore.replica.identity import Fresh
from basestore.storage.engine import Engine
from basestore.storage.memory import MemoryEngine
from basestore.storage.rocks import RocksEngine
from tests.worlds.disk import Disk
from tests.worlds.world import World

Opener = Callable[[], Engine]


@pytest.fixture(params=["memory", "rocks"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    engine: Engine = MemoryEngine() if request.param == "memory" else RocksEngine(tmp_path / "store")
    yield engine
    engine.close()


class TestContract:
    def test_what_was_applied_is_seen_at_once(self, engine: Engine) -> None:
        engine.apply({b"pa": b"1", b"pb": b"2"})
        assert engine.get(b"pa") == b"1"
        assert engine.get(b"pb") == b"2"
        assert engine.get(b"pc") is None
        assert engine.loss == ""

    def test_none_deletes_and_a_batch_may_put_and_delete(self, engine: Engine) -> None:
        engine.apply({b"pa": b"1", b"pb": b"2"})
        engine.apply({b"pa": None, b"pc": b"3", b"px": None})
        assert [engine.get(key) for key in (b"pa", b"pb", b"pc", b"px")] == [None, b"2", b"3", None]
        engine.apply({b"pa": b"again"})
        assert engine.get(b"pa") == b"again"

    def test_empty_values_and_empty_batches_are_allowed(self, engine: Engine) -> None:
        engine.apply({})
        engine.apply({b"p": b""})
        assert engine.get(b"p") == b""
        assert list(engine.scan(b"p", b"q")) == [(b"p", b"")]

    def test_a_scan_is_ordered_and_its_end_is_left_out(self, engine: Engine) -> None:
        keys = [b"pa", b"pa\x00", b"pab", b"pb", b"p\xff", b"p\xff\xff", b"pc"]
        engine.apply({key: key for key in keys})
        assert list(engine.scan(b"pa", b"pb")) == [(k, k) for k in (b"pa", b"pa\x00", b"pab")]
        assert [key for key, _ in engine.scan(b"p", b"q")] == sorted(keys)
        assert [key for key, _ in engine.scan(b"p\xff", b"q")] == [b"p\xff", b"p\xff\xff"]
        assert list(engine.scan(b"pa", b"pa")) == []
        assert list(engine.scan(b"pb", b"pa")) == []
        assert list(engine.scan(b"q", b"r")) == []

    def test_a_scan_sees_what_is_not_synced(self, engine: Engine) -> None:
        engine.apply({b"pa": b"1"})
        engine.sync()
        engine.apply({b"pb": b"2", b"pa": None})
        assert list(engine.scan(b"p", b"q")) == [(b"pb", b"2")]

    def test_large_values_and_large_batches_come_back(self, engine: Engine) -> None:
        batch = {b"p%05d" % n: bytes([n % 256]) * 1000 for n in range(3000)}
        engine.apply(batch)
        engine.apply({b"pbig": b"v" * (1 << 20)})
        engine.sync()
        assert engine.get(b"pbig") == b"v" * (1 << 20)
        assert dict(engine.scan(b"p0", b"p1")) == batch

    def test_it_is_what_a_dictionary_is(self, engine: Engine) -> None:
        keys = st.binary(max_size=3).map(lambda key: b"p" + key)

        @settings(max_examples=40)
        @given(
            st.lists(st.dictionaries(keys, st.none() | st.binary(max_size=5), max_size=5), max_size=6),
            keys,
            keys,
        )
        def agrees(batches: list[dict[bytes, bytes | None]], start: bytes, end: bytes) -> None:
            engine.apply({key: None for key, _ in list(engine.scan(b"p", b"q"))})
            twin: dict[bytes, bytes] = {}
            for batch in batches:
                engine.apply(batch)
                for key, value in batch.items():
                    twin.pop(key, None)
                    if value is not None:
                        twin[key] = value
            assert list(engine.scan(b"p", b"q")) == sorted(twin.items())
            inside = [(key, value) for key, value in sorted(twin.items()) if start <= key < end]
            assert list(engine.scan(start, end)) == inside
            assert all(engine.get(key) == value for key, value in twin.items())

        agrees()


steps = st.lists(
    st.one_of(
        st.dictionaries(st.sampled_from([b"a", b"b", b"c"]), st.none() | st.binary(max_size=2), min_size=1),
        st.sampled_from(["sync", "crash"]),
    ),
    max_size=12,
)


@given(steps)
def test_a_power_cut_of_a_simulated_disk_loses_exactly_what_was_not_synced(
    steps: list[dict[bytes, bytes | None] | str],
) -> None:
    engine = Disk()
    durable: dict[bytes, bytes] = {}
    visible: dict[bytes, bytes] = {}
    for step in steps:
        if step == "sync":
            engine.sync()
            durable = dict(visible)
        elif step == "crash":
            engine.crash()
            visible = dict(durable)
        elif isinstance(step, dict):
            engine.apply(step)
            for key, value in step.items():
                visible.pop(key, None)
                if value is not None:
                    visible[key] = value
        assert dict(engine.scan(b"", b"z")) == visible
    engine.crash()
    assert dict(engine.scan(b"", b"z")) == durable


class TestRocks:
    def test_what_was_stored_is_there_after_reopening(self, tmp_path: Path) -> None:
        engine = RocksEngine(tmp_path / "a" / "store")
        engine.apply({b"pa": b"1", b"pb": b"2"})
        engine.apply({b"pb": None})
        engine.sync()
        engine.close()
        again = RocksEngine(tmp_path / "a" / "store")
        assert list(again.scan(b"p", b"q")) == [(b"pa", b"1")]
        assert again.loss == ""
        again.close()

    def test_what_was_synced_is_on_disk_without_a_close(self, tmp_path: Path) -> None:
        engine = RocksEngine(tmp_path / "store")
        engine.apply({b"pa": b"1"})
        engine.sync()
        shutil.copytree(tmp_path / "store", tmp_path / "copy")
        engine.close()
        copy = RocksEngine(tmp_path / "copy")
        assert copy.get(b"pa") == b"1"
        assert copy.loss == ""
        copy.close()

    def test_a_second_opener_is_refused_and_told_why(self, tmp_path: Path) -> None:
        engine = RocksEngine(tmp_path / "store")
        with pytest.raises(StorageError, match=r"cannot be opened.*[Ll]ock.*This process itself uses it"):
            RocksEngine(tmp_path / "store")
        assert engine.get(b"p") is None
        engine.close()

    def test_a_directory_that_cannot_be_made_is_a_clear_error(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(StorageError, match=r"file/store cannot be created"):
            RocksEngine(tmp_path / "file" / "store")

    def test_a_flipped_bit_in_the_log_opens_before_it_and_says_so(self, tmp_path: Path) -> None:
        engine = RocksEngine(tmp_path / "store")
        for number in range(100):
            engine.apply({b"p%03d" % number: bytes([number]) * 100})
        engine.sync()
        shutil.copytree(tmp_path / "store", tmp_path / "copy")
        engine.close()
        (log,) = (tmp_path / "copy").glob("*.log")
        flip(log, 0.5)
        damaged = RocksEngine(tmp_path / "copy")
        assert str(tmp_path / "copy") in damaged.loss
        assert "cut before the damage" in damaged.loss
        rows = list(damaged.scan(b"p", b"q"))
        assert 0 < len(rows) < 100
        assert rows == [(b"p%03d" % number, bytes([number]) * 100) for number in range(len(rows))]
        damaged.close()

    def test_a_damaged_table_is_an_error_and_never_wrong_data(self, tmp_path: Path) -> None:
        engine = RocksEngine(tmp_path / "store")
        for number in range(2000):
            engine.apply({b"p%04d" % number: noise(number)})
        engine.sync()
        # private: RocksDB makes tables when it likes
        engine._db.flush()
        engine.close()
        (table,) = (tmp_path / "store").glob("*.sst")
        refused = []
        for place in (0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 0.97, 0.98, 0.99, 0.999):
            shutil.rmtree(tmp_path / "copy", ignore_errors=True)
            shutil.copytree(tmp_path / "store", tmp_path / "copy")
            flip(tmp_path / "copy" / table.name, place)
            try:
                read_all(tmp_path / "copy")  # checks what it reads: a filter may be spoilt harmlessly
            except StorageError as error:
                refused.append((place, str(tmp_path / "copy") in str(error)))
        assert {(place, True) for place in (0.01, 0.1, 0.3, 0.5, 0.7, 0.9)} <= set(refused)

    @pytest.mark.parametrize("met", ["apply", "close"])
    def test_damage_that_rocksdb_meets_by_itself_is_told_as_damage_by_the_next_call(
        self, tmp_path: Path, met: str
    ) -> None:
        tables: set[Path] = set()
        for start in (0, 1):
            engine = RocksEngine(tmp_path / "store")
            engine.apply({b"p%03d" % number: noise(start + number) for number in range(200)})
            engine.close()
            (table,) = set((tmp_path / "store").glob("*.sst")) - tables
            tables.add(table)
        flip(table, 0.5)
        engine = RocksEngine(tmp_path / "store")
        # private: and reads them again when it likes
        engine._db.compact_range(None, None)
        calls = {"apply": lambda: engine.apply({b"pb": b"1"}), "close": engine.close}
        with pytest.raises(StorageError) as told:
            calls[met]()
        text = str(told.value)
        assert text.startswith(f"the store {tmp_path / 'store'} is damaged: ")
        assert text.count(table.name) == text.count("--salvage") == 1
        with suppress(StorageError):
            engine.close()

    @pytest.mark.parametrize("name", ["MANIFEST-*", "CURRENT"])
    def test_a_damaged_table_of_contents_is_an_error_that_names_the_store(
        self, tmp_path: Path, name: str
    ) -> None:
        engine = RocksEngine(tmp_path / "store")
        engine.apply({b"pa": b"1"})
        engine.sync()
        engine.close()
        (file,) = (tmp_path / "store").glob(name)
        flip(file, 0.3)
        with pytest.raises(StorageError, match=str(tmp_path / "store")) as told:
            RocksEngine(tmp_path / "store")
        assert str(told.value).count("is damaged") == str(told.value).count("--salvage") == 1

    def test_a_store_without_its_table_of_contents_is_not_taken_for_a_new_one(self, tmp_path: Path) -> None:
        engine = RocksEngine(tmp_path / "store")
        engine.apply({b"pa": b"1"})
        engine.sync()
        engine.close()
        (tmp_path / "store" / "CURRENT").unlink()
        with pytest.raises(StorageError, match="CURRENT is missing"):
            RocksEngine(tmp_path / "store")

    def test_who_finds_a_store_in_use_marks_and_changes_nothing(self, tmp_path: Path) -> None:
        engine = RocksEngine(tmp_path / "store")
        engine.apply({b"pa": b"1"})
        engine.sync()
        (log,) = (tmp_path / "store").glob("[0-9]*.log")
        with log.open("ab") as file:
            file.write(b"\0\0\0\0\1\0\7?")  # as a log may look in which another process is writing
        before = log.read_bytes()
        script = f"""
from pathlib import Path
from basestore.errors import StorageError
from basestore.storage.rocks import RocksEngine
try:
    RocksEngine(Path({str(tmp_path / "store")!r}))
except StorageError as error:
    print(error)
"""
        with pytest.raises(StorageError, match="This process itself uses it"):  # and keeps its lock
            RocksEngine(tmp_path / "store")
        other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        assert f"Process {os.getpid()} uses it: see which that is (`ps -fp {os.getpid()}`)" in other.stdout
        assert log.read_bytes() == before
        assert not (tmp_path / "store" / "LOST").exists()
        engine.close()

    def test_a_block_of_the_log_that_turned_to_zeros_is_a_loss(self, tmp_path: Path) -> None:
        engine = RocksEngine(tmp_path / "store")
        engine.apply({b"pa": b"1"})
        engine.sync()
        (log,) = (tmp_path / "store").glob("[0-9]*.log")
        for key in (b"pb", b"pc"):  # each fills a block of the log to its end
            room = BLOCK_BYTES - log.stat().st_size % BLOCK_BYTES
            engine.apply({key: b"v" * (room - 7 - 12 - 2 - len(key) - 3)})
            engine.sync()
            assert log.stat().st_size % BLOCK_BYTES == 0
        engine.apply({b"pd": b"2"})
        engine.sync()
        shutil.copytree(tmp_path / "store", tmp_path / "copy")
        engine.close()
        copied = tmp_path / "copy" / log.name
        data = copied.read_bytes()
        copied.write_bytes(data[:BLOCK_BYTES] + bytes(BLOCK_BYTES) + data[2 * BLOCK_BYTES :])
        engine = RocksEngine(tmp_path / "copy")
        assert "missing in the middle of the log" in engine.loss
        engine.close()


BLOCK_BYTES = 32 << 10


def flip(file: Path, place: float) -> None:
    """Change a bit of a file, so far from its start."""
    data = bytearray(file.read_bytes())
    data[int(len(data) * place)] ^= 1
    file.write_bytes(data)


def noise(number: int) -> bytes:
    """A value that does not compress."""
    return hashlib.sha512(b"%d" % number).digest() * 2


def read_all(directory: Path) -> None:
    """Everything, by scan and by key; each value is checked."""
    engine = RocksEngine(directory)
    try:
        for key, value in engine.scan(b"p", b"q"):
            assert value == noise(int(key[1:]))
        for number in range(2000):
            assert engine.get(b"p%04d" % number) == noise(number)
    finally:
        engine.close()


def test_a_node_whose_log_was_damaged_starts_as_forgetful(tmp_path: Path) -> None:
    world = World(3)
    config = NodeConfig(world.cluster, "n1", tmp_path / "store")

    def open_node(engine: Engine) -> Node:
        node = Node(config, engine, Fresh(b"s" * 16, b"g" * 8, 1), world.now(0), {})
        barrier = node.step(world.now(0))
        engine.sync()
        if barrier is not None:
            node.durable(barrier, world.now(0))
        return node

    engine = RocksEngine(tmp_path / "store")
    open_node(engine)
    for number in range(50):
        engine.apply({b"p%03d" % number: bytes(100)})
    engine.sync()
    shutil.copytree(tmp_path / "store", tmp_path / "copy")
    engine.close()
    (log,) = (tmp_path / "copy").glob("*.log")
    flip(log, 0.9)
    damaged = RocksEngine(tmp_path / "copy")
    node = open_node(damaged)
    assert node.state == "forgetful"
    assert "damaged" in node.identity.reason
    damaged.close()
