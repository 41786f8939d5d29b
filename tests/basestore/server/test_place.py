"""The file by which a store knows its directory, on a real file system."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from basestore.errors import StorageError
from basestore.replica.identity import Place
from basestore.server.place import place_of, taken


def opened(directory: Path, generation: bytes) -> tuple[frozenset[Place], Place | None]:
    """An opening that went well."""
    with taken(directory, generation) as told:
        pass
    return told


def own_of(directory: Path, generation: bytes) -> Place:
    own = opened(directory, generation)[1]
    assert own is not None
    return own


def test_each_opening_leaves_a_file_of_its_own_and_finds_that_of_the_one_before(tmp_path: Path) -> None:
    found, first = opened(tmp_path, b"A")
    assert found == frozenset()
    found, second = opened(tmp_path, b"B")
    assert found == {first}
    assert second != first
    assert [path.name for path in tmp_path.iterdir()] == ["PLACE-42"]


def test_a_directory_that_is_renamed_keeps_it(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    own = own_of(tmp_path / "a", b"A")
    (tmp_path / "a").rename(tmp_path / "b")
    assert opened(tmp_path / "b", b"B")[0] == {own}


def test_a_copy_has_another(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    own = own_of(tmp_path / "a", b"A")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    found, _ = opened(tmp_path / "b", b"B")
    assert len(found) == 1
    assert own not in found


def test_a_backup_that_is_copied_over_a_later_opening_has_another(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    own = own_of(tmp_path / "a", b"A")
    shutil.copytree(tmp_path / "a", tmp_path / "backup")
    opened(tmp_path / "a", b"B")
    shutil.copytree(tmp_path / "backup", tmp_path / "a", dirs_exist_ok=True)
    assert own not in opened(tmp_path / "a", b"C")[0]


def test_a_backup_of_hard_links_was_left_by_the_next_opening(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    opened(tmp_path / "a", b"A")
    shutil.copytree(tmp_path / "a", tmp_path / "backup", copy_function=os.link)
    opened(tmp_path / "a", b"B")
    assert opened(tmp_path / "backup", b"C")[0] == frozenset()


def test_an_inode_that_is_used_again_is_born_again(tmp_path: Path) -> None:
    born = set()
    for _ in range(50):
        (tmp_path / "file").write_bytes(b"")
        born.add(place_of(tmp_path / "file"))
        (tmp_path / "file").unlink()
    assert len(born) == 50 or all(place.born_ns == 0 for place in born)


def test_an_opening_that_fails_leaves_nothing_and_takes_nothing_away(tmp_path: Path) -> None:
    own = own_of(tmp_path, b"A")
    with pytest.raises(RuntimeError), taken(tmp_path, b"B"):
        raise RuntimeError
    assert opened(tmp_path, b"C")[0] == {own}


def test_one_that_dies_in_between_leaves_both(tmp_path: Path) -> None:
    own = own_of(tmp_path, b"A")
    opening = taken(tmp_path, b"B")
    _, second = opening.__enter__()
    found, _ = opened(tmp_path, b"C")
    assert found == {own, second}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_keeps_the_one_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    own = own_of(tmp_path, b"A")
    _refuse(monkeypatch, code)
    assert opened(tmp_path, b"B") == (frozenset((own,)), None)
    monkeypatch.undo()
    assert opened(tmp_path, b"C")[0] == {own}


def test_a_directory_that_takes_no_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _refuse(monkeypatch, errno.EROFS)
    with pytest.raises(StorageError, match=f"{tmp_path} cannot be given a place"), taken(tmp_path, b"A"):
        pass


def _refuse(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(*arguments: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "open", refuse)
