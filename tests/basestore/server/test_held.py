"""A store whose log is cut between two records, or gone, knows it, on a real file system.

Covers the file HELD of `server/place.py`, and what `replica/identity.py` makes of it.
"""

from pathlib import Path

import pytest
import trio

from basestore.config import ClusterConfig, Member, NodeConfig
from basestore.embedded import open_node
from basestore.errors import StorageError, Unavailable
from basestore.replica.group_commit import GroupCommit
from basestore.server.place import held_in
from basestore.server.service import Service
from basestore.storage.rocks import RocksEngine
from tests.worlds.patience import PATIENCE_S
from tests.worlds.ports import free_ports

ROWS = 200
LOG_RECORDS = 0.6  # the share of its log's records that a spoilt store keeps


@pytest.fixture
def config(tmp_path: Path) -> NodeConfig:
    member = Member(0, "n1", f"127.0.0.1:{free_ports(1)}")
    cluster = ClusterConfig(bytes(16), bytes(32), (member,), 1, 4, timeout_ms_max=1000)
    return NodeConfig(cluster, "n1", tmp_path / "n1")


def written(config: NodeConfig, *, counted: bool = False) -> dict[Path, bytes]:
    """What a kill would leave of the store's files. `counted`: once HELD has been written anew."""

    async def write() -> dict[Path, bytes]:
        async with open_node(config) as store:
            for number in range(ROWS):
                await store.set(f"k{number}", "v" * 50)
            with trio.fail_after(PATIENCE_S):
                while counted and held_in(config.directory) < ROWS:
                    await store.status()
            return {path: path.read_bytes() for path in files(config)}

    return trio.run(write)


def files(config: NodeConfig) -> list[Path]:
    """All but those by which a store knows its place, which must stay what they are."""
    return [path for path in config.directory.iterdir() if not path.name.startswith("PLACE")]


def put_back(config: NodeConfig, left: dict[Path, bytes]) -> None:
    for path in files(config):
        path.unlink()
    for path, data in left.items():
        path.write_bytes(data)


def cut(data: bytes, part: float) -> bytes:
    """Behind a whole record, as RocksDB writes them: a checksum, a length, a kind; 32 KiB blocks."""
    at, ends = 0, [0]
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        kind = data[at + 6]
        at += 7 + int.from_bytes(data[at + 4 : at + 6], "little")
        if kind in (1, 4, 5, 8):
            ends.append(at)
    return data[: ends[int(len(ends) * part)]]


def says_what_it_lost(config: NodeConfig) -> None:
    async def look() -> None:
        async with open_node(config) as store:
            (state,) = await store.status()
            assert state.state == "forgetful"
            assert "its log was cut, or is gone" in state.facts["reason"]
            with pytest.raises(Unavailable):
                await store.get("k0")
            with trio.fail_after(PATIENCE_S):
                while state.state != "up":
                    (state,) = await store.status()
            assert state.loss is not None

    trio.run(look)
    assert Service(config).node.reason == ""  # once it is known, it is known


@pytest.mark.parametrize("openings", [1, 3])
@pytest.mark.parametrize("gone", [True, False])
def test_after_a_kill_a_log_that_is_empty_or_gone_makes_no_new_store(
    config: NodeConfig, gone: bool, openings: int
) -> None:
    for _ in range(openings):
        left = written(config)
    logs = {path: b"" for path in left if path.suffix == ".log"}
    kept = {path: data for path, data in left.items() if path not in logs}
    put_back(config, kept if gone else kept | logs)
    says_what_it_lost(config)


def test_a_log_that_ends_before_the_last_clean_stop_is_noticed(config: NodeConfig) -> None:
    left = written(config)
    held = config.directory / "HELD"
    left = {path: cut(data, LOG_RECORDS) if path.suffix == ".log" else data for path, data in left.items()}
    put_back(config, left | {held: held.read_bytes()})
    says_what_it_lost(config)


def test_after_a_kill_a_log_that_ends_before_what_was_counted_last_is_noticed(config: NodeConfig) -> None:
    left = written(config, counted=True)
    put_back(
        config,
        {path: cut(data, LOG_RECORDS) if path.suffix == ".log" else data for path, data in left.items()},
    )
    says_what_it_lost(config)


def test_only_what_is_synced_is_counted(config: NodeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[tuple[int, int]] = []
    synced = -1

    async def write() -> None:
        async with open_node(config) as store:
            for number in range(ROWS):
                await store.set(f"k{number}", "v" * 50)

    def sync(engine: RocksEngine) -> None:
        nonlocal synced
        reached = GroupCommit(engine, b"", waits=False).sequence
        really_sync(engine)
        synced = reached

    really_sync = RocksEngine.sync
    monkeypatch.setattr(RocksEngine, "sync", sync)
    monkeypatch.setattr("basestore.server.disk_threads.NOTE_S", 0.001)
    monkeypatch.setattr("basestore.server.service.LOOK_S", 0.001)
    monkeypatch.setattr(
        "basestore.server.service.note_held", lambda _, count: counted.append((count, synced))
    )
    trio.run(write)
    assert len(counted) > 3
    assert all(count <= reached for count, reached in counted)


def test_a_directory_in_which_only_the_store_is_missing_is_not_that_of_a_new_one(config: NodeConfig) -> None:
    written(config)
    put_back(config, {config.directory / "HELD": b"1"})
    says_what_it_lost(config)


def test_a_kill_or_a_clean_stop_that_loses_nothing_is_no_loss(config: NodeConfig) -> None:
    left = written(config)
    assert held_in(config.directory) > ROWS
    put_back(config, left)
    assert Service(config).node.reason == ""


def test_an_opening_that_stored_nothing_durably_says_nothing(
    config: NodeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise StorageError("the disk is gone")

    monkeypatch.setattr("basestore.storage.rocks.RocksEngine.sync", fail)
    with pytest.raises(StorageError):
        Service(config)
    assert held_in(config.directory) == 0
