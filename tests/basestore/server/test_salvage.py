"""Salvage: a damaged store becomes one that keeps what can be read, and knows that it has lost something.

Covers `server/salvage.py` and `storage/rocks_salvage.py`, on one node without peers: there nobody makes good
what is missing, so it is said.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from basestore.config import NodeConfig
from basestore.consistency import Level
from basestore.errors import ConfigurationError, StorageError
from basestore.repair.rule import Rule
from basestore.replica.identity import Place
from basestore.replica.store_facts import FACTS, FORMAT_KEY
from basestore.server.salvage import salvage
from basestore.storage import rocks_salvage
from basestore.storage.keyspace import DATA
from basestore.storage.rocks import RocksEngine
from tests.worlds.following import converged, loss_accepted
from tests.worlds.world import World

PLACES: dict[Path, frozenset[Place]] = {}  # where each store was found to lie by its last opening
KEYS = [f"k{at:04}" for at in range(800)]


@contextmanager
def lone(config: NodeConfig) -> Iterator[World]:
    """The node on its store; closed cleanly, which puts what its log held into a table."""
    world = World(1, partitions=2, born=False)
    world.configs = [config]
    engine = RocksEngine(config.directory)
    world.engines = [engine]  # type: ignore[list-item]
    world.places = [PLACES.get(config.directory, frozenset())]
    world.start(0)
    PLACES[config.directory] = world.places[0]
    engine.accept_loss()
    world.run(3)
    try:
        yield world
    finally:
        if world.nodes[0] is not None:
            world.node(0).close(world.now(0))
        engine.sync()
        engine._db.flush()  # private: a table is made of what is in memory
        engine.close()


@pytest.fixture
def config(tmp_path: Path) -> NodeConfig:
    return replace(World(1, partitions=2, born=False).configs[0], directory=tmp_path / "store")


def table_of(config: NodeConfig) -> Path:
    return max(config.directory.glob("*.sst"), key=lambda file: file.stat().st_size)


def flip(file: Path, part: float) -> None:
    data = bytearray(file.read_bytes())
    data[int(len(data) * part)] ^= 1
    file.write_bytes(data)


def written(config: NodeConfig) -> None:
    with lone(config) as world:
        for key in KEYS:
            world.set(0, key, key * 9, Level.ONE)
        world.settle()
        world.run(1)


def held(world: World) -> set[str]:
    return {key for key in KEYS if world.look(0, key).value == (key * 9).encode()}


@pytest.mark.parametrize("part", [0.1, 0.3, 0.5, 0.7])
def test_one_flipped_bit_costs_one_block_and_the_loss_is_said(config: NodeConfig, part: float) -> None:
    written(config)
    flip(table_of(config), part)
    text = salvage(config)
    assert "; 0 were damaged, and 0 ranges" not in text
    with lone(config) as world:
        assert world.node(0).state == "up"
        left = held(world)
        assert len(KEYS) - 150 < len(left)
        assert not any(world.look(0, key).found for key in set(KEYS) - left)
        assert world.state(0).loss is not None
        assert not converged(world, timeout_s=60).proven
        assert loss_accepted(world).complete
        for key in KEYS:
            world.set(0, key, "new", Level.ONE)
        world.settle()
        assert {world.look(0, key).value for key in KEYS} == {b"new"}
        world.run(2)
        assert sum(summary.live for summary in world.node(0).summaries.of.values()) == len(KEYS)


def test_a_table_that_cannot_be_opened_is_left_out(config: NodeConfig) -> None:
    written(config)
    flip(table_of(config), 0.9995)
    with pytest.raises(StorageError, match=r"serve --config FILE --salvage.*too few"):
        RocksEngine(config.directory)
    salvage(config)
    with lone(config) as world:
        assert world.node(0).state == "up"
        assert world.state(0).loss is not None


def small_and_large(config: NodeConfig) -> tuple[Path, Path]:
    """Two tables that span the same keys: one with all records, and one with what two starts have changed."""
    written(config)
    for _ in range(2):
        with lone(config):
            pass
    tables = sorted(config.directory.glob("*.sst"), key=lambda file: file.stat().st_size)
    assert len(tables) > 1
    return tables[0], tables[-1]


@pytest.mark.parametrize("part", [0.02, 0.3, 0.45, 0.6])
def test_a_bad_block_costs_no_row_of_the_other_tables(config: NodeConfig, part: float) -> None:
    small, _ = small_and_large(config)
    flip(small, part)
    salvage(config)
    with lone(config) as world:
        assert held(world) == set(KEYS)


@pytest.mark.parametrize("large", [0.001, 0.02, 0.1, 0.5])
@pytest.mark.parametrize("small", [0.02, 0.3, 0.6])
def test_bad_blocks_in_two_tables_cost_what_stands_in_them(
    config: NodeConfig, small: float, large: float
) -> None:
    for table, part in zip(small_and_large(config), (small, large), strict=True):
        flip(table, part)
    salvage(config)
    with lone(config) as world:
        assert len(held(world)) > len(KEYS) - 150
        assert world.state(0).loss is not None


def test_what_stands_between_two_bad_blocks_of_a_table_is_kept(config: NodeConfig) -> None:
    written(config)
    for part in (0.4, 0.5, 0.6, 0.7):
        flip(table_of(config), part)
    salvage(config)
    with lone(config) as world:
        assert len(held(world)) > len(KEYS) - 4 * 50


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


MANIFESTS: dict[str, Callable[[Path], None]] = {
    "a flipped bit": lambda manifest: flip(manifest, 0.5), "cut": cut, "gone": Path.unlink,
}  # fmt: skip


@pytest.mark.parametrize("manifest", MANIFESTS)
@pytest.mark.parametrize("small", [None, 0.3])
def test_bad_blocks_beside_a_damaged_manifest_cost_what_stands_in_them(
    config: NodeConfig, small: float | None, manifest: str
) -> None:
    """RocksDB's own repair leaves out whole each table with a bad block; its other rows are kept."""
    tables = small_and_large(config)
    flip(tables[1], 0.5)
    if small is not None:
        flip(tables[0], small)
    MANIFESTS[manifest](max(config.directory.glob("MANIFEST-*")))
    text = salvage(config)
    assert f" {1 if small is None else 2} ranges could not be read" in text
    assert "Which tables it had could not be read" in text
    with lone(config) as world:
        assert len(held(world)) > len(KEYS) - 150
        assert world.state(0).loss is not None


