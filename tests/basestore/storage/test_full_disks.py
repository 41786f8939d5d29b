"""RocksDB on a disk that has no room: a file system of a few MiB, in a namespace of its own."""

import json
from pathlib import Path

import pytest

from basestore.errors import StorageError
from basestore.storage import rocks
from basestore.storage.rocks import RocksEngine
from tests.worlds.filled_store import REFUSALS
from tests.worlds.small_disk import in_namespace


@pytest.mark.parametrize("memtable_bytes", [64 << 20, 1 << 20], ids=["log", "tables"])
def test_a_store_whose_disk_is_full_reads_and_syncs_on_and_takes_writes_once_there_is_room(
    tmp_path: Path, memtable_bytes: int
) -> None:
    """Whatever finds no room first: the log of all that is stored, or a table of a part of it."""
    told = in_namespace("tests.worlds.filled_store", str(tmp_path / "disk"), str(memtable_bytes))
    report = json.loads(told)
    assert report["taken"] > 100
    assert report["refused"] == REFUSALS
    assert report["held when full"] == report["taken"]
    assert "Its disk is full: 0 bytes of 100 MiB are free" in report["opening"]
    assert "another process" not in report["opening"]
    assert report["more"] > report["taken"]
    assert (report["held"], report["loss"]) == (report["more"], "")


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        ("While open a file for appending: /s/000008.sst: Read-only file system", "mounted read-only"),
        ("While appending to file: /s/000009.sst: No space left on device", "Its disk is full"),
        ("While lock file: /s/LOCK: Resource temporarily unavailable", "Perhaps another process uses it"),
        ("While open a file for random read: /s/000009.sst: Permission denied", ""),
    ],
)
def test_a_store_that_cannot_be_opened_says_why_and_gives_the_advice_that_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str, advice: str
) -> None:
    def refuse(*_: object) -> None:
        raise Exception(f"IO error: {error}")

    monkeypatch.setattr(rocks, "Rdict", refuse)
    with pytest.raises(StorageError, match=r"cannot be opened") as told:
        RocksEngine(tmp_path / "store")
    text = str(told.value)
    assert error in text
    others = {"mounted read-only", "Its disk is full", "Perhaps another process uses it"} - {advice}
    assert advice in text
    assert not [other for other in others if other in text]


def test_what_is_stored_is_its_owners_alone(tmp_path: Path) -> None:
    RocksEngine(tmp_path / "store").close()
    assert (tmp_path / "store").stat().st_mode & 0o777 == 0o700
