"""Salvage of stores that keep the cluster's log: records are kept by the labels that they begin with, also of
buckets that were dropped or cannot be named; the log as far as it can be read.

Covers `server/salvage.py`, on one node without peers, and on one of three.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import cbor2
import pytest

from basestore.config import NodeConfig
from basestore.consistency import Level
from basestore.errors import InvalidRequest, StorageError
from basestore.membership.group_log import BASE, GROUP
from basestore.membership.rebuilding import SKIPPED_MIN, rebuild
from basestore.repair.rule import Rule
from basestore.replica.identity import IDENTITY
from basestore.server.salvage import salvage
from basestore.storage import keyspace
from basestore.storage.rocks import RocksEngine
from basestore.storage.rocks_damage import MARK
from basestore.topology.topology import later_label
from tests.worlds.changing import create, drop
from tests.worlds.world import World

KEYS = [f"k{number:03}" for number in range(60)]


@pytest.fixture
def config(tmp_path: Path) -> NodeConfig:
    return replace(World(1, partitions=2, born=False, logged=True).configs[0], directory=tmp_path / "store")


@contextmanager
def opened(config: NodeConfig, world: World, index: int = 0) -> Iterator[World]:
    """The node of a world on its store, closed cleanly."""
    world.configs[index] = config
    engine = RocksEngine(config.directory)
    world.engines[index] = engine  # type: ignore[call-overload]  # as a disk, but for its crashes
    try:
        world.start(index)
        engine.accept_loss()
        yield world
    finally:
        if world.nodes[index] is not None:
            world.stop(index)
        engine.close()


@pytest.fixture
def world() -> World:
    """Of one node, for `opened`, time after time."""
    return World(1, partitions=2, born=False, logged=True)


def fill(world: World, *buckets: str) -> None:
    for bucket in buckets:
        for key in KEYS:
            world.set(0, key, f"{bucket} {key}", Level.ONE, bucket=bucket)
        world.settle()


def written(config: NodeConfig, world: World) -> int:
    """A store with something in "default", "carts" and "pens", of which the last is dropped and not purged;
    the number of "carts"."""
    with opened(config, world):
        world.run(3)
        world.found()
        number = create(world, "carts")
        create(world, "pens", rule="first-write-wins")
        fill(world, "default", "carts", "pens")
        world.node(0).maintenance.work = lambda rows, busy, now: None  # type: ignore[method-assign]
        drop(world, "pens")
    return number


def spoil(config: NodeConfig, *keys: bytes) -> None:
    """What stands there cannot be read any more."""
    put(config, dict.fromkeys(keys, b"\xff"))


def put(config: NodeConfig, rows: dict[bytes, bytes | None]) -> None:
    engine = RocksEngine(config.directory)
    engine.apply(rows)
    engine.sync()
    engine.close()


def stored(config: NodeConfig) -> dict[bytes, bytes]:
    engine = RocksEngine(config.directory)
    rows = dict(engine.scan(b"", b"\xff" * 9))
    engine.close()
    return rows


def of_label(rows: dict[bytes, bytes], label: bytes) -> dict[bytes, bytes]:
    begin = [len(label), *label]
    records = {key: value for key, value in rows.items() if key.startswith(keyspace.DATA)}
    return {key: value for key, value in records.items() if list(key[3 : 4 + len(label)]) == begin}


def last_entry(config: NodeConfig) -> bytes:
    return max(key for key in stored(config) if key.startswith(keyspace.ENTRY))


def test_records_are_kept_and_told_by_their_buckets(config: NodeConfig, world: World) -> None:
    number = written(config, world)
    spoil(config, keyspace.fact("settings"))
    text = salvage(config)
    for told in ("carts: 60", "default: 60", "dropped bucket pens: 60"):
        assert told in text
    assert "salvaged 180 records" in text
    assert "could not be read: the node learns" not in text
    with opened(config, world):
        world.run(3)
        for bucket in ("default", "carts"):
            for key in KEYS:
                assert world.look(0, key, bucket=bucket).value == f"{bucket} {key}".encode()
        with pytest.raises(InvalidRequest, match="dropped at epoch"):
            world.look(0, "k001", bucket="pens")
    rows = stored(config)
    assert len(of_label(rows, later_label(number))) == len(KEYS)
    assert not of_label(rows, later_label(number + 1))  # they were purged


def test_what_is_back_of_a_bucket_that_was_purged_goes_again(config: NodeConfig, world: World) -> None:
    """RocksDB reads what was deleted where the block that says so is bad."""
    number = written(config, world)
    before = of_label(stored(config), later_label(number + 1))
    assert len(before) == len(KEYS)
    with opened(config, world):
        world.run(3)
    assert not of_label(stored(config), later_label(number + 1))
    put(config, {**before, keyspace.fact("settings"): b"\xff"})
    assert "dropped bucket" in salvage(config)
    assert len(of_label(stored(config), later_label(number + 1))) == len(KEYS)
    with opened(config, world):
        world.run(3)
    assert not of_label(stored(config), later_label(number + 1))


def test_what_the_file_says_of_buckets_is_of_no_account(config: NodeConfig, world: World) -> None:
    buckets = {**config.cluster.buckets, "typo": Rule.LAST_WRITE_WINS}
    founding = replace(config, cluster=replace(config.cluster, buckets=buckets))
    with opened(founding, world):
        world.run(3)
        world.found()
        fill(world, "typo")
        world.node(0).maintenance.work = lambda rows, busy, now: None  # type: ignore[method-assign]
        drop(world, "typo")
    spoil(config, IDENTITY)
    others = {**config.cluster.buckets, "other": Rule.FIRST_WRITE_WINS}
    assert "dropped bucket typo: 60" in salvage(
        replace(config, cluster=replace(config.cluster, buckets=others))
    )
    with opened(config, world):
        world.run(3)
        assert set(world.node(0).context.buckets) == {"cas", "default", "once"}
    assert not of_label(stored(config), b"typo")


def test_of_a_log_with_a_bad_entry_those_before_it_are_kept(config: NodeConfig, world: World) -> None:
    number = written(config, world)
    entries = [key for key in stored(config) if key.startswith(keyspace.ENTRY)]
    creation = next(key for key, value in stored(config).items() if key in entries and b"pens" in value)
    spoil(config, creation)
    with pytest.raises(StorageError, match="serve --config FILE --salvage"), opened(config, world):
        pass
    text = salvage(config)
    assert "The last entries of the cluster's log could not be read" in text
    assert "carts: 60" in text
    assert f"unknown bucket {number + 1}: 60" in text
    with opened(config, world):
        world.run(3)
        assert world.look(0, "k001", bucket="carts").value == b"carts k001"
    # Nobody can name it; so nobody can say that it is to go.
    assert len(of_label(stored(config), later_label(number + 1))) == len(KEYS)


@pytest.mark.parametrize("lost", [GROUP, BASE])
def test_where_the_log_cannot_be_read_nothing_of_any_bucket_is_lost(
    config: NodeConfig, world: World, lost: bytes
) -> None:
    number = written(config, world)
    spoil(config, lost)
    text = salvage(config)
    assert "Its part of the cluster's log could not be read" in text
    for told in ("default: 60", f"unknown bucket {number}: 60", f"unknown bucket {number + 1}: 60"):
        assert told in text
    with opened(config, world):
        world.run(3)
        assert world.look(0, "k001").value == b"default k001"
    for each in (number, number + 1):
        assert len(of_label(stored(config), later_label(each))) == len(KEYS)


def test_a_lone_node_is_told_how_its_group_is_put_in_place_anew(config: NodeConfig, world: World) -> None:
    written(config, world)
    spoil(config, keyspace.fact("settings"))
    assert "`basestore node rebuild-group`, which gives up what cannot be named" in salvage(config)
    with opened(config, world):
        world.run(9)
    engine = RocksEngine(config.directory)
    rebuild(engine, config, bytes(16), SKIPPED_MIN)
    engine.close()
    with opened(config, world):
        world.run(9)
        assert create(world, "pens")
        assert not world.look(0, "k001", bucket="pens").found
        assert world.look(0, "k001", bucket="carts").value == b"carts k001"


def test_a_log_that_a_later_release_has_written_is_no_damage(config: NodeConfig, world: World) -> None:
    written(config, world)
    last = last_entry(config)
    term, kind, data = cbor2.loads(stored(config)[last])
    said = cbor2.loads(data)
    said[4] = 999
    put(config, {last: cbor2.dumps([term, kind, cbor2.dumps(said)])})
    before = stored(config)
    with pytest.raises(StorageError, match="later release"):
        salvage(config)
    assert stored(config) == before
    assert not list(config.directory.glob("damaged-*"))
    assert not (config.directory / MARK).exists()


def test_one_of_three_learns_the_log_anew_and_holds_what_it_held(config: NodeConfig) -> None:
    world = World(3, partitions=2, logged=True, reconcile=True)
    world.stop(2)
    mine = replace(world.configs[2], directory=config.directory)
    with opened(mine, world, 2):
        world.run(3)
        number = create(world, "carts")
        fill(world, "default", "carts")
        world.run(3)
    spoil(mine, BASE)
    assert f"unknown bucket {number}: 60" in salvage(mine)
    with opened(mine, world, 2):
        world.run(20)
        assert world.node(2).state == "up"
        for key in KEYS:
            assert world.look(2, key, Level.ONE, bucket="carts").value == f"carts {key}".encode()
        roots = [{p: s.root for p, s in node.summaries.of.items()} for node in world.running]
        assert roots[0] == roots[1] == roots[2]
        drop(world, "carts")
        world.run(6)
        for node in world.running:
            topology = node.membership.group.topology
            assert topology is not None
            assert not topology.dropped
