"""Files that must be there after a power cut: their text is synced, and then the directory that names them.

Covers `storage/durable_files.py`, and that who keeps such files writes them in this way.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from basestore.cli.data.checkpoint import Checkpoint, Progress
from basestore.server.local_cluster import prepare_cluster
from basestore.storage import rocks_salvage
from basestore.storage.durable_files import SECTOR_BYTES, overwrite_file, replace_file, sync_path
from basestore.storage.rocks_damage import SALVAGING


@contextmanager
def synced() -> Iterator[list[tuple[int, frozenset[str]]]]:
    """Each sync as it happens: of which file, and what the directory had by then, if it was one."""
    seen: list[tuple[int, frozenset[str]]] = []
    sync = os.fsync

    def record(descriptor: int) -> None:
        sync(descriptor)
        where = Path(f"/proc/self/fd/{descriptor}").resolve()
        names = frozenset(path.name for path in where.iterdir()) if where.is_dir() else frozenset()
        seen.append((os.fstat(descriptor).st_ino, names))

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", record)
        yield seen


def _checkpoint(directory: Path) -> None:
    Checkpoint(directory / "kept", {}).save(Progress())


def _mark(directory: Path) -> None:
    replace_file(directory / "kept", "moving damaged-1")


def _configurations(directory: Path) -> None:
    prepare_cluster(directory, 1, None, "memory")
    (directory / "n1.toml").rename(directory / "kept")


@pytest.mark.parametrize("write", [_checkpoint, _mark, _configurations])
def test_a_file_that_was_replaced_is_synced_and_then_its_directory(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    with synced() as seen:
        write(tmp_path)
    file, directory = seen
    assert file[0] == (tmp_path / "kept").stat().st_ino
    assert directory[0] == tmp_path.stat().st_ino
    assert len(directory[1]) == 1  # under its own name by then: the draft is no more
    assert next(iter(directory[1])) in ("kept", "n1.toml")


def test_the_end_of_a_salvage_is_durable(tmp_path: Path) -> None:
    replace_file(tmp_path / SALVAGING, "building damaged-1")
    with synced() as seen:
        rocks_salvage.end(tmp_path)
    assert seen == [(tmp_path.stat().st_ino, frozenset())]


def test_a_sync_that_fails_leaves_nothing_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    (tmp_path / SALVAGING).touch()
    before = sorted(os.listdir("/proc/self/fd"))
    for act in (sync_path, rocks_salvage.end, _mark):
        with pytest.raises(OSError, match="Input/output error"):
            act(tmp_path)
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_a_link_in_the_place_of_the_draft_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "another").write_bytes(b"untouched")
    (tmp_path / "kept.new").symlink_to(tmp_path / "another")
    with pytest.raises(OSError, match="symbolic links"):
        replace_file(tmp_path / "kept", "text")
    assert (tmp_path / "another").read_bytes() == b"untouched"


def test_a_text_as_long_as_the_one_before_is_written_over_it(tmp_path: Path) -> None:
    path = tmp_path / "held"
    overwrite_file(path, "0041")
    before = path.stat().st_ino
    overwrite_file(path, "0042")
    assert (path.read_text(), path.stat().st_ino) == ("0042", before)
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("before", ["", "41", "00041"])
def test_over_a_text_of_another_length_nothing_is_written(tmp_path: Path, before: str) -> None:
    path = tmp_path / "held"
    replace_file(path, before)
    kept = tmp_path / "kept"
    kept.hardlink_to(path)
    overwrite_file(path, "0042")
    assert path.read_text() == "0042"
    assert kept.read_text() == before
    assert sorted(each.name for each in tmp_path.iterdir()) == ["held", "kept"]


def test_more_than_a_sector_is_not_written_over(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        overwrite_file(tmp_path / "held", "x" * (SECTOR_BYTES + 1))
