"""The thread that looks how much room there is, and writes down how much the store holds."""

import threading
from pathlib import Path

import pytest

from basestore.server import disk_threads
from basestore.server.disk_threads import DiskWatch
from tests.worlds.patience import PATIENCE_S, eventually

LONG_S = 2 * PATIENCE_S


def test_it_looks_at_once_when_the_node_rests_no_more(tmp_path: Path) -> None:
    watch = DiskWatch(tmp_path, 0, lambda _: None)
    try:
        watch.look_every(LONG_S)
        eventually(lambda: watch.room is not None, "a first look")
        watch.room = None
        watch.look_every(LONG_S / 2)
        eventually(lambda: watch.room is not None, "a look at once")
    finally:
        watch.stop()


def test_what_is_durable_is_noted_once_and_later_what_is_newer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_threads, "NOTE_S", 0.0)
    noted: list[int] = []
    watch = DiskWatch(tmp_path, 3, noted.append)
    try:
        watch.look_every(0.001)
        for durable in (4, 9):
            watch.durable = durable
            eventually(lambda: noted[-1:] == [watch.durable], "a note")
    finally:
        watch.stop()
    assert noted == [4, 9]


def test_it_is_not_noted_more_often_than_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_threads, "NOTE_S", LONG_S)
    noted: list[int] = []
    watch = DiskWatch(tmp_path, 0, noted.append)
    try:
        watch.look_every(0.001)
        watch.durable = 1
        eventually(lambda: noted == [1], "the first note")
        watch.durable, watch.room = 2, None
        eventually(lambda: watch.room is not None, "one more look")
    finally:
        watch.stop()
    assert noted == [1]


def test_a_disk_that_hangs_keeps_nobody_from_stopping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_threads, "STOP_S_MAX", 0.01)
    hangs, ends = threading.Event(), threading.Event()

    def hang(_: int) -> None:
        hangs.set()
        ends.wait(PATIENCE_S)

    watch = DiskWatch(tmp_path, 0, hang)
    watch.look_every(0.001)
    watch.durable = 1
    assert hangs.wait(PATIENCE_S)
    watch.stop()
    ends.set()
