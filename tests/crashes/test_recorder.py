"""The recording is complete, and the load does what it must for the states to mean something."""

from pathlib import Path

import pytest

from tests.crashes.filesystem import FileSystem
from tests.crashes.history import History
from tests.crashes.recording import Kind, Operation, paths_of
from tests.crashes.states import kind_of


def test_what_was_recorded_makes_the_directory_byte_for_byte(
    recorded: tuple[list[Operation], Path],
) -> None:
    operations, store = recorded
    disk = FileSystem()
    disk.play(operations)
    assert disk.files() == {file.name: file.read_bytes() for file in store.iterdir()}


def test_a_recording_that_misses_one_write_does_not(recorded: tuple[list[Operation], Path]) -> None:
    operations, store = recorded
    last = max(i for i, operation in enumerate(operations) if operation.kind is Kind.WRITE)
    disk = FileSystem()
    disk.play(operations[:last] + operations[last + 1 :])
    assert disk.files() != {file.name: file.read_bytes() for file in store.iterdir()}


@pytest.mark.parametrize(
    ("kind", "happens", "at_least"),
    [
        ("log", Kind.CREATE, 10),
        ("log", Kind.UNLINK, 8),
        ("log", Kind.SYNC_END, 50),
        ("table", Kind.CREATE, 10),
        ("table", Kind.UNLINK, 8),
        ("manifest", Kind.WRITE, 20),
        ("manifest", Kind.UNLINK, 2),
        ("current", Kind.RENAME, 3),
        ("identity", Kind.RENAME, 1),
        ("options", Kind.RENAME, 3),
        ("config", Kind.WRITE, 3),
    ],
)
def test_the_load_makes_every_kind_of_file_and_event(
    operations: list[Operation], kind: str, happens: Kind, at_least: int
) -> None:
    names = [
        operation.target if operation.kind is Kind.RENAME else name
        for name, operation in paths_of(operations)
        if operation.kind is happens
    ]
    assert sum(kind_of(name) == kind for name in names) >= at_least


def test_the_load_has_batches_that_nobody_was_promised_yet_and_ends_with_none(
    operations: list[Operation],
) -> None:
    history = History(operations)
    promises = [history.promises(cut) for cut in range(0, len(operations), 50)]
    assert any(one.acknowledged < one.handed for one in promises)
    assert all(one.acknowledged <= one.handed for one in promises)
    end = history.promises(len(operations))
    assert end.acknowledged == end.handed == len(history.after) - 1 > 200
    assert len(end.told) > 300