@pytest.mark.parametrize("manifest", [None, *MANIFESTS])
def test_a_table_that_is_gone_is_counted_or_it_is_said_that_nobody_knows(
    config: NodeConfig, manifest: str | None
) -> None:
    _, large = small_and_large(config)
    large.unlink()
    if manifest is not None:
        MANIFESTS[manifest](max(config.directory.glob("MANIFEST-*")))
    text = salvage(config)
    assert ("some may be missing" in text) is (manifest is not None)
    assert ("1 ranges could not be read" in text) is (manifest is None)
    with lone(config) as world:
        assert world.state(0).loss is not None


def lose_facts(config: NodeConfig, keys: Iterable[bytes]) -> None:
    engine = RocksEngine(config.directory)
    engine.apply(dict.fromkeys(keys, b""))
    engine.sync()
    engine.close()


@pytest.mark.parametrize("lost", [(FACTS,), (FORMAT_KEY,), (FORMAT_KEY, FACTS)])
def test_where_format_or_settings_cannot_be_read_those_of_the_configuration_are_taken(
    config: NodeConfig, lost: tuple[bytes, ...]
) -> None:
    written(config)
    lose_facts(config, lost)
    assert "those of this version and of the configuration were taken" in salvage(config)
    with lone(config) as world:
        assert held(world) == set(KEYS)
        assert world.state(0).loss is not None


def test_where_the_records_do_not_fit_the_configuration_the_store_is_put_back(config: NodeConfig) -> None:
    written(config)
    lose_facts(config, [FACTS])
    other = replace(config, cluster=replace(config.cluster, key=bytes(32)))
    with pytest.raises(StorageError, match="does not fit this version and the configuration: correct that"):
        salvage(other)
    assert not list(config.directory.glob("damaged-*"))
    salvage(config)
    with lone(config) as world:
        assert held(world) == set(KEYS)


def test_a_damaged_store_of_other_settings_is_put_back(config: NodeConfig) -> None:
    written(config)
    flip(table_of(config), 0.4)
    with pytest.raises(ConfigurationError, match="was written under other settings"):
        salvage(replace(config, cluster=replace(config.cluster, partitions=4)))
    assert not list(config.directory.glob("damaged-*"))
    salvage(config)
    with lone(config) as world:
        assert len(held(world)) > len(KEYS) - 150


def test_a_bucket_is_not_let_go_while_its_records_are_still_in_the_wreck(config: NodeConfig) -> None:
    buckets = {**config.cluster.buckets, "typo": Rule.LAST_WRITE_WINS}
    config = replace(config, wire_highest=9)  # so there is no log that says which there are
    bound = replace(config, cluster=replace(config.cluster, buckets=buckets))
    written(bound)
    flip(table_of(config), 0.4)
    with pytest.raises(ConfigurationError, match="bucket typo: absent in the configuration, last-write-wins"):
        salvage(config)
    assert not list(config.directory.glob("damaged-*"))
    assert "salvaged" in salvage(bound)


def test_a_sound_store_is_left_alone(config: NodeConfig) -> None:
    written(config)
    assert "nothing was done" in salvage(config)
    with lone(config) as world:
        assert held(world) == set(KEYS)
        assert world.state(0).loss is None


@pytest.mark.parametrize(
    ("used", "error"), [(False, "cannot be opened: IO error: No space left on device"), (True, "lock hold")]
)
def test_a_store_that_is_not_damaged_but_cannot_be_opened_is_left_alone(
    config: NodeConfig, used: bool, error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(config)
    before = sorted(config.directory.iterdir())

    def refuse(config: NodeConfig) -> None:
        raise StorageError(error)

    monkeypatch.setattr("basestore.server.salvage.open_engine", refuse)
    for user in ("server.salvage", "storage.rocks_salvage"):
        monkeypatch.setattr(f"basestore.{user}.in_use", lambda directory: used)
    with pytest.raises(StorageError, match=error):
        salvage(config)
    assert sorted(config.directory.iterdir()) == before


@pytest.mark.parametrize("phase", ["moving", "building"])
def test_a_salvage_that_was_broken_off_is_gone_on_with(
    config: NodeConfig, phase: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(config)
    flip(table_of(config), 0.4)
    broken = {"moving": "_files", "building": "Wreck"}[phase]

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(rocks_salvage, broken, fail)
        with pytest.raises(KeyboardInterrupt):
            salvage(config)
    with pytest.raises(StorageError, match="being salvaged, or that was broken off"):
        RocksEngine(config.directory)
    salvage(config)
    with lone(config) as world:
        assert len(held(world)) > len(KEYS) - 150
        assert next(world.engines[0].scan(DATA, DATA + b"\xff"), None)
